"""Fields: whether the pictures of a stream are whole, woven of two moments, or film at 3:2.

FFmpeg's idet tells of each picture whether its rows lie better among those of the field before or after, and
whether a field is that of the picture before; here that is counted over some places of a file, and judged.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
from av.stream import Discard

from gpenvideo.errors import GpenvideoError
from gpenvideo.video.filters import FilterGraph
from gpenvideo.video.part import ATTACHED_PICTURE
from gpenvideo.video.sequence import is_sequence
from gpenvideo.video.sources import MOST_PIXELS, open_container

__all__ = ["IDET", "Fields", "Verdict", "fields_of", "judged"]

IDET = "idet=intl_thres=1.04:prog_thres=1.1:rep_thres=1.5"
"""The last two are lower than FFmpeg's 1.5 and 3: slow motion is told from none, and fields that a codec has
changed are known again; measured on clips of known making."""

SURE = "idet=intl_thres=1.2"
"""FFmpeg's 1.04 takes credits that roll by 2 or 4 rows a picture for combed; this does not."""

PLACES, PICTURES = 5, 40
"""The cost: so many places of a file, and so many pictures of each, are decoded once more."""

PATIENCE = 5  # packets a picture, before a place is given up
UNSETTLED = 2  # pictures after a jump whose neighbours are not all there
LEAST = 3  # pictures that move, for a place to count
COMBED, WHOLE = 0.8, 0.1  # shares of combed pictures among those that move: all of them, none
LEAST_SURE = 0.02  # share of those that are surely so among all combed ones, where the stream does not say so
IN_STEP, REPEATED = 0.6, 0.2  # of repeated fields, those at the right places; they, of what moves
PULLDOWN = 5  # pictures, of which two hold a field twice: first one, two or three pictures later the other
FLAGS = {1: "progressive", 2: "tff", 3: "bff", 4: "tff", 5: "bff"}  # of AVFieldOrder: which is shown first

Kind = Literal["still", "progressive", "tff", "bff", "telecined", "mixed"]


class Verdict(NamedTuple):
    """What idet says of a picture."""

    single: str
    """"tff", "bff", "progressive" or "undetermined"."""

    repeated: str
    """Which field is that of the picture before: "neither", "top" or "bottom"."""

    sure: bool = False
    """Whether it is combed beyond doubt."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What the pictures of a stream are made of."""

    kind: Kind = "progressive"
    """"tff", "bff": two moments a picture, the top or the bottom field first. "telecined": film at 3:2.
    "mixed": combed in part. "still": nothing moves, so that it is all the same."""

    first: Literal["tff", "bff"] = "tff"
    """Which field is the first where there are two."""

    flagged: str = "unknown"
    """What the stream says: "progressive", "tff", "bff" or "unknown"."""

    combed: int = 0
    """Of the pictures that were looked at."""

    pictures: int = 0
    pixel_format: str = ""
    """Of them, by FFmpeg's name; empty where none could be decoded."""

    @property
    def is_combed(self) -> bool:
        return self.kind in ("tff", "bff", "telecined", "mixed")


def fields_of(path: str | PathLike[str], stream: int | None = None) -> Fields:
    """What a file holds; found once for each file that does not change. Stills are taken for whole pictures.

    What cannot be read or decoded is left to the reader to tell.

    Args:
        path: a video file.
        stream: which of its video streams, from 0; None is the first that can be decoded.
    """
    path = Path(path)
    if is_sequence(path):
        return Fields()
    try:
        facts = path.stat()
        return _fields(path, facts.st_size, facts.st_mtime_ns, stream)
    except (OSError, GpenvideoError):
        return Fields()


@lru_cache(maxsize=64)
def _fields(path: Path, size: int, changed_ns: int, stream: int | None) -> Fields:
    with contextlib.closing(open_container(path)) as container:
        videos = [s for s in container.streams.video if not s.disposition & ATTACHED_PICTURE]
        chosen = videos[:1] if stream is None else videos[stream : stream + 1]
        if stream is None:
            chosen = [s for s in videos if s.codec_context is not None][:1]
        if not chosen or chosen[0].codec_context is None:
            return Fields()
        flagged = FLAGS.get(int(getattr(chosen[0].codec_context, "field_order", 0)), "unknown")
        look = _Look(container, chosen[0])
        places = list(look.places())
        return judged(places, flagged, look.pixel_format)


class _Look:
    """Looks at some places of a stream."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        stream.codec_context.thread_type = "AUTO"
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        self.pixel_format = ""

    def places(self) -> Iterator[list[Verdict]]:
        """The verdicts of each place; of a short file, or one that cannot be sought in, of its beginning."""
        starts = self._starts()
        if starts:
            for start in starts:
                with contextlib.suppress(av.FFmpegError):
                    self._container.seek(start, stream=self._stream)
                    yield self._verdicts(PICTURES + UNSETTLED)[UNSETTLED:]
            return
        verdicts = self._verdicts(PLACES * PICTURES)
        lots = max(1, round(len(verdicts) / PICTURES))
        for lot in range(lots):
            yield verdicts[len(verdicts) * lot // lots : len(verdicts) * (lot + 1) // lots]

    def _starts(self) -> list[int]:
        """From where to look, in ticks: the first at the beginning."""
        stream = self._stream
        length = stream.duration or 0
        if not length and self._container.duration:
            length = round(Fraction(self._container.duration, 10**6) / stream.time_base)
        rate = stream.average_rate or stream.guessed_rate or 25
        if stream.start_time is None or length * stream.time_base * rate <= 2 * PLACES * PICTURES:
            return []
        return [stream.start_time + length * place // PLACES for place in range(PLACES)]

    def _verdicts(self, most: int) -> list[Verdict]:
        graphs, size = (FilterGraph(IDET), FilterGraph(SURE)), None
        told: tuple[list[Any], list[Any]] = ([], [])
        with contextlib.suppress(av.FFmpegError, GpenvideoError):
            for number, picture in enumerate(self._decoded(most * PATIENCE)):
                size = size or (picture.width, picture.height, picture.format.name)
                self.pixel_format = self.pixel_format or picture.format.name
                if size != (picture.width, picture.height, picture.format.name):
                    break
                picture.pts, picture.time_base = number, Fraction(1, 25)
                for graph, said in zip(graphs, told, strict=True):
                    said += [seen.metadata for seen in graph(picture)]
                if number + 1 >= most:
                    break
            for graph, said in zip(graphs, told, strict=True):
                said += [seen.metadata for seen in graph.finish()]
        return [_verdict(said, sure) for said, sure in zip(*told, strict=False)]

    def _decoded(self, most: int) -> Iterator[Any]:
        """The pictures of the next packets; what is damaged is passed over."""
        context = self._stream.codec_context
        with contextlib.suppress(av.FFmpegError):
            for packet in itertools.islice(self._container.demux(self._stream), most):
                with contextlib.suppress(av.FFmpegError):
                    yield from context.decode(packet if packet.size else None)


def _verdict(said: dict[str, str], sure: dict[str, str]) -> Verdict:
    single, surely = (each["lavfi.idet.single.current_frame"] for each in (said, sure))
    return Verdict(single, said["lavfi.idet.repeated.current_frame"], surely in ("tff", "bff"))


def judged(places: Sequence[Sequence[Verdict]], flagged: str = "unknown", pixel_format: str = "") -> Fields:
    """What a stream is, of what idet says in some places of it.

    Places where nothing moves do not count. One kind in all others is that kind; more than one is mixed.
    """
    flat = [verdict for place in places for verdict in place]
    top, bottom = (sum(v.single == order for v in flat) for order in ("tff", "bff"))
    first: Literal["tff", "bff"] = "tff" if top > bottom or (top == bottom and flagged != "bff") else "bff"
    kinds = {kind for kind in map(_kind, places) if kind != "still"}
    sure = sum(v.sure for v in flat) >= max(2, LEAST_SURE * (top + bottom))
    if not sure and flagged not in ("tff", "bff") and "telecined" not in kinds:
        kinds &= {"progressive"}
    kind: Kind = "still" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"
    return Fields(kind, first, flagged, top + bottom, len(flat), pixel_format)


def _kind(place: Sequence[Verdict]) -> Kind:
    """What one place is."""
    top, bottom, whole = (sum(v.single == kind for v in place) for kind in ("tff", "bff", "progressive"))
    combed = top + bottom
    if combed + whole < LEAST:
        return "still"
    if combed < LEAST or combed <= WHOLE * (combed + whole):
        return "progressive" if whole >= LEAST else "still"
    if _is_telecined([v.repeated for v in place], combed + whole):
        return "telecined"
    if combed < COMBED * (combed + whole) or min(top, bottom) > WHOLE * combed:
        return "mixed"
    return "tff" if top > bottom else "bff"


def _is_telecined(repeated: Sequence[str], moving: int) -> bool:
    """Whether fields repeat as those of film at 3:2: a top one, two (or three) pictures on a bottom one."""
    best = 0
    for phase in range(PULLDOWN):
        tops = repeated[phase::PULLDOWN].count("top")
        for later in (2, 3):
            best = max(best, tops + repeated[(phase + later) % PULLDOWN :: PULLDOWN].count("bottom"))
    known = len(repeated) - repeated.count("neither")
    return best >= max(PULLDOWN, REPEATED * moving) and best >= IN_STEP * known
