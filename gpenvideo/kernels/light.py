"""Light: RGB of HDR and wide-gamut streams as the pictures that networks know, and back, without loss.

Networks, detectors and eyes at a preview know pictures of ordinary brightness with BT.709's primaries. What a
stream of PQ, HLG or BT.2020 holds is made one, and what comes of it is put back, by way of light:

1.  levels become light on a display, in units of 300 cd/m². PQ is that of SMPTE ST 2084, HLG that of ITU-R
    BT.2100-2 with its display of 1000 cd/m². In SDR, the inverse of the camera's curve stands for it (ITU-R
    BT.2087).
2.  the primaries become BT.709's, by a (3, 3) matrix of the light. Colours outside that gamut have negative
    light.
3.  each channel follows a curve: that of sRGB up to 181 cd/m², where faces are; above, a logarithmic
    shoulder, on which 1000 cd/m² are at 1. In SDR, the camera's curve again. Curves are odd: negative light
    becomes negative levels.

Reference white, 203 cd/m² in both systems (ITU-R BT.2408), so stands at 0.84. The unit is that with which our
detector finds most faces whose white is at 100 to 400 cd/m².

Every step has an inverse, so what was not changed comes back to the rounding of float32. Where results lie
outside [-1, 1], brighter or purer than networks know, these are shown the nearest they know, and the
difference is added to what they make: `as_seen`, and `returned`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.frame import Colour

__all__ = [
    "Seen",
    "as_seen",
    "from_working",
    "hlg_code",
    "hlg_light",
    "is_foreign",
    "named",
    "pq_code",
    "pq_light",
    "returned",
    "to_working",
]

Pixels = NDArray[np.float32]
Matrix = NDArray[np.float64]
Curve = Callable[[Pixels], Pixels]

PQ, HLG = 16, 18  # H.273 TransferCharacteristics
SRGB, CAMERA = {13}, {1, 6, 14, 15}  # the curve of BT.709, BT.601 and BT.2020 is one
PQ_PEAK, HLG_PEAK = 10_000.0, 1_000.0  # cd/m²
UNIT, BRIGHT = 300.0, 1_000.0  # cd/m²: of light, and what becomes level 1
HLG_GAMMA = 1.2  # of the system, on a display of HLG_PEAK (BT.2100-2, table 5)

M1, M2 = 2610 / 16384, 2523 / 4096 * 128  # ST 2084
C1, C2, C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
A, B = 0.17883277, 0.28466892  # HLG, BT.2100-2, table 5
LUMA_2020 = np.array([(0.2627, 0.6780, 0.0593)])

BT709, UNKNOWN, BT2020, DISPLAY_P3 = 1, 2, 9, 12  # H.273 ColourPrimaries
CORNERS = {  # x, y of red, green, blue; the white of all is D65
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
D65 = (0.3127, 0.3290)

KNEE = 0.8  # of sRGB's curve: there the shoulder begins
PART = 1 << 15  # values that are converted at a time
FARTHEST = 1.5  # more than any colour of any stream reaches; beyond it exponentials would overflow


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A picture as networks know pictures."""

    pixels: Pixels
    """(H, W, 3) float32 RGB in [-1, 1]."""

    beyond: Pixels | None
    """What its colours have beyond that range; None where they are ordinary video's."""


@dataclass(frozen=True, slots=True)
class _Way:
    """From levels in [0, 1] to levels of the working space, and back."""

    light: Curve
    """Levels to light."""

    code: Curve
    """Light, which may be negative, to levels."""

    bend: Curve
    """Light, 0 or more, to working levels."""

    unbend: Curve
    inward: Matrix
    """(3, 3): light to that of BT.709's primaries."""

    outward: Matrix


def is_foreign(colour: Colour) -> bool:
    """Whether RGB of a stream is not what networks know: PQ, HLG, or primaries wider than BT.709's."""
    return _way_of(colour) is not None


def named(colour: Colour) -> str:
    """What a stream's colour is called in a sentence."""
    return {PQ: "PQ", HLG: "HLG"}.get(colour.transfer, "wide-gamut")


def as_seen(rgb: Pixels, colour: Colour) -> Seen:
    """RGB of a stream, (H, W, 3) float32 in [-1, 1], as networks are to see it."""
    working = to_working(rgb, colour)
    if working is rgb:
        return Seen(rgb, None)
    within = np.clip(working, -1, 1)
    return Seen(within, working - within)


def returned(made: Pixels, beyond: Pixels | None, colour: Colour) -> Pixels:
    """What was made of a `Seen`, (H', W', 3) at any size, in the stream's transfer and primaries."""
    if beyond is None:
        return made
    if beyond.shape != made.shape:
        beyond = _array(cv2.resize(beyond, made.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    return from_working(made + beyond, colour)


def to_working(rgb: Pixels, colour: Colour) -> Pixels:
    """RGB of a stream in the space that networks know; see the module.

    Args:
        rgb: (H, W, 3) float32, levels in [-1, 1] of the stream's transfer and primaries; unchanged.
        colour: of the stream. One whose transfer is not known, or is that of ordinary video with ordinary
            primaries, leaves levels as they are. Primaries that are not told are BT.2020's in HDR.

    Returns:
        (H, W, 3) float32, black at -1 and white at 1, beyond where light is above 1000 cd/m² or colours are
        outside BT.709's gamut; `rgb` itself where nothing is to be done.
    """
    way = _way_of(colour)
    if way is None:
        return rgb

    def working(part: Pixels) -> Pixels:
        light = cv2.transform(way.light(np.clip(part * 0.5 + 0.5, 0, 1)), way.inward)
        return _odd(way.bend, _array(light)) * 2 - 1

    return _by_rows(working, rgb)


def from_working(rgb: Pixels, colour: Colour) -> Pixels:
    """The inverse of `to_working`: (H, W, 3) float32, any values, to levels of the stream in [-1, 1]."""
    way = _way_of(colour)
    if way is None:
        return rgb

    def levels(part: Pixels) -> Pixels:
        light = _odd(way.unbend, np.clip(part * 0.5 + 0.5, -FARTHEST, FARTHEST))
        return np.clip(way.code(_array(cv2.transform(light, way.outward))) * 2 - 1, -1, 1)

    return _by_rows(levels, rgb)


def pq_light(code: Pixels) -> Pixels:
    """Levels in [0, 1] to cd/m²: the EOTF of SMPTE ST 2084."""
    power = _pow(code, 1 / M2)
    return _pow(np.maximum(power - C1, 0) / (C2 - C3 * power), 1 / M1) * PQ_PEAK


def pq_code(light: Pixels) -> Pixels:
    """cd/m², 0 or more, to levels: the inverse EOTF of SMPTE ST 2084."""
    power = _pow(light / PQ_PEAK, M1)
    return _pow((C1 + C2 * power) / (1 + C3 * power), M2)


def hlg_light(code: Pixels) -> Pixels:
    """RGB levels (H, W, 3) in [0, 1] to cd/m² on a display of 1000 cd/m²: the EOTF of BT.2100-2, table 5."""
    scene = _parts(
        code, 0.5, lambda low: low * low / 3, lambda high: (cv2.exp((high - _HLG_C) / A) + B) / 12, 1 / 12
    )
    return scene * _pow(_array(cv2.transform(scene, LUMA_2020)), HLG_GAMMA - 1)[..., None] * HLG_PEAK


def hlg_code(light: Pixels) -> Pixels:
    """cd/m² (H, W, 3), 0 or more, to RGB levels: the inverse of `hlg_light`."""
    light = light * (1 / HLG_PEAK)
    luma = np.maximum(_array(cv2.transform(light, LUMA_2020)), 1e-12)
    scene = light * _pow(luma, 1 / HLG_GAMMA - 1)[..., None]
    return _parts(
        scene, 1 / 12, lambda low: cv2.sqrt(3 * low), lambda high: A * _log(12 * high - B) + _HLG_C, 0.5
    )


_HLG_C = 0.5 - A * math.log(4 * A)


def _way_of(colour: Colour) -> _Way | None:
    primaries = colour.primaries
    if primaries == UNKNOWN and (colour.transfer in (PQ, HLG) or colour.matrix in (9, 10)):
        primaries = BT2020
    return _way(colour.transfer, primaries)


@lru_cache(maxsize=16)
def _way(transfer: int, primaries: int) -> _Way | None:
    wide = primaries in (BT2020, DISPLAY_P3)
    inward = _bt709_from(primaries) if wide else np.eye(3, dtype=np.float64)
    outward: Matrix = np.asarray(np.linalg.inv(inward), dtype=np.float64)
    if transfer in (PQ, HLG):
        to_light, from_light = (pq_light, pq_code) if transfer == PQ else (hlg_light, hlg_code)
        bend, unbend = _shoulder(BRIGHT / UNIT)
        return _Way(
            lambda code: _array(to_light(code) / UNIT),
            lambda light: from_light(_array(np.maximum(light, 0) * UNIT)),
            bend,
            unbend,
            inward,
            outward,
        )
    if not wide or transfer not in SRGB | CAMERA:
        return None
    bend, unbend = (_srgb, _srgb_light) if transfer in SRGB else (_camera, _camera_light)
    return _Way(unbend, lambda light: bend(np.maximum(light, 0)), bend, unbend, inward, outward)


def _bt709_from(primaries: int) -> Matrix:
    return np.asarray(np.linalg.solve(_xyz_from(BT709), _xyz_from(primaries)), dtype=np.float64)


def _xyz_from(primaries: int) -> Matrix:
    """(3, 3): RGB light to CIE XYZ, white being of Y = 1 (SMPTE RP 177)."""
    corners = np.array([(x / y, 1, (1 - x - y) / y) for x, y in CORNERS[primaries]]).T
    white = np.array((D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]))
    return np.asarray(corners * np.linalg.solve(corners, white), dtype=np.float64)


def _shoulder(bright: float) -> tuple[Curve, Curve]:
    """sRGB's curve with a logarithmic shoulder on which some light is at level 1; and the inverse."""
    room = 1.055 * bright ** (1 / 2.4) - 0.055 - KNEE
    low, high = 1e-3, 1.0
    for _ in range(60):  # its softness: KNEE + soft * log1p(room / soft) = 1
        soft = (low + high) / 2
        low, high = (soft, high) if soft * math.log1p(room / soft) < 1 - KNEE else (low, soft)

    def bend(light: Pixels) -> Pixels:
        level = _srgb(light)
        return _array(np.minimum(level, KNEE) + soft * _log(1 + np.maximum(level - KNEE, 0) / soft))

    def unbend(level: Pixels) -> Pixels:
        over = _array(cv2.exp(np.maximum(level - KNEE, 0) * (1 / soft)))
        return _srgb_light(np.minimum(level, KNEE) + soft * (over - 1))

    return bend, unbend


def _srgb(light: Pixels) -> Pixels:
    """IEC 61966-2-1."""
    end = 0.0031308
    return _parts(
        light, end, lambda low: 12.92 * low, lambda high: 1.055 * _pow(high, 1 / 2.4) - 0.055, 12.92 * end
    )


def _srgb_light(level: Pixels) -> Pixels:
    end = 0.0031308
    return _parts(
        level,
        12.92 * end,
        lambda low: low * (1 / 12.92),
        lambda high: _pow((high + 0.055) * (1 / 1.055), 2.4),
        end,
    )


_CAMERA_A, _CAMERA_B = 1.09929682680944, 0.018053968510807  # BT.2020-2, table 4, to more digits


def _camera(light: Pixels) -> Pixels:
    """The OETF of BT.709 and BT.2020."""
    return _parts(
        light,
        _CAMERA_B,
        lambda low: 4.5 * low,
        lambda high: _CAMERA_A * _pow(high, 0.45) - (_CAMERA_A - 1),
        4.5 * _CAMERA_B,
    )


def _camera_light(level: Pixels) -> Pixels:
    return _parts(
        level,
        4.5 * _CAMERA_B,
        lambda low: low * (1 / 4.5),
        lambda high: _pow((high + (_CAMERA_A - 1)) * (1 / _CAMERA_A), 1 / 0.45),
        _CAMERA_B,
    )


def _parts(x: Pixels, end: float, low: Callable[[Any], Any], high: Callable[[Any], Any], at: float) -> Pixels:
    """A curve of two parts that meet at `end`, where both have the value `at`; quicker than choosing."""
    return _array(low(np.minimum(x, end)) + (high(np.maximum(x, end)) - at))


def _by_rows(curve: Curve, pixels: Pixels) -> Pixels:
    """A function of each pixel, some rows at a time: what lies between its steps stays in the cache."""
    made = np.empty_like(pixels)
    rows = max(1, PART // (3 * pixels.shape[1]))
    for start in range(0, len(pixels), rows):
        made[start : start + rows] = curve(pixels[start : start + rows])
    return made


def _odd(curve: Curve, x: Pixels) -> Pixels:
    return np.copysign(curve(np.abs(x)), x)


def _pow(x: Pixels, power: float) -> Pixels:
    return _array(cv2.pow(x, power))  # six times as quick as NumPy's


def _log(x: Pixels) -> Pixels:
    return _array(cv2.log(x))


def _array(pixels: Any) -> Pixels:
    return np.asarray(pixels, dtype=np.float32)
