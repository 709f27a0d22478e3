"""Videos from the command line: progress for a person or a program, and what is told at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gpenvideo.cli.console import err, print_json, say, show_warning
from gpenvideo.errors import OptionError
from gpenvideo.networks import NetworkOptions
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.report import Report
from gpenvideo.segmented.resumable import restore_resumable
from gpenvideo.transcode import Decoding, Encoding, analyse_video, preview_video, restore_video
from gpenvideo.transcode import Progress as Done
from gpenvideo.video.timing import parse_time

__all__ = ["analyse", "preview", "restore"]

Options = dict[str, Any]

JSON_EVERY_S = 0.5


def restore(
    source: Path,
    target: Path,
    *,
    networks: Options,
    options: Options,
    decoding: Options,
    encoding: Options,
    as_json: bool,
    resumable: bool = False,
    **others: Any,
) -> None:
    """Restore a video with its progress shown, then say what was done."""
    run: Callable[..., Report] = restore_video
    if resumable:
        run, others = restore_resumable, _resumable(others)
    others |= {
        "networks": NetworkOptions(**networks),
        "options": RestoreOptions(**options),
        "decoding": Decoding.parsed(**decoding),
        "encoding": Encoding(**encoding),
    }
    if as_json:
        done = run(source, target, progress=_lines(), **others)
        print_json({"done": True, "output": str(target), **_summary(done), "warnings": done.warnings})
        return
    with _bar("restoring") as show:
        done = run(source, target, progress=show, **others)
    for warning in done.warnings:
        show_warning(warning, UserWarning)
    facts = _summary(done)
    say(
        f"{target}: {facts['frames']} frames, {facts['faces']} faces of {facts['tracks']} tracks, "
        f"{facts['seconds']:.1f} s, {facts['fps']:.1f} frames a second"
    )
    if done.metrics:
        say(_steadiness(done.metrics))


def _resumable(others: Options) -> Options:
    """What a run in segments takes. OptionError: something was asked for that it does not give."""
    taken = ("weights", "detector", "tracks", "report")
    asked = [name for name, value in others.items() if value and name not in taken]
    if asked:
        names = ", ".join("--" + name.replace("_", "-") for name in asked)
        raise OptionError(f"--resumable does not go with {names}: leave one out")
    return {name: others[name] for name in taken}


def analyse(
    source: Path,
    tracks_out: Path,
    *,
    networks: Options,
    options: Options,
    decoding: Options,
    as_json: bool,
    **others: Any,
) -> None:
    """Find the tracks of a video with its progress shown, then say what was found."""
    others |= {
        "networks": NetworkOptions(**networks),
        "options": RestoreOptions(**options),
        "decoding": Decoding.parsed(**decoding),
    }
    begun = time.monotonic()
    if as_json:
        found = analyse_video(source, tracks_out, progress=_lines(), **others)
    else:
        with _bar("searching") as show:
            found = analyse_video(source, tracks_out, progress=show, **others)
    seconds = time.monotonic() - begun
    facts = {"frames": found.frames, "tracks": len(found.tracks), "shots": len(found.shots)}
    if as_json:
        print_json({"done": True, "output": str(tracks_out), **facts, "seconds": round(seconds, 3)})
        return
    told = ", ".join(f"{number} {name}" for name, number in facts.items())
    say(f"{tracks_out}: {told}, {seconds:.1f} s; their faces are in {tracks_out.with_suffix('.png')}")


def preview(
    source: Path,
    target: Path,
    moment: str,
    *,
    networks: Options,
    options: Options,
    decoding: Options,
    **others: Any,
) -> None:
    """Write a picture of one moment of a video, before and after."""
    faces = preview_video(
        source,
        target,
        parse_time(moment),
        networks=NetworkOptions(**networks),
        options=RestoreOptions(**options),
        decoding=Decoding.parsed(**decoding),
        **others,
    )
    say(f"{target}: before and after, {faces} {'face' if faces == 1 else 'faces'}")


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[Done], None]]:
    """A line of progress, for a person at a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.fields[of]} frames, {task.fields[fps]:.1f} a second"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[faces]} faces, slowest: {task.fields[slowest]}"),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        named = False
        task = bar.add_task(doing, total=None, of="?", fps=0.0, faces=0, slowest="")

        def show(done: Done) -> None:
            nonlocal named
            if not named:
                err.print(done.network, markup=False, highlight=False)
                named = True
            bar.update(
                task,
                description=done.doing or doing,
                completed=done.frames,
                total=done.total,
                of=done.total or "?",
                fps=done.frames / max(done.seconds, 1e-9),
                faces=done.faces,
                slowest=done.slowest,
            )

        yield show


def _summary(done: Report) -> dict[str, Any]:
    return {
        "network": done.network,
        "frames": done.written,
        "faces": done.faces,
        "tracks": len(done.tracks),
        "shots": len(done.shots_s),
        "seconds": round(done.seconds, 3),
        "fps": round(done.fps, 2),
        **({"metrics": done.metrics} if done.metrics else {}),
    }


def _steadiness(metrics: dict[str, Any]) -> str:
    """What was measured, in a line: the result's share of what flickers in the source."""
    jitter, told = metrics["crop_jitter"], []
    if jitter is not None:
        told.append(f"crops jitter by {jitter:.2%} of the eye distance")
    for measure in ("warp_error", "flicker"):
        source, result = (metrics[measure][side] for side in ("source", "result"))
        if source:
            told.append(f"{measure.replace('_', ' ')} {result / source:.2f} of the source's")
    return ", ".join(told) or "there was nothing to measure: no face was restored in three frames in a row"


def _lines() -> Callable[[Done], None]:
    """A JSON line of progress, twice a second."""
    last = 0.0

    def show(done: Done) -> None:
        nonlocal last
        if time.monotonic() - last >= JSON_EVERY_S:
            last = time.monotonic()
            print_json(asdict(done))

    return show
