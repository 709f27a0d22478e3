"""Where pictures come from: a file that FFmpeg demuxes, or the files of an image sequence."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.stream import Discard

from gpenvideo.errors import FileError, GpenvideoError, MediaError, OptionError, file_error
from gpenvideo.video.description import siting_of
from gpenvideo.video.log import ReadingLog
from gpenvideo.video.part import ATTACHED_PICTURE
from gpenvideo.video.sequence import decode_still, find_pictures, missing_numbers
from gpenvideo.video.timing import as_ticks, steady_rate

__all__ = ["Copied", "FileSource", "StillSource", "open_container"]

DEFAULT_RATE_HZ = Fraction(25)
SEQUENCE_RATE_HZ = Fraction(24)
MOST_PIXELS = 1 << 28
MOST_THREADS = 16
FRAME_THREADED = {"h264", "hevc", "vvc"}  # in others a broken packet would take its neighbours with it
MOST_READ_ERRORS = 16  # in a row
REORDERED = 64  # packets that may be presented before one that comes before them
NOT_VIDEO = {"tty", "bin", "xbin", "adf", "idf"}  # text that FFmpeg would draw


class Copied(NamedTuple):
    """A packet that goes to the output as it is."""

    packet: Any
    """av.Packet; pts and dts are on the time line of the part that is read, in ticks of its `time_base`."""

    stream: Any
    """The av stream it comes from."""


def open_container(path: Path, hwaccel: Any = None) -> Any:
    """An av.InputContainer. FileError: it cannot be read. MediaError: FFmpeg finds no media in it.

    What goes wrong with an av HWAccel is raised as it is.
    """
    if path.is_fifo() or path.is_socket():
        raise FileError("it is a pipe: give a file", path=path)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise MediaError("it is empty", path=path)
    except OSError as error:
        raise file_error(error, path, "read") from error
    try:
        options = {"max_pixels": str(MOST_PIXELS)}
        container = av.open(f"file:{path}", metadata_errors="replace", options=options, hwaccel=hwaccel)
    except (av.FFmpegError, ValueError) as error:
        if hwaccel is not None:
            raise
        raise MediaError("it is no video that FFmpeg can read, or a damaged one", path=path) from error
    if container.format.name in NOT_VIDEO:
        container.close()
        raise MediaError("it is a text, no video", path=path)
    return container


class FileSource:
    """A file: `items_from` gives av.VideoFrame of the chosen stream and Copied of all others."""

    def __init__(self, path: Path, wanted: int | None, rate_hz: Fraction | None, log: ReadingLog) -> None:
        self.path, self.log = path, log
        self.container = open_container(path)
        try:
            self.stream = self._chosen(wanted)
        except BaseException:
            self.container.close()
            raise
        stream, context = self.stream, self.stream.codec_context
        context.thread_type = "AUTO" if context.name in FRAME_THREADED else "SLICE"
        context.thread_count = min(MOST_THREADS, os.cpu_count() or 1)
        context.options = {"max_pixels": str(MOST_PIXELS)}
        self.codec = str(context.name)
        self.copied = [s for s in self.container.streams if s is not stream and self._is_copied(s)]
        self.timed = stream.start_time is not None
        self.rate_hz: Fraction | None
        if self.timed:
            self.time_base: Fraction = stream.time_base
            self.origin_s = stream.start_time * stream.time_base
            self.rate_hz = steady_rate(stream.average_rate, stream.base_rate)
            if rate_hz is not None:
                log.note("It has timestamps, which are kept: the rate that was asked for is not used.")
        else:
            self.rate_hz = rate = rate_hz or steady_rate(stream.guessed_rate, None) or DEFAULT_RATE_HZ
            self.time_base, self.origin_s = 1 / rate, Fraction(0)
            log.note(f"It has no timestamps: it is read at {float(rate):.6g} frames a second.")
        self.frames = stream.frames or None
        self.sample_aspect = stream.sample_aspect_ratio
        self.siting = siting_of(stream)
        self.field_order = int(getattr(context, "field_order", 0))
        self.duration_s = self._duration_s()
        self.decodes = True
        """Whether pictures are wanted; else `items_from` goes on with packets alone."""
        self.nvdec: Any = None
        """A `gpenvideo.video.nvdec.Nvdec` that decodes, as long as it can: the pictures are `OnDevice`."""
        self._given_pts: int | None = None  # up to where it gave them before it failed
        self._whole = True

    def _chosen(self, wanted: int | None) -> Any:
        videos = [s for s in self.container.streams.video if not s.disposition & ATTACHED_PICTURE]
        if not videos:
            kinds = sorted({str(stream.type) for stream in self.container.streams}) or ["nothing"]
            raise MediaError(f"it has no video stream, only: {', '.join(kinds)}", path=self.path)
        if wanted is not None and not 0 <= wanted < len(videos):
            streams = f"{len(videos)} video stream{'s' if len(videos) > 1 else ''}"
            raise OptionError(f"it has {streams}, counted from 0: there is no {wanted}", path=self.path)
        able = [s for s in (videos if wanted is None else [videos[wanted]]) if s.codec_context is not None]
        if not able:
            raise MediaError("its video is of a codec that FFmpeg cannot decode here", path=self.path)
        return able[0]

    def _is_copied(self, stream: Any) -> bool:
        if stream.discard == Discard.all:  # the text of chapters, which are chapters already
            return False
        if stream.codec_context is not None or stream.type in ("attachment", "data"):
            return True
        self.log.note(f"Stream {stream.index} ({stream.type}) is of an unknown codec: it is left out.")
        return False

    def _duration_s(self) -> float | None:
        stream = self.stream
        if stream.duration is not None and stream.duration > 0:
            return float(stream.duration * stream.time_base)
        microseconds = self.container.duration
        return microseconds / 1e6 if microseconds is not None and microseconds > 0 else None

    def times_of(self, numbers: Sequence[int]) -> list[Fraction | None]:
        """The moments of pictures by number, in order of presentation: by a walk over the packets."""
        if not self.timed:
            return [number * self.time_base for number in numbers]
        ticks: list[int] = []
        with contextlib.closing(open_container(self.path)) as container:
            for stream in container.streams:
                if stream.index != self.stream.index:
                    stream.discard = Discard.all
            with contextlib.suppress(av.FFmpegError):
                for packet in container.demux(container.streams[self.stream.index]):
                    tick = packet.pts if packet.pts is not None else packet.dts
                    if packet.size and tick is not None and not packet.is_discard:
                        ticks.append(tick)
                    if len(ticks) > max(numbers) + REORDERED:
                        break
        ticks.sort()
        return [ticks[n] * self.time_base if n < len(ticks) else None for n in numbers]

    def items_from(self, start_s: Fraction | None) -> Iterator[Any]:
        """Pictures and packets from a key frame at or before `start_s` on; from the beginning for None."""
        found = None if start_s is None else self.items_near(start_s)
        return self._items() if found is None else found

    def items_near(self, start_s: Fraction) -> Iterator[Any] | None:
        """The same; None, and nothing is moved, where it has to be read from the beginning."""
        if not self.timed:
            return None
        away = False
        for margin_s in (Fraction(1, 2), Fraction(8)):
            if start_s - margin_s <= self.origin_s or not self._seek(start_s - margin_s):
                break
            away = True
            items, head = self._items(), []
            for item in items:
                head.append(item)
                if not isinstance(item, Copied):
                    if item.pts is not None and item.pts * self.time_base <= start_s:
                        return itertools.chain(head, items)
                    break
        if not away:
            return None
        self._seek(self.origin_s - 3600, backward=False)  # the first of all key frames
        return self._items()

    def _seek(self, moment_s: Fraction, backward: bool = True) -> bool:
        try:
            self.container.seek(as_ticks(moment_s, self.time_base), stream=self.stream, backward=backward)
        except av.FFmpegError:
            return False
        if self.nvdec:
            self.nvdec.flush()
        self.log.counts.packets = self.log.counts.decoded = 0
        self._whole, self._given_pts = False, None
        return True

    def _items(self) -> Iterator[Any]:
        stream, latest, step = self.stream, Fraction(0), Fraction(0)
        for packet in self._packets():
            if packet.dts is not None:
                end = (packet.dts + (packet.duration or 0)) * packet.time_base
                latest, step = max(latest, end), max(step, end - latest)
            if packet.stream_index != stream.index:
                yield Copied(packet, packet.stream)
                continue
            self.log.counts.packets += 1
            if packet.size and self.decodes:  # an empty one would end the decoder's work
                yield from self._decoded(packet)
        if self.decodes:
            yield from self._decoded(None)
        self._tell_early_end(latest, max(Fraction(1), step))
        if self._whole and self.container.format.name == "avi":  # others promise what edit lists take away
            for _ in range(self.log.counts.packets, self.frames or 0):
                self.log.damage("Pictures that the file promises and does not have")

    def _tell_early_end(self, latest_s: Fraction, slack_s: Fraction) -> None:
        length, start = self.container.duration, self.container.start_time
        if length is not None and self.timed:
            end_s = Fraction(length + (start or 0), 10**6)
            if latest_s + slack_s < end_s:
                self.log.damage(
                    "Ends of the file before its time", f"{float(latest_s):.2f} of {float(end_s):.2f} s"
                )

    def _packets(self) -> Iterator[Any]:
        wanted = [self.stream, *(s for s in self.copied if s.type != "attachment")]
        failures = 0
        while failures < MOST_READ_ERRORS:
            try:
                for packet in self.container.demux(wanted):
                    failures = 0
                    if packet.size or packet.dts is not None:  # else the end of a stream
                        yield packet
                return
            except av.FFmpegError as error:
                failures += 1
                self.log.counts.read_errors += 1
                self.log.damage("Breaks in the file", _reason(error))

    def _decoded(self, packet: Any) -> list[Any]:
        if self.nvdec is None:
            return self._by_software(packet)
        try:
            pictures: list[Any] = self.nvdec.decode(packet)
        except EOFError:
            return []
        except Exception as error:  # of FFmpeg, torch or the driver: the CPU can do what they cannot
            return [*self._taken_over(packet, error), *self._by_software(packet)]
        self.log.counts.decoded += len(pictures)
        return pictures

    def _taken_over(self, packet: Any, error: Exception) -> list[Any]:
        """What the GPU owes from before a packet (None: the end) that it failed at: the CPU goes on."""
        nvdec, self.nvdec = self.nvdec, None
        ticks = packet and (packet.pts if packet.pts is not None else packet.dts)
        time_s = None if ticks is None else float(ticks * self.stream.time_base)
        reason = (getattr(error, "strerror", None) or str(error)).split("\n")[0].rstrip(".")
        earlier = nvdec.left_over(packet)
        if earlier is None:
            line = f"NVDEC failed ({reason}), where the CPU cannot go on: say --decoder software"
            raise MediaError(line, path=self.path, time_s=time_s) from error
        when = "its end" if time_s is None else f"{time_s:.3f} s"
        self.log.note(f"NVDEC failed at {when} ({reason}): from there on the CPU decodes.")
        self._given_pts, late = nvdec.last_pts, []
        for one in earlier:
            with contextlib.suppress(av.FFmpegError):  # the GPU had no trouble with it
                late += self.stream.codec_context.decode(one)
        return self._new(late)

    def _new(self, pictures: list[Any]) -> list[Any]:
        """Those of pictures that were not given yet, counted."""
        given = self._given_pts
        new = [p for p in pictures if given is None or p.pts is None or p.pts > given]
        self.log.counts.decoded += len(new)
        return new

    def _by_software(self, packet: Any) -> list[Any]:
        try:
            pictures: list[Any] = self.stream.codec_context.decode(packet)
        except EOFError:
            return []
        except av.FFmpegError as error:
            self.log.counts.broken_packets += 1
            ticks = packet and (packet.pts if packet.pts is not None else packet.dts)
            time_s = None if ticks is None else float(ticks * self.stream.time_base)
            self.log.damage("Packets that could not be decoded: left out", _reason(error), time_s)
            return []
        return self._new(pictures)

    def close(self) -> None:
        self.container.close()
        self.nvdec = None


def _reason(error: av.FFmpegError) -> str:
    return str(error.strerror or "unknown error").lower().rstrip(".")


class StillSource:
    """An image sequence; a missing or broken picture leaves its place in time empty."""

    container = stream = nvdec = None
    timed = decodes = True
    origin_s = Fraction(0)
    sample_aspect = None
    siting = None
    field_order = 1

    def __init__(self, path: Path, rate_hz: Fraction | None, log: ReadingLog) -> None:
        self.log = log
        self.copied: list[Any] = []
        self.codec = ""
        self.pictures = find_pictures(path)
        self.rate_hz = rate_hz or SEQUENCE_RATE_HZ
        self.time_base = 1 / self.rate_hz
        self.frames = len(self.pictures)
        self.duration_s = float((self.pictures[-1].number - self._first + 1) * self.time_base)
        if rate_hz is None:
            log.note(f"Pictures have no frame rate: {self.rate_hz} frames a second are assumed.")
        for gap in missing_numbers(self.pictures):
            log.counts.missing_pictures += len(gap)
            numbers = f"{gap[0]}" if len(gap) == 1 else f"{gap[0]} to {gap[-1]}"
            log.damage("Gaps in the numbers of the sequence", numbers)

    @property
    def _first(self) -> int:
        return self.pictures[0].number

    def times_of(self, numbers: Sequence[int]) -> list[Fraction | None]:
        places = [picture.number - self._first for picture in self.pictures]
        return [places[n] * self.time_base if n < len(places) else None for n in numbers]

    def items_from(self, start_s: Fraction | None) -> Iterator[Any]:
        for still in self.pictures if self.decodes else ():
            place = still.number - self._first
            if start_s is not None and place * self.time_base < start_s - self.time_base:
                continue
            self.log.counts.packets += 1
            try:
                picture, codec = decode_still(still.path)
            except GpenvideoError as error:
                self.log.counts.broken_packets += 1
                what, time_s = f"{still.path.name}: {error.message}", float(place * self.time_base)
                self.log.damage("Pictures that could not be read: left out", what, time_s)
                continue
            self.codec = self.codec or codec
            self.log.counts.decoded += 1
            picture.pts, picture.dts, picture.duration = place, None, 1
            yield picture

    def items_near(self, start_s: Fraction) -> Iterator[Any]:
        return self.items_from(start_s)

    def close(self) -> None:
        pass
