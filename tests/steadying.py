"""A face that rests, drifts, blinks and is noisy: what means over time are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from portraits import portrait

__all__ = ["CHEEK", "EYE", "MOUTH", "RATE_HZ", "error", "face", "moved", "noisy", "shut"]

Pixels = NDArray[np.float32]

RATE_HZ = 25
EYE, MOUTH = (slice(86, 122), slice(50, 112)), (slice(160, 214), slice(60, 188))
CHEEK = slice(120, 156), slice(50, 112)


@cache
def face() -> Pixels:
    """(256, 256, 3) float32 RGB in [-1, 1]: the astronaut's face, aligned."""
    picture = portrait(1024)[102:348, 328:574]
    sized = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC)
    return np.asarray(sized / 127.5 - 1, dtype=np.float32)


def noisy(truths: Sequence[Pixels], levels: float, seed: int = 0) -> list[Pixels]:
    """With noise as coarse as a crop's that was enlarged."""
    random = np.random.default_rng(seed)
    crops = []
    for truth in truths:
        noise = random.normal(0, levels / 127.5, (128, 128, 3)).astype(np.float32)
        crops.append(truth + cv2.resize(noise, (256, 256), interpolation=cv2.INTER_LINEAR))
    return crops


def error(
    pixels: Sequence[Pixels], truths: Sequence[Pixels], place: tuple[slice, slice] | None = None
) -> float:
    """Root mean square, levels."""
    where = place or (slice(24, 232), slice(24, 232))
    pairs = zip(pixels, truths, strict=True)
    return 127.5 * float(np.sqrt(np.mean([np.mean((a[where] - b[where]) ** 2) for a, b in pairs])))


def moved(truth: Pixels, x_px: float, y_px: float, turn_deg: float = 0.0) -> Pixels:
    matrix = cv2.getRotationMatrix2D((128, 128), turn_deg, 1.0) + np.array([(0, 0, x_px), (0, 0, y_px)])
    warped = cv2.warpAffine(truth, matrix, (256, 256), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, dtype=np.float32)


def shut(truth: Pixels, place: tuple[slice, slice]) -> Pixels:
    """With the cheek over an eye, as a lid is."""
    other = truth.copy()
    other[place] = cv2.resize(truth[CHEEK], (other[place].shape[1], other[place].shape[0]))
    return other
