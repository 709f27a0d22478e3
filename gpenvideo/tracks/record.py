"""Recording: the shots and tracks that an analysis finds, taken down while they pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gpenvideo.analysis import Analysed
from gpenvideo.errors import MediaError, OptionError
from gpenvideo.picture import Picture, write_picture
from gpenvideo.place import check_place
from gpenvideo.tracks.document import FACE, Source, Track, Tracks
from gpenvideo.tracks.file import write_tracks
from gpenvideo.tracks.pictures import Pictures, Seen
from gpenvideo.tracks.sheet import ContactSheet
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.timing import as_ticks

__all__ = ["Record", "source_of"]

Analysing = Callable[[Iterable[Any]], Iterator[Any]]


class Record:
    """Takes down the shots and tracks of a file, and writes them with a contact sheet beside them.

    Args:
        reader: of the file.
        path: a .json file; the sheet gets the same name with .png. None writes nothing.
        taken: files that may not be written over, beside the one that is read.
        pictures: whether the pictures are taken down too, by their checksums.

    Raises:
        OptionError: a path that would replace another file, or is no .json. FileError: it cannot be written.
    """

    def __init__(
        self,
        reader: VideoReader,
        path: str | PathLike[str] | None,
        *taken: str | PathLike[str],
        pictures: bool = False,
    ) -> None:
        self._path = None if path is None else Path(path)
        self._source, self._reader_path = source_of(reader), reader.path
        self._shift = as_ticks(reader.shift_s, reader.info.time_base)
        self._frames = self._first = self._last = 0
        self._shots: list[int] = []
        self._persons: dict[int, int] = {}
        self._faces: dict[int, bytearray] = defaultdict(bytearray)  # of FACE: 88 bytes a frame and face
        self._pictures = Pictures(reader.info.time_base) if pictures else None
        self._seen: list[Seen | None] = []
        self._sheet = None
        if self._path is not None:
            if self._path.suffix.lower() != ".json":
                raise OptionError("tracks are written to a file that is called .json", path=path)
            for place in (self._path, self.sheet_path):
                check_place(place, reader.path, *taken)
            self._sheet = ContactSheet(reader.info, float(reader.shift_s))

    def of(self, analysis: Analysing) -> Analysing:
        """An analysis that gives the same, and is taken down."""
        return lambda items: self._watched(analysis(items))

    def _watched(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, Analysed):
                self._take(item)
            yield item

    def _take(self, analysed: Analysed) -> None:
        pts = analysed.frame.pts + self._shift
        self._first, self._last = self._first if self._frames else pts, pts
        self._frames += 1
        if analysed.starts_shot:
            self._shots.append(pts)
        if self._pictures:
            self._seen.append(self._pictures.take(pts, analysed.frame, starts_shot=analysed.starts_shot))
        for track in analysed.tracks:
            face = track.face
            row = (pts, face.box, face.landmarks, track.opacity, track.score, track.missed_s)
            self._faces[track.id] += np.array(row, FACE).tobytes()
            self._persons[track.id] = track.person or self._persons.get(track.id, 0)
        if self._sheet:
            self._sheet.take(analysed)

    @property
    def sheet_path(self) -> Path:
        """Of the contact sheet."""
        return (self._path or Path()).with_suffix(".png")

    def finish(self) -> Tracks:
        """What passed, which is written now. MediaError: nothing did. FileError."""
        if not self._frames:
            raise MediaError("that part of it has no pictures", path=self._reader_path)
        tracks = [
            Track(id, self._persons[id], np.frombuffer(faces, FACE)) for id, faces in self._faces.items()
        ]
        if self._pictures:
            self._seen.append(self._pictures.finish())
        shots, seen = tuple(self._shots), tuple(filter(None, self._seen))
        made = Tracks(self._source, self._first, self._last, self._frames, shots, tuple(tracks), seen)
        if self._path and self._sheet:
            write_picture(Picture(self._sheet.draw()), self.sheet_path)
            write_tracks(made, self._path)
        return made


def source_of(reader: VideoReader) -> Source:
    """What tells the stream of a reader from others."""
    info, file = reader.info, reader.container is not None
    return Source(
        name=reader.path.name,
        bytes=reader.path.stat().st_size if file else None,
        stream=reader.stream.index if file else None,
        size_px=info.upright_size,
        time_base=info.time_base,
        frames=info.frames,
    )
