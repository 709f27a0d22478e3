"""Clips as plain RGB pictures, written and read: for demonstrations, tests and benchmarks.

What a video is to keep of its source goes through `reader` and `writer`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from av.video import VideoStream
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from gpenvideo.errors import MediaError, OptionError, file_error

__all__ = ["read_clip", "write_clip"]

HD_HEIGHT_PX = 720
EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT
)


def write_clip(
    path: str | PathLike[str],
    frames: Iterable[NDArray[np.uint8]],
    rate_hz: float | Fraction,
    *,
    sound: NDArray[np.float32] | None = None,
    sound_rate_hz: int = 48000,
    codec: str = "libx264",
    crf: float | None = None,
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
) -> None:
    """Encode pictures, and sound beside them, into the container that the suffix names.

    YUV is of limited range, converted and tagged as BT.709 from 720 lines on, as BT.601 (525 lines) below.
    Written beside and renamed: an unfinished file never has the name.

    Args:
        frames: (H, W, 3) uint8 RGB each, all of one size; taken one by one, so an iterator costs no memory.
        rate_hz: frames a second; frame i is shown at i / rate_hz.
        sound: (N,) or (N, 2) float32 in [-1, 1]; becomes AAC, and is cut where the pictures end.
        sound_rate_hz: its samples a second.
        codec: FFmpeg's name of an encoder.
        crf: its quality; None leaves the encoder's own.
        pixel_format: FFmpeg's name; an RGB one stays RGB.
        options: further options of the encoder, by FFmpeg's names.

    Raises:
        OptionError: no frames, frames of different sizes, or settings that the encoder refuses.
        FileError: a file that cannot be written.
    """
    path = Path(path)
    rate = Fraction(rate_hz).limit_denominator(1001)
    settings = dict(options or {}) | ({} if crf is None else {"crf": f"{crf:g}"})
    beside = path.with_name(f".{path.stem}.part-{os.getpid():x}{path.suffix}")
    try:
        with _explained(path):
            container = av.open(str(beside), "w")
        try:
            with _explained(path):
                clip = _Clip(container, codec, rate, pixel_format, settings)
                if sound is not None:
                    clip.add_sound(sound, sound_rate_hz)
            for frame in frames:
                with _explained(path):
                    clip.write(frame)
            with _explained(path):
                clip.finish()
                container.close()
                beside.replace(path)
        finally:
            with suppress(OSError, av.error.FFmpegError):  # what went wrong has been said
                container.close()
    finally:
        beside.unlink(missing_ok=True)  # is not there any more once it is renamed


def read_clip(path: str | PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a file's first video stream, (H, W, 3) uint8 RGB each, by the stream's own colour tags.

    Raises:
        FileError: a file that cannot be read.
        MediaError: no video in it, or a damaged one.
    """
    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.video:
                raise MediaError("there is no video in it", path=path)
            for picture in container.decode(video=0):
                frame = picture.reformat(format="rgb24", interpolation=int(EXACT), threads=1)
                yield np.asarray(frame.to_ndarray(), dtype=np.uint8)
    except OSError as error:
        raise file_error(error, path, "read") from error
    except av.error.FFmpegError as error:
        raise MediaError(f"it cannot be decoded ({error.strerror})", path=path) from error


class _Clip:
    """An open container, its streams, and how much of each is written."""

    def __init__(
        self, container: OutputContainer, codec: str, rate: Fraction, format: str, settings: dict[str, str]
    ) -> None:
        if av.Codec(codec, "w").type != "video":
            raise OptionError(f"{codec} encodes no pictures")
        stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=settings))
        stream.codec_context.time_base = 1 / rate
        stream.pix_fmt = format
        self.rgb = av.VideoFormat(format).is_rgb
        self.container, self.stream, self.rate = container, stream, rate
        self.frames = 0
        self.sound: tuple[Any, NDArray[np.float32], int] | None = None
        self.samples = 0

    def add_sound(self, sound: NDArray[np.float32], rate_hz: int) -> None:
        if sound.ndim not in (1, 2) or (sound.ndim == 2 and sound.shape[1] != 2) or sound.dtype != np.float32:
            raise OptionError(f"sound is (N,) or (N, 2) float32, got {sound.shape} {sound.dtype}")
        layout = "mono" if sound.ndim == 1 else "stereo"
        stream = self.container.add_stream("aac", rate=rate_hz, layout=layout, format="fltp")
        stream.bit_rate = 96000 * stream.channels  # at its default rate the encoder errs audibly
        self.sound = stream, np.atleast_2d(sound.T), rate_hz

    def write(self, pixels: NDArray[np.uint8]) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise OptionError(f"a frame is (H, W, 3) uint8 RGB, got {pixels.shape} {pixels.dtype}")
        height, width = pixels.shape[:2]
        if self.frames == 0:
            self._describe(width, height)
        if (width, height) != (self.stream.width, self.stream.height):
            first = f"{self.stream.width}x{self.stream.height}"
            raise OptionError(f"the frames of a clip have one size, got {width}x{height} after {first}")
        context = self.stream.codec_context
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
        frame = frame.reformat(
            threads=1,
            format=context.pix_fmt,
            dst_colorspace=Colorspace.ITU709 if context.colorspace == 1 else Colorspace.ITU601,
            dst_color_range=ColorRange(context.color_range),
            interpolation=int(EXACT),
        )
        frame.pts, frame.time_base = self.frames, 1 / self.rate
        self.frames += 1
        self.container.mux(self.stream.encode(frame))
        self._sound_until(self.frames / self.rate)

    def finish(self) -> None:
        if self.frames == 0:
            raise OptionError("a clip has one frame or more")
        self.container.mux(self.stream.encode())
        if self.sound is not None:
            self.container.mux(self.sound[0].encode())

    def _describe(self, width: int, height: int) -> None:
        """Size and colour, by the code points of H.273: 0 is RGB, 1 BT.709, 6 BT.601."""
        context = self.stream.codec_context
        context.width, context.height = width, height
        rgb, hd = self.rgb, height >= HD_HEIGHT_PX
        context.color_primaries = context.color_trc = 1 if hd or rgb else 6
        context.colorspace = 0 if rgb else 1 if hd else 6
        context.color_range = ColorRange.JPEG if rgb else ColorRange.MPEG

    def _sound_until(self, time_s: Fraction) -> None:
        """The sound goes with the pictures, so that the container never has to hold much back."""
        if self.sound is None:
            return
        stream, samples, rate_hz = self.sound
        chunk = samples[:, self.samples : round(time_s * rate_hz)]
        if chunk.size:
            layout = "mono" if len(samples) == 1 else "stereo"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk), format="fltp", layout=layout)
            frame.rate, frame.pts, frame.time_base = rate_hz, self.samples, Fraction(1, rate_hz)
            self.samples += chunk.shape[1]
            self.container.mux(stream.encode(frame))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What PyAV and the system raise, as this project's own errors."""
    try:
        yield
    except OptionError as error:
        raise OptionError(error.message, path=path) from error
    except OSError as error:
        raise file_error(error, path, "write") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise OptionError(
            f"the encoder or the container refuses these settings: {error}", path=path
        ) from error
