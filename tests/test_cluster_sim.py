"""The simulated cluster: what must hold whatever the costs, and that nothing is lost when workers die."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cluster_sim import FILM_HZ, Costs, Machines, film_frames, simulate

COSTS = Costs(restore_s=(0.03, 0.04, 0.06), analyse_s=0.006, join_s=0.0004, hash_s=0.0001)
HOUR = 3600 * FILM_HZ
DEADLY = 2.0  # deaths of each worker an hour


@pytest.fixture(scope="module")
def films() -> list[int]:
    return film_frames(6)


def test_an_archive_has_the_hours_that_are_asked_for(films: list[int]) -> None:
    assert sum(films) == pytest.approx(6 * HOUR, rel=1e-3)
    assert max(films) <= 3 * HOUR
    assert films == film_frames(6)


def test_one_worker_takes_the_time_of_all_tasks(films: list[int]) -> None:
    run = simulate(films, Machines(workers=1), COSTS)
    assert run.makespan_s == pytest.approx(run.work_s)
    least, most = (sum(films) * (s + 0.0065) for s in (0.03, 0.06))
    assert least <= run.work_s <= most
    assert run.tasks == sum(3 + -(-frames // (60 * FILM_HZ)) for frames in films)


def test_more_workers_are_sooner_but_no_sooner_than_possible(films: list[int]) -> None:
    runs = {workers: simulate(films, Machines(workers), COSTS) for workers in (1, 4, 16)}
    longest_s = max(films) * (COSTS.hash_s + COSTS.analyse_s + COSTS.join_s)  # which is not divided
    for workers, run in runs.items():
        assert run.makespan_s >= max(run.work_s, longest_s)
        assert run.work_s * workers == pytest.approx(runs[1].work_s)
        assert 0 <= run.tail_s <= run.makespan_s
    assert runs[16].makespan_s < runs[4].makespan_s < runs[1].makespan_s


def test_workers_that_die_cost_time_and_lose_nothing(films: list[int]) -> None:
    calm, deadly = (simulate(films, Machines(8, deaths_an_hour=rate), COSTS) for rate in (0, DEADLY))
    assert (calm.deaths, calm.lost_s, calm.states) == (0, 0, {"done": len(films), "failed": 0})
    assert deadly.states == calm.states
    assert deadly.deaths > 0
    assert deadly.work_s == pytest.approx(calm.work_s)  # every task was done once, the same
    assert deadly.makespan_s > calm.makespan_s
    assert deadly.lost_s < deadly.deaths * 2 * 3600 * FILM_HZ * COSTS.analyse_s


def test_faster_workers_are_that_much_sooner(films: list[int]) -> None:
    slow, fast = (simulate(films, Machines(4, speed), COSTS) for speed in (1, 4))
    assert fast.makespan_s < slow.makespan_s / 3


def test_the_costs_are_read_from_what_was_measured(tmp_path: Path) -> None:
    rows = [
        {"kind": "batch", "workers": 1, "seconds": 9.0},
        {"kind": "others", "hash s a frame": 1e-5, "analyse s a frame": 0.005, "join s a frame": 1e-4},
        {"kind": "segment", "frames": 100, "faces": 100, "seconds": 3.0},
        {"kind": "segment", "frames": 50, "faces": 50, "seconds": 2.0},
    ]
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps({"results": rows}))
    assert Costs.read(file) == Costs((0.03, 0.04), 0.005, 1e-4, 1e-5)
