"""Encoders: which there are, what their options are called, what they hold of a picture's description."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av

from gpenvideo.errors import OptionError
from gpenvideo.frame import StreamInfo
from gpenvideo.video.conversion import Conversion, conversion
from gpenvideo.video.description import hdr_of
from gpenvideo.video.pixels import pixel_format

__all__ = ["CODECS", "ENCODERS", "Encoder", "Setup", "hdr_options", "setup", "with_hdr"]

X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium"),
    *("slow", "slower", "veryslow", "placebo"),
)
NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
PRORES_PROFILES = ("proxy", "lt", "standard", "hq", "4444", "4444xq")
SITINGS = {(0.5, 0.5): "center", (0.0, 0.0): "topleft"}
SILENT = {"ffv1", "libsvtav1"}  # where nothing is said of the siting, it is not that of MPEG
FIELD_ORDERS = {"progressive": 1, "tt": 2, "bb": 3, "tb": 4, "bt": 5}
UNKNOWN = 2  # H.273: "not said"


@dataclass(frozen=True, slots=True)
class Encoder:
    """What one encoder of FFmpeg is, and how it wants to be asked."""

    name: str
    quality: str | None = None
    """The option that `crf` sets; None where it has no such thing."""

    crf: float | None = None
    """The default."""

    crf_range: tuple[float, float] = (0, 51)
    presets: tuple[str, ...] = ()
    preset: str | None = None
    """The default."""

    preset_option: str = "preset"
    options: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] | None = None
    """The pixel formats that are used; None is all that it has, but those with alpha where `alpha` is off."""

    alpha: bool = False
    even: bool = False
    """Whether sub-sampled chroma has to divide the size."""

    range_in_stream: bool = True
    """Whether its bitstream says the range; elsewhere the container has to."""

    full_range: bool = True
    aspect_in_stream: bool = True
    """Whether its bitstream says the sample aspect."""

    parameters: str | None = None
    """The option that takes the encoder library's own parameters."""

    rgb_twin: str | None = None
    """The encoder of the same codec that takes RGB."""

    cpu_twin: str | None = None
    """What is used instead where there is no device for it."""


def _nvenc(name: str, twin: str, *formats: str, **more: Any) -> Encoder:
    return Encoder(
        name,
        quality="cq",
        crf=19,
        presets=NVENC_PRESETS,
        preset="p5",
        options={"rc": "vbr", "b": "0"},
        formats=("yuv420p", *formats),
        even=True,
        cpu_twin=twin,
        **more,
    )


ENCODERS = {
    encoder.name: encoder
    for encoder in (
        Encoder(
            "libx264", "crf", 17, (0, 51), X264_PRESETS, "medium",
            even=True, parameters="x264-params", rgb_twin="libx264rgb",
        ),
        Encoder("libx264rgb", "crf", 17, (0, 51), X264_PRESETS, "medium", parameters="x264-params"),
        Encoder(
            "libx265", "crf", 18, (0, 51), X264_PRESETS, "medium",
            options={"x265-params": "log-level=error"}, even=True, parameters="x265-params",
        ),
        Encoder(
            "libsvtav1", "crf", 22, (1, 63), tuple(map(str, range(14))), "7",
            aspect_in_stream=False, parameters="svtav1-params",
        ),
        Encoder(
            "ffv1", options={"level": "3", "g": "1", "slicecrc": "1"},
            alpha=True, range_in_stream=False, aspect_in_stream=False,
        ),
        Encoder(
            "prores_ks", "global_quality", None, (1, 32), PRORES_PROFILES, None, "profile",
            alpha=True, range_in_stream=False, full_range=False, aspect_in_stream=False,
        ),
        _nvenc("h264_nvenc", "libx264", "yuv444p"),
        _nvenc("hevc_nvenc", "libx265", "p010le", "yuv444p", "yuv444p10msble"),
        _nvenc("av1_nvenc", "libsvtav1", "p010le", aspect_in_stream=False),
        Encoder("png", alpha=True),
        Encoder(
            "tiff", alpha=True,
            formats=("rgb24", "rgb48le", "rgba", "rgba64le", "gray", "gray16le", "ya8", "ya16le"),
        ),
        Encoder("dpx", alpha=True, options={"strict": "unofficial"}),
        Encoder("exr", alpha=True),
    )
}  # fmt: skip

CODECS = {
    "h264": "libx264",
    "x264": "libx264",
    "h265": "libx265",
    "hevc": "libx265",
    "x265": "libx265",
    "av1": "libsvtav1",
    "svtav1": "libsvtav1",
    "prores": "prores_ks",
}
"""Other names of encoders."""


@dataclass(frozen=True, slots=True)
class Setup:
    """An encoder with its options, and the way to its pixel format."""

    encoder: Encoder
    conversion: Conversion
    options: Mapping[str, str]
    notes: tuple[str, ...]
    """What is otherwise than asked or than the source, a sentence each."""

    def context(self, context: Any, info: StreamInfo, rate_hz: Fraction) -> None:
        """Set size, pixel format, time base, tags and options of an encoder's context."""
        context.width, context.height = self.conversion.width, self.conversion.height
        context.pix_fmt = self.conversion.name
        context.time_base, context.framerate = info.time_base, rate_hz
        context.sample_aspect_ratio = info.sample_aspect
        context.color_range = 2 if self.conversion.colour.full_range else 1
        context.colorspace = self.conversion.colour.matrix
        context.color_primaries = self.conversion.colour.primaries
        context.color_trc = self.conversion.colour.transfer
        if info.field_order in FIELD_ORDERS:
            context.field_order = FIELD_ORDERS[info.field_order]
        options = dict(self.options)
        if "global_quality" in options:
            context.qscale, context.global_quality = True, round(float(options.pop("global_quality")))
        context.options = options

    def tag(self, context: Any, info: StreamInfo, first: Any) -> None:
        """The colour tags of the first picture as they are, not as they were read, where samples stay."""
        if self.conversion.colour != info.colour:
            return
        context.colorspace = first.colorspace
        if not info.colour.full_range and first.color_range == 0:
            context.color_range = 0


def setup(
    codec: str,
    info: StreamInfo,
    *,
    crf: float | None = None,
    preset: str | None = None,
    pixel_format_wanted: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Setup:
    """How a source is encoded, tried out by opening the encoder once.

    Args:
        codec: FFmpeg's name of an encoder, or a codec's name of `CODECS`.
        crf: its quality, on its own scale; None is ours.
        preset: its preset, of ProRes the profile.
        pixel_format_wanted: None keeps the source's where the encoder takes it.
        options: further options of the encoder by FFmpeg's names; they win.

    Raises:
        OptionError: an unknown codec, or an option that the encoder does not have or refuses.
    """
    encoder = _named(codec)
    if encoder.rgb_twin and info.layout.model == "rgb" and _takes_rgb(pixel_format_wanted):
        found = _tried(ENCODERS[encoder.rgb_twin], info, crf, preset, pixel_format_wanted, options)
        note = "The source is RGB and stays so, which few players show: all show the pixel format yuv420p."
        return replace(found, notes=(*found.notes, note))
    try:
        return _tried(encoder, info, crf, preset, pixel_format_wanted, options)
    except OptionError as error:
        if encoder.cpu_twin is None or error.__cause__ is None:  # the options are wrong, not the machine
            raise
    twin = ENCODERS[encoder.cpu_twin]
    same = preset if preset in twin.presets else None
    found = _tried(twin, info, crf, same, pixel_format_wanted, None)
    note = f"{encoder.name} does not open on this machine: {twin.name} encodes instead."
    return replace(found, notes=(note, *found.notes))


def _named(codec: str) -> Encoder:
    name = CODECS.get(codec.lower(), codec.lower())
    if name not in ENCODERS:
        raise OptionError(f"there is no codec {codec!r} here: choose of {', '.join(ENCODERS)}")
    if name not in av.codecs_available:
        raise OptionError(f"this build of PyAV has no encoder {name}")
    return ENCODERS[name]


def _takes_rgb(wanted: str | None) -> bool:
    return wanted is None or pixel_format(wanted).layout.model == "rgb"


def _tried(
    encoder: Encoder,
    info: StreamInfo,
    crf: float | None,
    preset: str | None,
    wanted: str | None,
    options: Mapping[str, str] | None,
) -> Setup:
    known = pixel_format(info.pixel_format)
    way = conversion(
        info.layout,
        info.colour,
        (info.width, info.height),
        _formats(encoder),
        alpha=known.alpha and encoder.alpha,
        even=encoder.even,
        full_range=encoder.full_range,
        wanted=wanted,
    )
    chosen = _options(encoder, info, crf, preset, way) | dict(options or {})
    notes = tuple(f"{encoder.name} writes {way.name}: {note}." for note in way.notes)
    found = Setup(encoder, way, chosen, notes)
    _open_once(found, info)
    return found


def _formats(encoder: Encoder) -> list[str]:
    names = [form.name for form in av.Codec(encoder.name, "w").video_formats or ()]
    if encoder.formats is not None:
        return [name for name in encoder.formats if name in names]
    return [name for name in names if encoder.alpha or not pixel_format(name).alpha]


def _options(
    encoder: Encoder, info: StreamInfo, crf: float | None, preset: str | None, way: Conversion
) -> dict[str, str]:
    options = dict(encoder.options)
    low, high = encoder.crf_range
    if crf is not None and encoder.quality is None:
        raise OptionError(f"{encoder.name} has no quality to set: leave crf out")
    if crf is not None and not low <= crf <= high:
        raise OptionError(f"the crf of {encoder.name} is {low:g} to {high:g}, got {crf:g}")
    if preset is not None and preset not in encoder.presets:
        known = ", ".join(encoder.presets) or "none"
        raise OptionError(f"{encoder.name} has no preset {preset!r}: {known}")
    quality = encoder.crf if crf is None else crf
    if encoder.quality is not None and quality is not None:
        options[encoder.quality] = f"{quality:g}"
    pace = preset or encoder.preset
    if pace is not None:
        options[encoder.preset_option] = pace
    if encoder.name == "prores_ks" and preset is None:
        options["profile"] = "4444" if "444" in way.name else "hq"
    if way.layout.step == (2, 2) and way.colour.siting in SITINGS:
        options["chroma_sample_location"] = SITINGS[way.colour.siting]
    elif way.layout.step == (2, 2) and info.siting_told and encoder.name in SILENT:
        options["chroma_sample_location"] = "left"
    if encoder.parameters == "x264-params" and info.field_order in ("tt", "tb", "bb", "bt"):
        options["x264-params"] = "tff=1" if info.field_order[0] == "t" else "bff=1"
    return options


def _open_once(found: Setup, info: StreamInfo) -> None:
    """Open the encoder and let it go: what it refuses shows before anything is written."""
    if found.encoder.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # the library speaks on stderr otherwise
    context: Any = av.CodecContext.create(found.encoder.name, "w")
    found.context(context, info, info.rate_hz or Fraction(25))
    asked = dict(context.options)
    try:
        context.open()
        if found.encoder.cpu_twin is not None:  # a device may open and still not encode
            context.encode(av.VideoFrame(context.width, context.height, context.pix_fmt))
            context.encode(None)
    except (av.FFmpegError, ValueError) as error:
        size = f"{found.conversion.width}x{found.conversion.height}"
        told = " ".join(f"{name}={value}" for name, value in asked.items())
        raise OptionError(
            f"{found.encoder.name} does not open for {size} {found.conversion.name} ({told})"
        ) from error


def with_hdr(found: Setup, picture: Any, *, container: bool = False) -> tuple[Setup, list[str]]:
    """The setup with the HDR metadata of the first picture in its options, and sentences on what is lost.

    Args:
        container: whether the container holds them where the encoder does not.
    """
    facts = hdr_of(picture)
    if not facts:
        return found, []
    encoder = found.encoder
    parameters = hdr_options(encoder.name, facts)
    if parameters is None or encoder.parameters is None:
        if container:
            return found, []
        return found, [f"{encoder.name} cannot hold the HDR metadata (mastering display, light level): lost."]
    before = found.options.get(encoder.parameters)
    joined = ":".join([*([before] if before else []), *parameters])
    return replace(found, options={**found.options, encoder.parameters: joined}), []


def hdr_options(encoder: str, facts: Mapping[str, Any]) -> list[str] | None:
    """The parameters that carry static HDR metadata (`description.hdr_of`); None where there are none."""
    names = {
        "libx264": ("mastering-display", "cll"),
        "libx265": ("master-display", "max-cll"),
        "libsvtav1": ("mastering-display", "content-light"),
    }
    if encoder not in names:
        return None
    display, light = names[encoder]
    parameters = ["hdr10=1"] if encoder == "libx265" else []
    mastering = facts.get("mastering", {})
    if "primaries" in mastering and "luminance" in mastering:
        red, green, blue = mastering["primaries"]
        points = {"G": green, "B": blue, "R": red, "WP": mastering["white"]}
        low, high = mastering["luminance"]
        if encoder == "libsvtav1":
            text = "".join(f"{name}({float(x):.5f},{float(y):.5f})" for name, (x, y) in points.items())
            text += f"L({float(high):.4f},{float(low):.4f})"
        else:  # steps of 0.00002 and of 0.0001 cd/m²
            text = "".join(
                f"{name}({round(x * 50000)},{round(y * 50000)})" for name, (x, y) in points.items()
            )
            text += f"L({round(high * 10000)},{round(low * 10000)})"
        parameters.append(f"{display}={text}")
    if "light" in facts:
        parameters.append("{}={},{}".format(light, *facts["light"]))
    return parameters
