"""`gpenvideo degrade`, `gpenvideo evaluate` and `gpenvideo evaluate video` as a person types them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from portraits import portrait_clip
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
        (("evaluate", "pictures", "--pairs", "portraits"), "portraits: pairs lie in two folders of it"),
        (("evaluate", "--clean", "portraits", "--degrade", 0, "--weights", "none"), "no such weights file"),
        (("evaluate", "video", "--restored", "a.mp4"), "say --truth VIDEO or --input VIDEO"),
        (("evaluate", "video", "--restored", "a.mp4", "--input", "b.mp4"), "b.mp4: cannot read it"),
        (("evaluate", "video"), "--restored"),
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


def test_a_video_is_judged(
    tmp_path: Path, said: Callable[..., Any], one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    truth = portrait_clip(tmp_path / "truth.mkv")
    bad = portrait_clip(tmp_path / "bad.mkv", codec="libx264", options={"crf": "40"})
    told = said("evaluate", "video", "--truth", truth, "--restored", bad, "--out", tmp_path / "out")
    assert told.code == 0, told.err
    assert "without vidd: ArcFace-IR-SE50 is not on this machine" in told.err
    for heading in ("PSNR", "warp error", "to the reference's", "landmark jitter", "landmark motion error"):
        assert heading in told.out
    assert f"{tmp_path / 'out' / 'frames.csv'}: 10 frames in " in told.out
    assert "worst_second.png: the worst second, 0.00 s to 0." in told.out
    assert (tmp_path / "out" / "plots.png").exists()

    tracks = tmp_path / "tracks.json"
    assert said("tracks", truth, tracks).code == 0
    told = said("evaluate", "video", "--truth", truth, "--restored", bad, "--tracks", tracks, "--json",
                "-o", tmp_path / "again")  # fmt: skip
    assert (told.code, told.err) == (0, "")
    found = json.loads(told.out)
    assert (found["frames"], found["faces"], found["reference"]) == (10, 10, "truth")
    assert 20 < found["measures"]["restored"]["psnr_db"] < 45
    assert 0.5 < found["measures"]["restored"]["ssim"] < 0.99
    assert set(found["off"]) == {"vidd"}

    told = said("evaluate", "video", "--input", bad, "--restored", bad, "--tracks", tracks)
    assert told.code == 2
    assert "tracks.json: these tracks are of truth.mkv, which bad.mkv is not" in told.err


def test_a_run_measures_itself_when_asked(
    tmp_path: Path, said: Callable[..., Any], network: Path, one_thread: None
) -> None:
    clip = portrait_clip(tmp_path / "in.mkv", codec="libx264", frames=12)
    options = ("--weights", network, "--preset", "ultrafast", "--metrics")
    told = said("restore", clip, *options)
    assert told.code == 0, told.err
    assert "crops jitter by " in told.out
    assert "warp error " in told.out
    told = said("restore", clip, *options, "--json", "--report", tmp_path / "report.json")
    metrics = json.loads(told.out.splitlines()[-1])["metrics"]
    assert metrics["pairs"] == 3
    assert 0 < metrics["crop_jitter"] < 0.1
    assert metrics["warp_error"]["result"] > 0
    assert json.loads((tmp_path / "report.json").read_text())["metrics"] == metrics
