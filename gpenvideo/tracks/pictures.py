"""What an analysis saw, second by second: so that a part of a run can tell whether it sees the same.

A file that is damaged, or whose key frames are not where its container says, gives other pictures to a
decoder that begins in its middle. Where that matters, pictures are compared by their checksums.
"""

from __future__ import annotations

import math
import zlib
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from gpenvideo.frame import Frame

__all__ = ["Pictures", "Seen"]

EVERY_S = 1


class Seen(NamedTuple):
    """The pictures from a moment up to the next whole second of the stream, or the next cut."""

    pts: int
    """Of the first."""

    frames: int
    crc32: int
    """Of their timestamps and samples."""


class Pictures:
    """Takes pictures down as they pass; `time_base` is seconds a tick."""

    def __init__(self, time_base: Fraction) -> None:
        self._base = time_base
        self._second: int | None = None
        self._now: Seen | None = None

    def take(self, pts: int, frame: Frame, *, starts_shot: bool) -> Seen | None:
        """A picture, with its pts in the source: gives back what was seen before, where that is finished."""
        second = math.floor(pts * self._base / EVERY_S)
        finished = self.finish() if second != self._second or starts_shot else None
        self._second = second
        before = self._now or Seen(pts, 0, 0)
        crc = zlib.crc32(b"%d" % pts, before.crc32)
        for plane in frame.planes:
            crc = zlib.crc32(np.ascontiguousarray(plane).data, crc)
        self._now = Seen(before.pts, before.frames + 1, crc)
        return finished

    def finish(self) -> Seen | None:
        """What was seen since."""
        now, self._now = self._now, None
        return now
