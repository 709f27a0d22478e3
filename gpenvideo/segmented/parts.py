"""Parts: where a file may be divided so that the parts, restored alone, are those of the whole."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gpenvideo.errors import OptionError
from gpenvideo.tracks.document import Tracks

__all__ = ["ANCHOR_EVERY_S", "Part", "PartDone", "parts"]

ANCHOR_EVERY_S = 10
"""Stream time at whose multiples everything temporal starts anew: `gpenvideo.steady.PERIOD_S`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a stream: the frames whose pts lie in [start_pts, end_pts), in ticks of the file."""

    index: int
    """From 0."""

    start_pts: int
    end_pts: int | None
    """None is the end of the file."""


@dataclass(frozen=True, slots=True)
class PartDone:
    """A part that is restored, and lies on the disk whole."""

    index: int
    path: str
    """Of its segment."""

    sha256: str
    """Of that file, in hexadecimal digits."""

    bytes: int
    frames: int
    faces: int
    seconds: float
    told: dict[str, Any] = field(default_factory=dict)
    """Of this part, for the report of the whole: see `gpenvideo.report.Report`. JSON holds it."""


def parts(tracks: Tracks, segment_s: float) -> list[Part]:
    """The fewest parts of which all but the last take `segment_s` or more; the same for the same tracks.

    A part begins where everything temporal begins anew: at a cut, or at a multiple of `ANCHOR_EVERY_S`.

    Args:
        tracks: of the stream.
        segment_s: seconds. Parts may be up to `ANCHOR_EVERY_S` longer.

    Raises:
        OptionError: a length that is not positive.
    """
    if not 0 < segment_s < math.inf:
        raise OptionError(f"a segment takes some seconds, got {segment_s}")
    starts = [tracks.first_pts]
    for pts in _anchors(tracks):
        if (pts - starts[-1]) * tracks.source.time_base >= segment_s:
            starts.append(pts)
    ends = [*starts[1:], None]
    return [Part(index, start, end) for index, (start, end) in enumerate(zip(starts, ends, strict=True))]


def _anchors(tracks: Tracks) -> Iterator[int]:
    """The pts after the first frame's at which a part may begin, rising."""
    base = tracks.source.time_base
    first = math.floor(tracks.first_pts * base / ANCHOR_EVERY_S) + 1
    last = math.floor(tracks.last_pts * base / ANCHOR_EVERY_S)
    periods = {math.ceil(k * ANCHOR_EVERY_S / base) for k in range(first, last + 1)}
    anchors = sorted(periods | set(tracks.shots))
    yield from anchors[bisect_left(anchors, tracks.first_pts + 1) :]
