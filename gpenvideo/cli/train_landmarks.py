"""`gpenvideo train-landmarks`: the network that looks at a detector's landmarks again."""

from __future__ import annotations

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from gpenvideo.cli.console import Json, err, print_json, say
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
from gpenvideo.cli.train_detector import TEACHER, TICK_EVERY, run_options, taught_labels

__all__ = ["train_landmarks"]

DRY_STEPS = 3


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
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            list(islice(landmark_loop.train_landmarks(views, folder, options, **networks), DRY_STEPS))
            step_s = (time.perf_counter() - began) / DRY_STEPS
        found = {"faces": len(labels), "s_per_step": step_s, "hours": options.steps * step_s / 3600}
        if as_json:
            print_json({"event": "dry run"} | found)
        else:
            say(f"{found['faces']} faces, {step_s:.2f} s a step: {found['hours']:.2f} hours for all steps")
        return
    told = Told(out, options.steps, as_json)
    with told.bar:
        told.heed()
        for stats in landmark_loop.train_landmarks(views, out, options, **networks):
            done = int(stats["step"]) + 1
            if done % TICK_EVERY == 0 or done == options.steps:
                told.record(stats | {"event": "tick", "step": done, "img_per_s": options.batch / stats["s"]})
            if not told.go_on(done):
                break
    file = out / "landmarks.safetensors"
    if (out / "checkpoint.pth").exists():
        landmark_loop.export_landmarks(out / "checkpoint.pth", file)
    told.end(file)
