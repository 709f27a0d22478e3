"""Views to train a landmark network on: labelled portraits as pictures show them, cut out by rough landmarks.

    views = Views("faces", read_labels("labels.jsonl"), seed=0)
    view = views[5, 17]

A view is a function of (seed, key) and of nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gpenvideo.degradation import Preset, degrade, draw, greyscale
from gpenvideo.errors import OptionError
from gpenvideo.faces.alignment import similarity
from gpenvideo.faces.landmarks import MIRRORED, SIZE_PX, TEMPLATE, view_of
from gpenvideo.faces.portraits import read_picture
from gpenvideo.train.detector_data import bearable, flat, lit, often_turned, random_linear
from gpenvideo.train.detector_labels import Label

__all__ = ["View", "Views"]

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]

PORTRAIT_PX, PORTRAIT_EYES_PX = 224, 36.0  # what is kept of a portrait, and its eyes' distance there
EYES_PX = (6.0, 36.0)  # in the pictures that are made of it
PRESETS: tuple[tuple[Preset | None, float], ...] = (
    (None, 0.45), ("mild", 0.25), ("base", 0.15), ("film", 0.15),
)  # fmt: skip
GREY_SHARE, FLAT_SHARE, OCCLUDED_SHARE, ROUGH_SHARE = 0.25, 0.3, 0.12, 0.3
POINT, TURN_RAD, GROWTH, SHIFT = 0.06, 0.06, 0.07, 0.07  # sigmas of what is wrong with rough landmarks
ROUGHER = 2.2  # times as wrong are some


class View(NamedTuple):
    """A face as a landmark network sees it.

    pixels  (64, 64, 3) uint8 RGB
    moves   (5, 2) float32, px: how far each landmark lies from `gpenvideo.faces.landmarks.TEMPLATE`
    """

    pixels: Picture
    moves: NDArray[np.float32]


class Views(Dataset[View]):
    """Views by key: `views[step, item]`.

    faces     folder of the portraits
    labels    their faces, see `gpenvideo.train.detector_labels.label_portraits`
    seed      of everything random, 0 or more
    progress  is called with (done, total) while the portraits are read

    Faces have eyes 6 to 36 px apart, evenly on a logarithmic scale, are turned, squeezed, lit, flat, grey,
    occluded and degraded as those of a detector's scenes are. All portraits are held in memory: 147 KB each.

    Raises OptionError without labels; as `read_picture`.
    """

    def __init__(
        self,
        faces: str | os.PathLike[str],
        labels: Sequence[Label],
        *,
        seed: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if not labels or seed < 0:
            raise OptionError("views need labelled portraits, and a seed of 0 or more")
        self.seed = seed
        self._bounds = often_turned(labels)
        self._portraits = np.empty((len(labels), PORTRAIT_PX, PORTRAIT_PX, 3), dtype=np.uint8)
        self._landmarks = np.empty((len(labels), *TEMPLATE.shape))
        for i, label in enumerate(labels):
            self._portraits[i], self._landmarks[i] = _kept(
                Path(faces) / label.file, np.array(label.landmarks)
            )
            if progress is not None:
                progress(i + 1, len(labels))

    def __getitem__(self, key: tuple[int, int]) -> View:
        rng = np.random.default_rng((self.seed, *key))
        chosen = int(np.searchsorted(self._bounds, rng.random(), side="right"))
        scale = float(np.exp(rng.uniform(*np.log(EYES_PX)))) / PORTRAIT_EYES_PX
        side = round(PORTRAIT_PX * scale)
        linear = random_linear(rng, scale)
        middle = (PORTRAIT_PX - 1) / 2
        matrix = np.column_stack([linear, (side - 1) / 2 - linear @ np.full(2, middle)])
        portrait, placed = self._portraits[chosen], matrix
        while scale <= 0.5:  # by means, so that nothing is lost between samples
            portrait = np.asarray(
                cv2.resize(portrait, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8
            )
            placed = np.column_stack([placed[:, :2] * 2, placed[:, 2] + placed[:, :2].sum(axis=1) / 2])
            scale *= 2
        picture = cv2.warpAffine(portrait, placed, (side, side), borderMode=cv2.BORDER_REPLICATE)
        landmarks = self._landmarks[chosen] @ linear.T + matrix[:, 2]
        if np.linalg.det(linear) < 0:
            landmarks = landmarks[list(MIRRORED)]
        view, view_from_picture = view_of(_seen(np.asarray(picture, np.uint8), rng), _rough(landmarks, rng))
        places = landmarks @ view_from_picture[:, :2].T + view_from_picture[:, 2]
        if rng.random() < OCCLUDED_SHARE:
            low, sides = rng.integers(0, SIZE_PX, 2), rng.integers(5, 24, 2)
            view[low[1] : low[1] + sides[1], low[0] : low[0] + sides[0]] = rng.integers(0, 256, 3)
        return View(view, (places - TEMPLATE).astype(np.float32))


def _kept(path: Path, landmarks: Points) -> tuple[Picture, Points]:
    """A portrait around its face, upright, and the landmarks there."""
    template = (TEMPLATE + 0.5 - SIZE_PX / 2) * (PORTRAIT_EYES_PX / np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
    matrix = similarity(landmarks, template + (PORTRAIT_PX - 1) / 2)
    picture, reduction = read_picture(path), int(max(1, 1 / np.hypot(*matrix[:, 0])))
    placed = matrix
    if reduction > 1:
        height, width = (length // reduction * reduction for length in picture.shape[:2])
        size = (width // reduction, height // reduction)
        picture = np.asarray(
            cv2.resize(picture[:height, :width], size, interpolation=cv2.INTER_AREA), np.uint8
        )
        shift = matrix[:, :2].sum(axis=1) * ((reduction - 1) / 2)
        placed = np.column_stack([matrix[:, :2] * reduction, matrix[:, 2] + shift])
    size = (PORTRAIT_PX, PORTRAIT_PX)
    kept = cv2.warpAffine(picture, placed, size, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(kept, np.uint8), landmarks @ matrix[:, :2].T + matrix[:, 2]


def _seen(picture: Picture, rng: np.random.Generator) -> Picture:
    """The picture in another light, and as bad footage shows it."""
    picture = lit(picture, rng)
    if rng.random() < FLAT_SHARE:
        picture = flat(picture, rng)
    if rng.random() < GREY_SHARE:
        picture = np.rint(greyscale(picture.astype(np.float32))).astype(np.uint8)
    bounds = np.cumsum([share for _, share in PRESETS])
    preset = PRESETS[int(np.searchsorted(bounds, rng.random() * 0.9999, side="right"))][0]
    if preset is None:
        return picture
    width_px = len(picture) * (2.4 * PORTRAIT_EYES_PX / PORTRAIT_PX)
    return degrade(picture, bearable(draw(rng, preset), width_px), rng)


def _rough(landmarks: Points, rng: np.random.Generator) -> Points:
    """Landmarks as a detector might give them: each a little off, and all of them turned, grown and moved."""
    wrong = ROUGHER if rng.random() < ROUGH_SHARE else 1.0
    eyes_px = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    rough = landmarks + rng.normal(0, POINT * wrong, landmarks.shape) * eyes_px
    turn, growth = rng.normal(0, TURN_RAD * wrong), np.exp(rng.normal(0, GROWTH * wrong))
    cos, sin = growth * np.cos(turn), growth * np.sin(turn)
    middle = rough.mean(axis=0)
    moved = (rough - middle) @ np.array([(cos, sin), (-sin, cos)]) + middle
    return np.asarray(moved + rng.normal(0, SHIFT * wrong, 2) * eyes_px)
