"""Finishing: restored faces take on their picture's tint, sharpness and grain, whoever restored them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from gpenvideo.errors import OptionError
from gpenvideo.frame import Frame
from gpenvideo.matching.grain import Key, grain, share_of, strength
from gpenvideo.matching.noise import left, noise, seen
from gpenvideo.matching.place import (
    Pixels,
    Place,
    Window,
    add_to_luma,
    add_to_plane,
    levels,
    luma,
    part,
    set_apart,
    surroundings,
)
from gpenvideo.matching.sharpness import softening
from gpenvideo.matching.tint import Tint, keep_chroma

__all__ = ["Finishing", "Found"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a picture turned out to be, around its restored faces."""

    colour: float
    """0 is black and white or tinted, 1 colour, mean over the faces; see `gpenvideo.matching.tint`."""

    grain: float
    """Standard deviation, levels of 8 bits, mean over the faces; 0 where none was measured or taken on."""


@dataclass(frozen=True, slots=True)
class Finishing:
    """What restored faces take on.

    Raises:
        OptionError: a value that there is not.
    """

    color: str = "keep"
    """"keep": faces of pictures without colour, or with a tint, keep their chroma. "allow": they need not."""

    grain: float | str = "match"
    """"match", "none", or how much of it, in [0, 1]."""

    match_sharpness: bool = False

    def __post_init__(self) -> None:
        if self.color not in ("keep", "allow"):
            raise OptionError(f"color is keep or allow, got {self.color}")
        share_of(self.grain)

    def __call__(
        self,
        result: Frame,
        source: Frame,
        places: Sequence[Place],
        time_s: Fraction,
        tint: Tint | None = None,
    ) -> Found:
        """Finish a frame with restored faces, in place, where they are.

        Args:
            result: `edited`.
            source: the frame before, of the same layout and size.
            places: the faces; where they overlap their weights are changed.
            time_s: of the frame, in the source.
            tint: knows the frames before; None: there are none.
        """
        colours = [1.0] * len(places)
        if self.color == "keep":
            colours = (tint or Tint())(source, places, time_s)
            for place, colour in zip(places, colours, strict=True):
                keep_chroma(result, source, place.window, colour)
        set_apart(places)
        shown = [
            (place, colour) for place, colour in zip(places, colours, strict=True) if place.weights.any()
        ]
        if not (self.match_sharpness or share_of(self.grain)):
            shown = []
        sigmas = [self._match(result, source, place, time_s, colour) for place, colour in shown]
        return Found(_mean(colours, 1.0), _mean(sigmas, 0.0))

    def _match(self, result: Frame, source: Frame, place: Place, time_s: Fraction, colour: float) -> float:
        """Sharpness and grain of one face; the standard deviation of the grain."""
        share, around = share_of(self.grain), surroundings(place.window, source)
        before, after = luma(source, around), luma(result, around)
        weights = _placed(place, around)
        inner = _within(place.window, around)
        change, sigma = np.zeros_like(place.weights), 0.0
        if self.match_sharpness and (blocks := seen(before, after, weights)):
            softer = softening(before, after, weights, noise(blocks))
            after += softer
            change += softer[inner]
        if share:
            more, sigma = _grain(before, after, weights, inner, (time_s, place.track, 0), share)
            change += more
        add_to_luma(result, place.window, change)
        if sigma and colour and source.layout.model == "yuv":
            step = source.layout.step
            coarse, window = part(around, step), part(place.window, step)
            weights = _coarser(place, around, step)
            for plane in (1, 2):
                key = (time_s, place.track, plane)
                given = levels(source, plane, coarse), levels(result, plane, coarse), weights
                more, _ = _grain(*given, _within(window, coarse), key, share * colour)
                add_to_plane(result, plane, window, more)
        return sigma


def _grain(
    before: Pixels, after: Pixels, weights: Pixels, inner: Window, key: Key, share: float
) -> tuple[Pixels, float]:
    """What a face lacks of grain, in a window of its surroundings; and the standard deviation around it."""
    blocks = seen(before, after, weights)
    if blocks is None:
        return np.zeros_like(weights[inner]), 0.0
    of_picture = noise(blocks)
    has = left(blocks, of_picture)
    sigma = strength(of_picture, has)
    if not sigma:
        return np.zeros_like(weights[inner]), 0.0
    return grain(after[inner], weights[inner], of_picture, has, key, share), sigma


def _mean(values: Sequence[float], of_none: float) -> float:
    return sum(values) / len(values) if values else of_none


def _within(window: Window, around: Window) -> Window:
    rows, columns = (
        slice(each.start - wide.start, each.stop - wide.start)
        for each, wide in zip(window, around, strict=True)
    )
    return rows, columns


def _placed(place: Place, around: Window) -> Pixels:
    """A face's weights in a window around it."""
    weights = np.zeros([each.stop - each.start for each in around], dtype=np.float32)
    weights[_within(place.window, around)] = place.weights
    return weights


def _coarser(place: Place, around: Window, step: tuple[int, int]) -> Pixels:
    """The same for planes that are coarser, means."""
    weights = _placed(place, around)
    over = [-side % by for side, by in zip(weights.shape, step[::-1], strict=True)]
    padded = np.pad(weights, ((0, over[0]), (0, over[1])), mode="edge")
    size = padded.shape[1] // step[0], padded.shape[0] // step[1]
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA))
