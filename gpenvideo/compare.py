"""Comparisons: the source and the result in one frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gpenvideo.errors import OptionError
from gpenvideo.frame import Frame, Samples, StreamInfo

__all__ = ["COMPARISONS", "compared", "compared_size"]

COMPARISONS = ("side", "wipe")

SWEEP_S = 6.0  # of the wipe's line, there and back


def compared_size(how: str, info: StreamInfo) -> tuple[int, int]:
    """Width and height of the frames that `compared` gives, as coded; OptionError for another comparison."""
    if how not in COMPARISONS:
        raise OptionError(f"the comparisons are {' and '.join(COMPARISONS)}, not {how!r}")
    axis, _ = _rightwards(info)
    copies = (2, 1) if axis == 1 else (1, 2)
    return (info.width, info.height) if how == "wipe" else (info.width * copies[0], info.height * copies[1])


def compared(how: str, source: Frame, restored: Frame, info: StreamInfo) -> Frame:
    """The source left and the result right, as a person sees them: rotated and mirrored as `info` says.

    "side" puts one beside the other, whole. "wipe" shows one picture, with an edge that sweeps to and fro in
    6 s: the source left of it, the result right.

    Args:
        source, restored: the same frame before and after; planes of one layout.
        info: of their stream.

    Returns:
        A frame of the same layout and time, in planes of its own.
    """
    size = compared_size(how, info)
    axis, forward = _rightwards(info)
    place = 0.5 + 0.5 * math.sin(2 * math.pi * source.time_s / SWEEP_S)
    place = place if forward else 1 - place
    pairs = [pair if forward else pair[::-1] for pair in zip(source.planes, restored.planes, strict=True)]
    alpha = restored.alpha
    if how == "wipe":
        planes = [_split(low, high, axis, place) for low, high in pairs]
    else:
        planes = _beside(pairs, size, axis, source.layout.step)
        alpha = None if alpha is None else np.concatenate([alpha, alpha], axis=axis)
    return replace(restored, planes=tuple(planes), alpha=alpha, edited=True)


def _rightwards(info: StreamInfo) -> tuple[int, bool]:
    """The axis of the coded arrays along which the upright picture goes right, and whether forwards."""
    across = np.linalg.inv(info.upright_from_coded[:, :2])[:, 0]
    axis = 1 if abs(across[0]) > abs(across[1]) else 0
    return axis, bool(across[1 - axis] > 0)


def _beside(
    pairs: list[tuple[Samples, Samples]], size: tuple[int, int], axis: int, step: tuple[int, int]
) -> list[Samples]:
    """Each pair side by side; odd luma sides with coarser chroma leave chroma one sample too many."""
    planes = [np.concatenate(pair, axis=axis) for pair in pairs]
    width, height = size
    chroma = (slice(-(-height // step[1])), slice(-(-width // step[0])))
    return [planes[0], *(np.ascontiguousarray(plane[chroma]) for plane in planes[1:])]


def _split(low: Samples, high: Samples, axis: int, place: float) -> Samples:
    """`low` before a place in [0, 1] of the axis, `high` after."""
    at = round(place * low.shape[axis])
    before, after = (slice(None),) * axis + (slice(at),), (slice(None),) * axis + (slice(at, None),)
    return np.concatenate([low[before], high[after]], axis=axis)
