"""Out of a picture into an aligned crop: one warp, anti-aliased where it minifies."""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError

__all__ = ["Matrix", "Picture", "Pixels", "bounds", "check_picture", "crop", "inverse", "resample"]

Picture = NDArray[np.uint8] | NDArray[np.uint16]
Pixels = NDArray[np.float32]
Matrix = NDArray[np.floating]


def crop(
    image: Picture,
    crop_from_frame: Matrix,
    size_px: int,
    border: Literal["reflect", "black"] = "reflect",
) -> Pixels:
    """The aligned crop of a face.

    Bilinear where the crop is as fine as the picture or finer, as the published code samples. Where it is
    coarser, each of its pixels is the mean of the picture under it, so that nothing aliases. The cost is
    that of the face, not of the picture.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16, each over its full range.
        crop_from_frame: (2, 3), px to px.
        size_px: side of the crop.
        border: what lies beyond the picture: itself, mirrored, or black as in the published code.

    Returns:
        (size_px, size_px, 3) float32 RGB in [-1, 1].

    Raises:
        OptionError: another dtype or shape, a border of another name, a matrix without an inverse.
    """
    check_picture(image)
    if border not in ("reflect", "black"):
        raise OptionError(f"a border is 'reflect' or 'black', got {border!r}")
    frame_from_crop = inverse(crop_from_frame)
    columns, rows = bounds(frame_from_crop, (-0.5, -0.5, size_px - 0.5, size_px - 0.5))
    patch = _patch(image, rows, columns, mirrored=border == "reflect")
    patch_from_crop = frame_from_crop - np.array([(0, 0, columns.start), (0, 0, rows.start)])
    levels = resample(patch, patch_from_crop, (size_px, size_px), cv2.BORDER_REPLICATE)
    return levels * np.float32(2 / np.iinfo(image.dtype).max) - np.float32(1)


def resample(
    source: Pixels, source_from_target: NDArray[np.float64], size: tuple[int, int], border: int
) -> Pixels:
    """An array on another grid: bilinear, or, where a target pixel is k source pixels wide, the mean of
    k x k bilinear samples spread over it.

    Args:
        source: (h, w) or (h, w, C) float32.
        source_from_target: (2, 3), px to px.
        size: (height, width) of the target grid.
        border: what lies beyond the source, one of OpenCV's constants.

    Returns:
        (height, width) or (height, width, C) float32.
    """
    height, width = size
    if not height * width:
        return np.zeros((height, width, *source.shape[2:]), dtype=np.float32)
    taps = max(1, math.ceil(_scale(source_from_target) - 1e-3))
    first = (1 - taps) / 2 / taps  # centres lie on whole numbers: the first tap is this far from pixel 0's
    target_from_tap = np.array([(1 / taps, 0, first), (0, 1 / taps, first), (0, 0, 1)])
    samples = cv2.warpAffine(
        source,
        source_from_target @ target_from_tap,
        (width * taps, height * taps),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
    )
    means = samples if taps == 1 else cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32)


def bounds(
    b_from_a: NDArray[np.float64], rectangle: tuple[float, float, float, float]
) -> tuple[range, range]:
    """The columns and rows of b that a rectangle (left, top, right, bottom) of a touches, with the
    neighbours that bilinear sampling reads."""
    left, top, right, bottom = rectangle
    corners = b_from_a @ np.array([(left, right, right, left), (top, top, bottom, bottom), (1, 1, 1, 1)])
    low = np.floor(corners.min(axis=1)).astype(int) - 1
    high = np.ceil(corners.max(axis=1)).astype(int) + 2
    return range(low[0], high[0]), range(low[1], high[1])


def inverse(b_from_a: Matrix) -> NDArray[np.float64]:
    """(2, 3) to (2, 3) float64; OptionError where there is none."""
    matrix = np.asarray(b_from_a, dtype=np.float64)
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) == 0:
        raise OptionError(f"a (2, 3) matrix with an inverse is needed, got {matrix.tolist()}")
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def check_picture(image: Picture) -> None:
    """OptionError unless `image` is (H, W, 3) uint8 or uint16, with a pixel at least."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise OptionError(f"a picture is (H, W, 3) uint8 or uint16 RGB, got {image.shape} {image.dtype}")


def _scale(b_from_a: NDArray[np.float64]) -> float:
    """Pixels of b along one pixel of a."""
    return math.sqrt(abs(float(np.linalg.det(b_from_a[:, :2]))))


def _patch(image: Picture, rows: range, columns: range, *, mirrored: bool) -> Pixels:
    """A window of the picture that may reach over its edges, as float32 levels."""
    ys, xs = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
    height, width = image.shape[:2]
    patch = image.take(_mirrored(ys, height), axis=0).take(_mirrored(xs, width), axis=1).astype(np.float32)
    if not mirrored:
        patch[(ys < 0) | (ys >= height)] = 0
        patch[:, (xs < 0) | (xs >= width)] = 0
    return patch


def _mirrored(indices: NDArray[np.int_], length: int) -> NDArray[np.int_]:
    """Indices beyond an edge, reflected about the outermost pixel's centre as often as needed."""
    period = max(1, 2 * (length - 1))
    folded = indices % period
    return np.minimum(folded, period - folded)
