"""Tint: whether a picture is black and white, or tinted; and the chroma of one that is, kept as it was.

A picture is monochrome where its chroma follows from its luma: none in black and white, a curve in sepia and
other tints. So a curve is laid through the chroma of a small picture, and what is left over is looked at: its
product with that of the cell two further on, in the mean of all cells. Colour fills more than a cell, so its
products add up to its power; noise, which every cell has anew, adds up to nothing, and the streaks of a video
tape do so from line to line: what is less counts, across or down. The largest products are left out, for a
coloured sign in the corner is not the picture. The measure rises without a step from 0, monochrome, to 1,
colour: it is each frame's own, and nothing flickers where a film fades or a cut is missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.frame import Frame, Samples
from gpenvideo.matching.place import Pixels, Window, add_to_luma, luma, luma_of, part

__all__ = ["colourfulness", "keep_chroma", "spread"]

CELLS = 48  # along the longer side
NODES = 8  # of the curve
FURTHER = 2  # cells to the one compared with
LEFT_OUT = 0.03  # the share of cells with the largest products
HDR = {16: 3.0, 18: 1.7}  # PQ and HLG: how much less their chroma spreads than ordinary video's of one scene
GREY, COLOURED = 1.1, 2.0  # of the spread, levels of 8 bits: monochrome up to there, colour from there on


def colourfulness(frame: Frame) -> float:
    """How much of colour a frame has: 0 is black and white or tinted, 1 is colour; grey layouts have 0."""
    share = min(1.0, max(0.0, (spread(frame) - GREY) / (COLOURED - GREY)))
    return round(share * share * (3 - 2 * share), 6)  # alike on machines that add up otherwise


def spread(frame: Frame) -> float:
    """The standard deviation of a frame's chroma about a curve over luma, levels of 8 bits."""
    if frame.layout.model == "grey":
        return 0.0
    shrink = min(1.0, CELLS / max(frame.width, frame.height))
    size = (max(1, round(frame.width * shrink)), max(1, round(frame.height * shrink)))
    unit = 2.0 ** (frame.layout.depth_bits - 8)
    light, *chroma = (_cells(plane, size) / np.float32(unit) for plane in frame.planes)
    if frame.layout.model == "rgb":
        blue, red = chroma
        light = luma_of(light, blue, red)
        chroma = [(blue - light) / np.float32(1.8556), (red - light) / np.float32(1.5748)]  # BT.709
    basis = _hats(light.ravel())
    power = 0.0
    for plane in chroma:
        power += _shared(plane - (basis @ _fitted(basis, plane.ravel())).reshape(plane.shape))
    return float(np.sqrt(max(0.0, power))) * HDR.get(frame.colour.transfer, 1.0)


def keep_chroma(result: Frame, source: Frame, windows: Iterable[Window], share: float) -> None:
    """Draw the chroma of a result's parts to the source's, in place.

    Args:
        result: `edited`.
        source: of the same layout and size.
        windows: rows and columns of luma.
        share: of the change that stays, in [0, 1]; with 0 every chroma sample is the source's, and of RGB all
            three samples of a pixel differ from the source's by the same, which is the change of its luma.
    """
    if result.layout.model == "grey" or share >= 1:
        return
    for window in windows:
        if result.layout.model == "rgb":
            _keep_colour(result, source, window, share)
            continue
        coarse = part(window, result.layout.step)
        for after, before in zip(result.planes[1:], source.planes[1:], strict=True):
            after[coarse] = _between(before[coarse], after[coarse], share)


def _keep_colour(result: Frame, source: Frame, window: Window, share: float) -> None:
    change = luma(result, window) - luma(source, window)
    whole = [plane[window].copy() for plane in result.planes]
    for after, before in zip(result.planes, source.planes, strict=True):
        after[window] = before[window]
    add_to_luma(result, window, change)
    if share > 0:
        for plane, coloured in zip(result.planes, whole, strict=True):
            plane[window] = _between(plane[window], coloured, share)


def _between(one: Samples, other: Samples, share: float) -> Samples:
    if share <= 0:
        return one
    mixed = one + np.float32(share) * (other.astype(np.float32) - one.astype(np.float32))
    return np.asarray(np.rint(mixed), dtype=one.dtype)


def _cells(plane: Samples, size: tuple[int, int]) -> Pixels:
    """Means of whole samples first, which OpenCV makes several times faster than means of fractions."""
    height, width = plane.shape
    across, down = max(1, width // size[0]), max(1, height // size[1])
    trimmed = np.ascontiguousarray(plane[: height // down * down, : width // across * across])
    coarse = cv2.resize(trimmed, (width // across, height // down), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_LINEAR))


def _hats(light: Pixels) -> NDArray[np.float64]:
    """(cells, NODES): how near each cell is to each node of a curve that is straight between nodes."""
    low, high = light.min(), light.max()
    place = (light - low) * ((NODES - 1) / max(high - low, 1e-3))
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(NODES))), dtype=np.float64)


def _fitted(basis: NDArray[np.float64], values: Pixels) -> NDArray[np.float64]:
    normal = basis.T @ basis + 1e-3 * np.eye(NODES)
    return np.asarray(np.linalg.solve(normal, basis.T @ values))


def _shared(rest: NDArray[Any]) -> float:
    """The mean product of what lies two cells apart, without the largest: across or down, what is less."""
    products = [
        (rest[:, FURTHER:] * rest[:, :-FURTHER]).ravel(),
        (rest[FURTHER:] * rest[:-FURTHER]).ravel(),
    ]
    means = []
    for each in products:
        if each.size:
            count = each.size - int(LEFT_OUT * each.size)
            order = np.argpartition(np.abs(each), count - 1)[:count]
            means.append(float(each[order].mean()))
    return min(means, default=0.0)
