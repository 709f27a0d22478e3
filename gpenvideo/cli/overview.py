"""How a batch is shown: a line for each file that is finished, and how far the others are."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gpenvideo.batch.film import Film
from gpenvideo.batch.overview import Overview
from gpenvideo.batch.run import Summary
from gpenvideo.cli.console import err, out, say, show_warning

__all__ = ["BatchShown", "duration", "shown_batch", "shown_name"]

JSON_EVERY_S = 0.5
MOST_RUNNING = 12
BAR_WIDTH = 24
STATES = ("done", "failed", "running", "queued", "cancelled")


class BatchShown:
    """Shows a batch to a person (at a terminal with what goes on at the bottom) or to a program."""

    def __init__(self, as_json: bool, live: Live | None) -> None:
        self._as_json, self._live = as_json, live
        self._last_s = 0.0

    def overview(self, overview: Overview) -> None:
        """How far the batch has come."""
        if self._live:
            self._live.update(_panel(overview))
        elif self._as_json and time.monotonic() - self._last_s >= JSON_EVERY_S:
            self._last_s = time.monotonic()
            say(json.dumps(asdict(overview)))

    def film(self, film: Film) -> None:
        """A file is finished."""
        facts: dict[str, Any] = {"id": film.id, "source": film.work.source, "target": film.target}
        if self._as_json:
            facts |= {"state": film.state, "reason": film.reason, "skipped": film.skipped}
            say(
                json.dumps(
                    facts | {"copied": film.twin is not None, "frames": film.frames, "faces": film.faces}
                )
            )
        elif film.state == "failed":
            line = f"{shown_name(film.work.source)}: {shown_name(film.reason or '')}"
            err.print(f"failed: {line}", style="red", markup=False, highlight=False)
        elif not film.skipped:
            how = "the same as another" if film.twin else f"{film.frames} frames, {film.faces} faces"
            where = err if self._live and out.is_terminal else out  # above what goes on
            where.print(f"{shown_name(film.target)}: {how}", markup=False, highlight=False)

    def summary(self, summary: Summary) -> None:
        """What became of all files."""
        states, films = summary.states, summary.films
        skipped = sum(film.skipped for film in films if film.state == "done")
        copied = sum(film.twin is not None for film in films)
        if self._as_json:
            facts: dict[str, Any] = {state: states.get(state, 0) for state in STATES}
            facts |= {"skipped": skipped, "copied": copied, "seconds": round(summary.seconds, 3)}
            facts |= {"report": summary.report, "warnings": list(summary.warnings)}
            say(json.dumps({"finished": True, "files": len(films), **facts}))
            return
        for warning in summary.warnings:
            show_warning(warning, UserWarning)
        if summary.failed:
            table = Table("failed", "reason", "job")
            for film in summary.failed:
                cells = (shown_name(film.work.source), shown_name(film.reason or ""), film.id)
                table.add_row(*map(Text, cells))
            err.print(table)
        told = [f"{states[state]} {state}" for state in STATES if states.get(state)]
        notes = [f"{skipped} of them before"] * bool(skipped) + [f"{copied} copies of others"] * bool(copied)
        if notes:
            told[0] += f" ({', '.join(notes)})"
        frames = sum(part.frames for film in films for part in film.done.values())
        faces = sum(film.faces for film in films)
        say(
            f"{len(films)} files: {', '.join(told)}; {frames} frames, {faces} faces, "
            f"{duration(summary.seconds)}; {shown_name(summary.report)}"
        )


@contextmanager
def shown_batch(as_json: bool) -> Iterator[BatchShown]:
    """Shows a batch while the block is at work."""
    if as_json or not err.is_terminal:
        yield BatchShown(as_json, None)
        return
    with Live(console=err, transient=True, refresh_per_second=4) as live:
        yield BatchShown(as_json, live)


def _panel(overview: Overview) -> Group:
    """What goes on, and how long it will take."""
    whole = sum(overview.states.values())
    ended = whole - overview.states.get("queued", 0) - overview.states.get("running", 0)
    left = "" if overview.eta_s is None else f", {duration(overview.eta_s)} left"
    failed = overview.states.get("failed", 0)
    line = f"{ended} of {whole} files" + (f", {failed} failed" if failed else "")
    line += f"; {overview.frames} frames, {overview.faces} faces; {duration(overview.seconds)}{left}"
    table = Table.grid(padding=(0, 1))
    table.add_row(_bar(overview.share), Text(line))
    for running in overview.running[:MOST_RUNNING]:
        table.add_row(_bar(running.share), Text(f"{shown_name(running.source)}: {running.doing}"))
    if len(overview.running) > MOST_RUNNING:
        table.add_row("", Text(f"and {len(overview.running) - MOST_RUNNING} more"))
    return Group(table)


def _bar(share: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=share, width=BAR_WIDTH)


def duration(seconds: float) -> str:
    """Seconds as people say them: "42 s", "3 min 5 s", "2 h 10 min", "3 d 4 h"."""
    whole = round(seconds)
    for unit, name, lesser, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // lesser} {below}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def shown_name(name: str) -> str:
    """A path as one line that every terminal shows: control characters and broken bytes are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
