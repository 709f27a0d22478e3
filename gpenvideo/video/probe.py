"""The facts of a file, as plain values: what `gpenvideo info` shows."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

from gpenvideo.errors import MediaError
from gpenvideo.frame import StreamInfo
from gpenvideo.video.description import hdr_of
from gpenvideo.video.fields import fields_of
from gpenvideo.video.part import ATTACHED_PICTURE
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.sequence import is_sequence
from gpenvideo.video.sources import open_container

__all__ = ["probe"]


def probe(path: str | PathLike[str]) -> dict[str, Any]:
    """What a video file or an image sequence holds, ready for JSON (rates and aspects as "30000/1001").

    Keys: path, container, size_bytes, duration_s, metadata, chapters, streams; a stream has index, kind,
    codec, language, metadata and by its kind: size_px, pixel_format, depth_bits, rate_hz, fields (what the
    pictures of some places are, see `gpenvideo.video.fields.Fields`), ... Video that cannot be decoded has an
    "error" instead.

    Raises FileError, FileMissing, MediaError for what is no media at all.
    """
    path = Path(path)
    if is_sequence(path):
        return _probe_sequence(path)
    with contextlib.closing(open_container(path)) as container:
        videos = [s for s in container.streams.video if not s.disposition & ATTACHED_PICTURE]
        places = {stream.index: place for place, stream in enumerate(videos)}
        duration = container.duration
        return {
            "path": str(path),
            "container": container.format.name,
            "size_bytes": path.stat().st_size,
            "duration_s": None if duration is None else duration / 1e6,
            "metadata": dict(container.metadata),
            "chapters": [_chapter(chapter) for chapter in container.chapters()],
            "streams": [_stream(path, stream, places.get(stream.index)) for stream in container.streams],
        }


def _probe_sequence(path: Path) -> dict[str, Any]:
    with VideoReader(path) as reader:
        stream = {"index": 0, "kind": "video", "codec": reader.codec} | _video(reader)
        return {
            "path": str(path),
            "container": "image sequence",
            "duration_s": reader.info.duration_s,
            "metadata": {},
            "chapters": [],
            "streams": [stream],
        }


def _chapter(chapter: Any) -> dict[str, Any]:
    base = chapter["time_base"] or Fraction(1)
    times = {"start_s": float(chapter["start"] * base), "end_s": float(chapter["end"] * base)}
    return times | {"title": chapter["metadata"].get("title", "")}


def _stream(path: Path, stream: Any, place: int | None) -> dict[str, Any]:
    context = stream.codec_context
    facts: dict[str, Any] = {"index": stream.index, "kind": stream.type}
    facts["codec"] = context.name if context is not None else getattr(stream, "name", None)
    facts |= {"language": stream.language, "metadata": dict(stream.metadata)}
    facts["disposition"] = [flag.name for flag in stream.disposition]
    if stream.type == "attachment":
        facts |= {"codec": stream.mimetype, "name": stream.name, "size_bytes": len(stream.data)}
    elif stream.type == "audio" and context is not None:
        facts |= {"rate_hz": context.sample_rate, "channels": context.layout.name}
    elif stream.type == "video" and place is None:
        facts["kind"] = "cover"
    elif place is not None:
        try:
            with VideoReader(path, stream=place) as reader:
                facts |= _video(reader) | {"fields": fields_of(path, place).kind}
        except MediaError as error:
            facts["error"] = error.message
    return facts


def _video(reader: VideoReader) -> dict[str, Any]:
    info = reader.info
    return {
        "size_px": [info.width, info.height],
        "upright_px": list(info.upright_size),
        "pixel_format": info.pixel_format,
        "depth_bits": info.layout.depth_bits,
        "colour": _colour(info),
        "rate_hz": None if info.rate_hz is None else str(info.rate_hz),
        "frames": info.frames,
        "duration_s": info.duration_s,
        "time_base": str(info.time_base),
        "sample_aspect": str(info.sample_aspect),
        "rotation_deg": info.rotation_deg,
        "mirrored": info.mirrored,
        "field_order": info.field_order,
        "hdr": _plain(hdr_of(reader.first)),
        "assumed": list(info.assumed),
        "warnings": reader.warnings,
    }


def _colour(info: StreamInfo) -> dict[str, Any]:
    colour = info.colour
    codes = {"matrix": colour.matrix, "primaries": colour.primaries, "transfer": colour.transfer}
    return codes | {"range": "full" if colour.full_range else "limited"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return float(value)
