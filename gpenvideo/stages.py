"""Stages: where the seconds go."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Stages"]

T = TypeVar("T")


class Stages:
    """Seconds of work by stage, waiting for other threads left out; each stage belongs to one thread."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start  # type: ignore[assignment]

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Count the time that an iterable takes for each of its items."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    @property
    def slowest(self) -> str:
        """The stage that took the most so far; "" before the first."""
        return max(self.seconds, key=self.seconds.__getitem__, default="")
