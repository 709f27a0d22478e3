"""The demonstration, a short piece of it: files that play, and a face that is nearer to the truth."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import gpenvideo
from gpenvideo.demo import CAMERA, FRAMES, LANDMARKS, RATE_HZ, SIZE, Demo, melody, run_demo
from gpenvideo.errors import DependencyError, FileError
from gpenvideo.networks import load_detector
from gpenvideo.picture import read_picture
from gpenvideo.video.clip import read_clip

SHORT = 8


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, told: list[str]) -> Demo:
    out = tmp_path_factory.mktemp("demo") / "new"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    restorer = gpenvideo.load(device="cpu")
    done = run_demo(out, restorer, load_detector(), frames=SHORT, progress=told.append)
    torch.set_num_threads(threads)
    return done


def test_every_file_is_there_and_plays(demo: Demo, told: list[str]) -> None:
    assert len(told) >= 4
    files = {demo.clip, *demo.clips.values()}
    assert {path.name for path in files} == {"demo.mp4", "degraded.mp4", "restored.mp4", "truth.mp4"}
    for path in files:
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.width, video.height) == (SIZE[0] * (1 + (path == demo.clip)), SIZE[1])
            assert video.average_rate == RATE_HZ
            assert sum(block.samples for block in container.decode(audio)) > 0
        assert len(list(read_clip(path))) == SHORT
    assert read_picture(demo.sheet).rgb.shape == (3 * 240 + SIZE[1], 2 * SIZE[0], 3)
    assert sorted(path.name for path in demo.sheet.parent.iterdir()) == sorted(
        ["before_after.png", *(path.name for path in files)]
    )


def test_the_face_comes_out_nearer_to_the_truth(demo: Demo) -> None:
    degraded, restored, truth = (demo.quality[name] for name in ("degraded", "restored", "truth"))
    assert restored.psnr_db > degraded.psnr_db + 0.3
    assert restored.ssim > degraded.ssim + 0.02
    assert truth.psnr_db > 35
    assert truth.landmark_error < restored.landmark_error < 0.1
    assert degraded.found == restored.found == truth.found == 1


def test_what_is_no_face_stays(demo: Demo) -> None:
    degraded, restored = (next(read_clip(demo.clips[name])) for name in ("degraded", "restored"))
    changed = np.abs(degraded.astype(int) - restored)
    background, face = changed[250:].mean(), changed[50:130, 165:250].mean()
    assert background < 3  # compressed once more, and nothing else
    assert face > 2 * background


def test_the_whole_path_stays_inside_the_portrait() -> None:
    corners = np.array([(x, y, 1) for x in (-0.5, SIZE[0] - 0.5) for y in (-0.5, SIZE[1] - 0.5)])
    for i in range(FRAMES):
        seen = corners @ CAMERA.picture_from_frame(i / RATE_HZ, (512, 512), SIZE).T
        assert seen.min() >= -0.5
        assert seen.max() <= 511.5


def test_the_marked_landmarks_are_the_faces() -> None:
    from skimage.data import astronaut

    found = load_detector()([np.asarray(astronaut())])[0][0].landmarks
    eyes_px = np.linalg.norm(LANDMARKS[1] - LANDMARKS[0])
    assert np.linalg.norm(found - LANDMARKS, axis=1).max() < 0.15 * eyes_px


def test_the_tune_is_gentle() -> None:
    sound = melody(3.0)
    assert sound.shape == (3 * 48000,)
    assert sound.dtype == np.float32
    assert 0.1 < np.abs(sound).max() < 0.7


def test_without_scikit_image_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(DependencyError, match="pip install scikit-image"):
        run_demo(tmp_path, gpenvideo.load(device="cpu"), load_detector(), frames=1)


def test_a_place_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        run_demo(tmp_path / "file", gpenvideo.load(device="cpu"), load_detector(), frames=1)
