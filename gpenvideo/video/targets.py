"""A container file as the place that a video goes to; written beside and renamed."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from gpenvideo.errors import OptionError, file_error
from gpenvideo.frame import StreamInfo
from gpenvideo.video.description import hdr_of, side_data
from gpenvideo.video.disk import beside, put_in_place
from gpenvideo.video.encoders import CODECS, Encoder, Setup
from gpenvideo.video.matroska import NAME_ROOM, set_track
from gpenvideo.video.part import ATTACHED_PICTURE
from gpenvideo.video.sources import DEFAULT_RATE_HZ
from gpenvideo.video.streams import (
    ISO,
    MATROSKA,
    Track,
    copy_chapters,
    copy_tags,
    held,
    track,
)

__all__ = [
    "Durations",
    "FileTarget",
    "check_holds",
    "chosen_codec",
    "encoder_stream",
    "rate_hz",
    "set_up",
    "well_timed",
]

DEFAULT_CODECS = ("libx264", "libsvtav1", "prores_ks", "ffv1")
BUFFER_BYTES = 1 << 20
MOST_TICKS = (1 << 31) - 1  # a time scale has 31 bits
DISPOSITION_DEFAULT = 1
SEI = {39, 40}  # types of units in HEVC

Warn = Callable[[str], None]


def chosen_codec(out: Any, codec: str | None) -> str:
    """The encoder that a person asks for, by FFmpeg's name; None is the container's best."""
    if codec is not None:
        return CODECS.get(codec, codec)
    return next((name for name in DEFAULT_CODECS if _holds(out, name)), DEFAULT_CODECS[0])


def check_holds(out: Any, encoder: Encoder, path: Path) -> None:
    """OptionError: an av.OutputContainer, of the file at `path`, does not hold what the encoder makes."""
    if not _holds(out, encoder.name):
        able = [name for name in DEFAULT_CODECS if _holds(out, name)]
        advice = f"choose {' or '.join(able)}, or another suffix" if able else "choose another suffix"
        raise OptionError(f"{out.format.name} holds no video of {encoder.name}: {advice}", path=path)


def _holds(out: Any, encoder: str) -> bool:
    return encoder in av.codecs_available and held(out, av.Codec(encoder, "w"))


def encoder_stream(out: Any, found: Setup, reader: Any, container: str) -> Any:
    """The stream of what is restored, with its encoder set up as a container (FFmpeg's name) wants it."""
    made = out.add_stream(found.encoder.name, rate=rate_hz(reader))
    set_up(made.codec_context, found, reader, container)
    made.time_base = reader.info.time_base
    return made


def set_up(context: Any, found: Setup, reader: Any, container: str) -> None:
    """Make an av.CodecContext the encoder of what is restored, as a container wants it."""
    found.context(context, reader.info, rate_hz(reader))
    found.tag(context, reader.info, reader.first)
    if container == "avi":
        context.max_b_frames = 0


def well_timed(last: Sequence[Any], encoder: str, earlier: int) -> Sequence[Any]:
    """The last packets of an encoder, after so many that it gave before.

    Of fewer than three pictures x265 gives decoding times out of memory that it never wrote.
    """
    if encoder == "libx265" and earlier + len(last) < 3:
        for packet in last:
            packet.dts = packet.pts
    return last


def rate_hz(reader: Any) -> Fraction:
    """Frames a second of what is restored, about."""
    average = None if reader.stream is None else reader.stream.average_rate
    return Fraction(reader.info.rate_hz or average or DEFAULT_RATE_HZ)


class Durations:
    """How long each picture is shown, in ticks."""

    def __init__(self, info: StreamInfo) -> None:
        self._usual = max(1, round(1 / (info.rate_hz or DEFAULT_RATE_HZ) / info.time_base))
        self._last: int | None = None

    def tell(self, pts: int, duration: int | None) -> int:
        """Of the next picture: what its file says, else as long as it is since the one before."""
        if self._last is not None:
            self._usual = pts - self._last
        self._last = pts
        return duration or self._usual


class FileTarget:
    """A container file.

    `open`, then `encode` for pictures or `add` for packets that were encoded before, and `copy` for those of
    other streams; `finish` or `discard`.
    """

    def __init__(self, path: Path, reader: Any, codec: str | None, warn: Warn) -> None:
        self.path, self._reader, self._info, self._warn = path, reader, reader.info, warn
        self._tracks: dict[int, Track] = {}
        self._durations = Durations(reader.info)
        self._shown: dict[int, int] = {}  # for how long, by pts: encoders do not tell
        self._written = 0  # packets of our encoder
        self._shift_s = Fraction(0)
        self._hdr: dict[str, Any] = {}  # what the container has to say of it
        self._said_in_stream = self._is_encoded = False
        self._last_dts: int | None = None
        self._refused = 0
        self._beside = beside(path)
        try:
            self._file = self._beside.open("xb")
        except OSError as error:
            raise file_error(error, path, "write") from error
        try:
            self._out: Any = av.open(
                self._file, "w", buffer_size=BUFFER_BYTES, container_options=_muxing(reader, path)
            )
        except (av.FFmpegError, ValueError) as error:
            self._file.close()
            self._beside.unlink(missing_ok=True)
            raise OptionError(f"there is no container for the suffix {path.suffix!r}", path=path) from error
        self.format = str(self._out.format.name)
        self.codec = chosen_codec(self._out, codec)
        self.holds_hdr = self.format in MATROSKA

    def check(self, encoder: Encoder) -> None:
        """OptionError: the container does not hold what the encoder makes."""
        check_holds(self._out, encoder, self.path)

    def open(self, found: Setup, first_s: Fraction, early: Sequence[Any]) -> None:
        """Make the streams and write the header, on seeing the first picture and the packets before it."""
        source = self._reader.container
        if self.format == "nut":  # holds nothing before 0, not even the priming of sound
            first_s = min([first_s, *(p.pts * p.time_base for p in early if p.pts is not None)])
        bases = [self._info.time_base, *([] if source is None else [s.time_base for s in source.streams])]
        self._shift_s = _shift(first_s, [base for base in bases if base])
        if self._shift_s:
            self._warn(f"The source begins before 0: all streams are {float(self._shift_s):g} s later.")
        copied = {stream.index for stream in self._reader.copied}
        for stream in () if source is None else source.streams:
            if stream.index == self._reader.stream.index:
                self._restored(found, stream)
            elif stream.index in copied:
                made = track(self._out, stream, self._reader.path, self._warn)
                if made is not None:
                    self._tracks[stream.index] = made
        if source is None:
            self._restored(found, None)
        else:
            copy_chapters(self._out, source, self._shift_s - self._reader.shift_s, self._warn)
        self._tell_losses(found)
        self._said_in_stream = found.encoder.aspect_in_stream
        self._out.start_encoding()

    def _restored(self, found: Setup, stream: Any) -> None:
        self._made = encoder_stream(self._out, found, self._reader, self.format)
        if self.format == "avi":
            self._warn("avi counts frames and has no timestamps: gaps and starts are only near the source's.")
        if found.encoder.name in ("libx265", "hevc_nvenc") and self.format in ISO:
            self._made.codec_context.codec_tag = "hvc1"  # players of Apple know no other
        if stream is not None:
            copy_tags(self._out, self._made, stream, encoded=True)
        else:
            self._made.disposition = DISPOSITION_DEFAULT
        if self.holds_hdr and not found.encoder.parameters:
            self._hdr = hdr_of(self._reader.first)
        if self._hdr:
            self._made.metadata["title"] = self._made.metadata.get("title", "") + NAME_ROOM
        matrix = _display_matrix(self._reader.first, self._info)
        if matrix is not None:
            self._made.set_display_matrix(matrix)

    def _tell_losses(self, found: Setup) -> None:
        encoder, colour = found.encoder, found.conversion.colour
        if colour.full_range and not encoder.range_in_stream and self.format not in {"mp4"} | MATROSKA:
            self._warn(
                f"{self.format} with {encoder.name} cannot say that the range is full: players take limited."
            )
        aspect = self._info.sample_aspect
        if aspect != 1 and not encoder.aspect_in_stream and self.format not in ISO | MATROSKA:
            self._warn(f"{self.format} with {encoder.name} does not get the sample aspect {aspect} here.")
        if (self._info.rotation_deg or self._info.mirrored) and self.format not in ISO | MATROSKA:
            self._warn(
                f"{self.format} cannot say how the picture is turned ({self._info.rotation_deg} degrees)."
            )

    def encode(self, picture: Any, duration: int | None) -> None:
        """Write a picture of the restored stream."""
        self._is_encoded = True
        picture.pts = picture.pts + round(self._shift_s / self._info.time_base)
        self._shown[picture.pts] = self._durations.tell(picture.pts, duration)
        self._write(self._made.encode(picture))

    def _write(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            duration = self._shown.pop(packet.pts, None)
            if duration is not None:
                packet.duration = duration
            self._out.mux(packet)
            self._written += 1

    def takes(self, extradata: bytes) -> bool:
        """Whether packets of an encoder that said this ahead of them are as ours would be; after `open`."""
        ours = self._made.codec_context.extradata or b""
        return extradata == ours or _without_messages(extradata) == _without_messages(ours)

    def add(self, packet: Any) -> None:
        """Write a packet of the restored stream that was encoded before; its ticks are the source's."""
        shift = round(self._shift_s / self._info.time_base)
        packet.pts, dts = packet.pts + shift, packet.dts + shift
        # an encoder that begins anew puts its first decoding times before the last ones of the one before
        packet.dts = dts if self._last_dts is None else max(dts, self._last_dts + 1)
        self._last_dts = packet.dts
        packet.stream = self._made
        self._out.mux(packet)

    def copy(self, item: Any) -> None:
        """Write a packet of another stream, a `Copied`."""
        packet = item.packet
        line = self._tracks.get(packet.stream_index)
        if line is None:
            return
        if self._shift_s:
            ticks = round(self._shift_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        self._mux(line.packets(packet))

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            try:
                self._out.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):
                self._refused += 1

    def finish(self) -> None:
        """Write what the encoders still hold, and the index; give the file its name."""
        if self._is_encoded:
            encoder = self._made.codec_context.name
            self._write(well_timed(self._made.encode(None), encoder, self._written))
        for line in self._tracks.values():
            self._mux(line.flush())
        if self._refused:
            self._warn(f"{self.format} refused {self._refused} damaged packets of copied streams.")
        self._out.close()
        self._file.close()
        self._complete_header()
        put_in_place(self._beside, self.path)

    def _complete_header(self) -> None:
        """The sample aspect and HDR metadata where PyAV does not tell the muxer of them."""
        aspect, number = self._info.sample_aspect, self._made.index + 1
        if self._hdr and not set_track(self._beside, number, hdr=self._hdr):
            self._warn("The HDR metadata (mastering display, light level) could not be written: lost.")
        if aspect == 1 or self.format not in MATROSKA:
            return
        size = self._made.codec_context.width, self._made.codec_context.height
        if self._said_in_stream and (size[0] * aspect).denominator != 1:
            return  # the stream says it exactly, whole pixels could not
        if not set_track(self._beside, number, display=_display_size(*size, aspect)):
            self._warn(f"The sample aspect {aspect} could not be written into the container.")

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._file.close()  # first: the muxer does not write an index into a closed file
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._out.close()
        self._beside.unlink(missing_ok=True)


def _without_messages(extradata: bytes) -> list[bytes] | bytes:
    """The units of HEVC's extradata but its messages (SEI): x265 writes its machine's CPU into one."""
    units = re.split(b"\x00\x00\x00?\x01", extradata)
    if len(units) < 3 or units[0]:
        return extradata
    hevc = units[1][:1] == b"\x40"  # a video parameter set comes first
    return [unit for unit in units if not (hevc and unit and unit[0] >> 1 in SEI)]


def _muxing(reader: Any, path: Path) -> dict[str, str]:
    """Options of the muxer: times as they are, dispositions as they are."""
    options = {"strict": "experimental"}
    kind = path.suffix.lower().lstrip(".")
    if kind in {*ISO, "m4v", "mkv", "webm", "nut"}:
        options["avoid_negative_ts"] = "disabled"
    ticks = reader.info.time_base.denominator
    bases = {
        stream.time_base
        for stream in reader.copied
        if stream.type == "video" and not stream.disposition & ATTACHED_PICTURE
    }
    if kind in {*ISO, "m4v"} and ticks <= MOST_TICKS:
        options["movie_timescale"] = str(_movie_ticks(reader))
        if bases <= {reader.info.time_base}:  # one scale holds for all video tracks
            options["video_track_timescale"] = str(ticks)
    if kind in ("mkv", "webm"):
        options["default_mode"] = "passthrough"
    return options


def _display_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Whole pixels of exactly that shape where some are near the size, else rounded ones."""
    shape = width * aspect / height
    times = min(height // shape.denominator, int(width * aspect) // shape.numerator)
    if times * shape.denominator >= height * 3 // 4:
        return times * shape.numerator, times * shape.denominator
    return round(width * aspect), height


def _movie_ticks(reader: Any) -> int:
    """Ticks a second that hold the ends of all tracks, as edit lists count in them; else the pictures'."""
    ticks = int(reader.info.time_base.denominator)
    both = math.lcm(
        ticks,
        *(s.codec_context.sample_rate or 1 for s in reader.copied if s.type == "audio"),
        *(s.time_base.denominator for s in reader.copied if s.type == "video" and s.time_base),
    )
    return both if both <= MOST_TICKS else ticks


def _shift(first_s: Fraction, bases: Sequence[Fraction]) -> Fraction:
    """How much later everything has to be for nothing to lie before 0: whole ticks of all time bases."""
    unit = Fraction(
        math.lcm(*(base.numerator for base in bases)), math.gcd(*(base.denominator for base in bases))
    )
    return max(0, math.ceil(-first_s / unit)) * unit


def _display_matrix(first: Any, info: StreamInfo) -> list[int] | None:
    """The first picture's display matrix as it is, or the one of the stream's rotation."""
    data = side_data(first).get("DISPLAYMATRIX")
    if data is not None and len(data) >= 36:
        return list(memoryview(data[:36]).cast("i"))
    if not info.rotation_deg and not info.mirrored:
        return None
    one, cos, sin = 1 << 16, *{0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[info.rotation_deg]
    flip = -1 if info.mirrored else 1
    return [flip * cos * one, flip * sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]
