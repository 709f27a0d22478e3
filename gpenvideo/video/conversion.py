"""What planes become when an encoder takes other ones: without loss where there is a way, and said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation

from gpenvideo.errors import OptionError
from gpenvideo.frame import Colour, Frame, Layout, Samples
from gpenvideo.video.pixels import PixelFormat, pixel_format, to_frame, to_video_frame

__all__ = ["Conversion", "conversion"]

EXACT = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT
)
BT709, BT601, BT2020 = 1, 6, 9  # H.273 matrices
HD_HEIGHT_PX = 720
LINEAR = 8  # H.273 TransferCharacteristics


@dataclass(frozen=True, slots=True)
class Conversion:
    """From frames of one layout to av.VideoFrames of one pixel format; `conversion` chooses it."""

    name: str
    """The pixel format of the result, by FFmpeg's name."""

    layout: Layout
    """The planes on the way: those of the source, spread without loss."""

    width: int
    height: int
    """Of the result: the source's, or one more where the format holds even sizes only."""

    colour: Colour
    """Of the result."""

    scaled: bool
    """Whether swscale makes the result, which is a loss."""

    notes: tuple[str, ...]
    """What is written otherwise than it was read, a clause each; empty when nothing is."""

    def __call__(self, frame: Frame) -> Any:
        """The frame as an av.VideoFrame with its pts, time base and colour tags, in memory of its own."""
        target = pixel_format(self.name)
        if target.kind == "float":
            return _to_float(frame, target)
        spread = _spread(frame, self.layout, self.width, self.height)
        if self.scaled:
            picture = _by_swscale(spread, self.name, self.colour)
        else:
            picture = to_video_frame(spread, self.name)
        picture.colorspace, picture.color_range = self.colour.matrix, 2 if self.colour.full_range else 1
        picture.color_primaries, picture.color_trc = self.colour.primaries, self.colour.transfer
        return picture


def conversion(
    layout: Layout,
    colour: Colour,
    size: tuple[int, int],
    names: Iterable[str],
    *,
    alpha: bool = False,
    even: bool = False,
    full_range: bool = True,
    wanted: str | None = None,
) -> Conversion:
    """The cheapest way from planes of `layout` to one of the pixel formats of an encoder.

    Args:
        layout, colour, size: of the source; size is width and height.
        names: the pixel formats that the encoder takes.
        alpha: whether the source has it.
        even: whether the encoder wants sizes that sub-sampled chroma divides.
        full_range: whether what the encoder writes can say that it is of full range.
        wanted: the pixel format to use, whatever is lost.

    Raises:
        OptionError: `wanted` is none of `names`, or no format of them can be made.
    """
    names = [name for name in names if _usable(name, colour)]
    if wanted is not None:
        names = [_wanted(wanted, names)]
    if not names:
        raise OptionError(f"the encoder has no pixel format for {layout}")

    def rank(name: str) -> tuple[float, ...]:
        known = pixel_format(name)
        odd = even and _odd(size, known.layout.step)
        return (odd and wanted is None, *_cost(layout, alpha, known), name.startswith("yuvj"))

    best = pixel_format(min(names, key=rank))
    target = best.layout
    padded = _padded(size, target.step) if even else size
    lossy = any(_losses(layout, target)) and best.kind != "float"
    result = colour
    notes = [*_notes(layout, size, best, padded)]
    if target.model == "yuv" and layout.model == "rgb":
        wide = colour.primaries == BT2020
        matrix = BT2020 if wide else BT709 if size[1] >= HD_HEIGHT_PX else BT601
        result = replace(colour, matrix=matrix, full_range=False)
    elif target.model == "rgb" and layout.model == "yuv":
        result = replace(colour, matrix=0, full_range=True)
    if result.full_range and not full_range and target.model != "rgb":
        result, lossy = replace(result, full_range=False), True
        notes.append("full range becomes limited range")
    middle = layout if lossy or best.kind == "float" else target
    return Conversion(best.name, middle, *padded, result, lossy, tuple(notes))


def _usable(name: str, colour: Colour) -> bool:
    known = pixel_format(name)
    writable = known.kind == "float" or (known.kind == "samples" and known.exact)
    return writable and (colour.full_range or not name.startswith("yuvj"))


def _wanted(name: str, names: Sequence[str]) -> str:
    pixel_format(name)  # refuses a name that FFmpeg does not know
    for spelling in (name, f"{name}le"):
        if spelling in names:
            return spelling
    raise OptionError(f"the encoder takes no {name}; it takes {', '.join(names)}")


def _losses(source: Layout, target: Layout) -> tuple[bool, bool, bool]:
    """Whether the colour model, chroma samples, low bits are lost on the way from `source` to `target`."""
    model = {source.model, target.model} == {"yuv", "rgb"} or (source.model != "grey" == target.model)
    chroma = source.model == "yuv" and any(to > of for to, of in zip(target.step, source.step, strict=True))
    return model, chroma, target.depth_bits < source.depth_bits


def _cost(source: Layout, alpha: bool, known: PixelFormat) -> tuple[float, ...]:
    """What a format costs, the worst first: losses in size order, then samples and bits written in vain."""
    target = known.layout
    model, chroma, depth = _losses(source, target)
    finer = target.step[0] * target.step[1] / (source.step[0] * source.step[1])
    return (
        (2 if target.model == "grey" else 1) if model else 0,
        finer if chroma else 0,
        source.depth_bits - target.depth_bits if depth else 0,
        alpha and not known.alpha,
        target.model != source.model,
        known.kind == "float",
        known.alpha and not alpha,
        -finer if not model else 0 if target.step == (1, 1) else finer,
        target.depth_bits,
        known.shift,
    )


def _odd(size: tuple[int, int], step: tuple[int, int]) -> bool:
    return _padded(size, step) != size


def _padded(size: tuple[int, int], step: tuple[int, int]) -> tuple[int, int]:
    width, height = (-(-length // every) * every for length, every in zip(size, step, strict=True))
    return width, height


def _notes(
    source: Layout, size: tuple[int, int], best: PixelFormat, padded: tuple[int, int]
) -> Iterable[str]:
    target = best.layout
    model, chroma, depth = _losses(source, target)
    if model:
        yield f"{_words(source)} is converted to {_words(target)}"
    elif target.model != source.model:
        yield "grey gets neutral chroma" if target.model == "yuv" else "grey is written three times"
    elif chroma:
        yield f"chroma is filtered from {_words(source)} to {_words(target)}"
    elif target.step != source.step:
        yield f"chroma samples are repeated from {_words(source)} to {_words(target)}"
    if depth:
        yield f"{source.depth_bits} bits are dithered to {target.depth_bits}"
    elif target.depth_bits > source.depth_bits and best.kind != "float":
        yield f"{source.depth_bits} bits lie in the high bits of {target.depth_bits}"
    if padded != size:
        yield f"{size[0]}x{size[1]} is padded to {padded[0]}x{padded[1]} by repeating the edge"


def _words(layout: Layout) -> str:
    steps = {
        (1, 1): "4:4:4",
        (2, 1): "4:2:2",
        (2, 2): "4:2:0",
        (4, 1): "4:1:1",
        (4, 4): "4:1:0",
        (1, 2): "4:4:0",
    }
    return {"rgb": "RGB", "grey": "grey", "yuv": steps.get(layout.step, str(layout.step))}[layout.model]


def _spread(frame: Frame, target: Layout, width: int, height: int) -> Frame:
    """The frame in planes of `target`, each sample kept: chroma and edges repeated, bits added below."""
    source = frame.layout
    if source == target and (frame.width, frame.height) == (width, height):
        return frame
    full = frame.colour.full_range
    more = target.depth_bits - source.depth_bits
    planes = [
        _deeper(plane, more, source.depth_bits, repeat=full and (i == 0 or source.model != "yuv"))
        for i, plane in enumerate(frame.planes)
    ]
    if source.model == "grey" and target.model == "rgb":
        planes = planes * 3
    chroma_size = (-(-height // target.step[1]), -(-width // target.step[0]))
    if source.model == "grey" and target.model == "yuv":
        neutral = np.full(chroma_size, 1 << (target.depth_bits - 1), target.dtype)
        planes = [*planes, neutral, neutral]
    elif source.model == "yuv":
        across, down = (of // to for of, to in zip(source.step, target.step, strict=True))
        planes[1:] = [plane.repeat(down, axis=0).repeat(across, axis=1) for plane in planes[1:]]
    sizes: list[tuple[int, int]] = [(height, width)] + [
        chroma_size if target.model == "yuv" else (height, width)
    ] * (target.planes - 1)
    planes = [_sized(plane, size) for plane, size in zip(planes, sizes, strict=True)]
    alpha = frame.alpha
    if alpha is not None:
        alpha = _sized(_deeper(alpha, more, source.depth_bits, repeat=True), (height, width))
    return replace(frame, planes=tuple(planes), layout=target, alpha=alpha, on_device=None)


def _by_swscale(frame: Frame, name: str, colour: Colour) -> Any:
    """The frame in a format that does not hold it, of the matrix and range of `colour`."""
    picture = to_video_frame(frame).reformat(
        threads=1,
        format=name,
        src_colorspace=_swscale_matrix(frame.colour.matrix),
        dst_colorspace=_swscale_matrix(colour.matrix),
        src_color_range=2 if frame.colour.full_range else 1,
        dst_color_range=2 if colour.full_range else 1,
        interpolation=EXACT,
    )
    picture.pts, picture.time_base = frame.pts, frame.time_base
    return picture


def _deeper(plane: Samples, more: int, depth: int, *, repeat: bool) -> Samples:
    """Samples `more` bits deeper: zeros below, or their own high bits where full scale is to stay full."""
    if more <= 0:
        return plane
    wide = plane.astype(np.uint32)
    raised = wide << more
    if repeat:
        raised |= raised >> depth
    return raised.astype(np.uint8 if depth + more <= 8 else np.uint16)


def _sized(plane: Samples, size: tuple[int, int]) -> Samples:
    """A plane cut or grown to (height, width) by repeating its last row and column."""
    plane = plane[: size[0], : size[1]]
    missing = [(0, want - have) for want, have in zip(size, plane.shape, strict=True)]
    return np.pad(plane, missing, mode="edge") if any(after for _, after in missing) else plane


def _to_float(frame: Frame, target: PixelFormat) -> Any:
    """The frame as linear light in [0, 1], as OpenEXR holds; what is not linear is taken for sRGB."""
    if frame.layout.model == "yuv":
        colour = replace(frame.colour, matrix=0, full_range=True)
        wide = to_frame(_by_swscale(frame, "gbrp16le", colour), colour, frame.pts, frame.time_base)
        frame = replace(wide, alpha=None)
    elif frame.layout.model != target.layout.model:
        frame = _spread(frame, replace(target.layout, depth_bits=frame.layout.depth_bits), *_size(frame))
    picture: Any = av.VideoFrame(frame.width, frame.height, target.name)
    highest = np.float32((1 << frame.layout.depth_bits) - 1)
    sources = dict(zip("GBR" if frame.layout.model == "rgb" else "Y", frame.planes, strict=True))
    for sample, (number, _, _) in target.places.items():
        values = frame.alpha if sample == "A" else sources[sample]
        shape = (frame.height, frame.width)
        light = np.ones(shape, "<f4") if values is None else values / highest
        if frame.colour.transfer != LINEAR and sample != "A":
            light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
        plane = picture.planes[number]
        np.ndarray(shape, "<f4", plane, 0, (plane.line_size, 4))[...] = light
    picture.pts, picture.time_base = frame.pts, frame.time_base
    return picture


def _size(frame: Frame) -> tuple[int, int]:
    return frame.width, frame.height


def _swscale_matrix(matrix: int) -> int:
    return int(
        {1: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}.get(
            matrix, Colorspace.ITU601
        )
    )
