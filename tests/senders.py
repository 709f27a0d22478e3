"""Live sources for tests: numbered pictures, encoded as they are sent, over real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
from clips import scene_frame

from gpenvideo.frame import Frame
from gpenvideo.video.description import colour_of
from gpenvideo.video.pixels import to_frame

Picture = Callable[[int], av.VideoFrame]

BITS, SQUARE_PX = 16, 8
OPTIONS = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "threads": "1", "crf": "20"},
    "mjpeg": {"qscale": "3"},
}


def numbered(picture: Picture) -> Picture:
    """The pictures (yuv420p) with their number in the top rows: squares of 8 px, white is 1."""

    def make(number: int) -> av.VideoFrame:
        frame = picture(number)
        copy = av.VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
        copy.color_range, copy.colorspace = frame.color_range, frame.colorspace
        luma = np.ndarray((SQUARE_PX, copy.width), np.uint8, copy.planes[0], 0, (copy.planes[0].line_size, 1))
        for bit in range(BITS):
            luma[:, bit * SQUARE_PX : (bit + 1) * SQUARE_PX] = 225 if number >> bit & 1 else 30
        return copy

    return make


def number_of(frame: Frame) -> int:
    """The number that `numbered` put into a frame."""
    rows = frame.planes[0][2 : SQUARE_PX - 2, : BITS * SQUARE_PX].astype(float)
    squares = rows.reshape(len(rows), BITS, SQUARE_PX)[:, :, 2:-2].mean(axis=(0, 2))
    return sum(1 << bit for bit, level in enumerate(squares) if level > 128)


def scene(number: int, size: tuple[int, int] = (160, 120)) -> av.VideoFrame:
    """A moving picture without a face."""
    return scene_frame("yuv420p", size, number)


def frame_of(number: int, size: tuple[int, int] = (160, 120), pix_fmt: str = "yuv420p") -> Frame:
    """A numbered frame of a moving picture, 30 a second; not numbered in other formats than yuv420p."""
    plain = pix_fmt == "yuv420p"
    picture = numbered(lambda n: scene(n, size))(number) if plain else scene_frame(pix_fmt, size, number)
    return to_frame(picture, colour_of(picture, "h264")[0], 9000 + number * 3000, Fraction(1, 90000))


class Sender:
    """A server that sends a live stream to whoever connects; `url` is where.

    `stalled` makes it send nothing, with the connection open; `die` closes the connection and the port;
    `live_again` opens the port again. The numbers of the pictures go on, as time does; `sent_s` says when
    each one went to the encoder, by `time.monotonic()`.
    """

    def __init__(
        self,
        picture: Picture | None = None,
        *,
        rate_hz: int = 30,
        codec: str = "libx264",
        format: str = "mpegts",
        http: bool = False,
        pix_fmt: str = "yuv420p",
        frames: int | None = None,
    ) -> None:
        self.picture = picture or numbered(scene)
        self.rate_hz, self.codec, self.format, self.http = rate_hz, codec, format, http
        self.pix_fmt, self.frames = pix_fmt, frames
        self.sent_s: dict[int, float] = {}
        self.connections = 0
        self.stalled = threading.Event()
        self._begun_s = time.monotonic()
        self._dead = threading.Event()
        self._socket: socket.socket | None = None
        self.port = 0
        self.live_again()

    @property
    def url(self) -> str:
        return f"{'http' if self.http else 'tcp'}://127.0.0.1:{self.port}{'/live' if self.http else ''}"

    def live_again(self) -> None:
        """Listen, on the port that it had."""
        self._dead = threading.Event()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen()
        self.port, self._socket = listening.getsockname()[1], listening
        self._thread = threading.Thread(target=self._serve, args=(listening, self._dead), daemon=True)
        self._thread.start()

    def die(self) -> None:
        """Close everything, and wait until it is closed."""
        self._dead.set()
        assert self._socket is not None
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._dead.is_set():
            self.die()

    def _serve(self, listening: socket.socket, dead: threading.Event) -> None:
        serving: list[threading.Thread] = []
        while not dead.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                break
            self.connections += 1
            serving = [thread for thread in serving if thread.is_alive()]
            serving.append(threading.Thread(target=self._attend, args=(connection, dead), daemon=True))
            serving[-1].start()
        for thread in serving:
            thread.join()

    def _attend(self, connection: socket.socket, dead: threading.Event) -> None:
        with connection, contextlib.suppress(OSError, av.FFmpegError):
            connection.settimeout(5.0)
            if self.http:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
            self._send(Wire(connection), dead)

    def _send(self, out: Any, dead: threading.Event) -> None:
        first = self.picture(0)
        with av.open(out, "w", format=self.format, options={"flush_packets": "1"}) as container:
            stream = container.add_stream(self.codec, rate=self.rate_hz, options=OPTIONS.get(self.codec, {}))
            stream.width, stream.height, stream.pix_fmt = first.width, first.height, self.pix_fmt
            if self.codec == "libx264":
                stream.codec_context.gop_size = self.rate_hz
            for number in self._numbers(dead):
                frame = self.picture(number)
                frame.pts, frame.time_base = number, Fraction(1, self.rate_hz)
                self.sent_s[number] = time.monotonic()
                container.mux(stream.encode(frame))

    def _numbers(self, dead: threading.Event) -> Iterator[int]:
        """The numbers that are due, each when it is; those of a stall are left out."""
        for count in range(self.frames or 1 << 30):
            number = int((time.monotonic() - self._begun_s) * self.rate_hz) + 1
            if dead.wait(max(0.0, self._begun_s + number / self.rate_hz - time.monotonic())):
                return
            if not self.stalled.is_set():
                yield number if self.frames is None else count


class Wire:
    """A socket as a file that is only written to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)


def into_pipe(pictures: Iterator[av.VideoFrame], codec: str, format: str, **options: str) -> tuple[int, Any]:
    """Pictures into a pipe, by a thread: the end to read from, and the thread."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(OSError), os.fdopen(writing, "wb", buffering=0) as file:
            out = None
            for number, frame in enumerate(pictures):
                if out is None:
                    out = av.open(Sequential(file), "w", format=format)
                    stream: Any = out.add_stream(codec, rate=30, options=dict(options))
                    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                frame.pts, frame.time_base = number, Fraction(1, 30)
                out.mux(stream.encode(frame))
            if out is not None:
                out.mux(stream.encode(None))
                out.close()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return reading, thread


class Sequential:
    """A file that cannot be sought in."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return int(self._file.write(data))


def options_of(size: tuple[int, int], rate_hz: int, pix_fmt: str) -> Mapping[str, str]:
    """What the rawvideo demuxer has to be told, as v4l2 is asked for it."""
    return {"video_size": f"{size[0]}x{size[1]}", "framerate": str(rate_hz), "pixel_format": pix_fmt}
