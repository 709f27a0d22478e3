"""`gpenvideo degrade`: good pictures made bad, for evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gpenvideo.cli.console import Json, err, print_json, say
from gpenvideo.errors import MediaError

__all__ = ["Preset", "degrade"]

Preset = Annotated[str, typer.Option(help="base, mild (down-sampled 2 to 4 times at most) or film.")]
NoColour = Annotated[bool, typer.Option("--no-colour", help="Leave out what changes the tone.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; default: the processors.")]


def degrade(
    source: Annotated[Path, typer.Argument(help="A picture, or a folder of them.", metavar="IN")],
    output: Annotated[Path, typer.Argument(help="Where the bad ones go, as PNG.", metavar="OUT")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")],
    preset: Preset = "base",
    size: Annotated[int | None, typer.Option(help="The longer side, px; first of all.")] = None,
    no_colour: NoColour = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Make good pictures bad: blurred, shrunk, noisy, compressed; with a CSV of what was done to each."""
    from rich.progress import track

    from gpenvideo.evaluate.degraded import Decay, degrade_files, plan

    decay = Decay(seed, preset, not no_colour)  # type: ignore[arg-type]
    tasks, table = plan(source, output)
    steps = degrade_files(tasks, table, decay, size_px=size, workers=workers or os.cpu_count() or 1)
    shown = err.is_terminal and not as_json
    failures = 0
    for error in track(steps, "degrading", len(tasks), console=err) if shown else steps:
        if error is not None and len(tasks) == 1:
            raise error
        if error is not None:
            failures += 1
            err.print(f"gpenvideo: {error}", style="red", markup=False, highlight=False)
    done = len(tasks) - failures
    if as_json:
        print_json({"output": str(output), "pictures": done, "failed": failures, "table": str(table)})
    else:
        say(f"{output}: {done} {'picture' if done == 1 else 'pictures'}; what was done to each: {table}")
    if failures:
        raise MediaError(f"{failures} of {len(tasks)} pictures could not be degraded")
