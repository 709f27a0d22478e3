"""Tracks: which face is where in a file, found once, edited by a person, and given to any later run.

    tracks = gpenvideo.analyse_video("film.mkv")
    tracks = tracks.edited(3, skip=True).edited(5, strength=0.6, weights="GPEN-BFR-512")
    gpenvideo.restore_video("film.mkv", "restored.mkv", tracks=tracks)

Times are ticks of the stream as the file has them, whichever part of it is read.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.face import LANDMARKS
from gpenvideo.tracks.pictures import Seen

__all__ = ["FACE", "Source", "Track", "Tracks"]

FACE = np.dtype(
    [
        ("pts", np.int64),
        ("box", np.float32, (4,)),
        ("landmarks", np.float32, (len(LANDMARKS), 2)),
        ("opacity", np.float64),
        ("score", np.float64),
        ("missed_s", np.float64),
    ]
)
"""A face in one frame: when, where (px of the upright picture in square pixels), see `FaceTrack`."""


@dataclass(frozen=True, slots=True)
class Source:
    """What tells the stream that was analysed from any other."""

    name: str
    """Of the file; a file may be moved and given another."""

    bytes: int | None
    """Of the file; None for an image sequence."""

    stream: int | None
    """Its index in the file; None for an image sequence."""

    size_px: tuple[int, int]
    """Width and height of the upright picture in square pixels."""

    time_base: Fraction
    frames: int | None
    """As the container says; None where it does not."""

    def check(self, other: Source) -> None:
        """OptionError where `other` is plainly another stream."""
        what = {"bytes": "bytes", "stream": "the stream", "size_px": "the size", "time_base": "the time base",
                "frames": "the number of frames"}  # fmt: skip
        for field, name in what.items():
            ours, theirs = getattr(self, field), getattr(other, field)
            if ours != theirs:
                raise OptionError(
                    f"these tracks are of another file, {self.name!r}: {name} {_plain(ours)}, and not "
                    f"{_plain(theirs)} as in {other.name!r}; make them anew with `gpenvideo tracks`"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One face through a shot, frame by frame, and what a person wants of it.

    Raises:
        OptionError: values outside their ranges, frames that do not follow each other.
    """

    id: int
    person: int
    """The same number is the same person; 0 is nobody known."""

    faces: NDArray[Any]
    """(N,) of `FACE`, pts rising; copied, read-only."""

    skip: bool = False
    """Leave this face as it is."""

    strength: float = 1.0
    """How much of the restored face is taken, in [0, 1]; times that of the run."""

    weights: str | None = None
    """The restorer of this face, a path or a name; None is that of the run."""

    def __post_init__(self) -> None:
        faces = np.array(self.faces, FACE, ndmin=1)
        faces.flags.writeable = False
        object.__setattr__(self, "faces", faces)
        problem = _problem(faces)
        if self.id < 1 or self.person < 0:
            problem = f"an id is 1 or more, a person 0 or more, got {self.person}"
        elif not 0.0 <= self.strength <= 1.0:
            problem = f"a strength lies in [0, 1], got {self.strength}"
        elif self.weights == "":
            problem = "weights are a path, a name or null, got an empty name"
        if problem:
            raise OptionError(f"track {self.id}: {problem}")

    def __repr__(self) -> str:
        return (
            f"Track({self.id}, person {self.person}, {len(self.faces)} frames, pts {self.first_pts} to "
            f"{self.last_pts}, skip {self.skip}, strength {self.strength}, weights {self.weights})"
        )

    @property
    def first_pts(self) -> int:
        return int(self.faces["pts"][0])

    @property
    def last_pts(self) -> int:
        return int(self.faces["pts"][-1])


def _problem(faces: NDArray[Any]) -> str | None:
    """What is wrong with some frames of a track; None is nothing."""
    if not len(faces) or (np.diff(faces["pts"]) <= 0).any():
        return "pts are one or more ticks that rise"
    for name in (FACE.names or ())[1:]:
        values = faces[name]
        if not np.isfinite(values).all():
            return f"{name} must be finite"
        if name in ("opacity", "score") and (values.min() < 0 or values.max() > 1):
            return f"{name} lies in [0, 1]"
    if (faces["box"][:, :2] > faces["box"][:, 2:]).any():
        return "a box is (left, top, right, bottom)"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The shots and tracks of a stream, or of a part of it.

    Raises:
        OptionError: pts that do not rise or lie outside the part, an id twice, a track across a cut.
    """

    source: Source
    first_pts: int
    """Of the first frame that was analysed."""

    last_pts: int
    frames: int
    """How many were analysed."""

    shots: tuple[int, ...]
    """The pts of each shot's first frame."""

    tracks: tuple[Track, ...]
    """By id."""

    pictures: tuple[Seen, ...] = ()
    """What was decoded, where it was taken down."""

    def __post_init__(self) -> None:
        tracks = tuple(sorted(self.tracks, key=lambda track: track.id))
        object.__setattr__(self, "tracks", tracks)
        if self.frames < 1 or self.first_pts > self.last_pts:
            raise OptionError(f"tracks are of 1 frame or more, got {self.frames} from {self.first_pts} on")
        if any(b <= a for a, b in pairwise(self.shots)):
            raise OptionError("the shots' pts must rise")
        for track, following in pairwise(tracks):
            if track.id == following.id:
                raise OptionError(f"track {track.id} is there twice")
        for track in tracks:
            if track.first_pts < self.first_pts or track.last_pts > self.last_pts:
                part = f"{self.first_pts} to {self.last_pts}"
                raise OptionError(f"track {track.id}: its pts lie outside {part}")
            if self.shot(track) != bisect_right(self.shots, track.last_pts):
                raise OptionError(f"track {track.id} goes on after a cut")

    def __repr__(self) -> str:
        return f"Tracks({self.source.name!r}, {self.frames} frames, {len(self.shots)} shots, {self.tracks})"

    def shot(self, track: Track) -> int:
        """The number of the shot that a track is in, from 1."""
        return bisect_right(self.shots, track.first_pts)

    def time_s(self, pts: int) -> float:
        """Seconds of the source's own time."""
        return float(int(pts) * self.source.time_base)

    def edited(
        self, id: int, *, skip: bool | None = None, strength: float | None = None, weights: str | None = None
    ) -> Tracks:
        """The same with another wish for one track; None leaves a wish as it is. OptionError: no such id."""
        wishes = {"skip": skip, "strength": strength, "weights": weights}
        changes: dict[str, Any] = {name: value for name, value in wishes.items() if value is not None}
        if all(track.id != id for track in self.tracks):
            raise OptionError(f"there is no track {id}")
        tracks = [replace(track, **changes) if track.id == id else track for track in self.tracks]
        return replace(self, tracks=tuple(tracks))

    @property
    def edits(self) -> dict[int, dict[str, Any]]:
        """What differs from "restore as the run says", by track id: for reports."""
        usual = {"skip": False, "strength": 1.0, "weights": None}
        wishes = {t.id: {name: getattr(t, name) for name in usual} for t in self.tracks}
        return {id: wish for id, wish in wishes.items() if wish != usual}


def _plain(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
