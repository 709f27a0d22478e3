"""Streams between threads: `prefetch` keeps every item, for files; `latest` keeps the newest, for live video.

Both run an iterable in a thread of its own and hand its items over, bounded and in order. There is one path
for the end and one for an error: what the iterable raises is raised at the taker, after the items before it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from gpenvideo.errors import OptionError

__all__ = ["Handover", "latest", "prefetch"]

T = TypeVar("T")

PATIENCE_S = 0.3  # of an interrupted run with a thread that is in the middle of an item


class Handover(Iterator[T], Generic[T]):
    """The items of an iterable that a thread runs; made by `prefetch` and `latest`.

    Use it as a context manager, or call `close`: either stops the thread, closes the iterable in it (where
    that has a `close`, as generators do) and waits for both.
    """

    def __init__(self, items: Iterable[T], *, capacity: int, keep_all: bool, name: str) -> None:
        if capacity < 1:
            raise OptionError(f"a stream holds one item or more, got {capacity}")
        self.name = name
        self.full_s = 0.0
        """Seconds the thread waited for a place: the taker was the slower one."""
        self.empty_s = 0.0
        """Seconds the taker waited for an item: the thread was the slower one."""
        self.dropped = 0
        """Items that were replaced by newer ones; 0 unless made by `latest`."""
        self._items = items
        self._capacity = capacity
        self._keep_all = keep_all
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"gpenvideo-{name}", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        with self._changed:
            start = time.perf_counter()
            while not (self._ready or self._ended or self._closed):
                self._changed.wait()
            self.empty_s += time.perf_counter() - start
            if self._ready and not self._closed:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self, patience_s: float | None = None) -> None:
        """Stop the thread and wait for it, for `patience_s` at most; what was not taken is dropped."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.close(PATIENCE_S if interrupted else None)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as error:
            self._error = error
        finally:
            try:
                if hasattr(self._items, "close"):
                    self._items.close()
            except BaseException as error:
                self._error = self._error or error
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Hand an item over; whether more are wanted."""
        with self._changed:
            if self._keep_all:
                start = time.perf_counter()
                while len(self._ready) >= self._capacity and not self._closed:
                    self._changed.wait()
                self.full_s += time.perf_counter() - start
            elif len(self._ready) >= self._capacity:
                self._ready.popleft()
                self.dropped += 1
            if self._closed:
                return False
            self._ready.append(item)
            self._changed.notify_all()
            return True


def prefetch(items: Iterable[T], capacity: int = 8, *, name: str = "prefetch") -> Handover[T]:
    """Run `items` in a thread, up to `capacity` items ahead of the taker; none is lost."""
    return Handover(items, capacity=capacity, keep_all=True, name=name)


def latest(items: Iterable[T], *, name: str = "latest") -> Handover[T]:
    """Run `items` in a thread and take the newest: one not taken when the next comes is dropped."""
    return Handover(items, capacity=1, keep_all=False, name=name)
