"""The training loop: that it learns, goes on exactly, writes what it says, and refuses what it cannot do."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from gpenvideo.degradation import Degradation, degrade, draw
from gpenvideo.errors import CheckpointError, DeviceError, FileMissing, OptionError
from gpenvideo.evaluate.image import psnr_db
from gpenvideo.gpen import checkpoint
from gpenvideo.gpen.generator import GPEN
from gpenvideo.train.data import FaceFolder
from gpenvideo.train.loop import dry_run, train, training_step
from gpenvideo.train.losses import LossWeights, Terms
from gpenvideo.train.options import (
    TrainOptions,
    make_options,
    network_values,
    read_options,
    write_options,
)
from gpenvideo.train.state import TrainState, in_precision

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 crops of one photograph for training, 8 others held out."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    picture = astronaut()
    for index in range(72):
        group = folder / ("train" if index < 64 else "held")
        group.mkdir(exist_ok=True)
        side = int(rng.integers(96, 200))
        top, left = (int(rng.integers(0, 512 - side)) for _ in range(2))
        crop = cv2.resize(
            picture[top : top + side, left : left + side], (64, 64), interpolation=cv2.INTER_AREA
        )
        Image.fromarray(crop).save(group / f"{index:02d}.png")
    return folder


def options(faces: Path, out: Path, **changes: Any) -> TrainOptions:
    small: dict[str, Any] = {
        "data": str(faces),
        "out": str(out),
        "cache": str(faces.parent / "cache"),
        "validation_sources": ("held",),
        "size_px": 64,
        "narrow": 1 / 16,
        "style_dim": 32,
        "encoder_width": 8,
        "encoder_blocks": (1, 1, 1),
        "batch": 4,
        "steps": 6,
        "tick_every": 1,
        "checkpoint_every": 3,
        "sample_every": 0,
        "validate_every": 0,
        "threads": 1,
        "weights": LossWeights(perceptual=0, identity=0, lpips=0, face=0),
    }
    return TrainOptions(**(small | changes))


def records(out: Path, event: str) -> list[dict[str, Any]]:
    lines = (out / "stats.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def lines(out: Path) -> int:
    stats = out / "stats.jsonl"
    return len(stats.read_text().splitlines()) if stats.exists() else 0


def losses_of(out: Path) -> list[dict[str, float]]:
    timed = ("img_per_s", "data_share")
    return [{k: v for k, v in tick.items() if k not in timed} for tick in records(out, "tick")]


ADVERSARIAL = {
    "adversarial_from_step": 1,
    "adversarial_crop_px": 32,
    "discriminator_narrow": 1 / 16,
    "r1_every": 2,
    "weights": LossWeights(perceptual=0, identity=0, lpips=0, face=0, adversarial=0.1),
}


def test_training_on_64_fixed_pairs_gains_over_the_input(faces: Path, tmp_path: Path) -> None:
    folder = FaceFolder(faces, 64, only_sources=["train"], cache=tmp_path / "cache", jitter=None)
    rng = np.random.default_rng(0)
    noisy = Degradation(noise_levels=25.0)
    clean = [folder.truth(index) for index in range(64)]
    degraded, truth = (
        torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2) / 127.5 - 1
        for side in ([degrade(one, noisy, rng) for one in clean], clean)
    )
    run = options(faces, tmp_path, batch=8, steps=48, lr=1e-2, ema_half_life=80)
    state = TrainState.begin(run)
    for step in range(run.steps):
        some = slice(step % 8 * 8, step % 8 * 8 + 8)
        training_step(state, degraded[some], truth[some], run, Terms((), {}))
    with torch.no_grad():
        restored = state.averaged(degraded)
    gain_db = (psnr_db(restored, truth) - psnr_db(degraded, truth)).mean()
    assert gain_db > 0.7


@pytest.mark.soak
def test_two_thousand_steps_on_64_fixed_pairs_gain_3_db(faces: Path, tmp_path: Path) -> None:
    """Pairs of the base degradation, all of it but the colour shift: about five minutes of one core."""
    folder = FaceFolder(faces, 64, only_sources=["train"], cache=tmp_path / "cache", jitter=None)
    rng = np.random.default_rng(0)
    clean = [folder.truth(index) * np.float32(1 / 255) for index in range(64)]
    degraded, truth = (
        torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2) * 2 - 1
        for side in ([degrade(one, draw(rng, "base", colour=False), rng) for one in clean], clean)
    )
    run = options(
        faces, tmp_path, batch=8, steps=2000, lr=2e-3, late_lr=2e-4, lr_drop_at=0.75, grad_clip=1.0,
        equalized_lr=10.0, ema_half_life=200,
    )  # fmt: skip
    state = TrainState.begin(run)
    for step in range(run.steps):
        some = slice(step % 8 * 8, step % 8 * 8 + 8)
        training_step(state, degraded[some], truth[some], run, Terms((), {}))
    with torch.no_grad():
        restored = state.averaged(degraded)
    assert (psnr_db(restored, truth) - psnr_db(degraded, truth)).mean() >= 3.0


def test_a_run_leaves_what_it_says(faces: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    run = options(faces, tmp_path, tick_every=2, sample_every=6, validate_every=3, validation_pictures=5)
    exported = train(run, seen.append)
    assert seen == [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert seen[0]["event"] == "start"
    assert seen[0]["terms"] == {"pixel": 1.0}
    assert seen[0]["terms_off"]["face"] == "its weight is 0"
    assert [found["step"] for found in records(tmp_path, "validation")] == [3, 6]
    assert {"psnr_db", "ssim", "sharpness", "input_psnr_db"} <= records(tmp_path, "validation")[0].keys()
    assert records(tmp_path, "samples")[0]["file"] == str(Path("samples") / "00000006.png")
    if find_spec("tensorboard"):  # an extra
        assert any((tmp_path / "tensorboard").iterdir())
    with Image.open(tmp_path / "samples" / "00000006.png") as picture:
        assert picture.size == (3 * 64, 8 * 64)
    ticks = records(tmp_path, "tick")
    assert [tick["images"] for tick in ticks] == [8, 12, 16, 24]  # a checkpoint ends a tick
    assert [tick["lr"] for tick in ticks] == pytest.approx([2e-4, 2e-4, 2e-4, 2e-5])
    assert all(0 <= tick["data_share"] <= 1 and tick["img_per_s"] > 0 for tick in ticks)

    opened = checkpoint.open_checkpoint(exported)
    assert opened.args["steps_trained"] == 6
    assert opened.args["training"]["batch"] == 4
    assert str(tmp_path) not in repr(opened.args)
    state = TrainState.begin(run)
    state.load(tmp_path / "state.pt", "cpu")
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(opened.model(picture), state.averaged(picture), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_in_two_parts_is_the_run_in_one_to_the_last_bit(
    faces: Path, tmp_path: Path, precision: str
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    extras: dict[str, Any] = {"precision": precision, "lr_drop_at": 1.0} | ADVERSARIAL
    train(options(faces, whole, **extras))
    train(options(faces, parted, **extras | {"steps": 3}))
    train(options(faces, parted, **extras))
    assert losses_of(parted) == losses_of(whole)
    assert {"pixel", "adversarial", "discriminator", "r1"} <= losses_of(whole)[4].keys()
    one, other = (torch.load(folder / "state.pt", weights_only=True) for folder in (whole, parted))
    for part in ("model", "averaged", "discriminator"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), (part, name)


def test_a_killed_run_goes_on_as_if_it_had_not_been(faces: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = {"steps": 12, "checkpoint_every": 4}
    train(options(faces, whole, **steps))
    run = options(faces, killed, **steps)
    write_options(run, tmp_path / "run.json")
    code = (
        "import sys, time; from gpenvideo.train.loop import train; "
        "from gpenvideo.train.options import read_options; "
        "train(read_options(sys.argv[1]), lambda r: time.sleep(0.2))"
    )
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run.json")], env=os.environ | {"PYTHONPATH": str(root)}
    )
    try:
        until = time.monotonic() + 120
        while lines(killed) < 8:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (killed / "state.pt").exists()
    assert len(losses_of(killed)) < 12
    train(run)
    assert losses_of(killed) == losses_of(whole)


def test_options_survive_their_file(faces: Path, tmp_path: Path) -> None:
    run = options(faces, tmp_path, adversarial_from_step=5, presets={"base": 0.5, "film": 0.5})
    write_options(run, tmp_path / "options.json")
    assert read_options(tmp_path / "options.json") == run
    (tmp_path / "options.json").write_text('{"data": "x"}')
    with pytest.raises(OptionError, match="options"):
        read_options(tmp_path / "options.json")
    with pytest.raises(FileMissing):
        read_options(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"stepz": 3}, "stepz"),
        ({"steps": "many"}, "steps cannot be 'many'"),
        ({"betas": [0.9]}, "betas"),
        ({"weights": {"pixels": 1}}, "pixels"),
        ({"weights.face": "x"}, "face"),
        ({"colour": 1}, "colour"),
    ],
)
def test_values_of_another_kind_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make_options({"data": "a", "out": "b"} | values)


def test_values_become_options() -> None:
    given = {"data": "a", "out": "b", "encoder_blocks": [1, 2], "weights.face": 1, "cache": None, "lr": 1}
    run = make_options(given)
    assert (run.encoder_blocks, run.weights.face, run.weights.pixel, run.lr) == ((1, 2), 1, 1.0, 1)
    assert make_options({"data": "a", "out": "b"} | network_values(run.network())).network() == run.network()
    with pytest.raises(OptionError, match="out must be given"):
        make_options({"data": "a"})


def test_options_are_there_before_the_first_step(faces: Path, tmp_path: Path) -> None:
    run = options(faces, tmp_path)

    def stop(record: dict[str, Any]) -> None:
        assert record["event"] == "start"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, stop)
    assert read_options(tmp_path / "options.json") == run


def test_a_folder_with_another_run_is_left_alone(faces: Path, tmp_path: Path) -> None:
    train(options(faces, tmp_path, steps=1))
    with pytest.raises(OptionError, match="batch, seed"):
        train(options(faces, tmp_path, steps=2, batch=2, seed=1))
    assert len(losses_of(tmp_path)) == 1


def test_a_dry_run_writes_nothing(faces: Path, tmp_path: Path) -> None:
    found = dry_run(options(faces, tmp_path / "out", **ADVERSARIAL))
    assert not (tmp_path / "out").exists()
    assert found["faces"] == 64
    assert found["terms"] == {"pixel": 1.0, "adversarial": 0.1}
    assert found["img_per_s"] > 0


def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(faces: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(options(faces, whole))
    train(options(faces, stopped), go_on=lambda done: done < 4)
    assert TrainState.begin(options(faces, stopped), stopped / "state.pt").step == 4
    assert records(stopped, "checkpoint")[-1]["step"] == 4
    train(options(faces, stopped))
    assert losses_of(stopped) == losses_of(whole)


def test_a_run_can_begin_from_a_checkpoint(faces: Path, tmp_path: Path) -> None:
    exported = train(options(faces, tmp_path / "first", steps=2))
    model = checkpoint.load(exported)
    begun = TrainState.begin(options(faces, tmp_path, initial=str(exported), norm_group=0)).model.eval()
    frozen = options(faces, tmp_path, initial=str(tmp_path / "first" / "state.pt"), norm_group=0)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(begun(picture), model(picture), rtol=1e-5, atol=1e-6)
        same = TrainState.begin(frozen).model(picture)
        torch.testing.assert_close(same, model(picture), rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in begun.parameters())
    with pytest.raises(CheckpointError, match="norm_group 0"):
        TrainState.begin(options(faces, tmp_path, initial=str(exported)))
    with pytest.raises(CheckpointError, match="another network"):
        TrainState.begin(options(faces, tmp_path, initial=str(exported), style_dim=16))


def test_a_network_of_smaller_input_trains(faces: Path, tmp_path: Path) -> None:
    run = options(faces, tmp_path, input_px=32, steps=2, validate_every=2, validation_pictures=2)
    model = checkpoint.load(train(run))
    assert (model.config.input_size_px, model.config.output_size_px) == (32, 64)
    assert records(tmp_path, "validation")[0]["psnr_db"] > 5


def test_another_run_can_begin_where_one_ended(faces: Path, tmp_path: Path) -> None:
    train(options(faces, tmp_path / "first", steps=2))
    state = torch.load(tmp_path / "first" / "state.pt", weights_only=True)
    begun = TrainState.begin(options(faces, tmp_path, initial=str(tmp_path / "first" / "state.pt")))
    assert begun.step == 0
    for name, value in begun.model.state_dict().items():
        assert torch.equal(value, state["averaged"][name])


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(
    faces: Path, tmp_path: Path
) -> None:
    train(options(faces, tmp_path, steps=2, checkpoint_every=1))
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(OptionError, match="no longer finite"):
        train(options(faces, tmp_path, steps=40, lr=1e30, checkpoint_every=20))
    assert (tmp_path / "state.pt").read_bytes() == before


def test_the_published_layout_trains_too(faces: Path, tmp_path: Path) -> None:
    run = options(faces, tmp_path, layout="gpen", residual=False, steps=2, template="gpen")
    model = checkpoint.load(train(run))
    assert model.config.layout == "gpen"


def test_half_precision_is_the_same_network(faces: Path, tmp_path: Path) -> None:
    model = GPEN(options(faces, tmp_path).network(), batch_norm=True).eval()
    for rgb in model.synthesis.to_rgbs:  # zero in a residual network that has learned nothing yet
        torch.nn.init.normal_(rgb.weight)
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        exact = model(picture)
        half = torch.func.functional_call(model, in_precision(model, "bf16"), (picture,))
    assert not torch.equal(exact, half)
    assert (exact - half).square().mean().sqrt() < 0.02 * exact.std()
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layout": "v3"}, "layout"),
        ({"size_px": 100}, "power of two"),
        ({"precision": "fp16"}, "bf16"),
        ({"batch": 0}, "1 or more"),
        ({"lr": 0.0}, "learning rates"),
        ({"adversarial_crop_px": 128}, "adversarial_crop_px"),
        ({"adversarial_crop_px": 24}, "adversarial_crop_px"),
        ({"encoder_blocks": ()}, "stages"),
        ({"workers": -1}, "workers"),
        ({"batch": 9, "norm_group": 4}, "norm_group"),
        ({"grow_from": "a.pth", "initial": "b.pth"}, "not from both"),
        ({"grow_from": "a.pth"}, "norm_group 0"),
        (ADVERSARIAL | {"batch": 6}, "std_dev_group"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    faces: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        options(faces, tmp_path, **changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_said_so(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="CUDA"):
        train(dataclasses.replace(options(faces, tmp_path), device="cuda"))
