"""Settled faces: what a network made of a face, averaged over time where nothing but noise had changed.

Steady crops still have some noise, and a network answers it with detail that comes and goes. The crops told
what became of the face from one to the next (`gpenvideo.steady.change`): so the mean of what was made is
carried along, and a pixel becomes mean + weight (made - mean), with a weight of 1 where the crop was another
- a blink is what the network made of it - and of 1 - exp(-step / 0.15 s) in the end where it rests.

A mean starts anew with each period of `gpenvideo.means`, for to warm it up would take the network. Towards
that moment its memory becomes shorter, so that there is no step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

import cv2
import numpy as np

from gpenvideo.means import FORGET_S, PERIOD_S
from gpenvideo.steady.change import Change, Pixels, array, carried, enlarged, mixed, shrunk

__all__ = ["SETTLED_PX", "Settled", "settled"]

MEMORY_S = 0.15
FADE_S = 0.5  # before a period ends
SETTLED_PX = 512  # what is finer than in faces of this size stays as it was made
SPREAD = 2  # cells around a change that are the new crop's, too: networks look further than a pixel

Picture = TypeVar("Picture")  # of a face: an array, or a tensor on a device
Step = Callable[[Picture | None, Picture, Change | None, Pixels], tuple[Picture, Picture]]


@dataclass(frozen=True, slots=True, eq=False)
class _Mean(Generic[Picture]):
    """Of what was made of one track."""

    picture: Picture
    seen: Pixels  # how many are in each cell
    time_s: Fraction
    period: int


class Settled(Generic[Picture]):
    """The means of what was made of the faces of one stream; see the module.

    Args:
        step: what makes one more of them: `settled`, or its like on a device.
    """

    def __init__(self, step: Step[Picture]) -> None:
        self._step = step
        self._means: dict[int, _Mean[Picture]] = {}

    def cut(self) -> None:
        """A shot starts: nothing crosses a cut."""
        self._means.clear()

    def __call__(self, track: int, time_s: Fraction, made: Picture, change: Change | None) -> Picture:
        """What is shown of a track.

        Args:
            track: its id.
            time_s: in the stream; later than the track's last.
            made: its face, restored; always of one size. It stays unchanged.
            change: of its crop since the last; None: it is new.
        """
        self._means = {id: mean for id, mean in self._means.items() if time_s - mean.time_s < FORGET_S}
        period = math.floor(time_s / PERIOD_S)
        before = self._means.get(track)
        if change is None or before is None or before.period != period:
            one = np.ones((1, 1), dtype=np.float32)
            picture, shown = self._step(None, made, None, one)
            seen = one
        else:
            left_s = float((period + 1) * PERIOD_S - time_s)
            least = np.float32(-math.expm1(-change.step_s / (MEMORY_S * min(1.0, left_s / FADE_S))))
            other = array(cv2.dilate(change.where, np.ones((2 * SPREAD + 1,) * 2, dtype=np.uint8)))
            seen = before.seen * (1 - other) + 1
            picture, shown = self._step(before.picture, made, change, np.maximum(1 / seen, least))
            seen = np.minimum(seen, 1 / least)
        self._means[track] = _Mean(picture, seen, time_s, period)
        return shown


def settled(
    mean: Pixels | None, made: Pixels, change: Change | None, weight: Pixels
) -> tuple[Pixels, Pixels]:
    """The mean with one more face in it, and that face as it is shown.

    Args:
        mean: (W, W, 3) float32 RGB about [-1, 1], as the call before gave it; None: there was none.
        made: (S, S, 3), the face.
        change: since the call before.
        weight: (n, n) in [0, 1], of the new face.

    Returns:
        The mean, and (S, S, 3) float32, which may be the mean: read them, do not write.
    """
    small = shrunk(made, SETTLED_PX)
    if mean is None or change is None:
        return small, made
    mean = mixed(carried(mean, change), small, weight)
    if len(small) == len(made):
        return mean, mean
    return mean, array(cv2.add(made, enlarged(array(cv2.subtract(mean, small)), len(made))))
