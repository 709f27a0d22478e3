"""Whether a GPU decodes a file: what it can, and a check that it gives the pictures that the CPU gives."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpenvideo.video.description import side_data
from gpenvideo.video.nvdec import Nvdec, OnDevice, Opener, open_nvdec
from gpenvideo.video.pixels import planes_of
from gpenvideo.video.sources import MOST_PIXELS, FileSource, StillSource, open_container

if TYPE_CHECKING:
    import torch

__all__ = ["DECODERS", "Hardware", "disagreement"]

DECODERS = ("auto", "software", "nvdec")
CODECS = {"h264", "hevc", "vp9"}  # their standards leave a decoder no choice of samples
FORMATS = {"yuv420p", "yuvj420p", "yuv420p10le"}
PROGRESSIVE = {0, 1}  # of FFmpeg's AVFieldOrder; 0 is unknown
TRIED_PACKETS, COMPARED = 16, 8
MOST_LEVELS = 1  # that a sample may be off


@dataclass(frozen=True, slots=True)
class Hardware:
    """The wish that a GPU decodes."""

    device: torch.device | None
    """Where what restores faces is; None: on no GPU."""

    asked: bool = False
    """Whether a person asked for it, who is told why it is not done; else only a check that fails is told."""

    opener: Opener = open_nvdec

    def decoder_of(self, source: FileSource | StillSource, *, treated: bool) -> Nvdec | None:
        """What decodes a source of which nothing was read yet; None: the CPU, for a reason in its log."""
        why, tried, nvdec = self._refusal(source, treated), False, None
        if why is None and isinstance(source, FileSource) and self.device is not None:
            tried, path, index = True, source.path, source.stream.index
            try:
                nvdec = Nvdec(self.opener(path, index, self.device), self.device)
                why = disagreement(nvdec, path, index)
                nvdec.flush()
            except Exception as error:  # of FFmpeg, torch or the driver: the CPU can do what they cannot
                told = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
                why = (told.splitlines() or [type(error).__name__])[0].rstrip(".")
        if why is None:
            return nvdec
        if tried or self.asked:
            source.log.note(f"The CPU decodes it, not NVDEC: {why}.")
        return None

    def _refusal(self, source: FileSource | StillSource, treated: bool) -> str | None:
        """Why a GPU is not even tried."""
        if self.device is None:
            return "what restores faces is not on a GPU"
        if not isinstance(source, FileSource):
            return "it is a sequence of pictures"
        context = source.stream.codec_context
        if source.codec not in CODECS or context.pix_fmt not in FORMATS:
            return f"of {source.codec} in {context.pix_fmt} the CPU's pictures are taken"
        if treated or source.field_order not in PROGRESSIVE:
            return "its pictures are interlaced, or filtered first"
        if context.width % 2 or context.height % 2:
            return f"{context.width}x{context.height} is odd"
        if source.log.strict:
            return "damage is to be an error, and a GPU does not tell of all"
        return None


def disagreement(nvdec: Nvdec, path: Path, index: int) -> str | None:
    """In what a stream's first pictures differ from those of software decoding; None: in nothing.

    There are as many, with the same timestamps, sizes, formats, tags and kinds of side data, and samples of
    the first ones are off by a level at most, on the host and on the device.
    """
    ours, theirs, count = list[Any](), list[OnDevice](), 0
    with contextlib.closing(open_container(path)) as container:
        stream = container.streams[index]
        decoder = stream.codec_context
        decoder.options = {"max_pixels": str(MOST_PIXELS)}
        for packet in container.demux(stream):
            if packet.size:
                ours += decoder.decode(packet)
                theirs += nvdec.decode(packet)
                count += 1
            if count == TRIED_PACKETS:
                break
        ours += decoder.decode(None)
        theirs += nvdec.decode(None)
    if not ours or any(picture.is_corrupt or picture.interlaced_frame for picture in ours):
        return "it is interlaced or damaged at its start"
    if len(ours) != len(theirs):
        return f"of {count} packets it made {len(theirs)} pictures, the CPU {len(ours)}"
    for number, (picture, item) in enumerate(zip(ours, theirs, strict=True)):
        if _facts(picture) != _facts(item.picture):
            return f"picture {number} is another than the CPU's"
        off = _levels_off(picture, item) if number < COMPARED else 0
        if off > MOST_LEVELS:
            return f"samples of picture {number} are {off} levels off the CPU's"
    return None


def _facts(picture: Any) -> tuple[Any, ...]:
    tags = picture.color_range, picture.colorspace, picture.color_primaries, picture.color_trc
    form = picture.width, picture.height, picture.format.name
    return picture.pts, *form, *tags, set(side_data(picture))


def _levels_off(picture: Any, item: OnDevice) -> int:
    """How far a sample is off at most, here or there."""
    expected = planes_of(picture)[0]
    found = planes_of(item.picture)[0], [plane.cpu().numpy() for plane in item.planes]
    pairs = [pair for planes in found for pair in zip(expected, planes, strict=True)]
    return max(int(np.abs(one.astype(np.int32) - other).max()) for one, other in pairs)
