"""Verification: a result decoded to its end, and compared with what it was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from os import PathLike
from typing import Any, NamedTuple

from gpenvideo.errors import MediaError
from gpenvideo.frame import Frame
from gpenvideo.segmented.parts import PartDone
from gpenvideo.segmented.work import Work
from gpenvideo.video.part import ATTACHED_PICTURE
from gpenvideo.video.reader import Copied, VideoReader
from gpenvideo.video.segments import packets

__all__ = ["verify"]

UNTIMED = {"avi"}  # counts frames: times are only near the source's
COMPARED = ("audio", "subtitle", "video")


class _Packet(NamedTuple):
    time_s: Fraction | None
    dts: int | None
    digest: bytes


@dataclass(eq=False)
class _Stream:
    name: str
    kind: str
    codec: str
    time_base: Fraction
    packets: list[_Packet] = field(default_factory=list)
    bytes: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    """Of all of them together."""


def verify(work: Work, segments: Sequence[PartDone], target: str | PathLike[str]) -> dict[str, Any]:
    """Decode a result fully, and compare it with its segments and its source.

    Of the restored stream every sample of every frame and its time; of each stream that was copied the number
    of its packets, their times, and (where source and result are of one container) their content. Times are
    equal when all are later by the same, as far as the containers' ticks can tell.

    Args:
        work: what was done; its source is there.
        segments: in order; their files are there.
        target: the result.

    Returns:
        {"frames", "sha256" of all planes, "streams": {"audio 0": packets, ...}, "not_compared": [...]}: the
        last are streams that were left out or are of another codec, as the report's warnings tell.

    Raises:
        MediaError: what differs first, and when. FileError: a file that cannot be read.
    """
    with (
        work.decoding.open(work.source) as source,
        VideoReader(target, stream=work.decoding.video_stream) as made,
    ):
        result = _Result(made)
        restored = _restored(segments, source.info.time_base)
        frames, digest, later_s = _compare_frames(restored, result, target)
        streams, others = _compare_streams(source, result, later_s, target)
    return {"frames": frames, "sha256": digest, "streams": streams, "not_compared": others}


class _Result:
    """The frames of a result; the packets of the other streams are noted down on the way."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self.streams = _streams(reader)
        self.timed = reader.stream.start_time is not None and self.format not in UNTIMED

    @property
    def format(self) -> str:
        return str(self.reader.container.format.name)

    def __iter__(self) -> Iterator[Frame]:
        for item in self.reader:
            if isinstance(item, Copied):
                _note(self.streams, item)
            else:
                yield item


def _restored(segments: Sequence[PartDone], time_base: Fraction) -> Iterator[tuple[Frame, Fraction]]:
    """All frames, and when each is shown."""
    for segment in segments:
        if not segment.frames:
            continue
        times = sorted(packet.pts for packet in packets(segment.path, segment.told["segment"], time_base))
        frames = 0
        with VideoReader(segment.path) as reader:
            pictures = (item for item in reader if not isinstance(item, Copied))
            for frame, pts in zip(pictures, times, strict=False):
                yield frame, pts * time_base
                frames += 1
        if frames != segment.frames or len(times) != frames:
            line = f"it holds {frames} frames, not the {segment.frames} that were restored"
            raise MediaError(line, path=segment.path)


def _compare_frames(
    restored: Iterator[tuple[Frame, Fraction]], result: _Result, target: str | PathLike[str]
) -> tuple[int, str, Fraction | None]:
    """The number of frames, the hash of their planes, and how much later they are; None is not known."""
    digest, frames = hashlib.sha256(), 0
    first_s: Fraction | None = None
    for ours, theirs in zip_longest(restored, result):
        if ours is None or theirs is None:
            more = "more" if ours is None else "fewer"
            raise MediaError(f"it has {more} frames than were restored, {frames}", path=target)
        planes = _digest(ours[0])
        if planes != _digest(theirs):
            raise MediaError(f"its frame {frames} is not the restored one", path=target, time_s=theirs.time_s)
        later_s = theirs.pts * theirs.time_base - ours[1]
        first_s = later_s if first_s is None else first_s
        if result.timed:
            _check_time(f"its frame {frames}", later_s - first_s, theirs.time_base, target)
        digest.update(planes)
        frames += 1
    return frames, digest.hexdigest(), first_s if result.timed else None


def _check_time(what: str, off_s: Fraction, tolerance_s: Fraction, target: str | PathLike[str]) -> None:
    if abs(off_s) > tolerance_s:
        raise MediaError(f"{what} is {float(off_s) * 1000:+.3f} ms off its time", path=target)


def _digest(frame: Frame) -> bytes:
    digest = hashlib.sha256()
    for plane in (*frame.planes, *([] if frame.alpha is None else [frame.alpha])):
        digest.update(f"{plane.shape} {plane.dtype}".encode())
        digest.update(plane.tobytes())
    return digest.digest()


def _compare_streams(
    source: VideoReader, result: _Result, later_s: Fraction | None, target: str | PathLike[str]
) -> tuple[dict[str, int], list[str]]:
    """The packets of each stream that was copied, and the streams that cannot be compared."""
    streams, others = _streams(source), []
    source.stop_decoding()
    for item in source:
        if isinstance(item, Copied):
            _note(streams, item)
    made, counted = list(result.streams.values()), {}
    for stream in streams.values():
        twin = next((s for s in made if (s.kind, s.codec) == (stream.kind, stream.codec)), None)
        if twin is None:
            others.append(f"{stream.name} ({stream.codec})")
            continue
        made.remove(twin)
        same = source.container.format.name == result.format
        _compare_packets(stream, twin, later_s, same, target)
        counted[stream.name] = len(twin.packets)
    return counted, others


def _compare_packets(
    ours: _Stream, theirs: _Stream, later_s: Fraction | None, same: bool, target: str | PathLike[str]
) -> None:
    if ours.codec.startswith("pcm_"):  # which containers pack as they like
        if (ours.bytes, ours.digest.digest()) != (theirs.bytes, theirs.digest.digest()):
            raise MediaError(f"{ours.name} is not the source's", path=target)
        return
    if len(ours.packets) != len(theirs.packets):
        line = f"{ours.name} has {len(theirs.packets)} packets, {len(ours.packets)} were to be copied"
        raise MediaError(line, path=target)
    for number, (mine, other) in enumerate(zip(ours.packets, theirs.packets, strict=True)):
        what = f"packet {number} of {ours.name}"
        if same and mine.digest != other.digest:
            raise MediaError(f"{what} is not the source's", path=target)
        if None not in (later_s, mine.time_s, other.time_s):
            off_s = other.time_s - mine.time_s - later_s  # type: ignore[operator]
            _check_time(what, off_s, ours.time_base + 2 * theirs.time_base, target)


def _streams(reader: VideoReader) -> dict[int, _Stream]:
    """The streams whose packets are compared, by their index in the file."""
    streams: dict[int, _Stream] = {}
    for stream in reader.copied:
        is_cover = bool(stream.disposition & ATTACHED_PICTURE)
        if stream.type in COMPARED and stream.codec_context is not None and not is_cover:
            number = sum(known.kind == stream.type for known in streams.values())
            name, codec = f"{stream.type} {number}", str(stream.codec_context.name)
            streams[stream.index] = _Stream(name, stream.type, codec, stream.time_base)
    return streams


def _note(streams: dict[int, _Stream], item: Copied) -> None:
    """Note a packet down, if its decoding time rises: others are not copied."""
    stream, packet = streams.get(item.stream.index), item.packet
    if stream is None:
        return
    time_s = None if packet.pts is None else packet.pts * packet.time_base
    dts = packet.dts if packet.dts is not None else packet.pts
    last = stream.packets[-1].dts if stream.packets else None
    if last is None or dts is None or dts > last:
        data = bytes(packet)
        stream.packets.append(_Packet(time_s, dts, hashlib.sha256(data).digest()))
        stream.digest.update(data)
        stream.bytes += len(data)
