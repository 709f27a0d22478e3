"""Noise of a picture, and what of it is left where a face was restored: how much, and how fine.

Noise is what a picture differs by from its mean over 7 x 7 px, in those of its blocks of 8 x 8 px that show
nothing else: elsewhere it is hair, cloth and edges. Which blocks, the blocks tell themselves. Of those of
about one level, the third counts whose means bend least from block to block, which noise hardly changes; of
these all within twice the power of such blocks, until that settles (a mean that is clipped from above). A
level that still has far more than the next ones is hair: from level to level, noise rises slowly.

It is taken for white noise through a Gaussian, as the blur of a grain: how wide the Gaussian is, along x and
along y, follows from how much neighbours have in common, and how much of the noise the mean over 7 px took
away follows from both.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Left", "Noise", "Pixels", "Seen", "correlation", "gaussian", "left", "noise", "seen", "width_of"]

Pixels = NDArray[np.float32]
Array = NDArray[np.float64]

BLOCK_PX, STRIP_PX, MEAN_PX = 8, 16, 7
MARGIN_PX = MEAN_PX // 2 + 1
STRIPS = 6  # the most that are looked at, spread over a picture
LEAST_PX = STRIP_PX + 2 * MARGIN_PX
A_BAND = 24  # blocks, about
BANDS = 5  # of levels, the most
EVEN = 0.3  # the share of blocks that bend least
LOWEST, WITHIN, ROUNDS = 0.35, 2.0, 4  # where the clipped mean begins, where it clips, how often
STEEP_LEVELS = 50  # over which noise rises by what it is in the middle, at most
ALIKE = 1.25  # the most power in a face, in that around it: more is the face itself
TINY = 1e-6
WIDTHS_PX = np.arange(0, 2.5, 0.05)  # of the Gaussian
CORE = 0.85  # of the largest weight: there is the face itself


class Seen(NamedTuple):
    """Blocks of a picture and of what was made of it, (B,) each; levels as they were given."""

    level: Array
    """Mean of the source."""

    bend: Array
    """How far its mean is off a plane through those of its neighbours, squared: where there is structure."""

    result_bend: Array
    """The same of the result."""

    weight: Array
    """How much of the result is the restored face, in [0, 1]."""

    source: Array
    """(B, 3): mean products of the noise with itself, with the next one along x, and along y."""

    result: Array
    """(B, 3): the same of the result's."""

    both: Array
    """(B, 3): of the source's noise with the result's."""


class Noise(NamedTuple):
    """The noise of a picture around a face."""

    levels: Array
    """(K,), rising."""

    sigmas: Array
    """(K,): its standard deviation there, levels."""

    width_px: tuple[float, float]
    """Of the Gaussian that a grain is, along x and y: standard deviation."""

    products: Array
    """(3,): mean products as in `Seen`, where the standard deviation is 1."""


class Left(NamedTuple):
    """What a restored face has of noise. Where its weight is w, the power of its noise is

    ((1 - w) + w of_source)^2 + w^2 other, in units of the source's.
    """

    here: float
    """The power of the source's noise in the face itself, in units of what `Noise` says of its levels."""

    of_source: float
    """How much of the source's own noise is still in it, in [0, 1]."""

    other: Array
    """(3,): the power of what else there is, and its products with the next along x and y; in those units."""


def seen(source: Pixels, result: Pixels, weights: Pixels) -> Seen | None:
    """Look at a part of a picture, and at the same part of what was made of it.

    Args:
        source, result: (H, W) float32 levels.
        weights: (H, W) float32 in [0, 1]: how much of the result is the restored face.

    Returns:
        None where there is too little to look at.
    """
    height, width = weights.shape
    across = (width - 2 * MARGIN_PX) // BLOCK_PX
    if height < LEAST_PX or across < 3:
        return None
    strips = min(STRIPS, 1 + (height - LEAST_PX) // STRIP_PX)
    starts = np.linspace(0, height - LEAST_PX, strips).astype(int)
    rows = (starts[:, None] + np.arange(LEAST_PX)).ravel()
    columns = slice(0, across * BLOCK_PX + 2 * MARGIN_PX)
    size = (across, strips * STRIP_PX // BLOCK_PX)

    def means(values: Pixels) -> Array:
        inside = values.reshape(strips, LEAST_PX, -1)[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
        inside = np.ascontiguousarray(inside).reshape(-1, across * BLOCK_PX)
        return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_AREA), np.float64).ravel()

    def products(one: Pixels, other: Pixels) -> Array:
        beside, below = np.empty_like(one), np.empty_like(one)
        np.multiply(one[:, :-1], other[:, 1:], out=beside[:, :-1])
        np.multiply(one[:-1], other[1:], out=below[:-1])
        return np.stack([means(one * other), means(beside), means(below)], axis=1)

    before, after = (plane[rows, columns] for plane in (source, result))
    one, other = _fine(before), _fine(after)
    level = means(before)
    bends = [_bend(each.reshape(-1, 2, across)).ravel() for each in (level, means(after))]
    weight, pairs = means(weights[rows, columns]), ((one, one), (other, other), (one, other))
    return Seen(level, bends[0], bends[1], weight, *(products(*pair) for pair in pairs))


def noise(blocks: Seen) -> Noise:
    """The noise of the source; its Gaussian is that of the levels that have about the usual power."""
    order = np.argsort(blocks.level, kind="stable")
    bands = max(1, min(BANDS, len(order) // A_BAND))
    order = order[: len(order) // bands * bands].reshape(bands, -1)
    even, kept = _even_and_quiet(blocks.bend[order], blocks.source[order, 0])
    order = order[np.arange(bands)[:, None], even]
    share = kept / kept.sum(axis=1, keepdims=True)
    levels = (share * blocks.level[order]).sum(axis=1)
    products = (share[:, None] @ blocks.source[order])[:, 0]
    middle = median(products[:, 0].tolist())
    like = (products[:, 0] >= middle / 3) & (products[:, 0] <= middle * 2)
    width_px, unit = _grain_of((products[like] / (products[like, :1] + TINY)).sum(axis=0))
    sigmas = np.sqrt(products[:, 0] / unit[0])
    steep = median(sigmas.tolist()) / STEEP_LEVELS
    sigmas = (sigmas + steep * np.abs(levels[:, None] - levels)).min(axis=1)
    return Noise(levels, sigmas, width_px, unit)


def left(blocks: Seen, around: Noise) -> Left:
    """What the restored face has of noise.

    A face is full of lines and shades, which neighbours share nearly all of. So here it is what neighbours do
    not share that tells the noise, and no grain is wider than the picture's.
    """
    core = np.flatnonzero(blocks.weight >= CORE * blocks.weight.max())
    bend = blocks.bend[core] + blocks.result_bend[core]
    powers = _alone(blocks.result[core]) + _alone(blocks.source[core])
    even, kept = _even_and_quiet(bend[None], powers[None])
    core = core[even[kept]]
    weight = max(float(blocks.weight[core].mean()), 1e-3)
    power = np.interp(blocks.level[core], around.levels, around.sigmas)[:, None] ** 2 + TINY
    source, result, both = (
        (products[core] / power).mean(axis=0) for products in (blocks.source, blocks.result, blocks.both)
    )
    here = min(float(_alone(source) / _alone(around.products)), ALIKE) + TINY
    shared = float(_alone(both) / _alone(around.products)) / here
    of_source = min(1.0, max(0.0, (shared - (1 - weight)) / weight))
    other = (result / here - (1 - weight + weight * of_source) ** 2 * around.products) / weight**2
    width_px = _grain_of(other)[0]
    width_px = min(width_px[0], around.width_px[0]), min(width_px[1], around.width_px[1])
    amount = float(_alone(other) / _alone(_products(width_px)))
    return Left(here, of_source, amount * np.array([1.0, *map(correlation, width_px)]))


def _alone(products: Array) -> Array:
    """Of mean products (..., 3), what a sample has for itself, and does not share with its neighbours."""
    return np.maximum(0, products[..., 0] - (products[..., 1] + products[..., 2]) / 2)


def _grain_of(products: Array) -> tuple[tuple[float, float], Array]:
    """The Gaussian of noise of some mean products: its widths, and the products at a power of 1."""
    shapes, squares = _shapes()
    x, y = products[1:] / max(products[0], 1e-12)
    nearest = int((squares - 2 * (x * shapes[0] + y * shapes[1])).argmin())
    row, column = divmod(nearest, len(WIDTHS_PX))
    return (float(WIDTHS_PX[column]), float(WIDTHS_PX[row])), _expected()[row, column]


def _products(width_px: tuple[float, float]) -> Array:
    """(3,): the mean products of noise of power 1 through a Gaussian of known widths."""
    x, y = (int(np.abs(WIDTHS_PX - width).argmin()) for width in width_px)
    products: Array = _expected()[y, x]
    return products


def correlation(width_px: float) -> float:
    """What neighbours have in common in white noise through a Gaussian."""
    weights = gaussian(width_px)
    return float((weights[1:] * weights[:-1]).sum() / (weights * weights).sum())


def width_of(shared: float) -> float:
    """The Gaussian that gives neighbours so much in common, px; as wide as those that are known, at most."""
    return float(np.interp(shared, _correlations(), WIDTHS_PX))


@lru_cache(maxsize=64)
def gaussian(width_px: float) -> Array:
    """The weights of a Gaussian, of sum 1 and odd number."""
    reach = int(np.ceil(3.5 * width_px))
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (x / max(width_px, 1e-3)) ** 2)
    weights /= weights.sum()
    weights.flags.writeable = False
    return weights


def _fine(levels: Pixels) -> Pixels:
    return np.asarray(cv2.subtract(levels, cv2.blur(levels, (MEAN_PX, MEAN_PX))))


def _bend(levels: Array) -> Array:
    """Of blocks (strips, 2, across)."""
    both = np.concatenate([levels, levels[:, 1:] - levels[:, :1]], axis=1)
    second = both[..., 2:] - 2 * both[..., 1:-1] + both[..., :-2]
    along, twist = second[:, :2], second[:, 2:]
    bend = along**2 + twist**2 / 4
    return np.concatenate([bend[..., :1], bend, bend[..., -1:]], axis=2)


def _even_and_quiet(bend: Array, powers: Array) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which blocks of each band (bands, n) bend least, (bands, m), and which of these have noise alone."""
    bands = np.arange(len(bend))[:, None]
    even = bend.argsort(axis=1, kind="stable")[:, : math.ceil(EVEN * bend.shape[1])]
    considered = powers[bands, even]
    rising = np.sort(considered, axis=1)
    sums = rising.cumsum(axis=1)
    limit = WITHIN * rising[:, int(LOWEST * (even.shape[1] - 1)), None]
    for _ in range(ROUNDS):
        within = (rising <= limit).sum(axis=1, keepdims=True)
        limit = WITHIN * sums[bands, within - 1] / within
    return even, considered <= limit


@lru_cache(maxsize=1)
def _correlations() -> Array:
    return np.array([correlation(width_px) for width_px in WIDTHS_PX])


@lru_cache(maxsize=1)
def _shapes() -> tuple[Array, Array]:
    """(2, y x): what neighbours along x and y share in noise through each pair of Gaussians; its square."""
    expected = _expected().reshape(-1, 3)
    shares = np.ascontiguousarray((expected[:, 1:] / expected[:, :1]).T)
    return shares, np.asarray((shares**2).sum(axis=0))


@lru_cache(maxsize=1)
def _expected() -> Array:
    """(y, x, 3): the mean products of noise of power 1 through each pair of Gaussians, less its mean."""
    size = 64  # of a circle, wide enough for all that is correlated
    mean = np.zeros(size)
    mean[np.arange(MEAN_PX) - MEAN_PX // 2] = 1 / MEAN_PX
    mean = np.fft.fft(mean).real
    spectra = []
    for width_px in WIDTHS_PX:
        weights = gaussian(width_px)
        line = np.zeros(size)
        line[np.arange(len(weights)) - len(weights) // 2] = weights
        power = np.abs(np.fft.fft(line)) ** 2
        spectra.append(power / power.mean())
    lines = [np.stack(spectra) * mean**power for power in range(3)]
    along = np.stack([np.fft.ifft(line).real[:, :2] for line in lines])  # (3, widths, lags)
    signs = (1, -2, 1)
    pairs = [(0, 0), (1, 0), (0, 1)]  # lags along x and y
    return np.stack(
        [
            sum(sign * np.outer(part[:, y], part[:, x]) for sign, part in zip(signs, along, strict=True))
            for x, y in pairs
        ],
        axis=2,
    )
