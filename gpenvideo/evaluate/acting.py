"""Acting: a still portrait shuts its eyes or opens its mouth, by smooth local warps of its own skin."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["eyes_shut", "mouth_open"]

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]
Points = NDArray[np.float64]

# Proportions of a face, in distances between the eyes.
EYE_HALF_WIDTH, EYE_BELOW, LID, BROW = 0.27, 0.105, 0.025, 0.34
LASHES, LIPS = (-0.11, -0.05), (-0.14, 0.14)  # where to look for them, from the eye and the mouth
GAPE, CHIN, UPPER_SHARE = 0.21, 0.85, 0.12
THROAT = (52, 20, 20)  # RGB of the open mouth


class _Region(NamedTuple):
    """The part of a picture around a point, with axes along the line between the eyes and across it."""

    rows: slice
    columns: slice
    u: Plane
    v: Plane
    """Of each pixel, from the point, in units of the distance between the eyes: to the right and down."""

    along: Points
    """(2,) px of the picture: a step of one in u; (-y, x) is one in v."""


def eyes_shut(picture: Pixels, landmarks: Points, amount: float) -> Pixels:
    """Draw the upper lids down over the eyes.

    The skin between brow and lashes is stretched down to where the lashes are to be, as a lid does; the eye
    below is left as it is.

    Args:
        picture: (H, W, 3) uint8 RGB; not changed.
        landmarks: (5, 2) px, the eyes first.
        amount: 0 is as the picture, 1 is shut.
    """
    out = picture.copy()
    for eye in landmarks[:2] if amount > 0 else ():
        region = _around(picture, eye, landmarks, 0.62)
        u, v = region.u, region.v
        almond = np.clip(1 - (u / EYE_HALF_WIDTH) ** 2, 0, None) ** 0.75
        lashes = _darkest(picture, region, eye, EYE_HALF_WIDTH, LASHES)
        open_edge = (lashes - LID) * np.clip(1 - (u / EYE_HALF_WIDTH) ** 2, -0.5, None)
        edge = open_edge + amount * (EYE_BELOW - lashes + LID) * almond
        # Little is taken from just above the lashes and spread out, so that the brow hardly moves.
        above, skin = np.maximum(edge - v, 0), open_edge + BROW
        spread = np.maximum(edge + BROW, 1e-6)
        source = open_edge - skin * np.clip(above / spread, 0, 1) ** (spread / skin)
        lid = _sampled(picture, region, u, np.where(above < spread, source, v), eye)
        px = 1.0 / np.hypot(*region.along)
        dark = np.exp(-(((edge - v) / (1.5 * px + 0.012)) ** 2)) * np.minimum(1, 3 * amount * almond)
        lid *= 1 - 0.55 * dark[..., None]
        over = np.clip((edge - v) / px + 0.5, 0, 1) * (above < spread) * (almond > 0)
        _blend(out, region, lid, over)
    return out


def mouth_open(picture: Pixels, landmarks: Points, amount: float) -> Pixels:
    """Part the lips: the lower one and the chin move down, the upper one a little up, and it is dark between.

    Args:
        picture: (H, W, 3) uint8 RGB, the lips shut; not changed.
        landmarks: (5, 2) px, the corners of the mouth last.
        amount: 0 is as the picture, 1 is wide open.
    """
    if amount <= 0:
        return picture.copy()
    out = picture.copy()
    middle = landmarks[3:].mean(axis=0)
    region = _around(picture, middle, landmarks, 1.1)
    half = np.hypot(*(landmarks[4] - landmarks[3])) / np.hypot(*region.along) / 2
    lips = _darkest(picture, region, middle, half, LIPS)
    u, v = region.u, region.v - lips * np.clip(1 - (region.u / half) ** 2, -1, None)
    bow = np.clip(1 - (u / (0.95 * half)) ** 2, 0, None)
    gap = amount * GAPE * bow**1.5
    wide = amount * GAPE * np.exp(-((u / (1.25 * half)) ** 2) * 1.2)  # the chin moves as a whole
    up, down = UPPER_SHARE * gap, (1 - UPPER_SHARE) * gap
    lower = (1 - UPPER_SHARE) * wide
    chin = np.clip(v / CHIN, 0, 1)
    fall = (1 - chin) ** 2 * (1 + 2 * chin)  # 1 at the lips, 0 at the chin's end, flat at both
    near = np.clip(v / 0.25, 0, 1)
    moved_down = (down * (1 - near) + lower * near) * fall
    moved_up = up * np.exp(-((v / 0.16) ** 2))
    source = np.where(v > down / 2 - up / 2, np.maximum(v - moved_down, 0), np.minimum(v + moved_up, 0))
    warped = _sampled(picture, region, region.u, source + (region.v - v), middle)
    softness = 1.5 / np.hypot(*region.along)
    inside = np.clip(np.minimum(v + up, down - v) / softness, 0, 1) * (bow > 0)
    shade = 1 - 0.5 * np.clip(v / np.maximum(down, 1e-6), 0, 1)
    dark = np.array(THROAT, np.float64) * (1.3 - 0.6 * shade)[..., None]
    warped = warped + inside[..., None] * 0.92 * (dark - warped)
    _blend(out, region, warped, np.ones_like(v))
    return out


def _around(picture: Pixels, centre: Points, landmarks: Points, reach: float) -> _Region:
    along = landmarks[1] - landmarks[0]
    unit = np.hypot(*along)
    x, y = centre
    left, right = max(0, int(x - reach * unit)), min(picture.shape[1], int(x + reach * unit) + 1)
    top, bottom = max(0, int(y - reach * unit)), min(picture.shape[0], int(y + reach * unit) + 1)
    rows, columns = np.mgrid[top:bottom, left:right].astype(np.float64)
    dx, dy = columns - x, rows - y
    u, v = (along[0] * dx + along[1] * dy) / unit**2, (along[0] * dy - along[1] * dx) / unit**2
    return _Region(slice(top, bottom), slice(left, right), u, v, along)


def _darkest(
    picture: Pixels, region: _Region, centre: Points, half: float, span: tuple[float, float]
) -> float:
    """How deep (in v) the darkest parabola is that spans `half` to both sides: where lips or lids meet."""
    across, depths = np.linspace(-0.8, 0.8, 33) * half, np.linspace(*span, 57)
    along, down = region.along, np.array([-region.along[1], region.along[0]])
    curves = depths[:, None] * (1 - (across / half) ** 2)
    points = centre + across[:, None] * along + curves[..., None] * down
    x, y = np.moveaxis(points.astype(np.float32), -1, 0)
    levels = cv2.remap(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), x, y, cv2.INTER_LINEAR)
    return float(depths[int(np.argmin(levels.mean(axis=1)))])


def _sampled(picture: Pixels, region: _Region, u: Plane, v: Plane, centre: Points) -> Plane:
    (ax, ay) = region.along
    x, y = centre[0] + u * ax - v * ay, centre[1] + u * ay + v * ax
    found = cv2.remap(
        picture, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return found.astype(np.float64)


def _blend(out: Pixels, region: _Region, pixels: Plane, amount: Plane) -> None:
    part = out[region.rows, region.columns]
    part[:] = np.rint(part + amount[..., None] * (pixels - part)).clip(0, 255)
