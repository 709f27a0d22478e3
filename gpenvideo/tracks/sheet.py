"""The contact sheet of tracks: a row each, with the face at its beginning, middle and end."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import compose
from gpenvideo.analysis import Analysed
from gpenvideo.errors import FaceError
from gpenvideo.face import FaceTrack
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.kernels.crop import crop_as_seen

__all__ = ["ContactSheet"]

Pixels = NDArray[np.uint8]

THUMBNAIL_PX = 96
MOST_PX = 16384  # that a face may be wide to be shown
KEPT = 8  # thumbnails of a track that goes on, evenly spaced
MOST_ROWS = 240
ROWS_A_COLUMN = 24
GAP_PX, LINE_PX, TEXT_PX = 8, 17, 108  # between rows, of a line of text, of the words of a row
DARK, LIGHT = 24, 235


@dataclass(slots=True, eq=False)
class _Row:
    """A track's thumbnails, with their times in seconds: every `stride`-th of its frames, and the last."""

    id: int
    person: int = 0
    frames: int = 0
    stride: int = 1
    kept: list[tuple[float, Pixels]] = field(default_factory=list)
    last: tuple[float, Pixels] | None = None

    def take(self, time_s: float, thumbnail: Pixels) -> None:
        self.kept.append((time_s, thumbnail))
        if len(self.kept) > KEPT:
            self.kept, self.stride = self.kept[::2], 2 * self.stride

    @property
    def shown(self) -> list[tuple[float, Pixels]]:
        middle = self.kept[round((self.frames - 1) / 2 / self.stride)]
        ends = [self.kept[0], middle, self.last or self.kept[-1]]
        return list({time_s: (time_s, picture) for time_s, picture in ends}.values())


class ContactSheet:
    """Gathers thumbnails frame by frame, and draws them.

    Memory is bounded: a track that goes on has nine thumbnails at most, one that ended three; those of the
    most frames stay.

    Args:
        info: of the stream.
        shift_s: what the reader takes off the source's timestamps.
    """

    def __init__(self, info: StreamInfo, shift_s: float = 0.0) -> None:
        self._upright_from_coded = info.upright_from_coded
        self._shift_s = shift_s
        self._template = template("gpen", THUMBNAIL_PX)
        self._before: tuple[Frame, dict[int, FaceTrack]] | None = None
        self._open: dict[int, _Row] = {}  # of this shot
        self._done: list[_Row] = []
        self._seen: set[int] = set()  # the tracks of this shot
        self._tracks = 0

    def take(self, analysed: Analysed) -> None:
        """A frame and its faces; the frame is held until the next one comes."""
        if analysed.starts_shot:
            self._end_shot()
        here = {track.id: track for track in analysed.tracks}
        self._leave(here)
        for track in here.values():
            if track.id not in self._seen and len(self._open) < MOST_ROWS:
                self._open[track.id] = _Row(track.id)
            self._seen.add(track.id)
            row = self._open.get(track.id)
            if row:
                row.person = track.person or row.person
                if row.frames % row.stride == 0:
                    row.take(*self._thumbnail(analysed.frame, track))
                row.frames += 1
        self._before = analysed.frame, here

    def _leave(self, here: dict[int, FaceTrack]) -> None:
        """The last thumbnail of each face of the frame before that is not here."""
        frame, tracks = self._before or (None, {})
        for id, track in tracks.items():
            if frame is not None and id not in here and id in self._open:
                self._open[id].last = self._thumbnail(frame, track)

    def _end_shot(self) -> None:
        self._leave({})
        for row in self._open.values():
            row.kept = row.shown
        rows = [*self._done, *self._open.values()]
        self._done = heapq.nlargest(MOST_ROWS, rows, key=lambda row: row.frames)
        self._tracks += len(self._seen)
        self._before, self._open, self._seen = None, {}, set()

    def _thumbnail(self, frame: Frame, track: FaceTrack) -> tuple[float, Pixels]:
        try:
            matrix = compose(crop_from_frame(track.face.landmarks, self._template), self._upright_from_coded)
        except FaceError:
            matrix = np.zeros((2, 3))
        rgb = np.full((THUMBNAIL_PX, THUMBNAIL_PX, 3), -1, np.float32)
        if MOST_PX * math.hypot(*matrix[:, 0]) > THUMBNAIL_PX:
            rgb = crop_as_seen(frame, matrix, THUMBNAIL_PX)
        return frame.time_s + self._shift_s, np.rint((rgb + 1) * 127.5).astype(np.uint8)

    def draw(self) -> Pixels:
        """The sheet of all that was taken, (H, W, 3) uint8 RGB; rows go down, then on in the next column."""
        self._end_shot()
        rows = sorted(self._done, key=lambda row: row.id)
        columns, down = -(-len(rows) // ROWS_A_COLUMN) or 1, min(len(rows), ROWS_A_COLUMN)
        height, width = THUMBNAIL_PX + LINE_PX + GAP_PX, TEXT_PX + 3 * (THUMBNAIL_PX + 2) + 2 * GAP_PX
        sheet = np.full((LINE_PX + GAP_PX + down * height, columns * width, 3), DARK, np.uint8)
        named = f"{self._tracks} tracks" if self._tracks != 1 else "1 track"
        some = f"; the {len(rows)} of the most frames" if len(rows) < self._tracks else ""
        _write(sheet, named + some, GAP_PX, LINE_PX)
        for number, row in enumerate(rows):
            column, line = divmod(number, ROWS_A_COLUMN)
            top, left = LINE_PX + GAP_PX + line * height, GAP_PX + column * width
            _draw_row(sheet[top : top + height, left : left + width - GAP_PX], row)
        return sheet


def _draw_row(place: Pixels, row: _Row) -> None:
    person = [f"person {row.person}"] if row.person else []
    words = [f"track {row.id}", *person, f"{row.frames} frames"]
    for number, word in enumerate(words):
        _write(place, word, 0, (number + 1) * LINE_PX)
    for number, (time_s, picture) in enumerate(row.kept):
        left = TEXT_PX + number * (THUMBNAIL_PX + 2)
        place[:THUMBNAIL_PX, left : left + THUMBNAIL_PX] = picture
        _write(place, _clock(time_s), left, THUMBNAIL_PX + LINE_PX - 4)


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s, 2), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{seconds:05.2f}" if hours else f"{minutes}:{seconds:05.2f}"


def _write(place: Pixels, text: str, left: int, base: int) -> None:
    cv2.putText(place, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (LIGHT,) * 3, 1, cv2.LINE_AA)
