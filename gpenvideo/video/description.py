"""What a stream says of itself: colour, orientation, HDR, and what has to be assumed where it is silent."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import SideDataContainer

from gpenvideo.frame import Colour, StreamInfo
from gpenvideo.video.matroska import siting_in
from gpenvideo.video.pixels import PixelFormat, pixel_format

__all__ = ["colour_of", "describe", "hdr_of", "orientation_of", "side_data", "siting_of"]

MATRICES = {1: "BT.709", 6: "BT.601", 9: "BT.2020"}
HD_HEIGHT_PX = 720
UNKNOWN, BT2020, HDR = 2, 9, (16, 18)  # H.273; HDR are the transfers PQ and HLG
CENTRED_CODECS = {"mjpeg", "ljpeg", "mpeg1video", "h261", "h263", "h263p", "flv", "flv1", "theora", "webp"}
LIMITED_GREY = {"h264", "hevc", "vvc", "vp9", "av1", "libdav1d", "libaom-av1", "mpeg4", "mpeg2video"}
FIELD_ORDERS = {1: "progressive", 2: "tt", 3: "bb", 4: "tb", 5: "bt"}


def colour_of(
    picture: Any, codec: str, siting: tuple[float, float] | None = None
) -> tuple[Colour, tuple[str, ...]]:
    """What the samples of an av.VideoFrame mean, and a sentence for each part that had to be assumed.

    An unknown matrix is taken as players take it: BT.709 from 720 rows on, else BT.601, unless the transfer
    (of HDR) or the primaries say more. An unknown range is limited, but full for RGB, grey pictures and yuvj
    formats.
    The siting of 4:2:0 is what the stream says (`siting_of`), else that of the codec's standard.
    """
    known = pixel_format(picture.format.name)
    assumed = []
    matrix, primaries, transfer = picture.colorspace, picture.color_primaries, picture.color_trc
    if known.layout.model == "rgb":
        matrix = 0
    elif matrix in (0, 2, 3):
        matrix = BT2020 if transfer in HDR else _likely_matrix(picture.height, primaries)
        if known.layout.model == "yuv":
            assumed.append(f"The stream does not name its colour matrix: {MATRICES[matrix]} is assumed.")
    if transfer in HDR and primaries == UNKNOWN:
        assumed.append("The stream does not name its primaries: those of BT.2020 are assumed, as it is HDR.")
    full, guess = _range_of(picture, known, codec)
    if guess:
        assumed.append(f"The stream does not say its range: {'full' if full else 'limited'} is assumed.")
    if known.kind == "float" and transfer == 8:
        transfer = 13  # `planes_of` has applied the curve of sRGB
    across, down = known.layout.step
    x, y = siting or ((0.5 if codec in CENTRED_CODECS else 0.0), 0.5)
    return Colour(matrix, full, (x * (across - 1), y * (down - 1)), primaries, transfer), tuple(assumed)


def siting_of(stream: Any) -> tuple[float, float] | None:
    """Where an av stream says that the chroma of 4:2:0 lies, luma samples; None: it does not say.

    PyAV does not tell, but FFmpeg's muxer for Matroska writes it into a header.
    """
    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska", options={"strict": "experimental"}) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
            return siting_in(header.getvalue())
    except (av.FFmpegError, ValueError):
        return None


def _likely_matrix(height: int, primaries: int) -> int:
    by_primaries = {1: 1, 5: 6, 6: 6, 7: 6, 9: BT2020}
    return by_primaries.get(primaries, 1 if height >= HD_HEIGHT_PX else 6)


def _range_of(picture: Any, known: PixelFormat, codec: str) -> tuple[bool, bool]:
    """Whether the range is full, and whether that is a guess worth telling."""
    if known.name.startswith("yuvj") or known.kind in ("other", "float", "bits", "palette", "mono"):
        return True, False
    if picture.color_range in (1, 2):
        return picture.color_range == 2, False
    if known.layout.model == "rgb":
        return True, False
    if known.layout.model == "grey":
        return codec not in LIMITED_GREY, True
    return False, True


def side_data(picture: Any) -> dict[str, bytes]:
    """The side data of an av.VideoFrame by PyAV's names; empty where it holds a kind PyAV does not know."""
    try:  # not picture.side_data: that and the picture refer to each other, and free memory late
        return {item.type.name: bytes(item) for item in SideDataContainer(picture)}  # type: ignore[call-arg]
    except ValueError:
        return {}


def orientation_of(picture: Any) -> tuple[int, bool]:
    """How a picture is to be shown, by its display matrix: (clockwise degrees, mirrored before that).

    The angle is rounded to a multiple of 90.
    """
    data = side_data(picture).get("DISPLAYMATRIX")
    if data is None or len(data) < 36:
        return -round(picture.rotation / 90) * 90 % 360, False
    a, b, _, c, d, *_ = struct.unpack("=9i", data[:36])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if a == b == 0:
        return 0, False
    return round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360, mirrored


def describe(
    picture: Any,
    codec: str,
    *,
    time_base: Fraction,
    rate_hz: Fraction | None,
    duration_s: float | None,
    frames: int | None,
    sample_aspect: Fraction | None = None,
    field_order: int = 0,
    siting: tuple[float, float] | None = None,
) -> StreamInfo:
    """The StreamInfo of a stream, from its first decoded picture and what its container says."""
    known = pixel_format(picture.format.name)
    colour, assumed = colour_of(picture, codec, siting)
    rotation_deg, mirrored = orientation_of(picture)
    order = FIELD_ORDERS.get(field_order, "interlaced" if picture.interlaced_frame else "progressive")
    info = StreamInfo(
        picture.width,
        picture.height,
        known.name,
        known.layout,
        colour,
        time_base,
        rate_hz=rate_hz,
        duration_s=duration_s,
        frames=frames,
        rotation_deg=rotation_deg,
        mirrored=mirrored,
        field_order=order,
        siting_told=siting is not None,
        assumed=assumed,
    )
    if sample_aspect and Fraction(1, 100) <= sample_aspect <= 100:
        info = replace(info, sample_aspect=Fraction(sample_aspect))
    return info


def hdr_of(picture: Any) -> dict[str, Any]:
    """The static HDR metadata of an av.VideoFrame: what there is of

    `mastering`: {"primaries": ((x, y) of red, green, blue), "white": (x, y), "luminance": (min, max) cd/m²}
    and `light`: (MaxCLL, MaxFALL) in cd/m².
    """
    data = side_data(picture)
    found: dict[str, Any] = {}
    mastering = data.get("MASTERING_DISPLAY_METADATA")
    if mastering is not None and len(mastering) >= 88:
        numbers = struct.unpack("=22i", mastering[:88])
        values = [Fraction(n, d or 1) for n, d in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]
        facts: dict[str, Any] = {}
        if numbers[20]:
            facts |= {"primaries": tuple(zip(values[0:6:2], values[1:6:2], strict=True)),
                      "white": (values[6], values[7])}  # fmt: skip
        if numbers[21]:
            facts["luminance"] = (values[8], values[9])
        found["mastering"] = facts
    light = data.get("CONTENT_LIGHT_LEVEL")
    if light is not None and len(light) >= 8:
        found["light"] = struct.unpack("=2I", light[:8])
    return found
