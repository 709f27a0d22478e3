"""Pixel formats: a decoder's frame as planes, and planes as a frame an encoder takes.

Samples are found by where they lie, so both ways go through one table and are exact. What lies planar is
not copied. Everything else that a decoder may give (Bayer, XYZ) goes through swscale and is said to.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any, Literal, NamedTuple

import av
import numpy as np

from gpenvideo.errors import MediaError, OptionError
from gpenvideo.frame import Colour, Frame, Layout, Samples

__all__ = ["PixelFormat", "pixel_format", "planar_name", "planes_of", "to_frame", "to_video_frame"]

PACKED = {  # what the samples of a pixel are, in the order of memory; "-" is padding
    **dict.fromkeys(("rgb24", "rgb48", "rgbf32", "rgbf16"), "RGB"),
    **dict.fromkeys(("bgr24", "bgr48"), "BGR"),
    **dict.fromkeys(("rgba", "rgba64", "rgbaf16", "rgbaf32"), "RGBA"),
    **dict.fromkeys(("bgra", "bgra64"), "BGRA"),
    "argb": "ARGB",
    "abgr": "ABGR",
    "rgb0": "RGB-",
    "bgr0": "BGR-",
    "0rgb": "-RGB",
    "0bgr": "-BGR",
    **dict.fromkeys(("ya8", "ya16", "yaf16", "yaf32"), "YA"),
    "vyu444": "VYU",
    "vuya": "VUYA",
    "vuyx": "VUY-",
    "uyva": "UYVA",
    **dict.fromkeys(("ayuv", "ayuv64"), "AYUV"),
    **dict.fromkeys(("xv36", "xv48"), "UYV-"),
    **dict.fromkeys(("yuyv422", "y210", "y212", "y216"), "YUYV"),
    "uyvy422": "UYVY",
    "yvyu422": "YVYU",
}
BITS = {  # fields of a word: (sample, lowest bit, bits)
    "x2rgb10": (("R", 20, 10), ("G", 10, 10), ("B", 0, 10)),
    "x2bgr10": (("B", 20, 10), ("G", 10, 10), ("R", 0, 10)),
    "xv30": (("V", 20, 10), ("Y", 10, 10), ("U", 0, 10)),
    "v30x": (("V", 22, 10), ("Y", 12, 10), ("U", 2, 10)),
    "rgb565": (("R", 11, 5), ("G", 5, 6), ("B", 0, 5)),
    "bgr565": (("B", 11, 5), ("G", 5, 6), ("R", 0, 5)),
    "rgb555": (("R", 10, 5), ("G", 5, 5), ("B", 0, 5)),
    "bgr555": (("B", 10, 5), ("G", 5, 5), ("R", 0, 5)),
    "rgb444": (("R", 8, 4), ("G", 4, 4), ("B", 0, 4)),
    "bgr444": (("B", 8, 4), ("G", 4, 4), ("R", 0, 4)),
    "rgb8": (("R", 5, 3), ("G", 2, 3), ("B", 0, 2)),
    "bgr8": (("B", 6, 2), ("G", 3, 3), ("R", 0, 3)),
    "rgb4_byte": (("R", 3, 1), ("G", 1, 2), ("B", 0, 1)),
    "bgr4_byte": (("B", 3, 1), ("G", 1, 2), ("R", 0, 1)),
}
ORDER = {"yuv": "YUV", "rgb": "GBR", "grey": "Y"}


class PixelFormat(NamedTuple):
    """How FFmpeg lays out a format, and what planes it is read as."""

    name: str
    layout: Layout
    """Of the planes it is read as."""

    alpha: bool
    kind: Literal["samples", "float", "bits", "palette", "mono", "other"]
    """samples: whole bytes a sample. other: only swscale knows."""

    exact: bool
    """Whether the planes hold every sample as it was coded."""

    dtype: np.dtype[Any]
    """Of a sample, or of a word of several, in memory."""

    shift: int
    """How far a sample lies above the lowest bit."""

    places: Mapping[str, tuple[int, int, int]]
    """Sample ("Y", "U", "R", "A", ...): its plane, its first place there and the step to the next one."""


@cache
def pixel_format(name: str) -> PixelFormat:
    """What is known of a pixel format, by FFmpeg's name. OptionError: FFmpeg knows none of that name."""
    try:
        video = av.VideoFormat(name, 8, 8)
    except ValueError as error:
        raise OptionError(f"{name!r} is no pixel format; see ffmpeg -pix_fmts") from error
    stem = re.sub(r"(?<=\d)[lb]e$|(?<=msb)[lb]e$", "", name)
    parts = video.components
    depth = max((part.bits for part in parts), default=0)
    alpha = any(part.is_alpha for part in parts) or video.has_palette
    step = (8 // video.chroma_width(8), 8 // video.chroma_height(8))
    order = ">" if video.is_big_endian else "<"
    if video.has_palette:
        return PixelFormat(name, Layout("rgb", 8), True, "palette", True, np.dtype("u1"), 0, {})
    if name in ("monow", "monob"):
        return PixelFormat(name, Layout("grey", 8), False, "mono", True, np.dtype("u1"), 0, {})
    if stem in BITS:
        word = np.dtype(f"{order}u{video.padded_bits_per_pixel // 8}")
        model: Literal["yuv", "rgb", "grey"] = "rgb" if video.is_rgb else "yuv"
        return PixelFormat(name, Layout(model, 10 if depth == 10 else 8), False, "bits", True, word, 0, {})
    places = _places(stem, video)
    if not places or video.is_bayer or video.is_bit_stream or stem.startswith("xyz"):
        wide = Layout("rgb", 16 if depth > 8 or video.is_bayer else 8)
        return PixelFormat(name, wide, False, "other", False, np.dtype("u1"), 0, {})
    model = "rgb" if video.is_rgb or "R" in places else "yuv" if "U" in places else "grey"
    if re.search(r"f(16|32)$", stem):
        layout = Layout(model, 16)
        return PixelFormat(name, layout, alpha, "float", False, np.dtype(f"{order}f{depth // 8}"), 0, places)
    if depth > 16:
        layout, dtype = Layout(model, 16), np.dtype(f"{order}u4")
        return PixelFormat(name, layout, alpha, "samples", False, dtype, 16, places)
    shifted = "msb" in stem or re.match(r"p[024]1|y21|xv36", stem)
    dtype = np.dtype("u1" if depth == 8 else f"{order}u2")
    layout = Layout(model, depth, step if model == "yuv" else (1, 1))
    return PixelFormat(name, layout, alpha, "samples", True, dtype, 16 - depth if shifted else 0, places)


def _places(stem: str, video: Any) -> dict[str, tuple[int, int, int]]:
    order = PACKED.get(stem)
    if order is not None:
        luma = order.count("Y") or 1
        return {
            sample: (0, order.index(sample), len(order) // (luma if sample == "Y" else 1))
            for sample in order.replace("-", "")
        }
    planes = [part.plane for part in video.components]
    if planes == [0, 1, 1]:  # nv12 and what is built like it
        u, v = (1, 0) if stem in ("nv21", "nv42") else (0, 1)
        return {"Y": (0, 0, 1), "U": (1, u, 2), "V": (1, v, 2)}
    if len(set(planes)) != len(planes):
        return {}
    samples = "RGBA" if video.is_rgb else "YUVA"
    if len(planes) == 1:
        samples = "Y"
    return {sample: (plane, 0, 1) for sample, plane in zip(samples, planes, strict=False)}


def planar_name(layout: Layout, *, alpha: bool = False) -> str:
    """FFmpeg's name of the planar format that holds such planes as they are.

    OptionError: there is none, as for 4:1:0 with alpha.
    """
    depth = "" if layout.depth_bits <= 8 else f"{layout.depth_bits}le"
    if layout.model == "grey":
        name = f"gray{depth}" if not alpha else {8: "ya8", 16: "ya16le"}.get(layout.depth_bits, "no")
    elif layout.model == "rgb":
        name = f"gbr{'a' if alpha else ''}p{depth}"
    else:
        steps = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "411", (4, 4): "410", (1, 2): "440"}
        name = f"yuv{'a' if alpha else ''}{steps.get(layout.step, 'no')}p{depth}"
    with contextlib.suppress(OptionError):
        if pixel_format(name).layout == layout:
            return name
    raise OptionError(f"no pixel format holds {layout}{' with alpha' if alpha else ''}")


def planes_of(picture: Any) -> tuple[tuple[Samples, ...], Samples | None]:
    """The planes of an av.VideoFrame and its alpha, as `pixel_format(picture.format.name)` says.

    Planar samples are read-only views, valid for as long as they are held; others are copies.
    Colours with fewer than 8 bits are spread over 8 (bits repeated), floats rounded to 16 after clipping to
    [0, 1]; linear light (EXR) is given the curve of sRGB first.
    """
    known = pixel_format(picture.format.name)
    if known.kind == "samples":
        samples = {name: _narrowed(view, known) for name, view in _views(picture, known).items()}
    elif known.kind == "float":
        linear = picture.color_trc == 8
        samples = {
            name: _from_float(view, linear and name != "A") for name, view in _views(picture, known).items()
        }
    elif known.kind == "bits":
        samples = _fields(picture, known)
    elif known.kind == "palette":
        samples = _looked_up(picture)
    elif known.kind == "mono":
        bits = np.unpackbits(_bytes(picture.planes[0], picture.height), axis=1)[:, : picture.width]
        samples = {"Y": (bits if known.name == "monob" else 1 - bits) * np.uint8(255)}
    else:
        return planes_of(_by_swscale(picture, known))
    return tuple(samples[name] for name in ORDER[known.layout.model]), samples.get("A")


def _by_swscale(picture: Any, known: PixelFormat) -> Any:
    try:  # in one thread, as everywhere here: FFmpeg 8.1's slices race each other above 8 bits
        return picture.reformat(format=planar_name(known.layout), threads=1)
    except av.FFmpegError as error:
        raise MediaError(f"its pixel format {known.name} cannot be read") from error


def _narrowed(view: Samples, known: PixelFormat) -> Samples:
    if known.shift:
        view = view >> known.shift
    return view if view.dtype == known.layout.dtype else view.astype(known.layout.dtype)


def _from_float(view: Samples, linear: bool) -> Samples:
    light = np.clip(np.nan_to_num(view.astype(np.float32)), 0, 1)
    if linear:  # IEC 61966-2-1
        light = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(light * 65535).astype(np.uint16)


def _fields(picture: Any, known: PixelFormat) -> dict[str, Samples]:
    words = _array(picture.planes[0], picture.height, picture.width, known.dtype, 1, 0)
    depth = known.layout.depth_bits
    return {
        name: _spread((words >> low) & ((1 << bits) - 1), bits, depth).astype(known.layout.dtype)
        for name, low, bits in BITS[re.sub(r"[lb]e$", "", known.name)]
    }


def _spread(values: Samples, bits: int, depth: int) -> Samples:
    """`bits` wide values over `depth` bits, repeated: full stays full, the high bits give them back."""
    wide: Samples = np.zeros(values.shape, np.uint32)
    filled = 0
    while filled < depth:
        wide = (wide << bits) | values
        filled += bits
    return wide >> (filled - depth)


def _looked_up(picture: Any) -> dict[str, Samples]:
    index, palette = picture.planes
    colours = np.frombuffer(palette, "=u4", 256)
    words = colours[_array(index, picture.height, picture.width, np.dtype("u1"), 1, 0)]
    return {name: (words >> low).astype(np.uint8) for name, low in zip("ARGB", (24, 16, 8, 0), strict=True)}


def _views(picture: Any, known: PixelFormat) -> dict[str, Samples]:
    across, down = known.layout.step
    chroma = (-(-picture.height // down), -(-picture.width // across))
    planes = picture.planes
    return {
        name: _array(
            planes[plane],
            *(chroma if name in "UV" else (picture.height, picture.width)),
            known.dtype,
            every,
            first,
        )
        for name, (plane, first, every) in known.places.items()
    }


def _array(plane: Any, height: int, width: int, dtype: np.dtype[Any], every: int, first: int) -> Samples:
    """Every `every`-th sample of a plane from its `first` on, (height, width), not copied."""
    line, size = plane.line_size, dtype.itemsize
    offset = first * size + (-line * (height - 1) if line < 0 else 0)
    return np.ndarray((height, width), dtype, plane, offset, (line, every * size))


def _bytes(plane: Any, height: int) -> Samples:
    return _array(plane, height, abs(plane.line_size), np.dtype("u1"), 1, 0)


def to_frame(picture: Any, colour: Colour, pts: int, time_base: Fraction) -> Frame:
    """An av.VideoFrame as a Frame whose planes may not be written; `planes_of` says how it is read."""
    planes, alpha = planes_of(picture)
    for plane in planes:
        plane.flags.writeable = False
    layout = pixel_format(picture.format.name).layout
    return Frame(planes, layout, colour, pts, time_base, alpha=alpha, decoded=picture)


def to_video_frame(frame: Frame, name: str | None = None) -> Any:
    """A Frame's planes in an av.VideoFrame of `name`, exactly: a format of the same layout, in any order.

    None is the planar format. The frame's alpha goes where the format has alpha (opaque where the frame has
    none) and is left out elsewhere. pts, time base and colour tags are set; side data is not.

    Raises:
        OptionError: a format that does not hold these planes exactly; `reformat` what this returns.
    """
    name = name or planar_name(frame.layout, alpha=frame.alpha is not None)
    known = pixel_format(name)
    if known.layout != frame.layout or known.kind != "samples" or not known.exact:
        raise OptionError(f"{name} does not hold {frame.layout}")
    picture = av.VideoFrame(frame.width, frame.height, name)
    sources = dict(zip(ORDER[frame.layout.model], frame.planes, strict=True))
    for sample, view in _views(picture, known).items():
        if sample != "A":
            view[...] = sources[sample] << known.shift if known.shift else sources[sample]
        elif frame.alpha is not None:
            view[...] = frame.alpha << known.shift if known.shift else frame.alpha
        else:
            view[...] = ((1 << frame.layout.depth_bits) - 1) << known.shift
    picture.pts, picture.time_base = frame.pts, frame.time_base
    picture.colorspace, picture.color_range = frame.colour.matrix, 2 if frame.colour.full_range else 1
    picture.color_primaries, picture.color_trc = frame.colour.primaries, frame.colour.transfer
    return picture
