"""Pushed: items that come by themselves, for someone who takes the newest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from gpenvideo.errors import OptionError

__all__ = ["Pushed"]

T = TypeVar("T")


class Pushed(Generic[T]):
    """A source that is pushed to, from any thread, and iterated in another; it holds the newest.

    Args:
        waiting: how many items may wait.
    """

    def __init__(self, waiting: int = 1) -> None:
        if waiting < 1:
            raise OptionError(f"a source holds one item or more, got {waiting}")
        self.dropped = 0
        """Items that were never taken, because newer ones came."""
        self._most = waiting
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._finished = self._closed = False

    def push(self, item: T) -> None:
        """Hand an item over; where too many wait the oldest is dropped. Nothing happens once it is closed."""
        with self._changed:
            if self._finished or self._closed:
                return
            if len(self._items) >= self._most:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """End the iteration after what waits."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the iteration at once."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._closed or (self._finished and not self._items)

    def take(self, timeout_s: float | None = None) -> T | None:
        """The next item; None where there is none in that time, or none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items, timeout_s)
            return self._items.popleft() if self._items else None

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self.take()
            if item is None:
                return
            yield item
