"""The store of jobs: what was said is kept, whatever ends the program, and one run at a time writes it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpenvideo import FileError, FileMissing, OptionError
from gpenvideo.batch import store as module
from gpenvideo.batch.store import STATES, Job, Store, store_path
from gpenvideo.segmented.parts import PartDone

DONE = PartDone(0, "segments/00000.nut", "ab" * 32, 1234, 50, 40, 1.5, {"part": [0, None], "x": [1.5, "é"]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def store(tmp_path: Path, file: Path) -> Iterator[Store]:
    with Store.open(tmp_path, file) as opened:
        yield opened


def plain(job: Job) -> Job:
    """Without the times, which are the clock's."""
    return replace(job, added=0.0, changed=0.0)


@pytest.mark.parametrize(
    "name",
    ["film.mkv", "été 🎬.mkv", "two\nlines.mkv", "-rf.mkv", "' OR 1=1; --.mkv", os.fsdecode(b"\xff\xfe.mkv")],
)
def test_a_job_comes_back_as_it_was(name: str, store: Store, tmp_path: Path, file: Path) -> None:
    job = Job("1", f"/in/{name}", f"/out/{name}", "aa", "bb", "failed", f"{name} is no video", 2, 1.5, 3, 4)
    job = replace(job, report={"frames": {"in": None}, "warnings": ["ü"]})
    store.add(job)
    store.close()
    with Store.open(tmp_path, file) as again:
        assert plain(again.get("1")) == job
        assert [plain(found) for found in again.jobs()] == [job]


def test_jobs_keep_their_order_and_are_found_by_state(store: Store) -> None:
    for number in (3, 1, 2):
        store.add(Job(str(number), f"{number}.mkv", f"out/{number}.mkv"))
    store.set_state("1", "running", attempts=1)
    store.set_state("2", "failed", "it is no video", seconds=0.5)
    store.set_state("3", "done", report={"frames": {"written": 9}}, frames=9, faces=7, source_hash="aa")
    assert [job.id for job in store.jobs()] == ["3", "1", "2"]
    assert [job.id for job in store.jobs("failed")] == ["2"]
    assert store.get("2").reason == "it is no video"
    assert store.get("3").report == {"frames": {"written": 9}}
    assert (store.get("3").frames, store.get("3").faces, store.get("3").source_hash) == (9, 7, "aa")
    store.set_state("2", "queued")
    assert (store.get("2").reason, store.get("2").attempts) == (None, 0)
    store.add(Job("1", "1.mkv", "elsewhere/1.mkv"))
    assert [job.id for job in store.jobs("queued")] == ["1", "2"]
    assert store.get("1").target == "elsewhere/1.mkv"


def test_what_is_no_job_or_no_state(store: Store) -> None:
    store.add(Job("1", "a", "b"))
    with pytest.raises(OptionError, match="no job '2'"):
        store.get("2")
    with pytest.raises(OptionError, match="no job '2'"):
        store.set_state("2", "done")
    with pytest.raises(OptionError, match="queued, running, done, failed, cancelled, not 'over'"):
        store.set_state("1", "over")
    with pytest.raises(OptionError, match="no added to be set"):
        store.set_state("1", "done", added=2)
    assert store.get("1").state == STATES[0]


def test_parts_are_done_when_they_were_said_to_be(store: Store) -> None:
    store.part_begun("1", 0, "segments/00000.nut")
    assert store.parts_done("1") == {}
    store.part_begun("1", 0, "segments/00000.nut")
    store.part_done("1", DONE)
    store.part_done("1", replace(DONE, index=2))
    store.part_done("2", replace(DONE, frames=1))
    assert store.parts_done("1") == {0: DONE, 2: replace(DONE, index=2)}
    assert store.parts_begun("1") == {0: 2, 2: 1}
    store.part_begun("1", 0, "elsewhere/00000.nut")
    assert list(store.parts_done("1")) == [2]
    store.forget_parts("1")
    assert (store.parts_done("1"), store.parts_done("2")) == ({}, {0: replace(DONE, frames=1)})


def test_a_second_run_on_the_same_results_is_refused(store: Store, tmp_path: Path, file: Path) -> None:
    with pytest.raises(FileError, match=rf"another run \(process {os.getpid()}\) works on jobs for"):
        Store.open(tmp_path, file)
    store.close()
    Store.open(tmp_path, file).close()


def test_it_can_be_looked_at_while_a_run_writes(store: Store, tmp_path: Path, file: Path) -> None:
    with Store.open(tmp_path, file, writing=False) as seen:
        store.add(Job("1", "a", "b"))
        assert seen.get("1").source == "a"
        with pytest.raises(OptionError, match="opened to be looked at"):
            seen.set_state("1", "done")
    with pytest.raises(FileMissing):
        Store.open(tmp_path, tmp_path / "other.sqlite", writing=False)


def test_one_store_for_each_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert store_path("out") == store_path(tmp_path / "out") == store_path(f"{tmp_path}/x/../out/")
    assert store_path("s3://films/out/") == store_path("s3://films/out")
    assert len({store_path("out"), store_path("other"), store_path("s3://films/out")}) == 3
    if sys.platform == "linux":
        assert store_path("out").is_relative_to(tmp_path / "state" / "gpenvideo")
    with Store.open("out") as store:
        store.add(Job("1", "a", "b"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + bytes(200)])
def test_what_is_no_store_is_told_in_a_line(content: bytes, tmp_path: Path, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(FileError) as caught:
        Store.open(tmp_path, file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


def test_another_program_holds_it(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(Job("1", "a", "b"))
    store._db.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(FileError, match="another program has held it"):
        store.set_state("1", "done")
    with pytest.raises(FileError, match="another program has held it"):
        store.get("1")
    other.execute("ROLLBACK")
    other.close()
    store.set_state("1", "done")
    assert store.get("1").state == "done"


def test_a_clock_that_goes_back_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(Job("1", "a", "b"))
    monkeypatch.setattr(module.time, "time", lambda: 1.0)
    store.add(Job("2", "c", "d"))
    store.set_state("1", "done")
    assert [job.id for job in store.jobs()] == ["1", "2"]
    assert (store.get("1").state, store.get("1").changed) == ("done", 1.0)


CHILD = """
import sys
from gpenvideo.batch.store import Job, Store
from gpenvideo.segmented.parts import PartDone
with Store.open(sys.argv[1], sys.argv[2]) as store:
    for number in range(10**6):
        store.add(Job(str(number), "a", "b"))
        store.part_done(str(number), PartDone(0, "p", "ab", 1, 2, 3, 4.0))
        print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process as POSIX does")
def test_what_was_said_to_be_done_is_there_after_a_kill(tmp_path: Path, file: Path) -> None:
    """And the lock of a process that was killed is free."""
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(file)], stdout=subprocess.PIPE
        )
        assert child.stdout
        for _ in range(20):
            child.stdout.readline()
        time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        said = [*range(20), *map(int, child.stdout.read().split())]
        child.wait()
        child.stdout.close()
        with Store.open(tmp_path, file) as store:
            for number in said:
                assert 0 in store.parts_done(str(number))
        file.unlink()
