import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.faces.smoothing import OneEuro, zero_phase

Points = NDArray[np.float64]

FACE = np.array([(40, 60), (80, 61), (60, 85), (45, 110), (78, 111), (20, 20), (100, 140)], dtype=float)
SIZE_PX = 98.0


def smoothed(times_s: Points, points: Points, size: float = SIZE_PX) -> Points:
    steady = OneEuro()
    return np.stack([steady(float(t), p, size) for t, p in zip(times_s, points, strict=True)])


def moving(times_s: Points, sizes_a_second: float) -> Points:
    shift = np.stack([times_s * sizes_a_second * SIZE_PX, 0 * times_s], axis=1)
    return FACE + shift[:, None]


def noise(times_s: Points, seed: int = 0) -> Points:
    return np.random.default_rng(seed).normal(0, 0.01 * SIZE_PX, (len(times_s), *FACE.shape))


def jitter(points: Points) -> float:
    return float(np.sqrt((np.diff(points, 2, axis=0) ** 2).mean()))


@given(
    st.lists(st.floats(1e-3, 2), min_size=1, max_size=20),
    st.floats(-1e4, 1e4),
    st.floats(1, 1e4),
)
def test_what_rests_is_not_changed(steps_s: list[float], place: float, size: float) -> None:
    points = np.repeat(FACE[None] + place, len(steps_s), axis=0)
    assert np.allclose(smoothed(np.cumsum(steps_s), points, size), points, atol=1e-9, rtol=0)


@given(
    st.integers(0, 1000),
    st.floats(-3.2, 3.2),
    st.floats(0.01, 50),
    st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)
def test_a_picture_turned_scaled_and_shifted_is_smoothed_alike(
    seed: int, angle: float, scale: float, shift: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    times_s = np.cumsum(rng.uniform(0.02, 0.3, 12))
    points = moving(times_s, 0.3) + noise(times_s, seed)
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    expected = smoothed(times_s, points) @ turn.T + shift
    found = smoothed(times_s, points @ turn.T + shift, SIZE_PX * scale)
    assert np.allclose(found, expected, atol=1e-6 * (scale * SIZE_PX + max(map(abs, shift))))


@pytest.mark.parametrize(("rate_hz", "less"), [(6.25, 2.0), (25.0, 5.0)])
def test_a_resting_face_is_steadied_and_a_moving_one_followed(rate_hz: float, less: float) -> None:
    times_s = np.arange(0, 30, 1 / rate_hz)
    measured = FACE + noise(times_s)
    assert jitter(measured[10:]) > less * jitter(smoothed(times_s, measured)[10:])
    for speed, lag_s in ((0.1, 0.06), (0.5, 0.015), (1.5, 0.004)):
        truth = moving(times_s, speed)
        behind = truth - smoothed(times_s, truth + noise(times_s))
        assert abs(behind[10:, :, 0].mean()) / SIZE_PX < speed * lag_s
        assert abs(behind[10:].mean(axis=0)).max() / SIZE_PX < 0.01


def test_a_jump_is_caught_up_with_at_once() -> None:
    times_s = np.arange(0, 3, 0.16)
    points = np.where(times_s[:, None, None] < 1.5, FACE, FACE + 0.5 * SIZE_PX)
    behind = np.abs(points - smoothed(times_s, points)).max(axis=(1, 2)) / SIZE_PX
    landed = int(np.argmax(times_s >= 1.5))
    assert behind[landed] < 0.02


def test_the_rate_of_measuring_hardly_matters() -> None:
    """One motion measured at 10, at 40, and irregularly: where the times meet, the results nearly do."""
    meet_s = np.arange(0, 4, 0.1)
    often_s = np.arange(0, 4 - 0.09, 0.025)
    odd_s = np.sort(np.concatenate([meet_s, np.random.default_rng(1).uniform(0, 3.9, 30)]))

    def at_meetings(times_s: Points) -> Points:
        shift = 0.3 * SIZE_PX * np.sin(2 * np.pi * 0.4 * times_s)
        found = smoothed(times_s, FACE + shift[:, None, None])
        return found[[int(np.argmin(abs(times_s - t))) for t in meet_s]]

    seldom, often, odd = (at_meetings(times_s) for times_s in (meet_s, often_s, odd_s))
    assert np.abs(seldom - often).max() / SIZE_PX < 0.03
    assert np.abs(odd - often).max() / SIZE_PX < 0.03


def test_what_is_handed_out_is_a_copy() -> None:
    steady = OneEuro()
    steady(0.0, FACE, SIZE_PX)[:] = 0
    assert np.allclose(steady(0.1, FACE, SIZE_PX), FACE)


def test_bad_numbers_are_refused() -> None:
    steady = OneEuro()
    steady(1.0, FACE, SIZE_PX)
    with pytest.raises(OptionError, match="got 0"):
        steady(1.0, FACE, SIZE_PX)
    with pytest.raises(OptionError, match="and 0"):
        steady(2.0, FACE, 0.0)
    with pytest.raises(OptionError, match="min_cutoff_hz=0"):
        OneEuro(min_cutoff_hz=0)
    with pytest.raises(OptionError, match="slope_hz=-1"):
        OneEuro(slope_hz=-1)


moments = st.lists(st.floats(-0.6, 0.6), min_size=1, max_size=12, unique=True).map(sorted)
level = st.floats(-2, 2)


@given(moments, level, level)
def test_without_lag_what_rests_is_not_changed(times_s: list[float], x: float, y: float) -> None:
    values = np.full((len(times_s), 2), (x, y))
    assert np.allclose(zero_phase(np.array(times_s), values, 0.5), (x, y), atol=1e-9)
    turning = np.full((len(times_s), 1), complex(x, y))
    assert np.allclose(zero_phase(np.array(times_s), turning, 0.5), complex(x, y), atol=1e-9)


@given(moments, st.integers(0, 1000))
def test_smoothing_backwards_is_the_same(times_s: list[float], seed: int) -> None:
    """What is found does not lean towards the past: played backwards, it is the same."""
    values = np.random.default_rng(seed).normal(size=(len(times_s), 3))
    there = zero_phase(np.array(times_s), values, 0.5)
    back = zero_phase(-np.array(times_s)[::-1], values[::-1], 0.5)
    assert np.allclose(there, back, atol=1e-9)


def test_what_moves_steadily_is_met_and_noise_is_damped() -> None:
    times_s = np.arange(-0.48, 0.49, 0.12)
    line = np.add(np.outer(times_s, (0.4, -0.2)), (1, 2))
    assert np.allclose(zero_phase(times_s, line, 0.5), (1, 2), atol=1e-3)
    rng = np.random.default_rng(3)
    errors = [zero_phase(times_s, line + rng.normal(0, 0.01, line.shape), 0.5) - (1, 2) for _ in range(300)]
    assert np.std(errors) < 0.006


@pytest.mark.parametrize("bad", range(9))
def test_without_lag_one_bad_measurement_has_no_say(bad: int) -> None:
    rng = np.random.default_rng(bad)
    times_s = np.arange(-0.48, 0.49, 0.12)
    values = 1 + 0.005 * rng.normal(size=(9, 4))
    spoiled = values.copy()
    spoiled[bad] += 0.3
    assert np.abs(zero_phase(times_s, spoiled, 0.5) - 1).max() < 0.012


def test_what_is_far_away_does_not_count() -> None:
    assert np.allclose(zero_phase(np.array([-3.0, 0.1, 3.0]), np.array([[5.0], [1.0], [7.0]]), 0.5), 1)
    assert np.allclose(zero_phase(np.array([-3.0, 2.0]), np.array([[5.0], [7.0]]), 0.5), 7)
