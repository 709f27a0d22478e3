"""Measures over time: known jitter, lag and flicker are measured as what they are, and blur as blur."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from portraits import portrait

from gpenvideo.analysis import Analysis
from gpenvideo.degradation.camera import CameraPath, Key, Shake, shoot
from gpenvideo.errors import FileError, FileMissing, MediaError, OptionError
from gpenvideo.evaluate import image, region, temporal
from gpenvideo.evaluate.lockstep import Lockstep, Moment
from gpenvideo.evaluate.run import RunMetrics
from gpenvideo.evaluate.trajectories import landmarks_in
from gpenvideo.evaluate.video import VideoEvaluation, evaluate_video
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Rectangle
from gpenvideo.kernels.picture import as_frame
from gpenvideo.networks import load_detector
from gpenvideo.pipeline import Restored
from gpenvideo.video.clip import write_clip

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

RATE_HZ, SIZE, FRAMES = 25, (240, 180), 14
FACE = np.array([(0, 0), (60, 0), (30, 35), (5, 70), (55, 70)], float)
EYES_PX = 60.0
EVERYWHERE = np.ones((120, 160), bool)


def face_at(time_s: Array) -> Array:
    """(T, 5, 2): a face that swings and trembles."""
    x = 200 + 80 * np.sin(2 * np.pi * 0.25 * time_s) + 6 * np.sin(2 * np.pi * 1.7 * time_s + 1)
    y = 150 + 10 * time_s + 4 * np.sin(2 * np.pi * 2.3 * time_s)
    return FACE + np.stack([x, y], axis=-1)[:, None]


TIMES = np.arange(150) / RATE_HZ
TRUTH = face_at(TIMES)


def test_jitter_is_the_second_difference_in_eye_distances() -> None:
    noise_px = 1.5
    shaken = TRUTH + np.random.default_rng(0).normal(0, noise_px, TRUTH.shape)
    expected = noise_px / EYES_PX * math.sqrt(2 * (1 + 4 + 1))  # two coordinates of weights 1, -2, 1
    assert temporal.jitter(shaken, TRUTH) == pytest.approx(expected, rel=0.05)
    assert temporal.jitter(TRUTH, TRUTH) == 0
    assert temporal.jitter(3 * shaken, 3 * TRUTH) == pytest.approx(temporal.jitter(shaken, TRUTH))
    still = np.repeat(TRUTH[:1], 150, axis=0)
    assert temporal.jitter(still) == 0
    assert temporal.jitter(still + shaken - TRUTH) == pytest.approx(expected, rel=0.05)
    there_and_back = still + np.where(np.arange(150) % 2, 1.0, 0.0)[:, None, None]  # by 1 px along both axes
    assert temporal.jitter(there_and_back) == pytest.approx(2 * math.sqrt(2) / EYES_PX)


def test_a_cut_and_a_miss_are_no_jitter() -> None:
    jumped, starts = TRUTH.copy(), np.zeros(150, bool)
    jumped[70:] += 500
    starts[[0, 70]] = True
    assert temporal.jitter(jumped) > 1
    assert temporal.jitter(jumped, starts=starts) == pytest.approx(temporal.jitter(TRUTH), rel=0.05)
    missing = TRUTH.copy()
    missing[40:60] = np.nan
    values = temporal.jitters(missing)
    assert np.flatnonzero(np.isnan(values)).tolist() == [0, 1, *range(40, 62)]
    assert math.isnan(temporal.jitter(np.full((9, 5, 2), np.nan)))
    with pytest.raises(OptionError, match=r"\(T, 5, 2\)"):
        temporal.jitter(np.zeros((4, 5)))


@given(lag=st.floats(-3, 3), noise_px=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 9))
def test_a_lag_is_measured_to_a_twentieth_of_a_frame(lag: float, noise_px: float, seed: int) -> None:
    late = face_at(TIMES - lag / RATE_HZ) + np.random.default_rng(seed).normal(0, noise_px, TRUTH.shape)
    starts = np.zeros(150, bool)
    starts[[0, 90]] = True
    assert temporal.lag_frames(late, TRUTH) == pytest.approx(lag, abs=0.05)
    assert temporal.lag_frames(late + 20, TRUTH, starts) == pytest.approx(lag, abs=0.05)  # a bias is no lag


def test_what_rests_or_is_too_late_has_no_lag() -> None:
    rests = np.repeat(TRUTH[:1], 150, axis=0)
    assert math.isnan(temporal.lag_frames(rests, rests))
    assert math.isnan(temporal.lag_frames(face_at(TIMES - 1.0), TRUTH))
    assert math.isnan(temporal.lag_frames(np.full_like(TRUTH, np.nan), TRUTH))


def test_motion_and_peak_velocity_errors_are_those_of_what_comes_late() -> None:
    steady = FACE + (np.arange(50) * 3.0)[:, None, None] * np.array([1.0, 0])  # 3 px a frame
    late = np.concatenate([steady[:1], steady[:-1]])  # a frame
    errors = temporal.motion_errors(late, steady)
    assert errors[1] == pytest.approx(3 / EYES_PX)  # it rests where the truth goes on
    assert errors[2:] == pytest.approx(0)
    assert temporal.peak_velocity_error(late, steady, np.full(50, 120.0)) == pytest.approx(3 / 120)
    fast = steady.copy()
    fast[25:] += 40  # the one fast step
    wrong = fast.copy()
    wrong[25] -= 12
    assert temporal.peak_velocity_error(wrong, fast, np.full(50, 120.0)) == pytest.approx(
        12 * math.sqrt(2) / 120
    )


def test_angles_between_embeddings() -> None:
    turned = np.array([(math.cos(a), math.sin(a), 0) for a in (0, 0.1, 0.1 + 1e-9, 1.0)]) * [
        [1],
        [2],
        [3],
        [4],
    ]
    assert temporal.angles(turned)[1:] == pytest.approx([0.1, 1e-9, 0.9], rel=1e-6)
    assert np.isnan(temporal.angles(turned, np.array([True, False, True, False]))[[0, 2]]).all()


def moving(number: int, step: tuple[float, float] = (1.6, -0.7), light: float = 0.0) -> Pixels:
    """(120, 160, 3): a part of a face that shifts by a fraction of a pixel."""
    matrix = np.array([(1, 0, 190 + step[0] * number), (0, 1, 70 + step[1] * number)])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(portrait(640), matrix, (160, 120), flags=flags)
    return np.asarray(np.clip(picture.astype(float) + light, 0, 255), np.uint8)


def test_motion_is_found_and_the_truth_fits_itself() -> None:
    moved = temporal.motion(moving(0), moving(1))
    assert moved.known[10:-10, 10:-10].mean() > 0.95
    assert np.median(moved.flow[..., 0]) == pytest.approx(1.6, abs=0.1)
    assert np.median(moved.flow[..., 1]) == pytest.approx(-0.7, abs=0.1)
    error = temporal.warp_error(moving(1), moving(0), moved)
    unmoved = temporal.Motion(np.zeros_like(moved.flow), moved.known)
    assert error < 0.1 * temporal.warp_error(moving(1), moving(0), unmoved)
    with pytest.raises(OptionError, match="32 px"):
        temporal.motion(moving(0)[:20], moving(1)[:20])


def test_flicker_that_is_added_is_what_is_measured() -> None:
    """Light that changes by 6 levels is an error of (6 / 255)^2, whether the face moves or not."""
    added = (6 / 255) ** 2
    moved = temporal.motion(moving(0), moving(1))
    assert temporal.warp_error(moving(1, light=6), moving(0), moved) == pytest.approx(added, rel=0.35)
    rests = temporal.motion(moving(0), moving(0))
    where = temporal.still(moving(0), moving(0), rests)
    assert where.mean() > 0.95
    assert temporal.flicker(moving(0, light=6), moving(0), where) == pytest.approx(added, rel=0.1)
    assert temporal.flicker(moving(0), moving(0), where) == 0
    assert temporal.still(moving(0), moving(1), moved).mean() < 0.05  # it moves
    assert temporal.still(moving(0), moving(0, light=6), rests).mean() < 0.05  # its light changes
    assert math.isnan(temporal.flicker(moving(0), moving(0), ~EVERYWHERE))


def test_another_picture_is_nowhere_known() -> None:
    other = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    assert temporal.motion(moving(0), cv2.GaussianBlur(other, (0, 0), 4)).known.mean() < 0.25


def test_blur_is_steady_but_not_sharp() -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(moving(i) + rng.normal(0, 12, (120, 160, 3)), 0, 255).astype(np.uint8) for i in (0, 1)]
    blurred = [cv2.GaussianBlur(picture, (0, 0), 2.5) for picture in noisy]
    moved = temporal.motion(moving(0), moving(1))
    assert temporal.warp_error(blurred[1], blurred[0], moved) < 0.1 * temporal.warp_error(
        noisy[1], noisy[0], moved
    )
    energies = [region.gradient_energy(p, EVERYWHERE) for p in (noisy[1], blurred[1], moving(1))]
    assert energies[1] < 0.5 * energies[2] < energies[0]


def test_a_region_is_measured_as_a_picture_is() -> None:
    truth = moving(0)
    bad = cv2.GaussianBlur(truth, (0, 0), 1.2)
    a, b = (torch.from_numpy(p).permute(2, 0, 1)[None].double() / 127.5 - 1 for p in (bad, truth))
    assert region.psnr_db(bad, truth, EVERYWHERE) == pytest.approx(float(image.psnr_db(a, b)))
    inner = np.zeros_like(EVERYWHERE)
    inner[5:-5, 5:-5] = True
    assert region.ssim(bad, truth, inner) == pytest.approx(float(image.ssim(a, b)), abs=1e-4)
    sharpness = region.gradient_energy(bad, EVERYWHERE) / region.gradient_energy(truth, EVERYWHERE)
    assert sharpness == pytest.approx(float(image.sharpness(a, b)), rel=1e-6)
    assert region.psnr_db(truth, truth, EVERYWHERE) == pytest.approx(58.9, abs=0.05)
    assert math.isnan(region.ssim(bad, truth, ~EVERYWHERE))


def test_the_region_is_the_face() -> None:
    landmarks = np.array([(202.5, 100.5), (245.6, 103.0), (224, 127), (202.5, 139.5), (244.5, 141)])
    place = region.bounds(landmarks, (512, 512))
    mask = region.inside(landmarks, place)
    assert mask.shape == (place.y1 - place.y0, place.x1 - place.x0)
    for x, y in landmarks.astype(int):
        assert mask[y - place.y0, x - place.x0]
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()
    cut_off = region.bounds(landmarks, (230, 120))
    assert (cut_off.x1, cut_off.y1) == (230, 120)
    assert region.inside(landmarks, cut_off).shape == (cut_off.y1 - cut_off.y0, cut_off.x1 - cut_off.x0)


# Files


@cache
def shots() -> list[Pixels]:
    """A hand-held clip of her face: 14 frames, 240 x 180."""
    path = CameraPath((Key(0.0, x=0.44, y=0.23, width=0.46),), Shake(0.006, 0.3), seed=2)
    return [shot.pixels for shot in shoot(portrait(512), path, SIZE, FRAMES, RATE_HZ)]


def flickering(number: int, picture: Pixels) -> Pixels:
    return np.clip(picture.astype(int) + (9 if number % 2 else -9), 0, 255).astype(np.uint8)


def write(path: Path, pictures: list[Pixels], rate_hz: float = RATE_HZ) -> Path:
    write_clip(path, pictures, rate_hz, codec="libx264rgb", crf=0, pixel_format="rgb24")
    return path


@pytest.fixture(scope="module")
def detector() -> Detector:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = load_detector(device="cpu", threshold=0.5)
    torch.set_num_threads(threads)
    return found


Judge = Callable[..., VideoEvaluation]


@pytest.fixture
def judge(detector: Detector, tmp_path: Path, one_thread: None) -> Judge:
    def run(identity: Callable[..., torch.Tensor] | None = None, **files: Path) -> VideoEvaluation:
        return evaluate_video(
            files,
            tmp_path / "out",
            detector,
            lambda reader: Analysis(detector, reader.info),
            identity=identity,
        )

    return run


def test_the_truth_against_itself_is_perfect(judge: Judge, tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.mkv", shots())
    done = judge(truth=truth, restored=truth)
    found = done.measures["restored"]
    assert (done.frames, done.faces, done.reference) == (FRAMES, FRAMES, "truth")
    assert not done.off
    assert not done.warnings
    for measure in ("warp_ratio", "ssim", "sharpness"):
        assert found[measure] == pytest.approx(1, abs=1e-6), measure
    for measure in ("jitter_to_truth", "tlme", "landmark_error", "peak_velocity_error"):
        assert found[measure] == pytest.approx(0, abs=1e-6), measure
    assert found["lag_frames"] == pytest.approx(0, abs=1e-6)
    assert found["psnr_db"] == pytest.approx(58.9, abs=0.05)
    assert 0 < found["jitter"] < 0.06
    assert set(done.measures["truth"]) == {"warp_error", "flicker", "jitter"}


def test_flicker_and_blur_are_told_apart(judge: Judge, tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.mkv", shots())
    blurred = write(tmp_path / "blurred.mkv", [cv2.GaussianBlur(p, (0, 0), 2) for p in shots()])
    unsteady = write(tmp_path / "unsteady.mkv", [flickering(i, p) for i, p in enumerate(shots())])
    done = judge(truth=truth, restored=blurred, input=unsteady)
    blur, flicker = done.measures["restored"], done.measures["input"]
    assert blur["warp_ratio"] < 1 < 5 < flicker["warp_ratio"]
    assert flicker["warp_error"] == pytest.approx((18 / 255) ** 2, rel=0.1)
    assert blur["sharpness"] < 0.7
    assert flicker["sharpness"] == pytest.approx(1, abs=0.05)
    assert blur["landmark_error"] < 0.15

    with done.files["table"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FRAMES
    assert rows[0]["restored_warp_error"] == ""
    errors = [float(row["input_warp_error"]) for row in rows[1:]]
    assert np.mean(errors) == pytest.approx(flicker["warp_error"], rel=1e-4)
    assert float(rows[3]["time_s"]) == pytest.approx(0.12)
    summary = json.loads(done.files["summary"].read_text())
    assert summary["measures"]["restored"]["sharpness"] == pytest.approx(blur["sharpness"])
    assert np.asarray(Image.open(done.files["plots"])).shape[1] == 1100
    sheet = np.asarray(Image.open(done.files["sheet"]))
    assert sheet.shape[1] == 2 + FRAMES * 130
    assert sheet.shape[0] > 3 * 128
    assert done.worst_s == pytest.approx((0, (FRAMES - 1) / RATE_HZ))


def test_without_the_truth_the_source_is_the_measure(judge: Judge, tmp_path: Path) -> None:
    source = write(tmp_path / "source.mkv", shots())
    unsteady = write(tmp_path / "unsteady.mkv", [flickering(i, p) for i, p in enumerate(shots())])
    done = judge(input=source, restored=unsteady)
    assert done.reference == "input"
    assert done.measures["restored"]["warp_ratio"] > 5
    assert set(done.measures["restored"]) == {
        *("warp_error", "warp_ratio", "flicker", "flicker_ratio", "jitter", "jitter_to_input")
    }
    assert {"psnr_db", "sharpness", "tlme", "lag_frames"} <= set(done.off)


def test_a_late_video_lags(judge: Judge, tmp_path: Path) -> None:
    """Two frames late, on a face that swings: landmarks are measured in the pictures."""
    keys = tuple(Key(i * 0.28, x=0.44 + 0.05 * (-1) ** i, y=0.23, width=0.46) for i in range(5))
    pictures = [s.pixels for s in shoot(portrait(512), CameraPath(keys), SIZE, 28, RATE_HZ)]
    truth = write(tmp_path / "truth.mkv", pictures)
    late = write(tmp_path / "late.mkv", [pictures[max(0, i - 2)] for i in range(28)])
    found = judge(truth=truth, restored=late).measures["restored"]
    assert found["lag_frames"] == pytest.approx(2, abs=0.25)
    assert found["peak_velocity_error"] > 0.1


def test_an_identity_that_wanders_is_seen(judge: Judge, tmp_path: Path) -> None:
    """Embedded by their mean colour, faces turn by the angle between two colours at every frame."""

    def tinted(number: int, picture: Pixels) -> Pixels:
        return picture if number % 2 else np.asarray(picture * [0.5, 1, 1], np.uint8)

    truth = write(tmp_path / "truth.mkv", shots()[:6])
    wandering = write(tmp_path / "wandering.mkv", [tinted(i, p) for i, p in enumerate(shots()[:6])])
    done = judge(lambda crops: (crops + 1).mean(dim=(2, 3)), truth=truth, restored=wandering)
    assert done.measures["truth"]["vidd"] < 0.02
    assert 0.25 < done.measures["restored"]["vidd"] < 0.5


def test_frames_are_paired_by_their_time(judge: Judge, tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.mkv", shots())
    half = write(tmp_path / "half.mkv", shots()[:9:2], Fraction(RATE_HZ, 2))
    done = judge(truth=truth, restored=half)
    assert done.measures["restored"]["psnr_db"] == pytest.approx(58.9, abs=0.05)
    assert done.warnings == [f"{half}: 5 frames where truth.mkv has 14; the 5 of one time were compared"]
    assert math.isnan(done.measures["restored"]["warp_error"])  # no two neighbours


def test_without_a_face_nothing_is_measured(judge: Judge, tmp_path: Path) -> None:
    grey = write(tmp_path / "grey.mkv", [np.full((180, 240, 3), 90, np.uint8)] * 5)
    done = judge(truth=grey, restored=grey)
    assert done.faces == 0
    assert done.warnings == [f"{grey}: no face was found in it, so nothing was measured"]
    assert "sheet" not in done.files
    assert all(math.isnan(v) for v in done.measures["restored"].values())
    assert done.files["plots"].exists()


def test_videos_that_cannot_be_compared(judge: Judge, tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.mkv", shots()[:3])
    small = write(tmp_path / "small.mkv", [p[::2, ::2] for p in shots()[:3]])
    with pytest.raises(OptionError, match=r"small.mkv: it is 120x90 and truth.mkv is 240x180"):
        judge(truth=truth, restored=small)
    with pytest.raises(OptionError, match="name the restored video"):
        judge(truth=truth)
    with pytest.raises(FileMissing):
        judge(truth=truth, restored=tmp_path / "none.mkv")
    (tmp_path / "out").rmdir()
    (tmp_path / "out").write_text("")
    with pytest.raises(FileError):
        judge(truth=truth, restored=truth)


def test_moments_hold_a_frame_of_each(detector: Detector, tmp_path: Path, one_thread: None) -> None:
    files = {
        "truth": write(tmp_path / "truth.mkv", shots()[:6]),
        "restored": write(tmp_path / "more.mkv", shots()[:9]),
    }
    with Lockstep(files, "truth", lambda reader: Analysis(detector, reader.info)) as videos:
        moments = list(videos)
        assert [moment.number for moment in moments] == list(range(6))
        assert [moment.starts_shot for moment in moments] == [True] + [False] * 5
        assert all((m.pictures["truth"] == m.pictures["restored"]).all() for m in moments)
        assert (moments[4].pictures["truth"] == shots()[4]).all()
        assert "9 frames where truth.mkv has 6" in videos.warnings[0]
    found = landmarks_in(moments[0].pictures, moments[0].tracks, detector)
    (track,) = moments[0].tracks
    apart = np.linalg.norm(found["truth"][track.id] - track.face.landmarks, axis=1).mean()
    assert apart < 0.1 * track.face.size_px
    assert isinstance(moments[0], Moment)


# A run


def restored_frame(number: int, source: Pixels, result: Pixels, points: Array, cut: bool = False) -> Restored:
    frames = []
    for pixels in (result, source):
        frame = as_frame(np.ascontiguousarray(pixels))
        frame = type(frame)(frame.planes, frame.layout, frame.colour, number, Fraction(1, RATE_HZ))
        frames.append(frame)
    face = Face(box=(40, 20, 120, 110), landmarks=points, score=1.0)
    track = FaceTrack(1, face, number / RATE_HZ, 0.0, 0.0, 1.0)
    return Restored(*frames, [track], [Rectangle(30, 10, 130, 110)], cut or number == 0)


def test_a_run_tells_how_steady_source_and_result_are() -> None:
    points = FACE + np.array([50, 30])
    run = RunMetrics()
    for i in range(25):
        run.take(restored_frame(i, flickering(i, moving(i)), moving(i), points + 0.1 * i))
    told = run.result()
    assert told["pairs"] == 5  # of a second, one each 0.2 s
    assert told["warp_error"]["source"] == pytest.approx((18 / 255) ** 2, rel=0.2)
    assert told["warp_error"]["result"] < 0.2 * told["warp_error"]["source"]
    assert told["crop_jitter"] == pytest.approx(0, abs=1e-5)  # steady motion is none
    json.dumps(told)

    shaken = RunMetrics()
    for i in range(25):
        shaken.take(restored_frame(i, moving(0), moving(0), points + (i % 2)))
    expected = 2 * math.sqrt(2) / EYES_PX
    assert shaken.result()["crop_jitter"] == pytest.approx(expected, rel=0.1)
    assert shaken.result()["flicker"] == {"source": 0, "result": 0}


def test_a_run_is_not_compared_across_a_cut() -> None:
    run = RunMetrics()
    for i in range(10):
        run.take(restored_frame(i, moving(i), moving(i), FACE + 50 + 30 * (i % 2), cut=True))
    assert run.result() == {
        "pairs": 0,
        "crop_jitter": None,
        "warp_error": {"source": None, "result": None},
        "flicker": {"source": None, "result": None},
    }


def test_one_frame_is_measured_and_none_is_an_error(tmp_path: Path, judge: Judge) -> None:
    truth = write(tmp_path / "truth.mkv", shots()[:1])
    done = judge(truth=truth, restored=write(tmp_path / "one.mkv", shots()[:1]))
    assert done.measures["restored"]["psnr_db"] > 58
    assert math.isnan(done.measures["restored"]["warp_error"])
    empty = tmp_path / "empty.mkv"
    empty.write_bytes(b"")
    with pytest.raises(MediaError):
        judge(truth=truth, restored=empty)
