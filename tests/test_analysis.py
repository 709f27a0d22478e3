"""Which faces are where in each frame of a video: against the truth of a virtual camera."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from portraits import portrait, scenery

from gpenvideo.analysis import Analysed, Analysis
from gpenvideo.degradation.camera import CameraPath, Key, Shake, shoot
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.faces.detector import Detector
from gpenvideo.faces.tracker import KEEP
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.kernels.picture import as_frame
from gpenvideo.networks import load_detector

SIZE, RATE_HZ = (480, 270), 25
LANDMARKS = np.array([(202.5, 100.5), (245.6, 103.0), (224, 127), (202.5, 139.5), (244.5, 141)])
PATHS = {
    "rest": CameraPath((Key(0, x=0.45, y=0.3, width=0.5),)),
    "shake": CameraPath((Key(0, x=0.45, y=0.3, width=0.5),), Shake(0.004, 0.3), seed=1),
    "pan": CameraPath((Key(0, x=0.6, y=0.3, width=0.5), Key(2.4, x=0.3, y=0.35, width=0.6, roll_deg=6))),
    "fast": CameraPath((Key(0.8, x=0.63, y=0.3, width=0.5), Key(1.6, x=0.25, y=0.3, width=0.5))),
}

Landmarks = NDArray[np.float64]


@cache
def clip(path: str, frames: int = 60) -> tuple[list[NDArray[np.uint8]], Landmarks]:
    """A noisy clip and where the landmarks are in it."""
    rng, pictures, truth = np.random.default_rng(3), [], []
    for shot in shoot(portrait(1024), PATHS[path], SIZE, frames, RATE_HZ):
        noisy = cv2.GaussianBlur(shot.pixels, (0, 0), 0.9) + rng.normal(0, 9, shot.pixels.shape)
        pictures.append(noisy.clip(0, 255).astype(np.uint8))
        matrix = shot.frame_from_picture
        truth.append((LANDMARKS * 2 + 0.5) @ matrix[:, :2].T + matrix[:, 2])
    return pictures, np.stack(truth)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(threshold=KEEP)


def as_stream(pictures: list[NDArray[np.uint8]]) -> Iterator[Frame]:
    for i, picture in enumerate(pictures):
        yield replace(as_frame(picture), pts=i, time_base=Fraction(1, RATE_HZ))


def stream(detector: Detector, pictures: list[NDArray[np.uint8]], live: bool = False) -> Analysis:
    frame = next(as_stream(pictures))
    time_base = Fraction(1, RATE_HZ)
    info = StreamInfo(frame.width, frame.height, "gbrp", frame.layout, frame.colour, time_base)
    return Analysis(detector, info, live=live)


def analysed(detector: Detector, pictures: list[NDArray[np.uint8]], live: bool = False) -> list[Analysed]:
    return list(stream(detector, pictures, live)(as_stream(pictures)))


def error(found: Landmarks, truth: Landmarks) -> Landmarks:
    """Of where the corners of the aligned crop lie in the frame, in eye distances: (T, 8)."""
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])

    def placed(landmarks: Landmarks) -> Landmarks:
        matrix = crop_from_frame(landmarks, template("ffhq", 1))
        return np.asarray(np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T.ravel())

    eyes_px = np.linalg.norm(truth[:, 1] - truth[:, 0], axis=1).mean()
    return np.asarray([placed(a) - placed(b) for a, b in zip(found, truth, strict=True)]) / eyes_px


def jitter(errors: Landmarks) -> float:
    return float(np.sqrt((np.diff(errors, 2, axis=0) ** 2).mean()))


def raw(detector: Detector, pictures: list[NDArray[np.uint8]]) -> Landmarks:
    """What a detector alone says of each picture."""
    found = [max(faces, key=lambda face: face.score) for picture in pictures for faces in detector([picture])]
    return np.stack([face.landmarks for face in found]).astype(np.float64)


@pytest.mark.parametrize(("live", "steadier"), [(False, 3), (True, 2)])
@pytest.mark.parametrize("path", PATHS)
def test_faces_are_steady_and_followed(detector: Detector, path: str, live: bool, steadier: float) -> None:
    """Jitter against the truth is a third (live a half) of the detector's; nothing lags, however fast."""
    pictures, truth = clip(path)
    frames = analysed(detector, pictures, live)
    assert [len(frame.tracks) for frame in frames] == [1] * len(pictures)
    assert {frame.tracks[0].id for frame in frames} == {1}
    found = np.stack([frame.tracks[0].face.landmarks for frame in frames]).astype(np.float64)
    errors, raw_errors = error(found, truth), error(raw(detector, pictures), truth)
    assert jitter(raw_errors) > steadier * jitter(errors)
    middle = truth.mean(axis=1)
    speed = np.gradient(middle, axis=0)
    off = found.mean(axis=1) - middle
    off -= off.mean(axis=0)
    face_width_px = 2.3 * np.linalg.norm(truth[:, 1] - truth[:, 0], axis=1).mean()
    if np.abs(speed).max() > 1:
        lag_frames = -(off * speed).sum() / (speed**2).sum()
        assert abs(lag_frames) < (1.5 if live else 0.5)
    fastest = int(np.linalg.norm(speed, axis=1).argmax())
    assert np.linalg.norm(off[max(0, fastest - 2) : fastest + 3].mean(axis=0)) < 0.02 * face_width_px


def test_no_track_spans_a_cut(detector: Detector) -> None:
    a, b = clip("rest")[0][:12], clip("pan")[0][:12]
    still = scenery(*SIZE)
    frames = analysed(detector, [*a, *([still] * 8), *b])
    assert [i for i, frame in enumerate(frames) if frame.starts_shot] == [0, 12, 20]
    assert {track.id for frame in frames[:12] for track in frame.tracks} == {1}
    assert all(not frame.tracks for frame in frames[12:20])
    assert {track.id for frame in frames[20:] for track in frame.tracks} == {2}
    assert all(frame.tracks[0].opacity == 1 for frame in (*frames[:12], *frames[20:]))


def test_a_face_that_is_covered_for_a_moment_stays(detector: Detector) -> None:
    """A bar passes before it: for the frames in which it cannot be found it is where it was."""
    pictures, truth = clip("rest")
    covered = [picture.copy() for picture in pictures]
    for i in range(28, 35):
        left = 60 + 55 * (i - 28)
        covered[i][:, left : left + 90] = 70
    frames = analysed(detector, covered)
    assert {track.id for frame in frames for track in frame.tracks} == {1}
    assert [len(frame.tracks) for frame in frames] == [1] * len(frames)
    found = np.stack([frame.tracks[0].face.landmarks for frame in frames]).astype(np.float64)
    eyes_px = np.linalg.norm(truth[0, 1] - truth[0, 0])
    assert np.abs((found - found[20]).mean(axis=1)).max() < 0.15 * eyes_px


def test_others_than_frames_keep_their_place(detector: Detector) -> None:
    pictures, _ = clip("rest")
    items: list[object] = []
    for i, item in enumerate(as_stream(pictures[:30])):
        items += [item, f"packet {i}"]
    for live in (False, True):
        given = list(stream(detector, pictures, live)(items))
        order = [item if isinstance(item, str) else item.frame.pts for item in given]
        assert order == [x for i in range(30) for x in (i, f"packet {i}")]
