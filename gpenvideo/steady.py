"""Steady faces: what the aligned crops of a face have in common over time is averaged before the network.

A network for pictures answers noise with invention, and new noise with new invention: that flickers. Where
nothing but the noise changed, the mean of the last seventh of a second has a fraction of the noise: the
network invents less from it, and the same from frame to frame. (To average its style vector brings nothing
beyond that, nor does what comes out of it, which only grows soft.)

The mean is a recursive filter on the grid of the crop. For each new crop

1.  the mean is carried to where the face is now. What alignment leaves over, an affine motion of parts of a
    pixel, and the change of light (films flicker) are found together, by least squares on a small luma
    picture: Lucas and Kanade, "An iterative image registration technique with an application to stereo
    vision" (1981), with a gain and an offset as in Negahdaripour's "Revised definition of optical flow"
    (1998). What moves by itself counts less. So the light is always the new crop's.
2.  each cell of 4 x 4 px is compared with the mean's, by the power of the differences around it, and by their
    sum: noise adds up to nothing, but a mouth that opens in strong noise does not. How large noise is, the
    cells tell themselves: the lower third of what is measured, for most of a face rests most of the time.
3.  a pixel becomes mean + weight (crop - mean). Where a cell differs by more than noise does - a blink, a
    mouth, a hand - the weight is 1: the result is the crop itself. There the mean starts anew, with 1/2, 1/3,
    ... as a mean of 2, 3, ... crops does, down to 1 - exp(-step / 0.15 s). Strong noise is softened there:
    amid a face that has none, a network takes it for a feature.

Where means start anew is said in `gpenvideo.means`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.means import PERIOD_S, WARM_UP_S, Means

__all__ = ["PERIOD_S", "WARM_UP_S", "Mean", "Steady"]

Pixels = NDArray[np.float32]

MEMORY_S = 0.15  # time constant of the mean: longer is steadier, and less sharp
LEAST_STEP_S = 1e-3

WORK_PX = 256  # means are of crops shrunk to this; finer detail stays the crop's own
CELLS = 64  # across the picture that is searched for change
MOTION = 32  # across the one that motion and light are found on
SPREAD = 1.6  # sigma of the window a change is looked for in, cells

QUIET = 0.3  # the quantile of the cells' differences that is noise
LEVELS = 2 / 127.5  # differences below this are not seen: two levels of 255
SAME, OTHER = 2.0, 5.0  # power, in noise: up to there it is noise, from there on it is change
SAME_SUM, OTHER_SUM = 6.0, 14.0  # squared sums alike; they vary more
NOISE_UP_S, NOISE_DOWN_S = 0.5, 0.2  # how fast the noise is believed to grow and to fall
ROUGH, ROUGHER = 3 / 127.5, 9 / 127.5  # noise of a cell that is softened, and where it is softened in full
SOFTENED = 0.5  # the most

PRIOR = np.array([0.15] * 6 + [0.3] * 3, dtype=np.float32)
"""Sigmas of what alignment leaves over, cells of MOTION, and of the change of light, as a gain."""

FAINT = 1 / 127.5  # a change of light below a level is none
MOTION_OFF = 0.06  # px^2, variance in noise: with it restored faces come nearer to the truth

LUMA = np.array([(0.2126, 0.7152, 0.0722)], dtype=np.float32)
THIRDS = np.full((1, 3), 1 / 3, dtype=np.float32)


class Steady(Means[Pixels]):
    """The means of the crops of all tracks of one stream; see the module.

    A crop is (S, S, 3) float32 RGB in [-1, 1] and stays unchanged. What comes back is as large, with the
    noise averaged out, in the crop's own light, so a little beyond [-1, 1] where that changed; the first
    time it is the crop itself. Read it, do not write: it is the mean.
    """

    def __init__(self) -> None:
        super().__init__(Mean)


class Mean:
    """A recursive mean of aligned crops, motion compensated and gated; see the module."""

    def __init__(self) -> None:
        self._time_s = Fraction(0)
        self._mean: Pixels | None = None  # (W, W, 3)
        self._small = np.zeros((0, 0, 3), dtype=np.float32)  # its cells
        self._seen = np.zeros((0, 0), dtype=np.float32)  # how many crops are in each
        self._noise: float | None = None  # variance of a cell of one crop

    def take(self, time_s: Fraction, crop: Pixels) -> Pixels:
        """The mean after one more crop; arguments and result are those of `Steady`."""
        step_s, self._time_s = max(LEAST_STEP_S, float(time_s - self._time_s)), time_s
        now = as_seen = _shrunk(crop, WORK_PX)
        cells = _shrunk(now, CELLS)
        if self._mean is None or self._mean.shape != now.shape:  # or the network is another one
            self._mean, self._small = now.copy(), cells
            self._seen = np.ones(cells.shape[:2], dtype=np.float32)
            return crop
        self._carry(_shrunk(cells, MOTION))
        self._small = _shrunk(self._mean, CELLS)
        least = -math.expm1(-step_s / MEMORY_S)
        changed = self._change(cells, step_s)
        now = self._softened(now, cells, changed)
        seen = self._seen * (1 - changed) + 1
        weight = np.maximum(1 / seen, np.float32(least))
        self._seen = np.minimum(seen, np.float32(1 / least))
        self._small = self._small + weight[..., None] * (cells - self._small)
        self._mean = _mixed(self._mean, now, weight)
        if len(as_seen) == len(crop):
            return self._mean
        return _array(cv2.add(crop, _enlarged(_array(cv2.subtract(self._mean, as_seen)), len(crop))))

    def _change(self, cells: Pixels, step_s: float) -> Pixels:
        """How much of each cell is not what it was, in [0, 1]; learns the noise."""
        difference = cv2.subtract(cells, self._small)
        power = _around(cv2.transform(cv2.multiply(difference, difference), THIRDS))
        power /= 1 + 1 / self._seen
        noise = _quiet(power)
        if self._noise is None:
            self._noise = noise
        settle_s = NOISE_UP_S if noise > self._noise else NOISE_DOWN_S
        self._noise -= math.expm1(-step_s / settle_s) * (noise - self._noise)
        unit = max(self._noise, LEVELS**2)
        changed = (power - SAME * unit) * (1 / ((OTHER - SAME) * unit))
        sums = _around(difference)
        squared = _array(cv2.transform(cv2.multiply(sums, sums), THIRDS))
        squared /= 1 + 1 / self._seen
        unit = max(_quiet(squared), (LEVELS / 2) ** 2)
        changed = np.maximum(changed, (squared - SAME_SUM * unit) * (1 / ((OTHER_SUM - SAME_SUM) * unit)))
        return _array(np.clip(changed, 0, 1))

    def _softened(self, now: Pixels, cells: Pixels, changed: Pixels) -> Pixels:
        rough = (math.sqrt(self._noise or 0.0) - ROUGH) / (ROUGHER - ROUGH)
        if rough <= 0:
            return now
        return _mixed(now, _enlarged(cells, len(now)), changed * np.float32(min(rough, SOFTENED)))

    @property
    def _motion_off(self) -> float:
        """Variance of the motions that are found, px^2: without noise they are right."""
        return MOTION_OFF * min(1.0, (self._noise or 0.0) / ROUGH**2)

    def _carry(self, now: Pixels) -> None:
        """Bring the mean to where the face is in a new crop, and into its light."""
        assert self._mean is not None
        was = cv2.transform(_shrunk(self._small, MOTION), LUMA)
        variance = 2 * max(self._noise or 0.0, LEVELS**2)
        x, y, xx, xy, yx, yy, gain, tilt, offset = _motion_and_light(
            _array(was), _array(cv2.transform(now, LUMA)), variance
        )
        size = len(self._mean)
        middle, scale = (size - 1) / 2, size / len(now)
        shift = np.array((x, y)) * scale
        growth = np.array([(xx, xy), (yx, yy)]) * (scale / middle)
        self._mean = _moved(self._mean, shift, growth, self._motion_off)
        if abs(gain) + abs(tilt) + abs(offset) > FAINT:
            gains = 1 + gain + tilt * _axis(size)  # of a level above black, which is -1
            rows = self._mean.reshape(size, -1)
            rows *= gains[:, None]
            rows += (gains - 1 + np.float32(offset))[:, None]


def _around(cells: Any) -> Pixels:
    return _array(cv2.GaussianBlur(cells, (9, 9), SPREAD))


def _quiet(cells: Pixels) -> float:
    """What is measured where a face is at rest."""
    margin = len(cells) // 8
    face = cells[margin : len(cells) - margin, margin : len(cells) - margin].ravel()
    quiet = int(QUIET * face.size)
    return float(np.partition(face, quiet)[quiet])


def _motion_and_light(was: Pixels, now: Pixels, variance: float) -> list[float]:
    """What makes of one luma picture (n, n) in [-1, 1] the other: a place z (in [-1, 1]) shows now

        (1 + gain + tilt z_y) was(z + (x, y) + (xx, xy; yx, yy) z) + offset   (levels above black)

    x, y and the growth in pixels; least squares with a prior, twice: then what fits badly counts less.
    """
    n = len(was)
    both = cv2.add(was, now)
    u = _axis(n)
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
    second: list[float] = np.linalg.solve(weighted @ rows.T + prior, weighted @ change).tolist()
    return second


def _moved(
    pixels: Pixels, shift: NDArray[np.float64], growth: NDArray[np.float64], motion_off: float
) -> Pixels:
    """Pixel p becomes that at p + shift + growth (p - middle), which are off by a variance of px^2.

    Interpolation between pixels, f of the way from one to the next, adds a variance of f (1 - f) px^2 to all
    that is seen, and what the motion is off by adds its own: a little each time, and the mean is moved many
    times. (-v / 2, 1 + v, -v / 2) takes a variance of v out.
    """
    size = len(pixels)
    middle = (size - 1) / 2
    matrix = np.column_stack([np.eye(2) + growth, shift - middle * growth.sum(axis=1)])
    # OpenCV warps four channels in a third of the time of three
    moved = cv2.warpAffine(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA),
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    places = 0.6 * middle * _axis(9)  # the face fills the middle of the crop
    kernel_x, kernel_y = (
        _sharpening(along + across * places + down * places[:, None], motion_off)
        for along, (across, down) in zip(shift, growth, strict=True)
    )
    moved = cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB)
    return _array(cv2.sepFilter2D(moved, -1, kernel_x, kernel_y, borderType=cv2.BORDER_REPLICATE))


def _sharpening(distances_px: NDArray[np.float64], motion_off: float) -> Pixels:
    between = distances_px - np.floor(distances_px)
    v = motion_off + float(np.mean(between * (1 - between)))
    return np.array((-v / 2, 1 + v, -v / 2), dtype=np.float32)


def _mixed(pixels: Pixels, others: Pixels, share: Pixels) -> Pixels:
    """Pixels with a share of others, of (n, n) cells."""
    fine = _enlarged(share, len(pixels))
    return _array(cv2.blendLinear(others, pixels, fine, 1 - fine))


def _shrunk(pixels: Pixels, limit_px: int) -> Pixels:
    """Halved until it is no larger than a limit: means of 2 x 2 px."""
    while len(pixels) > limit_px:
        half = len(pixels) // 2
        pixels = _array(cv2.resize(pixels, (half, half), interpolation=cv2.INTER_LINEAR))
    return pixels


def _enlarged(pixels: Pixels, size_px: int) -> Pixels:
    return _array(cv2.resize(pixels, (size_px, size_px), interpolation=cv2.INTER_LINEAR))


@lru_cache(maxsize=8)
def _axis(n: int) -> Pixels:
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    axis.flags.writeable = False
    return axis


def _array(pixels: Any) -> Pixels:
    return np.asarray(pixels, dtype=np.float32)
