"""Settled faces: what a network makes of noise is averaged over time, what really changed is not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from steadying import CHEEK, EYE, RATE_HZ, error, face, moved, noisy, shut

from gpenvideo.steady import PERIOD_S, Change, Settled, Steady, settled, tensors
from gpenvideo.steady.change import carried

Pixels = NDArray[np.float32]


def change(
    shift: tuple[float, float] = (0, 0),
    growth: Sequence[Sequence[float]] = ((0, 0), (0, 0)),
    light: tuple[float, float, float] = (0, 0, 0),
    *,
    where: float | Pixels = 0.0,
    roughness: float = 0.0,
    rate_hz: int = RATE_HZ,
) -> Change:
    cells = np.broadcast_to(np.float32(where), (64, 64)).astype(np.float32)
    return Change(1 / rate_hz, np.array(shift), np.array(growth), *light, roughness, cells)


def made_steady(
    crops: Sequence[Pixels], made: Sequence[Pixels], *, start_s: Fraction | int = 0
) -> list[Pixels]:
    """As a run does: crops tell what changed, for what was made of them."""
    steady, shown = Steady(), Settled(settled)
    results = []
    for i, (crop, each) in enumerate(zip(crops, made, strict=True)):
        time_s = start_s + Fraction(i, RATE_HZ)
        results.append(shown(1, time_s, each, steady(1, time_s, crop).change).copy())
    return results


def test_detail_that_comes_and_goes_is_averaged_out() -> None:
    truths = [face()] * 25
    made = noisy(truths, 4, seed=1)
    results = made_steady(noisy(truths, 4), made)
    assert np.array_equal(results[0], made[0])
    assert error(results[10:], truths[10:]) < 0.5 * error(made[10:], truths[10:])
    assert error(results[11:], results[10:-1]) < 0.25 * error(made[11:], made[10:-1])


def test_a_blink_is_what_was_made_of_it() -> None:
    truths = [face()] * 12 + [shut(face(), EYE)] * 3 + [face()] * 3
    made = noisy(truths, 2, seed=1)
    results = made_steady(noisy(truths, 2), made)
    middle = slice(92, 116), slice(58, 104)
    for i in range(12, 18):
        assert error([results[i]], [truths[i]], middle) < 1.1 * error([made[i]], [truths[i]], middle)
    assert error(results[12:15], truths[12:15], CHEEK) < 0.7 * error(made[12:15], truths[12:15], CHEEK)


def test_a_face_that_drifts_is_followed_and_stays_sharp() -> None:
    truths = [moved(face(), 0.35 * i, -0.2 * i, 0.1 * i) for i in range(20)]
    made = noisy(truths, 3, seed=1)
    results = made_steady(noisy(truths, 3), made)
    assert error(results[10:], truths[10:]) < 0.8 * error(made[10:], truths[10:])
    still = [np.mean(made[i - 5 : i + 1], axis=0) for i in range(10, 20)]
    assert error(results[10:], truths[10:]) < 0.7 * error(still, truths[10:])


def test_the_light_is_the_new_one() -> None:
    gains = 1 + 0.15 * np.sin(2.1 * np.arange(20))
    truths = [np.asarray((face() + 1) * gain - 1, dtype=np.float32) * np.float32(0.8) for gain in gains]
    results = made_steady(noisy(truths, 3), noisy(truths, 3, seed=1))
    for result, truth in zip(results[5:], truths[5:], strict=True):
        assert abs(float(np.mean(result - truth))) < 1 / 127.5


def test_a_run_may_begin_where_a_period_does_and_nobody_sees_where_that_is() -> None:
    truths = [face()] * (3 * RATE_HZ)
    made = noisy(truths, 4, seed=1)
    crops = noisy(truths, 4)
    long = made_steady(crops, made, start_s=PERIOD_S - 2)
    anchor = 2 * RATE_HZ
    shown = Settled(settled)
    for i in range(anchor, len(made)):
        time_s = PERIOD_S - 2 + Fraction(i, RATE_HZ)
        # what the crops told of is the same, see test_steady: what matters here is the mean
        result = shown(1, time_s, made[i], change() if i > anchor else None)
        if i == anchor:
            assert np.array_equal(result, made[i])
            assert np.array_equal(long[i], made[i])
    steps = [error([a], [b]) for a, b in itertools.pairwise(long)]
    assert max(steps[anchor - 2 : anchor + 1]) < 1.05 * error([made[0]], [made[1]])
    assert steps[anchor - 13] < 0.6 * steps[anchor - 1]  # the memory fades, the step is spread


def test_what_was_away_or_cut_starts_anew() -> None:
    shown = Settled(settled)
    first, second = noisy([face()] * 2, 4)
    shown(1, Fraction(0), first, None)
    shown(2, Fraction(2), first, None)
    assert np.array_equal(shown(1, Fraction(2), second, change()), second)
    assert not np.array_equal(shown(2, Fraction(51, 25), second, change()), second)
    shown.cut()
    assert np.array_equal(shown(2, Fraction(52, 25), second, change()), second)


@pytest.mark.parametrize("rate_hz", [12, 25, 60, 240])
def test_sharpening_does_not_run_away_at_any_rate(rate_hz: int) -> None:
    """What takes the blur of being carried out again must not add up: five seconds in strong noise."""
    random = np.random.default_rng(0)
    shown, since = Settled(settled), change(roughness=1.0, rate_hz=rate_hz)
    small = face()[64:192, 64:192]
    results = []
    for i in range(5 * rate_hz):
        made = small + random.normal(0, 0.03, small.shape).astype(np.float32)
        results.append(shown(1, Fraction(i, rate_hz), made, since if i else None))
    assert np.abs(results[-1] - small).mean() < 0.06
    assert np.abs(results[-1]).max() < 1.6


fractions = st.floats(-0.02, 0.02)


@settings(deadline=None)  # torch's first convolution takes a while
@given(
    st.tuples(fractions, fractions),
    st.tuples(st.tuples(fractions, fractions), st.tuples(fractions, fractions)),
    st.tuples(*[st.floats(-0.2, 0.2)] * 3),
    st.floats(0, 2),
    st.sampled_from([32, 256, 1024]),
)
def test_a_device_does_what_the_host_does(
    shift: tuple[float, float], growth: Any, light: tuple[float, float, float], rough: float, size: int
) -> None:
    x, y = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 2)
    mean = np.stack([np.sin(9 * x + 5 * y), np.cos(7 * y * x), x * y], axis=-1) * np.float32(0.7)
    made, weight = mean[::-1].copy(), np.abs(np.sin(np.arange(64 * 64, dtype=np.float32))).reshape(64, 64)
    since = change(shift, growth, light, roughness=rough)
    on_host, shown = settled(settled(None, mean, None, weight)[0], made, since, weight)
    begun, first = tensors.settled(None, planes(mean), None, weight)
    on_device, there = tensors.settled(begun, planes(made), since, weight)
    assert np.array_equal(pixels(first), mean)
    np.testing.assert_allclose(pixels(on_device), on_host, atol=6e-3)
    np.testing.assert_allclose(pixels(there), shown, atol=6e-3)
    np.testing.assert_allclose(pixels(tensors.carried(planes(mean), since)), carried(mean, since), atol=6e-3)


def planes(picture: Pixels) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def pixels(tensor: torch.Tensor) -> Pixels:
    return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())
