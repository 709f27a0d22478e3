"""Tones: colour pictures made black and white, tinted, or faded, as prints, scans and films are."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["TONES", "pale", "toned"]

Pixels = NDArray[Any]

TONES = ("grey", "sepia", "clipped", "cyanotype", "split", "amber", "night", "faded")


def toned(rgb: Pixels, tone: str) -> Pixels:
    """A picture (H, W, 3) uint8 RGB in one of `TONES`.

    grey       black and white
    sepia      brown as old prints are: a curve, not a factor
    clipped    sepia as image editors have it, whose lights clip
    cyanotype  from Prussian blue to white
    split      blue shadows and yellow lights
    amber      film in a dye bath, for lamplight
    night      the same for moonlight
    faded      film of which one dye is left, and a little of the others
    """
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
    share = grey / 255
    curve = np.sin(np.pi * (20 + grey * (200 / 255)) / 255)
    lights = np.tanh((share - 0.5) * 4)
    channels = {
        "grey": lambda: (grey, grey, grey),
        "sepia": lambda: tuple(20 + grey * (200 / 255) + by * curve for by in (22, 4, -26)),
        "clipped": lambda: (1.351 * grey, 1.203 * grey, 0.937 * grey),
        "cyanotype": lambda: (
            255 * share**1.7 + 10 * (1 - share),
            40 * (1 - share) + 247 * share,
            64 + 191 * share**0.8,
        ),
        "split": lambda: (grey + 12 * lights, grey + 5 * lights, grey - 18 * lights),
        "amber": lambda: (grey, 0.78 * grey, 0.42 * grey),
        "night": lambda: (0.45 * grey, 0.62 * grey, 0.95 * grey + 12),
        "faded": lambda: np.moveaxis(pale(rgb, 0.08) * (0.55, 0.42, 0.42) + (105, 55, 60), 2, 0),
    }[tone]()
    return np.clip(np.rint(np.dstack(list(channels))), 0, 255).astype(np.uint8)


def pale(rgb: Pixels, colour: float) -> Pixels:
    """A picture with a share of its colour left."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    return np.rint(grey + np.float32(colour) * (rgb - grey)).astype(np.uint8)
