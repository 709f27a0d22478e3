"""Motion: how a face moved from one frame to the next, seen in the frames themselves.

A detector says where a face is to about a hundredth of its size, anew in each picture; what moved between
two pictures can be told ten times better. Maps of the plane are pairs of complex numbers: p to a * p + b.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import invert
from gpenvideo.faces.alignment import template

__all__ = ["Points", "Similarity", "as_points", "fit", "motion"]

Matrix = NDArray[np.float64]
Points = NDArray[np.complex128]

COLUMNS, ROWS = 4, 5  # of the grid
PATCH_PX = 48  # of the grid's longer side, about: larger faces are shrunk
MARGIN = 0.5  # of it around it, for what moves out of it
LEVELS, WINDOW_PX = 2, 21
TOLERANCE = 0.012  # of the aligned crop's side: points of the face lie this near to where it carries them
ENOUGH = 0.5  # of the points
ROUNDS = 3
NOISE = 4.0  # of the mean of that many errors: the points' windows overlap, and codecs move blocks


class Similarity(NamedTuple):
    """A turn, growth and shift: p to factor * p + shift, for points p = x + iy."""

    factor: complex = 1.0
    shift: complex = 0.0

    def __call__(self, points: Any) -> Any:
        """Points carried along: a complex number, or an array of them."""
        return self.factor * points + self.shift

    def after(self, first: Similarity) -> Similarity:
        """The map that does `first`, then this."""
        return Similarity(self.factor * first.factor, self.factor * first.shift + self.shift)

    def back(self, points: Any) -> Any:
        """Where points came from."""
        return (points - self.shift) / self.factor


REST = Similarity()


def as_points(xy: NDArray[Any]) -> Points:
    """(N, 2) coordinates as (N,) complex numbers."""
    return np.ascontiguousarray(xy, dtype=np.float64).view(np.complex128)[:, 0]


def fit(source: Points, target: Points, weights: NDArray[np.float64] | None = None) -> Similarity | None:
    """The similarity that carries `source` nearest to `target`, or None: weighted least squares.

    Umeyama's (1991) in the plane, see `gpenvideo.faces.alignment.similarity`.
    """
    w = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
    s_mean, t_mean = complex(w @ source), complex(w @ target)
    s, t = source - s_mean, target - t_mean
    size = float(w @ (s.real**2 + s.imag**2))
    factor = complex(np.vdot(s, w * t)) / size if size > 1e-12 else 0j
    if abs(factor) < 1e-3:
        return None
    return Similarity(factor, t_mean - factor * s_mean)


def motion(
    before: NDArray[Any],
    after: NDArray[Any],
    landmarks: Points,
    upright_from_coded: Matrix,
    bits: int = 8,
    expected: Similarity = REST,
) -> Similarity | None:
    """How a face moved between two frames, by the optical flow of a grid of points on it.

    The flow is Lucas and Kanade's over a pyramid (Bouguet, "Pyramidal Implementation of the Lucas Kanade
    Feature Tracker", 2001); the motion is the similarity that most of the points agree on: least squares
    with Cauchy weights, in a few rounds.

    Args:
        before, after: (H, W) uint8 or uint16, luma (or green) as coded.
        landmarks: (5,) complex, where the face is before: px of the upright picture.
        upright_from_coded: (2, 3).
        bits: of the samples.
        expected: how it moved to the frame before, say: px of the upright picture.

    Returns:
        The face's similarity, px of the upright picture; None where the points do not agree on one: something
        passes before the face, the frame is flat or blurred, or the face is out of it.
    """
    upright = fit(_TEMPLATE, landmarks)
    if upright is None:
        return None
    grid = upright(_GRID)
    coded_from_upright = invert(upright_from_coded)
    coded = _mapped(coded_from_upright, grid)
    guess = expected(grid).mean() - grid.mean()
    ahead = np.rint(coded_from_upright[:, :2] @ (guess.real, guess.imag))
    patch = _patch(before, after, coded, ahead, bits)
    if patch is None:
        return None
    small_before, small_after, corner, shrink = patch
    points = ((coded - corner + 0.5) / shrink - 0.5).astype(np.float32)
    flown, found, _ = cv2.calcOpticalFlowPyrLK(
        small_before,
        small_after,
        points,
        np.empty_like(points),
        winSize=(WINDOW_PX, WINDOW_PX),
        maxLevel=LEVELS,
        criteria=STOP,
    )
    inside = found.ravel() > 0
    if inside.sum() < 8:
        return None
    there = _mapped(
        upright_from_coded, (flown[inside].astype(np.float64) + 0.5) * shrink - 0.5 + corner + ahead
    )
    agreed = _agreed(grid[inside], as_points(there), abs(upright.factor), len(grid))
    return None if agreed is None else _without_noise(*agreed, grid[inside], expected)


def _agreed(
    here: Points, there: Points, size_px: float, asked: int
) -> tuple[Similarity, NDArray[np.float64], float] | None:
    """The similarity that enough of the points follow, their weights in it, and the mean squared error."""
    tolerance = TOLERANCE * size_px
    moved = there - here
    middle = len(moved) // 2
    shift = complex(np.sort(moved.real)[middle], np.sort(moved.imag)[middle])
    error = np.abs(moved - shift)
    for _ in range(ROUNDS):
        weights = 1 / (1 + (error / tolerance) ** 2)
        found = fit(here, there, weights)
        if found is None:
            return None
        error = np.abs(found(here) - there)
    if found is None or (error < 2 * tolerance).sum() < ENOUGH * asked:
        return None
    weights /= weights.sum()
    return found, weights, float(weights @ error**2)


def _without_noise(
    found: Similarity, weights: NDArray[np.float64], squared_error: float, here: Points, expected: Similarity
) -> Similarity:
    """A motion less what noise alone would make of none, or of one that goes on: what rests stays at rest.

    The shift of the points' middle, and turn and growth about it, each for themselves.
    """
    centre = complex(weights @ here)
    noise = NOISE * squared_error / len(here)
    spread = float(weights @ np.abs(here - centre) ** 2)
    shift = _shrunk_to(expected(centre) - centre, found(centre) - centre, noise)
    turn = _shrunk_to(expected.factor - 1, found.factor - 1, noise / spread)
    return Similarity(1 + turn, centre + shift - (1 + turn) * centre)


def _shrunk_to(expected: complex, found: complex, variance: float) -> complex:
    """What was found, towards rest, or, if it stands out from that, towards what was expected.

    By the rule of James and Stein ("Estimation with Quadratic Loss", 1961): as far as noise would carry it.
    """
    base = expected if abs(found) ** 2 > 2 * variance else 0j
    away = found - base
    return base + away * max(0.0, 1 - variance / max(abs(away) ** 2, 1e-12))


def _patch(
    before: NDArray[Any],
    after: NDArray[Any],
    points: NDArray[np.float64],
    ahead: NDArray[np.float64],
    bits: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64], float] | None:
    """The two frames around some points, the later one further ahead, shrunk by a whole number.

    Returns:
        The two patches, where the earlier one lies, and by how much they are shrunk. None at the edge.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    reach = MARGIN * float((high - low).max())
    height, width = before.shape
    left, top = np.maximum(np.floor(low - reach), np.maximum(0, -ahead)).astype(int).tolist()
    edge = np.minimum((width, height), (width, height) - ahead)
    right, bottom = np.minimum(np.ceil(high + reach) + 1, edge).astype(int).tolist()
    shrink = max(1, int((high - low).max() / PATCH_PX + 0.5))
    size = ((right - left) // shrink, (bottom - top) // shrink)
    if min(size) < 2 * WINDOW_PX:
        return None
    small = []
    for plane, (x, y) in ((before, (left, top)), (after, (left + int(ahead[0]), top + int(ahead[1])))):
        small.append(_shrunk(plane[y : y + size[1] * shrink, x : x + size[0] * shrink], size, bits))
    return small[0], small[1], np.array((left, top), dtype=np.float64), shrink


def _shrunk(plane: NDArray[Any], size: tuple[int, int], bits: int) -> NDArray[np.uint8]:
    small = plane if plane.shape == size[::-1] else cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        small = cv2.convertScaleAbs(small, alpha=2.0 ** (8 - bits))
    return np.ascontiguousarray(small)


def _mapped(matrix: Matrix, points: NDArray[Any]) -> NDArray[np.float64]:
    """Points through an affine map: (N,) complex or (N, 2) to (N, 2)."""
    xy = np.stack([points.real, points.imag], axis=1) if np.iscomplexobj(points) else points
    return np.asarray(xy @ matrix[:, :2].T + matrix[:, 2])


STOP = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 8, 0.02)
_TEMPLATE = as_points(template("ffhq", 1))
_Y, _X = np.meshgrid(np.linspace(0.30, 0.82, ROWS), np.linspace(0.27, 0.73, COLUMNS), indexing="ij")
_GRID = (_X + 1j * _Y).ravel()
