"""Visitors: pictures of a page's own camera as captured frames, each visitor with a session of its own."""

from __future__ import annotations

import logging
import struct
import threading
import time
from fractions import Fraction
from typing import Any

import av

from gpenvideo.errors import GpenvideoError, OptionError
from gpenvideo.frame import CENTRED, Colour, Frame
from gpenvideo.live.networks import Networks
from gpenvideo.live.pushed import Pushed
from gpenvideo.live.session import LiveSession, Settings
from gpenvideo.live.web.channel import Channel
from gpenvideo.video.camera import Captured
from gpenvideo.video.pixels import to_frame

__all__ = ["Visitor", "decoded"]

log = logging.getLogger(__name__)

HEADER = struct.Struct("<d")  # when it was captured, by the server's clock as the page knows it
OLDEST_S = 5.0
TICKS = Fraction(1, 1_000_000)
VP8 = Colour(matrix=6, full_range=False)
JPEG = Colour(matrix=5, full_range=True, siting=CENTRED)


class Visitor:
    """Restores what a page's camera gives, until `close`.

    Args:
        networks, settings: see `LiveSession`.
        frame_px: the most pixels of a picture.
    """

    def __init__(self, networks: Networks, settings: Settings, frame_px: int) -> None:
        self._frame_px = frame_px
        self._pushed: Pushed[Captured] = Pushed()
        self.channel = Channel(LiveSession(self._pushed, networks, settings))
        self._thread = threading.Thread(target=self._run, name="gpenvideo-visitor", daemon=True)
        self._thread.start()

    def take_picture(self, picture: Any) -> None:
        """A picture that came over WebRTC, an av.VideoFrame, captured now; one too large is left out."""
        if picture.width * picture.height <= self._frame_px and picture.format.name == "yuv420p":
            frame = to_frame(picture, VP8, picture.pts, picture.time_base)
            self._pushed.push(Captured(frame, time.monotonic()))

    def take_message(self, message: bytes) -> None:
        """A picture that came over the WebSocket: when it was captured (float64, seconds), then JPEG.

        OptionError: none, one too large, or damaged.
        """
        if len(message) <= HEADER.size:
            raise OptionError("a picture is a time and a JPEG")
        (said_s,), now_s = HEADER.unpack_from(message), time.monotonic()
        captured_s = said_s if now_s - OLDEST_S <= said_s <= now_s else now_s
        self._pushed.push(Captured(decoded(message[HEADER.size :], self._frame_px, captured_s), captured_s))

    def close(self) -> None:
        """End it, and wait."""
        self._pushed.close()
        self.channel.session.close()
        self._thread.join()

    def _run(self) -> None:
        reason = "the camera has stopped"
        try:
            for shown in self.channel.session:
                self.channel.show(shown)
        except GpenvideoError as error:
            reason = str(error)
        except Exception:
            log.exception("a visitor's session failed")
            reason = "the server failed with this camera"
        finally:
            self.channel.close(reason)


def decoded(data: bytes, most_px: int, captured_s: float) -> Frame:
    """A JPEG as a frame; one of too many pixels is not decoded.

    OptionError: no JPEG in colour, more than `most_px` pixels, or damaged.
    """
    codec = av.CodecContext.create("mjpeg", "r")
    codec.options = {"max_pixels": str(most_px)}
    try:
        (picture,) = codec.decode(av.Packet(data))
    except (av.FFmpegError, ValueError) as error:
        raise OptionError(f"a picture is a JPEG that is whole, of {most_px} pixels at most") from error
    if not picture.format.name.startswith("yuvj4"):
        raise OptionError("a picture is a JPEG in colour")
    return to_frame(picture, JPEG, round(captured_s / TICKS), TICKS)
