"""`gpenvideo degrade` and `gpenvideo evaluate` as a person types them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from gpenvideo.cli import main


def gpenvideo(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GPENVIDEO_CACHE": str(cwd / "cache"),
        "COLUMNS": "100",
    }
    return subprocess.run(
        [sys.executable, "-m", "gpenvideo", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    """A portrait with some ground about her, and its mirror image."""
    folder = tmp_path / "portraits"
    folder.mkdir()
    for name, picture in (("her", astronaut()), ("mirrored", astronaut()[:, ::-1])):
        Image.fromarray(np.ascontiguousarray(picture[:300])).save(folder / f"{name}.png")
    return folder


def test_a_set_is_degraded_then_judged(portraits: Path, tmp_path: Path) -> None:
    made = gpenvideo(
        "degrade", portraits, "set/input", "--seed", 3, "--preset", "mild", "--json", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout)
    assert (said["pictures"], said["failed"]) == (2, 0)
    with (tmp_path / said["table"]).open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["her", "mirrored"]
    portraits.rename(tmp_path / "set" / "truth")

    judged = gpenvideo("evaluate", "--pairs", "set", "-o", "out", "--json", cwd=tmp_path)
    assert judged.returncode == 0, judged.stderr
    result = json.loads(judged.stdout)
    assert result["pictures"] == 2
    assert result["restored"]["found"] == 1
    assert result["restored"]["psnr_db"] > result["input"]["psnr_db"]
    assert result["restored"]["landmark_error"] < 0.1
    assert "pull AlexNet" in result["off"]["lpips"]
    assert "without identity" in judged.stderr
    sheet = np.asarray(Image.open(tmp_path / result["sheet"]))
    assert sheet.shape[1] > 2 * 3 * 256
    with (tmp_path / result["table"]).open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["her", "mirrored"]


def test_clean_pictures_are_degraded_on_the_way_and_shown_as_a_table(portraits: Path, tmp_path: Path) -> None:
    (portraits / "broken.jpg").write_bytes(b"no picture")
    run = gpenvideo(
        "evaluate", "--clean", portraits, "--degrade", 0, "--no-colour", "--shown", 0, cwd=tmp_path
    )
    assert run.returncode == 2
    assert "broken.jpg: " in run.stderr
    assert run.stderr.strip().endswith("1 of 3 pictures could not be judged")
    for heading in ("PSNR", "SSIM", "sharpness", "correlation", "landmark error", "faces found"):
        assert heading in run.stdout
    assert " dB" in run.stdout
    assert not (tmp_path / "evaluation" / "sheet.png").exists()
    with (tmp_path / "evaluation" / "pictures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["her", "mirrored"]
    assert {row["gamma"] for row in rows} == {""}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("degrade", "portraits", "portraits", "--seed", 0), "among the sources"),
        (("degrade", "portraits/her.png", "portraits/her.png", "--seed", 0), "replace a source"),
        (("degrade", "nothing", "out", "--seed", 0), "nothing: no such file or folder"),
        (("degrade", "portraits", "out", "--seed", 0, "--preset", "awful"), "preset 'awful'"),
        (("degrade", "portraits", "out", "--seed", 0, "--size", 3), "16 px wide or more"),
        (("degrade", "portraits", "out"), "--seed"),
        (("evaluate",), "say --pairs FOLDER, or --clean FOLDER with --degrade SEED"),
        (("evaluate", "--clean", "portraits"), "say --pairs FOLDER"),
        (("evaluate", "--pairs", "portraits"), "portraits: pairs lie in two folders of it"),
        (("evaluate", "--clean", "portraits", "--degrade", 0, "--weights", "none"), "no such weights file"),
        (
            ("evaluate", "--clean", "portraits", "--degrade", 0, "--landmarks", "x.csv"),
            "x.csv: cannot read it",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    portraits: Path,
    tmp_path: Path,
    arguments: tuple[object, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path.name: path.read_bytes() for path in portraits.iterdir()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["gpenvideo", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in portraits.iterdir()} == before
