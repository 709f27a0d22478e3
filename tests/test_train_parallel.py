"""Several processes train as one: the same gradients, weights and files; when one fails, all end."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gpenvideo.errors import DeviceError, OptionError
from gpenvideo.train.loop import train, training_step
from gpenvideo.train.losses import LossWeights, Terms
from gpenvideo.train.options import TrainOptions, read_options, write_options
from gpenvideo.train.parallel import ALONE, GroupedBatchNorm, Processes, launched, own_device
from gpenvideo.train.state import TrainState

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[1]


def options(out: Path, **changes: Any) -> TrainOptions:
    small: dict[str, Any] = {
        "data": str(out.parent / "faces"),
        "out": str(out),
        "cache": str(out.parent / "cache"),
        "size_px": 64,
        "narrow": 1 / 16,
        "style_dim": 32,
        "encoder_width": 8,
        "encoder_blocks": (1, 1, 1),
        "residual": False,  # or the first gradients of most layers would be zero
        "batch": 8,
        "norm_group": 4,
        "steps": 4,
        "tick_every": 1,
        "sample_every": 0,
        "validate_every": 0,
        "adversarial_from_step": 0,
        "adversarial_crop_px": 32,
        "discriminator_narrow": 1 / 16,
        "r1_every": 2,
        "threads": 1,
        "weights": LossWeights(perceptual=0, identity=0, lpips=0, face=0, adversarial=0.1),
    }
    return TrainOptions(**(small | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faces/, and options for all runs: grouped.json, frozen.json, whole.json, parted.json."""
    folder = tmp_path_factory.mktemp("parallel")
    (folder / "faces").mkdir()
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / "faces" / f"{index}.png")
    for name, norm_group in (("grouped", 4), ("frozen", 0)):
        # Adam turns the sign of a gradient that is all rounding into a whole step: that must be small.
        run = options(folder / "out", norm_group=norm_group, lr=2e-5, steps=3)
        write_options(run, folder / f"{name}.json")
    for name in ("whole", "parted"):
        write_options(options(folder / name, lr_drop_at=1.0), folder / f"{name}.json")
    return folder


@pytest.fixture(scope="module")
def run_by_two(folder: Path) -> Path:
    """The folder after two processes have done all of it."""
    done = processes_of(*[[__file__, str(folder)]] * 2)
    assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
    return folder


def processes_of(*commands: list[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run one command a process, with what torchrun would tell it; all must end within two minutes."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(commands))}
    running = [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | told | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    try:
        return [
            subprocess.CompletedProcess(process.args, process.wait(), *process.communicate(timeout=120))
            for process in running
        ]
    finally:
        for process in running:
            process.kill()
            process.wait()


def take_steps(folder: Path) -> None:
    """A few steps on this process's part of random batches; the first process writes what came of them."""
    with launched() as processes:
        for name in ("grouped", "frozen"):
            run = read_options(folder / f"{name}.json")
            state, gradients = TrainState.begin(run), {}
            share = run.batch // processes.world
            part = slice(processes.rank * share, (processes.rank + 1) * share)
            random = torch.Generator().manual_seed(0)
            for step in range(run.steps):
                truth = torch.rand(run.batch, 3, 64, 64, generator=random) * 2 - 1
                noise = torch.randn(truth.shape, generator=random)
                degraded = (truth + 0.2 * noise).clamp(-1, 1)
                training_step(state, degraded[part], truth[part], run, Terms((), {}), processes)
                if step == 0:
                    networks = [state.model, state.discriminator]
                    grads = [p.grad for network in networks if network for p in network.parameters()]
                    gradients = {f"{i}": grad.clone() for i, grad in enumerate(grads) if grad is not None}
            if processes.first:
                weights = {f"{i}": value for i, value in enumerate(state.tensors())}
                torch.save(
                    {"gradients": gradients, "weights": weights}, folder / f"{name}.{processes.world}.pt"
                )


def run_in_parts(folder: Path) -> None:
    """One run as a whole, another in two parts."""
    whole, parted = (read_options(folder / f"{name}.json") for name in ("whole", "parted"))
    with launched():
        train(whole)
        train(dataclasses.replace(parted, steps=2))
        train(parted)


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key].float() - other[key].float()).abs().max()) for key in one)


@pytest.mark.parametrize("name", ["grouped", "frozen"])
def test_two_processes_are_one_with_the_same_batch(run_by_two: Path, name: str) -> None:
    if not (run_by_two / f"{name}.1.pt").exists():
        take_steps(run_by_two)
    one, two = (torch.load(run_by_two / f"{name}.{world}.pt") for world in (1, 2))
    assert max(float(value.abs().max()) for value in one["gradients"].values()) > 0.1
    assert difference(one["gradients"], two["gradients"]) < 1e-6
    assert difference(one["weights"], two["weights"]) < 1e-6
    begun = TrainState.begin(read_options(run_by_two / f"{name}.json")).tensors()
    moved = difference(one["weights"], {f"{i}": value for i, value in enumerate(begun)})
    assert moved > 5e-5  # a fiftieth of it would be seen


def test_a_run_of_two_processes_writes_once_and_resumes_to_the_bit(run_by_two: Path) -> None:
    whole, parted = run_by_two / "whole", run_by_two / "parted"
    records = [json.loads(line) for line in (whole / "stats.jsonl").read_text().splitlines()]
    assert [(record["event"], record["step"]) for record in records] == [
        ("start", 0), ("tick", 1), ("tick", 2), ("tick", 3), ("tick", 4), ("checkpoint", 4),
    ]  # fmt: skip
    assert records[0]["processes"] == 2
    assert records[-1]["images"] == 32
    one, other = (torch.load(out / "state.pt", weights_only=True) for out in (whole, parted))
    for part in ("model", "averaged", "discriminator"):
        for key, value in one[part].items():
            assert torch.equal(value, other[part][key]), (part, key)


def test_a_process_that_fails_ends_all_with_its_line(tmp_path: Path, folder: Path) -> None:
    write_options(options(tmp_path / "out", steps=100_000), tmp_path / "options.json")
    command = ["-m", "gpenvideo", "train", "--out", str(tmp_path / "out")]
    command += ["--options", str(tmp_path / "options.json"), "--data"]
    first, second = processes_of([*command, str(folder / "faces")], [*command, str(tmp_path / "nowhere")])
    assert first.returncode == 1
    assert first.stdout + first.stderr == ""
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "nowhere" in second.stderr


def test_torchrun_says_once_what_all_processes_meet(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "gpenvideo", "train", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "none")]
    command += ["--batch", "16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("gpenvideo: ")]
    assert len(said) == 1
    assert "none" in said[0]
    assert not (tmp_path / "out" / "stats.jsonl").exists()


def test_a_batch_norm_in_groups_is_one_batch_norm_a_group() -> None:
    grouped = GroupedBatchNorm(nn.BatchNorm2d(5), 4)
    x = torch.randn(12, 5, 6, 6) * 3 + 1
    y = grouped(x)
    singles = [nn.BatchNorm2d(5) for _ in range(3)]
    expected = torch.cat([norm(part) for norm, part in zip(singles, x.split(4), strict=True)])
    torch.testing.assert_close(y, expected)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(norm, name) for norm in singles]).mean(dim=0)
        torch.testing.assert_close(getattr(grouped, name), mean)
    plain = nn.BatchNorm2d(5)
    plain.load_state_dict(grouped.state_dict())
    torch.testing.assert_close(grouped.eval()(x), plain.eval()(x))


def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can(tmp_path: Path) -> None:
    run = options(tmp_path)
    run.check_shared(1)
    run.check_shared(2)
    with pytest.raises(OptionError, match="batch of 16"):
        run.check_shared(4)
    with pytest.raises(OptionError, match="batch of 12"):
        run.check_shared(3)
    options(tmp_path, norm_group=0, std_dev_group=1).check_shared(8)


def test_a_process_has_its_own_device() -> None:
    assert own_device("cpu", Processes(1, 2)) == "cpu"
    with pytest.raises(DeviceError, match="'tpu9'"):
        own_device("tpu9", ALONE)
    with pytest.raises(DeviceError, match="cpu or cuda"):
        own_device("meta", ALONE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with launched():
        take_steps(Path(sys.argv[1]))
        run_in_parts(Path(sys.argv[1]))
