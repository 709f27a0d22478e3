"""Crops out of planes and faces back into them: every layout, against a slow reference and by promise."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.frame import CENTRED, LEFT, Colour, Frame, Layout, Rectangle
from gpenvideo.kernels.colour import rgb_from_samples, samples_from_rgb
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.paste import Paste, paste

Array = NDArray[Any]

STEPS = [(2, 2), (2, 1), (1, 1), (4, 1)]
LAYOUTS = [Layout("yuv", bits, step) for bits in (8, 10, 12, 16) for step in STEPS]
LAYOUTS += [Layout(model, bits) for model in ("rgb", "grey") for bits in (8, 10, 16)]  # type: ignore[arg-type]


def colour(layout: Layout, *, full_range: bool = False, siting: tuple[float, float] = LEFT) -> Colour:
    return Colour(0 if layout.model == "rgb" else 1, full_range, siting)


def sizes(layout: Layout, height: int, width: int) -> list[tuple[int, int]]:
    across, down = layout.step
    return [(height, width)] + [(-(-height // down), -(-width // across))] * (layout.planes - 1)


def noise_frame(
    layout: Layout, height: int, width: int, meaning: Colour, *, interleaved: bool = False
) -> Frame:
    """Any levels; with `interleaved`, chroma as NV12 has it: views with a pixel stride of 2."""
    rng = np.random.default_rng(height * 1000 + width)
    planes = [
        rng.integers(0, 2**layout.depth_bits, size, dtype=layout.dtype)
        for size in sizes(layout, height, width)
    ]
    if interleaved:
        both = np.stack(planes[1:], axis=-1)
        planes[1:] = [both[..., 0], both[..., 1]]
    return Frame(tuple(planes), layout, meaning, 0, Fraction(1), edited=True)


def smooth_frame(layout: Layout, height: int, width: int, meaning: Colour) -> Frame:
    """A soft picture, as its planes would sample it where their samples lie; colours are ordinary."""
    planes = []
    for i, (h, w) in enumerate(sizes(layout, height, width)):
        (dx, dy), (ox, oy) = (layout.step, offset(layout, meaning)) if i else ((1, 1), (0.0, 0.0))
        y, x = np.mgrid[:h, :w].astype(float)
        planes.append((x * dx + ox, y * dy + oy))
    rgb = [scene(x, y) for x, y in planes]
    affine = samples_from_rgb(layout, meaning)
    levels = [np.rint(c @ row[:3] + row[3]).astype(layout.dtype) for c, row in zip(rgb, affine, strict=True)]
    return Frame(tuple(levels), layout, meaning, 0, Fraction(1), edited=True)


def scene(x: Array, y: Array) -> Array:
    """RGB in [-1, 1] at a place of the frame."""
    waves = [np.sin(x / 17 + 1) + np.cos(y / 15), np.cos((x + y) / 23), np.sin((x - y) / 28) + np.sin(y / 31)]
    return np.asarray(np.stack(waves, axis=-1) * 0.3)


def offset(layout: Layout, meaning: Colour) -> tuple[float, float]:
    (across, down), (x, y) = layout.step, meaning.siting
    return (x if across > 1 else 0.0), (y if down > 1 else 0.0)


def affine(angle: float, sx: float, sy: float, x: float, y: float, size_px: int) -> Array:
    """crop_from_frame: x and y scaled by their own factors, then turned; (x, y) goes to the crop's middle."""
    turn = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    linear = turn @ np.diag([sx, sy])
    return np.column_stack([linear, (size_px - 1) / 2 - linear @ (x, y)])


def weights(position: float, scale: float) -> tuple[int, Array]:
    """The samples that make one value along one axis: the first's index, and the weight of each.

    This is what a kernel on another device has to compute.
    """
    f = max(1, math.ceil(scale / 3.5))
    variance = max(0.0, (scale**2 - 1) / 12 - (f**2 - 1) / 4) / f**2
    once = [variance / 4, 1 - variance / 2, variance / 4]
    place = (position - (f - 1) / 2) / f
    first = math.floor(place)
    bilinear = [1 - (place - first), place - first]
    coarse = np.convolve(np.convolve(once, once), bilinear)
    return (first - 2) * f, np.repeat(coarse, f) / f


def sampled(plane: Array, plane_from_target: Array, height: int, width: int, mode: str) -> Array:
    """A plane on another grid, a value at a time; beyond its edges as numpy's `pad` has it."""
    scale_x, scale_y = np.hypot(plane_from_target[:, 0], plane_from_target[:, 1])
    margin = 4000
    pad = {"mirror": "reflect", "edge": "edge", "zero": "constant"}[mode]
    far = [np.pad(np.arange(1, n + 1), margin, mode=pad) for n in plane.shape]  # type: ignore[call-overload]
    inner = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
    inner[1:, 1:] = plane
    result = np.zeros((height, width))
    for v in range(height):
        for u in range(width):
            x, y = plane_from_target @ (u, v, 1)
            (x0, wx), (y0, wy) = weights(x, scale_x), weights(y, scale_y)
            rows, columns = far[0][margin + y0 :][: len(wy)], far[1][margin + x0 :][: len(wx)]
            result[v, u] = wy @ inner[np.ix_(rows, columns)] @ wx
    return result


def three(matrix: Array) -> Array:
    return np.vstack([matrix, (0, 0, 1)])


def plane_maps(frame: Frame) -> list[Array]:
    """frame_from_plane of each plane, (3, 3)."""
    (across, down), (x, y) = frame.layout.step, offset(frame.layout, frame.colour)
    chroma = np.array([(across, 0, x), (0, down, y), (0, 0, 1)], dtype=float)
    return [np.eye(3)] + [chroma] * (frame.layout.planes - 1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("sx", "sy"), [(1.3, 1.3), (0.4, 0.6), (0.12, 0.9)])
def test_a_crop_is_what_the_slow_reference_makes(layout: Layout, sx: float, sy: float) -> None:
    frame = smooth_frame(layout, 61, 83, colour(layout))
    matrix = affine(0.4, sx, sy, 50, 20, 12)  # reaches over the upper edge
    found = crop(frame, matrix, 12)
    frame_from_crop = np.linalg.inv(three(matrix))
    levels = [
        sampled(plane, (np.linalg.inv(to_frame) @ frame_from_crop)[:2], 12, 12, "mirror")
        for plane, to_frame in zip(frame.planes, plane_maps(frame), strict=True)
    ]
    to_rgb = rgb_from_samples(layout, frame.colour)
    expected = np.clip(np.stack(levels, axis=-1) @ to_rgb[:, :-1].T + to_rgb[:, -1], -1, 1)
    assert np.abs(found - expected).max() < 0.012  # 1.5 levels of 255: some OpenCV builds step by 1/32 px
    assert np.abs(found - expected).mean() < 0.003


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("sx", "sy"), [(0.8, 0.7), (2.3, 1.7), (9.1, 6.4)])
def test_a_paste_is_what_the_slow_reference_makes(layout: Layout, sx: float, sy: float) -> None:
    size = 24 if sx < 5 else 96
    frame = smooth_frame(layout, 25, 31, colour(layout))
    before = [plane.astype(float) for plane in frame.planes]
    y, x = np.mgrid[:size, :size]
    restored = scene(x * 24 / size + 40, y * 24 / size + 9).astype(np.float32)
    hill = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    mask = (np.outer(hill, hill) ** 0.5).astype(np.float32)
    matrix = affine(0.3, sx, sy, 13, 11, size)
    paste(frame, [Paste(restored, mask, matrix, 0.9)])
    to_levels = samples_from_rgb(layout, frame.colour)
    unit = max(1.0, 2.0 ** (layout.depth_bits - 8))
    for plane, old, to_frame, row in zip(frame.planes, before, plane_maps(frame), to_levels, strict=True):
        crop_from_plane = (three(matrix) @ to_frame)[:2]
        levels = sampled(restored @ row[:3] + row[3], crop_from_plane, *old.shape, "edge")
        weight = 0.9 * sampled(mask, crop_from_plane, *old.shape, "zero")
        off = np.abs(plane - np.rint(old + weight * (levels - old)))
        assert off.max() <= 3 * unit
        assert off.mean() < 0.1 * unit
        assert (plane != old).any()


@given(
    layout=st.sampled_from(LAYOUTS),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    full_range=st.booleans(),
    siting=st.sampled_from([LEFT, CENTRED, (0.0, 0.0)]),
    interleaved=st.booleans(),
    angle=st.floats(-3.2, 3.2),
    scales=st.tuples(st.floats(0.2, 8), st.floats(0.7, 1.5)),
    place=st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)),
)
@settings(max_examples=200, deadline=None)
def test_what_lies_outside_the_rectangle_is_untouched(
    layout: Layout,
    size: tuple[int, int],
    full_range: bool,
    siting: tuple[float, float],
    interleaved: bool,
    angle: float,
    scales: tuple[float, float],
    place: tuple[float, float],
) -> None:
    height, width = size
    meaning = colour(layout, full_range=full_range, siting=siting)
    frame = noise_frame(layout, height, width, meaning, interleaved=interleaved and layout.model == "yuv")
    before = [plane.copy() for plane in frame.planes]
    matrix = affine(angle, scales[0], scales[0] * scales[1], width * place[0], height * place[1], 32)
    assert np.abs(crop(frame, matrix, 32)).max() <= 1
    restored = np.full((32, 32, 3), 0.37, dtype=np.float32)
    (found,) = paste(frame, [Paste(restored, whole(32), matrix)])
    expected = written(frame, before)
    assert found.x0 <= expected.x0 or expected == Rectangle(0, 0, 0, 0)
    assert found == Rectangle(0, 0, 0, 0) or (
        0 <= found.x0 < found.x1 <= width and 0 <= found.y0 < found.y1 <= height
    )
    for plane, old, step in zip(frame.planes, before, steps(layout), strict=True):
        inside = np.zeros(plane.shape, dtype=bool)
        inside[
            found.y0 // step[1] : -(-found.y1 // step[1]), found.x0 // step[0] : -(-found.x1 // step[0])
        ] = True
        if found.x1 == found.x0:
            inside[:] = False
        assert np.array_equal(plane[~inside], old[~inside])
        assert plane.max() < 2**layout.depth_bits


def whole(size_px: int) -> Array:
    return np.ones((size_px, size_px), dtype=np.float32)


def steps(layout: Layout) -> list[tuple[int, int]]:
    return [(1, 1)] + [layout.step] * (layout.planes - 1)


def written(frame: Frame, before: list[Array]) -> Rectangle:
    """The smallest rectangle of luma samples that holds every sample that differs."""
    changed = np.zeros((frame.height + 8, frame.width + 8), dtype=bool)
    for plane, old, (across, down) in zip(frame.planes, before, steps(frame.layout), strict=True):
        spread = np.repeat(np.repeat(plane != old, down, axis=0), across, axis=1)
        changed[: spread.shape[0], : spread.shape[1]] |= spread
    ys, xs = (
        np.flatnonzero(changed[: frame.height].any(axis=1)),
        np.flatnonzero(changed[:, : frame.width].any(axis=0)),
    )
    return Rectangle(xs[0], ys[0], xs[-1] + 1, ys[-1] + 1) if len(xs) else Rectangle(0, 0, 0, 0)


@pytest.mark.parametrize(
    "layout", [Layout("yuv", 8, (2, 2)), Layout("yuv", 10, (4, 1)), Layout("rgb", 16)], ids=str
)
def test_the_rectangle_is_tight(layout: Layout) -> None:
    frame = noise_frame(layout, 121, 163, colour(layout))
    before = [plane.copy() for plane in frame.planes]
    white = np.ones((40, 40, 3), dtype=np.float32)
    away = affine(0, 1, 1, 900, 40, 40)
    found = paste(
        frame, [Paste(white, whole(40), affine(0.3, 1, 1, 80, 60, 40)), Paste(white, whole(40), away)]
    )
    expected = written(frame, before)
    assert np.abs(np.array(found[0]) - expected).max() <= max(layout.step)
    assert found[1] == Rectangle(0, 0, 0, 0)
    nothing = paste(frame, [Paste(white, 0 * whole(40), affine(0, 1, 1, 80, 60, 40))])
    assert nothing == [Rectangle(0, 0, 0, 0)]
    assert paste(frame, [Paste(white, whole(40), affine(0, 1, 1, 80, 60, 40), 0.0)]) == nothing


@pytest.mark.parametrize(
    "layout", [Layout("yuv", 8, (2, 2)), Layout("yuv", 10, (2, 1)), Layout("grey", 8)], ids=str
)
def test_the_order_of_the_faces_does_not_matter(layout: Layout) -> None:
    rng = np.random.default_rng(0)
    hill = np.sin(np.pi * (np.arange(32) + 0.5) / 32).astype(np.float32)
    faces = [
        Paste(
            rng.uniform(-1, 1, (32, 32, 3)).astype(np.float32),
            np.outer(hill, hill) if i else whole(32),
            affine(0.4 * i, 1, 1, 40 + 9 * i, 30 + 5 * i, 32),
            1 - 0.2 * i,
        )
        for i in range(3)
    ]
    source = noise_frame(layout, 71, 91, colour(layout))
    results = []
    for order in permutations(range(3)):
        frame = source.copy()
        rectangles = paste(frame, [faces[i] for i in order])
        results.append((frame.planes, {i: rectangles[order.index(i)] for i in range(3)}))
    for planes, rectangles_of in results[1:]:
        assert rectangles_of == results[0][1]
        for plane, first in zip(planes, results[0][0], strict=True):
            assert np.array_equal(plane, first)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("siting", [LEFT, CENTRED, (0.0, 0.0)], ids=str)
def test_an_unchanged_crop_gives_the_planes_back(layout: Layout, siting: tuple[float, float]) -> None:
    frame = smooth_frame(layout, 121, 163, colour(layout, siting=siting))
    before = [plane.astype(int) for plane in frame.planes]
    matrix = affine(0.3, 1.5, 1.2, 81, 60, 128)
    paste(frame, [Paste(crop(frame, matrix, 128), whole(128), matrix)])
    unit = 2 ** (layout.depth_bits - 8)
    for plane, old in zip(frame.planes, before, strict=True):
        off = np.abs(plane - old)[
            plane.shape[0] // 4 : -plane.shape[0] // 4, plane.shape[1] // 4 : -plane.shape[1] // 4
        ]
        assert off.max() <= 2 * unit
        assert off.mean() < 0.7 * unit


@pytest.mark.parametrize("siting", [LEFT, CENTRED, (0.0, 0.0)], ids=str)
def test_chroma_stays_where_it_is_seen(siting: tuple[float, float]) -> None:
    """A colour ramp: whatever the layout and its siting, the crop shows the same place of it."""
    layout = Layout("yuv", 8, (2, 2))
    meaning = Colour(1, False, siting)
    y, x = np.mgrid[:40, :50]
    chroma = 60 + (2 * x + siting[0]), 60 + (2 * y + siting[1])
    luma = np.full((80, 100), 120, dtype=np.uint8)
    frame = Frame((luma, *(c.astype(np.uint8) for c in chroma)), layout, meaning, 0, Fraction(1), edited=True)
    found = crop(frame, affine(0, 1, 1, 49.5, 39.5, 16), 16)
    cb, cr = np.moveaxis(
        found @ samples_from_rgb(layout, meaning)[1:, :3].T + samples_from_rgb(layout, meaning)[1:, 3], -1, 0
    )
    truncated = siting[0] % 1  # uint8 cut this much off
    assert np.abs(cb - (60 - truncated + np.arange(42, 58) + 0 * cb)).max() < 0.1
    assert np.abs(cr - (60 - siting[1] % 1 + np.arange(32, 48)[:, None] + 0 * cr)).max() < 0.1


def test_a_crop_grows_blurred_without_a_jump() -> None:
    layout = Layout("grey", 8)
    frame = noise_frame(layout, 400, 400, colour(layout))
    scales = np.linspace(0.9, 8, 120)
    details = np.array(
        [crop(frame, affine(0.5, 1 / s, 1 / s, 200, 200, 32), 32)[..., 0].std() for s in scales]
    )
    assert np.abs(np.diff(np.log(details))).max() < 0.2  # of white noise, of all pictures
    assert details[-1] < 0.25 * details[0]


def test_grey_frames_give_grey_crops_and_take_luma() -> None:
    layout = Layout("grey", 8)
    frame = smooth_frame(layout, 60, 80, Colour(1, True))
    found = crop(frame, affine(0, 1, 1, 40, 30, 32), 32)
    assert np.ptp(found, axis=2).max() < 1e-6
    red = np.zeros((32, 32, 3), dtype=np.float32) + np.array((1, -1, -1), dtype=np.float32)
    paste(frame, [Paste(red, whole(32), affine(0, 1, 1, 39.5, 29.5, 32))])
    assert (frame.planes[0][20:40, 30:50] == round(0.2126 * 255)).all()
