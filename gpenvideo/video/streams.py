"""Streams beside the restored one: copied, converted where the container cannot hold them, or left out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from os import PathLike
from typing import Any, Protocol

import av
import numpy as np

from gpenvideo.video.part import ATTACHED_PICTURE

__all__ = ["Track", "copy_chapters", "copy_tags", "held", "title", "track"]

TEXT = {
    *("subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text", "microdvd", "jacosub", "sami"),
    *("realtext", "subviewer", "subviewer1", "mpl2", "pjs", "vplayer", "stl"),
}
TEXT_ENCODERS = ("mov_text", "subrip", "webvtt", "ass")
SOUND_ENCODERS = ("aac", "libopus", "mp2", "pcm_s16le")
SOUND_RATES_HZ = {
    "aac": (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350),
    "libopus": (48000, 24000, 16000, 12000, 8000),
    "mp2": (48000, 44100, 32000, 24000, 22050, 16000),
}
BIT_RATE_PER_CHANNEL = 96_000
GAP_S = Fraction(1, 20)  # a shorter one is jitter
UNTOLD = {  # muxers that take what they can and do not say what that is; canonical names
    "mpegts": {
        *("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "aac", "mp1", "mp2", "mp3", "ac3", "eac3"),
        *("dts", "truehd", "opus", "dvb_subtitle", "dvb_teletext", "dirac", "vvc"),
    },
}
REFUSED = {"mov": {"flac", "opus", "truehd", "av1", "vp8", "vp9"}}  # taken by the query, not by the header
IMAGE_TYPES = {"png": "image/png", "mjpeg": "image/jpeg", "gif": "image/gif", "bmp": "image/bmp"}
STALE = {  # tags of the file that was: the container writes its own, or they would be wrong
    *("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id"),
    *("bps", "number_of_frames", "number_of_bytes", "_statistics_writing_app"),
    *("_statistics_writing_date_utc", "_statistics_tags"),
}
ISO = {"mp4", "mov", "ipod", "ismv", "3gp", "3g2", "psp", "f4v"}
MATROSKA = {"matroska", "webm"}
ISO_TAGS = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright"),
    *("grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track"),
    *("disc", "media_type", "hd_video", "gapless_playback", "compilation", "episode_sort", "season_number"),
    *("location", "creation_time", "timecode", "encoded_by", "major_brand"),
}
ASS_HEADER = b"""[Script Info]\r
ScriptType: v4.00+\r
\r
[V4+ Styles]\r
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding\r
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\r
\r
[Events]\r
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r
"""

CHANNELS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # FFmpeg's

Warn = Callable[[str], None]


class Track(Protocol):
    """One stream on its way: packets of the source in, packets of the output out."""

    def packets(self, packet: Any) -> Iterable[Any]:
        """What a packet of the source becomes."""

    def flush(self) -> Iterable[Any]:
        """What is left when the source has ended."""


def held(out: Any, codec: Any) -> bool:
    """Whether an av.OutputContainer holds packets of an av.Codec."""
    name, untold = codec.canonical_name, UNTOLD.get(out.format.name)
    if untold is not None:
        return name in untold
    refused = REFUSED.get(out.format.name, set())
    return name not in refused and bool({codec.name, name} & out.supported_codecs)


def _is_taken(out: Any, stream: Any) -> bool:
    """Whether the muxer takes a stream as it is: a damaged one may lack what the header has to say."""
    try:
        with av.open(io.BytesIO(), "w", format=out.format.name, options={"strict": "experimental"}) as trial:
            made = trial.add_stream_from_template(stream, opaque=True)
            _name_channels(made)
            trial.start_encoding()
            name = stream.codec_context.name
            aac = name == "aac" and {"mp4", "matroska"} & _formats(stream.container)
            if aac or name.startswith("pcm_"):
                packet = av.Packet(bytes(96))  # some muxers look at the configuration with a packet only
                packet.stream, packet.pts, packet.dts = made, 0, 0
                trial.mux(packet)
    except (av.FFmpegError, ValueError):
        return False
    return True


def _name_channels(made: Any) -> None:
    """Say which channels there are where the source (AVI, WAV) says only how many; mp4 has to know."""
    context = made.codec_context
    if made.type == "audio" and context.layout.name == f"{context.channels} channels":
        context.layout = CHANNELS.get(context.channels, context.layout)


def _formats(container: Any) -> set[str]:
    return set(container.format.name.split(","))


def title(stream: Any) -> str:
    """How a stream is called in a sentence: "stream 3 (audio, opus, fra)"."""
    codec = stream.codec_context.name if stream.codec_context is not None else stream.name
    facts = [stream.type, codec, stream.metadata.get("language")]
    return f"stream {stream.index} ({', '.join(fact for fact in facts if fact and fact != 'und')})"


def track(out: Any, stream: Any, source: str | PathLike[str], warn: Warn) -> Track | None:
    """Make room in an output container for a stream of the source file; None when no packets will come.

    Args:
        out: av.OutputContainer whose header is not written.
        stream: av stream of an input container.
        source: the path of that input, whose cover pictures are read.
        warn: is told, in a sentence, of what is converted or left out.
    """
    if stream.type == "attachment":
        if out.format.name == "matroska":
            kind = stream.mimetype or "application/octet-stream"
            out.add_attachment(stream.name or f"attachment {stream.index}", kind, stream.data)
        else:
            warn(f"Attachment {stream.name!r} is left out: {out.format.name} holds none.")
        return None
    if stream.type == "data":
        _data(out, stream, warn)
        return None
    if stream.disposition & ATTACHED_PICTURE:
        return _cover(out, stream, source, warn)
    if held(out, stream.codec_context.codec) and _is_taken(out, stream):
        return _Copy(out, stream)
    if stream.type == "audio" and stream.codec_context.sample_rate and stream.codec_context.channels:
        for name in SOUND_ENCODERS:
            if name in out.supported_codecs and name in av.codecs_available:
                warn(f"{title(stream).capitalize()} becomes {name}: {out.format.name} cannot hold it.")
                return _Sound(out, stream, name, warn)
    if stream.type == "subtitle" and stream.codec_context.name in TEXT:
        for name in TEXT_ENCODERS:
            if name in out.supported_codecs:
                warn(f"{title(stream).capitalize()} becomes {name}: {out.format.name} cannot hold it.")
                return _Text(out, stream, name)
    warn(f"{title(stream).capitalize()} is left out: {out.format.name} cannot hold it.")
    return None


def copy_tags(out: Any, made: Any, stream: Any, *, encoded: bool) -> None:
    """Give a stream of the output the tags and disposition of the source's, but those that are stale."""
    statistics = {"bps", "number_of_frames", "number_of_bytes"}
    for key, value in stream.metadata.items():
        stem = key.lower().split("-")[0]
        if stem not in STALE or (stem in statistics and not encoded and out.format.name in MATROSKA):
            made.metadata[key] = value
    if "name" in made.metadata and out.format.name in MATROSKA:
        made.metadata.setdefault("title", made.metadata.pop("name"))
    made.disposition = int(stream.disposition)


def copy_chapters(out: Any, source: Any, shift_s: Fraction, warn: Warn) -> None:
    """Give the output the source's tags and chapters, `shift_s` later; what its format drops is told."""
    for key, value in source.metadata.items():
        if key.lower() not in STALE:
            out.metadata[key] = value
    lost = sorted(key for key in out.metadata if out.format.name in ISO and key.lower() not in ISO_TAGS)
    if lost:
        warn(f"{out.format.name} has no place for the tags {', '.join(lost)}: left out.")
    chapters = []
    for chapter in source.chapters():
        ticks = round(shift_s / chapter["time_base"])
        start, end = chapter["start"] + ticks, chapter["end"] + ticks
        if end > 0:
            chapters.append({**chapter, "start": max(0, start), "end": end})
    if chapters and out.format.name in ISO | MATROSKA | {"nut", "asf", "ffmetadata", "ogg"}:
        out.set_chapters(chapters)
    elif chapters:
        warn(f"{out.format.name} holds no chapters: {len(chapters)} are left out.")


def _data(out: Any, stream: Any, warn: Warn) -> None:
    """Data is not copied, but what it says may be kept: time codes as a tag, chapters as chapters."""
    timecode = stream.metadata.get("timecode")
    if timecode is not None:
        out.metadata.setdefault("timecode", timecode)
    elif not (stream.name == "bin_data" and stream.container.chapters()):
        warn(f"{title(stream).capitalize()} is left out: data streams are not copied.")


def _cover(out: Any, stream: Any, source: str | PathLike[str], warn: Warn) -> Track | None:
    codec = stream.codec_context.name
    picture = _attached_picture(source, stream.index)
    if picture is not None and out.format.name == "matroska" and codec in IMAGE_TYPES:
        suffix = IMAGE_TYPES[codec].removeprefix("image/").replace("jpeg", "jpg")
        out.add_attachment(stream.metadata.get("filename", f"cover.{suffix}"), IMAGE_TYPES[codec], picture)
        return None
    if picture is not None and out.format.name in {"mp4", "ipod"} and codec in IMAGE_TYPES:
        return _Cover(out, stream, picture)
    warn(f"The cover picture of {title(stream)} is left out: {out.format.name} cannot hold it.")
    return None


def _attached_picture(source: str | PathLike[str], index: int) -> bytes | None:
    """A cover picture's file: a demuxer gives it first, and only when it starts at the beginning."""
    with av.open(str(source), metadata_errors="replace") as container:
        for packet in container.demux(container.streams[index]):
            return bytes(packet) or None
    return None


class _Copy:
    """Packets as they are, on the output's stream."""

    def __init__(self, out: Any, stream: Any) -> None:
        self.made = out.add_stream_from_template(stream, opaque=True)
        _name_channels(self.made)
        copy_tags(out, self.made, stream, encoded=False)
        self._waiting: list[Any] = []
        self._last: int | None = None
        self._video = stream.type == "video"

    def packets(self, packet: Any) -> Iterator[Any]:
        packet.stream = self.made
        if packet.dts is None and self._video and self._last is None:
            self._waiting.append(packet)  # B-frames: the first decoding times follow from the first one told
            return
        waiting, self._waiting = self._waiting, []
        for place, early in enumerate(waiting):
            first = packet.dts if packet.dts is not None else packet.pts
            early.dts = first - (len(waiting) - place) * max(1, early.duration or packet.duration or 1)
            yield from self._stamped(early)
        yield from self._stamped(packet)

    def _stamped(self, packet: Any) -> Iterator[Any]:
        if packet.dts is None:
            packet.dts = packet.pts if self._last is None or not self._video else self._last + 1
        if packet.pts is None:
            packet.pts = packet.dts
        if packet.dts is not None and (self._last is None or packet.dts > self._last):
            self._last = packet.dts
            yield packet

    def flush(self) -> Iterator[Any]:
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            yield from self._stamped(packet)


class _Cover:
    """A cover picture among the streams of an mp4 file."""

    def __init__(self, out: Any, stream: Any, picture: bytes) -> None:
        self._made = out.add_stream_from_template(stream, opaque=True)
        self._made.disposition = ATTACHED_PICTURE
        self._picture = picture

    def packets(self, packet: Any) -> Iterator[Any]:
        return iter(())

    def flush(self) -> Iterator[Any]:
        packet = av.Packet(self._picture)
        packet.stream, packet.time_base = self._made, Fraction(1, 90000)
        packet.pts = packet.dts = 0
        packet.is_keyframe = True
        yield packet


class _Sound:
    """Sound decoded and encoded again; gaps become silence, so that it stays in step."""

    def __init__(self, out: Any, stream: Any, codec: str, warn: Warn) -> None:
        context = stream.codec_context
        rates = SOUND_RATES_HZ.get(codec, (context.sample_rate,))
        rate = context.sample_rate if context.sample_rate in rates else rates[0]
        if rate != context.sample_rate:
            rate = min((r for r in rates if r >= context.sample_rate), default=rates[0])
        self._made = out.add_stream(codec, rate=rate, layout=context.layout.name)
        self._made.bit_rate = BIT_RATE_PER_CHANNEL * max(1, context.layout.nb_channels)
        self._made.time_base = Fraction(1, rate)
        copy_tags(out, self._made, stream, encoded=True)
        self._decoder, self._warn, self._name = context, warn, title(stream)
        self._next: Fraction | None = None
        self._broken = False

    def packets(self, packet: Any) -> Iterator[Any]:
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            if not self._broken:
                self._warn(
                    f"{self._name.capitalize()} is damaged: silence stands for what cannot be decoded."
                )
            self._broken = True
            return
        for frame in frames:  # the decoder has cut off its priming and moved pts
            start = None if frame.pts is None else frame.pts * packet.time_base
            yield from self._encoded(frame, start)

    def _encoded(self, frame: Any, start: Fraction | None) -> Iterator[Any]:
        rate = frame.sample_rate
        if self._next is None:
            self._next = start or Fraction(0)
        elif start is not None and start - self._next > GAP_S:
            missing = round((start - self._next) * rate)
            while missing > 0:
                silence = _silence(frame, min(missing, rate))
                missing -= silence.samples
                yield from self._timed(silence)
        yield from self._timed(frame)

    def _timed(self, frame: Any) -> Iterator[Any]:
        assert self._next is not None
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(self._next * frame.sample_rate)
        self._next += Fraction(frame.samples, frame.sample_rate)
        yield from self._made.encode(frame)

    def flush(self) -> Iterator[Any]:
        if self._next is not None:
            yield from self._made.encode(None)


def _silence(like: Any, samples: int) -> Any:
    shape = list(like.to_ndarray().shape)
    shape[1] = samples * (1 if like.format.is_planar else like.layout.nb_channels)
    zeros = np.zeros(shape, like.to_ndarray().dtype)
    if like.format.name.startswith("u8"):
        zeros += 128
    silence: Any = av.AudioFrame.from_ndarray(zeros, like.format.name, like.layout.name)
    silence.sample_rate = like.sample_rate
    return silence


class _Text:
    """Subtitles that are text, in another coding of text; what styles both know is kept."""

    def __init__(self, out: Any, stream: Any, codec: str) -> None:
        context = stream.codec_context
        self._decoder: Any = av.CodecContext.create(context.name, "r")
        if context.extradata:
            self._decoder.extradata = context.extradata
        self._decoder.open()
        self._made = out.add_stream(codec)
        self._made.codec_context.subtitle_header = self._decoder.subtitle_header or ASS_HEADER
        self._made.time_base = stream.time_base
        copy_tags(out, self._made, stream, encoded=True)

    def packets(self, packet: Any) -> Iterator[Any]:
        try:
            subtitle = self._decoder.decode2(packet)
        except av.FFmpegError:
            return
        if subtitle is None or packet.pts is None:
            return
        text = self._made.codec_context.encode_subtitle(subtitle)
        text.stream, text.time_base = self._made, packet.time_base
        text.pts = text.dts = packet.pts
        text.duration, text.is_keyframe = packet.duration, True
        yield text

    def flush(self) -> Iterator[Any]:
        return iter(())
