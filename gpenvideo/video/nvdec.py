"""NVDEC: a file decoded by a GPU, where the planes of its pictures stay for what is done to them there.

FFmpeg parses the stream and the driver decodes it, in torch's own CUDA context. What comes is copied at once,
on the device and to the host: the decoder's surfaces are few, and later pictures are predicted from them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from av.codec.hwaccel import HWAccel

from gpenvideo.errors import MediaError
from gpenvideo.frame import Layout
from gpenvideo.video.pixels import pixel_format
from gpenvideo.video.sources import MOST_PIXELS, open_container

if TYPE_CHECKING:
    import torch

__all__ = ["Nvdec", "OnDevice", "Opener", "aside", "open_nvdec", "planes_of"]

REORDERED, MOST_KEPT = 32, 600  # packets: within which a decoder gives the picture of one; kept for another
FULL_RANGE_NAMED = {"h264", "hevc"}  # decoders that call full range yuvj420p

Opener = Callable[[Path, int, "torch.device"], Any]
"""Gives what decodes the packets of a file's stream into pictures on a device: an av.CodecContext."""


class OnDevice(NamedTuple):
    """A decoded picture that lies on a device, too."""

    picture: Any
    """av.VideoFrame in the host's memory, in the format that software decoding gives."""

    planes: tuple[torch.Tensor, ...]
    """The same planes, as `planes_of` gives them."""

    @property
    def pts(self) -> int | None:
        return self.picture.pts  # type: ignore[no-any-return]


class Nvdec:
    """Decodes a stream on a device.

    It keeps the packets that another decoder would need to go on where this one fails: see `left_over`.

    Args:
        context: of an `Opener`.
        device: where its pictures are.
    """

    def __init__(self, context: Any, device: torch.device) -> None:
        self.device = device
        self._context = context
        self._kept: list[Any] = []
        self._untimed = False
        self.last_pts: int | None = None
        """Of the picture that was given last."""

    def decode(self, packet: Any) -> list[OnDevice]:
        """The pictures that are ready after a packet, or at the end (None). Whatever FFmpeg, the driver and
        torch raise comes through: all pictures of the call are then still to be given."""
        if packet is not None:
            self._keep(packet)
        given = [self._taken(picture) for picture in self._context.decode(packet)]
        for item in given:
            before, self.last_pts = self.last_pts, item.pts
            rises = item.pts is not None and (before is None or item.pts > before)
            self._untimed = self._untimed or not rises
        return given

    def left_over(self, packet: Any) -> list[Any] | None:
        """The packets before the one that failed (None: the end), from which another decoder gives every
        picture that was not given yet, after some that were: up to `last_pts`. None where it cannot: there
        are no timestamps that rise, or no key frame for too long."""
        if self._untimed or not all(packet.is_keyframe for packet in self._kept[:1]):
            return None
        return self._kept if packet is None else self._kept[:-1]

    def flush(self) -> None:
        """What comes next is from elsewhere in the file."""
        self._context.flush_buffers()
        self._kept, self.last_pts, self._untimed = [], None, False

    def _keep(self, packet: Any) -> None:
        if packet.is_keyframe:
            earlier = range(len(self._kept) - REORDERED, -1, -1)
            start = next((place for place in earlier if self._kept[place].is_keyframe), 0)
            del self._kept[:start]
        self._kept.append(packet)
        del self._kept[:-MOST_KEPT]

    def _taken(self, picture: Any) -> OnDevice:
        """A picture in memory of its own, there and here: nothing of the decoder's is held."""
        name = (picture.sw_format or picture.format).name
        full = picture.color_range == 2 and self._context.name in FULL_RANGE_NAMED
        planar = {"nv12": "yuvj420p" if full else "yuv420p", "p010le": "yuv420p10le"}.get(name)
        if planar is None:
            raise MediaError(f"its pictures became {name}")
        with _in_order(self.device):
            planes = planes_of(picture, pixel_format(planar).layout)
        return OnDevice(picture.reformat(format=planar, threads=1), planes)  # which keeps the side data


def open_nvdec(path: Path, index: int, device: torch.device) -> Any:
    """An av.CodecContext that decodes a file's stream on a CUDA device; raises whatever FFmpeg and torch do.

    It has torch's context: memory of another one would be out of torch's reach. FFmpeg's "primary_ctx", which
    PyAV would choose, refuses a context that torch has made already.
    """
    import torch

    number = torch.cuda.current_device() if device.index is None else device.index
    with torch.cuda.device(number):
        torch.zeros(1, device=f"cuda:{number}")  # makes torch's context this thread's
        options: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}
        way = HWAccel("cuda", str(number), allow_software_fallback=False, options=options, is_hw_owned=True)
        with contextlib.closing(open_container(path, way)) as container:
            context = container.streams[index].codec_context
    if not context.is_hwaccel:
        raise MediaError(f"FFmpeg's {context.name} does not know it")
    context.thread_count, context.options = 1, {"max_pixels": str(MOST_PIXELS)}
    return context


def planes_of(picture: Any, layout: Layout) -> tuple[torch.Tensor, ...]:
    """The planes of an av.VideoFrame in NV12 or P010, copied where they lie, on torch's current stream.

    (H, W), then twice (H / 2, W / 2), as software decoding has them: uint8, or uint16 with the value in the
    low bits; P010 has it in the high ones. H and W are even: PyAV leaves out an odd last row or column.
    """
    import torch
    from torch.utils.dlpack import from_dlpack

    # capsules: torch would ask the planes themselves to wait for a stream, which PyAV refuses
    luma, chroma = (from_dlpack(plane.__dlpack__()) for plane in picture.planes)
    views = luma, chroma[..., 0], chroma[..., 1]
    if layout.depth_bits == 8:
        return tuple(view.clone(memory_format=torch.contiguous_format) for view in views)
    shift, top = 16 - layout.depth_bits, (1 << layout.depth_bits) - 1
    values = ((view.view(torch.int16) >> shift) & top for view in views)  # torch shifts no uint16
    return tuple(value.contiguous().view(torch.uint16) for value in values)


@contextlib.contextmanager
def _in_order(device: torch.device) -> Iterator[None]:
    """On the stream that FFmpeg fills surfaces on, CUDA's default one; what was begun there is then done."""
    if device.type != "cuda":
        yield
        return
    import torch

    stream = torch.cuda.default_stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def aside(items: Iterator[Any], device: torch.device | None) -> Iterator[Any]:
    """The same items, made on a CUDA stream of their own; on none where there is no device.

    On the default one, where FFmpeg decodes, each picture would wait for the networks. Take them in one
    thread.
    """
    if device is None or device.type != "cuda":
        yield from items
        return
    import torch

    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.default_stream(device))
    with torch.cuda.stream(stream):
        yield from items
