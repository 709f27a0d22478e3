"""What a person may ask of a file that is read, and of one that is written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from typing import Any, Self

from gpenvideo.errors import OptionError
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.timing import parse_time

__all__ = ["Decoding", "Encoding"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """Which part of a file is read, and how strictly."""

    start: float | Fraction | int | None = None
    """Seconds (float, Fraction) or a frame number (int)."""

    end: float | Fraction | int | None = None
    """The same; not included."""

    video_stream: int | None = None
    """Among the video streams, from 0; None is the first."""

    rate_hz: Fraction | None = None
    """Frames a second of image sequences and raw streams."""

    strict: bool = False
    """Whether damage in the source is an error; else it is passed over and reported."""

    @classmethod
    def parsed(
        cls,
        start: str | None = None,
        end: str | None = None,
        video_stream: int | None = None,
        rate: str | None = None,
        strict: bool = False,
    ) -> Self:
        """Of moments and a rate as people write them. OptionError: they cannot be read."""
        try:
            rate_hz = None if rate is None else Fraction(rate)
        except (ValueError, ZeroDivisionError):
            raise OptionError(f"a rate is written 25, 23.976 or 24000/1001, not {rate!r}") from None
        moments = [None if text is None else parse_time(text) for text in (start, end)]
        return cls(moments[0], moments[1], video_stream, rate_hz, strict)

    def open(self, path: str | PathLike[str]) -> VideoReader:
        """A reader of this part of a file."""
        limits: dict[str, Any] = {}
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment is not None:
                limits[f"{name}_frame" if isinstance(moment, int) else f"{name}_s"] = moment
        return VideoReader(path, stream=self.video_stream, rate_hz=self.rate_hz, strict=self.strict, **limits)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a result is written; see `gpenvideo.video.writer.VideoWriter`."""

    codec: str | None = None
    """None is libx264 where the container holds it."""

    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
