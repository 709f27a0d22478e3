"""Deinterlacing: pictures that are woven of two moments, or film at 3:2, made into whole ones."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any, Literal, NamedTuple

import av

from gpenvideo.errors import OptionError
from gpenvideo.frame import Layout
from gpenvideo.video.fields import IDET, Fields
from gpenvideo.video.filters import FilterGraph, available
from gpenvideo.video.pixels import pixel_format

__all__ = ["FILTERS", "Deinterlacer", "Way", "check_deinterlace", "chosen_way"]

FILTERS = ("bwdif", "w3fdif", "yadif")
MODES = {  # of each filter: a picture of two fields, a picture of each field
    "bwdif": ("mode=send_frame", "mode=send_field"),
    "w3fdif": ("mode=frame", "mode=field"),
    "yadif": ("mode=send_frame", "mode=send_field"),
}
EIGHT_BITS = {(1, 1): "yuv444p", (2, 1): "yuv422p", (2, 2): "yuv420p", (4, 1): "yuv411p"}  # by chroma's step
HELD_FRAMES = 2  # pictures on each side of the one that is made
ORDERS = {"tff": "top field first", "bff": "bottom field first"}


class Way(NamedTuple):
    """How whole pictures are made."""

    filter: str
    """One of `FILTERS`; of film at 3:2 for the pictures whose fields find no partner."""

    kind: Literal["all", "combed", "film"] = "all"
    """"all": every picture; "combed": those that idet finds combed; "film": fields matched, doubles out."""

    by_field: bool = False
    """Whether every field becomes a picture."""

    first: Literal["tff", "bff"] = "tff"

    @property
    def steps(self) -> tuple[int, int]:
        """Of so many pictures so many are made."""
        return (5, 4) if self.kind == "film" else (1, 2 if self.by_field else 1)

    @property
    def memory_frames(self) -> int | None:
        """How many pictures before one it looks at; None: all of them."""
        return HELD_FRAMES if self.kind == "all" else None


def check_deinterlace(wanted: str, ivtc: bool) -> tuple[str, bool]:
    """What is asked for, as ("auto", "off" or a filter, whether by field).

    Raises:
        OptionError: it is none of these; a field rate and film at once.
    """
    name, colon, rate = wanted.partition(":")
    known = ("auto", "off", *filter(available, FILTERS))
    if name not in known or (colon and (rate != "field" or name in ("auto", "off"))):
        several = ", ".join((*known, *(f"{name}:field" for name in known[2:])))
        raise OptionError(f"deinterlacing is one of {several}, not {wanted!r}")
    if ivtc and colon:
        raise OptionError(f"inverse telecine gives whole pictures: leave the field rate ({wanted}) out")
    return name, bool(colon)


def chosen_way(wanted: str, ivtc: bool, found: Fields) -> tuple[Way | None, str]:
    """What is to be done with a stream, and a sentence about it (empty: nothing is).

    Args:
        wanted, ivtc: as `check_deinterlace` takes them.
        found: what the stream's pictures are.

    Raises:
        OptionError: see there; film at 3:2 in a pixel format that fields cannot be matched in.
    """
    name, by_field = check_deinterlace(wanted, ivtc)
    first: Literal["tff", "bff"] = found.first
    film = found.kind == "telecined" and _matches(found.pixel_format)
    if not ivtc and (name == "off" or (name == "auto" and not found.is_combed)):
        return None, f"Its pictures are {_said(found)}, and stay so." if found.is_combed else ""
    best = name if name in FILTERS else _best(found.pixel_format)
    if ivtc or (name == "auto" and film):
        if not _matches(found.pixel_format):
            raise OptionError(
                f"inverse telecine takes YUV, not {found.pixel_format}: use --deinterlace bwdif"
            )
        doubt = "" if found.kind == "telecined" else ", though no 3:2 was found in them"
        return Way(best, "film", False, first), (
            f"Its pictures are {_said(found)}: fields are matched, {ORDERS[first]}, and of every five "
            f"pictures the double one is left out{doubt}."
        )
    if name == "auto" and found.kind == "mixed":
        return Way(best, "combed", False, first), (
            f"Its pictures are {_said(found)}: the combed ones are deinterlaced by {best}, the others stay."
        )
    rate = "each field becomes a picture" if by_field else "two fields become one picture"
    order = "" if found.kind == first else f" as {ORDERS[first]}"
    return Way(best, "all", by_field, first), (
        f"Its pictures are {_said(found)}: deinterlaced by {best}{order}, {rate}."
    )


def _said(found: Fields) -> str:
    """What pictures are, and what the stream says where that is something else."""
    looked = f"{found.combed} of {found.pictures} looked at"
    words = {
        "telecined": f"film at 3:2 (telecined, {looked} combed)",
        "mixed": f"combed in part ({looked})",
        "tff": f"combed, top field first ({looked})",
        "bff": f"combed, bottom field first ({looked})",
    }.get(found.kind, "not combed")
    stream = {"progressive": "progressive", **ORDERS}.get(found.flagged)
    lies = found.is_combed and stream and found.flagged != found.first
    return words + (f", though the stream says {stream}" if lies else "")


@cache
def _keeps(name: str, pixel_format_name: str) -> bool:
    """Whether a filter gives samples of the kind that it takes."""
    picture = av.VideoFrame(32, 32, pixel_format_name)
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    graph, made = FilterGraph(name), list[Any]()
    with contextlib.suppress(OptionError):
        made += [*graph(picture), *graph.finish()]
    return bool(made) and pixel_format(made[0].format.name).layout == pixel_format(pixel_format_name).layout


def _best(pixel_format_name: str) -> str:
    """The best filter that holds a pixel format; bwdif where that is not known."""
    able = (name for name in FILTERS if available(name))
    return next((name for name in able if not pixel_format_name or _keeps(name, pixel_format_name)), "bwdif")


def _matches(pixel_format_name: str) -> bool:
    """Whether FFmpeg's fieldmatch takes a pixel format."""
    known = pixel_format(pixel_format_name) if pixel_format_name else None
    return known is None or (known.layout.model == "yuv" and not known.alpha)


class Deinterlacer:
    """Makes whole pictures: call it for each picture, in order, and `finish` at the end.

    Args:
        way: how.
        rate_hz: pictures a second; None where it varies.

    Raises:
        OptionError: the filter does not take such pictures.
    """

    def __init__(self, way: Way, rate_hz: Fraction | None) -> None:
        self._way, self._rate_hz = way, rate_hz
        self._stamps = _Stamps(*way.steps)
        self._maker: FilterGraph | _Chooser | None = None
        self._layout: Layout | None = None
        self._last: Any = None

    def __call__(self, picture: Any) -> Iterator[Any]:
        """The whole pictures that are ready after this one; pts are ticks of their `time_base`."""
        if self._maker is None:
            self._layout = pixel_format(picture.format.name).layout
            self._maker = self._made(self._layout)
        self._stamps.take(picture)
        self._last = picture
        yield from self._stamped(self._maker(picture))

    def _made(self, layout: Layout) -> FilterGraph | _Chooser:
        way, rate_hz = self._way, self._rate_hz
        whole = f"{way.filter}={MODES[way.filter][way.by_field]}:parity={way.first}:deint="
        if way.kind != "film":
            graph = FilterGraph(f"{whole}all,setfield=prog", rate_hz=rate_hz)
            return graph if way.kind == "all" else _Chooser(graph)
        match = f"fieldmatch=order={way.first}:combmatch="
        if layout.depth_bits <= 8:
            match += "full"
        else:  # it matches 8 bits and lets what is deeper pass by, but finds combs then where none are
            eight = EIGHT_BITS.get(layout.step, "yuv420p")
            match = f"split[s][c];[s]format={eight}[p];[p][c]{match}none:ppsrc=1"
        return FilterGraph(f"{match},{whole}interlaced,decimate,setfield=prog", rate_hz=rate_hz)

    def finish(self) -> Iterator[Any]:
        """Those that were held back."""
        if self._maker is None or self._layout is None:
            return
        more: list[Any] = []
        if self._way.kind == "film" and self._layout.depth_bits > 8:  # else the last one would never come
            self._last.pts += self._stamps.step
            more += self._maker(self._last)
        more += self._maker.finish()
        self._stamps.end()
        yield from self._stamped(iter(more))

    @property
    def _unable(self) -> str:
        """What is said where a filter would change more than samples."""
        if self._way.kind == "film":
            return "inverse telecine takes YUV pictures alone: use --deinterlace bwdif"
        able = [name for name in FILTERS if available(name) and name != self._way.filter]
        return f"{self._way.filter} does not take these pictures as they are: choose {' or '.join(able)}"

    def _stamped(self, pictures: Iterator[Any]) -> Iterator[Any]:
        for picture in pictures:
            if pixel_format(picture.format.name).layout != self._layout:
                raise OptionError(self._unable)
            self._stamps.give(picture)
        yield from self._stamps.ready()


class _Stamps:
    """Times of pictures that are made of others: of every `taken` in a row `given`, evenly among them."""

    def __init__(self, taken: int, given: int) -> None:
        self._taken, self._given = taken, given
        self._starts: dict[int, tuple[int, int]] = {}  # of each lot: its first pts and how long that is shown
        self._in = self._out = 0
        self._pts, self.step = 0, 1
        self._base = Fraction(1)
        self._waiting: deque[Any] = deque()

    def take(self, picture: Any) -> None:
        """Take note of a picture that goes in."""
        if self._in:
            self.step = picture.pts - self._pts
        else:
            self.step, self._base = int(picture.duration) or 1, picture.time_base
        if self._in % self._taken == 0:
            self._starts[self._in // self._taken] = (picture.pts, int(picture.duration))
        self._pts, self._in = picture.pts, self._in + 1

    def give(self, picture: Any) -> None:
        """Take note of a picture that came out."""
        self._waiting.append(picture)

    def end(self) -> None:
        """Nothing goes in any more."""
        lot = -(-self._in // self._taken)
        self._starts[lot] = (self._starts[lot - 1][0] + self._taken * self.step, 0)

    def ready(self) -> Iterator[Any]:
        """The pictures whose times are known, in order."""
        while self._waiting:
            lot, place = divmod(self._out, self._given)
            if self._given > 1 and lot + 1 not in self._starts:
                return
            (start, shown), picture = self._starts[lot], self._waiting.popleft()
            length = self._starts[lot + 1][0] - start if self._given > 1 else shown
            picture.time_base = self._base / self._given
            picture.pts, picture.duration = self._given * start + place * length, length
            self._starts.pop(lot - 1, None)
            self._out += 1
            yield picture


class _Chooser:
    """Gives those pictures deinterlaced that idet finds combed, and the others as they are.

    A picture of which it cannot tell is like the one before; at the beginning, combed.
    """

    def __init__(self, whole: FilterGraph) -> None:
        self._idet, self._whole, self._same = FilterGraph(IDET), whole, FilterGraph("setfield=prog")
        self._told: deque[str] = deque()
        self._made: deque[Any] = deque()
        self._kept: deque[Any] = deque()
        self._combed = True

    def __call__(self, picture: Any) -> Iterator[Any]:
        self._told += (seen.metadata["lavfi.idet.single.current_frame"] for seen in self._idet(picture))
        self._made += self._whole(picture)
        self._kept += self._same(picture)
        return self._chosen()

    def finish(self) -> Iterator[Any]:
        self._told += (seen.metadata["lavfi.idet.single.current_frame"] for seen in self._idet.finish())
        self._made += self._whole.finish()
        return self._chosen()

    def _chosen(self) -> Iterator[Any]:
        while self._told and self._made and self._kept:
            told, made, kept = self._told.popleft(), self._made.popleft(), self._kept.popleft()
            if told != "undetermined":
                self._combed = told != "progressive"
            yield made if self._combed else kept
