"""Pictures graded into HDR for tests, by the standards' formulae: apart from the code under test."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from portraits import portrait

from gpenvideo.frame import LEFT, Colour, Frame, Layout
from gpenvideo.kernels.colour import samples_from_rgb
from gpenvideo.video.pixels import to_video_frame

Light = NDArray[np.float64]

BT2020_FROM_709 = np.array(  # ITU-R BT.2087-0, section 2
    [(0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)]
)
LUMA_2020 = np.array((0.2627, 0.6780, 0.0593))
TRANSFERS = {"pq": 16, "hlg": 18, "wide": 14, "srgb": 1}


def pq(nits: Light) -> Light:
    """SMPTE ST 2084, the inverse EOTF."""
    power = (np.clip(nits, 0, 1e4) / 1e4) ** (2610 / 16384)
    top, bottom = 3424 / 4096 + 2413 / 128 * power, 1 + 2392 / 128 * power
    return np.asarray((top / bottom) ** (2523 / 32))


def hlg(nits: Light) -> Light:
    """ITU-R BT.2100-2, table 5: the inverse OOTF of a display of 1000 cd/m², and the OETF."""
    display = np.clip(nits, 0, None) / 1000
    luma = np.maximum(display @ LUMA_2020, 1e-9)[..., None]
    scene = np.clip(display * luma ** (1 / 1.2 - 1), 0, 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    log = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


def camera(light: Light) -> Light:
    """ITU-R BT.2020-2, table 4."""
    power = 1.0993 * np.maximum(light, 1e-9) ** 0.45 - 0.0993
    return np.where(light < 0.0181, 4.5 * light, power)


def code(srgb: NDArray[np.uint8], kind: str, white_nits: float) -> Light:
    """An sRGB picture (H, W, 3) as levels in [0, 1] of a kind of video and some white, cd/m²."""
    level = srgb / 255.0
    if kind == "srgb":
        return level
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    wide = np.clip(light @ BT2020_FROM_709.T, 0, None)
    if kind == "wide":
        return camera(wide)
    return pq(wide * white_nits) if kind == "pq" else hlg(wide * white_nits)


def frame_of(
    levels: Light,
    kind: str,
    *,
    bits: int = 10,
    step: tuple[int, int] = (2, 2),
    full_range: bool = False,
    pts: int = 0,
) -> Frame:
    """Levels (H, W, 3) in [0, 1] as a BT.2020 frame; chroma is the mean of what it stands for."""
    tag = 1 if kind == "srgb" else 9
    colour = Colour(tag, full_range, LEFT if step == (2, 2) else (0, 0), tag, TRANSFERS[kind])
    layout = Layout("yuv", bits, step)
    matrix = samples_from_rgb(layout, colour)
    samples = (levels * 2 - 1) @ matrix[:, :3].T + matrix[:, 3]
    height, width = levels.shape[:2]
    across, down = step
    chroma = samples[..., 1:].reshape(height // down, down, width // across, across, 2).mean(axis=(1, 3))
    planes = (samples[..., 0], chroma[..., 0], chroma[..., 1])
    rounded = tuple(np.rint(p).clip(0, 2**bits - 1).astype(layout.dtype) for p in planes)
    return Frame(rounded, layout, colour, pts, Fraction(1, 25))


def portrait_frame(
    kind: str, size: tuple[int, int], number: int = 0, *, white_nits: float = 203, **more: Any
) -> Frame:
    """The portrait as HDR, drifting; it is soft, so that resampling takes nothing from it."""
    width, height = size
    side = round(1.35 * max(size))
    x, y = round(0.12 * side) + number, round(0.02 * side) + number // 2
    srgb = cv2.GaussianBlur(portrait(side)[y : y + height, x : x + width], (0, 0), side / 200)
    return frame_of(code(np.asarray(srgb), kind, white_nits), kind, pts=number, **more)


def graded(kind: str, size: tuple[int, int], **more: Any) -> Callable[[int], Any]:
    """Frame number to picture: `portrait_frame`, for `clips.write_clip`."""
    return lambda number: to_video_frame(portrait_frame(kind, size, number, **more))
