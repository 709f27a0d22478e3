"""Places that are paths and URLs: what is fetched and put arrives whole, and nothing is left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from buckets import bucket_of, fetch_slowly
from portraits import decoded_planes, portrait_clip

from gpenvideo.batch.local import InProcess
from gpenvideo.batch.run import Summary, run_batch
from gpenvideo.batch.staging import Staged
from gpenvideo.batch.storage import (
    as_place,
    digest,
    exists,
    fetch,
    find,
    inside,
    is_url,
    name_of,
    put,
    remove,
    stamp,
)
from gpenvideo.errors import DependencyError, FileError, FileMissing, OptionError

ODD = "a b/ü #1?*[x]%20.mkv"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a bucket."""
    with bucket_of("films") as url:
        yield url


@pytest.fixture(params=["path", "file", "s3", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder of each kind, empty."""
    kinds = {"path": str(tmp_path / "there"), "file": f"file://{tmp_path}/there", "memory": "memory://there"}
    if request.param == "s3":
        kinds["s3"] = inside(request.getfixturevalue("bucket"), request.node.name)
    place = kinds[request.param]
    with Staged(root=tmp_path / "stage") as staged:
        staged.make_folder(place)
    yield place
    remove(place)


def file_of(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "made"
    file.write_bytes(content)
    return file


def test_names_of_places() -> None:
    assert [is_url(place) for place in ("s3://b/k", "gs://b/k", "C:/films", "file:///films", "a/b")] == [
        *(True, True, False, False, False)
    ]
    assert as_place("file:///films/a%20b #1.mkv") == "/films/a%20b #1.mkv"
    assert as_place("file:///C:/films") == "C:/films"
    assert inside("s3://b/films/", "a", "b.mkv") == "s3://b/films/a/b.mkv"
    assert inside("file:///films", "a", "b.mkv") == str(Path("/films/a/b.mkv"))
    assert name_of("s3://b/films/b #1.mkv") == "b #1.mkv"
    assert name_of(os.path.join("films", "b.mkv")) == "b.mkv"


def test_what_is_put_is_there_and_comes_back(folder: str, tmp_path: Path) -> None:
    place = inside(folder, *ODD.split("/"))
    with Staged(root=tmp_path / "stage") as staged:
        staged.make_folder(inside(folder, "a b"))
        assert not staged.exists(place)
        sha256 = put(file_of(tmp_path, os.urandom(3_000_000)), place)
        assert staged.exists(place)
        assert digest(place) == sha256
        fetched = staged.fetched(place)
        assert fetched.read_bytes() == (tmp_path / "made").read_bytes()
        assert fetched.name == name_of(ODD)
        first = stamp(place)
        assert put(file_of(tmp_path, b"shorter"), place) != sha256
        assert stamp(place) != first
        assert staged.fetched(place).read_bytes() == b"shorter"
        staged.remove(place)
        staged.remove(place)
        assert not staged.exists(place)
    assert not any((tmp_path / "stage").glob("*/*"))


def test_what_is_made_appears_whole_or_not_at_all(folder: str, tmp_path: Path) -> None:
    place = inside(folder, "segment.nut")
    with Staged(paths=True, root=tmp_path / "stage") as staged:
        with pytest.raises(ZeroDivisionError), staged.made(place) as file:  # noqa: PT012
            file.write_bytes(b"half")
            assert not exists(place)
            raise ZeroDivisionError
        assert not exists(place)
        with staged.made(place) as file:
            assert file.name == "segment.nut"
            file.write_bytes(b"whole")
            assert not exists(place)
        assert staged.fetched(place).read_bytes() == b"whole"
    if not is_url(folder):
        assert [path.name for path in Path(as_place(folder)).iterdir()] == ["segment.nut"]


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """It was on a disk that is gone: what is written in its place would be lost."""
    with pytest.raises(FileMissing):
        put(file_of(tmp_path, b"whole"), str(tmp_path / "gone" / "segment.nut"))
    assert not (tmp_path / "gone").exists()


def test_files_of_a_bucket_are_found(bucket: str, tmp_path: Path) -> None:
    root = inside(bucket, "find")
    places = [inside(root, *name.split("/")) for name in ("a.mkv", "b.mov", "deep/c d.mkv", "deep/er/e.mkv")]
    for place in places:
        put(file_of(tmp_path, b"film"), place)
    assert find(root) == find(root + "/") == places
    assert find(places[2]) == [places[2]]
    assert find(inside(root, "*.mkv")) == places[:1]
    assert find(inside(root, "**", "?.mkv")) == [places[0], places[3]]
    with pytest.raises(FileMissing, match="s3://films/find/nothing: cannot read it"):
        find(inside(root, "nothing"))


@pytest.mark.parametrize(
    ("place", "kind", "line"),
    [
        ("s3://films/nothing.mkv", FileMissing, "no such file"),
        ("s3://no-such-bucket/film.mkv", FileMissing, "no such file"),
        ("gs://films/film.mkv", DependencyError, "pip install 'gcsfs'"),
        ("films://a/film.mkv", OptionError, "there is no films://"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_a_line(
    bucket: str, place: str, kind: type[Exception], line: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=line) as told:
        fetch(place, tmp_path)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_put_is_told_in_a_line(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot write it") as told:
        put(file_of(tmp_path, b"film"), "s3://no-such-bucket/film.mkv")
    assert "\n" not in str(told.value)


def test_no_network_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a server that is not there: by an error of its own, which is no OSError."""
    url = "http://127.0.0.1:9/film.mkv"
    with pytest.raises(FileError, match="cannot read it") as told:
        fetch(url, tmp_path)
    assert "\n" not in str(told.value)


def test_what_was_damaged_on_its_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that keeps less than it was sent, and says nothing."""
    from fsspec.implementations.memory import MemoryFileSystem

    whole = MemoryFileSystem.put_file

    def half(self: Any, file: str, path: str, **more: Any) -> None:
        whole(self, file, path, **more)
        self.store[self._strip_protocol(path)].truncate(3)

    monkeypatch.setattr(MemoryFileSystem, "put_file", half)
    with pytest.raises(FileError, match="damaged on its way"):
        put(file_of(tmp_path, b"whole"), "memory://films/film.mkv")


def test_what_a_source_needs_stays_for_the_next_task(bucket: str, tmp_path: Path) -> None:
    source, other = inside(bucket, "stay", "a.mkv"), inside(bucket, "stay", "b.nut")
    put(file_of(tmp_path, b"film"), source)
    put(file_of(tmp_path, b"segment"), other)
    with Staged(root=tmp_path / "stage") as staged:
        kept, dropped = staged.fetched(source), staged.fetched(other)
        inode = kept.stat().st_ino
        staged.tidy(source)
        assert not dropped.exists()
        assert staged.fetched(source).stat().st_ino == inode
        staged.tidy()
        assert not kept.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="its processes fetch each for itself")
def test_the_workers_of_a_machine_fetch_a_source_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, inodes = spawn.Barrier(3), spawn.Queue()
    arguments = ("memory://films/film.mkv", tmp_path / "stage", barrier, inodes)
    workers = [spawn.Process(target=fetch_slowly, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = {inodes.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(found) == 1
    assert not any(path.is_dir() for path in (tmp_path / "stage").iterdir())


def test_what_a_killed_worker_left_is_removed_by_the_next(tmp_path: Path) -> None:
    root = tmp_path / "stage"
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom gpenvideo.batch.staging import Staged\n"
        "with Staged(paths=True, root=Path(sys.argv[1])) as staged, staged.made(sys.argv[2]) as file:\n"
        "    file.write_bytes(b'half')\n    print('made', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, root, tmp_path / "segment.nut"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"made\n"
        with Staged(paths=True, root=root) as staged, staged.made(str(tmp_path / "other.nut")) as file:
            file.touch()
            assert len(list(root.glob("*/*/segment.nut"))) == 1  # of one that lives
        worker.send_signal(signal.SIGKILL)
    with Staged(paths=True, root=root) as staged, staged.made(str(tmp_path / "other.nut")) as file:
        file.touch()
        assert not list(root.glob("*/*/segment.nut"))
    assert not any(path.is_dir() for path in root.iterdir())
    assert not (tmp_path / "segment.nut").exists()


def test_a_batch_from_bucket_to_bucket_is_one_from_folder_to_folder(
    bucket: str, network: Path, one_thread: None, tmp_path: Path
) -> None:
    films, results = tmp_path / "films", inside(bucket, "results")
    films.mkdir()
    good = portrait_clip(films / "a b #1.mkv", size=(160, 120), frames=12, audio=1)
    (films / "broken.mkv").write_bytes(b"no film")
    for film in films.iterdir():
        put(film, inside(bucket, "films", film.name))
    settings = {"weights": str(network), "codec": "ffv1", "guard": False}

    def batch(given: str, output: str, store: Path) -> Summary:
        return run_batch([given], output, settings=settings, executor=InProcess(), store=store)

    here = batch(str(films), str(tmp_path / "here"), tmp_path / "1.sqlite")
    there = [batch(inside(bucket, "films"), results, tmp_path / "2.sqlite") for _ in range(2)]
    assert [summary.states for summary in there] == [here.states] * 2 == [{"done": 1, "failed": 1}] * 2
    assert [film.skipped for film in there[1].films] == [True, True]
    assert sorted(find(results)) == [inside(results, name) for name in ("a b #1.mkv", "report.jsonl")]
    (failed,) = there[0].failed
    assert failed.work.source == inside(bucket, "films", "broken.mkv")
    assert tempfile.gettempdir() not in str(failed.reason)
    (of_a_folder,) = here.failed
    assert failed.reason == of_a_folder.reason
    restored = decoded_planes(fetch(inside(results, "a b #1.mkv"), tmp_path))
    expected, source = decoded_planes(tmp_path / "here" / "a b #1.mkv"), decoded_planes(good)
    assert list(restored) == list(expected) == list(source)
    for pts, planes in expected.items():
        assert all(np.array_equal(a, b) for a, b in zip(restored[pts], planes, strict=True))
    assert not all(np.array_equal(restored[pts][0], source[pts][0]) for pts in source)
    told = fetch(inside(results, "report.jsonl"), tmp_path)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert [line["report"].get("target") for line in lines] == [inside(results, "a b #1.mkv"), None]
