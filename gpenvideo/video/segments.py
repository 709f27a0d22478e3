"""Segments: stretches of a restored stream, encoded each by itself, to be joined without encoding again.

A segment is a NUT file with that stream alone. NUT keeps any time base exactly, but nothing before 0, no
decoding times, and not how long a picture is shown: a segment's times are shifted, and its facts, which JSON
holds, say by how much, with all else and what the encoder says ahead of its packets.
"""

from __future__ import annotations

import contextlib
import heapq
import io
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av

from gpenvideo.errors import MediaError, OptionError, file_error
from gpenvideo.video.disk import beside, put_in_place, remove_left_over
from gpenvideo.video.encoders import Encoder, Setup
from gpenvideo.video.streams import MATROSKA, held
from gpenvideo.video.targets import (
    Durations,
    check_holds,
    chosen_codec,
    encoder_stream,
    rate_hz,
    set_up,
    well_timed,
)
from gpenvideo.video.writer import Target, VideoWriter

__all__ = ["SegmentWriter", "packets"]

BUFFER_BYTES = 1 << 20
LEAD_S = 3600  # ahead of the first picture: decoding times lie there
MOST_AHEAD = 64  # pictures that any encoder holds back
HEADER_AHEAD = 0x40  # of a container's flags in FFmpeg: AVFMT_GLOBALHEADER
STAND_IN = "huffyuv"  # as which NUT takes packets of codecs that it does not know
GLOBAL_HEADER = 1 << 22  # of an encoder's: AV_CODEC_FLAG_GLOBAL_HEADER


class SegmentWriter(VideoWriter):
    """Writes frames of the restored stream into a segment; what it raises is what a VideoWriter does.

    Args:
        path: a .nut file.
        reader: the source, opened as for the whole: the encoder is set up alike for all segments.
        container: the suffix (".mkv") of the file that they will be joined in.
        encoding: as of a VideoWriter.
    """

    def __init__(self, path: str | PathLike[str], reader: Any, container: str, **encoding: Any) -> None:
        self._container = container
        super().__init__(path, reader, **encoding)

    def _target_for(self, reader: Any, codec: str | None, start_number: int) -> Target:
        self._segment = _Segment(self.path, self._container, reader, codec)
        return self._segment

    @property
    def segment(self) -> dict[str, Any]:
        """What `packets` has to know of the segment; after `finish`."""
        return self._segment.facts


class _Segment:
    """The file of a segment."""

    format = "nut"

    def __init__(self, path: Path, container: str, reader: Any, codec: str | None) -> None:
        self.path, self._reader = path, reader
        self._joined = _of_suffix(container)
        self.codec = chosen_codec(self._joined, codec)
        self.holds_hdr = self._joined.format.name in MATROSKA
        self._durations: list[list[int]] = []  # from which pts on, and how long
        self._told = Durations(reader.info)
        self._shift, self._extradata = 0, b""
        self._written = 0
        self._ahead = 0  # packets that are decoded before the first picture is shown
        self._first: list[int] = []  # pts of the first pictures
        remove_left_over(path)
        self._beside = beside(path)
        try:
            self._file = self._beside.open("xb")
        except OSError as error:
            raise file_error(error, path, "write") from error
        self._out: Any = av.open(
            self._file, "w", format="nut", buffer_size=BUFFER_BYTES, container_options=MUXING
        )

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "shift": self._shift,
            "early": self._early(),
            "durations": self._durations,
            "extradata": self._extradata.hex(),
        }

    def _early(self) -> list[int]:
        """The decoding times before the first picture: as later ones are to what is shown, as x264 has it."""
        ahead, first = self._ahead, list(self._first)
        while ahead and len(first) <= ahead:
            first.append(first[-1] + self._durations[-1][1])
        return [pts - (first[ahead] - first[0]) for pts in first[:ahead]]

    def check(self, encoder: Encoder) -> None:
        check_holds(self._joined, encoder, self.path)

    def open(self, found: Setup, first_s: Fraction, early: Sequence[Any]) -> None:
        base, name = self._reader.info.time_base, self._joined.format.name
        self._shift = round((LEAD_S - first_s) / base)
        if held(self._out, av.Codec(found.encoder.name, "w")):
            self._made = encoder_stream(self._out, found, self._reader, name)
            self._encoder = self._made.codec_context
        else:
            self._encoder = av.CodecContext.create(found.encoder.name, "w")
            set_up(self._encoder, found, self._reader, name)
            self._made = self._stand_in()
        ahead = self._joined.format.flags & HEADER_AHEAD
        self._encoder.flags = (
            self._encoder.flags | GLOBAL_HEADER if ahead else self._encoder.flags & ~GLOBAL_HEADER
        )
        self._encoder.open(strict=False)
        if self._made.codec_context is not self._encoder and self._encoder.codec_tag.isprintable():
            self._made.codec_context.codec_tag = self._encoder.codec_tag  # by which readers know it
        self._out.start_encoding()
        self._extradata = self._encoder.extradata or b""

    def _stand_in(self) -> Any:
        """The stream for packets of a codec that FFmpeg reads out of NUT, and does not write into it."""
        made = self._out.add_stream(STAND_IN, rate=rate_hz(self._reader))
        made.width, made.height, made.pix_fmt = self._encoder.width, self._encoder.height, "yuv422p"
        made.time_base = self._reader.info.time_base
        return made

    def encode(self, picture: Any, duration: int | None) -> None:
        ticks = self._told.tell(picture.pts, duration)
        if not self._durations or ticks != self._durations[-1][1]:
            self._durations.append([picture.pts, ticks])
        if len(self._first) < MOST_AHEAD:
            self._first.append(picture.pts)
        picture.pts = picture.pts + self._shift
        self._write(self._encoder.encode(picture))

    def _write(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._ahead += packet.dts < self._first[0] + self._shift
            packet.stream = self._made
            self._out.mux(packet)
            self._written += 1

    def copy(self, item: Any) -> None:
        """Segments go without the other streams."""

    def finish(self) -> None:
        self._write(well_timed(self._encoder.encode(None), self._encoder.name, self._written))
        self._out.close()
        self._file.close()
        put_in_place(self._beside, self.path)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._out.close()
        self._beside.unlink(missing_ok=True)


MUXING = {"strict": "experimental", "avoid_negative_ts": "disabled"}


def _of_suffix(suffix: str) -> Any:
    """The av.OutputContainer that a file of that suffix would be; nothing is written."""
    nowhere = io.BytesIO()
    nowhere.name = f"joined{suffix}"
    try:
        return av.open(nowhere, "w", container_options={"strict": "experimental"})
    except (av.FFmpegError, ValueError) as error:
        raise OptionError(f"there is no container for the suffix {suffix!r}") from error


def packets(path: str | PathLike[str], facts: Mapping[str, Any], time_base: Fraction) -> Iterator[Any]:
    """The packets of a segment in the order of decoding, with the times and durations that they were given.

    Args:
        path: of the segment.
        facts: `SegmentWriter.segment`.
        time_base: of the source's stream: what the packets' ticks are.

    Raises:
        MediaError: it is no segment, or a damaged one. FileError: it cannot be read.
    """
    durations = [(int(pts), int(ticks)) for pts, ticks in facts["durations"]]
    starts = [pts for pts, _ in durations]
    early, waiting = deque[int](facts["early"]), list[int]()
    try:
        with Path(path).open("rb") as file, av.open(file, format="nut") as container:
            read: Any = container
            for packet in read.demux(read.streams[0]):
                if not packet.size:
                    continue
                pts = _ticks(packet.pts * packet.time_base, time_base) - facts["shift"]
                heapq.heappush(waiting, pts)  # pictures are decoded as many ahead as there are early times
                packet.dts = early.popleft() if early else heapq.heappop(waiting)
                packet.pts, packet.time_base = pts, time_base
                packet.duration = durations[max(0, bisect_right(starts, pts) - 1)][1]
                yield packet
    except (av.FFmpegError, ValueError, TypeError, IndexError) as error:
        raise _damaged(path) from error
    except OSError as error:
        raise file_error(error, path, "read") from error


def _ticks(moment_s: Fraction, time_base: Fraction) -> int:
    ticks = moment_s / time_base
    if ticks.denominator != 1:
        raise ValueError(f"{moment_s} s is no multiple of {time_base} s")
    return int(ticks)


def _damaged(path: str | PathLike[str]) -> MediaError:
    return MediaError("it is no segment of a restored video, or a damaged one: remove it", path=path)
