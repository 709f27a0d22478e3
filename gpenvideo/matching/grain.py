"""Grain: what a restored face lacks of the noise around it, made anew for every frame.

The noise of the picture around the face, by its level, and what the face has of noise, are those of
`gpenvideo.matching.noise`. What is added makes up the difference in power, and in what neighbours have in
common: white noise through a Gaussian. Where the face is shown in part, the picture's own noise is there in
part, and only the rest is added. Noise is drawn by Philox, with the source's time and the face's track as
key: each frame has its own, and the same whoever draws it (Salmon and others, "Parallel random numbers: as
easy as 1, 2, 3", 2011).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import cv2
import numpy as np

from gpenvideo.errors import OptionError
from gpenvideo.matching.noise import Left, Noise, Pixels, correlation, gaussian, width_of

__all__ = ["grain", "share_of", "strength"]

NONE, WHOLE = 1.0, 1.5  # standard deviation, levels of 8 bits: below the first nothing is added
WIDER = 1.25  # than that of the picture, the most
REDUCED = 8  # of the picture that tells the level
TILE_PX = 1024

Key = tuple[Fraction, int, int]
"""The source's time, the track, and which of a frame's planes."""


def share_of(given: float | str) -> float:
    """How much of the missing grain is added, in [0, 1]: "match" is 1, "none" 0, or the number itself.

    Raises:
        OptionError: anything else.
    """
    try:
        share = {"match": 1.0, "none": 0.0}.get(str(given))
        share = float(given) if share is None else share
    except ValueError:
        share = math.nan
    if not 0.0 <= share <= 1.0:
        raise OptionError(f"grain is match, none or a share in [0, 1], got {given}")
    return share


def strength(around: Noise, has: Left) -> float:
    """The standard deviation of the grain that a face takes on, levels: 0 where the picture has none."""
    sigma = float(np.median(around.sigmas)) * math.sqrt(has.here)
    return sigma if sigma > NONE else 0.0


def grain(level: Pixels, weights: Pixels, around: Noise, has: Left, key: Key, share: float = 1.0) -> Pixels:
    """What is to be added to a restored face.

    Args:
        level: (H, W) float32, levels of 8 bits of the picture with the face; their means count.
        weights: (H, W) float32 in [0, 1]: how much of it is the restored face.
        around: the picture's noise.
        has: the face's.
        key: nobody else's; the same gives the same.
        share: of the standard deviation.

    Returns:
        (H, W) float32, levels; exactly 0 where the weight is.
    """
    small = cv2.resize(
        level, tuple(max(1, side // REDUCED) for side in level.shape[::-1]), interpolation=cv2.INTER_AREA
    )
    sigma = np.interp(small, around.levels, around.sigmas) * math.sqrt(has.here)
    sigma *= share * np.clip((sigma - NONE) / (WHOLE - NONE), 0, 1)
    width_px = _missing_width_px(float(weights.max(initial=0)), around, has)
    if width_px is None or not sigma.any():
        return np.zeros_like(weights)
    kept = 1 - weights * np.float32(1 - has.of_source)
    power = 1 - kept * kept - np.float32(has.other[0]) * weights * weights
    amount = cv2.multiply(
        cv2.resize(sigma.astype(np.float32), level.shape[::-1]), np.sqrt(np.maximum(power, np.float32(0)))
    )
    return np.asarray(cv2.multiply(amount, _drawn(weights.shape, width_px, key)))


def _missing_width_px(weight: float, around: Noise, has: Left) -> tuple[float, float] | None:
    """The Gaussian of the grain that is missing where the face is shown most; None where none is."""
    missing = 1 - (1 - weight + weight * has.of_source) ** 2
    power = missing - weight**2 * has.other[0]
    if power <= 0:
        return None
    own = [correlation(width_px) for width_px in around.width_px]
    x, y = (
        min(width_of((missing * shared - weight**2 * other) / power), WIDER * width_px)
        for shared, other, width_px in zip(own, has.other[1:], around.width_px, strict=True)
    )
    return x, y


def _drawn(shape: tuple[int, ...], width_px: tuple[float, float], key: Key) -> Pixels:
    """Noise of a standard deviation of 1 through a Gaussian, any part of a tile, turned over or not."""
    time_s, track, plane = key
    words = [abs(time_s.numerator), time_s.denominator, int(time_s < 0), abs(track), int(track < 0), plane]
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
    along, down = (gaussian(width) for width in width_px)
    room = max(len(along), len(down)) // 2
    height, width = (side + 2 * room for side in shape)
    y, x = random.integers(0, TILE_PX, 2)
    rows = _white().take(np.arange(y, y + height), axis=0, mode="wrap")
    turned = 1 - 2 * random.integers(0, 2, 3)
    some = rows.take(np.arange(x, x + width), axis=1, mode="wrap")[:: turned[0], :: turned[1]]
    along, down = (line / math.sqrt((line * line).sum()) for line in (along, down))
    blurred = cv2.sepFilter2D(np.ascontiguousarray(some), -1, along * turned[2], down)
    return np.asarray(blurred, dtype=np.float32)[room : room + shape[0], room : room + shape[1]]


@lru_cache(maxsize=1)
def _white() -> Pixels:
    tile = np.random.Generator(np.random.Philox(0)).standard_normal((TILE_PX, TILE_PX), dtype=np.float32)
    tile.flags.writeable = False
    return tile
