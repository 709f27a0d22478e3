"""Times: what a person writes, and a timestamp for every picture of a stream."""

from __future__ import annotations

import re
from fractions import Fraction

from gpenvideo.errors import OptionError

__all__ = ["Clock", "as_ticks", "parse_time", "steady_rate"]

FASTEST_HZ = 1000  # a "rate" above is a time base


def parse_time(text: str) -> Fraction | int:
    """A moment as people write it: "62.5", "1:02.5", "0:01:02.5" are seconds, "1550f" is a frame number.

    Returns seconds as a Fraction, a frame number (from 0, in order of presentation) as an int.
    OptionError: anything else.
    """
    text = text.strip()
    if match := re.fullmatch(r"(\d{1,9})f", text, re.ASCII):
        return int(match[1])
    number = r"(\d{1,9}(?:\.\d{0,12})?|\.\d{1,12})"
    if match := re.fullmatch(rf"(?:(?:(\d{{1,9}}):)?(\d{{1,9}}):)?{number}", text, re.ASCII):
        hours, minutes, seconds = match[1], match[2], Fraction(match[3])
        clock = minutes is not None
        if (not clock or seconds < 60) and (hours is None or int(minutes) < 60):
            return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds
    raise OptionError(f"a moment is written 62.5, 1:02.5 or 1550f (a frame number), not {text!r}")


def as_ticks(seconds: Fraction, time_base: Fraction) -> int:
    """The nearest tick."""
    return round(seconds / time_base)


def steady_rate(average: Fraction | None, base: Fraction | None) -> Fraction | None:
    """Frames a second from what a container says on average and at its finest; None when they disagree."""
    known = [rate for rate in (base, average) if rate and 0 < rate <= FASTEST_HZ]
    if len(known) < 2:
        return known[0] if known else None
    finest, mean = known
    if abs(finest - mean) <= mean / 100:
        return finest
    return mean if abs(finest - 2 * mean) <= mean / 50 else None  # a rate of fields


class Clock:
    """Timestamps that rise, in ticks: those of the stream where it has them.

    A picture without one gets its decoding time, or else that of the one before and its duration. One that
    does not come after the picture before it (damage, joined recordings) is put one tick after it, so that
    the next sound timestamp is in step again.
    """

    def __init__(self, step: int) -> None:
        self.step = max(1, step)
        self.invented = 0
        self.bent = 0
        self._last: int | None = None
        self._duration = 0

    def tick(self, pts: int | None, dts: int | None, duration: int) -> int:
        """The timestamp of the next picture in order of presentation."""
        last = self._last
        if pts is None:
            self.invented += 1
            following = 0 if last is None else last + (self._duration or self.step)
            pts = dts if dts is not None and (last is None or dts > last) else following
        elif last is not None and pts <= last:
            self.bent += 1
            pts = last + 1
        self._last, self._duration = pts, max(0, duration)
        return pts
