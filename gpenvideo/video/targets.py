"""Where a video goes: a container file, or the pictures of a sequence; written beside and renamed."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from gpenvideo.errors import OptionError, file_error
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.video.description import side_data
from gpenvideo.video.encoders import CODECS, Encoder, Setup
from gpenvideo.video.matroska import set_display_size
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

__all__ = ["FileTarget", "PictureTarget", "is_pictures"]

DEFAULT_CODECS = ("libx264", "libsvtav1", "prores_ks", "ffv1")
BUFFER_BYTES = 1 << 20
MOST_TICKS = (1 << 31) - 1  # a time scale has 31 bits
PICTURE_CODECS = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".dpx": "dpx", ".exr": "exr"}
PATTERN = re.compile(r"%(0\d+)?d")
NUMBER = "%06d"
DISPOSITION_DEFAULT = 1

Warn = Callable[[str], None]


def is_pictures(path: Path, codec: str | None) -> bool:
    """Whether a target is a sequence of pictures. OptionError: it is one, but does not say how."""
    if PATTERN.search(path.name):
        return path.suffix.lower() in PICTURE_CODECS
    if codec in PICTURE_CODECS.values():
        if path.suffix and not path.is_dir():
            raise OptionError("name pictures by a pattern, such as out_%04d.png, or a folder", path=path)
        return True
    if path.suffix.lower() in PICTURE_CODECS:
        raise OptionError(f"name pictures by a pattern: {path.stem}_%04d{path.suffix}", path=path)
    if path.is_dir() or not path.suffix:
        raise OptionError(
            "give the file a suffix (.mkv, .mp4), or choose --codec png for a folder of pictures", path=path
        )
    return False


class FileTarget:
    """A container file."""

    def __init__(self, path: Path, reader: Any, codec: str | None, warn: Warn) -> None:
        self.path, self._reader, self._info, self._warn = path, reader, reader.info, warn
        self._tracks: dict[int, Track] = {}
        self._durations: dict[int, int] = {}
        self._usual = 0
        self._last_pts: int | None = None
        self._shift_s = Fraction(0)
        self._said_in_stream = False
        self._refused = 0
        self._beside = _beside(path)
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
        default = next((name for name in DEFAULT_CODECS if self._holds(name)), DEFAULT_CODECS[0])
        self.codec = CODECS.get(codec, codec) if codec is not None else default

    def _holds(self, encoder: str) -> bool:
        return encoder in av.codecs_available and held(self._out, av.Codec(encoder, "w"))

    def check(self, encoder: Encoder) -> None:
        """OptionError: the container does not hold what the encoder makes."""
        if not self._holds(encoder.name):
            able = [name for name in DEFAULT_CODECS if self._holds(name)]
            advice = f"choose {' or '.join(able)}, or another suffix" if able else "choose another suffix"
            raise OptionError(f"{self.format} holds no video of {encoder.name}: {advice}", path=self.path)

    def open(self, found: Setup, frame: Frame, early: Sequence[Any]) -> None:
        """Make the streams and write the header, on seeing the first frame and the packets before it."""
        source = self._reader.container
        first_s = frame.pts * frame.time_base
        if self.format == "nut":  # holds nothing before 0, not even the priming of sound
            first_s = min([first_s, *(p.pts * p.time_base for p in early if p.pts is not None)])
        bases = [self._info.time_base, *([] if source is None else [s.time_base for s in source.streams])]
        self._shift_s = _shift(first_s, [base for base in bases if base])
        if self._shift_s:
            self._warn(f"The source begins before 0: all streams are {float(self._shift_s):g} s later.")
        copied = {stream.index for stream in self._reader.copied}
        for stream in () if source is None else source.streams:
            if stream.index == self._reader.stream.index:
                self._restored(found, frame, stream)
            elif stream.index in copied:
                made = track(self._out, stream, self._reader.path, self._warn)
                if made is not None:
                    self._tracks[stream.index] = made
        if source is None:
            self._restored(found, frame, None)
        else:
            copy_chapters(self._out, source, self._shift_s - self._reader.shift_s, self._warn)
        self._tell_losses(found)
        self._said_in_stream = found.encoder.aspect_in_stream
        self._out.start_encoding()

    def _restored(self, found: Setup, frame: Frame, stream: Any) -> None:
        rate = self._info.rate_hz or (stream.average_rate if stream is not None else None) or DEFAULT_RATE_HZ
        self._made = self._out.add_stream(found.encoder.name, rate=rate)
        found.context(self._made.codec_context, self._info, Fraction(rate))
        _tag(self._made.codec_context, found, frame)
        self._made.time_base = self._info.time_base
        if self.format == "avi":
            self._made.codec_context.max_b_frames = 0
            self._warn("avi counts frames and has no timestamps: gaps and starts are only near the source's.")
        if found.encoder.name in ("libx265", "hevc_nvenc") and self.format in ISO:
            self._made.codec_context.codec_tag = "hvc1"  # players of Apple know no other
        if stream is not None:
            copy_tags(self._out, self._made, stream, encoded=True)
        else:
            self._made.disposition = DISPOSITION_DEFAULT
        matrix = _display_matrix(frame, self._info)
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
        picture.pts = pts = picture.pts + round(self._shift_s / self._info.time_base)
        if self._last_pts is not None:
            self._usual = pts - self._last_pts
        self._last_pts = pts
        self._durations[pts] = duration or self._usual or self._frame_ticks()
        self._write(self._made.encode(picture))

    def _frame_ticks(self) -> int:
        ticks: Fraction = 1 / (self._info.rate_hz or DEFAULT_RATE_HZ) / self._info.time_base
        return max(1, round(ticks))

    def _write(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            duration = self._durations.pop(packet.pts, None)
            if duration is not None:
                packet.duration = duration
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
        self._write(self._made.encode(None))
        for line in self._tracks.values():
            self._mux(line.flush())
        if self._refused:
            self._warn(f"{self.format} refused {self._refused} damaged packets of copied streams.")
        self._out.close()
        self._file.close()
        self._set_aspect()
        self._beside.replace(self.path)

    def _set_aspect(self) -> None:
        """The sample aspect where PyAV does not tell the muxer of it."""
        aspect, number = self._info.sample_aspect, self._made.index + 1
        if aspect == 1 or self.format not in MATROSKA:
            return
        size = self._made.codec_context.width, self._made.codec_context.height
        if self._said_in_stream and (size[0] * aspect).denominator != 1:
            return  # the stream says it exactly, whole pixels could not
        if not set_display_size(self._beside, number, *_display_size(*size, aspect)):
            self._warn(f"The sample aspect {aspect} could not be written into the container.")

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._file.close()  # first: the muxer does not write an index into a closed file
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._out.close()
        self._beside.unlink(missing_ok=True)


class PictureTarget:
    """The files of an image sequence."""

    format = "image2"

    def __init__(self, path: Path, reader: Any, codec: str | None, start_number: int, warn: Warn) -> None:
        pattern = PATTERN.search(path.name) is not None
        said = PICTURE_CODECS.get(path.suffix.lower()) if pattern else None
        if said is not None and codec is not None and codec != said:
            raise OptionError(f"a pattern of {path.suffix} files holds no {codec}", path=path)
        self.codec = said or codec or "png"
        self.path, self._number, self._info = path, start_number, reader.info
        suffix = next(suffix for suffix, name in PICTURE_CODECS.items() if name == self.codec)
        self._folder, self._name = (path.parent, path.name) if pattern else (path, NUMBER + suffix)
        self._beside = _beside(path.with_name(PATTERN.sub("", path.name)))
        self._context: Any = None
        others = [stream for stream in reader.copied if stream.type != "data"]
        if others:
            warn(f"Pictures are written alone: {len(others)} other streams of the source are left out.")
        try:
            self._beside.mkdir()
        except OSError as error:
            raise file_error(error, path, "write") from error

    def check(self, encoder: Encoder) -> None:
        """Pictures hold what their encoder makes."""

    def open(self, found: Setup, frame: Frame, early: Sequence[Any]) -> None:
        self._context = av.CodecContext.create(found.encoder.name, "w")
        found.context(self._context, self._info, self._info.rate_hz or DEFAULT_RATE_HZ)
        _tag(self._context, found, frame)

    def encode(self, picture: Any, duration: int | None) -> None:
        self._write(self._context.encode(picture))

    def _write(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            (self._beside / PATTERN.sub(self._numbered, self._name, count=1)).write_bytes(bytes(packet))
            self._number += 1

    def _numbered(self, match: re.Match[str]) -> str:
        return match[0] % self._number

    def copy(self, item: Any) -> None:
        """Pictures go without sound."""

    def finish(self) -> None:
        self._write(self._context.encode(None))
        if not self._folder.exists():
            self._beside.replace(self._folder)
            return
        for file in sorted(self._beside.iterdir()):
            file.replace(self._folder / file.name)
        self._beside.rmdir()

    def discard(self) -> None:
        shutil.rmtree(self._beside, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.part-{os.getpid():x}{path.suffix}")


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


def _tag(context: Any, found: Setup, frame: Frame) -> None:
    """The colour tags as the stream has them, not as they were assumed, where the samples are the same."""
    decoded, way = frame.decoded, found.conversion
    if decoded is None or way.colour != frame.colour:
        return
    context.colorspace = decoded.colorspace
    if not frame.colour.full_range and decoded.color_range == 0:
        context.color_range = 0


def _display_matrix(frame: Frame, info: StreamInfo) -> list[int] | None:
    """The first frame's display matrix as it is, or the one of the stream's rotation."""
    data = side_data(frame.decoded).get("DISPLAYMATRIX") if frame.decoded is not None else None
    if data is not None and len(data) >= 36:
        return list(memoryview(data[:36]).cast("i"))
    if not info.rotation_deg and not info.mirrored:
        return None
    one, cos, sin = 1 << 16, *{0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[info.rotation_deg]
    flip = -1 if info.mirrored else 1
    return [flip * cos * one, flip * sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]
