"""The three steps of a segmented restoration: analyse a file, restore its parts, join them.

    tracks = analyse(work, "film.tracks.json")
    done = [restore_part(work, part, "film.tracks.json", f"{part.index}.nut") for part in parts(tracks, 60)]
    report = join(work, done, "restored.mkv")

The result is what `restore_video` makes of the file, bit for bit where the codec is lossless: a part is given
its tracks, begins where everything temporal begins anew, and is restored from so much earlier that what
reaches over that is as if the run had come from the beginning. Batches of faces begin there too, for on some
devices a network's last bits depend on the size of a batch. A file is analysed once, for a detector's last
bits depend on the number of threads; parts that are given the same tracks are the same with any number.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from gpenvideo.analysis import Analysed, Analysis
from gpenvideo.errors import OptionError, file_error
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Frame
from gpenvideo.networks import gpu_of
from gpenvideo.persons import Analysing, Identity
from gpenvideo.pipeline import Restored, VideoRestorer
from gpenvideo.report import Report
from gpenvideo.segmented.joining import join
from gpenvideo.segmented.parts import ANCHOR_EVERY_S, Part, PartDone
from gpenvideo.segmented.same import OtherPictures, Same
from gpenvideo.segmented.warm import Warm
from gpenvideo.segmented.work import Work, hash_of
from gpenvideo.stream import prefetch
from gpenvideo.tracks.document import Tracks
from gpenvideo.tracks.file import read_tracks, write_tracks
from gpenvideo.tracks.given import Given
from gpenvideo.tracks.record import Record
from gpenvideo.transcode import Progress, queue_depth
from gpenvideo.upscaling import enlarged_info, enlarged_size
from gpenvideo.video.disk import beside, put_in_place
from gpenvideo.video.nvdec import aside
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.segments import SegmentWriter
from gpenvideo.video.timing import as_ticks

__all__ = ["Warm", "analyse", "join", "restore_part"]

AHEAD_S = (0, 10, None)
"""How long before a part its decoding begins: further off only where other pictures come out than before."""

MEANS_S = 1
"""How long before an anchor a part begins, for the means of `gpenvideo.steady`: its WARM_UP_S."""

PERIOD_AND_MEANS_S = ANCHOR_EVERY_S + MEANS_S
"""The same where the period before reaches over the anchor: a guard compares what was made of its means, and
of several networks it chose the one whose crops the means are of."""

Tell = Callable[[Progress], None]


def analyse(
    work: Work,
    tracks_out: str | PathLike[str],
    warm: Warm | None = None,
    progress: Tell | None = None,
) -> Tracks:
    """Find the shots and tracks of a file and write them down, synced: `gpenvideo.read_tracks` reads them.

    Where only some persons are wanted, the tracks are theirs: from when each is known, as in one run.

    Args:
        tracks_out: a .json file.
        warm: networks that are loaded.
        progress: is called at the start and after every frame.

    Raises:
        OptionError, FileError, MediaError, CheckpointError, DeviceError: see `gpenvideo.analyse_video`.
    """
    begun, warm, target = time.perf_counter(), warm or Warm(), Path(tracks_out)
    if target.suffix.lower() != ".json":
        raise OptionError("tracks are written to a file that is called .json", path=target)
    with work.decoding.open(work.source, restores=work.options.strength > 0) as reader:
        _try_encoder(work, reader, target)
        warm.upscaler(work.options.upscale, work.options.background, work.networks)
        record = Record(reader, None, pictures=True)
        searched = work.tracks is None or bool(work.options.reference)
        finder = warm.finder(work.detector, work.networks) if searched else None
        given = None if work.tracks is None else Given(read_tracks(work.tracks), reader)
        identity = _identity(work, reader, warm, guarded=False)
        found = record.of(_wanted(work, given, finder, reader, identity))
        frames = faces = 0

        def tell(time_s: float) -> None:
            if progress:
                told = (identity.stages.slowest, time_s, repr(finder) if finder else "tracks that are given")
                progress(Progress(frames, reader.expected_frames, time.perf_counter() - begun, faces, *told))

        tell(0.0)
        with prefetch(reader, queue_depth(reader.info), name="decode") as decoded:
            for item in found(decoded):
                if isinstance(item, Analysed):
                    frames, faces = frames + 1, faces + len(item.tracks)
                    tell(item.frame.time_s)
    tracks = record.finish()
    if given:
        tracks = _with_wishes(tracks, given.tracks)
    write_tracks(tracks, target)
    try:
        put_in_place(target, target)
    except OSError as error:
        raise file_error(error, target, "write") from error
    return tracks


def _try_encoder(work: Work, reader: VideoReader, place: Path) -> None:
    """What is wrong with the encoding shows before the long work."""
    _segment_writer(work, reader, place.with_suffix(".nut")).abort()


def _segment_writer(work: Work, reader: VideoReader, path: Path) -> SegmentWriter:
    size = enlarged_size(reader.info, work.options.upscale)
    return SegmentWriter(path, reader, work.container, size=size, **asdict(work.encoding))


def _wanted(
    work: Work, given: Given | None, finder: Detector | None, reader: VideoReader, identity: Identity
) -> Analysing:
    """The analysis of a file, with the faces of those alone who are wanted."""
    options = work.options
    if given is not None:
        found: Analysing = given
    else:
        assert finder is not None
        found = Analysis(
            finder,
            reader.info,
            detect_size_px=options.detect_size_px,
            detect_every=options.detect_every,
            stages=identity.stages,
        )
    if finder:
        found = identity.told_apart(found)
    if finder and options.reference:
        found = identity.wanted_only(found, options.reference, finder)
    if not options.select.startswith("person:"):
        return found
    person = int(options.select.removeprefix("person:"))

    def kept(item: Any) -> Any:
        if not isinstance(item, Analysed):
            return item
        return replace(item, tracks=[track for track in item.tracks if track.person == person])

    return lambda items: map(kept, found(items))


def _with_wishes(tracks: Tracks, given: Tracks) -> Tracks:
    """Tracks that were taken down from others, with the weights that are wanted for them there.

    Their strength is in their opacity by now, and those to be skipped are not among them.
    """
    weights = {track.id: track.weights for track in given.tracks}
    found = tuple(replace(track, weights=weights[track.id]) for track in tracks.tracks)
    return replace(tracks, tracks=found)


def restore_part(
    work: Work,
    part: Part,
    tracks_path: str | PathLike[str],
    target_segment: str | PathLike[str],
    warm: Warm | None = None,
    progress: Tell | None = None,
) -> PartDone:
    """Restore a part of a file into a segment, which lies at its place, whole and synced, on return.

    Args:
        part: of `parts`.
        tracks_path: what `analyse` wrote.
        target_segment: a .nut file.
        warm: networks that are loaded.
        progress: is called at the start and after every frame; counts those of this part.

    Raises:
        OptionError, FileError, MediaError, CheckpointError, DeviceError: nothing is left half written.
    """
    begun, warm, target = time.perf_counter(), warm or Warm(), Path(target_segment)
    tracks_hash, tracks = warm.tracks(tracks_path)
    for ahead_s in AHEAD_S:
        try:
            told, segment = _made(work, part, tracks, target, warm, progress, ahead_s)
            break
        except OtherPictures as error:
            if ahead_s is None:
                raise error.told from None
    seconds = time.perf_counter() - begun
    facts: dict[str, Any] = {"part": [part.start_pts, part.end_pts], "tracks": tracks_hash}
    facts |= {"segment": segment, "report": json.loads(told.as_json())}
    counts = told.written, told.faces
    size = target.stat().st_size
    return PartDone(part.index, fspath(target), hash_of(target), size, *counts, seconds, facts)


def _made(
    work: Work,
    part: Part,
    tracks: Tracks,
    target: Path,
    warm: Warm,
    progress: Tell | None,
    ahead_s: int | None,
) -> tuple[Report, dict[str, Any]]:
    """The segment of a part is made; its report, and what is to be known of the segment."""
    with work.decoding.open(work.source, device=gpu_of(work.weights, work.networks)) as reader:
        identity = _identity(work, reader, warm, guarded=work.options.guard)
        video = _video_restorer(work, tracks, reader, warm, identity)
        reaches_over = identity.guard is not None or bool(work.options.further_weights)
        early_pts = _early_pts(part, tracks, PERIOD_AND_MEANS_S if reaches_over else MEANS_S)
        told = Report(work.source, fspath(target), video.network, {})
        pictures = reader.between(early_pts, part.end_pts, ahead_s)
        shift = as_ticks(reader.shift_s, reader.info.time_base)
        same = Same(work.source, tracks, early_pts, part.end_pts, strict=ahead_s is not None)
        writer = _segment_writer(work, reader, target)
        try:
            depth = queue_depth(enlarged_info(reader.info, work.options.upscale))
            run = _Run(video, identity, writer, told, depth, progress, reader.device)
            run(same(pictures, shift), part.start_pts - shift)
            if writer.frames_written:
                writer.finish()
            else:  # the stream has a gap that is longer than a part
                _write_nothing(target)
        finally:
            writer.abort()
        told.warnings = [*reader.info.assumed, *reader.warnings, *same.warnings, *writer.warnings]
        told.warnings += video.announced
        told.stream, told.encoder = asdict(reader.info) | {"decoder": reader.decoder}, writer.facts
        persons = {track.person for track in tracks.tracks} - {0}
        told.identity = identity.facts | {"persons": len(persons)}
    return told, writer.segment


def _video_restorer(
    work: Work, tracks: Tracks, reader: VideoReader, warm: Warm, identity: Identity
) -> VideoRestorer:
    """What restores the frames of a file whose tracks are known."""
    alone = replace(work.networks, template=None)  # which is for `weights`
    wanted = {track.id: track.weights for track in tracks.tracks if track.weights and not track.skip}
    return VideoRestorer(
        warm.restorer(work.weights, work.networks),
        Given(tracks, reader),
        reader.info,
        work.options,
        identity.stages,
        others={id: warm.restorer(name, alone) for id, name in wanted.items()},
        further=[warm.restorer(name, alone) for name in work.options.further_weights],
        guard=identity.guard,
        upscaler=warm.upscaler(work.options.upscale, work.options.background, work.networks),
        shift_s=_shift_s(reader),
    )


def _identity(work: Work, reader: VideoReader, warm: Warm, *, guarded: bool) -> Identity:
    embedder = warm.embedder(work.networks.device)
    return Identity(embedder, reader.info, shift_s=float(_shift_s(reader)), guarded=guarded)


def _shift_s(reader: VideoReader) -> Fraction:
    """What is taken off the times of the stream that is restored: whole ticks."""
    return as_ticks(reader.shift_s, reader.info.time_base) * reader.info.time_base


def _early_pts(part: Part, tracks: Tracks, warm_up_s: int) -> int:
    """From where on a part is restored, so that its own frames are as if that had been the beginning."""
    start = part.start_pts
    if not any(track.first_pts < start <= track.last_pts for track in tracks.tracks):
        return start
    base = tracks.source.time_base
    anchor_s = math.floor(start * base / ANCHOR_EVERY_S) * ANCHOR_EVERY_S
    early = math.ceil((anchor_s - warm_up_s) / base)
    shot = max((pts for pts in tracks.shots if pts <= start), default=tracks.first_pts)
    return max(early, shot)


@dataclass(slots=True)
class _Run:
    """Decoding, restoring and encoding a part, in three threads."""

    video: VideoRestorer
    identity: Identity
    writer: SegmentWriter
    told: Report
    depth: int
    """Frames between two threads."""

    progress: Tell | None
    device: Any
    """What decodes, see `VideoReader`."""

    def __call__(self, pictures: Iterator[Frame], start_pts: int) -> None:
        """Write the pictures from a moment on, of some that begin earlier."""
        stages, depth, begun = self.video.stages, self.depth, time.perf_counter()
        self._tell(begun, 0.0)
        with (
            prefetch(stages.each("decode", pictures), depth, name="decode") as decoded,
            prefetch(
                aside(_from(start_pts, self.video, self.identity, decoded), self.device),
                depth,
                name="restore",
            ) as restored,
        ):
            for item in restored:
                with stages("encode"):
                    self.writer.write(item.frame)
                self.told.count(item)
                self._tell(begun, item.frame.time_s)
        self.told.stages_s = {name: round(seconds, 3) for name, seconds in stages.seconds.items()}

    def _tell(self, begun: float, time_s: float) -> None:
        if self.progress:
            told, seconds = self.told, time.perf_counter() - begun
            slowest = self.video.stages.slowest
            self.progress(Progress(told.written, None, seconds, told.faces, slowest, time_s, told.network))


def _from(
    start_pts: int, video: VideoRestorer, identity: Identity, frames: Iterator[Frame]
) -> Iterator[Restored]:
    """The restored frames from a moment on; those before bring the restorer to where it would be then."""
    first: list[Frame] = []

    def early() -> Iterator[Frame]:
        for frame in frames:
            if frame.pts >= start_pts:
                first.append(frame)
                return
            yield frame

    for _ in video(early()):
        pass
    if identity.guard:
        identity.guard.lowest.clear()
    yield from video(itertools.chain(first, frames))


def _write_nothing(path: Path) -> None:
    part = beside(path)
    try:
        part.write_bytes(b"")
        put_in_place(part, path)
    except OSError as error:
        raise file_error(error, path, "write") from error
