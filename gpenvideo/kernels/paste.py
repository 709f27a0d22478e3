"""Restored crops back into the planes of the frame they came from, inside their masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import Matrix, compose, invert
from gpenvideo.errors import OptionError
from gpenvideo.frame import Frame, Rectangle
from gpenvideo.kernels.colour import samples_from_rgb
from gpenvideo.kernels.warp import (
    Grid,
    Pixels,
    channels,
    grids,
    reach,
    reached,
    reduction,
    resample,
)

__all__ = ["Paste", "covered", "match_colour", "paste", "paste_order"]

GREY_WITHIN = 2 * 2 / 255  # of the range of 2
LUMA = np.array([(0.2126, 0.7152, 0.0722)], dtype=np.float32)
NOWHERE = Rectangle(0, 0, 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Paste:
    """One restored face on its way back.

    Raises:
        OptionError: another dtype or shape, a strength outside [0, 1], a matrix without an inverse.
    """

    restored: Pixels
    """(S, S, 3) float32 RGB in [-1, 1], finite; clipped to that range."""

    mask: Pixels
    """(S, S) float32 in [0, 1]: how much of each pixel to take; 0 beyond its edges."""

    crop_from_frame: Matrix
    """(2, 3), to the S px of `restored`."""

    strength: float = 1.0
    """In [0, 1], multiplies the mask."""

    def __post_init__(self) -> None:
        _check_face(self.restored, self.mask)
        if not 0.0 <= self.strength <= 1.0:
            raise OptionError(f"a strength lies in [0, 1], got {self.strength}")
        invert(self.crop_from_frame)


class _Patch(NamedTuple):
    """What a face brings to one grid of the frame."""

    grid: Grid
    window: tuple[slice, slice]
    """Its rows and columns."""

    levels: list[Pixels]
    """(h, w) of each plane, neither rounded nor clipped."""

    weights: Pixels
    """(h, w) in [0, 1]; no two patches of a grid have weight for the same sample, once they are settled."""


def paste(frame: Frame, faces: Sequence[Paste]) -> list[Rectangle]:
    """Write restored faces into a frame's planes, in place: level + weight * (restored - level).

    The weight is the mask times the strength. Each plane is written on its own grid: a restored face becomes
    levels at its own size, and is smoothed on its way to samples that are coarser (chroma's often are), else
    bilinear. Where faces overlap, a sample is the face's whose weight is larger there (GPEN notes, section
    12), and between equal weights the one's whose matrix is smaller, number by number: the order in which the
    faces come does not matter. A sample whose weight is 0, or too small to change it, keeps its value, bit
    for bit. The cost is that of the faces, not of the frame.

    Args:
        frame: any layout, its planes of any strides; `edited`, or a mistake in the caller is likely.
        faces: any number.

    Returns:
        For each face, the smallest rectangle that holds every sample it wrote, chroma samples counted as the
        luma samples they span; of no area where it wrote none.

    Raises:
        OptionError: a frame that is not `edited`, colour that is not supported.
    """
    if not frame.edited:
        raise OptionError("the planes belong to the decoder: paste into frame.copy()")
    order = paste_order([face.crop_from_frame for face in faces])
    patches = [_patches(frame, faces[i]) for i in order]
    for one, other in combinations(patches, 2):
        for mine, theirs in zip(one, other, strict=False):
            _settle(mine, theirs)
    rectangles = [NOWHERE] * len(faces)
    for i, of_face in zip(order, patches, strict=True):
        written = [(patch.grid, span) for patch in of_face if (span := _written(patch)) is not None]
        for patch in of_face:
            _write(frame, patch)
        rectangles[i] = _rectangle(frame, written)
    return rectangles


def paste_order(matrices: Sequence[Matrix]) -> list[int]:
    """The indices of faces in the order in which equal weights prefer them: by their matrices."""
    return sorted(range(len(matrices)), key=lambda i: np.asarray(matrices[i]).ravel().tolist())


def covered(mask: Pixels) -> tuple[range, range]:
    """The columns and the rows that hold all of a mask that is not 0."""
    return _span(mask.max(axis=0)), _span(mask.max(axis=1))


def match_colour(restored: Pixels, crop: Pixels, mask: Pixels) -> Pixels:
    """The restored face with the colour and light of the crop it was made from, so that no patch shows.

    Inside the mask, the difference of the two as seen on a grid of 16 x 16 and smoothed is added: broad
    colour and shading become the crop's, and detail stays the restored face's. A crop without colour (grey to
    within two levels of 255) gives a face without colour, of the restored face's luma (BT.709).

    Args:
        restored: (S, S, 3) float32 RGB in [-1, 1].
        crop: (S', S', 3) float32 RGB in [-1, 1]: the same face at any size.
        mask: (S, S) float32 in [0, 1]: where the two show the same thing.

    Returns:
        (S, S, 3) float32 RGB, clipped to [-1, 1].

    Raises:
        OptionError: another dtype or shape.
    """
    _check_face(restored, mask)
    if crop.shape != (len(crop), len(crop), 3) or crop.dtype != np.float32:
        raise OptionError(f"a crop is (S, S, 3) float32, got {crop.shape} {crop.dtype}")
    between = np.array([(1, -1, 0), (0, 1, -1), (1, 0, -1)], dtype=np.float32)
    if cv2.norm(cv2.transform(crop, between), cv2.NORM_INF) <= GREY_WITHIN:
        restored = _array(cv2.transform(restored, np.repeat(LUMA, 3, axis=0)))
        crop = _array(cv2.transform(crop, np.full((3, 3), 1 / 3, dtype=np.float32)))
    size = len(mask)
    seen = min(64, size, len(crop))
    before, after, weight = (_shrunk(pixels, seen) for pixels in (crop, restored, mask))
    weighted = np.dstack([(before - after) * weight[..., None], weight])
    coarse = cv2.GaussianBlur(_shrunk(weighted, min(16, seen)), (0, 0), 1.0)
    shift = coarse[..., :3] / np.maximum(coarse[..., 3:], 1e-3)
    smooth = cv2.resize(shift, (seen, seen), interpolation=cv2.INTER_CUBIC)
    smooth = cv2.resize(smooth, (size, size), interpolation=cv2.INTER_LINEAR)
    return _array(np.clip(cv2.add(restored, smooth), -1, 1))


def _patches(frame: Frame, face: Paste) -> list[_Patch]:
    """A face on each grid of the frame, where its mask reaches; none where the mask is empty."""
    all_grids = grids(frame.layout, frame.colour)
    smallest = 0.5 / (2**frame.layout.depth_bits - 1)  # less cannot change a sample
    maps = [compose(face.crop_from_frame, grid.frame_from_plane) for grid in all_grids]
    spans = covered(face.mask)
    if not all(spans):
        return []
    margin = max(max(reach(crop_from_plane)) for crop_from_plane in maps)
    unit = math.lcm(*(k for crop_from_plane in maps for k in reduction(crop_from_plane)))
    columns, rows = (range((span.start - margin) // unit * unit, span.stop + margin) for span in spans)
    rgb = np.clip(_part(face.restored, rows, columns, cv2.BORDER_REPLICATE), -1, 1)
    levels = cv2.split(cv2.transform(rgb, samples_from_rgb(frame.layout, frame.colour)))
    cover = _part(face.mask, rows, columns, cv2.BORDER_CONSTANT) * np.float32(face.strength)
    source = _array(cv2.merge([*levels, cover]))  # of four channels, which OpenCV warps faster than two
    patches = []
    for grid, crop_from_plane in zip(all_grids, maps, strict=True):
        window = reached(crop_from_plane, *spans, frame.planes[grid.planes][0].shape)
        source_from_window = compose(
            crop_from_plane, np.array([(1, 0, window[1].start), (0, 1, window[0].start)])
        )
        source_from_window[:, 2] -= (columns.start, rows.start)
        size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        warped = resample(source, source_from_window, size, cv2.BORDER_REPLICATE)
        *pixels, weights = channels(warped, [*range(len(levels))[grid.planes], len(levels)])
        if weights.size:
            weights = _array(cv2.threshold(weights, smallest, 0, cv2.THRESH_TOZERO)[1])
        patches.append(_Patch(grid, window, pixels, weights))
    return patches


def _part(pixels: Pixels, rows: range, columns: range, border: int) -> Pixels:
    """A window of a crop that may reach over its edges."""
    height, width = pixels.shape[:2]
    over = (
        max(0, -rows.start),
        max(0, rows.stop - height),
        max(0, -columns.start),
        max(0, columns.stop - width),
    )
    inside = pixels[max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop]
    return _array(cv2.copyMakeBorder(inside, *over, border)) if any(over) else inside


def _settle(mine: _Patch, theirs: _Patch) -> None:
    """Where two patches overlap, take its weight from the one that has less; `mine` keeps it where equal."""
    starts = [max(a.start, b.start) for a, b in zip(mine.window, theirs.window, strict=True)]
    stops = [min(a.stop, b.stop) for a, b in zip(mine.window, theirs.window, strict=True)]
    if starts[0] >= stops[0] or starts[1] >= stops[1]:
        return
    shared = [
        patch.weights[
            starts[0] - patch.window[0].start : stops[0] - patch.window[0].start,
            starts[1] - patch.window[1].start : stops[1] - patch.window[1].start,
        ]
        for patch in (mine, theirs)
    ]
    loses = shared[1] > shared[0]
    shared[0][loses] = 0
    shared[1][~loses] = 0


def _write(frame: Frame, patch: _Patch) -> None:
    """Blend a patch into its window: rounded half to even, clipped to the depth's levels.

    Where the weight is 0 a sample is written as it was read: another face may have been there before.
    """
    if not patch.weights.size:
        return
    layout = frame.layout
    depth, top = (cv2.CV_8U if layout.depth_bits <= 8 else cv2.CV_16U), 2**layout.depth_bits - 1
    for plane, levels in zip(frame.planes[patch.grid.planes], patch.levels, strict=True):
        base = np.ascontiguousarray(plane[patch.window])
        change = cv2.subtract(levels, base, dtype=cv2.CV_32F)
        samples = cv2.add(base, cv2.multiply(change, patch.weights, dst=change), dtype=depth)
        plane[patch.window] = samples if top in (255, 65535) else np.minimum(samples, top)


def _written(patch: _Patch) -> tuple[int, int, int, int] | None:
    """Where a patch has weight, samples of its grid: left, top, right, bottom, half-open."""
    if not patch.weights.size:
        return None
    x, y, width, height = cv2.boundingRect((patch.weights > 0).view(np.uint8))
    if not width:
        return None
    left, top = patch.window[1].start + x, patch.window[0].start + y
    return left, top, left + width, top + height


def _rectangle(frame: Frame, written: Sequence[tuple[Grid, tuple[int, int, int, int]]]) -> Rectangle:
    """The luma samples that the written samples of a face span."""
    if not written:
        return NOWHERE
    corners = np.array([span * np.tile(grid.step, 2) for grid, span in written])
    x0, y0 = corners[:, :2].min(axis=0).tolist()
    x1, y1 = corners[:, 2:].max(axis=0).tolist()
    return Rectangle(x0, y0, min(x1, frame.width), min(y1, frame.height))


def _span(largest: NDArray[Any]) -> range:
    """From the first to the last that is not 0."""
    nonzero = np.flatnonzero(largest)
    return range(nonzero[0], nonzero[-1] + 1) if nonzero.size else range(0)


def _shrunk(pixels: Pixels, size_px: int) -> Pixels:
    if len(pixels) == size_px:
        return pixels
    return _array(cv2.resize(pixels, (size_px, size_px), interpolation=cv2.INTER_AREA))


def _array(pixels: Any) -> Pixels:
    return np.asarray(pixels, dtype=np.float32)


def _check_face(restored: Pixels, mask: Pixels) -> None:
    size = restored.shape[0]
    if restored.shape != (size, size, 3) or mask.shape != (size, size):
        raise OptionError(
            f"a restored face is (S, S, 3) and its mask (S, S), got {restored.shape} and {mask.shape}"
        )
    if restored.dtype != np.float32 or mask.dtype != np.float32:
        raise OptionError(f"a restored face and its mask are float32, got {restored.dtype} and {mask.dtype}")
