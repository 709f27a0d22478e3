"""Masks: how much of each pixel of an aligned crop is taken from the restored face.

A parsing network finds the face, its hair and its neck; `parsed` makes their mask, softened as the published
code does (GPEN notes, section 12). Without such a network, `rounded` is the mask.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpenvideo.affine import invert
from gpenvideo.errors import OptionError
from gpenvideo.faces.alignment import similarity, template

if TYPE_CHECKING:
    import torch

    from gpenvideo.faces.detector import PathOrState

__all__ = ["PARSED_SIZE_PX", "Parser", "feather", "parsed", "rounded", "soften"]

PARSED_SIZE_PX = 512
"""The side of the crops that the parsing network sees."""

MARGIN = 26 / 512  # of the crop's side
SIGMA = 4 / 512 * math.sqrt(2)  # two Gaussians of 4 / 512 in a row are one of sqrt(2) times the width
NOT_THE_FACE = (0, 14, 18)  # background, hat, cloth, of ParseNet's 19 classes
CLASSES = 19

FACE = (0.09, 0.08, 0.91, 0.99)  # left, top, right, bottom of a mask, of the side of FFHQ's crop
EDGE = 0.34  # of the way from a mask's outline to its middle

Mask = NDArray[np.float32]


def soften(mask: Mask) -> Mask:
    """A mask without its outer margin and with a soft edge; 26 px and sigma 4 twice at 512 px, to scale.

    Args:
        mask: (S, S) float32 in [0, 1].

    Returns:
        (S, S) float32 in [0, 1]; half at the margin's edge.
    """
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1] or mask.dtype != np.float32:
        raise OptionError(f"a mask is (S, S) float32, got {mask.shape} {mask.dtype}")
    size = mask.shape[0]
    pixel = np.arange(size)
    inside = np.clip(np.minimum(pixel + 1, size - pixel) - MARGIN * size, 0, 1).astype(np.float32)
    soft = cv2.GaussianBlur(
        mask * inside * inside[:, None], (0, 0), SIGMA * size, borderType=cv2.BORDER_REFLECT_101
    )
    return np.asarray(np.clip(soft, 0, 1), dtype=np.float32)


def feather(size_px: int) -> Mask:
    """The whole crop with a soft edge: (size_px, size_px) float32 in [0, 1]."""
    return soften(np.ones((size_px, size_px), dtype=np.float32))


def rounded(size_px: int, template_px: ArrayLike) -> Mask:
    """The mask without a parsing network: the face and a little around it, with a wide soft edge.

    It is drawn on FFHQ's crop, and carried from there to where a template has the same landmarks, so that it
    covers the same part of the face in each: brow to chin and ear to ear, of heads that are turned too. Its
    levels are superellipses, |x|^2.2 + |y|^2.2 = r^2.2, and fall smoothly over the outer third of r. A
    straight or a narrow edge catches the eye where this one does not.

    Args:
        size_px: side of the crop.
        template_px: (5, 2), where the crop has the landmarks: see `gpenvideo.faces.alignment.template`.

    Returns:
        (size_px, size_px) float32 in [0, 1]; 0 at the border. Read-only: who asks again gets the same array.
    """
    return _rounded(size_px, tuple(np.asarray(template_px, dtype=np.float64).ravel().tolist()))


@lru_cache(maxsize=8)
def _rounded(size_px: int, template_px: tuple[float, ...]) -> Mask:
    ffhq_from_crop = invert(similarity(template("ffhq", 1), np.reshape(template_px, (5, 2))))
    y, x = np.mgrid[:size_px, :size_px].reshape(2, -1)
    (u, v), (left, top, right, bottom) = ffhq_from_crop @ np.stack([x, y, np.ones_like(x)]), FACE
    across, along = (2 * u - left - right) / (right - left), (2 * v - top - bottom) / (bottom - top)
    radius = (np.abs(across) ** 2.2 + np.abs(along) ** 2.2) ** (1 / 2.2)
    depth = np.clip((1 - radius) / EDGE, 0, 1).reshape(size_px, size_px)
    mask = np.asarray(depth**2 * (3 - 2 * depth), dtype=np.float32)
    mask.flags.writeable = False
    return mask


def parsed(labels: NDArray[np.uint8]) -> Mask:
    """The mask of a parsed crop: all but background, hat and cloth, softened.

    Args:
        labels: (S, S) uint8, ParseNet's 19 classes (GPEN notes, section 14).

    Returns:
        (S, S) float32 in [0, 1].
    """
    if labels.dtype != np.uint8 or labels.max(initial=0) >= CLASSES:
        raise OptionError(f"labels are uint8 below {CLASSES}, got {labels.dtype} to {labels.max(initial=0)}")
    return soften((~np.isin(labels, NOT_THE_FACE)).astype(np.float32))


class Parser:
    """Masks by facexlib's ParseNet (GPEN notes, section 14).

    Args:
        weights: parsing_parsenet.pth (ParseNet-latest.pth is the same file), or its state dict.
        device: where the network runs.

    Raises:
        FileError: a file that cannot be read.
        CheckpointError: weights of another network, or damaged.
    """

    def __init__(self, weights: PathOrState, *, device: str | torch.device = "cpu") -> None:
        from facexlib.parsing.parsenet import ParseNet

        from gpenvideo.faces.detector import fill, read_state

        state, path = read_state(weights)
        size = PARSED_SIZE_PX
        self.device = device
        self.network = fill(ParseNet(in_size=size, out_size=size, parsing_ch=CLASSES), state, path).to(device)

    def labels(self, crop: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The class of each pixel of a crop, seen at 512 px.

        Args:
            crop: (S, S, 3) float32 RGB in [-1, 1].

        Returns:
            (512, 512) uint8, 0 to 18.
        """
        import torch

        seen = _resized(crop, PARSED_SIZE_PX)
        with torch.inference_mode():
            pixels = torch.from_numpy(seen).permute(2, 0, 1)[None].to(self.device)
            logits, _ = self.network(pixels)
            return np.asarray(logits[0].argmax(dim=0).cpu(), dtype=np.uint8)

    def __call__(self, crop: NDArray[np.float32]) -> Mask:
        """The mask of a crop: (S, S, 3) float32 RGB in [-1, 1] to (S, S) float32 in [0, 1]."""
        return _resized(parsed(self.labels(crop)), len(crop))


def _resized(pixels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    how = cv2.INTER_AREA if size < len(pixels) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=how), dtype=np.float32)
