"""Encoded: live frames as H.264, into a file or to a server."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import av

from gpenvideo.errors import FileError, GpenvideoError, OptionError, file_error
from gpenvideo.frame import Frame
from gpenvideo.live import relay
from gpenvideo.live.picture import described
from gpenvideo.place import check_place
from gpenvideo.video.encoders import Setup, setup
from gpenvideo.video.fitting import fit
from gpenvideo.video.pixels import to_frame, to_video_frame

if TYPE_CHECKING:
    from gpenvideo.live.session import Shown

__all__ = ["Encoded"]

CONTAINERS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".ts": "mpegts", ".flv": "flv"}
STREAMED = {  # scheme of a URL -> container
    **dict.fromkeys(("rtmp", "rtmps"), "flv"),
    **dict.fromkeys(("udp", "srt", "tcp"), "mpegts"),
    "rtsp": "rtsp",
}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
MUXING = {  # so that files are readable wherever they are cut off
    "matroska": {"cluster_time_limit": "1000"},
    "mp4": FRAGMENTS,
    "mov": FRAGMENTS,
    "flv": {"flvflags": "no_duration_filesize"},
}
KEY_EVERY_S = 2
USUAL_HZ = 30  # frames come when they come; encoders plan with this
IO_TIMEOUT_S = 5.0
FIRST_WAIT_S, MOST_WAIT_S = 0.5, 8.0  # before a server is tried again
STEADY_S = 1.0  # of a connection: it is one


class Encoded:
    """Writes what is shown into a file, or sends it to a server.

    Times are those of the frames, from 0. Frames of another size than the first are fitted into it. A file is
    written in place, so that what was recorded is there whatever happens. A server that is lost is connected
    to again, and what was shown meanwhile is not sent.

    Args:
        target: a file (.mkv, .mp4, .mov, .ts, .flv), or the URL of a server (rtmp, udp, tcp, srt, rtsp).
        crf: quality of libx264; None is 20 for a file, 23 for a server.
        options: further options of the encoder.

    Raises:
        OptionError: another suffix or scheme.
        FileError: a file that cannot be written; also by `write`.
    """

    def __init__(
        self,
        target: str | PathLike[str],
        *,
        crf: float | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.target = fspath(target)
        self.failures = 0
        """How often a server was lost, or was not there."""
        self.trouble = ""
        """Why it is not being sent, in words; "" while it is."""
        scheme = self.target.split("://", 1)[0].lower() if "://" in self.target else ""
        self.is_stream = bool(scheme)
        kinds = STREAMED if scheme else CONTAINERS
        kind = scheme or Path(self.target).suffix.lower()
        if kind not in kinds:
            raise OptionError(f"choose of {', '.join(kinds)}, not {kind!r}", path=self.target)
        if not scheme:
            check_place(self.target)
        self._format = kinds[kind]
        self._crf = crf if crf is not None else 23 if scheme else 20
        quick = {"tune": "zerolatency"} if scheme else {"bf": "0"}  # without edit lists B-frames begin late
        self._options = {**quick, **dict(options or {})}
        self._file: _Open | None = None
        self._wait_s, self._next_s, self._opened_s = FIRST_WAIT_S, 0.0, 0.0

    def __str__(self) -> str:
        """The file, or the server alone: what follows it in a URL is often a secret key."""
        if not self.is_stream:
            return self.target
        parts = urlsplit(self.target)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def write(self, shown: Shown) -> None:
        """Encode a frame; a server that is not there is tried again when the time has come."""
        if self._file is None and time.monotonic() < self._next_s:
            return
        try:
            if self._file is None:
                self._file = _Open(self.target, self._format, shown.frame, self._crf, self._options)
                self._opened_s = time.monotonic()
            self._file.write(shown.frame)
            if time.monotonic() - self._opened_s > STEADY_S:
                self._wait_s, self.trouble = FIRST_WAIT_S, ""
        except (av.FFmpegError, OSError) as error:
            self._fail(error)

    def close(self) -> None:
        """Write what is left."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except (av.FFmpegError, OSError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, GpenvideoError):
            raise error
        if not self.is_stream:
            self._file = None
            if isinstance(error, OSError) and error.errno is not None:
                raise file_error(error, self.target, "write") from error
            raise FileError(
                "cannot write it: the encoder or the container refuses", path=self.target
            ) from error
        self.failures += 1
        self.trouble = str(getattr(error, "strerror", None) or error).lower()
        self._next_s = time.monotonic() + self._wait_s
        self._wait_s = min(MOST_WAIT_S, 2 * self._wait_s)
        file, self._file = self._file, None
        if file is not None:
            file.abandon()


class _Open:
    """One file or connection, from its first frame on."""

    def __init__(
        self, target: str, format: str, first: Frame, crf: float, options: Mapping[str, str]
    ) -> None:
        self._info = replace(described(first), rate_hz=Fraction(USUAL_HZ))
        chosen = {"g": str(KEY_EVERY_S * USUAL_HZ), **options}
        self._setup: Setup = setup(
            "libx264",
            self._info,
            crf=crf,
            preset="veryfast",
            pixel_format_wanted="yuv420p",
            options=chosen,
        )
        self._begun, self._last = first.pts, -1
        self._relay = _Relayed(target, format) if "://" in target else None
        form = "flv" if self._relay else format
        muxing = {"flush_packets": "1", **MUXING.get(form, {})}
        self._container: Any = av.open(self._relay or target, "w", format=form, options=muxing)
        self._stream: Any = self._container.add_stream("libx264")
        self._setup.context(self._stream.codec_context, self._info, Fraction(USUAL_HZ))

    def write(self, frame: Frame) -> None:
        if (frame.width, frame.height) != (self._info.width, self._info.height) or (
            frame.layout != self._info.layout
        ):
            fitted = fit(to_video_frame(frame), self._info, alpha=False)
            frame = to_frame(fitted, self._info.colour, frame.pts, frame.time_base)
        picture = self._setup.conversion(frame)
        picture.pts = self._last = max(self._last + 1, frame.pts - self._begun)
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        finally:
            if self._relay is not None:
                self._relay.close()

    def abandon(self) -> None:
        """Let go of a connection that is broken."""
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()
        if self._relay is not None:
            self._relay.abandon()


class _Relayed:
    """A server as a file that is written to: through a `relay`, which may hang without harm."""

    def __init__(self, target: str, format: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", relay.__file__, target, format],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us: what is left is sent then
        )
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._pipe, self._said = self._process.stdin, self._process.stderr
        self._is_stuck = False

    def write(self, data: bytes) -> int:
        """Hand it all over, or raise ConnectionError: the relay has ended, or took nothing for a while."""
        watch = threading.Timer(IO_TIMEOUT_S, self._stop)
        watch.daemon = True
        watch.start()
        left = memoryview(data)
        try:
            while len(left):
                left = left[self._pipe.write(left) :]
        except OSError as error:
            raise ConnectionError(errno.EPIPE, self._reason()) from error
        finally:
            watch.cancel()
        return len(data)

    def _stop(self) -> None:
        self._is_stuck = True
        self._process.kill()

    def close(self) -> None:
        """End what is sent, and wait until it is."""
        self._pipe.close()
        try:
            self._process.wait(IO_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._stop()
        failed = self._process.wait() != 0
        reason = self._reason() if failed else ""
        self.abandon()
        if failed:
            raise ConnectionError(errno.EPIPE, reason)

    def abandon(self) -> None:
        """End the relay, whatever it does."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _reason(self) -> str:
        """What the relay said when it ended."""
        self._process.wait()
        if self._is_stuck:
            return f"the server took nothing in {IO_TIMEOUT_S:g} s"
        said = b"" if self._said.closed else self._said.read()
        return said.decode(errors="replace") or "the connection was lost"
