"""Places: where a restored face lies in its frame; and the luma there, whatever planes the frame has.

Levels are those of 8 bits, whatever the depth: what is noise, and what is grey, is the same at all depths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import Matrix, compose
from gpenvideo.frame import Frame, Rectangle

__all__ = [
    "Pixels",
    "Place",
    "Window",
    "add_to_luma",
    "add_to_plane",
    "levels",
    "luma",
    "luma_of",
    "part",
    "set_apart",
    "surroundings",
]

Pixels = NDArray[np.float32]
Window = tuple[slice, slice]

AROUND, LEAST_AROUND_PX = 0.25, 16  # how much further than a face its surroundings reach
LUMA_GBR = (0.7152, 0.0722, 0.2126)  # BT.709


class Place(NamedTuple):
    """A restored face in its frame."""

    track: int
    window: Window
    """Rows and columns of luma samples."""

    weights: Pixels
    """(h, w) in [0, 1]: how much of each sample is the restored face."""

    @classmethod
    def of(
        cls,
        track: int,
        written: Rectangle,
        mask: Pixels,
        crop_from_frame: Matrix,
        strength: float,
        depth_bits: int,
    ) -> Place:
        """The place of a face.

        Args:
            track: its id.
            written: what was written of it.
            mask: (S, S) float32 in [0, 1], of its crop.
            crop_from_frame: (2, 3), to the S px of the mask.
            strength: multiplies the mask.
            depth_bits: of the frame: a weight too small to change a sample is 0.
        """
        x0, y0, x1, y1 = written
        crop_from_window = compose(crop_from_frame, np.array([(1.0, 0, x0), (0, 1.0, y0)]))
        if not (x1 - x0) * (y1 - y0):
            return cls(track, (slice(y0, y0), slice(x0, x0)), np.zeros((0, 0), dtype=np.float32))
        how, least = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, 0.5 / (2**depth_bits - 1)
        warped = cv2.warpAffine(mask, crop_from_window, (x1 - x0, y1 - y0), flags=how)
        _, weights = cv2.threshold(warped * np.float32(strength), least, 0, cv2.THRESH_TOZERO)
        return cls(track, (slice(y0, y1), slice(x0, x1)), np.asarray(weights, dtype=np.float32))


def set_apart(places: Sequence[Place]) -> None:
    """Where two faces overlap, a sample is that one's alone whose weight is larger."""
    for i, one in enumerate(places):
        for other in places[i + 1 :]:
            shared = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(one.window, other.window, strict=True)
            )
            if all(each.start < each.stop for each in shared):
                mine, theirs = (_inside(place, shared) for place in (one, other))
                loses = theirs > mine
                mine[loses] = 0
                theirs[~loses] = 0


def surroundings(window: Window, frame: Frame) -> Window:
    """A window and what is around it, from a whole sample of every plane to one."""
    wide = []
    steps = frame.layout.step[::-1]
    for each, length, step in zip(window, (frame.height, frame.width), steps, strict=True):
        more = max(LEAST_AROUND_PX, round(AROUND * (each.stop - each.start)))
        start, stop = max(0, each.start - more), min(length, each.stop + more)
        wide.append(slice(start // step * step, min(length, -(-stop // step) * step)))
    return wide[0], wide[1]


def luma(frame: Frame, window: Window) -> Pixels:
    """Luma of a part of a frame: (h, w) float32, levels; of RGB that of BT.709."""
    if frame.layout.model != "rgb":
        return levels(frame, 0, window)
    return luma_of(*(levels(frame, plane, window) for plane in range(3)))


def luma_of(green: Pixels, blue: Pixels, red: Pixels) -> Pixels:
    """Luma of RGB, by BT.709."""
    shares = np.float32(LUMA_GBR[0]), np.float32(LUMA_GBR[1]), np.float32(LUMA_GBR[2])
    return np.asarray(shares[0] * green + shares[1] * blue + shares[2] * red)


def levels(frame: Frame, plane: int, window: Window) -> Pixels:
    """A part of one plane: (h, w) float32, levels."""
    samples = frame.planes[plane][window].astype(np.float32)
    return samples if frame.layout.depth_bits == 8 else samples * np.float32(1 / _unit(frame))


def add_to_luma(frame: Frame, window: Window, change: Pixels) -> None:
    """Change the luma of a part of a frame, in place, and no other thing: of RGB all three planes alike."""
    if frame.layout.model != "rgb":
        add_to_plane(frame, 0, window, change)
        return
    parts = [plane[window].astype(np.int32) for plane in frame.planes]
    lowest, highest = np.minimum.reduce(parts), np.maximum.reduce(parts)
    top = 2**frame.layout.depth_bits - 1
    steps = np.clip(np.rint(change * np.float32(_unit(frame))).astype(np.int32), -lowest, top - highest)
    for plane, samples in zip(frame.planes, parts, strict=True):
        plane[window] = samples + steps


def add_to_plane(frame: Frame, plane: int, window: Window, change: Pixels) -> None:
    """Change a part of a plane, in place: levels, rounded half to even to samples of the frame's depth."""
    bits, samples = frame.layout.depth_bits, frame.planes[plane]
    if bits != 8:
        change = change * np.float32(_unit(frame))
    sums = cv2.add(
        np.ascontiguousarray(samples[window]), change, dtype=cv2.CV_8U if bits <= 8 else cv2.CV_16U
    )
    samples[window] = sums if bits in (8, 16) else np.minimum(sums, 2**bits - 1)


def part(window: Window, step: tuple[int, int]) -> Window:
    """The samples of a coarser plane that a window of luma touches."""
    return tuple(  # type: ignore[return-value]
        slice(each.start // by, -(-each.stop // by)) for each, by in zip(window, step[::-1], strict=True)
    )


def _inside(place: Place, window: tuple[slice, ...]) -> Pixels:
    rows, columns = (
        slice(each.start - own.start, each.stop - own.start)
        for each, own in zip(window, place.window, strict=True)
    )
    return place.weights[rows, columns]


def _unit(frame: Frame) -> float:
    """Samples a level."""
    return float(2.0 ** (frame.layout.depth_bits - 8))
