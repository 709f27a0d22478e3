"""Colour matrices against the textbook and against FFmpeg's own conversion; small pictures of frames."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.frame import LEFT, Colour, Frame, Layout
from gpenvideo.kernels.colour import luma_from_samples, rgb_from_samples, samples_from_rgb
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame, small_luma, thumbnail

MATRICES = [1, 4, 5, 6, 7, 8, 9, 10]
FORMATS = {
    "yuv420p": Layout("yuv", 8, (2, 2)),
    "yuv422p": Layout("yuv", 8, (2, 1)),
    "yuv444p": Layout("yuv", 8),
    "yuv411p": Layout("yuv", 8, (4, 1)),
    "yuv420p10le": Layout("yuv", 10, (2, 2)),
    "yuv444p12le": Layout("yuv", 12),
    "yuv444p16le": Layout("yuv", 16),
    "gbrp": Layout("rgb", 8),
    "gbrp10le": Layout("rgb", 10),
    "gray": Layout("grey", 8),
    "gray16le": Layout("grey", 16),
}


def decoded(frame: av.VideoFrame, layout: Layout, colour: Colour) -> Frame:
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, layout.dtype).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width].copy())
    return Frame(tuple(planes), layout, colour, 0, Fraction(1), edited=True)


def converted(rgb: NDArray[np.uint8], pixel_format: str, matrix: int, full: bool) -> Frame:
    """A picture in planes, by swscale."""
    layout = FORMATS[pixel_format]
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        threads=1,
        format=pixel_format,
        dst_colorspace=matrix,
        dst_color_range=2 if full else 1,
        src_color_range=2,
    )
    return decoded(frame, layout, Colour(0 if layout.model == "rgb" else matrix, full, LEFT))


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full", [False, True])
def test_solid_colours_are_what_ffmpeg_makes_of_them(pixel_format: str, matrix: int, full: bool) -> None:
    full = full or pixel_format.startswith(("gbr", "gray"))
    for rgb in [(255, 255, 255), (0, 0, 0), (200, 40, 30), (20, 180, 90), (30, 60, 220), (200, 160, 140)]:
        colour = (rgb[0],) * 3 if pixel_format.startswith("gray") else rgb
        picture = np.full((16, 16, 3), colour, dtype=np.uint8)
        frame = converted(picture, pixel_format, matrix, full)
        levels = [float(plane[4, 2]) for plane in frame.planes]
        found = (rgb_from_samples(frame.layout, frame.colour) @ [*levels, 1] + 1) * 127.5
        assert np.abs(found - colour).max() < 2.6  # levels are rounded: blue is 1.9 to 2.1 times their error
        back = samples_from_rgb(frame.layout, frame.colour) @ [*(c / 127.5 - 1 for c in colour), 1]
        assert np.abs(back - levels).max() <= 1.25 * 2 ** (frame.layout.depth_bits - 8)
        assert np.abs((crop(frame, np.eye(2, 3), 8) + 1) * 127.5 - colour).max() < 2.6
        assert np.abs(thumbnail(frame, 8).astype(int) - colour).max() <= 3


def test_the_textbook() -> None:
    """BT.601 and BT.709 at 8 bits, limited range: the constants everybody knows."""
    matrix = rgb_from_samples(Layout("yuv", 8, (2, 2)), Colour(6, False)) * 127.5
    assert np.allclose(
        matrix[:, :3], [(1.164, 0, 1.596), (1.164, -0.392, -0.813), (1.164, 2.017, 0)], atol=1e-3
    )
    matrix = rgb_from_samples(Layout("yuv", 8, (2, 2)), Colour(1, False)) * 127.5
    assert np.allclose(
        matrix[:, :3], [(1.164, 0, 1.793), (1.164, -0.213, -0.533), (1.164, 2.112, 0)], atol=1e-3
    )
    jpeg = samples_from_rgb(Layout("yuv", 8, (2, 2)), Colour(5, True)) * 2 / 255
    expected = [(0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813)]
    assert np.allclose(jpeg[:, :3], expected, atol=1e-4)
    green = samples_from_rgb(Layout("yuv", 8), Colour(8, True)) @ (-1, 1, -1, 1)
    assert np.allclose(green, (127.5, 255.5, 128))  # YCgCo: half of luma, all of Cg, none of Co


@given(st.sampled_from(MATRICES), st.booleans(), st.integers(8, 16), st.sampled_from(["yuv", "rgb", "grey"]))
@settings(max_examples=60, deadline=None)
def test_there_and_back(matrix: int, full: bool, bits: int, model: Any) -> None:
    layout, colour = Layout(model, bits), Colour(matrix, full)
    there, back = samples_from_rgb(layout, colour), rgb_from_samples(layout, colour)
    rgb = np.random.default_rng(bits).uniform(-1, 1, (20, 3))
    if model == "grey":
        rgb[:] = rgb[:, :1]
    levels = rgb @ there[:, :3].T + there[:, 3]
    assert np.allclose(levels @ back[:, :-1].T + back[:, -1], rgb, atol=1e-9)
    unit = 2 ** (bits - 8)
    black, white = (there @ (*colour_of, 1) for colour_of in [(-1, -1, -1), (1, 1, 1)])
    assert np.allclose((black[0], white[0]), (0, 2**bits - 1) if full else (16 * unit, 235 * unit))
    luma = luma_from_samples(layout, colour)
    assert np.allclose([luma[0] @ (*v[: luma.shape[1] - 1], 1) for v in (black, white)], (0, 1))


@pytest.mark.parametrize("matrix", [0, 2, 3, 14])
def test_a_matrix_that_is_not_known_is_refused(matrix: int) -> None:
    with pytest.raises(OptionError, match=f"coefficients {matrix} are not supported"):
        rgb_from_samples(Layout("yuv", 8, (2, 2)), Colour(matrix, False))


def blocks(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=-1).astype(
        np.uint8
    )


@pytest.mark.parametrize("pixel_format", [name for name in FORMATS if not name.startswith("gray")])
def test_a_thumbnail_is_the_picture_made_small(pixel_format: str) -> None:
    picture = blocks(120, 200)
    small = thumbnail(converted(picture, pixel_format, 1, pixel_format.startswith("gbr")), 50)
    assert small.dtype == np.uint8
    assert small.shape == (30, 50, 3)
    means = picture.reshape(30, 4, 50, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() < 6
    assert np.abs(small - means).mean() < 1.5


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (37, 23)])
def test_thumbnails_never_grow_and_odd_sizes_work(pixel_format: str, size: tuple[int, int]) -> None:
    frame = converted(blocks(40, 40), pixel_format, 1, full=True)
    (across, down), (height, width) = frame.layout.step, size
    planes = [frame.planes[0][:height, :width]]
    planes += [plane[: -(-height // down), : -(-width // across)] for plane in frame.planes[1:]]
    odd = Frame(tuple(planes), frame.layout, frame.colour, 0, Fraction(1))
    assert thumbnail(odd, 640).shape == (height, width, 3)
    assert max(thumbnail(odd, 8).shape[:2]) == min(8, max(size))
    assert small_luma(odd, (16, 9)).shape == (9, 16)
    assert crop(odd, np.eye(2, 3), 4).shape == (4, 4, 3)
    with pytest.raises(OptionError, match="1 px"):
        thumbnail(odd, 0)


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("full", [False, True])
def test_small_luma_means_the_same_in_every_layout(pixel_format: str, full: bool) -> None:
    full = full or pixel_format.startswith(("gbr", "gray"))
    y = np.mgrid[:360, :640][0]
    picture = np.repeat((y * 255 / 359).astype(np.uint8)[..., None], 3, axis=2)
    found = small_luma(converted(picture, pixel_format, 1, full), (64, 36))
    assert found.dtype == np.float32
    assert np.abs(found - (np.arange(36) + 0.5)[:, None] / 36).max() < 0.01


def test_a_picture_as_a_frame_is_the_picture() -> None:
    picture = blocks(20, 30)
    frame = as_frame(picture, edited=True)
    assert np.array_equal(thumbnail(frame, 30), picture)
    frame.planes[2][3, 4] = 7
    assert picture[3, 4, 0] == 7  # the third plane is red
    with pytest.raises(OptionError, match="float64"):
        as_frame(picture.astype(float))
