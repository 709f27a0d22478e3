"""The demonstration: a clip of a real face, made as bad as old video, restored with the default weights.

A virtual camera moves over a public-domain portrait, so the truth of every frame is known: its pixels, and
where the eyes, the nose and the mouth are in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.degradation import Degradation, degrade
from gpenvideo.degradation.camera import CameraPath, Key, Shake, Shot, shoot
from gpenvideo.errors import DependencyError, file_error
from gpenvideo.face import Face
from gpenvideo.faces.detector import Detector
from gpenvideo.picture import Picture, write_picture
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.report import Report
from gpenvideo.restorer import Restorer
from gpenvideo.transcode import restore_video
from gpenvideo.video.clip import read_clip, write_clip

__all__ = ["Demo", "Quality", "run_demo"]

Pixels = NDArray[np.uint8]
Progress = Callable[[str], None]

FRAMES, RATE_HZ, SIZE = 175, 25, (480, 360)
CAMERA = CameraPath(
    (
        Key(0.3, x=0.5, y=0.42, width=0.94),
        Key(3.6, x=0.445, y=0.335, width=0.70, roll_deg=-2.5),
        Key(6.8, x=0.455, y=0.30, width=0.62, roll_deg=3.0),
    ),
    Shake(shift=0.003, roll_deg=0.25),
    seed=4,
)
LANDMARKS = np.array([(202.5, 100.5), (245.6, 103.0), (224, 127), (202.5, 139.5), (244.5, 141)])
"""Of the portrait, marked by hand: the order is that of `gpenvideo.face.LANDMARKS`."""

BAD = Degradation(blur_sigma_px=1.2, down_scale=3.0, up_filter="bicubic", noise_levels=18.0)
BAD_CRF, GOOD_CRF = 31, 12
NOTES_HZ = (261.6, 329.6, 392.0, 523.3, 440.0, 392.0, 329.6, 293.7)  # C E G c A G E D
SOUND_RATE_HZ = 48000
CLIPS = ("degraded", "restored", "truth")
MOMENTS = 4  # of the contact sheet
SEARCH_EVERY = 4  # frames, for the landmark error


@dataclass(frozen=True, slots=True)
class Quality:
    """How near a clip is to the truth."""

    psnr_db: float
    """Of the face, over all frames."""

    ssim: float
    """Of the face, in [-1, 1]: the mean over all frames."""

    landmark_error: float
    """How far the landmarks lie from those found in the true frame: mean distance, in eye distances.

    Both by the detector, whose own error is as large in the true frames and would hide the difference.
    """

    found: float
    """Share of the frames searched in which the detector finds a face."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demonstration wrote, and how good it is."""

    clip: Path
    """degraded and restored side by side, with sound."""

    sheet: Path
    """The face at a few moments, degraded, restored and true, and a whole frame before and after."""

    clips: dict[str, Path]
    """"degraded", "restored" and "truth", a video each."""

    quality: dict[str, Quality]
    """Of the same three; the truth's is what its own compression costs."""

    report: Report
    """Of the restoration."""


def run_demo(
    out: str | PathLike[str],
    restorer: Restorer,
    detector: Detector,
    *,
    frames: int = FRAMES,
    progress: Progress | None = None,
) -> Demo:
    """Make a bad clip of a public-domain portrait (scikit-image's astronaut, NASA), restore it, compare.

    Args:
        out: the folder for demo.mp4, before_after.png, degraded.mp4, restored.mp4 and truth.mp4; it is made.
        restorer, detector: the networks.
        frames: how much of the clip.
        progress: told in a few words what is done next.

    Raises:
        DependencyError: scikit-image is not installed.
        FileError: the folder cannot be written.
    """
    portrait, folder, tell = _portrait(), Path(out), progress or (lambda _: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, folder, "write") from error
    clips = {name: folder / f"{name}.mp4" for name in CLIPS}
    sound = melody(frames / RATE_HZ)
    tell("filming the truth")
    shots = list(shoot(portrait, CAMERA, SIZE, frames, RATE_HZ))
    write_clip(clips["truth"], (s.pixels for s in shots), RATE_HZ, sound=sound, crf=GOOD_CRF)
    tell("making it bad")
    random = np.random.default_rng(0)
    bad = (degrade(s.pixels, BAD, random) for s in shots)
    write_clip(clips["degraded"], bad, RATE_HZ, sound=sound, crf=BAD_CRF)
    tell("restoring it")
    options = RestoreOptions(grain="none")  # which would count as error
    report = restore_video(
        clips["degraded"], clips["restored"], weights=restorer, detector=detector, options=options
    )
    tell("comparing")
    quality = {name: measure(read_clip(path), shots, detector) for name, path in clips.items()}
    pairs = zip(read_clip(clips["degraded"]), read_clip(clips["restored"]), strict=True)
    write_clip(folder / "demo.mp4", map(np.hstack, pairs), RATE_HZ, sound=sound, crf=16)
    write_picture(Picture(_sheet(clips, shots)), folder / "before_after.png")
    return Demo(folder / "demo.mp4", folder / "before_after.png", clips, quality, report)


def melody(duration_s: float) -> NDArray[np.float32]:
    """A gentle tune, plucked: (N,) float32 in [-1, 1] at 48 kHz."""
    sound = np.zeros(round(duration_s * SOUND_RATE_HZ) + 1, np.float32)
    every = round(0.44 * SOUND_RATE_HZ)
    for i, start in enumerate(range(0, len(sound), every)):
        time_s = np.arange(len(sound) - start) / SOUND_RATE_HZ
        pluck = np.exp(-3 * time_s) * (1 - np.exp(-200 * time_s))
        phase = 2 * np.pi * NOTES_HZ[i % len(NOTES_HZ)] * time_s
        sound[start:] += 0.2 * pluck * (np.sin(phase) + 0.3 * np.sin(2 * phase) + 0.1 * np.sin(3 * phase))
    return sound[:-1]


def measure(clip: Iterable[Pixels], shots: Iterable[Shot], detector: Detector) -> Quality:
    """Compare a clip with the truth, frame by frame, on the face.

    Args:
        clip: (H, W, 3) uint8 RGB each.
        shots: the truth, as many.
        detector: finds the landmarks.
    """
    squares, ssims, distances = [], [], []
    for i, (pixels, shot) in enumerate(zip(clip, shots, strict=True)):
        landmarks = _landmarks(shot)
        face = _square(landmarks, 1.25)
        squares.append(np.mean((pixels[face].astype(np.float64) - shot.pixels[face]) ** 2))
        ssims.append(_ssim(pixels[face], shot.pixels[face]))
        if i % SEARCH_EVERY == 0:
            faces, true_faces = detector([pixels, shot.pixels])
            distances.append(_distance(faces, true_faces) / _eye_distance(landmarks))
    psnr_db = 10 * math.log10(255**2 / max(float(np.mean(squares)), 1e-9))
    found = np.isfinite(distances)
    error = float(np.mean(distances, where=found)) if found.any() else math.nan
    return Quality(psnr_db, float(np.mean(ssims)), error, float(found.mean()))


def _portrait() -> Pixels:
    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise DependencyError("the demo's portrait is in scikit-image: pip install scikit-image") from error
    return np.asarray(astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]


def _ssim(a: Pixels, b: Pixels) -> float:
    from skimage.metrics import structural_similarity

    return float(structural_similarity(a, b, channel_axis=2))  # type: ignore[no-untyped-call]


def _distance(faces: list[Face], true_faces: list[Face]) -> float:
    """How far the landmarks of the best face are from the true ones, px; NaN where there is no face."""
    if not faces or not true_faces:
        return math.nan
    return float(np.linalg.norm(faces[0].landmarks - true_faces[0].landmarks, axis=1).mean())


def _landmarks(shot: Shot) -> NDArray[np.float64]:
    """(5, 2) float64: where the portrait's landmarks are in a frame, px."""
    return LANDMARKS @ shot.frame_from_picture[:, :2].T + shot.frame_from_picture[:, 2]


def _eye_distance(landmarks: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(landmarks[1] - landmarks[0]))


def _square(landmarks: NDArray[np.float64], reach: float) -> tuple[slice, slice]:
    """The rows and columns of a frame within `reach` eye distances of a face's middle."""
    half = reach * _eye_distance(landmarks)
    x, y = landmarks.mean(axis=0)
    return _span(y, half, SIZE[1]), _span(x, half, SIZE[0])


def _span(middle: float, half: float, size: int) -> slice:
    return slice(max(0, round(middle - half)), min(size, round(middle + half)))


def _sheet(clips: dict[str, Path], shots: list[Shot]) -> Pixels:
    """A moment a column and a clip a row; below them a whole frame before and after."""
    chosen = np.linspace(0, len(shots) - 1, 2 * MOMENTS + 1).round().astype(int)[1::2]
    side = 2 * SIZE[0] // MOMENTS
    rows, whole = [], []
    for path in clips.values():
        shown = {i: pixels for i, pixels in enumerate(read_clip(path)) if i in chosen}
        faces = [shown[i][_square(_landmarks(shots[i]), 1.5)] for i in chosen]
        rows.append(np.hstack([_enlarged(face, side) for face in faces]))
        whole.append(shown[chosen[MOMENTS // 2]])
    pictures = [*rows, np.hstack(whole[:2])]
    for picture, label in zip(pictures, (*CLIPS, "degraded, restored"), strict=True):
        for grey, offset in ((0, 1), (255, 0)):  # white with a dark shade
            place = (8 + offset, picture.shape[0] - 10 + offset)
            cv2.putText(picture, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (grey,) * 3, 1, cv2.LINE_AA)
    return np.vstack(pictures)


def _enlarged(pixels: Pixels, side_px: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (side_px, side_px), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
