"""`gpenvideo train-detector`: a face detector of one's own, taught by another."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

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
from gpenvideo.errors import GpenvideoError, OptionError, file_error

if TYPE_CHECKING:
    from gpenvideo.train.detector_labels import Label

__all__ = ["TEACHER", "run_options", "run_shown", "taught_labels", "train_detector", "try_run"]

TEACHER = "RetinaFace-mobilenet0.25"
TICK_EVERY, DRY_STEPS = 25, 3  # steps


def train_detector(
    out: Out,
    data: Annotated[Path, typer.Option(help="A folder of faces.")],
    backgrounds: Annotated[Path, typer.Option(help="A folder of pictures without faces, and index.csv.")],
    teacher: Annotated[
        str, typer.Option(help="RetinaFace weights that say where the faces are: a path or a name.")
    ] = TEACHER,
    validation: Annotated[
        list[str] | None, typer.Option(help="Sources (patterns) that are never trained on.")
    ] = None,
    distil: Annotated[
        bool, typer.Option("--distil", help="Learn the teacher's outputs too, not its labels alone.")
    ] = False,
    initial: Annotated[
        str | None, typer.Option(help="RetinaFace weights to start from.", rich_help_panel=START)
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
    """Train a face detector (RetinaFace mobilenet0.25). After Ctrl-C the same command goes on."""
    from gpenvideo.faces.detector import RetinaFace, read_state
    from gpenvideo.train import detector_loop, parallel
    from gpenvideo.train.detector_data import Scenes, list_backgrounds
    from gpenvideo.weights import find

    given = {"steps": steps, "lr": lr, "workers": workers, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None} | settings_of(settings)
    options = run_options(detector_loop.DetectorOptions, out, given, resume)
    place = parallel.own_device(parallel.automatic(device), parallel.ALONE)
    grounds, _ = list_backgrounds(backgrounds)
    scenes = Scenes(data, taught_labels(out, data, teacher, validation or []), grounds, seed=options.seed)
    networks: dict[str, Any] = {
        "teacher": RetinaFace.of(*read_state(find(teacher))).eval().requires_grad_(False) if distil else None,
        "start_from": None if initial is None else read_state(find(initial))[0],
        "device": place,
    }

    def begin(folder: Path) -> Iterator[dict[str, float]]:
        return detector_loop.train_detector(scenes, folder, options, **networks)

    if dry_run:
        try_run(begin, len(scenes.labels), options.steps, as_json)
        return
    told = Told(out, options.steps, as_json)
    file, export = out / "detector.safetensors", detector_loop.export_detector
    run_shown(begin, lambda step: len(options.scenes_at(step)), told, out, file, export)


Begin = Callable[[Path], Iterator[dict[str, float]]]
"""Begins a run, or goes on with it, in a folder."""


def try_run(begin: Begin, faces: int, steps: int, as_json: bool) -> None:
    """Do a few steps in a folder that goes away, and say how long all of them would take."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        list(islice(begin(Path(folder)), DRY_STEPS))
        step_s = (time.perf_counter() - began) / DRY_STEPS
    found = {"faces": faces, "s_per_step": step_s, "hours": steps * step_s / 3600}
    if as_json:
        print_json({"event": "dry run"} | found)
    else:
        say(f"{faces} faces, {step_s:.2f} s a step: {found['hours']:.2f} hours for all steps")


def run_shown(
    begin: Begin,
    images_at: Callable[[int], int],
    told: Told,
    out: Path,
    file: Path,
    export: Callable[..., None],
) -> None:
    """Run to the end or to Ctrl-C with the progress shown, then write the network of the last checkpoint."""
    with told.bar:
        told.heed()
        for stats in begin(out):
            done = int(stats["step"]) + 1
            if done % TICK_EVERY == 0 or done == told.steps:
                speed = images_at(done - 1) / stats["s"]
                told.record(stats | {"event": "tick", "step": done, "img_per_s": speed})
            if not told.go_on(done):
                break
    if (out / "checkpoint.pth").exists():
        export(out / "checkpoint.pth", file)
    told.end(file)


Options = TypeVar("Options")


def run_options(kind: type[Options], out: Path, given: dict[str, Any], resume: bool) -> Options:
    """The options of the run in the folder, or the usual ones; over them, what is given."""
    from gpenvideo.train.options import checked, read_values

    values: dict[str, Any] = {}
    if (out / "options.json").exists():
        if not resume:
            raise OptionError("it holds a run: leave --no-resume out, or choose another folder", path=out)
        values = read_values(out / "options.json")
    return kind(**checked(kind, values | given))


def taught_labels(out: Path, data: Path, teacher: str, exclude: list[str]) -> list[Label]:
    """Where a teacher sees the faces of portraits; what it says stays in the run's folder."""
    from gpenvideo.faces.detector import RetinaFaceDetector
    from gpenvideo.faces.portraits import read_portraits
    from gpenvideo.train.detector_labels import label_portraits, read_labels, write_labels
    from gpenvideo.weights import find

    portraits = read_portraits(data, exclude_sources=exclude)
    told = json.dumps({"data": str(data), "exclude": exclude, "teacher": teacher})
    labels_file, told_file = out / "labels.jsonl", out / "labels.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (told_file.exists() and told_file.read_text("utf-8") == told):
            with err.status("") as status:
                labels = label_portraits(
                    data,
                    portraits,
                    RetinaFaceDetector(find(teacher), threshold=0.5),
                    progress=lambda done, total: status.update(f"labelling face {done} of {total}"),
                )
            write_labels(labels, labels_file)
            told_file.write_text(told, "utf-8")
    except GpenvideoError:
        raise
    except OSError as error:
        raise file_error(error, out, "write") from error
    return read_labels(labels_file)
