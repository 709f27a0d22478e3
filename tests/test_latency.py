"""Steering by latency: a step at a time, down when it is too slow, up when there is room, and no swinging."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpenvideo.errors import OptionError
from gpenvideo.live.latency import Level, Steering, ladder, percentile

Latency = Callable[[float, int], float]


def steered(
    latency: Latency, seconds: float, *, limit_s: float = 0.15, levels: int = 5, rate_hz: float = 25
) -> list[tuple[float, int]]:
    """When it stepped and to which level, where the latency is a function of time and level."""
    steering = Steering(limit_s, levels)
    steps = []
    for now_s in np.arange(0, seconds, 1 / rate_hz):
        if steering.update(float(now_s), latency(float(now_s), steering.level)):
            steps.append((float(now_s), steering.level))
    return steps


def test_what_is_quick_enough_is_left_alone() -> None:
    assert steered(lambda *_: 0.14, 60) == []


def test_it_goes_down_until_it_is_quick_enough_and_stays() -> None:
    steps = steered(lambda _, level: 0.3 - 0.06 * level, 60)
    assert [level for _, level in steps] == [1, 2, 3]
    assert steps[-1][0] < 6
    assert all(after - before >= 0.9 for (before, _), (after, _) in itertools.pairwise(steps))


def test_it_ends_at_the_last_level() -> None:
    assert [level for _, level in steered(lambda *_: 5.0, 60, levels=3)] == [1, 2]
    assert steered(lambda *_: 5.0, 60, levels=1) == []


def test_it_comes_back_when_there_is_room() -> None:
    steps = steered(lambda now_s, _: 0.3 if now_s < 5 else 0.05, 60)
    assert max(level for _, level in steps) >= 3
    assert steps[-1][1] == 0
    assert steps[-1][0] < 40


def test_it_does_not_swing() -> None:
    """A level too slow, the one below it quick: up is tried again, but ever more rarely."""
    steps = steered(lambda _, level: 0.2 if level < 2 else 0.05, 600)
    tries = [at_s for (at_s, level), (_, before) in zip(steps[1:], steps, strict=False) if level < before]
    assert 3 <= len(tries) <= 12
    assert tries[-1] - tries[-2] > 60
    slow_s = sum(after - before for (before, level), (after, _) in itertools.pairwise(steps) if level < 2)
    assert slow_s < 20


def test_one_slow_frame_is_no_reason() -> None:
    assert steered(lambda now_s, _: 1.0 if round(now_s * 25) % 50 == 0 else 0.05, 60) == []


def test_very_slow_frames_are_one() -> None:
    assert steered(lambda *_: 2.0, 20, rate_hz=0.8, levels=2)


def test_the_ladder_gives_up_searches_then_networks_then_pictures() -> None:
    levels = ladder(0.12, [("large", 512), ("middle", 256), ("small", 128)], None, 1280)
    assert levels[0] == Level(0.12, "large", None)
    assert [level.detect_every_s for level in levels] == [0.12] + [0.2] * 6
    names = [level.weights for level in levels]
    assert names == ["large"] * 2 + ["middle"] + ["small"] * 4
    assert [level.longest_px for level in levels] == [None] * 4 + [960, 640, 480]
    assert all(level.told for level in levels[1:])
    assert "every 0.2 s" in levels[1].told
    assert "middle restores, 256 px" in levels[2].told
    assert "960 px" in levels[4].told


def test_the_ladder_of_a_small_picture_is_short() -> None:
    assert len(ladder(0.12, [("only", 256)], None, 320)) == 2
    assert len(ladder(0.25, [("only", 256)], None, 320)) == 1
    assert [level.longest_px for level in ladder(0.12, [("only", 256)], 640, 1920)[2:]] == [480, 320]


@pytest.mark.parametrize("limit_s", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_cannot_be(limit_s: float) -> None:
    with pytest.raises(OptionError, match="a latency is above 0 s"):
        Steering(limit_s, 3)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), max_size=300), st.integers(1, 6))
def test_levels_stay_on_the_ladder(steps: list[tuple[float, float]], levels: int) -> None:
    steering, now_s, before = Steering(0.2, levels), 0.0, 0
    for step_s, latency_s in steps:
        now_s += step_s
        way = steering.update(now_s, latency_s)
        assert steering.level == before + way
        assert 0 <= steering.level < levels
        before = steering.level


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0.01, 1))
def test_percentiles(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) <= share * len(values)


def test_no_values_no_percentile() -> None:
    assert percentile([], 0.95) == 0.0
