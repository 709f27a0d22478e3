"""Steady crops: what the aligned crops of a face have in common over time is averaged before the network.

A network for pictures answers noise with invention, and new noise with new invention: that flickers. Where
nothing but the noise changed, the mean of the last seventh of a second has a fraction of the noise: the
network invents less from it, and the same from frame to frame. (To average its style vector brings nothing
beyond that.)

The mean is a recursive filter on the grid of the crop. For each new crop

1.  the mean is carried to where the face is now and into its light, see `gpenvideo.steady.change`. So the
    light is always the new crop's.
2.  each cell of 4 x 4 px is compared with the mean's, by the power of the differences of luma around it, and
    by their sum: noise adds up to nothing, but a mouth that opens in strong noise does not. How large noise
    is, the cells tell themselves: the lower third of what is measured, for most of a face rests most of the
    time. What differs alike for a while is no noise either: a head that turns leaves its mean behind.
    Chroma, which codecs leave in blobs that come and go, is compared more broadly.
3.  a pixel becomes mean + weight (crop - mean). Where a cell differs by more than noise does - a blink, a
    mouth, a hand - the weight is 1: the result is the crop itself. There the mean starts anew, with 1/2, 1/3,
    ... as a mean of 2, 3, ... crops does, down to 1 - exp(-step / 0.15 s). Strong noise is softened there:
    amid a face that has none, a network takes it for a feature.

Where means start anew is said in `gpenvideo.means`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from gpenvideo.means import Means
from gpenvideo.steady.change import Change, Pixels, array, carried, enlarged, found, mixed, shrunk

__all__ = ["WORK_PX", "Mean", "Steadied", "Steady"]

MEMORY_S = 0.15  # time constant of the mean: longer is steadier, and less sharp
LEAST_STEP_S = 1e-3

WORK_PX = 256  # means are of crops shrunk to this; finer detail stays the crop's own
CELLS = 64  # across the picture that is searched for change
MOTION = 32  # across the one that motion and light are found on
SPREAD, BROAD = 1.6, 5.0  # sigmas of the windows a change of luma and of chroma is looked for in, cells

QUIET, HALF = 0.3, 0.5  # the quantiles of the cells' differences, and of their sums, that are noise
LEVELS = 2 / 127.5  # differences below this are not seen: two levels of 255
SAME, OTHER = 2.0, 5.0  # power, in noise: up to there it is noise, from there on it is change
SAME_SUM, OTHER_SUM = 14.0, 28.0  # squared sums alike; they vary more
LATE, LATER, LAG_S = 0.12, 0.36, 0.2  # products with the differences before, in noise; their mean
NOISE_UP_S, NOISE_DOWN_S = 0.5, 0.2  # how fast the noise is believed to grow and to fall
ROUGH, ROUGHER = 3 / 127.5, 9 / 127.5  # noise of a cell that is softened, and where it is softened in full
SOFTENED = 0.25  # the most

LUMA = np.array([(0.2126, 0.7152, 0.0722)], dtype=np.float32)
THIRDS = np.full((1, 3), 1 / 3, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Steadied:
    """A crop with the noise averaged out."""

    pixels: Pixels
    """As large as the crop, in its own light, so a little beyond [-1, 1] where that changed; the first time
    it is the crop itself. Read it, do not write: it is the mean."""

    change: Change | None
    """Since the crop before; None is the first."""


class Steady(Means[Pixels, Steadied]):
    """The means of the crops of all tracks of one stream; see the module.

    A crop is (S, S, 3) float32 RGB in [-1, 1] and stays unchanged.
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
        self._colour: float | None = None  # the same of broad chroma
        self._left = self._lag = np.zeros((0, 0), dtype=np.float32)  # what luma differed by, and as before

    def take(self, time_s: Fraction, crop: Pixels) -> Steadied:
        """The mean after one more crop; arguments and result are those of `Steady`."""
        step_s, self._time_s = max(LEAST_STEP_S, float(time_s - self._time_s)), time_s
        now = as_seen = shrunk(crop, WORK_PX)
        cells = shrunk(now, CELLS)
        if self._mean is None or self._mean.shape != now.shape:  # or the network is another one
            self._mean, self._small = now.copy(), cells
            self._seen = np.ones(cells.shape[:2], dtype=np.float32)
            self._left = self._lag = np.zeros(cells.shape[:2], dtype=np.float32)
            return Steadied(crop, None)
        change = self._change(cells, step_s)
        now = self._softened(now, cells, change.where)
        least = -math.expm1(-step_s / MEMORY_S)
        seen = self._seen * (1 - change.where) + 1
        weight = np.maximum(1 / seen, np.float32(least))
        self._seen = np.minimum(seen, np.float32(1 / least))
        self._small = self._small + weight[..., None] * (cells - self._small)
        self._mean = mixed(self._mean, now, weight)
        if len(as_seen) == len(crop):
            return Steadied(self._mean, change)
        finer = enlarged(array(cv2.subtract(self._mean, as_seen)), len(crop))
        return Steadied(array(cv2.add(crop, finer)), change)

    def _change(self, cells: Pixels, step_s: float) -> Change:
        """What became of the face; carries the mean over, and learns the noise."""
        assert self._mean is not None
        was, now = (array(cv2.transform(shrunk(each, MOTION), LUMA)) for each in (self._small, cells))
        noise = self._noise or 0.0
        moved = found(was, now, 2 * max(noise, LEVELS**2))
        change = Change(step_s, *moved, noise / ROUGH**2, np.zeros(self._seen.shape, dtype=np.float32))
        self._mean = carried(self._mean, change)
        self._small = shrunk(self._mean, CELLS)
        return replace(change, where=self._changed(cells, step_s))

    def _changed(self, cells: Pixels, step_s: float) -> Pixels:
        """How much of each cell is not what it was, in [0, 1]."""
        difference = array(cv2.subtract(cells, self._small))
        luma = array(cv2.transform(difference, LUMA))
        chroma = _blurred(array(cv2.subtract(difference, cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB))), BROAD)
        power = self._of_one(_blurred(np.square(luma), SPREAD))
        sums = self._of_one(np.square(_blurred(luma, SPREAD)))
        colour = self._of_one(array(cv2.transform(np.square(chroma), THIRDS)))
        self._noise = _learned(self._noise, _quiet(power, QUIET), step_s)
        known = self._colour  # where all of a face is in another colour, that is no noise
        self._colour = _learned(known, _quiet(colour, HALF), step_s)
        alike = _blurred(luma * self._left, SPREAD)
        self._left = luma
        self._lag = self._lag - np.float32(math.expm1(-step_s / LAG_S)) * (alike - self._lag)
        unit = max(self._noise, LEVELS**2)
        beyond = (
            _beyond(power, unit, SAME, OTHER),
            _beyond(self._lag, max(self._noise, LEVELS**2 / LATE), LATE, LATER),
            _beyond(sums, max(_quiet(sums, HALF), (LEVELS / 3) ** 2), SAME_SUM, OTHER_SUM),
            _beyond(colour, max(known or self._colour, (LEVELS / 2) ** 2), SAME_SUM, OTHER_SUM),
        )
        return array(np.clip(np.maximum.reduce(beyond), 0, 1))

    def _of_one(self, power: Pixels) -> Pixels:
        """Of the difference of a crop and a mean of so many, the part of the crop."""
        return array(power / (1 + 1 / self._seen))

    def _softened(self, now: Pixels, cells: Pixels, changed: Pixels) -> Pixels:
        rough = (math.sqrt(self._noise or 0.0) - ROUGH) / (ROUGHER - ROUGH)
        if rough <= 0:
            return now
        return mixed(now, enlarged(cells, len(now)), changed * np.float32(min(rough, SOFTENED)))


def _blurred(cells: Pixels, sigma: float) -> Pixels:
    return array(cv2.GaussianBlur(cells, (0, 0), sigma))


def _learned(before: float | None, noise: float, step_s: float) -> float:
    if before is None:
        return noise
    settle_s = NOISE_UP_S if noise > before else NOISE_DOWN_S
    return before - math.expm1(-step_s / settle_s) * (noise - before)


def _beyond(power: Pixels, unit: float, least: float, most: float) -> Pixels:
    return (power - np.float32(least * unit)) * np.float32(1 / ((most - least) * unit))


def _quiet(cells: Pixels, share: float) -> float:
    """What is measured where a face is at rest: a quantile."""
    margin = len(cells) // 8
    face = cells[margin : len(cells) - margin, margin : len(cells) - margin].ravel()
    quiet = int(share * face.size)
    return float(np.partition(face, quiet)[quiet])
