"""Arrays on another grid through an affine map, without aliasing; and the grids of a frame's planes.

Where a target pixel is s > 1 source pixels wide, along x or along y, the source is first smoothed along
that axis by a filter of variance (s^2 - 1) / 12 px^2, that of the mean over the target pixel. It grows from
none with s, so that nothing jumps while a face comes nearer. It is made of the mean of f px, where f is
s / 3.5 rounded up, of which every f-th is kept, and of (v / 2, 1 - v, v / 2) applied twice, where v is such
that the variances of both and of the coarser bilinear samples, f^2 / 6 on average in place of 1 / 6, add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import invert
from gpenvideo.frame import Colour, Layout, Samples

__all__ = [
    "Grid",
    "Pixels",
    "bounds",
    "channels",
    "grids",
    "patch",
    "reach",
    "reached",
    "reduction",
    "resample",
    "taps",
]

Pixels = NDArray[np.float32]


class Grid(NamedTuple):
    """Planes of a frame that share one grid of samples."""

    planes: slice
    """Which of the frame's planes."""

    step: tuple[int, int]
    """Luma samples a sample, across and down."""

    frame_from_plane: NDArray[np.float64]
    """(2, 3): this grid's pixels to those of luma."""


def grids(layout: Layout, colour: Colour) -> list[Grid]:
    """The grids of a frame's planes: luma's and, where chroma is coarser, chroma's."""
    whole = np.eye(2, 3)
    if layout.step == (1, 1):
        return [Grid(slice(0, layout.planes), (1, 1), whole)]
    (across, down), (x, y) = layout.step, colour.siting
    chroma = np.array([(across, 0, x if across > 1 else 0), (0, down, y if down > 1 else 0)], dtype=float)
    return [Grid(slice(0, 1), (1, 1), whole), Grid(slice(1, 3), layout.step, chroma)]


def resample(
    source: Pixels, source_from_target: NDArray[np.float64], size: tuple[int, int], border: int
) -> Pixels:
    """An array on another grid: bilinear, and smoothed before where the target is coarser.

    Args:
        source: (h, w) or (h, w, C) float32.
        source_from_target: (2, 3), px to px.
        size: (height, width) of the target grid.
        border: what lies beyond the source, one of OpenCV's constants.

    Returns:
        (height, width) or (height, width, 4) float32: of two or three channels, what follows them is filling,
        since OpenCV warps four in half the time.
    """
    height, width = size
    if not height * width:
        return np.zeros((height, width, *[4] * (source.ndim - 2)), dtype=np.float32)
    fx, fy = reduction(source_from_target)
    matrix = np.array(source_from_target, dtype=np.float64)
    if fx > 1 or fy > 1:
        below, beside = -source.shape[0] % fy, -source.shape[1] % fx
        if below or beside:
            source = cv2.copyMakeBorder(source, 0, below, 0, beside, border)  # type: ignore[assignment]
        coarse = (source.shape[1] // fx, source.shape[0] // fy)
        source = cv2.resize(source, coarse, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        matrix[:, 2] -= ((fx - 1) / 2, (fy - 1) / 2)
        matrix /= np.array([(fx,), (fy,)])
    kernel_x, kernel_y = taps(source_from_target)
    if kernel_x.size > 1 or kernel_y.size > 1:
        source = cv2.sepFilter2D(source, -1, kernel_x, kernel_y, borderType=border)  # type: ignore[assignment]
    if source.ndim == 3 and source.shape[2] == 2:
        source = cv2.merge([source, source])  # type: ignore[assignment]
    elif source.ndim == 3 and source.shape[2] == 3:
        source = cv2.cvtColor(source, cv2.COLOR_RGB2RGBA)  # type: ignore[assignment]
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(source, matrix, (width, height), flags=how, borderMode=border))


def channels(pixels: Pixels, which: Iterable[int]) -> list[Pixels]:
    """Some channels of (h, w, C), each an array of its own; h or w may be 0."""
    if not pixels.size:
        return [np.zeros(pixels.shape[:2], dtype=np.float32) for _ in which]
    return [np.asarray(cv2.extractChannel(pixels, channel), dtype=np.float32) for channel in which]


def reduction(source_from_target: NDArray[np.float64]) -> tuple[int, int]:
    """By how much `resample` reduces its source along x and along y before it smooths."""
    x, y = _scales(source_from_target)
    return max(1, math.ceil(x / 3.5)), max(1, math.ceil(y / 3.5))


def taps(source_from_target: NDArray[np.float64]) -> tuple[Pixels, Pixels]:
    """By what `resample` smooths along x and y after it reduced: five weights, or one where it does not."""
    scales, reduced = _scales(source_from_target), reduction(source_from_target)
    x, y = (_kernel(scale, f) for scale, f in zip(scales, reduced, strict=True))
    return x, y


def reach(source_from_target: NDArray[np.float64]) -> tuple[int, int]:
    """How far to either side of its place `resample` reads for a target pixel, source px along x and y."""
    scales, (x, y) = _scales(source_from_target), reduction(source_from_target)
    smoothing = [2 if scale > 1 else 0 for scale in scales]
    return (smoothing[0] + 2) * x - 1, (smoothing[1] + 2) * y - 1


def reached(
    source_from_target: NDArray[np.float64], columns: range, rows: range, shape: tuple[int, int]
) -> tuple[slice, slice]:
    """The rows and columns of a target, (height, width), that hold all who read some of the source."""
    x, y = reach(source_from_target)
    touched = (columns.start - x, rows.start - y, columns.stop - 1 + x, rows.stop - 1 + y)
    left, top, right, bottom = bounds(invert(source_from_target), touched)
    return _within(top, bottom, shape[0]), _within(left, right, shape[1])


def patch(
    planes: Sequence[Samples], plane_from_target: NDArray[np.float64], size: tuple[int, int]
) -> tuple[Pixels, NDArray[np.float64]]:
    """The part of planes that `resample` reads for a target, and the map into it.

    Beyond their edges the planes are mirrored about the outermost samples.

    Args:
        planes: (H, W) each, of one size, any strides.
        plane_from_target: (2, 3), px to px.
        size: (height, width) of the target grid.

    Returns:
        (h, w) or, of several planes, (h, w, C) float32 levels; and (2, 3) `patch_from_target`. It starts at
        multiples of the reduction, so that what is averaged does not depend on where the target lies.
    """
    (x, y), (fx, fy) = reach(plane_from_target), reduction(plane_from_target)
    left, top, right, bottom = bounds(plane_from_target, (0, 0, size[1] - 1, size[0] - 1))
    xs, ys = _multiples(left - x, right + x, fx), _multiples(top - y, bottom + y, fy)
    parts = [_window(plane, ys, xs) for plane in planes]
    levels = parts[0] if len(parts) == 1 else cv2.merge(parts)
    patch_from_target = np.array(plane_from_target, dtype=np.float64)
    patch_from_target[:, 2] -= (xs.start, ys.start)
    return levels.astype(np.float32), patch_from_target


def bounds(
    b_from_a: NDArray[np.float64], rectangle: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """The rectangle of b around a rectangle (left, top, right, bottom) of a."""
    left, top, right, bottom = rectangle
    corners = b_from_a @ np.array([(left, right, right, left), (top, top, bottom, bottom), (1, 1, 1, 1)])
    low, high = corners.min(axis=1).tolist(), corners.max(axis=1).tolist()
    return low[0], low[1], high[0], high[1]


def _scales(source_from_target: NDArray[np.float64]) -> tuple[float, float]:
    """Source pixels, along x and along y, that one target pixel is wide."""
    x, y = np.hypot(source_from_target[:, 0], source_from_target[:, 1]).tolist()
    return x, y


def _kernel(scale: float, reduced: int) -> Pixels:
    """The smoothing after a reduction: one tap where there is nothing to smooth, else five."""
    variance = max(0.0, (scale**2 - 1) / 12 - (reduced**2 - 1) / 4) / reduced**2
    if variance < 1e-6:
        return np.ones(1, dtype=np.float32)
    once = np.array((variance / 4, 1 - variance / 2, variance / 4))
    return np.convolve(once, once).astype(np.float32)


def _within(low: float, high: float, length: int) -> slice:
    """The whole numbers from low to high that are indices."""
    start = min(max(math.ceil(low), 0), length)
    return slice(start, max(start, min(math.floor(high) + 1, length)))


def _multiples(low: float, high: float, unit: int) -> range:
    """The pixels from low to high, from a multiple of unit and to the end of one."""
    return range(math.floor(low / unit) * unit, (math.floor(math.ceil(high) / unit) + 1) * unit)


def _window(plane: Samples, rows: range, columns: range) -> Samples:
    """Rows and columns of a plane, mirrored beyond its edges."""
    height, width = plane.shape
    inside = plane[max(0, rows.start) : max(0, rows.stop), max(0, columns.start) : max(0, columns.stop)]
    above, below = max(0, -rows.start), max(0, rows.stop - height)
    left, right = max(0, -columns.start), max(0, columns.stop - width)
    if not (above or below or left or right):
        return inside
    if max(above, below) < inside.shape[0] and max(left, right) < inside.shape[1]:
        return np.asarray(
            cv2.copyMakeBorder(inside, above, below, left, right, cv2.BORDER_REFLECT_101), dtype=plane.dtype
        )
    return plane[np.ix_(_mirrored(rows, height), _mirrored(columns, width))]


def _mirrored(indices: range, length: int) -> NDArray[np.int_]:
    """Indices beyond an edge, reflected about the outermost pixel's centre as often as needed."""
    period = max(1, 2 * (length - 1))
    folded = np.arange(indices.start, indices.stop) % period
    return np.minimum(folded, period - folded)
