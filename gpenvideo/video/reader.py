"""VideoReader: a file or an image sequence as Frames, and the packets of all that is copied beside them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpenvideo.errors import MediaError, OptionError
from gpenvideo.frame import Colour, Frame, StreamInfo
from gpenvideo.video.description import colour_of, describe
from gpenvideo.video.fitting import fit
from gpenvideo.video.hardware import Hardware
from gpenvideo.video.log import Counts, ReadingLog
from gpenvideo.video.nvdec import OnDevice
from gpenvideo.video.part import ATTACHED_PICTURE, choose_part
from gpenvideo.video.pixels import pixel_format, to_frame
from gpenvideo.video.sequence import is_sequence
from gpenvideo.video.sources import DEFAULT_RATE_HZ, Copied, FileSource, StillSource
from gpenvideo.video.timing import Clock, parse_time
from gpenvideo.video.treatment import Treated, Treating, Treatment

__all__ = ["Copied", "Counts", "VideoReader", "parse_time"]

MOST_SILENT_PACKETS = 3000  # without one picture: it is given up
PATIENCE_S = 30  # past the end, for copied streams that come late in the file
PROGRESSIVE = 1  # of FFmpeg's AVFieldOrder


class VideoReader:
    """Reads a video, and all that travels with it, in the order of the file.

    Iterating gives, once, a `Frame` for every picture of the restored stream and a `Copied` for every packet
    of the others. A frame's planes belong to the decoder and may not be written; they stay valid for as long
    as the frame is held, also after `close`. Damage is passed over, counted (`counts`) and told (`warnings`).

    Timestamps are the stream's own and rise (see `timing.Clock`). When the reading begins at a chosen
    moment, that moment is taken off the timestamps of all streams. Iterate in one thread; `close`, from any
    thread, ends the iteration.

    Args:
        path: a video file, a folder of pictures, or a printf pattern of them (shot_%04d.png).
        stream: which video stream is restored, counted from 0 among those that are no cover pictures; None
            is the first that can be decoded.
        start_s, end_s: the part to read in seconds from the first picture, the end excluded.
        start_frame, end_frame: the same by number, from 0 in order of presentation.
        rate_hz: frames a second of a source without timestamps: an image sequence (default 24), a raw stream
            (default what it says, else 25).
        strict: raise at the first damage instead of going on.
        treatment: what is done to the pictures before they are frames; `info` then tells of what it makes,
            which has times of its own, and start and end count the decoder's pictures.
        hardware: the wish that a GPU decodes; what it cannot, and what fails a check, the CPU decodes.

    Raises:
        OptionError: a stream that is not there, an empty part, a rate that is not positive, a treatment that
            does not work on these pictures.
        FileError, FileMissing: what cannot be read.
        MediaError: what holds no video that can be decoded; with `strict` the first damage, with its time,
            also while iterating.
    """

    info: StreamInfo
    container: Any
    """av.InputContainer; None for an image sequence."""

    stream: Any
    """The av stream that is restored; None for an image sequence."""

    copied: list[Any]
    """The av streams that are copied: audio, subtitles, video, data, covers, attachments (no packets)."""

    first: Any
    """The first av.VideoFrame, decoded and treated: its side data (HDR) holds for the stream."""

    shift_s: Fraction
    """What is taken off all timestamps, in seconds of the source's time."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        stream: int | None = None,
        start_s: float | Fraction | None = None,
        end_s: float | Fraction | None = None,
        start_frame: int | None = None,
        end_frame: int | None = None,
        rate_hz: float | Fraction | None = None,
        strict: bool = False,
        treatment: Treatment | None = None,
        hardware: Hardware | None = None,
    ) -> None:
        if rate_hz is not None and not 0 < rate_hz <= 1000:
            raise OptionError(f"a rate is above 0 and at most 1000 frames a second, got {rate_hz}")
        rate = None if rate_hz is None else Fraction(rate_hz).limit_denominator(1001)
        self.path = Path(path)
        self._log = ReadingLog(self.path, strict)
        self._lock = threading.Lock()
        self._closed = False
        self._source: FileSource | StillSource
        if is_sequence(path):
            self._source = StillSource(self.path, rate, self._log)
        else:
            self._source = FileSource(self.path, stream, rate, self._log)
        source = self._source
        self.container, self.stream, self.copied = source.container, source.stream, source.copied
        try:
            self._part = choose_part(start_s, end_s, start_frame, end_frame, source.origin_s, source.times_of)
            self.shift_s = self._part.start_s or Fraction(0)
            if source.duration_s is not None and self.shift_s > source.origin_s + source.duration_s + 1:
                raise MediaError(
                    f"it is over before that start: it lasts {source.duration_s:.3f} s", path=path
                )
            if hardware:
                source.nvdec = hardware.decoder_of(source, treated=bool(treatment))
            self._begin(treatment or Treatment())
        except BaseException:
            self.close()
            raise
        self._over = False
        self._started: set[int] = set()
        self._items = self._read()

    def _begin(self, treatment: Treatment) -> None:
        """Read up to the first picture, which tells what all are like."""
        self._treatment, self._colours = treatment, dict[Any, Colour]()
        self._treating: Treating | None = None
        self._renew_clock()
        self._raw = self._primed(self._treated(self._source.items_from(self._part.start_s)))
        self.info = self._described(self.first, self._treating)
        if self._treating is None:
            self._decoded = self.info
        for note in self._treating.notes if self._treating else treatment.notes:
            self._log.note(note)
        known = pixel_format(self.info.pixel_format)
        if not known.exact:
            curve = ", with the transfer curve of sRGB" if self.info.colour.transfer == 13 else ""
            depth_bits = self.info.layout.depth_bits
            self._log.note(f"Its pixels ({known.name}) are read in {depth_bits} bits{curve}.")

    def _renew_clock(self) -> None:
        source = self._source
        self._clock = Clock(round(1 / (source.rate_hz or DEFAULT_RATE_HZ) / source.time_base))
        self._numbers = itertools.count()

    def _treated(self, items: Iterator[Any]) -> Iterator[Any]:
        """The same items, with their pictures as the treatment makes them."""
        if not self._treatment:
            yield from items
            return
        source = self._source
        treating: Treating | None = None
        self._renew_clock()
        for item in items:
            if isinstance(item, Copied):
                yield item
                continue
            if treating is None:
                self._decoded = self._described(item, None)
                treating = Treating(self._treatment, source.codec, source.rate_hz, source.sample_aspect)
                self._treating = treating
            pts = self._stamp(item)
            picture = self._fitted(item, float(pts * source.time_base))
            if picture is not None:
                picture.pts, picture.time_base, picture.duration = pts, source.time_base, item.duration
                yield from treating(picture)
        if treating:
            yield from treating.finish()

    def _primed(self, items: Iterator[Any]) -> Iterator[Any]:
        """The same items, after the first picture was decoded."""
        head = []
        for item in items:
            head.append(item)
            if not isinstance(item, Copied):
                self.first = getattr(item, "picture", item)
                return itertools.chain(head, items)
            if self.counts.packets > MOST_SILENT_PACKETS:
                break
        raise MediaError("no picture of it could be decoded", path=self.path)

    def _described(self, picture: Any, treating: Treating | None) -> StreamInfo:
        """What holds for the decoder's pictures, or for those that they are made into."""
        source, frames = self._source, self._source.frames
        woven = treating is None or picture.interlaced_frame
        return describe(
            picture,
            source.codec,
            time_base=picture.time_base if treating else source.time_base,
            rate_hz=treating.rate_hz if treating else source.rate_hz,
            duration_s=source.duration_s,
            frames=round(frames * treating.ratio) if frames and treating else frames,
            sample_aspect=treating.sample_aspect if treating else source.sample_aspect,
            field_order=source.field_order if woven else PROGRESSIVE,
            siting=source.siting,
        )

    @property
    def codec(self) -> str:
        """FFmpeg's name of the decoder."""
        return self._source.codec

    @property
    def device(self) -> Any:
        """The torch.device of the GPU that decodes; None where the CPU does, be it since that failed."""
        return self._source.nvdec and self._source.nvdec.device

    @property
    def decoder(self) -> str:
        """What decodes, for a report: FFmpeg's name, and the GPU's decoder where that does."""
        return f"{self.codec} (NVDEC)" if self.device else self.codec

    @property
    def counts(self) -> Counts:
        """What was met so far."""
        return self._log.counts

    @property
    def warnings(self) -> list[str]:
        """A sentence for whatever is not as it should be, so far; damage with its number and first moment."""
        return self._log.warnings

    @property
    def expected_frames(self) -> int | None:
        """How many frames the part will give, about; None where nothing tells."""
        info, part, source = self.info, self._part, self._source
        if part.start_s is None and part.end_s is None and info.frames is not None:
            return info.frames
        whole_s = info.duration_s
        rate = info.rate_hz or (info.frames / whole_s if info.frames and whole_s else None)
        if rate is None or (whole_s is None and part.end_s is None):
            return None
        start = float(part.start_s or source.origin_s)
        end = float("inf") if whole_s is None else float(source.origin_s) + whole_s
        end = end if part.end_s is None else min(end, float(part.end_s))
        return max(0, round((end - start) * float(rate)))

    def between(self, start_pts: int, end_pts: int | None, ahead_s: int | None = 0) -> Iterator[Any]:
        """The frames alone, of those that iterating would give, with pts in [start_pts, end_pts).

        In the place of iterating, once. The pts are ticks of the source's own time; those of the frames are
        on the time line of the part that is read. Decoding begins at a key frame so many seconds ahead; of
        None at the file's beginning: damaged files may give other pictures where it begins elsewhere. There
        it begins always where a treatment does not say how many pictures it remembers.
        """
        self._items = self._between(start_pts, end_pts, ahead_s)
        return iter(self)

    def _between(self, start_pts: int, end_pts: int | None, ahead_s: int | None) -> Iterator[Frame]:
        base, memory, rate_hz = self.info.time_base, self._treatment.memory_frames, self._source.rate_hz
        found = None
        if ahead_s is not None and memory is not None and (rate_hz or not memory):
            before_s = ahead_s + (Fraction(memory + 1) / rate_hz if rate_hz and memory else 0)
            found = self._source.items_near(start_pts * base - before_s)
        shift = self._part.shift_ticks(base)
        for item in self._raw if found is None else self._treated(found):
            frame = None if isinstance(item, Copied) else self._frame(item)
            if self._over or (frame and end_pts is not None and frame.pts + shift >= end_pts):
                return
            if frame is not None and frame.pts + shift >= start_pts:
                self.counts.frames += 1
                yield frame

    def stop_decoding(self) -> None:
        """No picture is wanted any more: iterating goes on with the packets of the other streams alone."""
        self._source.decodes = False

    def __iter__(self) -> Iterator[Frame | Copied]:
        while True:
            with self._lock:
                item = None if self._closed else next(self._items, None)
            if item is None:
                return
            yield item

    def _read(self) -> Iterator[Frame | Copied]:
        streams = {s.index for s in self.copied if s.type in ("audio", "video") and not self._is_cover(s)}
        late: set[int] = set()
        for item in self._raw:
            if self._closed:
                break
            if isinstance(item, Copied):
                if self._belongs(item):
                    yield item
                elif self._over and self._is_late(item.packet, item.packet.time_base):
                    late.add(item.stream.index)
            elif not self._over:
                frame = self._frame(item)
                if frame is not None:
                    self.counts.frames += 1
                    yield frame
            elif self._is_late(getattr(item, "picture", item), self.info.time_base, PATIENCE_S):
                break
            if self._over and streams <= late:
                break

    def _is_cover(self, stream: Any) -> bool:
        return bool(stream.disposition & ATTACHED_PICTURE)

    def _is_late(self, item: Any, time_base: Fraction, seconds: int = 0) -> bool:
        ticks = item.dts if item.dts is not None else item.pts
        return ticks is not None and self._part.ends_before(ticks * time_base - seconds)

    def _belongs(self, item: Copied) -> bool:
        stream = item.stream
        if self._is_cover(stream):
            return True
        keeps = self._part.keeps(item.packet, stream.type, stream.index in self._started)
        if keeps:
            self._started.add(stream.index)
        return keeps

    def _frame(self, item: Any) -> Frame | None:
        part, base = self._part, self.info.time_base
        decoded = getattr(item, "picture", item)
        picture = decoded
        pts = picture.pts if self._treating else self._stamp(picture)
        time_s = pts * base
        if part.begins_after(time_s):
            return None
        if part.ends_before(time_s):
            self._over = True
            return None
        if not self._treating:
            picture = self._fitted(picture, float(time_s))
        if picture is None:
            return None
        colour, at = self._colour(picture), (pts - part.shift_ticks(base), base)
        frame = to_frame(picture, colour, *at)
        if isinstance(item, Treated):
            return replace(frame, filtered=to_frame(item.filtered, colour, *at))
        if isinstance(item, OnDevice) and picture is decoded:
            return replace(frame, on_device=item.planes)
        return frame

    def _fitted(self, picture: Any, time_s: float) -> Any:
        """A decoded picture, in the size and format of the first; None where it cannot be brought there."""
        if picture.is_corrupt:
            self.counts.broken_frames += 1
            self._log.damage("Damaged pictures: kept", "", time_s)
        if not self._is_another(picture, self._colour(picture)):
            return picture
        self.counts.refitted_frames += 1
        size = f"{picture.width}x{picture.height} {picture.format.name}"
        self._log.damage("Pictures of another size or format, scaled to the first", size, time_s)
        try:
            return fit(picture, self._decoded, pixel_format(self._decoded.pixel_format).alpha)
        except MediaError as error:
            self._log.damage("Pictures that cannot be scaled: left out", error.message, time_s)
            return None

    def _stamp(self, picture: Any) -> int:
        clock = self._clock
        if not self._source.timed:
            return clock.tick(next(self._numbers), None, 1)
        pts = clock.tick(picture.pts, picture.dts, picture.duration)
        if picture.pts != pts:
            self.counts.stamped_frames += 1
            time_s = float(pts * self._source.time_base)
            self._log.remark("Pictures whose timestamp was missing or out of order: it was made up", time_s)
        return pts

    def _colour(self, picture: Any) -> Colour:
        key = (picture.format.name, picture.colorspace, picture.color_range, picture.color_primaries,
               picture.color_trc, picture.height)  # fmt: skip
        if key not in self._colours:
            self._colours[key] = colour_of(picture, self.codec, self._source.siting)[0]
        return self._colours[key]

    def _is_another(self, picture: Any, colour: Colour) -> bool:
        info = self._decoded
        if (picture.width, picture.height) != (info.width, info.height):
            return True
        if picture.format.name == info.pixel_format and colour.full_range == info.colour.full_range:
            return False
        known = pixel_format(picture.format.name)
        ours = (info.layout, pixel_format(info.pixel_format).alpha, info.colour.full_range)
        return (known.layout, known.alpha, colour.full_range) != ours

    def close(self) -> None:
        """Ends the iteration and lets go of the file; frames that are held stay valid."""
        self._closed = True
        with self._lock:
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
