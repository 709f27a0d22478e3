"""An archive on a cluster that is not there: the real driver, and workers whose time is simulated.

    python -m benchmarks.cluster_sim [--hours 1000] [--workers 64] [--fps 25 100] [--deaths 0.01]

The driver of `gpenvideo batch` with its store deals out hashes, analyses, segments and joins as it does on a
cluster; an executor with a clock of its own says when each ends. How long a task takes a worker is drawn from
what `benchmarks.cluster` measured of real segments (benchmarks/results/cluster.json), seconds a frame. The
rows "as measured" have workers as fast as those, cores of that machine. The others are so many times faster
that they restore `--fps` frames a second, which was not measured: put there what your GPU does.

Workers die at a constant rate, whatever they do; what they were doing is lost, and it takes a while until
there is a new one. `work` is what the tasks that were done took, divided by the workers: no batch is done
sooner. `tail` is from when workers begin to have nothing to do until the end; `lost` the time of workers on
tasks that they did not end, `away` the time that none was in their place. `driver ms` is the real time of
driver and store for a task. Of runs with deaths the means of some are told. Without arguments the table is
kept in benchmarks/results.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure
from gpenvideo.batch.driver import BatchOptions, Driver
from gpenvideo.batch.executor import Outcome, Tell
from gpenvideo.batch.sources import Found
from gpenvideo.batch.store import Store
from gpenvideo.batch.tasks import Analyse, Analysed, Copy, Hash, Join, RestorePart, Task
from gpenvideo.segmented.parts import Part, PartDone
from gpenvideo.segmented.work import Work

FILM_HZ = 25
MEDIAN_H, SPREAD, LONGEST_H = 0.75, 0.8, 3.0  # of the lengths of an archive's films, lognormal
COME_BACK_S = 300.0  # until a node is replaced and its worker has its networks
MEMORY = Path("/dev/shm")  # for a store that is thrown away


@dataclass(frozen=True, slots=True)
class Costs:
    """What a worker takes for a frame, seconds."""

    restore_s: tuple[float, ...]
    """Of each segment that was measured."""

    analyse_s: float
    join_s: float
    hash_s: float

    @classmethod
    def read(cls, path: Path) -> Costs:
        """As `benchmarks.cluster` wrote them."""
        rows = json.loads(path.read_text())["results"]
        (others,) = [row for row in rows if row["kind"] == "others"]
        restore = tuple(row["seconds"] / row["frames"] for row in rows if row["kind"] == "segment")
        return cls(restore, *(others[f"{task} s a frame"] for task in ("analyse", "join", "hash")))


@dataclass(frozen=True, slots=True)
class Machines:
    """Workers, and how reliable they are."""

    workers: int = 64
    speed: float = 1.0
    """Times as fast as those that were measured."""

    deaths_an_hour: float = 0.0
    """Of each worker."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a batch took on simulated workers, seconds."""

    makespan_s: float
    work_s: float
    tail_s: float
    lost_s: float
    away_s: float
    deaths: int
    tasks: int
    states: dict[str, int]
    driver_s: float


class _Film(Work):
    """One that is told from no other."""

    __slots__ = ()

    def fingerprint(self) -> str:
        return "simulated"


class _Nowhere:
    """Storage that holds whatever is asked for."""

    def exists(self, path: str) -> bool:
        return True

    def fetched(self, path: str) -> Path:
        return Path(path)

    @contextmanager
    def made(self, path: str) -> Iterator[Path]:
        yield Path(path)

    def make_folder(self, path: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def tidy(self, *keep: str) -> None: ...


class Simulated:
    """An executor with a clock of its own.

    Args:
        frames: of each source.
    """

    def __init__(self, machines: Machines, costs: Costs, frames: dict[str, int], seed: int = 0) -> None:
        self.slots = machines.workers
        self.now_s = self.work_s = self.lost_s = self.away_s = self.full_until_s = 0.0
        self.deaths = self.tasks = 0
        self._machines, self._costs, self._frames = machines, costs, frames
        self._random = random.Random(seed)
        self._free = [(0.0, self._life_s(), worker) for worker in range(machines.workers)]  # from, until
        self._coming: list[tuple[float, int, int, float, Outcome]] = []
        self._number = itertools.count()

    def submit(self, task: Task) -> None:
        """Give a task to the worker that is free first, be it only being started anew."""
        free_s, dies_s, worker = heapq.heappop(self._free)
        start_s = max(self.now_s, free_s)
        while dies_s <= start_s:  # it died with nothing to do
            back_s, dies_s = self._replaced(dies_s)
            start_s = max(self.now_s, back_s)
        seconds, value = self._done(task)
        end_s, outcome = start_s + seconds, Outcome(task, value)
        if dies_s < end_s:
            end_s, outcome = dies_s, Outcome(task, died=f"worker {worker}: its node is gone")
            self.lost_s += end_s - start_s
        else:
            self.work_s += seconds
        heapq.heappush(self._coming, (end_s, next(self._number), worker, dies_s, outcome))
        self.tasks += 1
        if not self._free:
            self.full_until_s = min(coming[0] for coming in self._coming)

    def next_outcome(self, timeout_s: float, tell: Tell | None = None) -> Outcome | None:
        """What ends next; the clock goes there."""
        if not self._coming:
            return None
        self.now_s, _, worker, dies_s, outcome = heapq.heappop(self._coming)
        free_s = self.now_s
        if outcome.died:
            free_s, dies_s = self._replaced(self.now_s)
        heapq.heappush(self._free, (free_s, dies_s, worker))
        return outcome

    def close(self) -> None: ...

    def _replaced(self, died_s: float) -> tuple[float, float]:
        """When a worker that died is replaced, and when that one will die."""
        self.deaths += 1
        self.away_s += COME_BACK_S
        back_s = died_s + COME_BACK_S
        return back_s, back_s + self._life_s()

    def _life_s(self) -> float:
        rate = self._machines.deaths_an_hour / 3600
        return self._random.expovariate(rate) if rate else float("inf")

    def _done(self, task: Task) -> tuple[float, Any]:
        """Seconds and value of a task."""
        costs, speed = self._costs, self._machines.speed
        match task:
            case Hash():
                return self._frames[task.source] * costs.hash_s, task.source
            case Analyse():
                frames = self._frames[task.work.source]
                length = round(task.segment_s * FILM_HZ)
                starts = range(0, frames, length)
                parts = tuple(Part(index, start, start + length) for index, start in enumerate(starts))
                return frames * costs.analyse_s / speed, Analysed(parts, frames)
            case RestorePart():
                frames = min(task.part.end_pts or 0, self._frames[task.work.source]) - task.part.start_pts
                name = f"{task.work.source} {task.part.index}"
                draw = zlib.crc32(name.encode())  # whoever restores it, and however often
                seconds = frames * costs.restore_s[draw % len(costs.restore_s)] / speed
                done = PartDone(task.part.index, task.segment_path, "0" * 64, 1, frames, frames, seconds)
                return seconds, done
            case Join():
                return self._frames[task.work.source] * costs.join_s, {}
            case Copy():
                return 0.0, {}


def film_frames(hours: float, seed: int = 0) -> list[int]:
    """Frames of the films of an archive: of some minutes to three hours, `hours` in all."""
    draw = random.Random(seed)
    lengths: list[float] = []
    while (left := hours - sum(lengths)) > 0:
        lengths.append(min(left, LONGEST_H, MEDIAN_H * draw.lognormvariate(0, SPREAD)))
    return [max(1, round(length * 3600 * FILM_HZ)) for length in lengths]


def simulate(
    films: list[int], machines: Machines, costs: Costs, segment_s: float = 60.0, seed: int = 0
) -> Run:
    """See a batch of films (frames of each) through, with the real driver and store."""
    begun_s = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        sources = [f"film {number}.mkv" for number in range(len(films))]
        executor = Simulated(machines, costs, dict(zip(sources, films, strict=True)), seed)
        output = str(Path(folder) / "restored")
        with Store.open(output, Path(folder) / "jobs.sqlite") as store:
            options = BatchOptions(segment_s=segment_s)
            driver = Driver(store, executor, output, _Nowhere(), options)
            for source in sources:
                driver.add(Found(source, "", source), _Film(source))
            driver.run()
            states = {state: len(store.jobs(state)) for state in ("done", "failed")}
    return Run(
        executor.now_s,
        executor.work_s / machines.workers,
        executor.now_s - executor.full_until_s,
        executor.lost_s,
        executor.away_s,
        executor.deaths,
        executor.tasks,
        states,
        time.perf_counter() - begun_s,
    )


def row(name: str, hours: float, machines: Machines, runs: list[Run]) -> dict[str, Any]:
    """The means of some runs."""

    def mean(field: str) -> float:
        return statistics.fmean(getattr(run, field) for run in runs)

    return {
        "workers": f"{machines.workers}, {name}",
        "deaths an hour": machines.deaths_an_hour,
        "makespan h": round(mean("makespan_s") / 3600, 2),
        "work h": round(mean("work_s") / 3600, 2),
        "efficiency": round(mean("work_s") / mean("makespan_s"), 3),
        "tail h": round(mean("tail_s") / 3600, 2),
        "deaths": round(mean("deaths"), 1),
        "lost worker h": round(mean("lost_s") / 3600, 2),
        "away worker h": round(mean("away_s") / 3600, 2),
        "hours of film an hour": round(hours / (mean("makespan_s") / 3600), 1),
        "tasks": round(mean("tasks")),
        "driver ms": round(1e3 * mean("driver_s") / mean("tasks"), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hours", type=float, default=1000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--fps", type=float, nargs="*", default=[25, 100])
    parser.add_argument("--deaths", type=float, default=0.01, help="of each worker, an hour")
    parser.add_argument("--seeds", type=int, default=3, help="runs with deaths, whose means are told")
    parser.add_argument("--segment-s", type=float, default=60)
    parser.add_argument("--measured", type=Path, default=measure.RESULTS / "cluster.json")
    options = parser.parse_args()
    costs, films = Costs.read(options.measured), film_frames(options.hours)
    mean_s = sum(costs.restore_s) / len(costs.restore_s)
    speeds = {f"as measured ({1 / mean_s:.1f} frames/s)": 1.0}
    speeds |= {f"at {fps:g} frames/s": fps * mean_s for fps in options.fps}
    rows = []
    for name, speed in speeds.items():
        for deaths in (0.0, options.deaths):
            machines = Machines(options.workers, speed, deaths)
            seeds = range(options.seeds if deaths else 1)
            runs = [simulate(films, machines, costs, options.segment_s, seed) for seed in seeds]
            rows.append(row(name, options.hours, machines, runs))
    print(f"{len(films)} films, {options.hours:g} hours, segments of {options.segment_s:g} s\n")
    print(measure.table(rows), end="\n\n")
    if len(sys.argv) == 1:
        print(measure.save("cluster_sim", rows))


if __name__ == "__main__":
    main()
