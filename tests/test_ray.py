"""Batches on a cluster of Ray: two nodes of this machine. One of them may be killed, and the driver."""

from __future__ import annotations

import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from buckets import bucket_of
from clips import write_clip
from portraits import decoded_planes, portrait_clip, shot

from gpenvideo.batch.driver import BatchOptions
from gpenvideo.batch.local import InProcess
from gpenvideo.batch.overview import Overview
from gpenvideo.batch.ray import Cluster, Share, share_of
from gpenvideo.batch.run import run_batch
from gpenvideo.batch.storage import fetch, find, inside, put
from gpenvideo.errors import FileError, OptionError
from gpenvideo.faces.identity import ARCFACE
from gpenvideo.weights import read_manifest

SIZE, RATE_HZ, SEGMENT_S = (160, 120), 10, 10
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
FILMS = {"one.mkv": 330, "two.mkv": 215}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with bucket_of("cluster") as url:
        yield url


@pytest.fixture(scope="module")
def head(bucket: str) -> Iterator[Any]:
    """A cluster: one node, with a core to give."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # no token of this user's is looked for
        from ray.cluster_utils import Cluster as Nodes

        nodes = Nodes(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        yield nodes
        nodes.shutdown()


@pytest.fixture
def cluster(head: Any) -> Any:
    """The same with a second node."""
    if len(head.list_all_nodes()) == 1:
        head.add_node(**NODE)
    return head


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of several segments, with sound."""
    folder, picture = tmp_path_factory.mktemp("films"), shot("yuv420p", SIZE)

    def swaying(number: int) -> av.VideoFrame:
        return picture(abs(number % 40 - 20))

    for name, frames in FILMS.items():
        write_clip(
            folder / name,
            size=SIZE,
            frames=frames,
            rate=RATE_HZ,
            picture=swaying,
            matrix=6,
            full_range=False,
            audio=1,
        )
    return folder


@pytest.fixture(scope="module")
def settings(network: Path) -> dict[str, Any]:
    return {"weights": str(network), "codec": "ffv1"}


@pytest.fixture(scope="module")
def local(films: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this process alone makes of the films."""
    import torch

    folder, threads = tmp_path_factory.mktemp("local"), torch.get_num_threads()
    torch.set_num_threads(1)
    summary = run_batch(
        [films],
        folder,
        settings=settings,
        options=OPTIONS,
        executor=InProcess(),
        store=folder / "jobs.sqlite",
    )
    torch.set_num_threads(threads)
    assert summary.states == {"done": 2}
    return folder


OPTIONS = BatchOptions(segment_s=SEGMENT_S)


def assert_same(result: Path, local: Path, source: Path) -> None:
    """All planes and pts of the pictures, and all packets of the sound, are those of a local run."""
    found, expected, before = (decoded_planes(path) for path in (result, local, source))
    assert list(found) == list(expected) == list(before)
    for pts, planes in expected.items():
        assert all(np.array_equal(a, b) for a, b in zip(found[pts], planes, strict=True)), pts
    assert any(not np.array_equal(found[pts][0], before[pts][0]) for pts in before)
    assert sound(result) == sound(local) == sound(source)


def sound(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(packet.pts, bytes(packet)) for packet in packets if packet.size]


def test_a_cluster_is_shared_out() -> None:
    gpus = {"CPU": 32.0, "GPU": 4.0}
    assert share_of([gpus, gpus]) == Share(8, 8, 1)
    assert share_of([gpus, {"CPU": 12.0, "GPU": 4.0}, {"CPU": 64.0}]) == Share(8, 3, 1)
    assert share_of([gpus], 2) == Share(2, 8, 1)
    assert share_of([{"CPU": 16.0}, {"CPU": 6.0}, {"memory": 1e9}]) == Share(5, 4, 0)
    assert share_of([{"CPU": 1.0}, {"CPU": 1.0}]) == Share(2, 1, 0)
    assert share_of([{"CPU": 2.0}], 2) == Share(2, 1, 0)
    assert share_of([{"CPU": 16.0}], 2) == Share(2, 8, 0)
    assert share_of([{"CPU": 2.0}], 8) == Share(8, 1, 0)
    assert share_of([{"CPU": 0.0}]).workers == 0
    assert share_of([gpus], gpus=0) == Share(8, 4, 0)
    assert share_of([{"CPU": 0.0}], 64, 1) == Share(64, 1, 1)  # of nodes that are still to come


def test_the_cluster_that_the_page_shows_is_one_by_rays_rules() -> None:
    import jsonschema
    import ray.autoscaler
    import yaml

    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    shown = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    schema = Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    jsonschema.validate(shown, json.loads(schema.read_text()))
    assert shown["head_node_type"] in shown["available_node_types"]
    resources = [kind["resources"] for kind in shown["available_node_types"].values()]
    assert share_of(resources) == Share(1, 8, 1)


@pytest.mark.parametrize(
    ("address", "line"),
    [("127.0.0.1:9", "no Ray cluster answers"), ("films", "HOST:PORT"), ("ray://127.0.0.1:x", "HOST:PORT")],
)
def test_a_cluster_that_is_not_there_is_told_at_once(address: str, line: str) -> None:
    begun = time.monotonic()
    with pytest.raises(OptionError, match=line) as told:
        Cluster(address)
    assert "\n" not in str(told.value)
    assert time.monotonic() - begun < 20


def test_one_of_two_nodes_is_killed_and_the_results_are_the_same(
    cluster: Any, films: Path, settings: dict[str, Any], local: Path, tmp_path: Path
) -> None:
    (node,) = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    workers: dict[int, int] = {}
    cores: dict[int, set[int]] = {}

    def kill(overview: Overview) -> None:
        """Once both nodes have a worker, and something is restored."""
        workers.update(workers_by_raylet())
        for worker in set(workers) - set(cores):
            with suppress(ProcessLookupError):
                cores[worker] = os.sched_getaffinity(worker)
        if node in cluster.list_all_nodes() and len(set(workers.values())) == 2 and overview.frames:
            cluster.remove_node(node, allow_graceful=False)

    executor = Cluster(cluster.address)
    assert executor.slots == 2
    summary = run_batch(
        [films],
        tmp_path / "out",
        settings=settings,
        options=OPTIONS,
        executor=executor,
        store=tmp_path / "jobs.sqlite",
        progress=kill,
    )
    assert node not in cluster.list_all_nodes()
    assert summary.states == {"done": 2}
    deaths = sum(sum(film.deaths.values()) for film in summary.films)
    assert deaths == 1
    if (os.cpu_count() or 1) > 1:
        first, second = list(cores.values())[:2]
        assert len(first) == len(second) == 1
        assert first != second
    for name in FILMS:
        assert_same(tmp_path / "out" / name, local / name, films / name)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "one.mkv",
        "report.jsonl",
        "two.mkv",
    ]


def workers_by_raylet() -> dict[int, int]:
    """The processes that do tasks now: their numbers, and those of their nodes' raylets."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::_Actor.attempt"):
                found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def test_nodes_that_join_get_workers(head: Any) -> None:
    executor = Cluster(head.address)
    assert executor.slots < 4
    node = head.add_node(**NODE | {"num_cpus": 3})

    def has_grown() -> bool:
        executor.next_outcome(0.2)
        return executor.slots >= 4

    try:
        wait_for(has_grown)
    finally:
        executor.close()
        head.remove_node(node)


def test_a_driver_that_is_ended_or_killed_goes_on_where_it_was(
    cluster: Any, films: Path, network: Path, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "gpenvideo", "batch", films, "--out", out, "--ray", cluster.address]
    command += ["--weights", network, "--codec", "ffv1", "--segment", str(SEGMENT_S), "--json"]
    command += ["--workers", "2"]  # a node that left may still be listed
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = 0
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as run:
            try:
                wait_for(lambda least=done + 1: segments(tmp_path)[1] >= least)
                run.send_signal(number)
                said = run.communicate()[1]
            finally:
                run.kill()
        assert (run.returncode, said) == (code, b"stopped\n" if number == signal.SIGTERM else b"")
        begun, done = segments(tmp_path)
        assert begun - done <= 2  # one a worker
    assert not all((out / name).exists() for name in FILMS)
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (again.returncode, again.stderr) == (0, "")
    told = subprocess.run(
        [sys.executable, "-m", "gpenvideo", "jobs", "export", "--out", out],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    reused = sum(json.loads(line)["report"]["segments_reused"] for line in told.stdout.splitlines())
    assert reused >= done
    for name in FILMS:
        assert_same(out / name, local / name, films / name)


def test_a_film_that_kills_its_workers_is_given_up_after_three(
    cluster: Any,
    films: Path,
    settings: dict[str, Any],
    local: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever works on it is killed as soon as it begins; the film that comes after it is restored."""
    (tmp_path / "films").mkdir()
    for name, source in (("1.mkv", "one.mkv"), ("2.mkv", "two.mkv")):
        (tmp_path / "films" / name).symlink_to(films / source)
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            for worker in workers_by_raylet():
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        summary = run_batch(
            [tmp_path / "films"],
            tmp_path / "out",
            settings=settings,
            options=OPTIONS,
            executor=Cluster(cluster.address, 1),
            store=tmp_path / "jobs.sqlite",
            finished=lambda film: over.set(),
        )
    finally:
        over.set()
        killer.join()
    bad, good = summary.films
    assert (bad.state, good.state) == ("failed", "done")
    assert bad.reason is not None
    assert bad.reason.startswith("it kills its workers")
    assert "\n" not in bad.reason
    assert sum(bad.deaths.values()) == 3
    assert capfd.readouterr() == ("", "")  # where Ray would tell of it among what programs read
    assert_same(tmp_path / "out" / "2.mkv", local / "two.mkv", films / "two.mkv")


def test_sources_and_results_in_a_bucket(
    cluster: Any, bucket: str, films: Path, settings: dict[str, Any], local: Path, tmp_path: Path
) -> None:
    source, out = inside(bucket, "films", "two.mkv"), inside(bucket, "restored")
    put(films / "two.mkv", source)
    summary = run_batch(
        [inside(bucket, "films")],
        out,
        settings=settings,
        options=OPTIONS,
        executor=Cluster(cluster.address),
        store=tmp_path / "jobs.sqlite",
    )
    assert summary.states == {"done": 1}
    assert find(out) == [inside(out, "report.jsonl"), inside(out, "two.mkv")]
    assert_same(fetch(inside(out, "two.mkv"), tmp_path), local / "two.mkv", films / "two.mkv")


def segments(folder: Path) -> tuple[int, int]:
    """How many segments the store says were begun, and are done."""
    for path in folder.rglob("*.sqlite"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store, suppress(sqlite3.Error):
            return tuple(store.execute("SELECT COUNT(*), COUNT(sha256) FROM segments").fetchone())
    return 0, 0


def wait_for(come: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_node_with_other_weights_ends_the_batch_in_a_line(
    cluster: Any, films: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells people apart is on the driver's machine alone: there the results would be others."""
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / read_manifest()[ARCFACE].file).write_bytes(b"weights")
    with pytest.raises(FileError, match="its weights are not those of the driver's machine") as told:
        run_batch(
            [films],
            tmp_path / "out",
            settings=settings,
            executor=Cluster(cluster.address),
            store=tmp_path / "jobs.sqlite",
        )
    assert "\n" not in str(told.value)
    assert f"on {platform.node()}" in str(told.value)


def test_the_example_restores_a_folder(cluster: Any, films: Path, tmp_path: Path) -> None:
    """From another folder, with paths from there on; the cluster is the one of this machine."""
    (tmp_path / "films").mkdir()
    portrait_clip(tmp_path / "films" / "new.mkv", size=SIZE, frames=8)
    (tmp_path / "films" / "old.mkv").write_bytes(b"no film")
    example = Path(__file__).parents[1] / "examples" / "restore_on_ray.py"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "RAY_ADDRESS": cluster.address}
    done = subprocess.run(
        [sys.executable, example, "films", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    *closed, last = done.stdout.splitlines()
    assert last == f"{tmp_path / 'out' / 'new.mkv'}: 8 frames, 8 faces in 1 segments"
    assert sorted(line.split(": ")[1][:6] for line in closed) == ["done", "failed"]
    assert (tmp_path / "out" / "new.mkv").exists()
