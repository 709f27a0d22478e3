"""Every pixel format a decoder may give, as planes and back: against swscale where that is exact."""

from __future__ import annotations

import gc
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.format import names
from clips import noise_frame

from gpenvideo.errors import OptionError
from gpenvideo.frame import Colour, Frame, Layout
from gpenvideo.video.pixels import pixel_format, planar_name, planes_of, to_frame, to_video_frame

TICK = Fraction(1, 25)
COLOUR = Colour(6, False)
SOFTWARE = sorted(name for name in names if av.VideoFormat(name, 8, 8).components)
EXACT = [n for n in SOFTWARE if pixel_format(n).kind == "samples" and pixel_format(n).exact]
COMPARED = [  # swscale rounds on the way from msb formats and lacks some big-endian ones; yuvj it stretches
    n
    for n in EXACT
    if "msb" not in n and not n.startswith("yuvj") and n not in ("y210be", "y212be", "y216be")
]


def planar_of(name: str) -> str:
    known = pixel_format(name)
    try:
        return planar_name(known.layout, alpha=known.alpha)
    except OptionError:
        return planar_name(known.layout)


def frame_of(picture: av.VideoFrame) -> Frame:
    return to_frame(picture, COLOUR, 3, TICK)


def test_every_format_is_classed() -> None:
    kinds = {name: pixel_format(name).kind for name in SOFTWARE}
    others = {name for name, kind in kinds.items() if kind == "other"}
    told = ("bayer", "xyz12", "rgb96", "rgba128", "bgr4", "rgb4", "uyyvyy411", "v30x")
    assert all(name.startswith(told) for name in others), others
    assert len(EXACT) > 150


@pytest.mark.parametrize("name", EXACT)
def test_samples_come_back_as_they_were(name: str) -> None:
    frame = frame_of(noise_frame(name, (37, 23), 1))
    assert (frame.width, frame.height, frame.pts) == (37, 23, 3)
    limit = (1 << frame.layout.depth_bits) - 1
    assert all(plane.max() <= limit and plane.std() > limit / 8 for plane in frame.planes)
    again = frame_of(to_video_frame(frame, name))
    for before, after in zip(frame.planes, again.planes, strict=True):
        np.testing.assert_array_equal(before, after)
    assert (frame.alpha is None) == (again.alpha is None)
    if frame.alpha is not None:
        np.testing.assert_array_equal(frame.alpha, again.alpha)


@pytest.mark.parametrize("name", [name for name in COMPARED if planar_of(name) != name])
def test_samples_are_those_swscale_finds(name: str) -> None:
    picture = noise_frame(name, (37, 23), 2)
    ours, theirs = frame_of(picture), frame_of(picture.reformat(format=planar_of(name), threads=1))
    for mine, other in zip(ours.planes, theirs.planes, strict=True):
        np.testing.assert_array_equal(mine, other)
    if theirs.alpha is not None:
        np.testing.assert_array_equal(ours.alpha, theirs.alpha)


@pytest.mark.parametrize(
    "name", ["gray", "rgb24", "bgra", "gbrp10le", "gbrap12le", "yuv444p16le", "gray16be"]
)
def test_samples_are_those_of_to_ndarray(name: str) -> None:
    picture = noise_frame(name, (20, 11), 3)
    array = picture.to_ndarray()
    frame = frame_of(picture)
    if frame.layout.model == "rgb":
        order = (2, 1, 0) if name.startswith("bgr") else (0, 1, 2)
        wanted = [array[..., order[i]] for i in (1, 2, 0)]
    elif frame.layout.model == "grey":
        wanted = [array]
    else:
        wanted = [array[..., i] for i in range(3)]
    for mine, other in zip(frame.planes, wanted, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    "name", ["yuv420p", "yuv411p", "yuvj422p", "yuv422p10le", "nv12", "nv21", "gbrp", "gray"]
)
def test_planar_samples_are_views(name: str) -> None:
    picture = noise_frame(name, (38, 22))
    frame = frame_of(picture)
    assert not any(plane.flags.writeable or plane.flags.owndata for plane in frame.planes)
    first = frame.planes[0][0, 0]
    picture.planes[pixel_format(name).places["Y" if "gbr" not in name else "G"][0]].update(
        bytes(picture.planes[0].buffer_size)
    )
    assert frame.planes[0][0, 0] == 0
    assert first >= 0


def test_planes_outlive_the_decoders_frame() -> None:
    picture = noise_frame("nv12", (64, 48), 5)
    planes, _ = planes_of(picture)
    copies = [plane.copy() for plane in planes]
    del picture
    gc.collect()
    for _ in range(20):
        noise_frame("nv12", (64, 48), 9)
    for plane, copy in zip(planes, copies, strict=True):
        np.testing.assert_array_equal(plane, copy)


@pytest.mark.parametrize(
    ("name", "word", "rgb"),
    [
        ("rgb565le", 0b11111_000000_00001, (255, 0, 8)),
        ("bgr565le", 0b11111_000000_00001, (8, 0, 255)),
        ("rgb555le", 0b00001_11111_00000, (8, 255, 0)),
        ("bgr444le", 0b1111_0001_0000, (0, 17, 255)),
        ("rgb8", 0b111_001_01, (255, 36, 85)),
        ("bgr8", 0b01_001_111, (255, 36, 85)),
        ("bgr4_byte", 0b1_01_0, (0, 85, 255)),
    ],
)
def test_narrow_colours_are_spread_over_8_bits(name: str, word: int, rgb: tuple[int, ...]) -> None:
    picture = av.VideoFrame(2, 1, name)
    size = 1 if "8" in name or "byte" in name else 2
    data = word.to_bytes(size, "little") * 2
    picture.planes[0].update(data.ljust(picture.planes[0].buffer_size, b"\0"))
    green, blue, red = frame_of(picture).planes
    assert (red[0, 0], green[0, 0], blue[0, 0]) == rgb


def test_ten_bit_words_are_fields() -> None:
    for name, wanted in (("x2rgb10le", (3, 2, 1)), ("x2bgr10le", (1, 2, 3))):
        picture = av.VideoFrame(1, 1, name)
        data = (3 << 20 | 2 << 10 | 1).to_bytes(4, "little")
        picture.planes[0].update(data.ljust(picture.planes[0].buffer_size, b"\0"))
        frame = frame_of(picture)
        assert frame.layout == Layout("rgb", 10)
        assert tuple(int(frame.planes[i][0, 0]) for i in (2, 0, 1)) == wanted


def test_a_palette_is_looked_up() -> None:
    picture = noise_frame("pal8", (13, 7), 4)
    index, palette = picture.to_ndarray()
    frame = frame_of(picture)
    assert frame.alpha is not None
    np.testing.assert_array_equal(frame.alpha, palette[index][..., 0])
    for plane, channel in zip(frame.planes, (2, 3, 1), strict=True):
        np.testing.assert_array_equal(plane, palette[index][..., channel])


@pytest.mark.parametrize(("name", "lit"), [("monob", 255), ("monow", 0)])
def test_one_bit_is_black_and_white(name: str, lit: int) -> None:
    picture = av.VideoFrame(11, 2, name)
    data = b"\xff\xe0".ljust(picture.planes[0].line_size, b"\0") + b"\x80".ljust(
        picture.planes[0].line_size, b"\0"
    )
    picture.planes[0].update(data)
    (plane,) = frame_of(picture).planes
    assert (plane[0] == lit).all()
    assert plane[1, 0] == lit
    assert (plane[1, 1:] == 255 - lit).all()


def test_floats_become_16_bits() -> None:
    values = np.array([[-1.0, 0.0, 0.25, 0.5], [0.75, 1.0, 7.0, np.nan]], np.float32)
    picture = av.VideoFrame.from_ndarray(values, format="grayf32le")
    (plane,) = frame_of(picture).planes
    assert plane.tolist() == [[0, 0, 16384, 32768], [49151, 65535, 65535, 0]]
    picture.color_trc = 8  # linear light
    (plane,) = frame_of(picture).planes
    assert abs(int(plane[0, 3]) / 65535 - 0.735357) < 1e-4


@pytest.mark.parametrize(("depth", "alpha"), [(8, True), (10, False), (16, True)])
def test_a_frame_fills_the_formats_of_its_layout_only(depth: int, alpha: bool) -> None:
    rng = np.random.default_rng(0)
    layout = Layout("rgb", depth)
    planes = [rng.integers(0, 1 << depth, (5, 7)).astype(layout.dtype) for _ in range(4)]
    frame = Frame(tuple(planes[:3]), layout, Colour(0, True), 7, TICK, alpha=planes[3] if alpha else None)
    picture = to_video_frame(frame)
    assert picture.pts == 7
    assert picture.time_base == TICK
    assert picture.color_range == 2
    assert picture.format.name == planar_name(layout, alpha=alpha)
    with pytest.raises(OptionError, match="does not hold"):
        to_video_frame(frame, "yuv420p")
    if depth == 8:
        opaque = frame_of(to_video_frame(Frame(frame.planes, layout, Colour(0, True), 0, TICK), "rgba"))
        assert opaque.alpha is not None
        assert (opaque.alpha == 255).all()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(OptionError, match="no pixel format"):
        pixel_format("yuv42p")
    with pytest.raises(OptionError, match="no pixel format holds"):
        planar_name(Layout("yuv", 11, (2, 2)))
    with pytest.raises(OptionError, match="with alpha"):
        planar_name(Layout("yuv", 8, (4, 4)), alpha=True)
