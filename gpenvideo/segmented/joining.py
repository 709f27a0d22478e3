"""Joining: the segments of all parts of a file, and what is copied from it, become one file."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from gpenvideo.errors import MediaError, OptionError
from gpenvideo.frame import Frame
from gpenvideo.report import Report, Track
from gpenvideo.segmented.parts import PartDone
from gpenvideo.segmented.work import Work
from gpenvideo.upscaling import enlarged_size
from gpenvideo.video.disk import remove_left_over
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.segments import packets
from gpenvideo.video.writer import VideoWriter

__all__ = ["join", "joined"]


def join(work: Work, done: Sequence[PartDone], target: str | PathLike[str]) -> dict[str, Any]:
    """Make the result of the segments of all parts and of what is copied from the source, encoding nothing.

    Args:
        done: what `restore_part` gave for each part.
        target: a file whose suffix is that of `work.container`.

    Returns:
        The report of the whole, as JSON holds it: see `gpenvideo.report.Report`.

    Raises:
        OptionError: another suffix. MediaError: segments that are damaged, of different analyses or encoders,
        or not of all parts. FileError: see `restore_video`.
    """
    facts: dict[str, Any] = json.loads(joined(work, done, target).as_json())
    return facts


def joined(work: Work, done: Sequence[PartDone], target: str | PathLike[str]) -> Report:
    """`join`, with its report as it is."""
    begun, target = time.perf_counter(), Path(target)
    done = sorted(done, key=lambda part: part.index)
    _check(work, done, target)
    remove_left_over(target)
    with (
        work.decoding.open(work.source) as reader,
        VideoWriter(
            target,
            reader,
            size=enlarged_size(reader.info, work.options.upscale),
            **asdict(work.encoding),
        ) as writer,
    ):
        ahead = _encoded(done, reader.info.time_base)
        _mux(reader, writer, ahead)
        if writer.frames_written != sum(part.frames for part in done):
            raise MediaError("the segments do not hold what was restored: restore them anew", path=target)
        writer.finish()
        told = _whole(work, done, reader, writer)
    told.seconds = sum(part.seconds for part in done) + time.perf_counter() - begun
    told.fps = told.written / told.seconds
    return told


def _check(work: Work, done: Sequence[PartDone], target: Path) -> None:
    if target.suffix.lower() != work.container.lower():
        raise OptionError(f"the segments were made for a {work.container} file", path=target)
    ends = [part.told["part"] for part in done]
    if not done or ends[-1][1] is not None or any(a[1] != b[0] for a, b in itertools.pairwise(ends)):
        raise MediaError("there are not the segments of all its parts", path=work.source)
    if len({part.told["tracks"] for part in done}) > 1:
        raise MediaError("its segments are of different analyses: restore them anew", path=work.source)


def _encoded(done: Sequence[PartDone], time_base: Fraction) -> Iterator[tuple[Any, bytes]]:
    """All packets, with what their encoder said ahead of them."""
    for part in done:
        if part.frames:
            facts = part.told["segment"]
            extradata = bytes.fromhex(facts["extradata"])
            yield from ((packet, extradata) for packet in packets(part.path, facts, time_base))


def _mux(reader: VideoReader, writer: VideoWriter, encoded: Iterator[tuple[Any, bytes]]) -> None:
    """Bring what was encoded and what is copied together by the time of decoding."""
    ahead, begun = next(encoded, None), False
    for item in reader:
        if isinstance(item, Frame):
            reader.stop_decoding()
            begun = True  # what comes before the first picture waits for it, as in one run
            continue
        moment_s = _moment_s(item.packet)
        while begun and ahead and moment_s is not None and _moment_s(ahead[0]) <= moment_s:
            writer.add(*ahead)
            ahead = next(encoded, None)
        writer.write(item)
    while ahead:
        writer.add(*ahead)
        ahead = next(encoded, None)


def _moment_s(packet: Any) -> Any:
    """When a packet is decoded; None where nothing says."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return None if ticks is None else ticks * packet.time_base


def _whole(work: Work, done: Sequence[PartDone], reader: VideoReader, writer: VideoWriter) -> Report:
    """The report of the whole, of those of its parts."""
    told = [part.told["report"] for part in done if part.frames]
    chosen = {
        "restore": asdict(work.options),
        "decode": asdict(work.decoding),
        "encode": asdict(work.encoding),
    }
    whole = Report(work.source, fspath(writer.path), told[0]["network"], chosen, versions=told[0]["versions"])
    decoder = told[0]["stream"]["decoder"]
    whole.stream, whole.encoder = asdict(reader.info) | {"decoder": decoder}, writer.facts
    known: dict[int, Track] = {}
    least: dict[str, float] = {}
    warnings = [*reader.info.assumed, *writer.warnings]
    for part in told:
        for faces, frames in part["faces_per_frame"].items():
            whole.faces_per_frame[int(faces)] = whole.faces_per_frame.get(int(faces), 0) + frames
        for track in part["tracks"]:
            before = known.setdefault(track["id"], Track(**track | {"frames": 0}))
            before.last_s, before.frames = track["last_s"], before.frames + track["frames"]
        guard = part["identity"]["guard"]  # why there is none, or factors
        for id, factor in guard.items() if isinstance(guard, dict) else ():
            least[id] = min(factor, least.get(id, 1.0))
        for stage, seconds in part["stages_s"].items():
            whole.stages_s[stage] = round(whole.stages_s.get(stage, 0.0) + seconds, 3)
        if part["matching"]:
            whole.match(part["matching"])
        whole.shots_s += part["shots_s"]
        warnings += part["warnings"]
    whole.tracks = list(known.values())
    whole.identity = told[0]["identity"] | ({"guard": least} if least else {})
    whole.warnings = list(dict.fromkeys(warnings))
    whole.frames = {"in": reader.info.frames, "written": writer.frames_written}
    return whole
