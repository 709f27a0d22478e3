"""Executors: what runs the tasks of a batch, in processes of this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gpenvideo.batch.tasks import Task
from gpenvideo.errors import GpenvideoError

__all__ = ["Executor", "Outcome", "Tell"]

Tell = Callable[[Task, int, int], None]
"""Is told of a task how many frames it has done, and how many faces."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: it was done, it failed, or its worker died. Can be pickled."""

    task: Task
    value: Any = None
    """What `perform` returned."""

    error: GpenvideoError | None = None
    """Why it failed. To try it again is of no use."""

    died: str | None = None
    """How its worker ended ("worker 4711 was ended by signal 9"); another may do it."""

    everyones: bool = False
    """The error is the machine's and no fault of the file: a full disk, a folder that is gone."""

    warnings: tuple[str, ...] = ()
    """Of Python's, on the way."""

    trace: str = ""
    """Of an error that nobody foresaw: for reports of bugs."""


class Executor(Protocol):
    """Runs tasks, each in some worker; the driver knows no more of it. Used in one thread.

    A worker that dies is replaced by the executor; whether its task is tried again, the driver decides.
    """

    @property
    def slots(self) -> int:
        """How many tasks it wants at a time; more are not submitted."""
        ...

    def submit(self, task: Task) -> None:
        """Take a task up; does not wait for it."""
        ...

    def next_outcome(self, timeout_s: float, tell: Tell | None = None) -> Outcome | None:
        """What became of a task that was submitted, in the order they end; None where none ended in time.

        Args:
            timeout_s: how long to wait; an executor that works in the caller's own thread may take longer.
            tell: is called on the way, where the executor knows how far a task is.
        """
        ...

    def close(self) -> None:
        """End all workers, at once: what they were doing is lost, and will be done again."""
        ...
