"""A resumable run that is killed, at any moment, goes on to the very same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from films import CUTS, assert_same, write_film

from gpenvideo import NetworkOptions, analyse_video, restore_video
from gpenvideo.segmented.parts import parts
from gpenvideo.tracks.file import read_tracks
from gpenvideo.transcode import Encoding

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills a process as POSIX does")

PARTS, FRAMES = 5, CUTS[1] + 30  # parts begin at 0, 10, 20, 26 and 30 s
WRITING = [[("frame", number)] for number in (3, 57, 117, 149, 171)]
ENDED = [[("before a segment's entry", number)] for number in (1, 2, 4)]
RENAMING = [[("before a segment's rename", number)] for number in (1, 3)]
JOINING = [[("joining", number)] for number in (1, 2, 4)]
WHOLE = [
    [("before the target's sync", 1)],
    [("before the target's rename", 1)],
    [("frame", 30), ("before the target's rename", 1)],
    [("before the journal's end", 1)],
]
EARLY = [[("analysis", 100)], [("before the tracks' rename", 1)]]
AGAIN = [[("frame", 60), ("frame", 63), ("before a segment's entry", 1), ("joining", 3)]]
ALL = [*WRITING, *ENDED, *RENAMING, *JOINING, *WHOLE, *EARLY, *AGAIN]
SOME = [WRITING[1], [*ENDED[1], *JOINING[1]], WHOLE[1]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, network: Path) -> tuple[Path, Path, Path]:
    """A film, its tracks, and what one run that nobody ends makes of it."""
    folder = tmp_path_factory.mktemp("kill")
    film = write_film(folder / "film.mkv", FRAMES)
    analyse_video(film, folder / "tracks.json", networks=NetworkOptions(device="cpu"))
    one = folder / "one.mkv"
    how: dict[str, Any] = {"networks": NetworkOptions(device="cpu"), "encoding": Encoding(codec="ffv1")}
    restore_video(film, one, weights=network, tracks=folder / "tracks.json", **how)
    return film, folder / "tracks.json", one


def killed_at(cases: list[Any], made: tuple[Path, Path, Path], network: Path, folder: Path) -> list[Any]:
    """What `killed.py` tells of each case."""
    film, tracks, _ = made
    arguments = [film, tracks, network, folder, json.dumps(cases)]
    program = [sys.executable, Path(__file__).with_name("killed.py"), *arguments]
    alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([*map(str, program)], capture_output=True, text=True, env=os.environ | alone)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def check(cases: list[Any], made: tuple[Path, Path, Path], network: Path, folder: Path) -> None:
    assert len(parts(read_tracks(made[1]), 2)) == PARTS
    told = killed_at(cases, made, network, folder)
    assert len(told) == len(cases)
    for moments, case in zip(cases, told, strict=True):
        assert case["killed"] == [True] * len(moments) + [False], moments
        for before, now in zip(case["before"], case["made"], strict=True):
            new = {int(name.removesuffix(".nut")) for name in now}
            assert not new & set(before["done"]), (moments, "finished segments are reused")
            assert len(new & set(before["begun"])) <= 1, (moments, "one segment at most is made twice")
        assert len(case["before"][-1]["done"]) + len(case["made"][-1]) == PARTS, moments
        assert_same(made[2], Path(case["target"]))
    assert sorted(folder.iterdir()) == sorted(Path(case["target"]) for case in told)


def test_a_killed_run_goes_on(made: tuple[Path, Path, Path], network: Path, tmp_path: Path) -> None:
    check(SOME, made, network, tmp_path)


@pytest.mark.soak
def test_a_run_that_is_killed_at_any_of_twenty_moments(
    made: tuple[Path, Path, Path], network: Path, tmp_path: Path
) -> None:
    assert len(ALL) == 20
    check(ALL, made, network, tmp_path)
