"""Streams between threads: order, bounds, the end, errors, and no thread left."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpenvideo import OptionError
from gpenvideo.stream import latest, prefetch


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gpenvideo")]


def until(condition: object, limit_s: float = 5.0) -> None:
    assert callable(condition)
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 60), capacity=st.integers(1, 9))
def test_every_item_arrives_in_order(count: int, capacity: int) -> None:
    with prefetch(range(count), capacity) as stream:
        assert list(stream) == list(range(count))
        assert list(stream) == []  # the end stays the end
    assert not threads()


def test_no_more_is_made_than_there_is_room_for() -> None:
    made = []

    def items() -> Iterator[int]:
        for i in itertools.count():
            made.append(i)
            yield i

    with prefetch(items(), 3) as stream:
        until(lambda: len(made) == 4)  # three wait, one is in hand
        time.sleep(0.05)
        assert len(made) == 4
        assert next(stream) == 0
        until(lambda: len(made) == 5)
    assert not threads()


def test_an_error_comes_after_what_went_before_and_once() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third is bad")

    with prefetch(items()) as stream:
        assert next(stream) == 1
        assert next(stream) == 2
        with pytest.raises(ValueError, match="the third is bad"):
            next(stream)
        assert list(stream) == []
    assert not threads()


def test_closing_ends_the_generator_in_its_own_thread() -> None:
    seen = []

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            seen.append(threading.current_thread().name)

    with prefetch(items(), 2, name="decode") as stream:
        next(stream)
    assert seen == ["gpenvideo-decode"]
    assert not threads()


def test_stages_follow_each_other() -> None:
    with (
        prefetch(itertools.count(), 2, name="first") as first,
        prefetch((2 * i for i in first), 2, name="second") as second,
    ):
        assert [next(second) for _ in range(100)] == list(range(0, 200, 2))
    assert not threads()


def test_a_stage_that_waits_for_another_is_woken() -> None:
    stuck = threading.Event()

    def items() -> Iterator[int]:
        stuck.wait(5)
        yield 1

    with prefetch(items(), name="first") as first, prefetch(first, name="second"):
        time.sleep(0.05)  # both threads wait now
        stuck.set()
    until(lambda: not threads())


def test_the_newest_item_wins() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield from range(100)
        made.set()
        time.sleep(0.05)

    with latest(items()) as stream:
        made.wait()
        assert next(stream) == 99
        assert stream.dropped == 99
        assert list(stream) == []


def test_waiting_is_counted_on_the_side_that_waits() -> None:
    def slow() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.03)
            yield i

    with prefetch(slow()) as stream:
        list(stream)
        assert stream.empty_s > 0.05
        assert stream.full_s < 0.02
    with prefetch(range(5), 1) as stream:
        for _ in stream:
            time.sleep(0.02)
        assert stream.full_s > 0.03


def test_a_stream_holds_something() -> None:
    with pytest.raises(OptionError, match="one item or more"):
        prefetch([], 0)
