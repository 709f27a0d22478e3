"""The weights that ship: offline, with nothing but the project, a bad face becomes a better one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import gpenvideo
from gpenvideo import weights
from gpenvideo.degradation import Degradation, degrade, draw
from gpenvideo.gpen import checkpoint
from gpenvideo.picture import Picture, read_picture, write_picture

BAD = Degradation(
    blur_sigma_px=0.8, down_scale=2.5, up_filter="bicubic", noise_levels=9.0, jpeg_quality=45
)  # a face of some 40 px, soft, noisy and compressed
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def truth() -> NDArray[np.uint8]:
    from skimage.data import astronaut

    return np.asarray(astronaut())


@pytest.fixture(scope="module")
def restorer() -> gpenvideo.GPENRestorer:
    return gpenvideo.load(device="cpu")


def test_what_ships_is_small_and_has_a_card() -> None:
    shipped = [entry for entry in weights.read_manifest().values() if entry.shipped]
    assert {"restorer", "detector", "landmarks"} == {entry.kind for entry in shipped}
    assert sum(entry.bytes for entry in shipped) <= 25e6
    for entry in shipped:
        assert not entry.non_commercial
        card = (weights.bundled_dir() / entry.file).with_suffix(".md").read_text()
        for section in ("Data", "Licence", "Training", "Quality", "Known failures"):
            assert f"## {section}" in card, f"{entry.name}: its card has no {section}"


def test_the_default_restorer_knows_its_own_alignment(restorer: gpenvideo.GPENRestorer) -> None:
    opened = checkpoint.open_checkpoint(weights.find("gpenvideo-face-256"))
    assert opened.args["version"] == "GPEN-BFR-v2.0-256"
    assert restorer.size_px == restorer.output_size_px == 256
    assert restorer.config.template == opened.args["template"]


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_a_bad_face_comes_out_nearer_to_the_truth(
    truth: NDArray[np.uint8], restorer: gpenvideo.GPENRestorer, seed: int
) -> None:
    bad = degrade(truth, BAD, np.random.default_rng(seed))
    restored = gpenvideo.restore_image(bad, restorer)
    face = (slice(60, 165), slice(180, 265))
    before, after = (
        np.square(picture[face].astype(float) - truth[face]).mean() for picture in (bad, restored)
    )
    assert after < before
    assert np.array_equal(restored[300:], bad[300:])


def test_a_grey_face_stays_grey(truth: NDArray[np.uint8], restorer: gpenvideo.GPENRestorer) -> None:
    random = np.random.default_rng(5)
    bad = degrade(truth, draw(random, preset="mild", colour=False), random)
    grey = np.repeat(bad.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    result = gpenvideo.restore_image(grey, restorer).astype(int)
    assert (result != grey).any()
    spread = result.max(axis=2) - result.min(axis=2)
    assert spread.max() <= 2


def test_a_batch_is_as_good_as_one_by_one(restorer: gpenvideo.GPENRestorer) -> None:
    coarse = torch.rand(3, 3, 9, 9) * 2 - 1
    faces = torch.nn.functional.interpolate(coarse, size=256, mode="bicubic").clamp(-1, 1)
    together = restorer(faces)
    alone = torch.cat([restorer(face[None]) for face in faces])
    assert (together - alone).abs().mean() < 0.01


def test_a_picture_is_restored_offline(truth: NDArray[np.uint8], tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    bad = degrade(truth, draw(random, colour=False), random)
    write_picture(Picture(bad), tmp_path / "old.png")
    command = [sys.executable, "-m", "gpenvideo", "restore", "old.png", "-o", "new.png", "--json"]
    environment = os.environ | OFFLINE | {"GPENVIDEO_CACHE": str(tmp_path / "nothing here")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["faces"] == 1
    assert (read_picture(tmp_path / "new.png").rgb != bad).any()
