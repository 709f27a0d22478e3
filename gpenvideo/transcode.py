"""From file to file: `restore_video` reads, restores and writes in three threads, and says what it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from gpenvideo.analysis import Analysed, upright_picture
from gpenvideo.assembly import analysis_of, identity_of, known_tracks, video_restorer
from gpenvideo.compare import compared, compared_size
from gpenvideo.errors import OptionError
from gpenvideo.evaluate.run import RunMetrics
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.networks import NetworkOptions, gpu_of, load_finder
from gpenvideo.picture import Picture, check_suffix, write_picture
from gpenvideo.pipeline import Restored, RestoreOptions, VideoRestorer
from gpenvideo.place import check_place, write_json
from gpenvideo.report import FrameReport, Report
from gpenvideo.restorer import Restorer
from gpenvideo.stream import prefetch
from gpenvideo.tracks.document import Tracks
from gpenvideo.tracks.given import Given
from gpenvideo.tracks.record import Record
from gpenvideo.upscaling import enlarged_info, enlarged_size, interpolated
from gpenvideo.video.nvdec import aside
from gpenvideo.video.options import Decoding, Encoding
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter

__all__ = [
    "Decoding",
    "Encoding",
    "Progress",
    "analyse_video",
    "preview_video",
    "queue_depth",
    "restore_video",
]

QUEUED_BYTES = 96 << 20  # of frames that wait between two threads
MOST_QUEUED = 16
PICTURE_CODECS = {"png", "tiff", "dpx", "exr"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    frames: int
    total: int | None
    """Frames that the container promises; None where it does not say."""

    seconds: float
    faces: int
    """Faces restored so far."""

    slowest: str
    """The stage that took the most time so far."""

    time_s: float
    """Of the frame that was written last."""

    network: str
    """What restores, on which device."""

    doing: str = ""
    """What is done before the first frame, where that takes time; "" from then on."""


def restore_video(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    weights: str | PathLike[str] | Restorer | None = None,
    detector: str | PathLike[str] | Detector | None = None,
    networks: NetworkOptions | None = None,
    options: RestoreOptions | None = None,
    decoding: Decoding | None = None,
    encoding: Encoding | None = None,
    compare: str | None = None,
    tracks: str | PathLike[str] | Tracks | None = None,
    tracks_out: str | PathLike[str] | None = None,
    metrics: bool = False,
    report: str | PathLike[str] | None = None,
    report_frames: str | PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Restore the faces of a video file, and copy all else that is in it.

    Samples outside the faces' masks reach the encoder as they were decoded, or as the up-scaling made them
    that `options` ask for; timestamps as they were read. The target gets its name when it is whole; an
    earlier one stays until then.

    Args:
        source: a video file, a folder of pictures, or a printf pattern of them.
        target: a file, whose suffix names the container; or a folder or a pattern, for pictures.
        weights, detector: paths or names, or networks that are loaded already; None are the default ones.
        networks: device, precision and the like, for networks that are loaded here.
        options: which faces, and how much.
        decoding: which stream, from when to when.
        encoding: codec, quality and pixel format.
        compare: "side" or "wipe" writes source and result together.
        tracks: of this file, or the file that they are in: no face is searched for, no detector loaded, and
            what a person wants of each track is done.
        tracks_out: a .json file for the tracks that are found; a contact sheet is put beside it, as .png.
        metrics: whether to measure how steady source and result are, see `gpenvideo.evaluate.run.RunMetrics`.
        report: a JSON file for what is returned.
        report_frames: a file of one JSON line a written frame, see `gpenvideo.report.FrameReport`.
        progress: is called at the start and after every frame.

    Raises:
        OptionError, FileError, MediaError, CheckpointError, DeviceError: nothing is left half written.
    """
    begun, decoding, encoding = time.perf_counter(), decoding or Decoding(), encoding or Encoding()
    options = options or RestoreOptions()
    known = known_tracks(tracks, tracks_out, detector)
    with ExitStack() as stack:
        gpu = gpu_of(weights, networks)
        reader = stack.enter_context(decoding.open(source, restores=options.strength > 0, device=gpu))
        size = enlarged_size(reader.info, options.upscale)
        if compare:
            size = compared_size(compare, enlarged_info(reader.info, options.upscale))
        encoding = _encoding(encoding, reader, Path(target))
        writer = stack.enter_context(VideoWriter(target, reader, size=size, **asdict(encoding)))
        _check_reports(report, report_frames, source, target)
        given = Given(known, reader) if known else None
        outputs = [path for path in (target, report, report_frames) if path]
        record = Record(reader, tracks_out, *outputs) if tracks_out else None
        masks = stack.enter_context(FrameReport(report_frames)) if report_frames else None
        identity = identity_of(reader, networks, options)
        video = video_restorer(reader, weights, detector, networks, options, given, identity, record)
        chosen = {"restore": asdict(options), "decode": asdict(decoding), "encode": asdict(encoding)}
        if given:
            chosen["tracks"] = {str(id): wish for id, wish in given.tracks.edits.items()}
        told = Report(fspath(source), fspath(target), video.network, chosen)
        measured = RunMetrics() if metrics else None
        _transcode(reader, writer, video, compare, masks, measured, told, progress)
        writer.finish()
        if masks:
            masks.finish()
        if record:
            record.finish()
        told.frames = {"in": reader.info.frames, "written": writer.frames_written, **reader.counts.as_dict()}
        told.stream, told.encoder = asdict(reader.info) | {"decoder": reader.decoder}, writer.facts
        told.identity = identity.facts
        told.warnings = [*reader.info.assumed, *reader.warnings, *writer.warnings, *identity.warnings]
        told.warnings += given.warnings if given else []
        told.warnings += video.announced
    told.seconds = time.perf_counter() - begun
    told.fps = told.written / told.seconds
    if report:
        write_json(told.as_json(), report)
    return told


def _as_large(restored: Restored, scale: int) -> Restored:
    """With a source of the result's size, interpolated."""
    if scale == 1:
        return restored
    return replace(restored, source=interpolated(restored.source, scale))


def _encoding(encoding: Encoding, reader: VideoReader, target: Path) -> Encoding:
    """Pictures that go to a folder keep their format where it can be written, and are PNG files elsewhere."""
    if reader.container is not None or encoding.codec is not None or (target.suffix and not target.is_dir()):
        return encoding
    return replace(encoding, codec=reader.codec if reader.codec in PICTURE_CODECS else "png")


def _check_reports(
    report: str | PathLike[str] | None,
    report_frames: str | PathLike[str] | None,
    *taken: str | PathLike[str],
) -> None:
    if report_frames:
        check_place(report_frames, *taken)
    if report:
        check_place(report, *taken, *([report_frames] if report_frames else []))


def _transcode(
    reader: VideoReader,
    writer: VideoWriter,
    video: VideoRestorer,
    compare: str | None,
    masks: FrameReport | None,
    measured: RunMetrics | None,
    told: Report,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Run the three threads: decoding, restoring, and this one, which encodes."""
    stages, info = video.stages, reader.info
    result = enlarged_info(info, video.options.upscale)
    shift = round(reader.shift_s / info.time_base)
    begun = time.perf_counter()

    def tell(time_s: float, doing: str = "") -> None:
        if progress:
            seconds, slowest = time.perf_counter() - begun, stages.slowest
            said = (told.written, info.frames, seconds, told.faces, slowest, time_s, told.network, doing)
            progress(Progress(*said))

    tell(0.0)
    video.warm_up(lambda done, total: tell(0.0, f"warming up, {done} of {total}"))
    with (
        prefetch(stages.each("decode", reader), queue_depth(info), name="decode") as decoded,
        prefetch(aside(video(decoded), reader.device), queue_depth(result), name="restore") as restored,
    ):
        for item in restored:
            if not isinstance(item, Restored):
                writer.write(item)
                continue
            if compare or measured:
                item = _as_large(item, video.options.upscale)
            frame = compared(compare, item.source, item.frame, result) if compare else item.frame
            with stages("encode"):
                writer.write(frame)
            if masks:
                masks.write(item.frame.pts + shift, item.masks)
            if measured:
                with stages("measure"):
                    measured.take(item)
            told.count(item)
            tell(frame.time_s)
        told.metrics = measured.result() if measured else {}
        told.stages_s = {name: round(seconds, 3) for name, seconds in stages.seconds.items()}
        for queue in (decoded, restored):
            told.waits_s[f"{queue.name} full"] = round(queue.full_s, 3)
            told.waits_s[f"{queue.name} empty"] = round(queue.empty_s, 3)


def analyse_video(
    source: str | PathLike[str],
    tracks_out: str | PathLike[str] | None = None,
    *,
    detector: str | PathLike[str] | Detector | None = None,
    networks: NetworkOptions | None = None,
    options: RestoreOptions | None = None,
    decoding: Decoding | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Tracks:
    """Find the shots and the tracks of a video, and restore nothing: `restore_video` takes them as `tracks`.

    Args:
        source, tracks_out, detector, networks, decoding: as in `restore_video`.
        options: how faces are searched for; which ones are restored does not matter here.
        progress: is called at the start and after every frame.

    Raises:
        OptionError, FileError, MediaError, DeviceError: nothing is left half written.
    """
    begun, options = time.perf_counter(), options or RestoreOptions()
    with (decoding or Decoding()).open(source) as reader:
        record = Record(reader, tracks_out)
        finder, identity = load_finder(detector, networks), identity_of(reader, networks, options)
        analysis, stages = analysis_of(reader, finder, options, identity, record), identity.stages
        frames = faces = 0

        def tell(time_s: float) -> None:
            if progress:
                seconds = time.perf_counter() - begun
                total = reader.expected_frames
                progress(Progress(frames, total, seconds, faces, stages.slowest, time_s, repr(finder)))

        tell(0.0)
        depth = queue_depth(reader.info)
        with prefetch(stages.each("decode", reader), depth, name="decode") as decoded:
            for item in analysis(decoded):
                if isinstance(item, Analysed):
                    frames, faces = frames + 1, faces + len(item.tracks)
                    tell(item.frame.time_s)
    return record.finish()


def preview_video(
    source: str | PathLike[str],
    target: str | PathLike[str],
    moment: Fraction | int,
    *,
    weights: str | PathLike[str] | Restorer | None = None,
    detector: str | PathLike[str] | Detector | None = None,
    networks: NetworkOptions | None = None,
    options: RestoreOptions | None = None,
    decoding: Decoding | None = None,
    tracks: str | PathLike[str] | Tracks | None = None,
) -> int:
    """Write one moment of a video, before and after, side by side and upright, as a picture.

    Args:
        source: as in `restore_video`.
        target: a picture file.
        moment: seconds, or (an int) a frame number.
        weights, detector, networks, options, decoding, tracks: as in `restore_video`; start and end do not
            matter.

    Returns:
        The number of faces restored.

    Raises:
        OptionError: a moment after the end, a file that is no picture. FileError, MediaError: see
        `restore_video`.
    """
    check_suffix(target)
    check_place(target, source)
    known, options = known_tracks(tracks, None, detector), options or RestoreOptions()
    part = replace(decoding or Decoding(), start=moment, end=None, decoder="software")
    with part.open(source, restores=options.strength > 0) as reader:
        info = reader.info
        frame = next((item for item in reader if isinstance(item, Frame)), None)
        if frame is None:
            raise OptionError("that moment is after its end", path=source)
        given = Given(known, reader) if known else None
        identity = identity_of(reader, networks, options)
        video = video_restorer(reader, weights, detector, networks, options, given, identity)
        restored = next(iter(video([frame])))
    large, restored = enlarged_info(info, options.upscale), _as_large(restored, options.upscale)
    whole = max(large.upright_size)
    pictures = [upright_picture(f, large, whole) for f in (restored.source, restored.frame)]
    write_picture(Picture(np.concatenate(pictures, axis=1)), target)
    return len(restored.tracks)


def queue_depth(info: StreamInfo) -> int:
    """How many frames may wait between two threads: as many as a fixed amount of memory holds, 2 to 16."""
    frame_bytes = info.width * info.height * info.layout.dtype.itemsize * 2
    return max(2, min(MOST_QUEUED, QUEUED_BYTES // frame_bytes))
