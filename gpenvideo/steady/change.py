"""Change: what became of a face from one aligned crop to the next, and what brings pictures along.

What alignment leaves over, an affine motion of parts of a pixel, and the change of light (films flicker) are
found together, by least squares on a small luma picture: Lucas and Kanade, "An iterative image registration
technique with an application to stereo vision" (1981), with a gain and an offset as in Negahdaripour's
"Revised definition of optical flow" (1998). What moves by itself counts less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Change", "Pixels", "array", "axis", "carried", "enlarged", "found", "mixed", "shrunk"]

Pixels = NDArray[np.float32]

PRIOR = np.array([0.15] * 6 + [0.3] * 3, dtype=np.float32)
"""Sigmas of what alignment leaves over, px of the small picture, and of the change of light, as a gain."""

FAINT = 1 / 127.5  # a change of light below a level is none
MOTION_OFF = 1.6  # px^2 a second, of UNIT_PX; from 1.67 on it is more than a mean of 0.15 s forgets
UNIT_PX = 256
LONGEST_S = 0.04  # what longer steps are off by, too
BLUR = 32  # cells across a picture of it
UNEVEN = 2.0  # px^2 a second: how much more than its lesser direction a place is sharpened
SHARP = np.array([(0, -0.5, 0), (-0.5, 3, -0.5), (0, -0.5, 0)], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What became of a face. A place z of a crop, in [-1, 1], shows of the crop before

    (1 + gain + tilt z_y) before(z + shift + growth z) + offset   (levels above black, which is -1)
    """

    step_s: float
    """From the one to the other."""

    shift: NDArray[np.float64]
    """(2,), shares of the crop's side."""

    growth: NDArray[np.float64]
    """(2, 2), the same at the crop's edge."""

    gain: float
    tilt: float
    offset: float

    roughness: float
    """The noise that it was found in: 0 is none, from 1 on it is strong."""

    where: Pixels
    """(n, n) in [0, 1]: how much of each cell is not what it was; light, motion and noise apart."""

    @property
    def is_lit(self) -> bool:
        """Whether the light is another."""
        return abs(self.gain) + abs(self.tilt) + abs(self.offset) > FAINT

    def gains(self, size_px: int) -> Pixels:
        """Of the rows of a crop, from above to below: (size_px,)."""
        return 1 + np.float32(self.gain) + np.float32(self.tilt) * axis(size_px)

    def matrix(self, size_px: int) -> NDArray[np.float64]:
        """(2, 3): the pixel of the crop before that a pixel shows, where crops have that side."""
        middle = (size_px - 1) / 2
        growth = self.growth * (size_px / middle)
        shift = self.shift * size_px
        return np.column_stack([np.eye(2) + growth, shift - middle * growth.sum(axis=1)])

    def blur(self, size_px: int) -> Pixels:
        """(n, n), px^2: the variance that carrying a picture over adds to what is seen at a place.

        That of interpolation between pixels, f of the way from one to the next, is f (1 - f): the mean of
        across and down, for one kernel is for both, but at most `UNEVEN` above the lesser. What the motion
        is off by adds its own, without noise none. It is little, but a mean is carried over many times.
        """
        z = axis(BLUR)
        across, down = (
            size_px * (along + right * z + below * z[:, None])
            for along, (right, below) in zip(self.shift, self.growth, strict=True)
        )
        across -= np.floor(across)
        across *= 1 - across
        down -= np.floor(down)
        down *= 1 - down
        most = np.minimum(across, down) + UNEVEN * min(self.step_s, LONGEST_S)
        return array(np.minimum((across + down) / 2, most) + (self.off if size_px <= UNIT_PX else 0.0))

    def wide(self, size_px: int) -> Pixels | None:
        """A kernel that sharpens larger pictures by what the motion is off by, of pixels further apart."""
        apart, off = size_px // UNIT_PX, self.off
        if apart <= 1 or not off:
            return None
        kernel = np.zeros(2 * apart + 1, dtype=np.float32)
        kernel[[0, apart, -1]] = -off / 2, 1 + off, -off / 2
        return kernel

    @property
    def off(self) -> float:
        """Variance of what the motion is off by, px^2 of `UNIT_PX`."""
        return MOTION_OFF * min(self.step_s, LONGEST_S) * min(1.0, self.roughness)


def found(was: Pixels, now: Pixels, variance: float) -> tuple[Any, Any, float, float, float]:
    """What makes of one luma picture (n, n) in [-1, 1] the other: shift, growth, gain, tilt and offset.

    Least squares with a prior, twice: then what fits badly counts less.

    Args:
        was, now: the pictures.
        variance: of the noise of a pixel's difference.
    """
    n = len(was)
    both = cv2.add(was, now)
    u = axis(n)
    v = u[:, None]
    planes = np.empty((9, n, n), dtype=np.float32)
    planes[0] = cv2.Sobel(both, -1, 1, 0, ksize=3, scale=1 / 16)
    planes[1] = cv2.Sobel(both, -1, 0, 1, ksize=3, scale=1 / 16)
    np.multiply(planes[0], u, out=planes[2])
    np.multiply(planes[0], v, out=planes[3])
    np.multiply(planes[1], u, out=planes[4])
    np.multiply(planes[1], v, out=planes[5])
    np.add(was, 1, out=planes[6])
    np.multiply(planes[6], v, out=planes[7])
    planes[8] = 1
    rows = planes.reshape(9, -1)
    change = cv2.subtract(now, was).ravel()
    prior = np.diag(variance / PRIOR**2)
    first = np.linalg.solve(rows @ rows.T + prior, rows @ change)
    left = np.abs(change - first @ rows)
    typical = np.partition(left, left.size // 2)[left.size // 2]
    weighted = rows / (1 + np.square(left * (1 / (3 * typical + 1e-4))))
    second = np.linalg.solve(weighted @ rows.T + prior, weighted @ change).astype(np.float64)
    gain, tilt, offset = second[6:].tolist()
    return second[:2] / n, second[2:6].reshape(2, 2) / n, gain, tilt, offset


def carried(pixels: Pixels, change: Change) -> Pixels:
    """(S, S, 3) of the crop before, brought to where the face is now and into its light.

    What that blurs, a variance of v px^2, a kernel of 1 + 2 v amid four of -v / 2 takes out, place by place:
    where less is blurred less is sharpened, for else what is carried over many times grows grainy by itself.
    """
    size = len(pixels)
    # OpenCV warps four channels in a third of the time of three
    moved = cv2.warpAffine(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA),
        change.matrix(size),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    moved = array(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB))
    sharp = array(cv2.filter2D(moved, -1, SHARP, borderType=cv2.BORDER_REPLICATE))
    moved = mixed(moved, sharp, change.blur(size))
    wide = change.wide(size)
    if wide is not None:
        moved = array(cv2.sepFilter2D(moved, -1, wide, wide, borderType=cv2.BORDER_REPLICATE))
    if change.is_lit:
        gains = change.gains(size)
        rows = moved.reshape(size, -1)
        rows *= gains[:, None]
        rows += (gains - 1 + np.float32(change.offset))[:, None]
    return moved


def mixed(pixels: Pixels, others: Pixels, share: Pixels) -> Pixels:
    """Pixels with a share of others, of (n, n) cells."""
    fine = enlarged(share, len(pixels))
    return array(cv2.blendLinear(others, pixels, fine, 1 - fine))


def shrunk(pixels: Pixels, limit_px: int) -> Pixels:
    """Halved until it is no larger than a limit: means of 2 x 2 px."""
    while len(pixels) > limit_px:
        half = len(pixels) // 2
        pixels = array(cv2.resize(pixels, (half, half), interpolation=cv2.INTER_LINEAR))
    return pixels


def enlarged(pixels: Pixels, size_px: int) -> Pixels:
    """Interpolated to a side of so many pixels."""
    return array(cv2.resize(pixels, (size_px, size_px), interpolation=cv2.INTER_LINEAR))


@lru_cache(maxsize=8)
def axis(n: int) -> Pixels:
    """(n,): where the pixels of a row lie, from -1 to 1."""
    places = np.linspace(-1, 1, n, dtype=np.float32)
    places.flags.writeable = False
    return places


def array(pixels: Any) -> Pixels:
    """What OpenCV gives."""
    return np.asarray(pixels, dtype=np.float32)
