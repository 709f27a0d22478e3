import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.faces.mask import feather
from gpenvideo.kernels import crop as crops
from gpenvideo.kernels.paste import Paste, match_colour
from gpenvideo.kernels.paste import paste as paste_faces
from gpenvideo.kernels.picture import as_frame

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Picture = NDArray[Any]


def crop(picture: Picture, matrix: Array, size_px: int) -> Floats:
    return crops.crop(as_frame(picture), matrix, size_px)


def paste(picture: Picture, *faces: tuple[Floats, Floats, Array], strength: float = 1.0) -> Picture:
    """A copy of an RGB picture with faces in it."""
    result = picture.copy()
    paste_faces(as_frame(result, edited=True), [Paste(*face, strength) for face in faces])
    return result


def soft(size_px: int) -> Floats:
    """A round mask, whole in the middle and 0 at the border."""
    axis = np.linspace(-1, 1, size_px) ** 2
    depth = np.clip((1 - np.sqrt(np.add.outer(axis, axis))) * 3, 0, 1)
    return (depth**2 * (3 - 2 * depth)).astype(np.float32)


def golden_picture() -> NDArray[np.uint8]:
    y, x = np.mgrid[:480, :640]
    bgr = np.stack([(x * 255) // 639, (y * 255) // 479, ((x // 16 + y // 16) % 2) * 155 + 50], axis=-1)
    return bgr[:, :, ::-1].astype(np.uint8)


def smooth_picture(height: int = 120, width: int = 160, top: int = 255) -> NDArray[np.uint16]:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 29 + 1) + np.cos(y / 21), np.cos((x + y) / 43), np.sin((x - y) / 52) + np.sin(y / 47)]
    rgb = np.stack(waves, axis=-1) / 4 + 0.5
    return np.rint(rgb * top).astype(np.uint16)


def similarity(angle: float, scale: float, x: float, y: float, size_px: int) -> Array:
    """The crop_from_frame that puts the frame's point (x, y) in the middle of the crop."""
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([(a, -b), (b, a)])
    return np.column_stack([linear, (size_px - 1) / 2 - linear @ (x, y)])


def noise(size_px: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(-1, 1, (size_px, size_px, 3)).astype(np.float32)


def ones(size_px: int) -> Floats:
    return np.ones((size_px, size_px), dtype=np.float32)


def test_the_published_crops(shared: Path) -> None:
    golden = json.loads((shared / "gpen" / "align_golden.json").read_text())
    far = 1024  # what the published code sees beyond the picture is black
    picture = np.pad(golden_picture(), ((far, far), (far, far), (0, 0)))
    for case in golden["cases"]:
        expected = case["crops"]["512"]
        matrix = np.array(expected["tfm"])
        matrix[:, 2] -= matrix[:, :2] @ (far, far)
        levels = (crop(picture, matrix, 512) + 1) * 127.5
        assert np.abs(levels.mean(axis=(0, 1), dtype=float)[::-1] - expected["crop_mean_bgr"]).max() < 0.5
        grid = expected["sample_xy_grid"]
        off = np.abs(levels[np.ix_(grid, grid)][..., ::-1] - expected["crop_samples_bgr"])
        if expected["scale"] >= 1:
            assert off.max() < 2
        else:  # the published code does not smooth: red is a checkerboard, and differs at its edges
            assert off[..., :2].max() < 2
            assert np.median(off) < 2


@given(st.floats(-3.2, 3.2), st.floats(1, 6), st.floats(20, 140), st.floats(20, 100))
@settings(max_examples=30, deadline=None)
def test_a_magnified_crop_is_a_plain_bilinear_warp(angle: float, scale: float, x: float, y: float) -> None:
    size = 16
    picture = np.random.default_rng(3).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    matrix = similarity(angle, scale, x, y, size)
    found = crop(picture, matrix, size)
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))
    v, u = np.mgrid[:size, :size]
    px, py = (inverse @ np.stack([u.ravel(), v.ravel(), np.ones(size**2)]))[:2].reshape(2, size, size)
    x0, y0 = np.floor(px).astype(int), np.floor(py).astype(int)
    fx, fy = (px - x0)[..., None], (py - y0)[..., None]
    p = np.pad(picture.astype(float), ((20, 20), (20, 20), (0, 0)), mode="reflect")
    x0, y0 = x0 + 20, y0 + 20
    upper = p[y0, x0] * (1 - fx) + p[y0, x0 + 1] * fx
    lower = p[y0 + 1, x0] * (1 - fx) + p[y0 + 1, x0 + 1] * fx
    expected = (upper * (1 - fy) + lower * fy) / 127.5 - 1
    # Some OpenCV builds place samples on a grid of 1/32 px: up to 1/64 px off on each axis.
    assert np.abs(found - expected).max() < 2 * 2 / 64 + 1e-3


def test_a_fine_checkerboard_minified_four_times_is_grey() -> None:
    y, x = np.mgrid[:256, :256]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    assert np.abs(crop(board, similarity(0, 0.25, 128, 128, 32), 32)).max() < 1e-3
    for angle in (0.3, 1.2):
        assert np.abs(crop(board, similarity(angle, 0.25, 128, 128, 32), 32)).max() < 0.1
    for scale in (0.13, 0.3, 0.45):
        assert np.abs(crop(board, similarity(0.2, scale, 128, 128, 24), 24)).max() < 0.3


def at(matrix: Array, height: int, width: int) -> Array:
    """(height, width, 2): where a matrix carries each pixel."""
    y, x = np.mgrid[:height, :width]
    return np.einsum("ij,jyx->yxi", matrix, np.stack([x, y, np.ones_like(x)]))


def test_a_minified_crop_stays_in_place() -> None:
    y, x = np.mgrid[:200, :200]
    ramp = np.stack([x, y, x], axis=-1).astype(np.uint8)
    for scale in (0.9, 0.5, 0.31):
        matrix = similarity(0.4, scale, 100, 98, 21)
        levels = (crop(ramp, matrix, 21) + 1) * 127.5
        frame_from_crop = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
        assert np.abs(levels[..., :2] - at(frame_from_crop, 21, 21)).max() < 0.05


def test_a_minified_paste_stays_in_place() -> None:
    y, x = np.mgrid[:128, :128]
    ramp = (np.stack([x, y, x], axis=-1) / 127.5 - 1).astype(np.float32)
    for scale in (1, 1.7, 4.3):
        matrix = similarity(0.4, scale, 80, 60, 128)
        levels = paste(np.zeros((120, 160, 3), dtype=np.uint8), (ramp, ones(128), matrix))
        in_crop = at(matrix, 120, 160)
        inside = ((in_crop > 8) & (in_crop < 119)).all(axis=-1)
        assert inside.any()
        assert np.abs(levels[..., :2] - in_crop)[inside].max() < 0.6


def test_beyond_the_edge_is_a_mirror() -> None:
    picture = smooth_picture(40, 40).astype(np.uint8)
    shifted = np.array([(1.0, 0, 10), (0, 1, 10)])
    expected = np.pad(picture, ((10, 10), (10, 10), (0, 0)), mode="reflect") / 127.5 - 1
    assert np.abs(crop(picture, shifted, 60) - expected).max() < 1e-5
    far = crop(picture, np.array([(1.0, 0, 500), (0, 1, -900)]), 16)
    assert np.abs(far).max() <= 1
    single = crop(picture[:1, :1], np.array([(1.0, 0, 3), (0, 1, 3)]), 8)
    assert np.allclose(single, picture[0, 0] / 127.5 - 1, atol=1e-6)


def test_sixteen_bit_pictures_keep_their_precision() -> None:
    picture = smooth_picture(top=65535)
    matrix = similarity(0, 1, 80, 60, 41)
    found = crop(picture, matrix, 41)
    assert np.abs((found + 1) * 32767.5 - picture[40:81, 60:101]).max() < 0.5
    assert np.array_equal(paste(picture, (found, ones(41), matrix))[40:81, 60:101], picture[40:81, 60:101])


@given(st.floats(-3.2, 3.2), st.floats(1, 3), st.floats(0, 160), st.floats(0, 120), st.sampled_from([8, 16]))
@settings(max_examples=40, deadline=None)
def test_an_unchanged_crop_gives_the_picture_back(
    angle: float, scale: float, x: float, y: float, bits: int
) -> None:
    top = 2**bits - 1
    picture = smooth_picture(top=top).astype(f"uint{bits}")
    before = picture.copy()
    matrix = similarity(angle, scale, x, y, 64)
    result = paste(picture, (crop(picture, matrix, 64), soft(64), matrix))
    assert result.dtype == picture.dtype
    assert np.abs(result.astype(int) - picture).max() <= 2 * top / 255
    assert np.array_equal(picture, before)


@given(st.floats(-3.2, 3.2), st.floats(0.2, 8), st.floats(-40, 200), st.floats(-40, 160))
@settings(max_examples=40, deadline=None)
def test_outside_the_mask_every_pixel_is_the_pictures_own(
    angle: float, scale: float, x: float, y: float
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    matrix = similarity(angle, scale, x, y, 64)
    result = paste(picture, (noise(64), soft(64), matrix))
    in_crop = at(matrix, 120, 160)
    reach = 1 + 2 * scale  # of the bilinear sample, and of the smoothing
    outside = ((in_crop < -reach) | (in_crop > 63 + reach)).any(axis=-1)
    assert np.array_equal(result[outside], picture[outside])
    inside = ((in_crop > 16) & (in_crop < 47)).all(axis=-1)
    if inside.sum() > 20:
        assert (result[inside] != picture[inside]).mean() > 0.5


def test_where_the_mask_is_whole_the_restored_face_replaces_the_picture() -> None:
    picture = smooth_picture().astype(np.uint8)
    restored = noise(32)
    matrix = similarity(0, 1, 75.5, 55.5, 32)
    result = paste(picture, (restored, ones(32), matrix))
    assert np.array_equal(result[40:72, 60:92], np.rint((restored + 1) * 127.5).astype(np.uint8))
    half = paste(picture, (restored, ones(32), matrix), strength=0.5)[40:72, 60:92].astype(float)
    assert np.abs(half - (picture[40:72, 60:92] / 2 + (restored + 1) * 127.5 / 2)).max() <= 0.5001
    assert np.array_equal(paste(picture, (restored, ones(32), matrix), strength=0), picture)


def test_out_of_range_values_saturate_and_do_not_wrap() -> None:
    picture = smooth_picture().astype(np.uint8)
    bright = np.full((32, 32, 3), 1.7, dtype=np.float32)
    result = paste(picture, (bright, ones(32), similarity(0, 1, 75.5, 55.5, 32)))
    assert (result[40:72, 60:92] == 255).all()


def test_a_large_crop_is_smoothed_when_it_becomes_a_small_face() -> None:
    y, x = np.mgrid[:256, :256]
    board = np.repeat(((x + y) % 2 * 2 - 1).astype(np.float32)[..., None], 3, axis=2)
    picture = np.zeros((120, 160, 3), dtype=np.uint8)
    result = paste(picture, (board, feather(256), similarity(0.2, 4, 80, 60, 256)))
    assert np.abs(result[45:75, 65:95].astype(int) - 128).max() < 8


def test_a_face_beside_the_picture_or_without_a_mask_changes_nothing() -> None:
    picture = smooth_picture().astype(np.uint8)
    away = similarity(0, 1, 900, -500, 32)
    assert np.array_equal(paste(picture, (noise(32), ones(32), away)), picture)
    here = similarity(0, 1, 80, 60, 32)
    assert np.array_equal(paste(picture, (noise(32), 0 * ones(32), here)), picture)
    assert np.array_equal(paste(picture), picture)


def test_overlapping_faces_do_not_depend_on_their_order() -> None:
    picture = smooth_picture().astype(np.uint8)
    faces = [
        (noise(48, i), mask, similarity(0.3 * i, 1.2, 60 + 12 * i, 60, 48))
        for i, mask in enumerate([soft(48), ones(48), ones(48)])
    ]
    results = [paste(picture, *order) for order in permutations(faces)]
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_the_face_with_the_larger_mask_wins_each_pixel() -> None:
    picture = smooth_picture().astype(np.uint8)
    matrix = similarity(0, 1, 75.5, 55.5, 32)
    first, second = noise(32, 1), noise(32, 2)
    falling = np.repeat(np.linspace(1, 0, 32, dtype=np.float32)[None], 32, axis=0)
    rising = np.ascontiguousarray(falling[:, ::-1])
    both = paste(picture, (first, falling, matrix), (second, rising, matrix))
    left, right = slice(60, 76), slice(76, 92)
    assert np.array_equal(both[:, left], paste(picture, (first, falling, matrix))[:, left])
    assert np.array_equal(both[:, right], paste(picture, (second, rising, matrix))[:, right])


def test_a_tint_is_taken_out_and_detail_stays() -> None:
    source = crop(smooth_picture().astype(np.uint8), similarity(0, 1.5, 80, 60, 128), 128) * 0.5
    detail = 0.1 * noise(128)
    tint = np.array((0.25, 0.1, -0.2), dtype=np.float32) + np.linspace(0, 0.1, 128, dtype=np.float32)[:, None]
    mask = soft(128)
    matched = match_colour(source + detail + tint[:, None], source, mask)
    inside = mask > 0.5
    residual = (matched - source)[inside]
    assert np.abs(residual.mean(axis=0)).max() < 0.01
    assert np.corrcoef(residual.ravel(), detail[inside].ravel())[0, 1] > 0.95
    same = match_colour(source, source, mask)
    assert np.abs(same - source).max() < 1e-6
    assert match_colour(noise(8), noise(8, 1), ones(8)).shape == (8, 8, 3)
    assert match_colour(noise(256), noise(100, 1), ones(256)).shape == (256, 256, 3)


def test_arguments_of_another_kind_are_refused() -> None:
    picture = smooth_picture().astype(np.uint8)
    matrix = similarity(0, 1, 80, 60, 32)
    with pytest.raises(OptionError, match="float64"):
        crop(picture.astype(float), matrix, 32)
    with pytest.raises(OptionError, match=r"\(120, 160\)"):
        crop(picture[..., 0], matrix, 32)
    with pytest.raises(OptionError, match="inverse is needed"):
        crop(picture, np.zeros((2, 3)), 32)
    with pytest.raises(OptionError, match=r"got 1\.5"):
        Paste(noise(32), ones(32), matrix, 1.5)
    with pytest.raises(OptionError, match=r"\(31, 31\)"):
        Paste(noise(32), ones(31), matrix)
    with pytest.raises(OptionError, match="float64"):
        Paste(noise(32).astype(float), ones(32), matrix)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="inverse is needed"):
        Paste(noise(32), ones(32), np.zeros((2, 3)))
    with pytest.raises(OptionError, match="belong to the decoder"):
        paste_faces(as_frame(picture), [])
    with pytest.raises(OptionError, match=r"\(16, 8, 3\)"):
        match_colour(noise(32), noise(16)[:, :8], ones(32))


def test_a_grey_crop_gives_a_grey_face() -> None:
    grey = np.repeat(noise(32)[..., :1], 3, axis=2)
    matched = match_colour(noise(32, 1), grey, ones(32))
    assert np.ptp(matched, axis=2).max() < 1e-6
    assert np.ptp(matched[..., 0]) > 0.5  # the restored face's detail is there
    coloured = grey + np.array([0.1, 0.0, -0.1], dtype=np.float32)
    assert np.ptp(match_colour(noise(32, 1), coloured, ones(32)), axis=2).max() > 0.1
