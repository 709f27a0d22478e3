"""Scenes: clips of real faces whose truth is known in every frame, good and made bad, to measure video by.

    subjects = read_subjects("data/faces", 6)
    for scene in bench(subjects, seed=1):
        bad = decayed(scene, "film", seed=1)

Still portraits are filmed by virtual cameras (`gpenvideo.degradation.camera`), cut out and laid over each
other, and made to blink and to speak: where each landmark lies, what is a cut and what is none, is known
without any detector. All is a function of the pictures and the seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.degradation import Preset, degrade, draw
from gpenvideo.errors import OptionError, file_error
from gpenvideo.evaluate.acting import eyes_shut, mouth_open
from gpenvideo.evaluate.staging import (
    FACE_PX,
    RATE_HZ,
    Layer,
    Subject,
    alone,
    astronaut,
    board,
    cutout,
    film,
    ground,
    padded,
    read_subjects,
)
from gpenvideo.video.clip import write_clip

__all__ = [
    "KINDS",
    "Interval",
    "Scene",
    "Subject",
    "astronaut",
    "bench",
    "decayed",
    "make_scene",
    "read_subjects",
    "write_scene",
]

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]
Maker = Callable[[Sequence["Subject"], np.random.Generator], "Scene"]

CROP_PX = 512  # what the ranges of the degradation are made for: the crop of a face, as wide as that
DOWN_SCALES = 1.5, 3.5  # so that there is something to restore, and a crop of 64 px left of each face
GOOD_CRF, BAD_CRF = 8, 23


class Interval(NamedTuple):
    """Frames in which something happens that is no cut: [start, stop)."""

    kind: str
    """"flash", "dissolve", "whip" (a fast pan), "occlusion", "crossing",
    "away" (out of the frame), "blink" or "talk"."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A clip and the truth about it."""

    name: str
    rate_hz: float
    frames: list[Pixels]
    """(H, W, 3) uint8 RGB each, all of one size."""

    faces: list[dict[int, Points]]
    """Of each frame: the (5, 2) float64 landmarks, px, of each person whose face is in it, by a number that
    is the person's own through the scene."""

    hidden: list[frozenset[int]]
    """Of each frame: those of its faces that something else covers for the most part."""

    cuts: tuple[int, ...] = ()
    """The first frame of each shot but the first."""

    intervals: tuple[Interval, ...] = ()


def bench(subjects: Sequence[Subject], seed: int = 0) -> Iterator[Scene]:
    """One scene of each kind, one after another: each holds a hundred megabytes."""
    return (make_scene(kind, subjects, seed) for kind in KINDS)


def make_scene(kind: str, subjects: Sequence[Subject], seed: int = 0) -> Scene:
    """A scene of 640 x 360 px at 25 Hz.

    Args:
        kind: one of `KINDS`.
        subjects: two people or more; the seed chooses among them.
        seed: of all that is random.

    Raises:
        OptionError: another kind, or too few people.
    """
    if kind not in KINDS:
        raise OptionError(f"there is no scene {kind!r}; choose one of {', '.join(KINDS)}")
    if len(subjects) < 2:
        raise OptionError(f"a scene needs two people or more, got {len(subjects)}")
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    chosen = [subjects[i] for i in rng.permutation(len(subjects))]
    return replace(KINDS[kind](chosen, rng), name=kind)


def decayed(scene: Scene, preset: Preset = "film", seed: int = 0) -> Iterator[Pixels]:
    """The frames of a scene made bad, one after another.

    What a film or a camera has (blur, size of the pixels, grain, wear) is drawn once; what changes from frame
    to frame (flicker, weave in the gate, and noise) anew in each. The preset's lengths are those of a face's
    crop of 512 px and are scaled to the faces of a frame. Colour stays, so that the truth can be compared
    with; a gate's weave is part of what is bad and not of the truth's landmarks.

    Args:
        scene: its frames.
        preset: of `gpenvideo.degradation.draw`: "film", or "mild" for a milder one.
        seed: of all that is random.
    """
    rng = np.random.default_rng([seed, 1])
    drawn = draw(rng, preset)
    scale = min(1.0, 2 * FACE_PX / CROP_PX)
    drawn = replace(
        drawn,
        blur_sigma_px=None if drawn.blur_sigma_px is None else drawn.blur_sigma_px * scale,
        motion_length_px=None,  # the camera's motion is known, and another each moment
        down_scale=float(np.clip((drawn.down_scale or 1.0) * scale, *DOWN_SCALES)),
        gamma=None,
        contrast=None,
    )
    for frame in scene.frames:
        film = drawn.film
        if film is not None:
            gain, tilt = rng.normal(0, 0.5, 2) * ((film.flicker_gain or 1.0) - 1, film.flicker_tilt)
            weave = rng.normal(0, 0.5, 2) * (film.weave_px or (0.0, 0.0)) * scale
            film = replace(
                film,
                grey=False,
                flicker_gain=None if film.flicker_gain is None else math.exp(gain),
                flicker_tilt=float(tilt),
                weave_px=None if film.weave_px is None else (float(weave[0]), float(weave[1])),
                field_shift_px=None,  # of motion, too
            )
        yield degrade(frame, replace(drawn, film=film), rng)


def write_scene(
    scene: Scene, folder: str | PathLike[str], preset: Preset = "film", seed: int = 0
) -> dict[str, Path]:
    """Write truth.mp4 (nearly lossless), degraded.mp4 and truth.json into a folder, which is made.

    truth.json holds name, rate_hz, cuts, intervals and for each frame its faces and the hidden ones.

    Returns the three paths by "truth", "degraded" and "json". Raises FileError.
    """
    folder = Path(folder)
    paths = {
        "truth": folder / "truth.mp4",
        "degraded": folder / "degraded.mp4",
        "json": folder / "truth.json",
    }
    document = {
        "name": scene.name,
        "rate_hz": scene.rate_hz,
        "cuts": scene.cuts,
        "intervals": [interval._asdict() for interval in scene.intervals],
        "frames": [
            {
                "faces": {str(person): points.round(3).tolist() for person, points in faces.items()},
                "hidden": sorted(hidden),
            }
            for faces, hidden in zip(scene.faces, scene.hidden, strict=True)
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths["json"].write_text(json.dumps(document) + "\n", encoding="utf-8")
    except OSError as error:
        raise file_error(error, folder, "write") from error
    write_clip(paths["truth"], scene.frames, scene.rate_hz, crf=GOOD_CRF, pixel_format="yuv444p")
    write_clip(paths["degraded"], decayed(scene, preset, seed), scene.rate_hz, crf=BAD_CRF)
    return paths


def _hand(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    keys = [(0.0, 0.42, 0.5, 90.0, 0.0), (2.0, 0.55, 0.47, 125.0, 2.0), (4.0, 0.48, 0.5, 105.0, -2.0)]
    return _scene([alone(subjects[0], keys, rng)], 4.0)


def _fast(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    """Three widths of a face in 1.2 s: the glide's peak is 1.875 times its mean, 4.7 widths a second."""
    keys = [
        (t, x, 0.5, FACE_PX, 0.0)
        for t, x in ((0.5, 0.22), (1.7, 0.78), (2.1, 0.78), (3.3, 0.22), (3.5, 0.22), (4.0, 0.5))
    ]
    return _scene([alone(subjects[0], keys, rng)], 4.4)


def _turn(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    keys = [(t, 0.5, 0.5, FACE_PX, roll) for t, roll in ((0.2, 0.0), (1.2, 25.0), (2.6, -25.0), (3.6, 0.0))]
    return _scene([alone(subjects[0], keys, rng)], 4.0)


def _blink(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    """Lids that close in two frames and open in three, every 0.7 s or so."""
    subject, shut, half = subjects[0], (0.55, 1.0, 0.8, 0.45, 0.15), 0.5 / RATE_HZ
    starts = np.cumsum(rng.integers(14, 24, 5))
    amounts = {int(start) + i: amount for start in starts for i, amount in enumerate(shut)}

    @cache
    def picture(amount: float) -> Pixels:
        return padded(eyes_shut(subject.picture, subject.landmarks, amount))

    keys = [(0.0, 0.48, 0.5, 130.0, -1.0), (4.0, 0.53, 0.48, 145.0, 2.0)]
    layer = alone(subject, keys, rng)
    act = layer._replace(act=lambda time_s: picture(amounts.get(int((time_s + half) * RATE_HZ), 0.0)))
    events = tuple(Interval("blink", int(start), int(start) + len(shut)) for start in starts)
    return replace(_scene([act], 4.6), intervals=events)


def _talk(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    """Syllables, four or five a second, with pauses between words."""
    subject, steps = subjects[0], 12
    phases = rng.uniform(0, 2 * math.pi, 3)

    @cache
    def picture(step: int) -> Pixels:
        return padded(mouth_open(subject.picture, subject.landmarks, step / steps))

    def opening(time_s: float) -> Pixels:
        syllable = 0.5 - 0.5 * math.cos(2 * math.pi * 4.3 * time_s + 2 * math.sin(3 * time_s + phases[0]))
        stress = 0.6 + 0.4 * math.sin(2 * math.pi * 1.1 * time_s + phases[1])
        word = min(1.0, max(0.0, 1.2 + 1.6 * math.sin(2 * math.pi * 0.6 * time_s + phases[2])))
        return picture(round(steps * syllable * stress * word))

    keys = [(0.0, 0.52, 0.46, 130.0, 1.0), (4.0, 0.48, 0.48, 140.0, -2.0)]
    layer = alone(subject, keys, rng)._replace(act=opening)
    scene = _scene([layer], 4.6)
    return replace(scene, intervals=(Interval("talk", 0, len(scene.frames)),))


def _occlusion(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    """A board is carried past in front of a face."""
    person = alone(subjects[0], [(0.0, 0.5, 0.5, 120.0, 0.0), (4.0, 0.52, 0.48, 125.0, 0.0)], rng)
    pass_s = float(rng.uniform(1.6, 2.2))
    way = [(1.0, -0.4, 0.5, 66.0, 5.0), (1.0 + pass_s, 1.4, 0.5, 66.0, -5.0)]
    scene = _scene([person, board(way, rng)], 4.0)
    frames = [i for i, hidden in enumerate(scene.hidden) if hidden]
    return replace(scene, intervals=(Interval("occlusion", frames[0], frames[-1] + 1),))


def _crossing(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    """Two people pass each other, one in front; each looks the same way all the time."""
    end_s = 1.0 + float(rng.uniform(1.6, 2.6))
    y = 0.5 + rng.uniform(-0.03, 0.03, 2)
    behind = [(0.8, 0.22, y[0], 105.0, 0.0), (end_s, 0.78, y[0], 110.0, 0.0)]
    front = [(0.8, 0.80, y[1], 125.0, 0.0), (end_s, 0.20, y[1], 120.0, 0.0)]
    layers = [
        ground(rng),
        cutout(subjects[0], behind, rng, person=1),
        cutout(subjects[1], front, rng, person=2),
    ]
    scene = _scene(layers, end_s + 0.9)
    near = [
        i
        for i, faces in enumerate(scene.faces)
        if len(faces) == 2 and np.hypot(*(faces[1] - faces[2]).mean(axis=0)) < FACE_PX
    ]
    return replace(scene, intervals=(Interval("crossing", near[0], near[-1] + 1),))


def _leaving(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    """One person leaves at the right and comes back after two seconds; another stays."""
    away_s = 2.0 + float(rng.uniform(0.3, 1.0))
    goes = [
        (0.7, 0.65, 0.5, 115.0, 0.0),
        (2.0, 1.25, 0.52, 115.0, 3.0),
        (1.6 + away_s, 1.25, 0.5, 115.0, 3.0),
        (2.9 + away_s, 0.68, 0.5, 120.0, 0.0),
    ]
    stays = [(0.0, 0.25, 0.5, 110.0, 0.0), (4.0, 0.27, 0.48, 115.0, 2.0)]
    layers = [
        ground(rng),
        cutout(subjects[0], stays, rng, person=1),
        cutout(subjects[1], goes, rng, person=2),
    ]
    scene = _scene(layers, 3.8 + away_s)
    away = [i for i, faces in enumerate(scene.faces) if 2 not in faces]
    return replace(scene, intervals=(Interval("away", away[0], away[-1] + 1),))


def _cuts(subjects: Sequence[Subject], rng: np.random.Generator) -> Scene:
    """Shots of 0.5 to 1.3 s with flashes and fast pans in them; a fourth ends in a dissolve."""
    whole: Scene | None = None
    for i in range(14):
        person, whip = i % len(subjects), rng.random() < 0.3
        x, y, width_px = rng.uniform(0.3, 0.7), rng.uniform(0.45, 0.55), rng.uniform(80, 160)
        keys = [(0.0, x, y, width_px, 0.0), (1.3, rng.uniform(0.35, 0.65), y, width_px * 1.1, 0.0)]
        if whip:
            keys = [(0.2, 0.25, y, width_px, 0.0), (0.65, 0.75, y, width_px, 0.0)]
        shot = _scene([alone(subjects[person], keys, rng, person=person + 1)], rng.uniform(0.5, 1.3))
        if whip:
            shot = replace(shot, intervals=(Interval("whip", 5, min(17, len(shot.frames))),))
        elif rng.random() < 0.5 and len(shot.frames) > 15:
            shot = _flashed(shot, 6, int(rng.integers(1, 4)))
        dissolve = int(rng.integers(4, 11)) if rng.random() < 0.25 else 0
        whole = shot if whole is None else _joined(whole, shot, dissolve)
    assert whole is not None
    return whole


def _scene(layers: Sequence[Layer], duration_s: float) -> Scene:
    take = film(layers, duration_s)
    return Scene("", RATE_HZ, take.frames, take.faces, take.hidden)


def _flashed(scene: Scene, start: int, count: int) -> Scene:
    frames = list(scene.frames)
    for i in range(start, start + count):
        frames[i] = np.rint(frames[i] * 0.45 + 140).clip(0, 255).astype(np.uint8)
    return replace(
        scene, frames=frames, intervals=(*scene.intervals, Interval("flash", start, start + count))
    )


def _joined(first: Scene, second: Scene, dissolve: int) -> Scene:
    """One scene after another: by a cut, or over `dissolve` frames of both; the faces are the stronger's."""
    at = len(first.frames) - dissolve
    shares = [(i + 1) / (dissolve + 1) for i in range(dissolve)]
    both = [
        cv2.addWeighted(a, 1 - share, b, share, 0)
        for a, b, share in zip(first.frames[at:], second.frames, shares, strict=False)
    ]
    half = at + dissolve // 2
    return Scene(
        name=first.name,
        rate_hz=first.rate_hz,
        frames=first.frames[:at] + [np.asarray(b, dtype=np.uint8) for b in both] + second.frames[dissolve:],
        faces=first.faces[:half] + second.faces[half - at :],
        hidden=first.hidden[:half] + second.hidden[half - at :],
        cuts=(*first.cuts, *(() if dissolve else (at,)), *(at + cut for cut in second.cuts)),
        intervals=(
            *first.intervals,
            *([Interval("dissolve", at, at + dissolve)] if dissolve else []),
            *(i._replace(start=i.start + at, stop=i.stop + at) for i in second.intervals),
        ),
    )


KINDS: dict[str, Maker] = {
    "hand": _hand,
    "fast": _fast,
    "turn": _turn,
    "cuts": _cuts,
    "occlusion": _occlusion,
    "crossing": _crossing,
    "leaving": _leaving,
    "blink": _blink,
    "talk": _talk,
}
"""hand: pan and zoom with a shaking hand; fast: the face crosses the frame at 4.7 widths a second;
turn: 25 degrees of roll to each side; cuts: 14 shots; leaving: and coming back."""
