"""The command line on videos: what it prints, where it writes, and what its lines hold."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import write_clip, write_sequence
from portraits import portrait_clip

from gpenvideo.picture import read_picture

Told = Callable[..., Any]
QUICK = ["--preset", "ultrafast"]


@pytest.fixture
def told(said: Told, network: Path) -> Told:
    """Runs the command line in this process; what is restored goes through the small network."""

    def run(*arguments: str | Path) -> Any:
        return said(*arguments, *(["--weights", network] if arguments[0] == "restore" else []))

    return run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Eight frames with a face, four without, and sound."""
    return portrait_clip(tmp_path / "in.mkv", codec="libx264", frames=12, faceless_from=8, audio=1)


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_video_is_restored_beside_itself(clip: Path, told: Told) -> None:
    done = told("restore", clip, *QUICK)
    assert done.code == 0, done.err
    target = clip.with_name("in.restored.mkv")
    assert done.out.startswith(f"{target}: 12 frames, 8 faces of 1 tracks, ")
    assert done.out.count("\n") == 1
    assert sorted(p.name for p in clip.parent.iterdir()) == ["in.mkv", "in.restored.mkv"]
    assert frames_in(target) == 12
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_lines_for_programs(clip: Path, told: Told) -> None:
    target = clip.with_name("out.mp4")
    report, frames = clip.with_name("r.json"), clip.with_name("f.jsonl")
    done = told(
        "restore", clip, "-o", target, "--json", "--report", report, "--report-frames", frames, *QUICK
    )
    assert (done.code, done.err) == (0, "")
    *progress, last = map(json.loads, done.out.splitlines())
    assert progress[0]["frames"] == 0
    assert {"frames", "total", "seconds", "faces", "slowest", "time_s", "network", "doing"} == set(
        progress[0]
    )
    counts = [line["frames"] for line in progress]
    assert counts == sorted(counts)
    assert last["done"] is True
    assert (last["output"], last["frames"], last["faces"], last["tracks"], last["shots"]) == (
        str(target),
        12,
        8,
        1,
        2,
    )
    written = json.loads(report.read_text())
    assert written["warnings"] == last["warnings"]
    assert written["faces_per_frame"] == {"1": 8, "0": 4}
    facts = {"encoder": "libx264", "pixel_format": "yuv420p", "container": "mp4"}
    assert facts.items() <= written["encoder"].items()
    lines = [json.loads(line) for line in frames.read_text().splitlines()]
    with av.open(str(clip)) as container:
        assert [line["pts"] for line in lines] == [frame.pts for frame in container.decode(video=0)]
    assert [len(line["masks"]) for line in lines] == [1] * 8 + [0] * 4
    for line in lines[:8]:
        ((x0, y0, x1, y1),) = line["masks"]
        assert 0 <= x0 < x1 <= 320
        assert 0 <= y0 < y1 <= 240


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_lines_for_programs_hold_any_name(tmp_path: Path, told: Told) -> None:
    name = os.fsdecode(b"\xff \xc3\xa9.mkv")
    source = write_clip(tmp_path / "in.mkv", size=(64, 48), frames=2).rename(tmp_path / name)
    code, out, _ = told("restore", source, "-o", tmp_path / f"out {name}", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["output"] == str(tmp_path / f"out {name}")


def test_a_folder_gets_the_same_name(clip: Path, told: Told) -> None:
    folder = clip.with_name("out")
    folder.mkdir()
    done = told("restore", clip, "-o", folder, "--end", "5f", *QUICK)
    assert done.code == 0, done.err
    assert [path.name for path in folder.iterdir()] == ["in.mkv"]
    assert frames_in(folder / "in.mkv") == 5
    assert told("restore", clip, "-o", folder, "--preview", "0.1").code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["in.mkv", "in.png"]
    done = told("restore", clip, "-o", folder / "frames", "--codec", "png", "--start", "9f")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (folder / "frames").iterdir()) == [
        f"{number:06d}.png" for number in (1, 2, 3)
    ]


def test_a_preview_is_a_picture(clip: Path, told: Told) -> None:
    done = told("restore", clip, "--preview", "0:00.1")
    target = clip.with_name("in.restored.png")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{target}: before and after, 1 face\n"
    rgb = read_picture(target).rgb
    assert rgb.shape == (240, 640, 3)
    assert (rgb[:, :320] != rgb[:, 320:]).any()
    assert told("restore", clip, "--preview", "10f").out.endswith("0 faces\n")
    before = target.read_bytes()
    assert told("restore", clip, "--preview", "12f").code == 2
    assert target.read_bytes() == before


@pytest.mark.parametrize(("how", "width"), [("side", 640), ("wipe", 320)])
def test_a_comparison(how: str, width: int, clip: Path, told: Told) -> None:
    target = clip.with_name("out.mkv")
    assert told("restore", clip, "-o", target, "--compare", how, "--end", "0.16", *QUICK).code == 0
    with av.open(str(target)) as container:
        assert container.streams.video[0].width == width


def test_which_faces(clip: Path, told: Told) -> None:
    target = clip.with_name("out.mkv")
    for options, faces in (
        (["--select", "largest"], 8),
        (["--select", "0"], 8),
        (["--select", "1"], 0),
        (["--min-face", "300"], 0),
        (["--strength", "0"], 0),
        (["--max-faces", "1", "--detect-every", "3"], 8),
    ):
        done = told("restore", clip, "-o", target, "--json", *options, *QUICK)
        assert json.loads(done.out.splitlines()[-1])["faces"] == faces, options


# Pictures: a folder is an album, unless it has a rate; a pattern is a sequence


def test_a_folder_with_a_rate_is_a_sequence(tmp_path: Path, told: Told) -> None:
    folder = write_sequence(tmp_path / "shot", suffix=".tif", size=(64, 48))
    done = told("restore", folder, "-o", tmp_path / "out.mkv", "--rate", "24000/1001", *QUICK)
    assert done.code == 0, done.err
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert abs(float(container.streams.video[0].average_rate or 0) - 23.976) < 0.01
    assert frames_in(tmp_path / "out.mkv") == 5
    done = told("restore", folder, "--rate", "24")
    assert done.code == 0, done.err
    made = sorted((tmp_path / "restored_shot").iterdir())
    assert [path.name for path in made] == [f"{number:06d}.tif" for number in range(1, 6)]
    for was, now in zip(sorted(folder.iterdir()), made, strict=True):
        assert np.array_equal(read_picture(was).rgb, read_picture(now).rgb)  # noise has no face


def test_a_pattern_is_a_sequence(tmp_path: Path, told: Told) -> None:
    folder = write_sequence(tmp_path / "shot", numbers=range(7, 11), size=(64, 48))
    done = told("restore", folder / "shot_%04d.png")
    assert done.code == 0, done.err
    assert "24 frames a second are assumed" in done.err
    assert len(list(folder.glob("restored_shot_*.png"))) == 4
    done = told("restore", folder / "shot_%04d.png", "-o", tmp_path / "out.mp4", "--rate", "25", *QUICK)
    assert done.code == 0, done.err
    assert frames_in(tmp_path / "out.mp4") == 4


def test_a_sequence_of_what_cannot_be_written_becomes_png(tmp_path: Path, told: Told) -> None:
    folder = write_sequence(tmp_path / "shot", suffix=".jpg", pix_fmt="yuvj420p", size=(64, 48))
    (tmp_path / "out").mkdir()
    done = told("restore", folder, "-o", tmp_path / "out", "--rate", "24")
    assert done.code == 0, done.err
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png"}
    done = told("restore", folder / "shot_%04d.jpg")
    assert done.code == 0, done.err
    assert len(list(folder.glob("restored_shot_*.png"))) == 5


def test_a_folder_without_a_rate_is_an_album(tmp_path: Path, told: Told) -> None:
    folder = write_sequence(tmp_path / "shot", numbers=[1])
    done = told("restore", folder, "-o", tmp_path / "out")
    assert done.code == 2
    assert "no face" in done.err


# Facts


def test_the_facts_of_a_file(tmp_path: Path, told: Told) -> None:
    clip = write_clip(
        tmp_path / "in.mkv", codec="libx264", audio=1, subtitles=["deu"], metadata={"title": "A film"},
        chapters=[(0, 0.4, "one")], matrix=1, full_range=False,
    )  # fmt: skip
    done = told("info", clip)
    assert (done.code, done.err) == (0, "")
    for fact in (
        "title          A film",
        "chapter        0.000 to 0.400 s one",
        "stream 0: video",
        "size_px        64x48",
        "rate_hz        25",
        "stream 1: audio",
        "language       deu",
    ):
        assert fact in done.out.splitlines(), done.out
    facts = json.loads(told("info", clip, "--json").out)
    assert [stream["kind"] for stream in facts["streams"]] == ["video", "audio", "subtitle"]
    assert facts["streams"][0]["colour"]["range"] == "limited"


def test_the_facts_of_a_sequence(tmp_path: Path, told: Told) -> None:
    folder = write_sequence(tmp_path / "shot")
    for source in (folder, folder / "shot_%04d.png"):
        assert json.loads(told("info", source, "--json").out)["container"] == "image sequence"


def test_the_facts_of_this_machine(told: Told) -> None:
    facts = json.loads(told("info", "--json").out)
    assert {"gpenvideo", "torch", "av"} <= set(facts)
