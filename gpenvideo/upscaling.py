"""Up-scaling: whole frames made 2, 3 or 4 times the size, as planes, before faces are written upon them.

Without a network each plane is interpolated on its own grid (Lanczos), the place of its chroma samples kept.
With one the frame goes through it in tiles of RGB that overlap, and every tile is written to the planes at
once: beside the frame that results, memory is that of a batch of tiles. What becomes of a tile depends
neither on the others nor on their order. HDR is tone-mapped for the network and put back, see
`gpenvideo.kernels.light`; levels beyond black and white are clipped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.foreign import SuperResolution
from gpenvideo.frame import Frame, Layout, Samples, StreamInfo
from gpenvideo.kernels.colour import samples_from_rgb
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.light import as_seen, returned
from gpenvideo.kernels.warp import Grid, Pixels, channels, grids, resample

__all__ = ["SCALES", "Upscaler", "enlarged_info", "enlarged_size", "interpolated"]

SCALES = (2, 3, 4)
TILE_PX, CONTEXT_PX = 256, 16  # of the source: a tile, and what it shares with its neighbours; multiples of 4
TILES_A_BATCH = 4  # on a GPU; always as many, so that a tile's result does not depend on their number
LOBES = 4  # of the Lanczos kernel
WHOLE = Grid(slice(0, 1), (1, 1), np.eye(2, 3))  # of luma, and of alpha


class Upscaler:
    """Makes frames larger; a value of options and a network, with no memory of frames.

    Args:
        scale: 2, 3 or 4.
        network: what makes the picture; one of a larger scale is averaged down. None interpolates.
        tile_px: side of the tiles.

    Raises:
        OptionError: another scale, or a network that does not reach it.
    """

    def __init__(self, scale: int, network: SuperResolution | None = None, *, tile_px: int = TILE_PX) -> None:
        if scale not in SCALES:
            raise OptionError(f"pictures are made {', '.join(map(str, SCALES))} times as large, not {scale}")
        if network and network.scale < scale:
            raise OptionError(
                f"{network.name} makes pictures {network.scale} times as large, not {scale}: "
                f"say --upscale {network.scale}, or name another network"
            )
        self.scale, self._network, self._tile_px = scale, network, tile_px

    @property
    def told(self) -> str:
        """What it does to every sample, for a report."""
        how = "interpolated (Lanczos)" if self._network is None else f"made by {self._network}"
        return f"The whole picture is {self.scale} times as large, {how}: no sample is the source's."

    def __call__(self, frame: Frame) -> Frame:
        """The frame `scale` times as wide and high, of its layout, colour and time, in planes of its own.

        Raises:
            OptionError: colour that is not supported. DeviceError: no memory for a tile.
        """
        if self._network is None:
            return interpolated(frame, self.scale)
        return self._through(self._network, frame)

    def _through(self, network: SuperResolution, frame: Frame) -> Frame:
        larger = _empty(frame, self.scale)
        side = network.side_px(min(self._tile_px, max(frame.width, frame.height) + 2 * CONTEXT_PX))
        side += -side % 4
        size = TILES_A_BATCH if network.device.type == "cuda" else 1
        tiles = _tiles(frame.width, frame.height, side)
        while batch := list(itertools.islice(tiles, size)):
            filled = (batch + batch[-1:] * size)[:size]
            seen = [as_seen(crop(frame, tile.crop_from_frame, side), frame.colour) for tile in filled]
            given = torch.from_numpy(np.stack([each.pixels for each in seen])).permute(0, 3, 1, 2)
            made = network(given.to(network.device) * 0.5 + 0.5).permute(0, 2, 3, 1) * 2 - 1
            for tile, each, rgb in zip(batch, seen, made.cpu().numpy(), strict=False):
                rgb = returned(_sized(rgb, side * self.scale), each.beyond, frame.colour)
                _write(larger, tile, rgb, self.scale)
        return larger


class _Tile(NamedTuple):
    """A part of a frame that is written, and the pixel of the frame where the tile around it begins."""

    columns: range
    rows: range
    left: int
    top: int

    @property
    def crop_from_frame(self) -> NDArray[np.float64]:
        return np.array([(1.0, 0.0, -self.left), (0.0, 1.0, -self.top)])


def _tiles(width: int, height: int, side: int) -> Iterator[_Tile]:
    """What of a frame each tile of a side is for: all of it, once."""
    inner = side - 2 * CONTEXT_PX
    for top, left in itertools.product(range(0, height, inner), range(0, width, inner)):
        columns, rows = range(left, min(left + inner, width)), range(top, min(top + inner, height))
        yield _Tile(columns, rows, left - CONTEXT_PX, top - CONTEXT_PX)


def _sized(rgb: Pixels, side: int) -> Pixels:
    """A square picture averaged down to a side."""
    if len(rgb) == side:
        return np.ascontiguousarray(rgb)
    return np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _write(larger: Frame, tile: _Tile, rgb: Pixels, scale: int) -> None:
    """Write what a tile is for, of the picture that was made of it: RGB in [-1, 1]."""
    levels = cv2.transform(rgb, samples_from_rgb(larger.layout, larger.colour))
    levels = np.asarray(levels, dtype=np.float32).reshape(*rgb.shape[:2], -1)
    top = 2**larger.layout.depth_bits - 1
    for grid in grids(larger.layout, larger.colour):
        planes = larger.planes[grid.planes]
        (across, _, x), (_, down, y) = grid.frame_from_plane.tolist()
        columns = _samples(tile.columns, scale, across, x, larger.width, planes[0].shape[1])
        rows = _samples(tile.rows, scale, down, y, larger.height, planes[0].shape[0])
        if not (columns and rows):
            continue
        shift = columns.start * across + x - scale * tile.left, rows.start * down + y - scale * tile.top
        made = _on_grid(levels[..., grid.planes], (across, down), shift, (len(rows), len(columns)))
        for plane, values in zip(planes, made, strict=True):
            plane[rows.start : rows.stop, columns.start : columns.stop] = np.clip(np.rint(values), 0, top)


def _on_grid(
    levels: Pixels, step: tuple[float, float], shift: tuple[float, float], size: tuple[int, int]
) -> list[Pixels]:
    """Channels (h, w, C) where the samples of a grid lie, from a shift on; smoothed where it is coarser."""
    height, width = size
    if step == (1.0, 1.0):
        left, top = int(shift[0]), int(shift[1])
        part = levels[top : top + height, left : left + width]
        return [part[..., channel] for channel in range(part.shape[2])]
    matrix = np.array([(step[0], 0.0, shift[0]), (0.0, step[1], shift[1])])
    pixels = resample(np.ascontiguousarray(levels), matrix, size, cv2.BORDER_REPLICATE)
    return channels(pixels, range(levels.shape[2]))


def _samples(inner: range, scale: int, step: float, offset: float, length: int, count: int) -> range:
    """The samples of a larger plane, along an axis, in a part of the frame; the last has all to the edge."""
    first = math.ceil((inner.start * scale - offset) / step) if inner.start else 0
    ends = inner.stop * scale >= length
    return range(first, count if ends else math.ceil((inner.stop * scale - offset) / step))


def interpolated(frame: Frame, scale: int) -> Frame:
    """A frame `scale` times as large, each plane interpolated on its own grid: no colour is converted.

    Lanczos, of four lobes to either side; each of the `scale` places between two samples has weights of its
    own, exact for wherever chroma lies. Levels are clipped to those of the depth.
    """
    larger = _empty(frame, scale)
    for grid in grids(frame.layout, frame.colour):
        for source, target in zip(frame.planes[grid.planes], larger.planes[grid.planes], strict=True):
            _interpolate(source, target, scale, grid, frame.layout)
    return larger


def enlarged_info(info: StreamInfo, scale: int) -> StreamInfo:
    """The same stream with frames `scale` times as large."""
    width, height = enlarged_size(info, scale)
    return replace(info, width=width, height=height)


def enlarged_size(info: StreamInfo, scale: int) -> tuple[int, int]:
    """Width and height of its frames."""
    return info.width * scale, info.height * scale


def _empty(frame: Frame, scale: int) -> Frame:
    """A frame `scale` times as large: planes to be written, and alpha that is interpolated already."""
    width, height = frame.width * scale, frame.height * scale
    across, down = frame.layout.step
    sizes = [(height, width)] + [(-(-height // down), -(-width // across))] * (frame.layout.planes - 1)
    planes = tuple(np.empty(size, dtype=frame.layout.dtype) for size in sizes)
    alpha = None
    if frame.alpha is not None:
        alpha = np.empty((height, width), dtype=frame.alpha.dtype)
        _interpolate(frame.alpha, alpha, scale, WHOLE, frame.layout)
    return replace(frame, planes=planes, alpha=alpha, edited=True, filtered=None)


def _interpolate(source: Samples, target: Samples, scale: int, grid: Grid, layout: Layout) -> None:
    """Fill a plane, `scale` times as large, from another."""
    source = np.ascontiguousarray(source)
    (across, _, x), (_, down, y) = grid.frame_from_plane.tolist()
    top, full = 2**layout.depth_bits - 1, np.iinfo(target.dtype).max
    for row, column in itertools.product(range(scale), repeat=2):
        place = target[row::scale, column::scale]
        kernels = _taps(column, scale, across, x), _taps(row, scale, down, y)
        made = cv2.sepFilter2D(source, -1, *kernels, borderType=cv2.BORDER_REFLECT_101)
        made = made[: place.shape[0], : place.shape[1]]
        place[...] = made if top == full else np.minimum(made, top)


def _taps(phase: int, scale: int, step: float, offset: float) -> NDArray[np.float32]:
    """The weights of the source's samples, `LOBES` to either side, for every `scale`-th of the target.

    A larger frame covers what the source covers, so luma x lies at scale x + (scale - 1) / 2; a plane's n-th
    sample at step n + offset of its own frame's luma, in both.
    """
    place = (phase - (scale - 1) * (offset + 0.5) / step) / scale
    distance = place - np.arange(-LOBES, LOBES + 1)
    weights = np.sinc(distance) * np.sinc(distance / LOBES) * (np.abs(distance) < LOBES)
    return np.asarray(weights / weights.sum(), dtype=np.float32)
