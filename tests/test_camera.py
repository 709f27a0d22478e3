"""The virtual camera: where a point of the picture lands is where the matrix says, whatever the path."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.degradation.camera import CameraPath, Key, Shake, shoot
from gpenvideo.errors import OptionError

PICTURE = (200, 160)  # width, height
SIZE = (120, 90)


def spot(x: float, y: float, sigma_px: float) -> NDArray[np.uint8]:
    """A black picture with one soft white spot."""
    rows, columns = np.mgrid[: PICTURE[1], : PICTURE[0]]
    level = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma_px**2))
    return np.repeat(np.rint(level)[..., None], 3, axis=2).astype(np.uint8)


def centroid(pixels: NDArray[np.uint8], near: NDArray[np.float64], reach_px: float) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    weight = pixels[..., 0].astype(float)
    weight[np.hypot(columns - near[0], rows - near[1]) > reach_px] = 0
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(0.4, 0.6),
    y=st.floats(0.4, 0.6),
    width=st.floats(0.3, 1.2),
    roll_deg=st.floats(-180, 180),
    seed=st.integers(0, 5),
)
def test_a_point_lands_where_the_matrix_says(
    x: float, y: float, width: float, roll_deg: float, seed: int
) -> None:
    path = CameraPath((Key(0.0), Key(1.0, x, y, width, roll_deg)), Shake(0.01, 1.0, 0.01), seed)
    point = np.array([97.3, 81.6, 1.0])
    for pixels, frame_from_picture in shoot(spot(97.3, 81.6, 4.0), path, SIZE, frames=3, rate_hz=2):
        expected = frame_from_picture @ point
        reach = 16 * math.hypot(*frame_from_picture[:, 0])
        margin = np.minimum(expected, np.array(SIZE) - 1 - expected).min()
        if margin > reach:  # else a part of the spot is out of the frame
            assert np.abs(centroid(pixels, expected, reach) - expected).max() < 0.1


def test_the_matrix_carries_the_middle_of_the_frame_to_the_key() -> None:
    path = CameraPath((Key(0.0, 0.25, 0.75, width=0.5, roll_deg=90.0),))
    picture_from_frame = path.picture_from_frame(3.0, PICTURE, SIZE)
    middle = np.array([(SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2, 1])
    assert picture_from_frame @ middle == pytest.approx([0.25 * 200 - 0.5, 0.75 * 160 - 0.5])
    right_of_it = picture_from_frame @ np.array([1, 0, 0])
    assert right_of_it == pytest.approx([0, 0.5 * 200 / 120])  # the camera's right is the picture's down


def test_the_matrices_are_similarities_and_the_inverse_of_the_path() -> None:
    path = CameraPath((Key(0.0), Key(2.0, 0.4, 0.6, 0.5, 20.0)), Shake(zoom=0.02), seed=3)
    for i, shot in enumerate(shoot(spot(50, 50, 9), path, SIZE, frames=5, rate_hz=2.5)):
        a, b = shot.frame_from_picture[:, 0]
        assert shot.frame_from_picture[:, 1] == pytest.approx([-b, a])
        back = np.vstack([path.picture_from_frame(i / 2.5, PICTURE, SIZE), (0, 0, 1)])
        assert shot.frame_from_picture @ back == pytest.approx(np.eye(3)[:2], abs=1e-9)


def test_a_frame_of_the_whole_picture_is_the_picture_hardly_softened() -> None:
    random = np.random.default_rng(0)
    coarse = np.repeat(np.repeat(random.integers(0, 256, (20, 25, 3)), 8, axis=0), 8, axis=1).astype(np.uint8)
    shot = next(shoot(coarse, CameraPath((Key(0.0),)), PICTURE, frames=1, rate_hz=25))
    assert shot.frame_from_picture == pytest.approx(np.eye(3)[:2], abs=1e-12)
    inside = np.add.outer(np.arange(20) * 8 + 4, np.arange(-1, 2)).ravel()
    assert np.abs(shot.pixels[inside][:, 4::8].astype(int) - coarse[inside][:, 4::8]).max() <= 3


def test_fine_stripes_do_not_alias_when_they_shrink() -> None:
    stripes = np.zeros((160, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    shot = next(shoot(stripes, CameraPath((Key(0.0),)), (47, 37), frames=1, rate_hz=25))
    assert np.abs(shot.pixels.astype(int) - 127).max() <= 16


def test_nothing_jumps_while_the_camera_zooms() -> None:
    random = np.random.default_rng(1)
    noise = random.integers(0, 256, (160, 200, 3)).astype(np.uint8)
    keys = (Key(0.0, width=0.5), Key(4.0, width=1.3))
    energies = [
        float(np.var(shot.pixels[5:-5, 5:-5].astype(float)))
        for shot in shoot(noise, CameraPath(keys), SIZE, frames=41, rate_hz=10)
    ]
    steps = np.diff(np.log(energies))
    assert np.abs(steps).max() < 0.2


def test_the_same_seed_gives_the_same_clip_and_another_another() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (160, 200, 3)).astype(np.uint8)
    clips = [
        [shot.pixels for shot in shoot(picture, CameraPath((Key(0.0),), Shake(0.02), seed), SIZE, 3, 10)]
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


def test_a_path_does_not_depend_on_the_frame_rate() -> None:
    picture = spot(100, 80, 5)
    path = CameraPath((Key(0.0), Key(1.0, width=0.5)), Shake(), seed=4)
    slow = list(shoot(picture, path, SIZE, frames=5, rate_hz=5))
    fast = list(shoot(picture, path, SIZE, frames=25, rate_hz=25))
    for i, shot in enumerate(slow):
        assert np.array_equal(shot.pixels, fast[5 * i].pixels)


def test_a_shake_has_the_strength_it_says() -> None:
    path = CameraPath((Key(0.0),), Shake(shift=0.01, roll_deg=0.5), seed=7)
    still = CameraPath((Key(0.0),))
    middle = np.array([100 - 0.5, 80 - 0.5, 1])
    moved = [
        np.linalg.inv(np.vstack([path.picture_from_frame(t, PICTURE, SIZE), (0, 0, 1)])) @ middle
        for t in np.arange(0, 60, 0.04)
    ]
    rest = np.linalg.inv(np.vstack([still.picture_from_frame(0.0, PICTURE, SIZE), (0, 0, 1)])) @ middle
    rms = np.sqrt(np.mean((np.array(moved) - rest)[:, :2] ** 2, axis=0)) / SIZE[0]
    assert rms == pytest.approx([0.01, 0.01], rel=0.25)


def test_the_camera_rests_before_and_after_and_glides_between() -> None:
    path = CameraPath((Key(1.0, x=0.3), Key(3.0, x=0.7)))
    seen = [path.picture_from_frame(t, PICTURE, SIZE)[0, 2] for t in np.linspace(0, 4, 81)]
    assert seen[:21] == pytest.approx([seen[0]] * 21)
    assert seen[60:] == pytest.approx([seen[-1]] * 21)
    assert (np.diff(seen[20:61]) > 0).all()
    assert seen[-1] - seen[0] == pytest.approx(0.4 * 200)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Key(0.0, width=0.0),
        lambda: Key(math.nan),
        lambda: CameraPath(()),
        lambda: CameraPath((Key(1.0), Key(1.0))),
        lambda: Shake(slowest_hz=0.0),
        lambda: next(shoot(np.zeros((4, 4)), CameraPath((Key(0.0),)), SIZE, 1, 25)),  # type: ignore[arg-type]
        lambda: next(shoot(spot(1, 1, 1), CameraPath((Key(0.0),)), (0, 4), 1, 25)),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(OptionError):
        wrong()  # type: ignore[operator]
