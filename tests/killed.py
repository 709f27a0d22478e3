"""Runs a resumable restoration, is killed at a chosen moment, and runs it again: for test_kill.py.

    python killed.py SOURCE TRACKS WEIGHTS FOLDER MOMENTS

MOMENTS is JSON: a list of cases, each a list of moments, at which one run after the other is killed; the last
run goes on to its end. Each run is a process of its own, forked from this one before anything is computed. A
line of JSON is printed for each case. Moments are found in what Python tells an audit hook of files that are
opened, renamed and removed, so that nothing of the program is replaced.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import gpenvideo.kernels.paste
import gpenvideo.networks
import gpenvideo.tracks.sheet  # noqa: F401 - so that no run takes the time to import
from gpenvideo.networks import NetworkOptions
from gpenvideo.segmented.resumable import restore_resumable
from gpenvideo.transcode import Encoding, Progress

SEGMENT_S = 2


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def name_of(path: Any) -> str:
    return Path(os.fsdecode(path)).name if isinstance(path, str | bytes) else ""


class Watch:
    """Kills this process at a moment: a kind, and which one of that kind."""

    def __init__(self, kind: str, number: int, target: Path) -> None:
        self.kind, self.left, self.target = kind, number, target
        self.renamed = self.joining = False

    def met(self, kind: str) -> None:
        if kind == self.kind:
            self.left -= 1
            if self.left == 0:
                kill()

    def progress(self, done: Progress) -> None:
        if "Restorer" in done.network:
            if self.kind == "frame" and done.frames == self.left:
                kill()
        elif self.kind == "analysis" and done.frames == self.left:
            kill()

    def event(self, event: str, details: tuple[Any, ...]) -> None:
        name = name_of(details[0]) if details else ""
        if event == "os.rename":
            to = name_of(details[1])
            kinds = {".nut": "before a segment's rename", ".json": "before the tracks' rename"}
            self.met(kinds.get(Path(to).suffix, ""))
            if to == self.target.name:
                self.met("before the target's rename")
            self.renamed = to.endswith(".nut")
        elif event == "open" and name == "journal.jsonl" and self.renamed and "a" in str(details[1]):
            self.met("before a segment's entry")
            self.renamed = False
        elif event == "open" and name.startswith(f".{self.target.stem}.part-"):
            if self.joining:
                self.met("before the target's sync")
            self.joining = True
        elif event == "open" and name.endswith(".nut") and self.joining:
            self.met("joining")
        elif event == "os.remove" and name == "journal.jsonl":
            self.met("before the journal's end")


def run(arguments: list[str], target: Path, moment: list[Any] | None) -> tuple[bool, list[str]]:
    """Restore in a process of its own; whether it was killed, and the segments it made."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        watch = Watch(*(moment or ["never", 0]), target)

        def hook(event: str, details: tuple[Any, ...]) -> None:
            if event in ("os.rename", "open", "os.remove"):
                if event == "os.rename" and name_of(details[1]).endswith(".nut"):
                    os.write(write, name_of(details[1]).encode() + b"\n")
                watch.event(event, details)

        sys.addaudithook(hook)
        source, tracks, weights = arguments
        try:
            restore_resumable(
                source,
                target,
                weights=weights,
                tracks=tracks,
                networks=NetworkOptions(device="cpu"),
                encoding=Encoding(codec="ffv1"),
                segment_s=SEGMENT_S,
                progress=watch.progress,
            )
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        made = pipe.read().split()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.WEXITSTATUS(status) == 0, f"the run failed with {status}"
    return killed, made


def journalled(target: Path) -> dict[str, list[int]]:
    path = target.with_name(f".{target.name}.segments") / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {
        "begun": [line["begun"] for line in lines if "begun" in line],
        "done": [line["done"]["index"] for line in lines if "done" in line],
    }


def main() -> None:
    *arguments, folder, cases = sys.argv[1:]
    for number, moments in enumerate(json.loads(cases)):
        target = Path(folder) / f"out{number}.mkv"
        told: dict[str, Any] = {"target": str(target), "killed": [], "before": [], "made": []}
        for moment in [*moments, None]:
            told["before"].append(journalled(target))
            killed, made = run(arguments, target, moment)
            told["killed"].append(killed)
            told["made"].append(made)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
