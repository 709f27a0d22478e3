"""Camera: devices, streams and files as frames that come in real time, with the moment each one came."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from gpenvideo.errors import GpenvideoError, OptionError
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.video.devices import device_address
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.wire import TICKS_HZ, LiveClock, Wire

__all__ = ["Camera", "Captured", "State"]

State = Literal["live", "waiting", "ended"]

QUIET_S = 1.0  # without a frame: it is waited for
FIRST_WAIT_S, MOST_WAIT_S = 0.25, 0.5  # before trying to connect again: who comes back is seen soon
BEHIND_S = 0.5  # a file that is read slower than it plays goes on from where it is


class Captured(NamedTuple):
    """A frame, and when it came."""

    frame: Frame
    captured_s: float
    """By `time.monotonic()`, when it came off the wire or the device, before it was decoded."""

    info: StreamInfo | None = None
    """Of the stream; another object is a stream that began anew. None is upright, with square pixels."""


class Camera:
    """A live source: iterating gives, once, a `Captured` for every frame, as it comes.

    A device or a stream that ends, fails or is silent for `timeout_s` is connected to again, after a quarter
    of a second and then every half second, until `close`. A file is played at its own pace, and again where
    `loop` says so. The frames' times rise throughout; their time base is 1/90000 s, and 0 is about when the
    camera was opened. Frames hold as those of a VideoReader do.

    Args:
        source: a number or a name of a device ("0", "/dev/video0"; see `devices.cameras`), a URL that FFmpeg
            opens (rtsp, rtmp, http, udp, tcp, pipe...), or a video file.
        format: FFmpeg's name of the input, where it cannot find out ("v4l2", "rawvideo", "mjpeg", ...).
        size, rate_hz: what to ask a device for; it gives what is nearest, or refuses.
        options: further options of the input by FFmpeg's names.
        loop: whether a file begins again.
        timeout_s: how long connecting may take, and how long nothing may come.

    Raises:
        OptionError: a loop of what is no file, a time-out that is not positive.
        FileError, FileMissing, MediaError: what cannot be opened at first.
    """

    def __init__(
        self,
        source: int | str | PathLike[str],
        *,
        format: str | None = None,
        size: tuple[int, int] | None = None,
        rate_hz: float | None = None,
        options: Mapping[str, str] | None = None,
        loop: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        if not timeout_s > 0:
            raise OptionError(f"a time-out is above 0 s, got {timeout_s:g} s")
        self.source = fspath(source) if isinstance(source, PathLike) else str(source)
        self.reconnects = 0
        """How often it was connected to anew, or begun again."""
        self._is_file = format is None and not isinstance(source, int) and Path(self.source).is_file()
        if loop and not self._is_file:
            raise OptionError("only a file can be played in a loop", path=self.source)
        self._loop, self._timeout_s = loop, timeout_s
        self._address, self._format, self._options = self.source, format, dict(options or {})
        if not self._is_file and "://" not in self.source and not self.source.startswith("pipe:"):
            self._address, self._format = device_address(self.source, format)
        if size is not None:
            self._options.setdefault("video_size", f"{size[0]}x{size[1]}")
        if rate_hz is not None or self._format == "avfoundation":  # which else asks for 29.97 and is refused
            self._options.setdefault("framerate", f"{rate_hz or 30:g}")
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._clock = LiveClock(time.monotonic())
        self._last_s = time.monotonic()
        self._over, self._passed_over = False, 0
        self._open: VideoReader | Wire | None = self._connected()
        self.info: StreamInfo = self._info_of(self._open)

    @property
    def passed_over(self) -> int:
        """Pictures that were not even decoded, because newer ones were there."""
        opened = self._open
        return self._passed_over + (opened.passed_over if isinstance(opened, Wire) else 0)

    @property
    def state(self) -> State:
        """Whether frames come, are waited for, or come no more."""
        if self._over or self._closed.is_set():
            return "ended"
        return "live" if time.monotonic() - self._last_s < QUIET_S else "waiting"

    def __iter__(self) -> Iterator[Captured]:
        with self._reading:
            try:
                while self._open is not None and not self._closed.is_set():
                    yield from self._captured(self._open)
                    self._open.close()
                    self._passed_over, self._open = self.passed_over, None
                    self._open = self._again()
            finally:
                self._over = True
                if self._open is not None:
                    self._open.close()

    def close(self) -> None:
        """End the iteration; from any thread. A source that is silent ends it after its time-out."""
        self._closed.set()
        if self._reading.acquire(blocking=False):
            try:
                if self._open is not None:
                    self._open.close()
            finally:
                self._reading.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connected(self) -> VideoReader | Wire:
        if self._is_file:
            return VideoReader(self.source)
        self._clock.renew()
        return Wire(
            self._address,
            self._clock,
            format=self._format,
            options=self._options,
            timeout_s=self._timeout_s,
        )

    def _info_of(self, opened: VideoReader | Wire) -> StreamInfo:
        return replace(opened.info, time_base=Fraction(1, TICKS_HZ))

    def _again(self) -> VideoReader | Wire | None:
        """The next connection; None where there is to be none."""
        if (self._is_file and not self._loop) or self._address.startswith("pipe:"):
            return None
        for attempt in itertools.count():
            wait_s = 0.0 if self._is_file else min(MOST_WAIT_S, FIRST_WAIT_S * 2**attempt)
            if self._closed.wait(wait_s):
                return None
            try:
                opened = self._connected()
            except GpenvideoError:
                if self._is_file:
                    raise
                continue
            self.reconnects += 1
            self.info = self._info_of(opened)
            return opened
        return None

    def _captured(self, opened: VideoReader | Wire) -> Iterator[Captured]:
        frames: Iterator[Any] = opened.frames() if isinstance(opened, Wire) else self._played(opened)
        info = self.info
        for frame, came_s in frames:
            if self._closed.is_set():
                return
            self._last_s = came_s
            yield Captured(frame, came_s, info)

    def _played(self, reader: VideoReader) -> Iterator[tuple[Frame, float]]:
        """The frames of a file, each when it is due."""
        begun_s: float | None = None
        for frame in reader:
            if not isinstance(frame, Frame):
                continue
            now_s = time.monotonic()
            if begun_s is None or now_s - begun_s - frame.time_s > BEHIND_S:
                begun_s = now_s - frame.time_s
            due_s = begun_s + frame.time_s
            if self._closed.wait(max(0.0, due_s - now_s)):
                return
            tick = self._clock.tick(None, due_s)
            yield replace(frame, pts=tick, time_base=Fraction(1, TICKS_HZ)), time.monotonic()
