"""Latency: how long frames take from capture to output, and what is given up where that is too long."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from gpenvideo.errors import OptionError

__all__ = ["Level", "Steering", "ladder", "percentile"]

FULL_S = 1.0  # of frames that were too slow on the whole: a step down
FEWEST = 3  # of them
SETTLING_S = 0.3  # after a step, which are not counted: what starts anew takes longer
ROOM = 0.6  # of the most: below it there is room for a step up
PATIENCE_S, MOST_PATIENCE_S = 4.0, 120.0  # how long there has to be room; twice as long each time it failed
LEAST_LONGEST_PX = 320
SELDOM_S = 0.2  # from search to search; a face that was not found for 0.3 s begins to fade


@dataclass(frozen=True, slots=True)
class Level:
    """How a live frame is restored."""

    detect_every_s: float
    """Seconds from one search for faces to the next."""

    weights: str
    """Which of the networks restores."""

    longest_px: int | None
    """The longest side of what is processed and shown; None is the source's."""

    told: str = ""
    """What it is, beside the one before it, in words."""


def ladder(
    detect_every_s: float, weights: Sequence[tuple[str, int]], longest_px: int | None, source_px: int
) -> tuple[Level, ...]:
    """From all that is wanted down to the quickest: rarer searches, then smaller networks and pictures.

    Args:
        detect_every_s: what is wanted.
        weights: names and sizes in px of the networks, the wanted one first, each smaller than the last.
        longest_px: the longest side that is wanted.
        source_px: the longest side of the source's pictures.
    """
    levels = [Level(detect_every_s, weights[0][0], longest_px)]
    every_s = max(detect_every_s, SELDOM_S)
    if detect_every_s < SELDOM_S:
        levels.append(
            Level(every_s, weights[0][0], longest_px, f"faces are searched for every {every_s:.2g} s")
        )
    for name, size_px in weights[1:]:
        levels.append(Level(every_s, name, longest_px, f"{name} restores, {size_px} px"))
    whole_px = min(longest_px or source_px, source_px)
    for share in (0.75, 0.5, 0.375):
        px = round(whole_px * share / 16) * 16
        if px >= LEAST_LONGEST_PX:
            levels.append(
                Level(every_s, levels[-1].weights, px, f"pictures are {px} px on their longest side")
            )
    return tuple(levels)


class Steering:
    """Which level of a ladder keeps the latency below a limit.

    A second of frames whose 95th percentile is above the limit is a step down. Some seconds of frames well
    below it are a step up, and twice as many the next time if that was too much.

    Args:
        max_latency_s: the limit.
        levels: how many there are.

    Raises:
        OptionError: a limit that is not positive.
    """

    def __init__(self, max_latency_s: float, levels: int) -> None:
        if not 0 < max_latency_s < math.inf:
            raise OptionError(f"a latency is above 0 s, got {max_latency_s:g} s")
        self.max_latency_s = max_latency_s
        self.level = 0
        self.seen_s = 0.0
        """The 95th percentile that the last step was made for."""
        self._levels = levels
        self._patience_s = PATIENCE_S
        self._seen: deque[tuple[float, float]] = deque()
        self._settled_s = -math.inf
        self._up_s: float | None = None  # when the last step was one up

    def update(self, now_s: float, latency_s: float) -> int:
        """Take in a frame's latency: 1 for a step down the ladder, -1 for a step up, 0 for none."""
        if now_s < self._settled_s:
            return 0
        self._seen.append((now_s, latency_s))
        while len(self._seen) > FEWEST and self._seen[0][0] < now_s - self._patience_s:
            self._seen.popleft()
        recent = [taken_s for then_s, taken_s in self._seen if then_s >= now_s - FULL_S]
        if len(recent) < FEWEST:
            recent = [taken_s for _, taken_s in self._seen][-FEWEST:]
        spanned_s = now_s - self._seen[0][0]
        self.seen_s = percentile(recent, 0.95)
        enough = len(recent) >= FEWEST and spanned_s >= 0.9 * FULL_S
        if enough and self.level < self._levels - 1 and self.seen_s > self.max_latency_s:
            return self._step(now_s, 1)
        if self.level > 0 and spanned_s >= 0.9 * self._patience_s:
            self.seen_s = percentile([taken_s for _, taken_s in self._seen], 0.95)
            if self.seen_s < ROOM * self.max_latency_s:
                return self._step(now_s, -1)
        return 0

    def _step(self, now_s: float, way: int) -> int:
        if way > 0 and self._up_s is not None:
            failed = now_s - self._up_s < self._patience_s
            self._patience_s = min(MOST_PATIENCE_S, 2 * self._patience_s) if failed else PATIENCE_S
        self._up_s = now_s if way < 0 else None
        self.level += way
        self._seen.clear()
        self._settled_s = now_s + SETTLING_S
        return way


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 where there is none."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]
