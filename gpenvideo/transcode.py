"""From file to file: `restore_video` reads, restores and writes in three threads, and says what it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from gpenvideo.analysis import upright_picture
from gpenvideo.compare import compared, compared_size
from gpenvideo.errors import OptionError
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.networks import NetworkOptions, load_networks
from gpenvideo.picture import Picture, check_suffix, write_picture
from gpenvideo.pipeline import Restored, RestoreOptions, VideoRestorer
from gpenvideo.report import FrameReport, Report, check_place, write_json
from gpenvideo.restorer import Restorer
from gpenvideo.stream import prefetch
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter

__all__ = ["Decoding", "Encoding", "Progress", "preview_video", "restore_video"]

QUEUED_BYTES = 96 << 20  # of frames that wait between two threads
MOST_QUEUED = 16
PICTURE_CODECS = {"png", "tiff", "dpx", "exr"}


@dataclass(frozen=True, slots=True)
class Decoding:
    """Which part of a file is read, and how strictly."""

    start: float | Fraction | int | None = None
    """Seconds (float, Fraction) or a frame number (int)."""

    end: float | Fraction | int | None = None
    """The same; not included."""

    video_stream: int | None = None
    """Among the video streams, from 0; None is the first."""

    rate_hz: Fraction | None = None
    """Frames a second of image sequences and raw streams."""

    strict: bool = False
    """Whether damage in the source is an error; else it is passed over and reported."""

    def open(self, path: str | PathLike[str]) -> VideoReader:
        """A reader of this part of a file."""
        limits: dict[str, Any] = {}
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment is not None:
                limits[f"{name}_frame" if isinstance(moment, int) else f"{name}_s"] = moment
        return VideoReader(path, stream=self.video_stream, rate_hz=self.rate_hz, strict=self.strict, **limits)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a result is written; see `gpenvideo.video.writer.VideoWriter`."""

    codec: str | None = None
    """None is libx264 where the container holds it."""

    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None


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
    report: str | PathLike[str] | None = None,
    report_frames: str | PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Restore the faces of a video file, and copy all else that is in it.

    Samples outside the faces' masks reach the encoder as they were decoded, timestamps as they were read. The
    target gets its name when it is whole; an earlier one stays until then.

    Args:
        source: a video file, a folder of pictures, or a printf pattern of them.
        target: a file, whose suffix names the container; or a folder or a pattern, for pictures.
        weights, detector: paths or names, or networks that are loaded already; None are the default ones.
        networks: device, precision and the like, for networks that are loaded here.
        options: which faces, and how much.
        decoding: which stream, from when to when.
        encoding: codec, quality and pixel format.
        compare: "side" or "wipe" writes source and result together.
        report: a JSON file for what is returned.
        report_frames: a file of one JSON line a written frame, see `gpenvideo.report.FrameReport`.
        progress: is called at the start and after every frame.

    Raises:
        OptionError, FileError, MediaError, CheckpointError, DeviceError: nothing is left half written.
    """
    begun, decoding, encoding = time.perf_counter(), decoding or Decoding(), encoding or Encoding()
    options = options or RestoreOptions()
    with ExitStack() as stack:
        reader = stack.enter_context(decoding.open(source))
        size = compared_size(compare, reader.info) if compare else None
        encoding = _encoding(encoding, reader, Path(target))
        writer = stack.enter_context(VideoWriter(target, reader, size=size, **asdict(encoding)))
        _check_reports(report, report_frames, source, target)
        masks = stack.enter_context(FrameReport(report_frames)) if report_frames else None
        restorer, finder = load_networks(weights, detector, networks)
        chosen = {"restore": asdict(options), "decode": asdict(decoding), "encode": asdict(encoding)}
        told = Report(fspath(source), fspath(target), repr(restorer), chosen)
        _transcode(
            reader,
            writer,
            VideoRestorer(restorer, finder, reader.info, options),
            compare,
            masks,
            told,
            progress,
        )
        writer.finish()
        if masks:
            masks.finish()
        told.frames = {"in": reader.info.frames, "written": writer.frames_written, **reader.counts.as_dict()}
        told.stream, told.encoder = asdict(reader.info), writer.facts
        told.warnings = [*reader.info.assumed, *reader.warnings, *writer.warnings]
    told.seconds = time.perf_counter() - begun
    told.fps = told.written / told.seconds
    if report:
        write_json(told.as_json(), report)
    return told


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
    told: Report,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Run the three threads: decoding, restoring, and this one, which encodes."""
    stages, info, depth = video.stages, reader.info, _queue_depth(reader.info)
    shift = round(reader.shift_s / info.time_base)
    begun = time.perf_counter()

    def tell(time_s: float) -> None:
        if progress:
            seconds = time.perf_counter() - begun
            progress(
                Progress(told.written, info.frames, seconds, told.faces, stages.slowest, time_s, told.network)
            )

    tell(0.0)
    with (
        prefetch(stages.each("decode", reader), depth, name="decode") as decoded,
        prefetch(video(decoded), depth, name="restore") as restored,
    ):
        for item in restored:
            if not isinstance(item, Restored):
                writer.write(item)
                continue
            frame = compared(compare, item.source, item.frame, info) if compare else item.frame
            with stages("encode"):
                writer.write(frame)
            if masks:
                masks.write(item.frame.pts + shift, item.masks)
            told.count(item)
            tell(frame.time_s)
        told.stages_s = {name: round(seconds, 3) for name, seconds in stages.seconds.items()}
        for queue in (decoded, restored):
            told.waits_s[f"{queue.name} full"] = round(queue.full_s, 3)
            told.waits_s[f"{queue.name} empty"] = round(queue.empty_s, 3)


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
) -> int:
    """Write one moment of a video, before and after, side by side and upright, as a picture.

    Args:
        source: as in `restore_video`.
        target: a picture file.
        moment: seconds, or (an int) a frame number.
        weights, detector, networks, options, decoding: as in `restore_video`; start and end do not matter.

    Returns:
        The number of faces restored.

    Raises:
        OptionError: a moment after the end, a file that is no picture. FileError, MediaError: see
        `restore_video`.
    """
    check_suffix(target)
    check_place(target, source)
    with replace(decoding or Decoding(), start=moment, end=None).open(source) as reader:
        info = reader.info
        frame = next((item for item in reader if isinstance(item, Frame)), None)
        if frame is None:
            raise OptionError("that moment is after its end", path=source)
        restorer, finder = load_networks(weights, detector, networks)
        restored = next(iter(VideoRestorer(restorer, finder, info, options)([frame])))
    whole = max(info.upright_size)
    pictures = [upright_picture(f, info, whole) for f in (restored.source, restored.frame)]
    write_picture(Picture(np.concatenate(pictures, axis=1)), target)
    return len(restored.tracks)


def _queue_depth(info: StreamInfo) -> int:
    """How many frames may wait between two threads: as many as a fixed amount of memory holds, 2 to 16."""
    frame_bytes = info.width * info.height * info.layout.dtype.itemsize * 2
    return max(2, min(MOST_QUEUED, QUEUED_BYTES // frame_bytes))
