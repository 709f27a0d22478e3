"""`gpenvideo train-landmarks`: the network that looks at a detector's landmarks again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gpenvideo.cli.console import Json, err
from gpenvideo.cli.train import (
    START,
    Device,
    DryRun,
    Out,
    Rate,
    Resume,
    Seed,
    Settings,
    Steps,
    Told,
    Workers,
    settings_of,
)
from gpenvideo.cli.train_detector import TEACHER, run_options, run_shown, taught_labels, try_run

__all__ = ["train_landmarks"]


def train_landmarks(
    out: Out,
    data: Annotated[Path, typer.Option(help="A folder of faces.")],
    teacher: Annotated[
        str, typer.Option(help="RetinaFace weights that say where the faces are: a path or a name.")
    ] = TEACHER,
    validation: Annotated[
        list[str] | None, typer.Option(help="Sources (patterns) that are never trained on.")
    ] = None,
    initial: Annotated[
        str | None, typer.Option(help="Weights of such a network to start from.", rich_help_panel=START)
    ] = None,
    resume: Resume = True,
    steps: Steps = None,
    lr: Rate = None,
    workers: Workers = None,
    seed: Seed = None,
    device: Device = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train the network that refines landmarks. After Ctrl-C the same command goes on."""
    from gpenvideo.faces.detector import read_state
    from gpenvideo.train import landmark_loop, parallel
    from gpenvideo.train.landmark_data import Views
    from gpenvideo.weights import find

    given = {"steps": steps, "lr": lr, "workers": workers, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None} | settings_of(settings)
    options = run_options(landmark_loop.LandmarkOptions, out, given, resume)
    place = parallel.own_device(parallel.automatic(device), parallel.ALONE)
    labels = taught_labels(out, data, teacher, validation or [])
    with err.status("") as status:
        views = Views(
            data,
            labels,
            seed=options.seed,
            progress=lambda done, total: status.update(f"reading face {done} of {total}"),
        )
    networks: dict[str, Any] = {
        "start_from": None if initial is None else read_state(find(initial))[0],
        "device": place,
    }

    def begin(folder: Path) -> Iterator[dict[str, float]]:
        return landmark_loop.train_landmarks(views, folder, options, **networks)

    if dry_run:
        try_run(begin, len(labels), options.steps, as_json)
        return
    told = Told(out, options.steps, as_json)
    file, export = out / "landmarks.safetensors", landmark_loop.export_landmarks
    run_shown(begin, lambda _: options.batch, told, out, file, export)
