"""`gpenvideo train` and `train-detector` as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpenvideo.cli import main
from gpenvideo.cli.train import options_of, settings_of, weights_of
from gpenvideo.errors import GpenvideoError, OptionError
from gpenvideo.gpen import GPEN, GPENConfig, channel_table, checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    *("--size", "64", "--batch", "2", "--device", "cpu", "--set", "narrow=0.0625", "--set", "style_dim=32"),
    *("--set", "encoder_width=8", "--set", "encoder_blocks=1,1,1", "--set", "threads=1"),
    *("--set", "weights.face=0", "--set", "tick_every=1"),
]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{index}.png")
    return folder


def gpenvideo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    told = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "gpenvideo", *arguments],
        env=os.environ | told,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_keeps_the_state_and_the_same_command_goes_on(faces: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", "faces", "--out", "runs/x", "--json", *SMALL]
    process = gpenvideo(tmp_path, *arguments, "--steps", "100000")
    try:
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert complaints == ""
    assert [event["event"] for event in events] == ["start", "tick", "tick"]
    assert {"pixel", "img_per_s", "data_share"} <= events[1].keys()
    stopped = json.loads(said.splitlines()[-1])
    assert stopped["event"] == "stopped"
    state = torch.load(tmp_path / "runs" / "x" / "state.pt", weights_only=True)
    assert state["step"] == stopped["step"]

    process = gpenvideo(tmp_path, "train", "--out", "runs/x", "--steps", str(stopped["step"] + 1))
    said, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert said.strip() == str(Path("runs/x/restorer.pth"))
    assert f"from step {stopped['step']} to {stopped['step'] + 1}" in told
    assert f"step {stopped['step'] + 1}/{stopped['step'] + 1}" in told
    assert "loss perceptual is off: " in told
    assert checkpoint.load(tmp_path / "runs" / "x" / "restorer.pth").config.output_size_px == 64


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line in this process, in the folder of the test; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["gpenvideo", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run


def test_a_dry_run_shows_every_option_and_writes_nothing(
    faces: Path, tmp_path: Path, here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert here("train", "--data", "faces", "--out", "x", "--dry-run", *SMALL) == 0
    said = capsys.readouterr().out
    assert "images a second" in said
    assert "lr_drop_at             0.8\n" in said
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layout", "v3"], "layout is v2 or gpen, not 'v3'"),
        (["--set", "stepz=1"], "no option is called stepz: there are data, out, "),
        (["--dtype", "fp16", "--device", "cpu"], "fp16 trains on a GPU; on a CPU take bf16"),
        (["--grow-from", "none.pth"], "none.pth: cannot read it: no such file or folder"),
        (["--preset", "sepia", "--device", "cpu"], "presets are weights for "),
    ],
)
def test_what_cannot_be_is_one_line(
    faces: Path,
    here: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    assert here("train", "--data", "faces", "--out", "x", *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"gpenvideo: {says}")
    assert said.err.count("\n") == 1


def options(out: Path, **given: object) -> object:
    return options_of(out, None, {"data": "a"} | given, resume=True, device=None, dtype=None)


def test_settings_are_json_or_words() -> None:
    assert settings_of(["a=1", "b=x", "c=1,2", "d=p,q", 'e={"base": 1}', "f=null"]) == {
        "a": 1, "b": "x", "c": [1, 2], "d": ["p", "q"], "e": {"base": 1}, "f": None,
    }  # fmt: skip
    with pytest.raises(OptionError, match="NAME=VALUE"):
        settings_of(["steps"])
    assert weights_of("base=0.7, film=0.3") == {"base": 0.7, "film": 0.3}
    with pytest.raises(OptionError, match="number"):
        weights_of("base=much")


def test_a_run_in_the_folder_is_gone_on_with_or_refused(tmp_path: Path) -> None:
    run = options(tmp_path, steps=7, device="cpu")
    (tmp_path / "options.json").write_text(json.dumps(run.plain()))  # type: ignore[attr-defined]
    (tmp_path / "state.pt").touch()
    assert options(tmp_path).steps == 7  # type: ignore[attr-defined]
    assert options(tmp_path, steps=9).steps == 9  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match="--no-resume"):
        options_of(tmp_path, None, {}, resume=False, device=None, dtype=None)


def test_the_weights_that_a_run_starts_from_say_which_network(tmp_path: Path) -> None:
    config = GPENConfig(32, 32, channel_table(32, 2, 1 / 16), style_dim=16, mapping_layers=1)
    file = tmp_path / "small.pth"
    checkpoint.save(GPEN(config), file)
    run = options(tmp_path / "run", grow_from=str(file))
    assert (run.size_px, run.layout, run.style_dim) == (64, "gpen", 16)  # type: ignore[attr-defined]
    assert options(tmp_path / "run", initial=str(file)).network() == config  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match="size_px is 64 with these weights, not 256"):
        options(tmp_path / "run", grow_from=str(file), size_px=256)
    with pytest.raises(GpenvideoError, match="no such file"):
        options(tmp_path / "run", grow_from=str(tmp_path / "none.pth"))


def test_a_detector_is_trained_from_a_teacher(
    shared: Path, tmp_path: Path, here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faces").mkdir()
    source = sorted((shared / "data" / "faces" / "canada").iterdir())[0]
    with Image.open(source) as picture:
        side = min(picture.size)
        picture.convert("RGB").crop((0, 64, side, 64 + side)).save(tmp_path / "faces" / "one.png")
    (tmp_path / "backgrounds").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 60, (70, 90, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "backgrounds" / f"{index}.png")
    (tmp_path / "backgrounds" / "index.csv").write_text("file\n0.png\n1.png\n")
    teacher = str(shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth")
    arguments = ["--data", "faces", "--backgrounds", "backgrounds", "--teacher", teacher, "--device", "cpu"]
    arguments += ["--out", "run", "--steps", "2", "--workers", "0", "--json"]
    arguments += ["--set", "sizes_px=64", "--set", "pixels_per_step=4096"]
    assert here("train-detector", *arguments) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["tick", "done"]
    assert events[0]["total"] > 0
    assert (tmp_path / events[1]["file"]).stat().st_size > 100_000
