"""What the kernels are told: numpy records laid out as the structs of samples.cuh, crop.cu and paste.cu.

A record holds addresses of tensors; who makes it keeps them alive until the kernel has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpenvideo.affine import Matrix, compose, invert
from gpenvideo.errors import OptionError
from gpenvideo.kernels.colour import rgb_from_samples, samples_from_rgb
from gpenvideo.kernels.device import DevicePaste, DevicePlanes
from gpenvideo.kernels.warp import Grid, bounds, grids, reached, reduction, taps

__all__ = ["RECORDS", "PasteRecords", "crop_records", "paste_records"]

Records = NDArray[Any]

AXIS = np.dtype([("reduced", "i4"), ("taps", "f4", 3)], align=True)
WARP = np.dtype([("place", "i8", 6), ("x", AXIS), ("y", AXIS), ("smooth", "i4")], align=True)
PLANE = np.dtype(
    [("samples", "u8"), ("row", "i8"), ("column", "i8"), ("width", "i4"), ("height", "i4")], align=True
)
PIXELS = np.dtype(
    [("values", "u8"), ("row", "i8"), ("column", "i8"), ("channel", "i8"), ("size", "i4"), ("half", "i4")],
    align=True,
)
PICTURE = np.dtype(
    [
        ("planes", PLANE, 3),
        *((name, "i4") for name in ("count", "first", "wide")),
        ("rgb_from_samples", "f4", (3, 4)),
    ],
    align=True,
)
CROP_FACE = np.dtype([("picture", "i4"), ("warps", WARP, 2)], align=True)
CROPS = np.dtype(
    [
        ("values", "u8"),
        *((name, "i8") for name in ("image", "row", "column", "channel")),
        ("size", "i4"),
        ("half", "i4"),
    ],
    align=True,
)
FACE = np.dtype(
    [
        *((name, PIXELS) for name in ("restored", "crop", "mask")),
        ("cells", "u8"),
        ("shifts", "u8"),
        ("seen", "i4"),
        ("strength", "f4"),
    ],
    align=True,
)
PATCH = np.dtype(
    [
        ("warp", WARP),
        ("planes", PLANE, 3),
        ("count", "i4"),
        ("wide", "i4"),
        ("top", "f4"),
        ("faint", "f4"),
        ("samples_from_rgb", "f4", (3, 4)),
        ("levels", "u8"),
        *((name, "i4") for name in ("left", "upper", "width", "height", "x0", "y0", "x1", "y1")),
        *((name, "i4") for name in ("face", "rival", "rivals")),
        *((name, "i4") for name in ("across", "down", "frame_width", "frame_height")),
    ],
    align=True,
)
RECORDS = {"Picture": PICTURE, "CropFace": CROP_FACE, "Crops": CROPS, "Face": FACE, "Patch": PATCH}
"""The records of each struct that a kernel is given."""

CELLS = 64  # across the grid of means that colours are compared on, at most
FARTHEST_PX = 2.0**30  # places are 32 bits of whole px
MARGIN = 5  # the reduced px beyond a mask from which a sample that it reaches may read


def crop_records(
    frames: Sequence[DevicePlanes], matrices: Sequence[Matrix], out: Tensor
) -> tuple[Records, Records, Records]:
    """The pictures, the faces and the crops of `crop`.

    Raises:
        OptionError: a matrix without an inverse, or that reaches too far; colour that is not supported.
    """
    distinct = list({id(frame): frame for frame in frames}.values())
    places = {id(frame): place for place, frame in enumerate(distinct)}
    pictures, faces = np.zeros(len(distinct), PICTURE), np.zeros(len(frames), CROP_FACE)
    for record, frame in zip(pictures, distinct, strict=True):
        _describe(record["planes"], frame.planes)
        record["count"] = len(frame.planes)
        record["first"] = grids(frame.layout, frame.colour)[0].planes.stop
        record["wide"] = frame.layout.dtype.itemsize == 2
        to_rgb = rgb_from_samples(frame.layout, frame.colour)
        record["rgb_from_samples"][:, : len(frame.planes)] = to_rgb[:, :-1]
        record["rgb_from_samples"][:, 3] = to_rgb[:, -1]
    size = out.shape[-1]
    for record, frame, matrix in zip(faces, frames, matrices, strict=True):
        record["picture"] = places[id(frame)]
        frame_from_crop = invert(matrix)
        for i, grid in enumerate(grids(frame.layout, frame.colour)):
            plane_from_crop = compose(invert(grid.frame_from_plane), frame_from_crop)
            _warp(record["warps"][i], plane_from_crop, (0, 0, size - 1, size - 1))
    strides = (out.stride(0), out.stride(2), out.stride(3), out.stride(1))
    crops = np.array([(out.data_ptr(), *strides, size, out.dtype == torch.float16)], CROPS)
    return pictures, faces, crops


class PasteRecords(NamedTuple):
    """The faces and the patches of `paste`'s kernels, and what these need besides."""

    faces: Records
    patches: Records
    written: NDArray[np.int32]
    """(faces, 4): what `blend` begins with, of nothing written."""

    scratch: int
    """How many floats of memory the records point into, from address 0 on: see `moved`."""

    def moved(self, address: int) -> None:
        """The scratch memory lies at an address."""
        for records, names in ((self.faces, ("cells", "shifts")), (self.patches, ("levels",))):
            for name in names:
                records[name] += np.where(records[name] > 0, np.uint64(address - 16), np.uint64(0))


def paste_records(
    frames: Sequence[DevicePlanes], faces_of: Sequence[Sequence[tuple[int, DevicePaste]]], count: int
) -> PasteRecords:
    """The records of some frames' faces: each with its number, in the order that equal weights prefer.

    Raises:
        OptionError: a matrix that reaches too far; colour that is not supported.
    """
    faces = np.zeros(count, FACE)
    patches: list[Any] = []
    used = 16  # bytes: 0 is no address
    for frame, pastes in zip(frames, faces_of, strict=True):
        for number, paste in pastes:
            used = _face(faces[number], paste, used)
        for i, grid in enumerate(grids(frame.layout, frame.colour)):
            first = len(patches)
            shown = [(number, paste) for number, paste in pastes if paste.mask.rows and paste.mask.columns]
            for number, paste in shown:
                patch, used = _patch(frame, grid, i, paste, used)
                patch["face"], patch["rival"], patch["rivals"] = number, first, len(shown)
                patches.append(patch)
    nothing = np.tile(np.array([2**31 - 1, 2**31 - 1, -1, -1], np.int32), (count, 1))
    return PasteRecords(faces, np.array(patches, PATCH), nothing, (used - 16) // 4)


def _face(record: Any, paste: DevicePaste, used: int) -> int:
    """Fill a face's record; its part of the scratch memory begins at `used` bytes, and ends at the result."""
    size = paste.restored.shape[-1]
    record["restored"] = _pixels(paste.restored)
    record["mask"] = _pixels(paste.mask.values[None])
    record["strength"] = paste.strength
    if paste.crop is not None:
        record["crop"] = _pixels(paste.crop)
        seen = record["seen"] = min(CELLS, size, paste.crop.shape[-1])
        record["cells"], record["shifts"] = used, used + 32 * seen**2
        used += 48 * int(seen) ** 2
    return used


def _patch(frame: DevicePlanes, grid: Grid, i: int, paste: DevicePaste, used: int) -> tuple[Any, int]:
    """A face on one grid of its frame, as `_face` has it."""
    layout, colour = frame.layout, frame.colour
    record = np.zeros((), PATCH)
    crop_from_plane = compose(paste.crop_from_frame, grid.frame_from_plane)
    planes = frame.planes[grid.planes]
    height, width = planes[0].shape
    rows, columns = reached(crop_from_plane, paste.mask.columns, paste.mask.rows, (height, width))
    _warp(record["warp"], crop_from_plane, (columns.start, rows.start, columns.stop, rows.stop))
    _describe(record["planes"], planes)
    to_levels = samples_from_rgb(layout, colour)[grid.planes]
    record["samples_from_rgb"][: len(planes)] = to_levels
    record["count"], record["wide"] = len(planes), layout.dtype.itemsize == 2
    record["top"] = 2**layout.depth_bits - 1
    record["faint"] = 0.5 / (2**layout.depth_bits - 1)
    record["x0"], record["x1"], record["y0"], record["y1"] = (
        columns.start,
        columns.stop,
        rows.start,
        rows.stop,
    )
    record["across"], record["down"] = grid.step
    record["frame_width"], record["frame_height"] = frame.width, frame.height
    for axis, span, start, length in (
        ("x", paste.mask.columns, "left", "width"),
        ("y", paste.mask.rows, "upper", "height"),
    ):
        reduced, size = int(record["warp"][axis]["reduced"]), paste.restored.shape[-1]
        low = max(
            span.start // reduced - MARGIN, -1
        )  # beyond the crop's edge, all reduced px are the first's
        high = min((span.stop - 1) // reduced + MARGIN, -(-size // reduced))
        record[start], record[length] = low, high + 1 - low
    record["levels"] = used
    of_vector = 8 if len(planes) == 1 else 16
    return record, used + -(-int(record["width"]) * int(record["height"]) * of_vector // 16) * 16


def _warp(record: Any, source_from_target: NDArray[np.float64], window: tuple[float, ...]) -> None:
    """Fill the record of a warp of a target's window (left, top, right, bottom)."""
    left, top, right, bottom = window
    far = bounds(source_from_target, (left, top, right, bottom))
    if max(map(abs, (*far, *source_from_target.ravel().tolist()))) > FARTHEST_PX:
        raise OptionError(
            f"a face's matrix reaches farther than {FARTHEST_PX:.0f} px: {source_from_target.tolist()}"
        )
    reduced = np.array(reduction(source_from_target))
    coarse_from_target = np.array(source_from_target, dtype=np.float64)
    coarse_from_target[:, 2] -= (reduced - 1) / 2
    coarse_from_target /= reduced[:, None]
    record["place"] = np.rint(coarse_from_target * 2.0**32).ravel()
    for axis, factor, kernel in zip("xy", reduced, taps(source_from_target), strict=True):
        record[axis]["reduced"] = factor
        record[axis]["taps"] = kernel[:3] if kernel.size > 1 else (0, 0, 1)
        record["smooth"] |= kernel.size > 1


def _describe(records: Records, planes: Sequence[Tensor]) -> None:
    for record, plane in zip(records, planes, strict=False):
        record["samples"] = plane.data_ptr()
        record["row"], record["column"] = plane.stride()
        record["height"], record["width"] = plane.shape


def _pixels(picture: Tensor) -> Records:
    """Of (C, S, S)."""
    channel, row, column = picture.stride()
    half = picture.dtype == torch.float16
    return np.array((picture.data_ptr(), row, column, channel, picture.shape[-1], half), PIXELS)
