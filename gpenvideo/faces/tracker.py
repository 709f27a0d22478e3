"""Tracks: which face of one search is which of the search before, and which are shown when."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from gpenvideo.errors import OptionError
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.motion import Points, Similarity
from gpenvideo.faces.path import SMOOTHED_S, FacePath

__all__ = ["FADE_S", "KEEP", "LOOK_AHEAD_S", "START", "Tracker", "distinct", "select"]

START, KEEP = 0.9, 0.5
MAX_MISSED_S = 0.5
FADE_S = 0.2
LOOK_AHEAD_S = max(SMOOTHED_S, MAX_MISSED_S)  # what of the future smoothing and bridging want to know

REACH, REACH_A_SECOND, MOST_REACH = 0.3, 2.5, 1.5  # a face lies this near to where it is expected, sizes
GROWTH = 1.4  # and is at most this much larger or smaller
SAME_FACE = 0.3  # landmarks of a face that was found twice are nearer than this, sizes
COVERED = 0.3  # intersection over union with a face that is seen: this one is behind it
TOUCHING = 0.05  # of two faces: the flow does not tell them apart
HIDDEN_S = 1.0  # and may be missed for so much longer
STICKY = 1.2  # a chosen face is left for one that is larger by this
NEVER = 1e6


class Tracker:
    """Follows the faces of a video: `carry` to each frame, `update` where faces were searched for, then `at`.

    A track starts at a face of score `start` or more that is found more than once, and goes on with scores of
    `keep` or more. Faces of a shot's first picture are shown at once, later ones fade in. A face that is not
    found is where its motion carries it; it is lost when it was missed for `max_missed_s`, or, if it went
    behind another, a second later. A function of its calls alone.

    With a look-ahead, for files, `at` may be asked when what follows within LOOK_AHEAD_S is known: faces are
    smoothed without lag, shorter misses are bridged, and a lost face fades from where it was last found.
    Without, for live video, `at` is asked for the frame that was last carried to; a face fades at the end of
    `max_missed_s`, but at once if it went behind another.

    Args:
        look_ahead: whether for files.
        start, keep: scores, 0 <= keep <= start <= 1; the detector's threshold should be `keep`.
        max_missed_s: how long a face may be missed.
        fade_s: how long it takes to appear or disappear; 0 is at once.

    Raises:
        OptionError: a value outside its range.
    """

    def __init__(
        self,
        *,
        look_ahead: bool = True,
        start: float = START,
        keep: float = KEEP,
        max_missed_s: float = MAX_MISSED_S,
        fade_s: float = FADE_S,
    ) -> None:
        if not 0.0 <= keep <= start <= 1.0:
            raise OptionError(f"scores are 0 <= keep <= start <= 1, got keep {keep} and start {start}")
        if not (0 <= max_missed_s <= LOOK_AHEAD_S and fade_s >= 0):
            raise OptionError(f"misses last 0 to {LOOK_AHEAD_S} s, got {max_missed_s} s; or fades {fade_s} s")
        self.look_ahead = look_ahead
        self.start, self.keep = start, keep
        self.max_missed_s, self.fade_s = max_missed_s, fade_s
        self._last_id = 0
        self.reset()

    def reset(self) -> None:
        """A cut: every track ends. Ids go on counting."""
        self._paths: list[FacePath] = []
        self._searched_s: list[float] = []  # of this shot, those that are still to be asked for
        self._begun_s = math.inf  # the first of them all
        self._carried_s = self._shown_s = -math.inf

    def carry(
        self, time_s: float, motion: Callable[[Points, Similarity], Similarity | None] = lambda *_: None
    ) -> None:
        """Go on to the next frame of the shot.

        Args:
            time_s: of the frame; later than that of the call before, unless `reset` came between.
            motion: how a face moved to it, whose landmarks, (5,) complex px, were there in the frame before,
                and which moved so to get there; None where nobody knows.

        Raises:
            OptionError: a time that is not later.
        """
        if time_s <= self._carried_s:
            raise OptionError(f"time goes on: got {time_s} s after {self._carried_s} s; a cut calls reset()")
        self._carried_s = time_s
        alive = [path for path in self._paths if path.alive]
        boxes = {path: path.expected().box for path in alive}
        for path in alive:
            others = [boxes[other] for other in alive if other.id and other is not path]
            touched = any(float(_overlap(boxes[path], box)) > TOUCHING for box in others)
            seen = not (touched or path.is_missed)
            path.carry(time_s, motion(path.landmarks, path.moved) if seen else None)

    def update(self, faces: Sequence[Face]) -> None:
        """Take in what a search found in the frame that was last carried to.

        Args:
            faces: in any order; pixels of the same kind of picture in all calls.
        """
        time_s = self._carried_s
        self._searched_s.append(time_s)
        self._begun_s = min(self._begun_s, time_s)
        found = distinct([face for face in faces if face.score >= self.keep])
        alive = [path for path in self._paths if path.alive]
        sure = sum(face.score >= self.start for face in found)  # they come first
        new = self._see(time_s, found[:sure])
        new += self._see(time_s, found[sure:])
        seen = [path.face for path in alive if path.id and path.found_s[-1] == time_s]
        for path in alive:
            if path.found_s[-1] < time_s:
                path.miss(time_s, hidden=_is_behind(path.expected(), seen))
            path.alive = self._lives(path, time_s)
        self._paths += [FacePath(time_s, face) for face in new]
        self._name(len(self._searched_s) == 1 and not self.look_ahead)

    def _see(self, time_s: float, found: Sequence[Face]) -> list[Face]:
        """Give what was found to those who expect it; what is left is new.

        Sure findings are given away before the others (Zhang et al., "ByteTrack", 2022): between two who pass
        each other, a detector may see a third.
        """
        open_ = [path for path in self._paths if path.alive and path.found_s[-1] < time_s]
        pairs = _pairs([_expected(path) for path in open_], found)
        for i, j in pairs.items():
            open_[i].see(time_s, found[j])
        return [face for j, face in enumerate(found) if j not in pairs.values()]

    def finish(self) -> None:
        """The shot ends at the frame that was last carried to. Faces of its only search are shown."""
        if self._searched_s == [self._begun_s]:
            self._name(True)

    def _name(self, at_first_sight: bool) -> None:
        """Give those an id who are sure now."""
        for path in self._paths:
            if not path.id and path.best >= self.start and (path.times_found > 1 or at_first_sight):
                self._last_id += 1
                path.id, path.sure_s = self._last_id, path.found_s[-1]

    def _lives(self, path: FacePath, time_s: float) -> bool:
        """One that is not sure ends with its first miss."""
        found_s = path.found_s[-1]
        lost_s = time_s - max([found_s, *path.hidden_s[-1:]])
        return found_s == time_s or (
            path.id > 0 and lost_s < self.max_missed_s and time_s - found_s < self.max_missed_s + HIDDEN_S
        )

    def at(self, time_s: float) -> list[FaceTrack]:
        """The faces that are shown in a frame, by id. Frames are asked for in order, each once."""
        step_s, self._shown_s = time_s - self._shown_s, time_s
        step = step_s / self.fade_s if step_s < self.fade_s else 1.0
        first = max(0, bisect_right(self._searched_s, time_s) - 1)
        del self._searched_s[:first]
        around = self._searched_s[:1] if self._searched_s[0] == time_s else self._searched_s[:2]
        tracks = []
        for path in self._paths:
            if not path.has(time_s):
                continue
            change = self._target(path, time_s) - path.opacity
            path.opacity = round(path.opacity + min(step, max(-step, change)), 9)
            face = path.take(time_s, (around[0], around[-1])) if self.look_ahead else path.live()
            if path.opacity > 0:
                tracks.append(
                    FaceTrack(
                        id=path.id,
                        face=face,
                        time_s=time_s,
                        age_s=time_s - path.first_s,
                        missed_s=time_s - path.neighbours(time_s)[0],
                        opacity=path.opacity,
                    )
                )
        self._paths = [path for path in self._paths if path.alive or path.has_frames]
        return sorted(tracks, key=lambda track: track.id)

    def _target(self, path: FacePath, time_s: float) -> float:
        """How much of a face is to be shown, before it fades there."""
        ahead_s = LOOK_AHEAD_S if self.look_ahead else 0.0
        if path.sure_s > time_s + ahead_s:
            return 0.0
        found_s, next_s = path.neighbours(time_s)
        until_s = min(next_s, time_s + ahead_s)
        if any(found_s < hidden_s <= until_s for hidden_s in path.hidden_s):
            return 0.0
        if self.look_ahead:
            return float(next_s - found_s <= self.max_missed_s or found_s == time_s)
        return float(time_s - found_s <= self.max_missed_s - self.fade_s)


def _expected(path: FacePath) -> tuple[Face, float]:
    """Where to look for a face, and how far around that, px."""
    face = path.expected()
    return face, face.size_px * min(MOST_REACH, REACH + REACH_A_SECOND * path.lost_s)


def _is_behind(face: Face, seen: Sequence[Face]) -> bool:
    return any(float(_overlap(face.box, other.box)) > COVERED for other in seen)


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
        how: "all"; "largest"; a number: the face at that place from the left, from 0; "id:3": that track;
            "person:3": that person's tracks.
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
    elif how.startswith("person:") and how[7:].isdecimal():
        shown = [track for track in shown if track.person == int(how[7:])]
    elif how.isdecimal():
        places = sorted(shown, key=lambda track: float(track.face.box[0] + track.face.box[2]))
        shown = places[int(how) : int(how) + 1]
    elif how != "all":
        known = "all, largest, a number from 0, id:NUMBER or person:NUMBER"
        raise OptionError(f"faces are chosen by {known}, got {how!r}")
    return sorted(shown[:max_faces], key=lambda track: track.id)


def _distance(a: Face, b: Face) -> float:
    """Rms distance of their landmarks, px."""
    return float(np.sqrt(((a.landmarks - b.landmarks) ** 2).sum(axis=1).mean()))


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of boxes (..., 4); 0 where both are empty."""
    inner = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    common = inner.prod(axis=-1, dtype=np.float64)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1, dtype=np.float64) for box in (a, b)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-9))
