"""Filters: graphs of the FFmpeg inside PyAV, from pictures to pictures.

PyAV makes filters and links them; what it lacks, the reading of graphs as people write them, is here, as the
documentation of FFmpeg has it ("Filtergraph syntax"): chains of filters, labels, quotes and escapes.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import av
import av.filter
from av.filter import Graph

from gpenvideo.errors import OptionError
from gpenvideo.video.pixels import pixel_format

__all__ = ["FilterGraph", "available", "memory_frames", "parse_graph"]

SPACE = " \n\t\r"
INSTEAD = {  # of filters that people ask for and that this FFmpeg is built without
    "hqdn3d": "nlmeans, atadenoise or fftdnoiz",
    "pullup": "fieldmatch, then decimate (or --ivtc)",
    "nnedi": "bwdif or w3fdif",
    "vidstabdetect": "deshake",
    "vidstabtransform": "deshake",
    "zscale": "scale or colorspace",
    "libplacebo": "scale, tonemap or deband",
    "eq": "curves, colorlevels or lutyuv",
    "delogo": "removelogo",
    "smartblur": "gblur or bilateral",
}
MEMORY = {  # how many pictures before and after one a filter looks at, of those that look at so many
    **dict.fromkeys(("avgblur", "bilateral", "cas", "chromanr", "colorbalance", "colorlevels", "crop"), 0),
    **dict.fromkeys(("curves", "dctdnoiz", "deband", "deblock", "format", "gblur", "hflip", "hue"), 0),
    **dict.fromkeys(("limiter", "lut", "lutrgb", "lutyuv", "median", "negate", "nlmeans", "null", "pad"), 0),
    **dict.fromkeys(
        ("removegrain", "scale", "setdar", "setfield", "setparams", "setsar", "unsharp", "vflip"), 0
    ),
    **dict.fromkeys(("bwdif", "w3fdif", "yadif"), 2),
}
COUNTED = re.compile(r"\b[nt]\b")  # in expressions: the number of a picture, its time


class Node(NamedTuple):
    """A filter of a graph, with the labels of what goes in and out."""

    name: str
    arguments: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@cache
def available(name: str) -> bool:
    """Whether the FFmpeg inside PyAV has a filter of that name."""
    return name in av.filter.filters_available


def parse_graph(text: str) -> list[list[Node]]:
    """The chains of a graph as FFmpeg's command line takes it.

    Raises:
        OptionError: it is none, or names a filter that is not there.
    """
    chains: list[list[Node]] = []
    place, more = 0, ";"
    while more:
        node, place = _node(text, place)
        if not available(node.name):
            raise OptionError(_missing(node.name))
        chains = [*chains, [node]] if more == ";" else [*chains[:-1], [*chains[-1], node]]
        more = text[place : place + 1]
        if more and more not in ",;":
            raise OptionError(f"the filter graph {text!r} cannot be read from {text[place:]!r} on")
        place += 1
    return chains


def _node(text: str, place: int) -> tuple[Node, int]:
    inputs, place = _labels(text, place)
    name, place = _token(text, place, "=,;[")
    arguments = ""
    if text[place : place + 1] == "=":
        arguments, place = _token(text, place + 1, "[],;")
    outputs, place = _labels(text, place)
    if not name:
        raise OptionError(f"the filter graph {text!r} has a place without a filter")
    return Node(name.partition("@")[0], arguments, inputs, outputs), place


def _labels(text: str, place: int) -> tuple[tuple[str, ...], int]:
    labels: list[str] = []
    while True:
        while text[place : place + 1] and text[place] in SPACE:
            place += 1
        if text[place : place + 1] != "[":
            return tuple(labels), place
        label, place = _token(text, place + 1, "]")
        if not label or text[place : place + 1] != "]":
            raise OptionError(f"the filter graph {text!r} has a label that does not end, or an empty one")
        labels.append(label)
        place += 1


def _token(text: str, place: int, ends: str) -> tuple[str, int]:
    """What stands before one of `ends`, without one level of quotes and escapes; and where it ends."""
    out, kept = "", 0
    while place < len(text) and text[place] not in ends:
        letter, place = text[place], place + 1
        if letter == "\\" and place < len(text):
            out, place = out + text[place], place + 1
            kept = len(out)
        elif letter == "'":
            close = text.find("'", place)
            close = len(text) if close < 0 else close
            out, place = out + text[place:close], close + 1
            kept = len(out)
        elif out or letter not in SPACE:
            out += letter
    return out[:kept] + out[kept:].rstrip(SPACE), min(place, len(text))


def _missing(name: str) -> str:
    near = difflib.get_close_matches(name, av.filter.filters_available, 3)
    hint = f"there is {INSTEAD[name]}" if name in INSTEAD else f"did you mean {' or '.join(near)}?"
    if not near and name not in INSTEAD:
        hint = "there are nlmeans, removegrain, deflicker, deband, bwdif, scale, crop and others"
    return f"the FFmpeg inside PyAV has no filter {name!r}: {hint}"


def memory_frames(text: str) -> int | None:
    """How many pictures before one a graph may look at to make it; None: not known, maybe all of them."""
    nodes = [node for chain in parse_graph(text) for node in chain]
    known = [None if COUNTED.search(node.arguments) else MEMORY.get(node.name) for node in nodes]
    return None if None in known else sum(frames for frames in known if frames)


class FilterGraph:
    """Puts pictures through a graph: call it for each, in order, and `finish` at the end.

    It takes its size, pixel format, time base and colour from the first picture.

    Args:
        text: chains of filters with one input and one output.
        rate_hz: pictures a second, for filters that want to know; None where it varies.
        sample_aspect: width of a sample over its height.
        ends: filters after all others, with their arguments.

    Raises:
        OptionError: of `parse_graph`; with the first picture: options that a filter does not take, links that
        do not fit. Later: what a filter refuses to do.
    """

    def __init__(
        self,
        text: str,
        *,
        rate_hz: Fraction | None = None,
        sample_aspect: Fraction | None = None,
        ends: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.text, self._chains = text, parse_graph(text)
        self._ends = [Node(name, arguments, (), ()) for name, arguments in ends]
        self._rate_hz, self._aspect = rate_hz, sample_aspect
        self._graph: Any = None
        self._source: Any = None
        self._sink: Any = None
        self._over = False

    def __call__(self, picture: Any) -> Iterator[Any]:
        """The av.VideoFrames that are ready after this one, which stays as it is.

        Their pts are ticks of their own `time_base`, the graph's.
        """
        if self._graph is None:
            self._make(picture)
        yield from self._put(picture)

    def finish(self) -> Iterator[Any]:
        """Those that the graph held back."""
        if self._graph is not None:
            yield from self._put(None)

    def _put(self, picture: Any) -> Iterator[Any]:
        try:
            if not self._over:
                self._source.push(picture)
            while True:
                yield self._sink.pull()
        except BlockingIOError:
            return
        except EOFError:  # some graphs end by themselves
            self._over = True
        except (av.FFmpegError, ValueError) as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> OptionError:
        reason = str(getattr(error, "strerror", None) or error).lower()
        return OptionError(f"the filter graph {self.text!r} does not work on these pictures: {reason}")

    def _make(self, picture: Any) -> None:
        graph = Graph()
        # FFmpeg 8.1's swscale, which a graph may hold unseen, races its own slices above 8 bits
        deep = pixel_format(picture.format.name).layout.depth_bits > 8
        names = {node.name for chain in self._chains for node in chain}
        graph.threads = 1 if deep or names & {"format", "scale"} else 0
        try:
            self._source = graph.add("buffer", _buffer(picture, self._rate_hz, self._aspect))
            self._sink = graph.add("buffersink")
            self._link(graph)
            graph.configure()
        except OptionError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise self._told(error) from error
        self._graph = graph

    def _link(self, graph: Any) -> None:
        """Make the filters, and link them by place and by label."""
        given: dict[str, tuple[Any, int]] = {}
        wanted: dict[str, tuple[Any, int]] = {}
        unnamed = (f"#{number}" for number in itertools.count())
        for chain in self._chains:
            before: Sequence[tuple[Any, int]] = ()
            for node in chain:
                made = self._filter(graph, node)
                pads = [(made, place) for place in range(len(made.inputs))]
                labels, rest = node.inputs, list(pads[len(node.inputs) :])
                self._refuse(len(labels) > len(pads), f"{node.name} has {len(pads)} inputs")
                for label, pad in zip(labels, pads, strict=False):
                    self._refuse(label in wanted, f"[{label}] goes into two filters: put split before them")
                    wanted[label] = pad
                for number, (of, place) in enumerate(before):
                    if number < len(rest):
                        of.link_to(rest[number][0], place, rest[number][1])
                    else:
                        given[next(unnamed)] = (of, place)
                wanted |= {next(unnamed): pad for pad in rest[len(before) :]}
                outs = [(made, place) for place in range(len(made.outputs))]
                self._refuse(len(node.outputs) > len(outs), f"{node.name} has {len(outs)} outputs")
                for label, pad in zip(node.outputs, outs, strict=False):
                    self._refuse(label in given, f"[{label}] is made twice")
                    given[label] = pad
                before = outs[len(node.outputs) :]
            given |= {next(unnamed): pad for pad in before}
        for label in given.keys() & wanted.keys():
            (of, place), (into, number) = given.pop(label), wanted.pop(label)
            of.link_to(into, place, number)
        self._refuse(len(wanted) != 1, f"one input is to be left open, there are {len(wanted)}")
        self._refuse(len(given) != 1, f"one output is to be left open, there are {len(given)}")
        ((into, number),), ((of, place),) = wanted.values(), given.values()
        self._source.link_to(into, 0, number)
        for end in self._ends:
            made = self._filter(graph, end)
            of.link_to(made, place, 0)
            of, place = made, 0
        of.link_to(self._sink, place, 0)

    def _filter(self, graph: Any, node: Node) -> Any:
        try:
            made = graph.add(node.name, node.arguments or None)
        except (av.FFmpegError, ValueError) as error:
            what = f"does not take {node.arguments!r}" if node.arguments else "wants options"
            raise OptionError(f"the filter {node.name} {what}: see ffmpeg -h filter={node.name}") from error
        return made

    def _refuse(self, wrong: bool, why: str) -> None:
        if wrong:
            raise OptionError(f"the filter graph {self.text!r} cannot be linked: {why}")


def _buffer(picture: Any, rate_hz: Fraction | None, aspect: Fraction | None) -> str:
    """The arguments of the source of a graph."""
    known = pixel_format(picture.format.name)
    facts = {
        "video_size": f"{picture.width}x{picture.height}",
        "pix_fmt": picture.format.name,
        "time_base": f"{picture.time_base.numerator}/{picture.time_base.denominator}",
        "range": picture.color_range,
    }
    if aspect:
        facts["pixel_aspect"] = f"{aspect.numerator}/{aspect.denominator}"
    if rate_hz:
        facts["frame_rate"] = f"{rate_hz.numerator}/{rate_hz.denominator}"
    if known.layout.model == "yuv":
        facts["colorspace"] = picture.colorspace
    return ":".join(f"{name}={value}" for name, value in facts.items())
