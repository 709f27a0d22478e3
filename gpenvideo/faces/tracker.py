"""Tracks: which face of one search is which of the search before, and where faces are between the two."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from gpenvideo.errors import OptionError
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.smoothing import OneEuro

__all__ = ["FADE_S", "KEEP", "MAX_MISSED_S", "START", "Tracker", "between", "distinct", "select"]

START, KEEP = 0.9, 0.5
MAX_MISSED_S = 0.5
FADE_S = 0.2

REACH, REACH_A_SECOND, MOST_REACH = 0.3, 2.5, 1.5  # a face lies this near to where it is expected, sizes
GROWTH = 1.6  # and is at most this much larger or smaller
COAST_S = 0.15  # a face that is not seen comes to rest at this rate
SAME_FACE = 0.3  # landmarks of a face that was found twice are nearer than this, sizes
COVERED = 0.3  # intersection over union with a face that is seen: this one is behind it
HIDDEN_S = 1.0  # and may be missed for so much longer
STICKY = 1.2  # a chosen face is left for one that is larger by this
NEVER = 1e6

Points = NDArray[np.float32]


class Tracker:
    """Follows the faces of a video from search to search.

    A track starts at a face of score `start` or more that the next search finds again, and goes on with
    scores of `keep` or more. Faces of a shot's first picture are shown at once, later ones fade in. A face
    that is not seen is where its motion carries it, and has faded out when it was missed for `max_missed_s`;
    one that went behind another fades at once, and is waited for a second longer. Causal, and a function of
    its calls alone.

    Args:
        start, keep: scores, 0 <= keep <= start <= 1; the detector's threshold should be `keep`.
        max_missed_s: how long a face may be missed.
        fade_s: how long it takes to appear or disappear; 0 is at once.

    Raises:
        OptionError: a value outside its range.
    """

    def __init__(
        self,
        *,
        start: float = START,
        keep: float = KEEP,
        max_missed_s: float = MAX_MISSED_S,
        fade_s: float = FADE_S,
    ) -> None:
        if not 0.0 <= keep <= start <= 1.0:
            raise OptionError(f"scores are 0 <= keep <= start <= 1, got keep {keep} and start {start}")
        if max_missed_s < 0 or fade_s < 0:
            raise OptionError(f"times are not negative, got {max_missed_s} s and {fade_s} s")
        self.start, self.keep = start, keep
        self.max_missed_s, self.fade_s = max_missed_s, fade_s
        self._followed: list[_Followed] = []
        self._time_s: float | None = None
        self._last_id = 0

    def reset(self) -> None:
        """A cut: every track ends. Ids go on counting."""
        self._followed, self._time_s = [], None

    def update(self, time_s: float, faces: Sequence[Face]) -> list[FaceTrack]:
        """Take in what a search found.

        Args:
            time_s: of the picture; later than in the call before, unless `reset` came between.
            faces: of the picture, in any order; pixels of the same kind of picture in all calls.

        Returns:
            The tracks, by id. Those with opacity 0 are not to be shown yet: `between` needs them.

        Raises:
            OptionError: a time that is not later.
        """
        first = self._time_s is None
        step_s = 0.0 if self._time_s is None else time_s - self._time_s
        if not first and step_s <= 0:
            raise OptionError(f"time goes on: got {time_s} s after {self._time_s} s; a cut calls reset()")
        self._time_s = time_s
        found = distinct([face for face in faces if face.score >= self.keep])
        pairs = _pairs([track.expected(time_s) for track in self._followed], found)
        for i, j in pairs.items():
            self._followed[i].see(time_s, found[j])
        seen = [self._followed[i].face for i in pairs if self._followed[i].id]
        for track in self._followed:
            if track.seen_s < time_s and track.behind(seen, time_s):
                track.hidden_s = time_s
            track.opacity = self._faded(track, time_s, step_s)
        self._followed = [track for track in self._followed if self._lives(track, time_s)]
        self._followed += [_Followed(time_s, found[j]) for j in range(len(found)) if j not in pairs.values()]
        for track in self._followed:
            if not track.id and track.face.score >= self.start:
                self._last_id += 1
                track.id, track.opacity = self._last_id, float(first)
        return [track.at(time_s) for track in sorted(self._followed, key=lambda t: t.id) if track.id]

    def _lives(self, track: _Followed, time_s: float) -> bool:
        """A face that was seen once and not shown yet, or never surely, ends with its first miss."""
        missed_s = time_s - track.seen_s
        sure = track.id > 0 and (track.sightings > 1 or track.opacity > 0)
        lost_s = time_s - max(track.seen_s, track.hidden_s)
        return missed_s == 0 or (
            sure and lost_s < self.max_missed_s and missed_s < self.max_missed_s + HIDDEN_S
        )

    def _faded(self, track: _Followed, time_s: float, step_s: float) -> float:
        step = _share(step_s, self.fade_s)
        if track.id == 0:
            return 0.0
        if track.seen_s == time_s:
            return min(1.0, track.opacity + step)
        if track.hidden_s == time_s:
            return max(0.0, track.opacity - step)
        return min(track.opacity, _share(self.max_missed_s - (time_s - track.seen_s), self.fade_s))


class _Followed:
    """A face that is being followed, and what is known of it."""

    def __init__(self, time_s: float, face: Face) -> None:
        self.id = 0  # until it is sure
        self.opacity = 0.0
        self.sightings = 0
        self.hidden_s = -math.inf  # when it was last behind a face that was seen
        self.first_s = time_s
        self.steady = OneEuro()
        self.see(time_s, face)

    def see(self, time_s: float, face: Face) -> None:
        corners = face.box.reshape(2, 2)
        points = self.steady(time_s, np.vstack([face.landmarks, corners]), face.size_px).astype(np.float32)
        self.face = Face(box=points[5:].reshape(4), landmarks=points[:5], score=face.score)
        self.seen_s = time_s
        self.sightings += 1

    def expected(self, time_s: float) -> tuple[Face, float]:
        """Where to look for it, and how far around that, px."""
        missing_s = time_s - self.seen_s
        face = self._moved(missing_s)
        return face, face.size_px * min(MOST_REACH, REACH + REACH_A_SECOND * missing_s)

    def behind(self, seen: Sequence[Face], time_s: float) -> bool:
        here = self._moved(time_s - self.seen_s).box
        return any(float(_overlap(here, face.box)) > COVERED for face in seen)

    def shown(self, time_s: float) -> Face:
        """Where to show it: one that is not seen slows down, for a wrong guess must not run away."""
        return self._moved(COAST_S * -math.expm1((self.seen_s - time_s) / COAST_S))

    def _moved(self, duration_s: float) -> Face:
        shift = (self.steady.velocity.mean(axis=0) * duration_s).astype(np.float32)
        return _shifted(self.face, shift)

    def at(self, time_s: float) -> FaceTrack:
        return FaceTrack(
            id=self.id,
            face=self.shown(time_s),
            time_s=time_s,
            age_s=time_s - self.first_s,
            missed_s=time_s - self.seen_s,
            opacity=self.opacity,
        )


def distinct(faces: Sequence[Face]) -> list[Face]:
    """The faces, best score first, without those that are a better one found twice.

    Two findings are one face when their landmarks lie on each other; boxes of two people may overlap.
    """
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, *face.box.tolist())):
        if all(_distance(face, better) > SAME_FACE * max(face.size_px, better.size_px) for better in kept):
            kept.append(face)
    return kept


def _pairs(expected: Sequence[tuple[Face, float]], found: Sequence[Face]) -> dict[int, int]:
    """Which of those expected is which of those found: the assignment of least total cost.

    The cost of a pair is 1 - IoU of the boxes, and the rms distance of the landmarks in sizes.
    """
    if not expected or not found:
        return {}
    known = [face for face, _ in expected]
    reach_px = np.array([[px] for _, px in expected])
    points, other_points = (np.stack([face.landmarks for face in faces]) for faces in (known, found))
    sizes, other_sizes = (np.array([face.size_px for face in faces]) for faces in (known, found))
    boxes, other_boxes = (np.stack([face.box for face in faces]) for faces in (known, found))
    distances_px = np.sqrt(((points[:, None] - other_points) ** 2).sum(axis=3).mean(axis=2))
    larger = np.maximum(sizes[:, None], other_sizes)
    smaller = np.minimum(sizes[:, None], other_sizes)
    costs = 1.0 - _overlap(boxes[:, None], other_boxes) + distances_px / larger
    costs[(distances_px > reach_px) | (larger > GROWTH * smaller)] = NEVER
    rows, columns = linear_sum_assignment(costs)
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if costs[i, j] < NEVER}


def between(
    before: Sequence[FaceTrack], after: Sequence[FaceTrack], time_s: float, *, fade_s: float = FADE_S
) -> list[FaceTrack]:
    """The tracks at a moment between two searches that followed each other in one shot.

    A face of both moves by the similarity between its two sets of landmarks, taken in part (turn and
    growth at a steady rate), and what that leaves over in proportion. One that is only in `before` fades out
    where it was; one that is only in `after` was fading in.

    Args:
        before, after: what `Tracker.update` returned; time_s: from the one's to the other's.
        fade_s: as the tracker's.

    Returns:
        Those with an opacity above 0, by id.
    """
    ends = {track.id: track for track in after}
    starts = {track.id for track in before}
    tracks = [
        _blended(track, ends[track.id], time_s) if track.id in ends else _alone(track, time_s, fade_s)
        for track in before
    ]
    tracks += [_alone(track, time_s, fade_s) for track in after if track.id not in starts]
    return sorted((track for track in tracks if track.opacity > 0), key=lambda track: track.id)


def _alone(track: FaceTrack, time_s: float, fade_s: float) -> FaceTrack:
    opacity = max(0.0, track.opacity - _share(abs(time_s - track.time_s), fade_s))
    later_s = time_s - track.time_s
    return replace(
        track,
        time_s=time_s,
        age_s=max(0.0, track.age_s + later_s),
        missed_s=max(0.0, track.missed_s + later_s),
        opacity=opacity,
    )


def _blended(before: FaceTrack, after: FaceTrack, time_s: float) -> FaceTrack:
    share = min(1.0, max(0.0, _share(time_s - before.time_s, after.time_s - before.time_s)))

    def mix(name: str) -> float:
        return float((1 - share) * getattr(before, name) + share * getattr(after, name))

    face = Face(
        box=(1 - share) * before.face.box + share * after.face.box,
        landmarks=_moved_in_part(before.face.landmarks, after.face.landmarks, share),
        score=min(1.0, mix("score")),
    )
    return FaceTrack(before.id, face, time_s, mix("age_s"), mix("missed_s"), min(1.0, mix("opacity")))


def _moved_in_part(before: Points, after: Points, share: float) -> Points:
    """(5, 2) and (5, 2) to (5, 2): at a share of 0 the first, at 1 the second."""
    a, b = (np.ascontiguousarray(p, dtype=np.float64).view(np.complex128)[:, 0] for p in (before, after))
    a_mean, b_mean = a.mean(), b.mean()
    a, b = a - a_mean, b - b_mean
    product, size = np.vdot(a, b), np.linalg.norm(a)
    # Turn and growth as one complex factor; faces that have none in common move in straight lines.
    factor = product / size**2 if abs(product) > 1e-3 * size * np.linalg.norm(b) else 1.0
    shape = a + share * (b / factor - a)
    moved = (1 - share) * a_mean + share * b_mean + np.exp(share * np.log(factor + 0j)) * shape
    return np.stack([moved.real, moved.imag], axis=1).astype(np.float32)


def select(
    tracks: Sequence[FaceTrack],
    how: str = "all",
    *,
    min_face_px: float = 0.0,
    max_faces: int | None = None,
    previous: Collection[int] = (),
) -> list[FaceTrack]:
    """The tracks that are to be restored.

    Args:
        tracks: of one picture; those with opacity 0 are left out.
        how: "all"; "largest"; a number: the face at that place from the left, from 0; "id:3": that track.
        min_face_px: the least width of a face's box.
        max_faces: the most faces; larger ones first.
        previous: the ids chosen in the picture before, so that one of two like faces stays chosen: of those
            "largest" and `max_faces` choose by size, a chosen one is left for one a fifth larger.

    Returns:
        By id.

    Raises:
        OptionError: another `how`, a negative size, or a count below 1.
    """
    if min_face_px < 0 or (max_faces is not None and max_faces < 1):
        raise OptionError(f"faces are 0 px or more and 1 or more, got {min_face_px} px and {max_faces}")
    shown = [track for track in tracks if track.opacity > 0 and track.face.width_px >= min_face_px]
    shown.sort(key=lambda track: -track.face.size_px * (STICKY if track.id in previous else 1.0))
    if how == "largest":
        shown = shown[:1]
    elif how.startswith("id:") and how[3:].isdecimal():
        shown = [track for track in shown if track.id == int(how[3:])]
    elif how.isdecimal():
        places = sorted(shown, key=lambda track: float(track.face.box[0] + track.face.box[2]))
        shown = places[int(how) : int(how) + 1]
    elif how != "all":
        raise OptionError(f"faces are chosen by all, largest, a number from 0 or id:NUMBER, got {how!r}")
    return sorted(shown[:max_faces], key=lambda track: track.id)


def _shifted(face: Face, shift: NDArray[np.float32]) -> Face:
    return replace(face, box=face.box + np.tile(shift, 2), landmarks=face.landmarks + shift)


def _distance(a: Face, b: Face) -> float:
    """Rms distance of their landmarks, px."""
    return float(np.sqrt(((a.landmarks - b.landmarks) ** 2).sum(axis=1).mean()))


def _overlap(a: Points, b: Points) -> NDArray[np.float64]:
    """Intersection over union of boxes (..., 4); 0 where both are empty."""
    inner = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    common = inner.prod(axis=-1, dtype=np.float64)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1, dtype=np.float64) for box in (a, b)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-9))


def _share(part_s: float, whole_s: float) -> float:
    """In [0, 1]; all of nothing is 1."""
    return min(1.0, max(0.0, part_s / whole_s)) if whole_s > 0 else float(part_s >= 0)
