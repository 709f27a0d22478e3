"""The only place that times, and what every result carries with it.

Things that are compared run in turn, round after round, so that a machine whose speed drifts or is shared
slows them alike: quote the ratios, which are taken round by round, before the absolute times.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

RESULTS = Path(__file__).parent / "results"


def interleaved(
    cases: Mapping[str, Callable[[], object]], rounds: int, at_least_s: float = 0.2
) -> dict[str, list[float]]:
    """Seconds a call of each case in each round, after two calls that do not count.

    A quick case is called several times a round, until `at_least_s` have passed. On CUDA the device is waited
    for inside the timed region.
    """
    calls: dict[str, int] = {}
    for name, run in cases.items():
        run()
        calls[name] = max(1, round(at_least_s / max(1e-6, _seconds(run, 1))))
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            times[name].append(_seconds(run, calls[name]))
    return times


def _seconds(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def summary(times: list[float]) -> tuple[float, float]:
    """Median and interquartile range."""
    low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return middle, high - low


def ratio(times: list[float], others: list[float]) -> float:
    """Median over the rounds of times / others."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def peak_memory_mb(module: str, *arguments: str) -> tuple[float, float]:
    """Run `python -m module arguments` and read the two numbers on its last line.

    The child prints its peak resident memory (MB) before and after its work.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split()[-2:])
    return before, after


def peak_memory_of_this_process_mb() -> float:
    """The most resident memory this process has had.

    Not from getrusage, whose figure a child inherits from its parent.
    """
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1e3


def metadata() -> dict[str, Any]:
    """What a number means nothing without."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parent)
        return done.stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "gpenvideo", "benchmarks/*.py")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if dirty else "")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def save(name: str, rows: list[dict[str, Any]]) -> Path:
    """Write benchmarks/results/NAME.json: metadata and rows."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"metadata": metadata(), "results": rows}, indent=1) + "\n")
    return path


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *[[_cell(row.get(c)) for c in columns] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else str(value).removesuffix(".0")
