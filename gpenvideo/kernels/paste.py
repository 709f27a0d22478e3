"""Restored crops back into the picture they came from, inside their masks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.kernels.crop import Matrix, Picture, Pixels, bounds, check_picture, inverse, resample

__all__ = ["match_colour", "paste", "paste_all"]

GREY_WITHIN = 2 * 2 / 255  # of the range of 2
LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)

P = TypeVar("P", NDArray[np.uint8], NDArray[np.uint16], Picture)


def paste(image: P, restored: Pixels, mask: Pixels, crop_from_frame: Matrix, *, strength: float = 1.0) -> P:
    """The picture with one restored face in it: see `paste_all`."""
    return paste_all(image, [(restored, mask, crop_from_frame)], strength=strength)


def paste_all(image: P, faces: Iterable[tuple[Pixels, Pixels, Matrix]], *, strength: float = 1.0) -> P:
    """The picture with its restored faces in it: image * (1 - mask) + restored * mask.

    Where faces overlap, each pixel is the face's whose mask is larger there (GPEN notes, section 12), and
    between equal masks the one's whose matrix is smaller, number by number: the order in which the faces
    come does not matter. A pixel that no mask reaches keeps its value, bit for bit. The cost is that of
    the faces, not of the picture.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16, each over its full range; unchanged.
        faces: for each, restored (S, S, 3) float32 RGB in [-1, 1]; mask (S, S) float32 in [0, 1]; and
            crop_from_frame (2, 3).
        strength: how much of the restored face to take, in [0, 1]; 0 gives the picture back.

    Returns:
        A new picture of the same dtype; levels are rounded half to even.

    Raises:
        OptionError: another dtype or shape, a strength outside [0, 1], a matrix without an inverse.
    """
    check_picture(image)
    if not 0.0 <= strength <= 1.0:
        raise OptionError(f"a strength lies in [0, 1], got {strength}")
    result = image.copy()
    largest = np.zeros(image.shape[:2], dtype=np.float32)
    for restored, mask, matrix in sorted(faces, key=lambda face: np.asarray(face[2]).ravel().tolist()):
        _check_face(restored, mask)
        rows, columns, cover, levels = _in_frame(image, restored, mask, np.asarray(matrix))
        region = (slice(rows.start, rows.stop), slice(columns.start, columns.stop))
        wins = cover > largest[region]
        weight = strength * cover[..., None]
        base = image[region].astype(np.float32)
        blend = np.rint(base + weight * (levels - base)).astype(image.dtype)
        result[region][wins] = blend[wins]
        largest[region][wins] = cover[wins]
    return result


def match_colour(restored: Pixels, crop: Pixels, mask: Pixels) -> Pixels:
    """The restored face with the colour and light of the crop it was made from, so that no patch shows.

    Inside the mask, the difference of the two as seen on a grid of 16 x 16 and smoothed is added: broad
    colour and shading become the crop's, and detail stays the restored face's. A crop without colour (grey to
    within two levels of 255) gives a face without colour, of the restored face's luma (BT.709).

    Args:
        restored, crop: (S, S, 3) float32 RGB in [-1, 1].
        mask: (S, S) float32 in [0, 1]: where the two show the same thing.

    Returns:
        (S, S, 3) float32 RGB, clipped to [-1, 1].
    """
    _check_face(restored, mask)
    if crop.shape != restored.shape:
        raise OptionError(
            f"the restored face and its crop have one shape, got {restored.shape}, {crop.shape}"
        )
    if (crop.max(axis=2) - crop.min(axis=2)).max() <= GREY_WITHIN:
        restored = np.repeat((restored @ LUMA)[..., None], 3, axis=2)
        crop = np.repeat(crop.mean(axis=2, keepdims=True), 3, axis=2)
    size = mask.shape[0]
    grid = min(16, size)
    weighted = np.dstack([(crop - restored) * mask[..., None], mask])
    coarse = cv2.GaussianBlur(cv2.resize(weighted, (grid, grid), interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    shift = coarse[..., :3] / np.maximum(coarse[..., 3:], 1e-3)
    smooth = cv2.resize(shift, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(restored + smooth, -1, 1), dtype=np.float32)


def _in_frame(
    picture: Picture, restored: Pixels, mask: Pixels, crop_from_frame: Matrix
) -> tuple[range, range, Pixels, Pixels]:
    """The rows and columns of the picture that a mask reaches, and there the mask and the face's levels."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    frame_from_crop = inverse(crop_from_frame)
    if not ys.size:
        return range(0), range(0), np.zeros((0, 0), np.float32), np.zeros((0, 0, 3), np.float32)
    columns, rows = bounds(frame_from_crop, (xs[0] - 1, ys[0] - 1, xs[-1] + 1, ys[-1] + 1))
    rows, columns = _within(rows, picture.shape[0]), _within(columns, picture.shape[1])
    crop_from_window = np.array(crop_from_frame, dtype=np.float64)
    crop_from_window[:, 2] += crop_from_window[:, :2] @ (columns.start, rows.start)
    size = (len(rows), len(columns))
    cover = resample(mask, crop_from_window, size, cv2.BORDER_CONSTANT)
    rgb = resample(np.clip(restored, -1, 1), crop_from_window, size, cv2.BORDER_REPLICATE)
    return rows, columns, cover, (rgb + np.float32(1)) * np.float32(np.iinfo(picture.dtype).max / 2)


def _within(indices: range, length: int) -> range:
    start = min(max(indices.start, 0), length)
    return range(start, max(start, min(indices.stop, length)))


def _check_face(restored: Pixels, mask: Pixels) -> None:
    size = restored.shape[0]
    if restored.shape != (size, size, 3) or mask.shape != (size, size):
        raise OptionError(
            f"a restored face is (S, S, 3) and its mask (S, S), got {restored.shape} and {mask.shape}"
        )
    if restored.dtype != np.float32 or mask.dtype != np.float32:
        raise OptionError(f"a restored face and its mask are float32, got {restored.dtype} and {mask.dtype}")
