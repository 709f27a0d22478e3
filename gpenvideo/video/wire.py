"""Wire: a device or a stream that FFmpeg opens, as decoded pictures with the moments they came."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Mapping
from fractions import Fraction
from typing import Any

import av

from gpenvideo.errors import FileError, FileMissing, GpenvideoError, MediaError
from gpenvideo.frame import Colour, Frame, StreamInfo
from gpenvideo.video.description import colour_of, describe
from gpenvideo.video.pixels import to_frame
from gpenvideo.video.timing import steady_rate

__all__ = ["TICKS_HZ", "LiveClock", "Wire"]

TICKS_HZ = 90_000  # MPEG's
QUICK = {"analyzeduration": "500000", "max_pixels": str(1 << 28)}
OF_SCHEME = {"rtsp": {"rtsp_transport": "tcp"}, "udp": {"overrun_nonfatal": "1", "fifo_size": "50000"}}
DRIFT = 1e-3  # of a second a second: how fast the source's clock may fall behind ours
GAP_S = 0.5  # between two frames, more than their timestamps say: the source paused
LATE_S, VERY_LATE_S, CAUGHT_UP_S = 0.5, 1.0, 0.1
COUNTED = {"rawvideo", "image2pipe", "yuv4mpegpipe"}  # what has times, but of its own counting
NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS: the same
AT_ONCE_S, MOST_AT_ONCE = 1e-3, 3  # packets that were there already, in a row: there are more of them
MOST_FAILURES = 64  # of packets in a row
AWAITED_S = 0.005


class LiveClock:
    """When the frames of a live source are: by its own timestamps, laid on the clock on the wall.

    Arrival jitters, timestamps do not; but they may jump, drift, or be missing. The frame that came the
    quickest says how the two clocks lie to each other.

    Args:
        origin_s: the moment by `time.monotonic()` that is tick 0.
    """

    def __init__(self, origin_s: float) -> None:
        self.lag_s = 0.0
        """How much later than the quickest one the last frame came: what waits on the way to us."""
        self._origin_s = origin_s
        self._quickest_s: float | None = None
        self._came_s = origin_s
        self._source_s = 0.0
        self._tick = -1

    def renew(self) -> None:
        """The source begins anew; time goes on."""
        self._quickest_s = None

    def arrive(self, source_s: float | None, came_s: float) -> None:
        """Take note of when a frame came that the source gives this time."""
        if source_s is not None:
            behind_s, quickest_s = came_s - source_s, self._quickest_s
            step_s, gap_s = source_s - self._source_s, came_s - self._came_s
            if quickest_s is None or abs(gap_s - step_s) > GAP_S:
                quickest_s = behind_s
            self._quickest_s = min(behind_s, quickest_s + DRIFT * max(0.0, gap_s))
            self.lag_s = behind_s - self._quickest_s
            self._source_s = source_s
        self._came_s = came_s

    def tick(self, source_s: float | None, came_s: float) -> int:
        """The time of a frame in ticks of 1 / TICKS_HZ s; it rises from call to call."""
        known = source_s is not None and self._quickest_s is not None
        moment_s = source_s + self._quickest_s if known else came_s  # type: ignore[operator]
        self._tick = max(self._tick + 1, round((moment_s - self._origin_s) * TICKS_HZ))
        return self._tick


class Wire:
    """One connection to a device or a stream; `frames` until it is lost.

    What is read faster than it can be decoded is decoded in part, so that nothing queues up.

    Args:
        address: a URL or a device, as FFmpeg's `format` takes it.
        clock: for the frames' times.
        format: FFmpeg's name of the input; None lets it find out.
        options: for FFmpeg, they win.
        timeout_s: how long it may take to open, and how long nothing may come.

    Raises:
        FileMissing: there is no such device. FileError: it cannot be opened. MediaError: no video comes.
    """

    def __init__(
        self,
        address: str,
        clock: LiveClock,
        *,
        format: str | None = None,
        options: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self.address, self._clock, self._timeout_s = address, clock, timeout_s
        self.passed_over = 0
        """Packets that were not decoded, because newer ones were there."""
        scheme = address.split(":", 1)[0].lower() if "://" in address else ""
        chosen = {**QUICK, **OF_SCHEME.get(scheme, {}), **dict(options or {})}
        try:
            self._container: Any = av.open(
                address, format=format, options=chosen, timeout=timeout_s, metadata_errors="replace"
            )
        except (av.FFmpegError, ValueError) as error:
            raise _told(error, address, timeout_s) from error
        try:
            self._stream = self._chosen()
            form = self._container.format
            self._is_timed = form.name not in COUNTED and not form.flags & NO_TIMESTAMPS
            self._arrivals: dict[int, float] = {}
            self._colours: dict[Any, Colour] = {}
            self._pictures = self._decoded()
            self._first: Any = next(self._pictures, None)
            if self._first is None:
                raise MediaError(f"no picture came from it in {timeout_s:g} s", path=address)
            self.info = self._described(self._first[0])
        except BaseException:
            self._container.close()
            raise

    def _chosen(self) -> Any:
        able = [stream for stream in self._container.streams.video if stream.codec_context is not None]
        if not able:
            raise MediaError("it brings no video that FFmpeg can decode", path=self.address)
        context = able[0].codec_context
        context.thread_type = "SLICE"  # threads by frame would hold some back
        context.thread_count = min(4, os.cpu_count() or 1)
        context.options = {"max_pixels": QUICK["max_pixels"]}
        return able[0]

    def _described(self, picture: Any) -> StreamInfo:
        stream = self._stream
        return describe(
            picture,
            stream.codec_context.name,
            time_base=Fraction(1, TICKS_HZ),
            rate_hz=steady_rate(stream.average_rate, stream.base_rate),
            duration_s=None,
            frames=None,
            sample_aspect=stream.sample_aspect_ratio,
            field_order=int(getattr(stream.codec_context, "field_order", 0)),
        )

    def frames(self) -> Iterator[tuple[Frame, float]]:
        """Frames and when each came, until the connection is lost or over."""
        first, self._first = self._first, None
        if first is not None:
            yield self._frame(*first)
        for picture, came_s in self._pictures:
            yield self._frame(picture, came_s)

    def close(self) -> None:
        """Let go of it; in the thread that iterates."""
        self._pictures.close()
        self._container.close()

    def _frame(self, picture: Any, came_s: float) -> tuple[Frame, float]:
        key = (picture.format.name, picture.colorspace, picture.color_range, picture.color_primaries,
               picture.color_trc, picture.height)  # fmt: skip
        if key not in self._colours:
            self._colours[key] = colour_of(picture, self._stream.codec_context.name)[0]
        tick = self._clock.tick(self._seconds(picture.pts), came_s)
        return to_frame(picture, self._colours[key], tick, Fraction(1, TICKS_HZ)), came_s

    def _seconds(self, ticks: int | None) -> float | None:
        return None if ticks is None or not self._is_timed else float(ticks * self._stream.time_base)

    def _decoded(self) -> Generator[tuple[Any, float], None, None]:
        context = self._stream.codec_context
        failures = 0
        for packet, came_s in self._wanted():
            if packet.pts is not None:
                self._arrivals[packet.pts] = came_s
            try:
                pictures = context.decode(packet)
                failures = 0
            except av.FFmpegError:
                failures += 1
                if failures > MOST_FAILURES:
                    return
                continue
            for picture in pictures:
                yield picture, self._arrivals.pop(picture.pts, came_s)
            if len(self._arrivals) > MOST_FAILURES:
                del self._arrivals[min(self._arrivals)]

    def _wanted(self) -> Iterator[tuple[Any, float]]:
        """Packets to be decoded, and when they came; where others wait behind them, some are passed over."""
        context = self._stream.codec_context
        alone, waits_for_key, at_once = context.codec.intra_only, False, 0
        queues = not self._is_timed and not self.address.startswith("pipe:")  # a pipe holds hardly anything
        for packet, waited_s in self._packets():
            came_s = time.monotonic()
            self._clock.arrive(self._seconds(packet.pts if packet.pts is not None else packet.dts), came_s)
            lag_s = self._clock.lag_s
            at_once = at_once + 1 if waited_s < AT_ONCE_S else 0
            if alone:
                if lag_s <= LATE_S and not (queues and at_once > MOST_AT_ONCE):
                    yield packet, came_s
                else:
                    self.passed_over += 1
                continue
            waits_for_key |= lag_s > VERY_LATE_S
            if waits_for_key:
                waits_for_key = lag_s > CAUGHT_UP_S or not packet.is_keyframe
            if waits_for_key:
                self.passed_over += 1
            else:
                context.skip_frame = "NONREF" if lag_s > LATE_S else "DEFAULT"
                yield packet, came_s

    def _packets(self) -> Iterator[tuple[Any, float]]:
        """Packets of the video, until the source ends, fails, or is silent for too long; what each took."""
        while True:
            begun_s = time.monotonic()
            try:
                for packet in self._container.demux():
                    if packet.stream_index == self._stream.index and packet.size:
                        yield packet, time.monotonic() - begun_s
                        begun_s = time.monotonic()
                    elif time.monotonic() - begun_s > self._timeout_s:  # there is sound, and no picture
                        return
                return
            except av.error.BlockingIOError:  # some devices say so when there is nothing yet
                time.sleep(AWAITED_S)
            except av.FFmpegError:
                return


def _told(error: Exception, address: str, timeout_s: float) -> GpenvideoError:
    scheme = address.split(":", 1)[0]
    shown = _without_password(address)
    if isinstance(error, av.error.ProtocolNotFoundError):
        return FileError(f"this build of PyAV cannot open {scheme}:// addresses", path=shown)
    if isinstance(error, av.error.FileNotFoundError):
        return FileMissing("there is no such camera: see `gpenvideo live --list`", path=shown)
    if isinstance(error, av.error.ExitError):
        return FileError(f"nothing came from it in {timeout_s:g} s", path=shown)
    if isinstance(error, OSError) and not isinstance(error, av.error.InvalidDataError):
        reason = str(getattr(error, "strerror", None) or error).lower()
        return FileError(f"cannot open it: {reason}", path=shown)
    return MediaError("it brings nothing that FFmpeg can read as video", path=shown)


def _without_password(address: str) -> str:
    """An address as it may be shown: rtsp://user:secret@camera/ has a password in it."""
    scheme, mark, rest = address.partition("://")
    head, at, tail = rest.partition("@")
    if mark and at and "/" not in head:
        return f"{scheme}://{head.split(':', 1)[0]}@{tail}"
    return address
