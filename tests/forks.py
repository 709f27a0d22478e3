"""The command line in processes of its own, at no cost of importing torch in each: they are forked.

    with Forks() as forks:
        run = forks.start(["restore", "in.mkv"])
        run.send(signal.SIGINT)
        done = run.wait()

The process that forks has imported everything and run nothing; what it forks runs `gpenvideo.cli.main` to the
interpreter's very end.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self


class Done(NamedTuple):
    """How a process ended."""

    code: int
    """The exit code; negative: the signal that killed it."""

    out: str
    err: str
    seconds: float
    """From the start to the end, or from the last signal sent to the end."""

    peak_mb: float
    """Its largest resident size."""


@dataclass
class Run:
    """A process that runs."""

    forks: Forks
    number: int
    pid: int
    since: float

    def send(self, number: int) -> None:
        os.kill(self.pid, number)
        self.since = time.monotonic()

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._said("out")

    def wait(self, limit_s: float = 60) -> Done:
        done = self.forks.answer(limit_s)
        seconds = time.monotonic() - self.since
        self.forks.running = None
        return Done(done["code"], self.out, self._said("err"), seconds, done["peak_mb"])

    def _said(self, kind: str) -> str:
        file = self.forks.folder / f"{kind}-{self.number}"
        return file.read_text() if file.exists() else ""


class Forks:
    """The process that forks; one run at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: Run | None = None
        self._runs = 0
        command = [sys.executable, "-X", "faulthandler", __file__, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )
        assert self.answer(120) == "ready"

    def start(self, arguments: Sequence[str | Path], **settings: Any) -> Run:
        """Run with these arguments. uid: as whom. file_bytes: the largest file it may write."""
        assert self._process.stdin
        if self.running:  # left by a test that failed
            os.kill(self.running.pid, signal.SIGKILL)
            self.running.wait()
        self._runs += 1
        job = {"number": self._runs, "arguments": [str(argument) for argument in arguments], **settings}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        self.running = Run(self, self._runs, self.answer(10), time.monotonic())
        return self.running

    def run(self, *arguments: str | Path, **settings: Any) -> Done:
        return self.start(arguments, **settings).wait()

    def answer(self, limit_s: float) -> Any:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], limit_s)
        assert ready, f"it still runs after {limit_s} s"
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _serve(folder: Path) -> list[str] | None:
    """Fork for each line that is read; in the child, its arguments."""
    _tell("ready")
    while line := os.read(0, 1 << 16):
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(folder, job)
            return list(job["arguments"])
        _tell(pid)
        _, status, used = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        _tell({"code": code, "peak_mb": used.ru_maxrss / 1024})
    return None


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _become(folder: Path, job: dict[str, Any]) -> None:
    for number, name in (
        (0, os.devnull),
        (1, folder / f"out-{job['number']}"),
        (2, folder / f"err-{job['number']}"),
    ):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, number)
        os.close(file)
    if "file_bytes" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], job["file_bytes"]))
    if "uid" in job:
        os.setgroups([])
        os.setgid(job["uid"])
        os.setuid(job["uid"])


def _warm(main: Callable[[], None]) -> None:
    """Import what a run imports, by one that fails early."""
    importlib.import_module("facexlib.detection")
    importlib.import_module("gpenvideo.video.probe")
    sys.argv = ["gpenvideo", "restore", "no-such-video.mkv"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        main()


if __name__ == "__main__":
    from gpenvideo.cli import main

    folder = Path(sys.argv[1])
    _warm(main)
    given = _serve(folder)
    if given is not None:
        sys.argv = ["gpenvideo", *given]
        main()
