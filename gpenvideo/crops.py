"""Crops: aligned faces on their way out of frames, through a network and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from gpenvideo.face import FaceTrack
from gpenvideo.faces.mask import rounded
from gpenvideo.frame import Frame, Rectangle
from gpenvideo.kernels.paste import Paste, match_colour
from gpenvideo.restorer import Restorer

__all__ = [
    "Aligned",
    "Crop",
    "Finish",
    "Shown",
    "Strength",
    "enlarged",
    "enlarged_frame",
    "paste_of",
    "through",
    "through_each",
]

Crop = NDArray[np.float32]
Matrix = NDArray[np.float64]

Finish = Callable[[], "list[tuple[Frame, list[Rectangle]]]"]
"""Gives the frames of a batch that was begun: each one, a copy where there is a face; and where they lie."""

Strength = Callable[[FaceTrack, Callable[[], tuple[Crop, Crop]], Matrix], float]
"""How much of a restored face is shown, in [0, 1]: of a track, what gives its crop and what was made of it,
and the template of the crop."""


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A face that is to be restored."""

    track: FaceTrack
    restorer: Restorer
    crop_from_frame: Matrix
    """(2, 3), to the `size_px` of the restorer."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A frame, and those of its faces that are to be restored."""

    frame: Frame
    """What faces are cut out of."""

    faces: Sequence[Aligned]
    time_s: Fraction
    """In the source."""

    starts_shot: bool
    canvas: Frame | None = None
    """What restored faces are written upon, where that is not `frame`: its like, or larger."""

    @property
    def target(self) -> Frame:
        """The frame that becomes the result."""
        return self.frame if self.canvas is None else self.canvas

    def onto_target(self, crop_from_frame: Matrix) -> Matrix:
        """The same crop's place on the target."""
        if self.canvas is None or self.canvas.width == self.frame.width:
            return crop_from_frame
        return enlarged_frame(crop_from_frame, self.canvas.width / self.frame.width)


def through(restorer: Restorer, crops: Sequence[Crop]) -> list[Crop]:
    """Crops (S, S, 3) float32 RGB in [-1, 1] through the network: (S', S', 3) each, same range."""
    if not crops:
        return []
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    return list(restorer(batch).permute(0, 2, 3, 1).contiguous().cpu().numpy())


def through_each(restorers: Sequence[Restorer], crops: Sequence[Crop]) -> list[Crop]:
    """The same with a network for each crop; those of one network go through it in one call."""
    restored: dict[int, Crop] = {}
    for restorer in {id(restorer): restorer for restorer in restorers}.values():
        places = [place for place, other in enumerate(restorers) if other is restorer]
        restored |= zip(places, through(restorer, [crops[place] for place in places]), strict=True)
    return [restored[place] for place in range(len(crops))]


def paste_of(
    restored: Crop, original: Crop, crop_from_frame: Matrix, template_px: Matrix, strength: float
) -> Paste:
    """A restored face, ready to be written: in the colour and light of its crop, inside the rounded mask.

    Args:
        restored: (S', S', 3) float32 RGB in [-1, 1].
        original: (S, S, 3), the crop it was made from.
        crop_from_frame: (2, 3), to the S px of `original`.
        template_px: (5, 2), where `original` has the landmarks.
        strength: in [0, 1].
    """
    scale = len(restored) / len(original)
    mask = rounded(len(restored), template_px * scale)
    matrix = enlarged(crop_from_frame, scale)
    return Paste(match_colour(restored, original, mask), mask, matrix, strength)


def enlarged(crop_from_frame: Matrix, scale: float) -> Matrix:
    """The matrix to a crop of `scale` times the size: pixel centres lie on whole numbers."""
    matrix = crop_from_frame * scale
    matrix[:, 2] += (scale - 1) / 2
    return matrix


def enlarged_frame(crop_from_frame: Matrix, scale: float) -> Matrix:
    """The matrix from a frame of `scale` times the size: pixel centres lie on whole numbers."""
    matrix = crop_from_frame.copy()
    matrix[:, :2] /= scale
    matrix[:, 2] += matrix[:, :2].sum(axis=1) * (1 - scale) / 2
    return matrix
