"""Workers of a Ray cluster on this machine: what a second one gains, and what each task takes.

    python -m benchmarks.cluster [--quick] [--workers 1 2]

A batch of four clips (640x360, one face, 12 s each, default weights and options, segments of 10 s and 2 s) is
restored by as many workers as are named, one thread of the network each, on a cluster that is started for it.
What is timed begins when the workers have their networks, which a batch of two short clips sees to, and ends
when all results have their names. `efficiency` is the time of one worker over workers times the time.

Each segment's time is kept too, and what hashes, analyses and joins take (of one worker): that is what
`benchmarks.cluster_sim` makes an archive of.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.video import SCENES, film
from gpenvideo.batch.driver import BatchOptions
from gpenvideo.batch.executor import Outcome, Tell
from gpenvideo.batch.ray import OBJECTS_BYTES, Cluster
from gpenvideo.batch.run import Summary, run_batch
from gpenvideo.batch.tasks import Task

SCENE = SCENES["640x360, one face"]
FILMS, FRAMES, QUICK_FRAMES = 4, 300, 60
SEGMENT_S = 10.0


class Timed:
    """An executor that is used twice, and remembers when its tasks began and ended."""

    def __init__(self, inner: Cluster) -> None:
        self._inner = inner
        self._begun: dict[int, float] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    @property
    def slots(self) -> int:
        return self._inner.slots

    def submit(self, task: Task) -> None:
        self._begun[id(task)] = time.perf_counter()
        self._inner.submit(task)

    def next_outcome(self, timeout_s: float, tell: Tell | None = None) -> Outcome | None:
        outcome = self._inner.next_outcome(timeout_s, tell)
        if outcome:
            begun = self._begun.pop(id(outcome.task))
            self.seconds[type(outcome.task).__name__.lower()] += time.perf_counter() - begun
        return outcome

    def close(self) -> None:
        """Not yet: another batch follows."""


def run(workers: int, folder: Path) -> tuple[float, Timed, Summary]:
    """Seconds of the batch by so many workers, with the times of its tasks and its films."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=workers, object_store_memory=OBJECTS_BYTES, **quiet)
    cluster = Cluster(workers=workers)  # by itself it would make one of few cores
    try:
        made = folder / f"{workers}"
        how: dict[str, Any] = {
            "options": BatchOptions(segment_s=SEGMENT_S),
            "settings": {"select": "largest"},  # so that a mistake of the detector does not count
        }
        run_batch([folder / "warm"], made / "warm", executor=Timed(cluster), store=made / "warm.db", **how)
        timed = Timed(cluster)
        begun = time.perf_counter()
        done = run_batch([folder / "films"], made / "films", executor=timed, store=made / "films.db", **how)
        seconds = time.perf_counter() - begun
    finally:
        cluster.close()
        ray.shutdown()
    assert done.states == {"done": FILMS}, [film.reason for film in done.failed]
    return seconds, timed, done


def make_clips(folder: Path, frames: int) -> None:
    for name, count, length in (("films", FILMS, frames), ("warm", 2, 25)):
        (folder / name).mkdir()
        for number in range(count):
            scene = SCENE._replace(frames=length, path=replace(SCENE.path, seed=number))
            film(scene, folder / name / f"{number}.mp4")


def rows_of(
    workers: int, seconds: float, alone_s: float, timed: Timed, done: Summary
) -> list[dict[str, Any]]:
    frames = sum(film.frames for film in done.films)
    rows: list[dict[str, Any]] = [
        {
            "kind": "batch",
            "workers": workers,
            "seconds": round(seconds, 2),
            "frames/s": round(frames / seconds, 2),
            "efficiency": round(alone_s / (workers * seconds), 3),
        }
    ]
    if workers == 1:
        others = {f"{task} s a frame": timed.seconds[task] / frames for task in ("hash", "analyse", "join")}
        rows.append({"kind": "others"} | others)
        for film in done.films:
            for part in film.done.values():
                facts = {"frames": part.frames, "faces": part.faces, "seconds": round(part.seconds, 3)}
                rows.append({"kind": "segment"} | facts)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter clips; nothing is written")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    alone_s = None
    with tempfile.TemporaryDirectory() as folder:
        make_clips(Path(folder), QUICK_FRAMES if options.quick else FRAMES)
        for workers in options.workers:
            seconds, timed, done = run(workers, Path(folder))
            alone_s = alone_s or seconds * workers
            rows += rows_of(workers, seconds, alone_s, timed, done)
    for kind in ("batch", "others", "segment"):
        if told := [row for row in rows if row["kind"] == kind]:
            print(measure.table(told), end="\n\n")
    if not options.quick:
        print(measure.save("cluster", rows))


if __name__ == "__main__":
    main()
