"""Means over time of what the tracks of a stream show, the same wherever a run began.

Means start anew at cuts and at multiples of `PERIOD_S`, so that a run that begins anywhere soon gives what
one from the start gives: in the last `WARM_UP_S` before that a second mean is fed the same, and takes over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

__all__ = ["PERIOD_S", "WARM_UP_S", "Mean", "Means"]

PERIOD_S = 10
"""Stream time from one new start of every mean to the next."""

WARM_UP_S = 1
"""How long before it a run may begin, and give the same from there on."""

FORGET_S = 1.0  # an ended track's mean is kept for no longer

Value = TypeVar("Value")
Result = TypeVar("Result")
Taken = TypeVar("Taken", contravariant=True)
Given = TypeVar("Given", covariant=True)


class Mean(Protocol[Taken, Given]):
    """A mean over time."""

    def take(self, time_s: Fraction, value: Taken) -> Given:
        """The mean after one more value, of a later time."""


class Means(Generic[Value, Result]):
    """The means of all tracks of one stream; see the module.

    Args:
        begun: makes a mean that nothing was fed to.
        between: of a mean, the one that takes over and a share of that: what is given while both are fed, so
            that there is no step; None is the mean alone.
    """

    def __init__(
        self,
        begun: Callable[[], Mean[Value, Result]],
        between: Callable[[Result, Result, float], Result] | None = None,
    ) -> None:
        self._begun, self._between = begun, between
        self._tracks: dict[int, _Track[Value, Result]] = {}

    def cut(self) -> None:
        """A shot starts: nothing crosses a cut."""
        self._tracks.clear()

    def __call__(self, track: int, time_s: Fraction, value: Value) -> Result:
        """The mean of a track after one more value.

        Args:
            track: its id.
            time_s: in the stream; later than the track's last.
            value: of the track, then.
        """
        self._tracks = {id: mean for id, mean in self._tracks.items() if time_s - mean.time_s < FORGET_S}
        if track not in self._tracks:
            self._tracks[track] = _Track(self._begun, self._between)
        return self._tracks[track](time_s, value)


class _Track(Generic[Value, Result]):
    """The mean of a track, and the one that takes over when the next period begins."""

    def __init__(
        self,
        begun: Callable[[], Mean[Value, Result]],
        between: Callable[[Result, Result, float], Result] | None,
    ) -> None:
        self.time_s = Fraction(0)
        self._begun, self._between = begun, between
        self._period: int | None = None
        self._mean, self._next = begun(), begun()

    def __call__(self, time_s: Fraction, value: Value) -> Result:
        period = math.floor(time_s / PERIOD_S)
        if period != self._period:
            is_next = self._period is not None and period == self._period + 1
            self._mean, self._next = self._next if is_next else self._begun(), self._begun()
        self._period, self.time_s = period, time_s
        mean = self._mean.take(time_s, value)
        over_s = time_s - ((period + 1) * PERIOD_S - WARM_UP_S)
        if over_s < 0:
            return mean
        following = self._next.take(time_s, value)
        return self._between(mean, following, float(over_s / WARM_UP_S)) if self._between else mean
