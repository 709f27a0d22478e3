"""VideoWriter: restored frames and copied packets into a new file, or pictures into a folder."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import numpy as np

from gpenvideo.errors import FileError, GpenvideoError, MediaError, OptionError, file_error
from gpenvideo.frame import Frame
from gpenvideo.video.description import HDR, side_data
from gpenvideo.video.encoders import Encoder, Setup, setup, with_hdr
from gpenvideo.video.pictures import PictureTarget, is_pictures
from gpenvideo.video.pixels import pixel_format
from gpenvideo.video.targets import FileTarget

__all__ = ["Target", "VideoWriter", "refuse_source"]

CAPTIONED = {"libx264", "libx264rgb", "libx265", "h264_nvenc", "hevc_nvenc"}
UNTAGGED = {"tiff", "dpx", "exr"}
DYNAMIC_HDR = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
}


class Target(Protocol):
    """Where pictures and packets go: a container, the pictures of a sequence, a segment."""

    codec: str
    """The encoder that is to be set up, by FFmpeg's name or a codec's."""

    format: str
    holds_hdr: bool
    """Whether it says itself of HDR what an encoder's stream does not."""

    def check(self, encoder: Encoder) -> None: ...
    def open(self, found: Setup, first_s: Fraction, early: Sequence[Any]) -> None: ...
    def encode(self, picture: Any, duration: int | None) -> None: ...
    def copy(self, item: Any) -> None: ...
    def finish(self) -> None: ...
    def discard(self) -> None: ...


class VideoWriter:
    """Writes what a VideoReader gives: the restored stream encoded, all else beside it.

    Everything is written beside the target, under a hidden name, and renamed by `finish`; until then an
    earlier file of that name stays as it is. Leaving the `with` block by an exception, `abort`, and every
    error remove what was written. Use it in one thread.

    The container's header waits for the first frame, whose time decides whether all streams have to shift.

    Args:
        path: a file whose suffix names the container, or pictures: a pattern such as out_%04d.png (PNG,
            TIFF, DPX, EXR), or a folder with `codec` "png", "tiff", "dpx" or "exr".
        reader: the source; its streams beside the restored one, tags and chapters are taken over.
        codec: an encoder by FFmpeg's name, or "h264", "hevc", "av1", "prores". Default libx264 where the
            container holds it; of pictures what the suffix says.
        crf: quality on the encoder's own scale; default 17 for libx264, which is visually lossless.
        preset: the encoder's preset; the profile for ProRes.
        pixel_format: FFmpeg's name; default the source's where the encoder takes it, else the nearest.
        options: further options of the encoder.
        size: width and height of the frames where they are not the source's.
        start_number: of the first picture.

    Raises:
        OptionError: output = input, an unknown container, codec or option, a codec that the container does
            not hold. FileError: a target that cannot be written. Both also while writing (disk full).
        MediaError: `finish` without a frame, or a frame of another size.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        reader: Any,
        *,
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        pixel_format: str | None = None,
        options: Mapping[str, str] | None = None,
        start_number: int = 1,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.frames_written = 0
        self._info = replace(reader.info, width=size[0], height=size[1]) if size else reader.info
        self._done = False
        self._waiting: list[Any] = []
        refuse_source(self.path, Path(reader.path))
        self._target: Target = self._target_for(reader, codec, start_number)
        with self._failing():
            self._setup = setup(
                self._target.codec,
                self._info,
                crf=crf,
                preset=preset,
                pixel_format_wanted=pixel_format,
                options=options,
            )
            self._target.check(self._setup.encoder)
            self._setup, lost = with_hdr(self._setup, reader.first, container=self._target.holds_hdr)
        for sentence in (*self._setup.notes, *lost):
            self._warn(sentence)
        self._warn_of_dynamic_hdr(side_data(reader.first))
        if self.encoder in UNTAGGED and self._info.colour.transfer in HDR:
            self._warn(
                f"{self.encoder} cannot say that levels are HDR (transfer {self._info.colour.transfer}: "
                "16 is PQ, 18 HLG), png can."
            )

    def _target_for(self, reader: Any, codec: str | None, start_number: int) -> Target:
        if is_pictures(self.path, codec):
            return PictureTarget(self.path, reader, codec, start_number, self._warn)
        return FileTarget(self.path, reader, codec, self._warn)

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder in use."""
        return self._setup.encoder.name

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the pixel format that is encoded."""
        return self._setup.conversion.name

    @property
    def container(self) -> str:
        """FFmpeg's name of the container, "image2" for pictures."""
        return self._target.format

    @property
    def facts(self) -> dict[str, Any]:
        """What a report tells of the encoding."""
        way = self._setup.conversion
        return {
            "encoder": self.encoder,
            "options": dict(self._setup.options),
            "pixel_format": self.pixel_format,
            "width": way.width,
            "height": way.height,
            "container": self.container,
        }

    def write(self, item: Any) -> None:
        """Write a `Frame` of the restored stream, or a `Copied` packet of another."""
        if self._done:
            raise OptionError("the writer is closed", path=self.path)
        with self._failing():
            if isinstance(item, Frame):
                self._write_frame(item)
            elif self.frames_written:
                self._target.copy(item)
            else:
                self._waiting.append(item)

    def add(self, packet: Any, extradata: bytes) -> None:
        """Write a packet of the restored stream that was encoded before, in the place of its frame.

        Args:
            packet: av.Packet, pts and dts in ticks of the source.
            extradata: what its encoder said ahead of it.

        Raises:
            MediaError: that encoder was not set up as this writer's is.
        """
        with self._failing():
            if not isinstance(self._target, FileTarget):
                raise OptionError("pictures are encoded one by one, and never joined", path=self.path)
            self._begin(packet.pts)
            if not self._target.takes(extradata):
                raise MediaError(
                    f"what was encoded before is not as {self.encoder} is set up here: encode it again"
                )
            self._target.add(packet)
            self._written()

    def finish(self) -> None:
        """Write what is left, close the file and give it its name."""
        if self._done:
            return
        with self._failing():
            if not self.frames_written:
                raise MediaError("there was no frame to write", path=self.path)
            self._target.finish()
        self._done = True

    def abort(self) -> None:
        """Remove what was written; the target's name stays as it was. May be called at any time."""
        if not self._done:
            self._done = True
            self._waiting.clear()
            self._target.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

    def _write_frame(self, frame: Frame) -> None:
        if (frame.width, frame.height) != (self._info.width, self._info.height):
            raise MediaError(
                f"a frame of {frame.width}x{frame.height} does not fit the stream's "
                f"{self._info.width}x{self._info.height}",
                time_s=frame.time_s,
            )
        self._begin(frame.pts)
        if frame.alpha is not None and not pixel_format(self.pixel_format).alpha and _seen(frame):
            self._warn(f"{self.encoder} cannot hold transparency: left out.")
        with self._picture(frame) as picture:
            self._target.encode(picture, _duration(frame))
        self._written()

    def _begin(self, pts: int) -> None:
        if not self.frames_written:
            early = [item.packet for item in self._waiting]
            self._target.open(self._setup, pts * self._info.time_base, early)

    def _written(self) -> None:
        """A picture was: what waited for the first one follows it."""
        self.frames_written += 1
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            self._target.copy(item)

    @contextlib.contextmanager
    def _picture(self, frame: Frame) -> Iterator[Any]:
        """The av.VideoFrame to encode: the decoder's own where nothing in it has to change."""
        decoded = frame.decoded
        if decoded is None or frame.edited or not _fits(decoded, self._setup):
            yield self._carried(self._setup.conversion(frame), decoded)
            return
        before = decoded.pts, decoded.time_base, decoded.pict_type
        decoded.pts, decoded.time_base, decoded.pict_type = frame.pts, frame.time_base, 0
        try:
            yield decoded
        finally:
            decoded.pts, decoded.pict_type = before[0], before[2]
            if before[1] is not None:
                decoded.time_base = before[1]

    def _carried(self, picture: Any, decoded: Any) -> Any:
        """The picture, with the captions of the decoder's frame where the encoder writes them."""
        kinds = {} if decoded is None else side_data(decoded)
        self._warn_of_dynamic_hdr(kinds)
        if "A53_CC" not in kinds:
            return picture
        if self.encoder not in CAPTIONED:
            self._warn(f"{self.encoder} writes no closed captions: left out.")
            return picture
        return _with_side_data(picture, decoded)

    def _warn_of_dynamic_hdr(self, kinds: Mapping[str, bytes]) -> None:
        for name in sorted({DYNAMIC_HDR[kind] for kind in DYNAMIC_HDR if kind in kinds}):
            self._warn(
                f"{name} metadata, which changes from scene to scene, is left out: it described the pictures "
                "as they were. Players show the static HDR underneath."
            )

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves nothing behind, and is one of our errors."""
        try:
            yield
        except GpenvideoError as error:
            self.abort()
            error.path = error.path or os.fspath(self.path)
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise _told(error, self.path) from error
        except BaseException:
            self.abort()
            raise


def refuse_source(path: Path, source: Path) -> None:
    """OptionError where a file that is to be written is the one that is read."""
    same = False
    with contextlib.suppress(OSError):
        same = os.path.samefile(path, source)
    with contextlib.suppress(OSError):
        same = same or (path.name == source.name and os.path.samefile(path.parent, source.parent))
    if same:
        raise OptionError("the output is the input: choose another name", path=path)


def _told(error: Exception, path: Path) -> GpenvideoError:
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number in errno.errorcode:
        return file_error(error, path, "write")
    reason = getattr(error, "strerror", None) or str(error)
    return FileError(f"cannot write it: the encoder or the container refuses ({reason})", path=path)


def _seen(frame: Frame) -> bool:
    """Whether anything of a frame is transparent."""
    return frame.alpha is not None and int(frame.alpha.min()) < (1 << frame.layout.depth_bits) - 1


def _duration(frame: Frame) -> int | None:
    """Ticks that the frame is shown, as its file says; None where it does not."""
    decoded = frame.decoded
    return int(decoded.duration) or None if decoded is not None else None


def _fits(decoded: Any, found: Setup) -> bool:
    way = found.conversion
    return not way.scaled and (decoded.format.name, decoded.width, decoded.height) == (
        way.name,
        way.width,
        way.height,
    )


def _with_side_data(picture: Any, decoded: Any) -> Any:
    """The samples of `picture` in a frame with the side data of `decoded`.

    PyAV cannot attach side data, but swscale's results inherit it: two trivial scalings make room.
    """
    shell = decoded.reformat(16, 16, picture.format.name, threads=1)
    shell = shell.reformat(picture.width, picture.height, picture.format.name, threads=1)
    for into, of in zip(shell.planes, picture.planes, strict=True):
        rows = min(into.buffer_size // into.line_size, of.buffer_size // of.line_size)
        length = min(into.line_size, of.line_size)
        target = np.ndarray((rows, length), np.uint8, into, 0, (into.line_size, 1))
        target[...] = np.ndarray((rows, length), np.uint8, of, 0, (of.line_size, 1))
    shell.pts, shell.time_base, shell.pict_type = picture.pts, picture.time_base, 0
    shell.colorspace, shell.color_range = picture.colorspace, picture.color_range
    return shell
