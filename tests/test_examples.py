"""The examples run as they stand, and stay short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from portraits import decoded_planes, portrait_clip

import gpenvideo
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.gpen import GPEN, GPENConfig, checkpoint
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame
from gpenvideo.picture import read_picture
from gpenvideo.weights import read_manifest

EXAMPLES = Path(__file__).parents[1] / "examples"
LANDMARKS = [(202.1, 101.6), (247.8, 103.5), (223.9, 128.3), (201.2, 139.9), (244.0, 141.6)]


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_stay_short_and_say_what_they_show(example: Path) -> None:
    text = example.read_text()
    assert text.startswith('"""')
    assert text.count("\n") < 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 128 px checkpoint, a portrait, and the portrait's aligned face."""
    from skimage.data import astronaut

    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    network = GPEN(GPENConfig(128, 128, (8, 8, 8, 8, 8, 8), style_dim=16, mapping_layers=2))
    checkpoint.save(network, folder / "net.pth")
    Image.fromarray(astronaut()).save(folder / "portrait.png")
    face = crop(as_frame(astronaut()), crop_from_frame(LANDMARKS, template("gpen", 256)), 256)
    Image.fromarray(np.rint((face + 1) * 127.5).astype(np.uint8)).save(folder / "face.png")
    Image.new("RGB", (200, 200), "teal").save(folder / "nobody.png")
    return folder


def test_restore_portrait(shared: Path, files: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()  # the detector is in the user's cache
    name = read_manifest()["RetinaFace-mobilenet0.25"].file
    detector = shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth"
    (tmp_path / "weights" / name).write_bytes(detector.read_bytes())
    example = EXAMPLES / "restore_portrait.py"
    command = [sys.executable, example, files / "portrait.png", files / "restored.png", files / "net.pth"]
    environment = os.environ | {"GPENVIDEO_CACHE": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 of 1 faces")
    assert (read_picture(files / "restored.png").rgb != read_picture(files / "portrait.png").rgb).any()


def run_gpen(shared: Path, files: Path, *options: str, source: str, size: int = 128) -> tuple[int, str, Path]:
    output = files / f"restored-{source}"
    output.unlink(missing_ok=True)
    detector = shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth"
    command = [sys.executable, EXAMPLES / "run_gpen.py", "--input", files / source, "--output", output]
    command += ["--model_path", files / "net.pth", "--size", str(size), "--detector", detector, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr, output


def test_run_gpen_with_face_align(shared: Path, files: Path) -> None:
    code, errors, output = run_gpen(shared, files, "--face_align", source="portrait.png")
    assert (code, errors) == (0, "")
    assert read_picture(output).rgb.shape == (512, 512, 3)


def test_run_gpen_on_an_aligned_face(shared: Path, files: Path) -> None:
    code, errors, output = run_gpen(shared, files, source="face.png")
    assert (code, errors) == (0, "")
    assert read_picture(output).rgb.shape == (128, 128, 3)


@pytest.mark.parametrize("source", ["portrait.png", "nobody.png"])
def test_run_gpen_refuses_what_is_no_aligned_face(shared: Path, files: Path, source: str) -> None:
    code, errors, output = run_gpen(shared, files, source=source)
    assert code != 0
    assert "--face_align" in errors
    assert errors.count("\n") == 1
    assert not output.exists()


def test_run_gpen_names_the_size_of_the_checkpoint(shared: Path, files: Path) -> None:
    code, errors, output = run_gpen(shared, files, "--face_align", source="portrait.png", size=2048)
    assert code != 0
    assert "--size 128" in errors
    assert not output.exists()


def test_restore_video(tmp_path: Path) -> None:
    source = portrait_clip(tmp_path / "old.mkv", frames=4)
    command = [sys.executable, EXAMPLES / "restore_video.py", source, tmp_path / "restored.mkv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "face 1: from 0.00 s to 0.12 s" in done.stdout
    assert list(decoded_planes(tmp_path / "restored.mkv")) == list(decoded_planes(source))


def test_edit_tracks(tmp_path: Path) -> None:
    source, document = (
        portrait_clip(tmp_path / "old.mkv", frames=4, size=(160, 120)),
        tmp_path / "tracks.json",
    )
    command = [sys.executable, EXAMPLES / "edit_tracks.py", source, tmp_path / "restored.mkv", document]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "track 1: from 0.00 s to 0.12 s" in done.stdout
    assert done.stdout.endswith("4 faces of 1 tracks\n")
    (track,) = gpenvideo.read_tracks(document).tracks
    assert track.strength == 0.7
    assert (tmp_path / "tracks.png").exists()


def test_old_film(tmp_path: Path) -> None:
    source, target = portrait_clip(tmp_path / "old.mkv", frames=4), tmp_path / "master.mkv"
    command = [sys.executable, EXAMPLES / "old_film.py", source, target, "film-8mm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("film-8mm: {")
    assert "4 faces of 1 tracks in 4 pictures" in done.stdout
    assert list(decoded_planes(target)) == list(decoded_planes(source))
    assert json.loads((tmp_path / "master.mkv.json").read_text())["options"]["encode"]["codec"] == "ffv1"


def test_restore_webcam(tmp_path: Path) -> None:
    """With a file in the place of a camera: it ends with it."""
    source = portrait_clip(tmp_path / "webcam.mkv", frames=30)
    command = [sys.executable, EXAMPLES / "restore_webcam.py", source, tmp_path / "restored.mkv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 faces, ")
    frames = int(done.stdout.splitlines()[-1].split()[0])
    assert len(decoded_planes(tmp_path / "restored.mkv")) == frames > 1
