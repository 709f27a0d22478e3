"""Paths: one face through one shot, frame by frame.

The frames say how it moves from each to the next (`gpenvideo.faces.motion`); searches say, now and then and
with some error, where it is. A path lays the motions end to end and looks at what was found from there: to
one who moves with the face it hardly changes, so it can be smoothed for long without lag, and fast motion is
followed as it is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from gpenvideo.face import Face
from gpenvideo.faces.alignment import template
from gpenvideo.faces.motion import Points, Similarity, as_points, fit
from gpenvideo.faces.smoothing import OneEuro, zero_phase

__all__ = ["FacePath"]

SMOOTHED_S = 0.5  # to each side of a moment
SPEED_S = 0.06  # over which a face's speed is averaged
RECENT = 5  # findings that say where to look for it: one bad one has no say
RESTING = 0.3  # sizes a second: slower than this, one whom the flow has lost is not moved
SLID = 0.25  # sizes: where a search finds it farther from where it was carried, that was wrong
PLACE, SHAPE = (0.6, 8.0), (0.4, 2.0)  # cutoff, Hz, and slope of the live filters: little is left to follow
EASE_S = 0.07  # live, what a search changes is taken in over this


class FacePath:
    """One face, from where it is first found.

    Args:
        time_s: of the picture it was found in.
        face: as it was found.
    """

    def __init__(self, time_s: float, face: Face) -> None:
        self.id = 0  # until it is sure
        self.sure_s = math.inf  # when it became so
        self.alive = True
        self.opacity = 0.0  # in the frame that was shown last
        self.first_s, self.times_found, self.best = time_s, 0, 0.0
        self.found_s: list[float] = []
        self.hidden_s: list[float] = []  # when it was behind another face
        self._faces: list[Face] = []
        self._rows: list[Points] = []  # where it was found, see `_row`, as one sees it who moves with it
        self._ways: dict[float, Similarity] = {}  # frame from path, of the frames that were not shown yet
        self._steady: dict[float, Points] = {}  # smoothed rows
        self._now_s, self._way, self._way_found = time_s, Similarity(), Similarity()
        self.moved = Similarity()  # to the frame it was last carried to
        self.lost_s = 0.0  # since it was last found, how long the flow was lost, or was not to be trusted
        self.is_missed = False  # by the last search
        self._speed, self._coasted = 0j, 0j
        self._speeds: deque[complex] = deque([0j], maxlen=3)  # from search to search
        self._place, self._shape = OneEuro(*PLACE), OneEuro(*SHAPE)
        self._eased: Points | None = None
        self._eased_s = time_s
        self.see(time_s, face)

    @property
    def face(self) -> Face:
        """As it was last found."""
        return self._faces[-1]

    @property
    def landmarks(self) -> Points:
        """(5,) complex: where they are in the frame that was last carried to, px."""
        points: Points = self._way(_points(self._rows[-1]))
        return points

    def carry(self, time_s: float, moved: Similarity | None) -> None:
        """To the next frame, by its motion from the one before; None where nobody knows."""
        step_s = time_s - self._now_s
        if moved is None or self.is_missed:
            moved = self._coast(step_s)
        else:
            centre = complex(self._way(self._rows[-1][0]))
            speed = (moved(centre) - centre) / step_s
            self._speed += (speed - self._speed) * -math.expm1(-step_s / SPEED_S)
        self._now_s, self._way, self.moved = time_s, moved.after(self._way), moved
        self._ways[time_s] = self._way

    def see(self, time_s: float, face: Face) -> None:
        """It was found in the frame that was last carried to."""
        if self._rows:
            missed = complex((as_points(face.landmarks) - self.landmarks).mean())
            if abs(missed) > SLID * face.size_px:
                self._lead(time_s, missed)
            since_s = time_s - self.found_s[-1]
            shift = complex((as_points(face.landmarks) - as_points(self.face.landmarks)).mean())
            self._speeds.append(shift / since_s)
            if self.lost_s:
                self._speed = self._usual_speed
        row = _row(face, self._way)
        size = abs(row[1] - row[0])
        place = self._place(time_s, _as_plane(row[:2]), size)
        shape = self._shape(time_s, _as_plane(row[2:]), 1.0)
        self._live = np.concatenate([as_points(place), as_points(shape)])
        self._ways[time_s] = self._way_found = self._way
        self.times_found, self.best = self.times_found + 1, max(self.best, face.score)
        self.found_s.append(time_s)
        self._faces.append(face)
        self._rows.append(row)
        rows = np.stack(self._rows[-RECENT:])
        self._usual = np.median(rows.real, axis=0) + 1j * np.median(rows.imag, axis=0)
        self.lost_s, self.is_missed, self._coasted = 0.0, False, 0j

    def miss(self, time_s: float, *, hidden: bool) -> None:
        """It was looked for, and is not there; hidden where another face is.

        The flow may have followed what covers it: since it was last found, and until it is found again, it is
        taken to have gone on as before.
        """
        if hidden:
            self.hidden_s.append(time_s)
        if self.is_missed:
            return
        self.is_missed, self.lost_s, self._coasted = True, 0.0, 0j
        self._speed, before_s, way = self._usual_speed, self.found_s[-1], self._way_found
        for moment in self._ways:
            if moment > before_s:
                way = self._coast(moment - before_s).after(way)
                self._ways[moment], before_s = way, moment
        self._way = self._coast(time_s - before_s).after(way) if before_s < time_s else way

    def _coast(self, step_s: float) -> Similarity:
        self.lost_s += step_s
        fast = abs(self._speed) > RESTING * self.face.size_px
        moved = Similarity(1.0, self._speed * step_s if fast else 0j)
        self._coasted += self._speed * step_s - moved.shift
        return moved

    @property
    def _usual_speed(self) -> complex:
        """From search to search: one bad finding has no say."""
        return complex(median(v.real for v in self._speeds), median(v.imag for v in self._speeds))

    def _lead(self, time_s: float, missed: complex) -> None:
        """Share how far carrying was off among the frames since it was last found."""
        since_s = self.found_s[-1]
        for moment, way in self._ways.items():
            if moment > since_s:
                share = (moment - since_s) / (time_s - since_s)
                self._ways[moment] = Similarity(1.0, share * missed).after(way)
        self._way = Similarity(1.0, missed).after(self._way)

    def expected(self) -> Face:
        """Where to look for it in the frame that was last carried to."""
        return _face(self._usual, Similarity(1.0, self._coasted).after(self._way), self.face.score)

    def has(self, time_s: float) -> bool:
        """Whether it was carried to a frame, and not asked for there yet."""
        return time_s in self._ways

    @property
    def has_frames(self) -> bool:
        """Whether there are such."""
        return bool(self._ways)

    def take(self, time_s: float, moments: Sequence[float]) -> Face:
        """Where it is in a frame that it was carried to, smoothed without lag. To be asked once, in order.

        Args:
            time_s: of the frame.
            moments: when faces were searched for before and after it (one moment, if it was then): what
                smoothing gives at the two is taken in proportion.
        """
        first, last = (self._row_at(min(max(s, self.found_s[0]), self.found_s[-1])) for s in moments)
        span_s = moments[1] - moments[0]
        share = (time_s - moments[0]) / span_s if span_s > 0 else 0.0
        way = self._ways.pop(time_s)
        self._forget(time_s - SMOOTHED_S - span_s)
        return _face(first + share * (last - first), way, self._faces[self._before(time_s)].score)

    def live(self) -> Face:
        """Where it is in the frame that was last carried to, by what is known then. Asked in every frame."""
        share = -math.expm1((self._eased_s - self._now_s) / EASE_S)
        self._eased = self._live if self._eased is None else self._eased + share * (self._live - self._eased)
        self._eased_s = self._now_s
        self._ways = {}
        self._forget(self._now_s - SMOOTHED_S)
        return _face(self._eased, self._way, self.face.score)

    def neighbours(self, time_s: float) -> tuple[float, float]:
        """When it was found last until a moment, and next after it; infinite where that is not known."""
        after = self._before(time_s) + 1
        return self.found_s[after - 1], self.found_s[after] if after < len(self.found_s) else math.inf

    def _before(self, time_s: float) -> int:
        return max(0, int(np.searchsorted(self.found_s, time_s, side="right")) - 1)

    def _row_at(self, moment: float) -> Points:
        if moment not in self._steady:
            times_s, rows = np.array(self.found_s) - moment, np.stack(self._rows)
            size = abs(complex(rows[-1, 1] - rows[-1, 0]))
            place = zero_phase(times_s, rows[:, :2] / size, SMOOTHED_S) * size
            shape = zero_phase(times_s, rows[:, 2:], SMOOTHED_S)
            self._steady[moment] = np.concatenate([place, shape])
        return self._steady[moment]

    def _forget(self, before_s: float) -> None:
        """What was found and smoothed before will not be asked for again."""
        while len(self.found_s) > 2 and self.found_s[1] < before_s:
            del self.found_s[0], self._faces[0], self._rows[0]
        self._steady = {moment: row for moment, row in self._steady.items() if moment >= before_s}


def _row(face: Face, way: Similarity) -> Points:
    """A face as nine complex numbers, seen by one who moves with it.

    The first two are where its similarity carries 0 and 1 of the template, centred and of side 1; then what
    the landmarks are off that, the middle of the box and its size, all in the template's units.
    """
    points = as_points(face.landmarks)
    placed = fit(_TEMPLATE, points) or Similarity(face.size_px, complex(points.mean()))
    left, top, right, bottom = face.box.tolist()
    middle, size = complex(left + right, top + bottom) / 2, complex(right - left, bottom - top)
    place = way.back(placed(np.array((0j, 1 + 0j))))
    shape = placed.back(np.append(points, middle))
    shape[:5] -= _TEMPLATE
    return np.concatenate([place, shape, [size / abs(placed.factor)]])


def _points(row: Points) -> Points:
    return np.asarray(row[0] + (row[1] - row[0]) * (_TEMPLATE + row[2:7]))


def _face(row: Points, way: Similarity, score: float) -> Face:
    points = way(_points(row))
    scale = way.factor * (row[1] - row[0])
    middle, half = way(row[0] + (row[1] - row[0]) * row[7]), row[8] * abs(scale) / 2
    box = _as_plane(np.array((middle - half, middle + half))).reshape(4)
    return Face(box.astype(np.float32), _as_plane(points).astype(np.float32), score)


def _as_plane(points: Points) -> NDArray[np.float64]:
    """(N,) complex numbers as (N, 2) coordinates."""
    return np.stack([points.real, points.imag], axis=1)


_TEMPLATE = as_points(template("ffhq", 1))
_TEMPLATE = _TEMPLATE - _TEMPLATE.mean()
