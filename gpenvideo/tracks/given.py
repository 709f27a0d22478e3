"""Given tracks: a document in the place of an analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeVar

from gpenvideo.analysis import Analysed
from gpenvideo.face import Face, FaceTrack
from gpenvideo.frame import Frame
from gpenvideo.tracks.document import Track, Tracks
from gpenvideo.tracks.record import source_of
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.timing import as_ticks

__all__ = ["Given"]

T = TypeVar("T")


class Given:
    """Finds in `Tracks` what an `Analysis` finds in the pictures, without a detector.

    Frames that the document does not know have no faces.

    Args:
        tracks: those to be skipped are left out, a strength enters the opacity.
        reader: of the same stream, or of a part of it.

    Raises:
        OptionError: the tracks are of another stream.
    """

    def __init__(self, tracks: Tracks, reader: VideoReader) -> None:
        tracks.source.check(source_of(reader))
        self.tracks = tracks
        self._unknown = 0  # frames
        self._shift = as_ticks(reader.shift_s, reader.info.time_base)
        self._shots = frozenset(tracks.shots)
        self._rows: dict[int, list[tuple[Track, int]]] = defaultdict(list)
        for track in tracks.tracks:
            if not track.skip:
                for row, pts in enumerate(track.faces["pts"].tolist()):
                    self._rows[pts].append((track, row))

    def __call__(self, items: Iterable[Frame | T]) -> Iterator[Analysed | T]:
        """The faces of each frame; items that are no frames keep their place among them."""
        for item in items:
            yield self._analysed(item) if isinstance(item, Frame) else item

    @property
    def warnings(self) -> list[str]:
        """What is to be said of the frames so far, a sentence each."""
        if not self._unknown:
            return []
        return [f"Frames outside the part that the tracks are of, where no face is known: {self._unknown}"]

    def _analysed(self, frame: Frame) -> Analysed:
        pts = frame.pts + self._shift
        self._unknown += not self.tracks.first_pts <= pts <= self.tracks.last_pts
        faces = [self._face(track, row, frame) for track, row in self._rows.get(pts, ())]
        return Analysed(frame, faces, pts in self._shots)

    def _face(self, track: Track, row: int, frame: Frame) -> FaceTrack:
        face = track.faces[row]
        return FaceTrack(
            id=track.id,
            face=Face(face["box"], face["landmarks"], float(face["score"])),
            time_s=frame.time_s,
            age_s=float((int(face["pts"]) - track.first_pts) * frame.time_base),
            missed_s=float(face["missed_s"]),
            opacity=float(face["opacity"]) * track.strength,
            person=track.person,
        )
