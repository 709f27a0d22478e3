"""What befalls machines: full disks, lost folders, locks, kills. One line is said, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import scene_frame, write_clip
from portraits import decoded_planes

from gpenvideo.batch import store as store_module
from gpenvideo.batch.driver import BatchOptions
from gpenvideo.batch.local import InProcess
from gpenvideo.batch.run import Summary, run_batch
from gpenvideo.batch.store import Store, store_path
from gpenvideo.batch.tasks import RestorePart, Task
from gpenvideo.errors import FileError, FileMissing

Told = Callable[..., Any]  # see the fixture `said`

SEGMENTS = BatchOptions(segment_s=5)
PARTS = 3  # of `film`
DISK_BYTES = 4 << 20

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film of three segments."""
    return write_clip(
        tmp_path / "film.mkv",
        size=(160, 120),
        frames=25,
        rate=1,
        audio=1,
        picture=lambda i: scene_frame("yuv420p", (160, 120), i),
    )


@pytest.fixture
def whole(film: Path, network: Path, tmp_path: Path) -> Path:
    """Its result where nothing befell it."""
    run([film], tmp_path / "whole", network)
    return tmp_path / "whole" / film.name


class Watched(InProcess):
    """Calls something before each segment is begun, with its number."""

    def __init__(self, call: Callable[[int], None]) -> None:
        super().__init__()
        self.call = call

    def submit(self, task: Task) -> None:
        if isinstance(task, RestorePart):
            self.call(task.part.index)
        super().submit(task)


def run(given: list[Path], out: Path, network: Path, **how: Any) -> Summary:
    settings = {"weights": str(network), "codec": "ffv1", "detect-size": 160}
    return run_batch(given, out, **{"settings": settings, "options": SEGMENTS, "executor": InProcess()} | how)


def interrupt(film: Path, out: Path, network: Path) -> None:
    """A run that is ended when two segments are done."""

    def stop(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([film], out, network, executor=Watched(stop))


def check_whole(result: Path, whole: Path) -> None:
    ours, theirs = decoded_planes(result), decoded_planes(whole)
    assert list(ours) == list(theirs)
    assert all(np.array_equal(a, b) for pts in ours for a, b in zip(ours[pts], theirs[pts], strict=True))


def check_one_line(error: BaseException) -> None:
    assert "\n" not in str(error)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A disk of some bytes at `place`; skips where this user may mount none."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_the_disk_is_full_in_the_middle(
    film: Path, whole: Path, network: Path, tmp_path: Path, said: Told
) -> None:
    out = tmp_path / "disk" / "out"
    flags = [
        "--weights",
        network,
        "--codec",
        "ffv1",
        "--detect-size",
        "160",
        "--workers",
        "0",
        "--segment",
        "5",
    ]
    with small_disk(tmp_path / "disk", DISK_BYTES):
        filler = tmp_path / "disk" / "filler"
        with av.open(str(whole)) as container:
            bytes_a_frame = sum(packet.size for packet in container.demux(video=0)) / 25
        filler.write_bytes(
            bytes(DISK_BYTES - round(15 * bytes_a_frame) - 32768)
        )  # segments are of ten frames
        done = said("batch", film, "--out", out, *flags)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
        assert "no space left on device; put that right and start again" in done.err
        with Store.open(out, writing=False) as store:
            (job,) = store.jobs()
            before = store.parts_done(job.id)
            assert job.state == "queued"
        assert 1 <= len(before) < PARTS
        assert not list(out.rglob("*.part-*"))
        filler.unlink()
        done = said("batch", film, "--out", out, *flags)
        assert done.code == 0, done.err
        check_whole(out / film.name, whole)
        report = json.loads((out / "report.jsonl").read_text())["report"]
        assert report["segments_reused"] == len(before)


def test_the_folder_of_results_is_removed(film: Path, whole: Path, network: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileMissing, match="folder of the results is gone") as raised:
        run([film], out, network, executor=Watched(lambda n: shutil.rmtree(out) if n == 1 else None))
    check_one_line(raised.value)
    assert not out.exists()  # where a disk was, nothing is written to the one beneath
    run([film], out, network)
    check_whole(out / film.name, whole)


def test_the_folder_of_results_is_away_for_a_while(
    film: Path, whole: Path, network: Path, tmp_path: Path
) -> None:
    out, away = tmp_path / "out", tmp_path / "away"
    with pytest.raises(FileMissing):
        run([film], out, network, executor=Watched(lambda n: out.rename(away) if n == 2 else None))
    away.rename(out)
    (result,) = run([film], out, network).films
    assert result.reused == 2
    check_whole(out / film.name, whole)


def test_the_store_is_locked(
    film: Path, whole: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program for backups, say."""
    out = tmp_path / "out"
    monkeypatch.setattr(store_module, "BUSY_S", 0.3)
    locked = []

    def lock(number: int) -> None:
        if number == 2:
            other = sqlite3.connect(store_path(out), isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            locked.append(other)

    with pytest.raises(FileError, match="another program has held it") as raised:
        run([film], out, network, executor=Watched(lock))
    check_one_line(raised.value)
    with pytest.raises(FileError, match="another program has held it"):
        run([film], out, network)
    locked[0].close()
    (result,) = run([film], out, network).films
    assert result.reused == 2
    check_whole(out / film.name, whole)


def test_two_runs_with_one_folder(film: Path, network: Path, tmp_path: Path, said: Told) -> None:
    out, told = tmp_path / "out", []

    def other(number: int) -> None:
        told.append(said("batch", film, "--out", out, "--weights", network, "--workers", "0"))
        told.append(said("jobs", "cancel", "x", "--out", out))
        told.append(said("jobs", "list", "--out", out, "--json"))

    (result,) = run([film], out, network, executor=Watched(other)).films
    assert result.state == "done"
    for refused in (told[0], told[1]):
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
        assert f"another run (process {os.getpid()})" in refused.err
    assert json.loads(told[2].out)["state"] == "running"


def test_the_clock_is_set_back(
    film: Path, whole: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By years, in the middle of one run and before the next."""
    out, real, years = tmp_path / "out", time.time, []
    monkeypatch.setattr(time, "time", lambda: real() - 1e9 * len(years))

    def back(number: int) -> None:
        years.append(number)
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([film], out, network, executor=Watched(back))
    etas: list[float | None] = []
    summary = run([film], out, network, progress=lambda overview: etas.append(overview.eta_s))
    assert (summary.films[0].state, summary.films[0].reused) == ("done", 2)
    assert 0 < summary.seconds < 1000
    assert all(eta is None or eta >= 0 for eta in etas)
    check_whole(out / film.name, whole)
    years.append(9)
    assert run([film], out, network).films[0].skipped


def test_a_source_that_changes_while_it_is_restored(film: Path, network: Path, tmp_path: Path) -> None:
    def change(number: int) -> None:
        if number == 1:
            film.write_bytes(film.read_bytes() + b"more")

    (failed,) = run([film], tmp_path / "out", network, executor=Watched(change)).failed
    assert failed.reason == "it was changed while it was restored: start again"
    assert run([film], tmp_path / "out", network).films[0].state == "done"


@pytest.mark.parametrize("damage", [b"{", b""])
def test_tracks_are_damaged(damage: bytes, film: Path, whole: Path, network: Path, tmp_path: Path) -> None:
    """They are found again; what else is done stays done where they are the same."""
    out = tmp_path / "out"
    interrupt(film, out, network)
    (tracks,) = out.rglob("tracks.json")
    tracks.write_bytes(damage)
    (result,) = run([film], out, network).films
    assert (result.state, result.reused) == ("done", 2), result.reason
    check_whole(out / film.name, whole)


def test_segments_of_other_tracks_are_made_anew(
    film: Path, whole: Path, network: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    interrupt(film, out, network)
    (tracks,) = out.rglob("tracks.json")
    tracks.write_text(tracks.read_text() + "\n")  # as good, but not the same
    (result,) = run([film], out, network).films
    assert (result.state, result.reused) == ("done", 0), result.reason
    check_whole(out / film.name, whole)


def test_the_driver_is_killed(film: Path, whole: Path, network: Path, tmp_path: Path) -> None:
    """With two workers: they end with it, and the next run redoes what they were doing, and no more."""
    out = tmp_path / "out"
    other = write_clip(tmp_path / "other.mkv", size=(64, 48), frames=35, rate=1, codec="libx264")
    command = [sys.executable, "-m", "gpenvideo", "batch", film, other, "--out", out, "--workers", "2"]
    command += ["--weights", network, "--codec", "ffv1", "--detect-size", "160", "--segment", "5"]
    driver = subprocess.Popen(
        list(map(str, command)), env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 90
    while len(segments(out)) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    workers = children(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert len(workers) >= 2
    while any(map(is_alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))
    with Store.open(out, writing=False) as store:
        done = {job.id: len(store.parts_done(job.id)) for job in store.jobs()}
        begun = sum(sum(store.parts_begun(job.id).values()) for job in store.jobs())
    assert begun - sum(done.values()) <= 2  # what each worker was at, and nothing else, will be done again
    summary = run([film, other], out, network)
    assert {f.state for f in summary.films} == {"done"}, [f.reason for f in summary.films]
    assert {f.id: f.reused for f in summary.films if not f.skipped}.items() <= done.items()
    assert sum(done.values()) >= 1
    check_whole(out / film.name, whole)


def test_ctrl_c_while_workers_start(film: Path, network: Path, tmp_path: Path) -> None:
    """A terminal tells the workers too; nobody hears more of it than that it was stopped."""
    command = [sys.executable, "-m", "gpenvideo", "batch", film, "--out", tmp_path / "out", "--workers", "2"]
    driver = subprocess.Popen(
        list(map(str, [*command, "--weights", network])),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while len(children(driver.pid)) < 2 and time.monotonic() < end:  # one keeps count of what they share
        time.sleep(0.005)
    workers = children(driver.pid)
    os.killpg(driver.pid, signal.SIGINT)
    out, errors = driver.communicate(timeout=60)
    assert (driver.returncode, out, errors) == (130, "", "stopped\n")
    while any(map(is_alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def segments(out: Path) -> list[Path]:
    return [path for path in out.rglob("*.nut") if not path.name.startswith(".")]


def children(process: int) -> list[int]:
    """The processes that a process has begun, on Linux."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            facts = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(facts[1]) == process:
            found.append(int(status.parent.name))
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
