"""Scenes to train a detector on: labelled portraits, pasted onto backgrounds and degraded as film is.

    labels = label_portraits("faces", read_portraits("faces", exclude_sources=["london_*"]), teacher)
    scenes = Scenes("faces", labels, background_files, seed=0)
    scene = scenes[0, 5, 320]

A portrait's label is carried to the scene by the pasting. A scene is a function of (seed, key) and of nothing
else, so neither the number of workers nor a restart changes what a run sees.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gpenvideo.degradation import Degradation, Preset, degrade, draw, greyscale
from gpenvideo.errors import MediaError, OptionError, file_error
from gpenvideo.faces.landmarks import MIRRORED
from gpenvideo.faces.portraits import read_picture
from gpenvideo.train.detector_labels import Label

__all__ = ["Scene", "Scenes", "bearable", "flat", "list_backgrounds", "lit", "often_turned", "random_linear"]

Matrix = NDArray[np.float64]
Picture = NDArray[np.uint8]

SMALLEST_FACE_PX, LARGEST_FACE_PX = 12.0, 400.0  # width of the box
LEAST_VISIBLE = 0.65  # of a face's box; less is neither face nor background
PRESETS: tuple[tuple[Preset | None, float], ...] = (
    (None, 0.55), ("mild", 0.2), ("base", 0.12), ("film", 0.13),
)  # fmt: skip
GREY_SHARE = 0.2  # of the scenes, on top of what film takes the colour from
NEGATIVE_SHARE, PORTRAIT_SHARE, CROWD_SHARE = 0.15, 0.3, 0.2  # scenes without a face; one portrait; a crowd
TURNED_WEIGHT, MOST_TURN = 25.0, 0.6  # a face turned by t is drawn 1 + 25 t^2 times as often, t at most 0.6
DISTRACTOR_SHARE, OCCLUDED_SHARE, TILTED_SHARE, FLAT_SHARE = 0.3, 0.15, 0.25, 0.3


class Scene(NamedTuple):
    """A picture and its faces.

    picture    (S, S, 3) uint8 RGB
    boxes      (F, 4) float32, px: left, top, right, bottom
    landmarks  (F, 5, 2) float32, px
    certain    (F,) bool; False where too little is to be seen to call it a face, or no face
    clean      (S, S, 3) uint8 RGB, the picture before it was degraded
    """

    picture: Picture
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    certain: NDArray[np.bool_]
    clean: Picture


def list_backgrounds(
    folder: str | os.PathLike[str], *, held_out_every: int = 8
) -> tuple[list[Path], list[Path]]:
    """Pictures without faces to train on, and those held out: every eighth row of the folder's index.csv.

    Raises FileError when index.csv (column file) cannot be read, MediaError when it is of another kind.
    """
    index = Path(folder) / "index.csv"
    try:
        with index.open(newline="", encoding="utf-8") as file:
            files = [Path(folder) / row["file"] for row in csv.DictReader(file)]
    except OSError as error:
        raise file_error(error, index, "read") from error
    except KeyError as error:
        raise MediaError(f"it has no column {error}; add it", path=index) from error
    held_out = files[::held_out_every]
    return [file for i, file in enumerate(files) if i % held_out_every], held_out


class Scenes(Dataset[Scene]):
    """Scenes by key: `scenes[step, item, size_px]` is a square `Scene` of that size.

    faces        folder of the portraits
    labels       their faces, see `label_portraits`
    backgrounds  files of pictures without faces
    seed         of everything random, 0 or more
    degraded     False leaves the scenes as they were composed

    A scene has no face (15 %), one whole portrait (30 %), a crowd of small heads (20 %) or one to nine heads
    with soft edges; faces are 12 to 400 px wide, evenly on a logarithmic scale. Beside them lie distractors:
    pieces of backgrounds, of clothes and of skin, pasted alike, so that an edge tells nothing. Faces that
    look aside are drawn more often than the portraits have them. A third of the scenes have little contrast;
    about half are degraded (`gpenvideo.degradation`), by no more than the largest face can bear.

    Raises OptionError without labels or backgrounds; as `read_picture` when a scene is made.
    """

    def __init__(
        self,
        faces: str | os.PathLike[str],
        labels: Sequence[Label],
        backgrounds: Sequence[Path],
        *,
        seed: int,
        degraded: bool = True,
    ) -> None:
        if not labels or not backgrounds or seed < 0:
            raise OptionError("scenes need labelled portraits, backgrounds, and a seed of 0 or more")
        self.faces = Path(faces)
        self.labels = list(labels)
        self.backgrounds = list(backgrounds)
        self.seed = seed
        self.degraded = degraded
        self._bounds = often_turned(labels)

    def __getitem__(self, key: tuple[int, int, int]) -> Scene:
        step, item, size_px = key
        rng = np.random.default_rng((self.seed, step, item))
        picture = self._ground(rng, size_px)
        found: list[tuple[Matrix, Matrix]] = []
        kind = rng.random()
        if kind < NEGATIVE_SHARE:
            for _ in range(rng.integers(0, 5)):
                self._paste_distractor(picture, rng, found)
        elif kind < NEGATIVE_SHARE + PORTRAIT_SHARE:
            widths_px = (0.12 * size_px, min(LARGEST_FACE_PX, size_px))
            self._paste_face(picture, rng, found, widths_px, whole=True)
        else:
            crowd = kind < NEGATIVE_SHARE + PORTRAIT_SHARE + CROWD_SHARE
            widths_px = (SMALLEST_FACE_PX, (0.2 if crowd else 0.7) * size_px)
            for number in range(rng.integers(8, 20) if crowd else rng.integers(1, 10)):
                if number and rng.random() < DISTRACTOR_SHARE:
                    self._paste_distractor(picture, rng, found)
                else:
                    self._paste_face(picture, rng, found, widths_px)
        boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        landmarks = np.array([points for _, points in found], np.float32).reshape(-1, 5, 2)
        legible_px = SMALLEST_FACE_PX - 2  # a tilted face may be a little less wide than was drawn
        clean = picture if rng.random() >= FLAT_SHARE else flat(picture, rng)
        picture = clean
        if self.degraded:
            picture, legible_px = _degraded(picture, boxes, rng)
        certain = (_visible(boxes, size_px) >= LEAST_VISIBLE) & (boxes[:, 2] - boxes[:, 0] >= legible_px)
        return Scene(picture, boxes, landmarks, certain, clean)

    def _ground(self, rng: np.random.Generator, size_px: int) -> Picture:
        """A part of a background at 0.6 to 2 times its size; beyond its edges it goes on mirrored."""
        picture = read_picture(self.backgrounds[rng.integers(len(self.backgrounds))])
        if rng.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
        scale = float(np.exp(rng.uniform(*np.log((0.6, 2.0)))))
        left, top = rng.random(2) * np.maximum(np.array(picture.shape[1::-1]) - size_px / scale, 0)
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        ground = cv2.warpAffine(
            picture, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(ground, np.uint8)

    def _paste_face(
        self,
        picture: Picture,
        rng: np.random.Generator,
        found: list[tuple[Matrix, Matrix]],
        widths_px: tuple[float, float],
        *,
        whole: bool = False,
    ) -> None:
        """Paste a portrait where it covers no other face, and note its box and landmarks in `found`."""
        # A portrait mostly looks into the camera, a face in a film does not.
        label = self.labels[int(np.searchsorted(self._bounds, rng.random(), side="right"))]
        size_px = picture.shape[0]
        box, points = np.array(label.box), np.array(label.landmarks)
        width_px = float(np.exp(rng.uniform(*np.log(widths_px))))
        linear = random_linear(rng, width_px / (box[2] - box[0]))
        half = np.abs(box[2:] - box[:2]) / 2
        reach = np.linalg.norm(linear * half, axis=1)  # half the box of the ellipse that the box holds
        for _ in range(6):
            centre = _place(rng, reach, size_px)
            scene_box = np.concatenate([centre - reach, centre + reach])
            if all(_overlap(scene_box, other) < 0.05 for other, _ in found):
                break
        else:
            return
        matrix = np.column_stack([linear, centre - linear @ ((box[:2] + box[2:]) / 2)])
        portrait, reduction = _read_reduced(self.faces / label.file, width_px / (box[2] - box[0]))
        held = None if whole else _widened(box, rng) / reduction
        keep_out = [other for other, _ in found]
        _paste(picture, lit(portrait, rng), _from_reduced(matrix, reduction), held, rng, keep_out)
        moved = points @ linear.T + matrix[:, 2]
        found.append((scene_box, moved[list(MIRRORED)] if np.linalg.det(linear) < 0 else moved))
        if rng.random() < OCCLUDED_SHARE:
            away = rng.uniform(0, 2 * np.pi)
            at = centre + reach * rng.uniform(0.75, 1.0) * np.array([np.cos(away), np.sin(away)])
            self._paste_distractor(picture, rng, found[:-1], at=at, side_px=rng.uniform(0.7, 1.0) * reach[0])

    def _paste_distractor(
        self,
        picture: Picture,
        rng: np.random.Generator,
        found: list[tuple[Matrix, Matrix]],
        *,
        at: Matrix | None = None,
        side_px: float | None = None,
    ) -> None:
        """Paste what is no face: a piece of a background, of the picture below a chin, or of a face."""
        size_px = picture.shape[0]
        if side_px is None:
            side_px = float(np.exp(rng.uniform(*np.log((SMALLEST_FACE_PX, 0.7 * size_px)))))
        kind = rng.random()
        if kind < 0.5:
            source = read_picture(self.backgrounds[rng.integers(len(self.backgrounds))])
            side = min(source.shape[:2]) * rng.uniform(0.1, 0.6)
            corner = rng.uniform(0, np.array(source.shape[1::-1]) - side)
        else:
            label = self.labels[rng.integers(len(self.labels))]
            source = read_picture(self.faces / label.file)
            left, top, right, bottom = label.box
            below = source.shape[0] - bottom - 0.1 * (bottom - top)
            if kind < 0.75 and below > 0.3 * (right - left):
                side = min(below, right - left)
                corner = np.array([rng.uniform(left, right - side), source.shape[0] - side])
            else:
                side = (right - left) * rng.uniform(0.15, 0.35)
                corner = rng.uniform((left, top), (right - side, bottom - side))
        held = np.concatenate([corner, corner + side])
        linear = random_linear(rng, side_px / side)
        centre = rng.uniform(0, size_px, 2) if at is None else at
        matrix = np.column_stack([linear, centre - linear @ (corner + side / 2)])
        _paste(picture, lit(source, rng), matrix, held, rng, [box for box, _ in found])


def often_turned(labels: Sequence[Label]) -> Matrix:
    """Bounds in [0, 1] between labels, such that a random number falls to faces looking aside more often."""
    turns = np.array([_turn(label) for label in labels])
    weights = 1 + TURNED_WEIGHT * np.minimum(turns, MOST_TURN) ** 2
    return np.asarray((np.cumsum(weights) / weights.sum())[:-1])


def _turn(label: Label) -> float:
    """How far a face looks aside: from the eyes' middle to the nose along their line, of their distance."""
    left, right, nose = np.array(label.landmarks[:3])
    along = right - left
    return float(abs((nose - (left + right) / 2) @ along) / (along @ along))


def random_linear(rng: np.random.Generator, scale: float) -> Matrix:
    """A (2, 2) turn, squeeze and mirroring of about that scale."""
    tilted = rng.uniform(-50, 50) if rng.random() < TILTED_SHARE else rng.normal(0, 10)
    cos, sin = np.cos(np.deg2rad(tilted)), np.sin(np.deg2rad(tilted))
    squeeze = rng.uniform(0.75, 1.1) if rng.random() < 0.4 else 1.0
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    return np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror * squeeze, 1.0]) * scale


def _place(rng: np.random.Generator, reach: Matrix, size_px: int) -> Matrix:
    """A centre for a box of half-sizes `reach`: inside, or with up to some 40 % beyond an edge."""
    inset = np.minimum(reach * (0.2 if rng.random() < 0.25 else 1.0), size_px / 2)
    low, high = inset - 0.5, size_px - 0.5 - inset
    return np.asarray(low + rng.random(2) * (high - low), np.float64)


def _widened(box: Matrix, rng: np.random.Generator) -> Matrix:
    """The region of a portrait that comes along with a face: hair and shoulders, now more, now less."""
    width, height = box[2:] - box[:2]
    grown = rng.uniform((0.15, 0.2, 0.15, 0.1), (1.0, 0.8, 1.0, 1.5))
    return np.asarray(box + grown * np.array([-width, -height, width, height]), np.float64)


def lit(picture: Picture, rng: np.random.Generator) -> Picture:
    """The same under another light: exposure, tint and contrast."""
    if rng.random() < 0.4:
        return picture
    gain = rng.uniform(0.55, 1.35) * rng.uniform(0.9, 1.1, 3)
    gamma, lift = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(0, 0.15)
    tone = np.clip((np.linspace(0, 1, 256)[:, None] ** gamma * (1 - lift) + lift) * gain, 0, 1)
    table = np.rint(tone * 255).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table[None]), np.uint8)


def flat(picture: Picture, rng: np.random.Generator) -> Picture:
    """The same with little contrast, as in haze or in the dark."""
    black, white = rng.uniform(0, 60), rng.uniform(90, 255)
    return np.asarray(np.rint(black + picture * ((white - black) / 255)), np.uint8)


def _paste(
    ground: Picture,
    piece: Picture,
    matrix: Matrix,
    held: Matrix | None,
    rng: np.random.Generator,
    keep_out: Sequence[Matrix],
) -> None:
    """Lay the `held` region of `piece` (all of it without one) on the ground, in place.

    Its edges are soft over a random distance; the boxes of `keep_out` stay as they are.
    """
    height, width = piece.shape[:2]
    region = np.array([0, 0, width - 1, height - 1]) if held is None else np.asarray(held)
    region = np.concatenate([np.maximum(region[:2], 0), np.minimum(region[2:], (width - 1, height - 1))])
    size_px = ground.shape[0]
    corners = np.array([region[[0, 1]], region[[2, 1]], region[[0, 3]], region[[2, 3]]])
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.clip(np.floor(moved.min(0)), 0, size_px).astype(int)
    right, bottom = np.clip(np.ceil(moved.max(0)) + 1, 0, size_px).astype(int)
    if right <= left or bottom <= top:
        return
    feather = 0.5 if held is None else max(0.5, rng.uniform(0.0, 0.25) * float(np.ptp(region[[0, 2]])))
    ramps = [
        np.clip((np.minimum(at - low, high - at) + 1) / feather, 0, 1).astype(np.float32)
        for at, low, high in (
            (np.arange(height), region[1], region[3]), (np.arange(width), region[0], region[2])
        )
    ]  # fmt: skip
    alpha = ramps[0][:, None] * ramps[1]
    shifted = matrix - np.array([[0, 0, left], [0, 0, top]])
    size = (int(right - left), int(bottom - top))
    laid = cv2.warpAffine(piece, shifted, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = np.asarray(cv2.warpAffine(alpha, shifted, size, flags=cv2.INTER_LINEAR))
    for box in keep_out:
        x0, y0, x1, y1 = (np.rint(box).astype(int) - (left, top, left, top)).clip(0)
        cover[y0 : y1 + 1, x0 : x1 + 1] = 0
    under = ground[top:bottom, left:right]
    under[:] = np.rint(under + cover[..., None] * (laid - under.astype(np.float32))).astype(np.uint8)


def _degraded(
    picture: Picture, boxes: NDArray[np.float32], rng: np.random.Generator
) -> tuple[Picture, float]:
    """The scene as bad footage shows it, and the width in px from which on a face is still one there."""
    chosen = np.searchsorted(np.cumsum([share for _, share in PRESETS]), rng.random() * 0.9999, side="right")
    preset = PRESETS[int(chosen)][0]
    grey = rng.random() < GREY_SHARE
    if grey:
        picture = np.rint(greyscale(picture.astype(np.float32))).astype(np.uint8)
    if preset is None:
        return picture, SMALLEST_FACE_PX - 2
    largest = float((boxes[:, 2] - boxes[:, 0]).max()) if len(boxes) else rng.uniform(16, 160)
    drawn = bearable(draw(rng, preset), largest)
    limits = (
        11 * (drawn.down_scale or 1),
        12 * (drawn.blur_sigma_px or 0),
        5 * (drawn.motion_length_px or 0),
    )
    return degrade(picture, drawn, rng), max(SMALLEST_FACE_PX - 2, 0.99 * max(limits))


def bearable(drawn: Degradation, width_px: float) -> Degradation:
    """The degradation, no stronger than leaves a face of that width to be seen."""
    down, sigma, length = drawn.down_scale, drawn.blur_sigma_px, drawn.motion_length_px
    return replace(
        drawn,
        down_scale=None if down is None else max(1.0, min(down, width_px / 11)),
        blur_sigma_px=None if sigma is None else min(sigma, width_px / 12),
        motion_length_px=None if length is None else max(1.0, min(length, width_px / 5)),
    )


def _visible(boxes: NDArray[np.float32], size_px: int) -> NDArray[np.float64]:
    """The part of each box that lies on a square picture."""
    inside = np.clip(boxes, -0.5, size_px - 0.5).astype(np.float64)
    area = np.prod(inside[:, 2:] - inside[:, :2], axis=1)
    return np.asarray(area / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), np.float64)


def _overlap(box: Matrix, other: Matrix) -> float:
    """The common area of two boxes, as a part of the smaller one."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    areas = [float(np.prod(one[2:] - one[:2])) for one in (box, other)]
    return float(np.prod(np.maximum(high - low, 0))) / min(areas)


def _read_reduced(path: Path, scale: float) -> tuple[Picture, int]:
    """A picture that is to be shrunk by `scale`, halved while that leaves enough pixels; and how often."""
    picture, reduction = read_picture(path), 1
    while scale * reduction <= 0.5:
        reduction *= 2
    if reduction == 1:
        return picture, 1
    height, width = (side // reduction * reduction for side in picture.shape[:2])
    size = (width // reduction, height // reduction)
    small = cv2.resize(picture[:height, :width], size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), reduction


def _from_reduced(matrix: Matrix, reduction: int) -> Matrix:
    """A matrix for the full picture, made one for the reduced picture: pixel centres move by halves."""
    shift = (reduction - 1) / 2
    return np.column_stack([matrix[:, :2] * reduction, matrix[:, 2] + matrix[:, :2].sum(1) * shift])
