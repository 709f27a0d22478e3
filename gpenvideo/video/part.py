"""The part of a video that is read: from when, to when, and what of the copied packets belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from gpenvideo.errors import MediaError, OptionError
from gpenvideo.video.timing import as_ticks

__all__ = ["ATTACHED_PICTURE", "Part", "choose_part"]

ATTACHED_PICTURE = 1 << 10  # FFmpeg's disposition of a cover
SLACK_S = Fraction(1, 1000)  # people write fewer decimals than timestamps have


class Part(NamedTuple):
    """Seconds of the source's own time, from `start_s` to `end_s` (excluded); None is open."""

    start_s: Fraction | None = None
    end_s: Fraction | None = None

    def begins_after(self, time_s: Fraction) -> bool:
        return self.start_s is not None and time_s < self.start_s - SLACK_S

    def ends_before(self, time_s: Fraction) -> bool:
        """Whether a moment lies past the end."""
        return self.end_s is not None and time_s >= self.end_s - SLACK_S

    def shift_ticks(self, time_base: Fraction) -> int:
        """What is taken off every timestamp of a stream, so that the part begins at 0."""
        return 0 if self.start_s is None else as_ticks(self.start_s, time_base)

    def keeps(self, packet: Any, kind: str, started: bool) -> bool:
        """Whether a copied packet belongs to the part; a kept packet is put on the part's time line.

        Sound and data: what begins in the part. Subtitles: what is on the screen in it, shortened at its
        beginning. Further video: from the first key frame in the part (until then `started` is False).
        """
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is None or (self.start_s is None and self.end_s is None):
            return True
        time_base = packet.time_base
        begin, length = ticks * time_base, (packet.duration or 0) * time_base
        if kind == "video":
            late = packet.dts is not None and self.ends_before(packet.dts * time_base)
            keep = not late and (started or (packet.is_keyframe and not self.begins_after(begin)))
        elif kind == "subtitle":
            keep = not self.ends_before(begin) and not self.begins_after(begin + length)
        else:
            keep = not self.ends_before(begin) and not self.begins_after(begin)
        if keep:
            self._shift(packet, cut=kind == "subtitle")
        return keep

    def _shift(self, packet: Any, cut: bool) -> None:
        shift = self.shift_ticks(packet.time_base)
        pts, dts = packet.pts, packet.dts
        if cut and self.start_s is not None and pts is not None and pts < shift:
            packet.duration = max(0, packet.duration - (shift - pts))
            packet.pts, packet.dts = 0, 0
            return
        packet.pts = None if pts is None else pts - shift
        packet.dts = None if dts is None else dts - shift


def choose_part(
    start_s: float | Fraction | None,
    end_s: float | Fraction | None,
    start_frame: int | None,
    end_frame: int | None,
    origin_s: Fraction,
    times_of: Callable[[Sequence[int]], list[Fraction | None]],
) -> Part:
    """The part that a caller asks for, in the source's own time.

    `origin_s` is the moment of the first picture, `times_of` gives the moments of pictures by their number
    (None past the last). OptionError: two starts or ends, one that is negative, an end that is not after
    the start. MediaError: a start past the last picture.
    """
    for seconds, number, name in ((start_s, start_frame, "start"), (end_s, end_frame, "end")):
        if seconds is not None and number is not None:
            raise OptionError(f"give the {name} in seconds or as a frame number, not both")
        if (seconds is not None and not 0 <= seconds < 1e9) or (number is not None and number < 0):
            raise OptionError(f"the {name} is counted from the first picture on and cannot be negative")
    numbers = [number for number in (start_frame, end_frame) if number is not None]
    times = dict(zip(numbers, times_of(numbers), strict=True)) if numbers else {}
    start = None if start_s is None else origin_s + Fraction(start_s).limit_denominator(10**6)
    end = None if end_s is None else origin_s + Fraction(end_s).limit_denominator(10**6)
    if start_frame is not None:
        start = times[start_frame]
        if start is None:
            raise MediaError(f"it has no frame {start_frame}")
    if end_frame is not None:
        end = times[end_frame]
    if end is not None and end <= (origin_s if start is None else start):
        raise OptionError("the end must lie after the start")
    return Part(start, end)
