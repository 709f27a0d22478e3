"""Coding: shown frames as VP8 or JPEG, alone or below what they were made from, for the page."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import cv2
import numpy as np

from gpenvideo.frame import Frame
from gpenvideo.live.session import Shown
from gpenvideo.video.pixels import to_video_frame

__all__ = ["TICKS_HZ", "Coded", "Coder", "Coding", "i420"]

Coding = Literal["vp8", "jpeg"]

TICKS_HZ = 90_000  # the clock of video in RTP
LONGEST_PX = 1280  # of what is sent
BITS_A_PIXEL_S = 6.0  # of VP8: 46 dB for a face that talks
LEAST_BITS_S, MOST_BITS_S = 400_000, 12_000_000
JPEG_QUALITY = 85
KEY_EVERY = 120  # pictures
HEADER = struct.Struct("<BBHHIId")
BT601, LIMITED = 5, 1  # what VP8 is understood as


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A coded picture; or a pair of them, the source above the result."""

    data: bytes
    coding: Coding
    pair: bool
    key: bool
    """Whether it can be decoded without those before it."""

    size: tuple[int, int]
    """Width and height of one picture of the pair."""

    number: int
    """The frame's, see `Shown`."""

    captured_s: float
    """By `time.monotonic()`."""

    ticks: int
    """When the frame was done, in 1/90000 s, modulo 2^32: no two frames have the same."""

    def message(self) -> bytes:
        """What a WebSocket carries: 22 bytes, then the picture.

        Little-endian: coding (0 VP8, 1 JPEG), flags (1 key, 2 pair), width, height, number, ticks, captured.
        """
        flags = self.key + 2 * self.pair
        coding = 0 if self.coding == "vp8" else 1
        return HEADER.pack(coding, flags, *self.size, self.number, self.ticks, self.captured_s) + self.data

    def notice(self) -> dict[str, Any]:
        """The same without the picture, for one that goes another way."""
        size, number = list(self.size), self.number
        return {
            "n": number,
            "ticks": self.ticks,
            "captured": self.captured_s,
            "pair": self.pair,
            "size": size,
        }


class Coder:
    """Codes the frames of one session, in one thread.

    Args:
        coding: "vp8", each picture after those before it, or "jpeg", each for itself.
        pair: whether the source goes above the result.
    """

    def __init__(self, coding: Coding, pair: bool) -> None:
        self.coding, self.pair = coding, pair
        self.share = 1.0
        """How much of the bit rate is used; a change starts the codec anew."""
        self._codec: Any = None
        self._made_for: tuple[int, int, float] | None = None
        self._ticks = 0

    def __call__(self, shown: Shown, *, key: bool = False) -> Coded | None:
        """A frame, coded; None where the codec leaves it out.

        Args:
            shown: frames of any layout; what is sent has even sides, 1280 px at most.
            key: whether it must be decodable by itself.
        """
        picture, size = self._picture(shown)
        self._ticks = max(round(shown.done_s * TICKS_HZ), self._ticks + 1)
        data, is_key = self._jpeg(picture) if self.coding == "jpeg" else self._vp8(picture, key)
        if not data:
            return None
        ticks = self._ticks % (1 << 32)
        return Coded(data, self.coding, self.pair, is_key, size, shown.number, shown.captured_s, ticks)

    def _picture(self, shown: Shown) -> tuple[Any, tuple[int, int]]:
        result = i420(shown.frame, LONGEST_PX)
        size = (result.width, result.height)
        if not self.pair:
            return result, size
        source = result if shown.source is shown.frame else i420(shown.source, LONGEST_PX)
        return _stacked(source, result), size

    def _jpeg(self, picture: Any) -> tuple[bytes, bool]:
        bgr = cv2.cvtColor(picture.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return data.tobytes(), True

    def _vp8(self, picture: Any, key: bool) -> tuple[bytes, bool]:
        wanted = (picture.width, picture.height, self.share)
        if wanted != self._made_for:
            self._codec, self._made_for = _codec(*wanted), wanted
        picture.pts, picture.time_base = self._ticks, Fraction(1, TICKS_HZ)
        picture.pict_type = av.video.frame.PictureType.I if key else av.video.frame.PictureType.NONE
        packets = self._codec.encode(picture)
        return b"".join(map(bytes, packets)), any(packet.is_keyframe for packet in packets)


def i420(frame: Frame, longest_px: int) -> Any:
    """A frame as av.VideoFrame "yuv420p", BT.601 of limited range, its sides even and up to `longest_px`."""
    shrink = min(1.0, longest_px / max(frame.width, frame.height))
    width, height = (max(2, round(side * shrink / 2) * 2) for side in (frame.width, frame.height))
    picture = to_video_frame(frame)
    is_so = picture.format.name == "yuv420p" and frame.colour.matrix in (5, 6) and not frame.colour.full_range
    if is_so and (width, height) == (frame.width, frame.height):
        return picture
    if picture.colorspace == 6:  # of H.273; swscale's own list has it once
        picture.colorspace = BT601
    return picture.reformat(
        width, height, "yuv420p", dst_colorspace=BT601, dst_color_range=LIMITED, interpolation="AREA"
    )


def _stacked(upper: Any, lower: Any) -> Any:
    """Two pictures of one size, one above the other."""
    both = av.VideoFrame(upper.width, 2 * upper.height, "yuv420p")
    for target, *halves in zip(both.planes, upper.planes, lower.planes, strict=True):
        for place, half in zip(np.split(_rows(target), 2), halves, strict=True):
            place[...] = _rows(half)
    return both


def _rows(plane: Any) -> Any:
    """The samples of a plane, (H, W) uint8, as they lie."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _codec(width: int, height: int, share: float) -> Any:
    """libvpx as for a conversation: no picture waits for a later one."""
    codec = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, TICKS_HZ), Fraction(30)
    bits_s = min(max(BITS_A_PIXEL_S * width * height, LEAST_BITS_S), MOST_BITS_S)
    codec.bit_rate = round(share * bits_s)
    codec.gop_size, codec.thread_count = KEY_EVERY, 1
    codec.options = {
        "cpu-used": "-6",
        "deadline": "realtime",
        "lag-in-frames": "0",
        "error-resilient": "default",
        "undershoot-pct": "95",
        "bufsize": str(codec.bit_rate),
    }
    return codec
