"""Staging: still portraits as layers, each filmed by a camera of its own, and what is seen of all together.

Where the landmarks of each person lie in each frame is known exactly, and whether something covers them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import invert
from gpenvideo.degradation.camera import STEADY, CameraPath, Key, Shake, Shot, shoot
from gpenvideo.errors import DependencyError, OptionError
from gpenvideo.faces.portraits import read_picture, read_portraits

__all__ = [
    "FACE_PX",
    "RATE_HZ",
    "SIZE",
    "Keys",
    "Layer",
    "Subject",
    "Take",
    "alone",
    "astronaut",
    "board",
    "cutout",
    "film",
    "ground",
    "padded",
    "read_subjects",
]

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

SIZE, RATE_HZ, FACE_PX = (640, 360), 25, 120.0
HAND = Shake(shift=0.003, roll_deg=0.25, zoom=0.004)
SWAY = Shake(shift=0.002, roll_deg=0.3)
HIDDEN_SHARE = 0.5

Keys = Sequence[tuple[float, float, float, float, float]]
"""Time, s; where the face is, as fractions of the frame; how wide it is, px; its turn, degrees clockwise."""


class Subject(NamedTuple):
    """A portrait."""

    picture: Pixels
    """(H, W, 3) uint8 RGB."""

    landmarks: Points
    """(5, 2) float64, px, in the order of `gpenvideo.face.LANDMARKS`."""


class Layer(NamedTuple):
    """A picture that a camera of its own films, and that lies over the layers before it."""

    picture: Pixels
    path: CameraPath
    mask: Pixels | None = None
    """(H, W) uint8, 255 where the picture is opaque; None: everywhere, and mirrored beyond its edges."""

    landmarks: Points | None = None
    person: int = 0
    act: Callable[[float], Pixels] | None = None
    """The picture at a time, s, where it changes."""


class Take(NamedTuple):
    """Frames, and the truth about the faces in them; see `gpenvideo.evaluate.scenes.Scene`."""

    frames: list[Pixels]
    faces: list[dict[int, Points]]
    hidden: list[frozenset[int]]


def read_subjects(
    folder: str | PathLike[str], count: int, *, source: str = "london_neutral", seed: int = 0
) -> list[Subject]:
    """Different people from a folder with a faces.csv, see `gpenvideo.faces.portraits.read_portraits`.

    Raises FileMissing, FileError or MediaError for what cannot be read, OptionError where there are fewer.
    """
    portraits = {one.identity: one for one in read_portraits(folder, only_sources=[source])}
    found = [one for one in portraits.values() if one.landmarks is not None]
    if len(found) < count:
        raise OptionError(f"{count} people are wanted and {len(found)} are there", path=folder)
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    return [Subject(read_picture(Path(folder) / found[i].file), np.array(found[i].landmarks)) for i in chosen]


def astronaut() -> Subject:
    """scikit-image's portrait of Eileen Collins (NASA, public domain); the landmarks are marked by hand.

    Raises DependencyError where scikit-image is not installed.
    """
    try:
        from skimage.data import astronaut as portrait
    except ImportError as error:
        raise DependencyError("the portrait is in scikit-image: pip install scikit-image") from error
    points = [(202.5, 100.5), (245.6, 103.0), (224, 127), (202.5, 139.5), (244.5, 141)]
    return Subject(np.asarray(portrait(), dtype=np.uint8), np.array(points))  # type: ignore[no-untyped-call]


def film(layers: Sequence[Layer], duration_s: float) -> Take:
    """What the cameras of some layers, the hindmost first, see together: `SIZE` px at `RATE_HZ`.

    A face is in a frame when the mean of its landmarks is; it is hidden when other layers lie over more than
    half of what its landmarks weigh.
    """
    take = Take([], [], [])
    for i in range(round(duration_s * RATE_HZ)):
        pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        faces: dict[int, Points] = {}
        over: dict[int, Points] = {}
        for layer in layers:
            pixels, alpha, frame_from_picture = _laid(pixels, layer, i / RATE_HZ)
            for person, points in faces.items():
                over[person] = np.maximum(over[person], _at(alpha, points))
            if layer.landmarks is not None:
                points = layer.landmarks @ frame_from_picture[:, :2].T + frame_from_picture[:, 2]
                x, y = points.mean(axis=0)
                if 0 <= x <= SIZE[0] - 1 and 0 <= y <= SIZE[1] - 1:
                    faces[layer.person], over[layer.person] = points, np.zeros(len(points))
        take.frames.append(pixels)
        take.faces.append(faces)
        take.hidden.append(frozenset(who for who in faces if over[who].mean() > HIDDEN_SHARE))
    return take


def alone(subject: Subject, keys: Keys, rng: np.random.Generator, person: int = 1) -> Layer:
    """A portrait with room around it, filmed by a hand that shakes."""
    height, width = subject.picture.shape[:2]
    wide = Subject(padded(subject.picture), subject.landmarks + np.array([width, height]))
    return Layer(wide.picture, _path(wide, keys, HAND, rng), None, wide.landmarks, person)


def cutout(subject: Subject, keys: Keys, rng: np.random.Generator, person: int) -> Layer:
    """A head, with a soft edge, that sways a little."""
    eyes, mouth = subject.landmarks[:2].mean(axis=0), subject.landmarks[3:].mean(axis=0)
    right = subject.landmarks[1] - subject.landmarks[0]
    unit = math.hypot(*right)
    middle = eyes + 0.12 * (mouth - eyes)
    rows, columns = np.mgrid[: subject.picture.shape[0], : subject.picture.shape[1]]
    dx, dy = columns - middle[0], rows - middle[1]
    u, v = (right[0] * dx + right[1] * dy) / unit**2, (right[0] * dy - right[1] * dx) / unit**2
    mask = np.clip((1 - np.hypot(u / 1.28, v / 1.85)) / 0.12, 0, 1)
    mask = np.rint(255 * mask**2 * (3 - 2 * mask)).astype(np.uint8)
    return Layer(subject.picture, _path(subject, keys, SWAY, rng), mask, subject.landmarks, person)


def board(keys: Keys, rng: np.random.Generator) -> Layer:
    """A painted board, three faces wide and four high, its middle where the keys have a face."""
    picture = _painted(rng, (390, 520))
    middle = Subject(picture, np.array([(162.5, 260), (227.5, 260), (195, 260), (162.5, 260), (227.5, 260)]))
    mask = cv2.blur(np.pad(np.full((512, 382), 255, np.uint8), 4), (5, 5))
    return Layer(picture, _path(middle, keys, STEADY, rng), np.asarray(mask, dtype=np.uint8))


def ground(rng: np.random.Generator) -> Layer:
    """What is behind people, filmed by a hand that shakes."""
    path = CameraPath((Key(0.0, width=0.8), Key(4.0, x=0.52, width=0.76)), HAND, int(rng.integers(1 << 31)))
    return Layer(_painted(rng, (960, 540)), path)


def padded(picture: Pixels) -> Pixels:
    """A portrait with as much room as itself on each side, where its edges run on, more and more blurred."""
    height, width = picture.shape[:2]
    wide = cv2.copyMakeBorder(picture, height, height, width, width, cv2.BORDER_REPLICATE)
    small = cv2.resize(wide, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), max(height, width) / 8 / 12)
    blurred = cv2.resize(blurred, wide.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    x, y = np.arange(wide.shape[1], dtype=np.float32), np.arange(wide.shape[0], dtype=np.float32)[:, None]
    outside = np.hypot(
        np.maximum(np.abs(x - 1.5 * width) - width / 2, 0),
        np.maximum(np.abs(y - 1.5 * height) - height / 2, 0),
    )
    shares = np.clip(outside / (0.25 * max(height, width)), 0, 1)
    return _mixed(np.asarray(wide, np.uint8), np.asarray(blurred, np.uint8), shares)


def _path(subject: Subject, keys: Keys, shake: Shake, rng: np.random.Generator) -> CameraPath:
    """The camera that sees a face where it is to be. The face's width is twice the distance of its eyes."""
    height, width = subject.picture.shape[:2]
    centre, eyes = subject.landmarks.mean(axis=0), subject.landmarks[1] - subject.landmarks[0]
    found = []
    for time_s, x, y, face_px, roll_deg in keys:
        scale, angle = 2 * math.hypot(*eyes) / face_px, -math.radians(roll_deg)
        turn = scale * np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
        seen_x, seen_y = centre - turn @ ((x - 0.5) * SIZE[0], (y - 0.5) * SIZE[1]) + 0.5
        span = scale * SIZE[0] / width
        found.append(Key(time_s, float(seen_x / width), float(seen_y / height), span, math.degrees(angle)))
    return CameraPath(tuple(found), shake, int(rng.integers(1 << 31)))


def _laid(below: Pixels, layer: Layer, time_s: float) -> tuple[Pixels, Points, Points]:
    """The frame with a layer over it, how opaque that is, (H, W) in [0, 1], and its frame_from_picture."""
    picture = layer.picture if layer.act is None else layer.act(time_s)
    height, width = picture.shape[:2]
    picture_from_frame = layer.path.picture_from_frame(time_s, (width, height), SIZE)
    frame_from_picture = invert(picture_from_frame)
    alpha = np.zeros(SIZE[::-1])
    if layer.mask is None:
        return _seen(picture, picture_from_frame, (0, 0, *SIZE)).pixels, alpha + 1, frame_from_picture
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)]) - 0.5
    corners = corners @ frame_from_picture[:, :2].T + frame_from_picture[:, 2]
    x0, y0 = np.floor(corners.min(axis=0)).clip(0, SIZE).astype(int).tolist()
    x1, y1 = np.ceil(corners.max(axis=0) + 1).clip(0, SIZE).astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        return below, alpha, frame_from_picture
    seen = _seen(picture, picture_from_frame, (x0, y0, x1, y1))
    mask = cv2.warpAffine(layer.mask, seen.frame_from_picture, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    alpha[y0:y1, x0:x1] = mask / 255
    out = below.copy()
    out[y0:y1, x0:x1] = _mixed(out[y0:y1, x0:x1], seen.pixels, alpha[y0:y1, x0:x1])
    return out, alpha, frame_from_picture


def _seen(picture: Pixels, picture_from_frame: Points, box: tuple[int, int, int, int]) -> Shot:
    """A part of a frame, (x0, y0, x1, y1) px: taken by a camera that rests where this one is just now."""
    x0, y0, x1, y1 = box
    height, width = picture.shape[:2]
    middle = np.array([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2])
    x, y = (picture_from_frame[:, :2] @ middle + picture_from_frame[:, 2] + 0.5) / (width, height)
    cos, sin = picture_from_frame[:, 0]
    key = Key(0.0, x, y, math.hypot(cos, sin) * (x1 - x0) / width, math.degrees(math.atan2(sin, cos)))
    (shot,) = shoot(picture, CameraPath((key,)), (x1 - x0, y1 - y0), 1, RATE_HZ)
    return shot


def _mixed(below: Pixels, above: Pixels, alpha: NDArray[np.floating]) -> Pixels:
    share = alpha.astype(np.float32)[..., None]
    mixed = below + share * (above.astype(np.float32) - below)
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def _at(plane: Points, points: Points) -> Points:
    """The values of (H, W) at the pixels nearest to some points, held at the edges."""
    x, y = np.rint(points).astype(int).T
    return np.asarray(plane[y.clip(0, plane.shape[0] - 1), x.clip(0, plane.shape[1] - 1)])


def _painted(rng: np.random.Generator, size: tuple[int, int]) -> Pixels:
    """A picture of nothing, with detail at every scale."""
    layers = [
        cv2.resize(rng.normal(0, 0.62**i, (3 * 2**i, 4 * 2**i)), size, interpolation=cv2.INTER_CUBIC)
        for i in range(7)
    ]
    tint = cv2.resize(rng.normal(0, 14, (3, 4, 3)), size, interpolation=cv2.INTER_CUBIC)
    tone = rng.uniform(90, 150) + 30 * np.sum(layers, axis=0)[..., None] + tint
    return np.asarray(np.rint(tone).clip(0, 255), dtype=np.uint8)
