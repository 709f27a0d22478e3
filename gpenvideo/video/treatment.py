"""Treatment: what is done to pictures between the decoder and the frames: deinterlacing, a prefilter."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from gpenvideo.errors import OptionError
from gpenvideo.video.deinterlacing import Deinterlacer, Way
from gpenvideo.video.description import colour_of
from gpenvideo.video.filters import FilterGraph, memory_frames, parse_graph
from gpenvideo.video.pixels import pixel_format

__all__ = ["Treated", "Treating", "Treatment"]

TRIED = 24  # pictures that a graph is tried with
FINE = 50400  # parts of a sample's height in which its width is asked for
SIMPLE = 200  # the largest denominator of an aspect


class Treated(NamedTuple):
    """A picture, and the same made easier to see."""

    picture: Any
    filtered: Any


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to the pictures of a stream.

    Raises:
        OptionError: a prefilter that cannot be read, or names a filter that is not there.
    """

    way: Way | None = None
    """Of making whole pictures of fields."""

    prefilter: str | None = None
    """A graph of FFmpeg's filters, for the analysis alone or for the picture too."""

    output: bool = False
    """Whether the prefilter's pictures are the stream's."""

    notes: tuple[str, ...] = ()
    """What is said of it, a sentence each."""

    def __post_init__(self) -> None:
        if self.prefilter is not None:
            parse_graph(self.prefilter)
        elif self.output:
            raise OptionError("there is no prefilter whose output could be taken: name one")

    def __bool__(self) -> bool:
        return self.way is not None or self.prefilter is not None

    @property
    def memory_frames(self) -> int | None:
        """How many pictures before one it looks at; None: all of them."""
        held = (
            self.way.memory_frames if self.way else 0,
            memory_frames(self.prefilter) if self.prefilter is not None else 0,
        )
        return None if None in held else sum(frames for frames in held if frames)


class Treating:
    """Puts the pictures of a stream through their treatment: call it for each, and `finish` at the end.

    Args:
        treatment: of which there is some.
        codec: FFmpeg's name of the decoder.
        rate_hz: pictures a second; None where it varies.
        sample_aspect: of the decoder's pictures.

    Raises:
        OptionError: with the first picture a graph that does not work, or one for the analysis that changes
            more than samples. Later: one that gives more or fewer pictures than it took.
    """

    def __init__(
        self, treatment: Treatment, codec: str, rate_hz: Fraction | None, sample_aspect: Fraction | None
    ) -> None:
        self._treatment, self._codec = treatment, codec
        self.rate_hz, self.sample_aspect = rate_hz, sample_aspect
        self.ratio = Fraction(1)
        """Pictures that are made of one."""
        self.notes: list[str] = list(treatment.notes)
        self._whole = Deinterlacer(treatment.way, rate_hz) if treatment.way else None
        if treatment.way:
            taken, given = treatment.way.steps
            self._becomes(Fraction(given, taken))
        self._graph: FilterGraph | None = None
        self._waiting: deque[Any] = deque()

    def __call__(self, picture: Any) -> Iterator[Any]:
        """What is ready after one more: av.VideoFrame with pts in ticks of its `time_base`, or `Treated`."""
        for whole in self._whole(picture) if self._whole else (picture,):
            yield from self._seen(whole)

    def finish(self) -> Iterator[Any]:
        """What was held back."""
        for whole in self._whole.finish() if self._whole else ():
            yield from self._seen(whole)
        if self._graph:
            yield from self._paired(self._graph.finish())
        if self._waiting and not self._treatment.output:
            raise self._refused("gives fewer pictures than it takes")

    def _seen(self, whole: Any) -> Iterator[Any]:
        """A whole picture through the prefilter."""
        if self._treatment.prefilter is None:
            yield whole
            return
        if self._graph is None:
            self._try(whole)
            self._graph = self._made(whole)
        if not self._treatment.output:
            self._waiting.append(whole)
        yield from self._paired(self._graph(whole))

    def _paired(self, pictures: Iterator[Any]) -> Iterator[Any]:
        for picture in pictures:
            if self._treatment.output:
                yield picture
                continue
            if not self._waiting:
                raise self._refused("gives more pictures than it takes")
            whole = self._waiting.popleft()
            if picture.pts * picture.time_base != whole.pts * whole.time_base:
                raise self._refused("gives other pictures than it takes, or at other times")
            yield Treated(whole, picture)

    def _made(self, whole: Any, *ends: tuple[str, str]) -> FilterGraph:
        """The prefilter; its pictures get the stream's pixel format, unless it ends with another."""
        text = self._treatment.prefilter or "null"
        keeps = not self._treatment.output or parse_graph(text)[-1][-1].name != "format"
        form = (("format", whole.format.name),) if keeps else ()
        return FilterGraph(text, rate_hz=self.rate_hz, sample_aspect=self.sample_aspect, ends=(*form, *ends))

    def _try(self, whole: Any) -> None:
        """Whether the prefilter works, tried on the first picture; what becomes of rate and shape."""
        made = self._run(self._made(whole), whole)
        if not made:
            raise self._refused("gives no pictures")
        if self._treatment.output:
            self._describe(whole, made)
            return
        first, times = made[0], [picture.pts * picture.time_base for picture in made]
        if times != [number / self._pace_hz for number in range(TRIED)]:
            raise self._refused("changes the rate, the times or the number of pictures")
        if (first.width, first.height) != (whole.width, whole.height):
            raise self._refused(f"makes {first.width}x{first.height} of {whole.width}x{whole.height}")
        if colour_of(first, self._codec)[0] != colour_of(whole, self._codec)[0]:
            raise self._refused("changes what the samples mean (matrix, range, primaries or transfer)")

    def _describe(self, whole: Any, made: list[Any]) -> None:
        gaps = {b.pts * b.time_base - a.pts * a.time_base for a, b in pairwise(made)}
        if len(gaps) == 1 and min(gaps) > 0:
            self._becomes(1 / self._pace_hz / gaps.pop())
        else:
            self.ratio, self.rate_hz = self.ratio * Fraction(len(made), TRIED), None
        asked = self._made(whole, ("scale", f"w=max(1,round(sar*{FINE})):h=2"))  # PyAV does not tell
        wide = self._run(asked, whole)
        aspect = self.sample_aspect or Fraction(1)
        if wide and abs(Fraction(wide[0].width, FINE) - aspect) > Fraction(1, 10000):
            self.sample_aspect = Fraction(wide[0].width, FINE).limit_denominator(SIMPLE)
        was, now = (pixel_format(p.format.name).layout.depth_bits for p in (whole, self._plain(whole)))
        if now < was and made[0].format.name == whole.format.name:
            self.notes.append(
                f"The prefilter works in {now} bits: the lowest of the source's {was} are lost."
            )

    def _plain(self, whole: Any) -> Any:
        """A picture as the prefilter gives it by itself."""
        graph = FilterGraph(self._treatment.prefilter or "null", rate_hz=self.rate_hz)
        return next(iter(self._run(graph, whole)), whole)

    @property
    def _pace_hz(self) -> Fraction:
        """Pictures a second of a trial: a rate that varies is tried at some steady one."""
        return self.rate_hz or Fraction(25)

    def _run(self, graph: FilterGraph, picture: Any) -> list[Any]:
        """What a graph makes of one picture again and again, from time 0 on."""
        made, before = list[Any](), (picture.pts, picture.duration, picture.time_base)
        picture.time_base, picture.duration = 1 / self._pace_hz, 1
        for picture.pts in range(TRIED):
            made += graph(picture)
        picture.pts, picture.duration, picture.time_base = before
        return [*made, *graph.finish()]

    def _becomes(self, ratio: Fraction) -> None:
        self.ratio *= ratio
        self.rate_hz = None if self.rate_hz is None else self.rate_hz * ratio

    def _refused(self, why: str) -> OptionError:
        return OptionError(
            f"the prefilter {self._treatment.prefilter!r} {why}: take its pictures for the stream's "
            "(--prefilter-output), or leave that filter out"
        )
