"""`gpenvideo train` and `gpenvideo train-detector`: networks of one's own."""

from __future__ import annotations

import json
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from gpenvideo.cli.console import Json, err, print_json, say
from gpenvideo.cli.interrupts import SIGNALS, Interrupted
from gpenvideo.errors import OptionError

__all__ = [
    "START",
    "Device",
    "DryRun",
    "Out",
    "Rate",
    "Resume",
    "Seed",
    "Settings",
    "Steps",
    "Told",
    "Workers",
    "options_of",
    "settings_of",
    "train",
    "weights_of",
]

START, LEARN, TOLD = "Where it starts", "How it learns", "What is told"
NOT_LOSSES = ("event", "step", "images", "lr", "img_per_s", "data_share", "s")

Out = Annotated[Path, typer.Option(help="The run's folder. One that holds a run goes on with it.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other option, as NAME=VALUE; docs/training.md has them all."),
]
Resume = Annotated[
    bool, typer.Option(help="Go on with the run in the folder, or refuse to.", rich_help_panel=START)
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="A few steps: what it would do, and how fast.", rich_help_panel=TOLD),
]
Device = Annotated[str | None, typer.Option(help="auto (default), cpu, cuda or cuda:1.")]
Dtype = Annotated[
    str | None, typer.Option(help="fp32, bf16 or fp16; auto: bf16 on CUDA.", rich_help_panel=LEARN)
]
Steps = Annotated[int | None, typer.Option(help="How many in all.", rich_help_panel=LEARN)]
Batch = Annotated[int | None, typer.Option(help="Pictures a step, of all processes.", rich_help_panel=LEARN)]
Rate = Annotated[float | None, typer.Option(help="Learning rate.", rich_help_panel=LEARN)]
Workers = Annotated[int | None, typer.Option(help="Processes that make the data.", rich_help_panel=LEARN)]
Seed = Annotated[int | None, typer.Option(help="Of everything random.", rich_help_panel=LEARN)]


def train(
    out: Out,
    data: Annotated[Path | None, typer.Option(help="A folder of faces.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the restored face, px.")] = None,
    layout: Annotated[str | None, typer.Option(help="v2 or gpen (as published).")] = None,
    options: Annotated[
        Path | None, typer.Option(help="An options.json to begin with.", rich_help_panel=START)
    ] = None,
    initial: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or state.pt of the same network.", rich_help_panel=START),
    ] = None,
    grow_from: Annotated[
        Path | None, typer.Option(help="Checkpoint of half the size.", rich_help_panel=START)
    ] = None,
    fade_steps: Annotated[
        int | None, typer.Option(help="In which what was grown is faded in.", rich_help_panel=START)
    ] = None,
    resume: Resume = True,
    steps: Steps = None,
    batch: Batch = None,
    lr: Rate = None,
    preset: Annotated[
        str | None, typer.Option(help="Degradation: base, or base=0.7,film=0.3.", rich_help_panel=LEARN)
    ] = None,
    validation: Annotated[
        list[str] | None,
        typer.Option(help="Sources (patterns) to validate on, never trained on.", rich_help_panel=LEARN),
    ] = None,
    workers: Workers = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train a restorer of faces, alone or under torchrun. After Ctrl-C the same command goes on."""
    from gpenvideo.train import loop, parallel

    given: dict[str, Any] = {
        "data": _text(data),
        "size_px": size,
        "layout": layout,
        "initial": _text(initial),
        "grow_from": _text(grow_from),
        "fade_steps": fade_steps,
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "presets": None if preset is None else weights_of(preset),
        "validation_sources": validation,
        "workers": workers,
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None} | settings_of(settings)
    with parallel.launched() as processes:
        with processes.first_ahead():
            wanted = options_of(out, options, given, resume=resume, device=device, dtype=dtype)
        if dry_run:
            record = loop.dry_run(wanted)
            if processes.first:
                _tell_dry_run(record, wanted.plain(), as_json)
            return
        told = Told(out, wanted.steps, as_json, quiet=not processes.first)
        with told.bar:
            file = loop.train(wanted, told.record, told.go_on)
    told.end(file)


def options_of(
    out: Path,
    file: Path | None,
    given: dict[str, Any],
    *,
    resume: bool,
    device: str | None,
    dtype: str | None,
) -> Any:
    """The options of the run in the folder, of a file, or as they come; over them, what is given."""
    from gpenvideo.train.options import make_options, read_values

    values: dict[str, Any] = {"out": str(out)}
    if (out / "state.pt").exists():
        if not resume:
            raise OptionError("it holds a run: leave --no-resume out, or choose another folder", path=out)
        values = read_values(out / "options.json") | values
    else:
        values = (read_values(file) if file is not None else {}) | values
        network = _network(given)
        other = [name for name in network if name in given and given[name] != network[name]]
        if other:
            raise OptionError(f"{other[0]} is {network[other[0]]} with these weights, not {given[other[0]]}")
        values |= network
    return make_options(values | given | _place(device, dtype, values))


def _network(given: dict[str, Any]) -> dict[str, Any]:
    """What the weights that a run starts from say of its network."""
    from gpenvideo.gpen import checkpoint
    from gpenvideo.train.grow import grown_config
    from gpenvideo.train.options import network_values, read_options

    found: dict[str, Any] = {}
    if "grow_from" in given:
        found = network_values(grown_config(checkpoint.load(given["grow_from"]).config))
        found |= {"norm_group": 0} if found["layout"] == "v2" else {}
    elif "initial" in given:
        beside = Path(given["initial"]).with_name("options.json")
        if Path(given["initial"]).name == "state.pt" and beside.exists():
            found = network_values(read_options(beside).network())
        else:
            found = network_values(checkpoint.load(given["initial"]).config)
            found |= {"norm_group": 0} if found["layout"] == "v2" else {}
    return found


def _place(device: str | None, dtype: str | None, values: dict[str, Any]) -> dict[str, Any]:
    """Where the run computes, and how finely."""
    from gpenvideo.train.parallel import automatic

    found: dict[str, Any] = {}
    if device is not None or "device" not in values:
        found["device"] = automatic(device)
    if dtype is not None or "precision" not in values:
        place = found.get("device", values.get("device"))
        usual = "fp32" if place == "cpu" else "bf16"
        found["precision"] = usual if dtype in (None, "auto") else dtype
    return found


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def settings_of(settings: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE, the value as JSON, or a list with commas, or a word."""
    found = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        if not equals:
            raise OptionError(f"--set wants NAME=VALUE, not {setting!r}")
        try:
            found[name] = json.loads(text)
        except ValueError:
            try:
                found[name] = json.loads(f"[{text}]") if "," in text else text
            except ValueError:
                found[name] = text.split(",")
    return found


def weights_of(text: str) -> dict[str, float]:
    """base=0.7,film=0.3 as a dictionary; a name alone counts 1."""
    found = {}
    for part in text.split(","):
        name, equals, weight = part.partition("=")
        try:
            found[name.strip()] = float(weight) if equals else 1.0
        except ValueError:
            raise OptionError(f"a preset's weight is a number, not {weight!r}") from None
    return found


class Told:
    """What a run says while it goes, and whether it may: the first signal ends it with its state written."""

    def __init__(self, out: Path, steps: int, as_json: bool, *, quiet: bool = False) -> None:
        self.out = out
        self.as_json = as_json
        self.quiet = quiet
        self.code = 0
        self.done = 0
        self.line = ""
        self.samples = ""
        self.began: tuple[float, int] | None = None
        columns = (
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(20),
            TextColumn("{task.fields[line]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[samples]}", style="dim"),
        )
        hidden = quiet or as_json or not err.is_terminal
        self.bar = Progress(*columns, console=err, transient=True, disable=hidden)
        self.hidden = hidden
        self.task = self.bar.add_task("", total=steps, line="", left="", samples="")
        self.steps = steps

    def record(self, record: dict[str, Any]) -> None:
        """One line of stats.jsonl."""
        if record["event"] == "start":
            self.heed()
            self.done = record["step"]
        if self.as_json:
            print_json(record)
        elif record["event"] == "start":
            self._say_start(record)
        elif record["event"] == "tick":
            losses = "  ".join(f"{k} {v:.4g}" for k, v in record.items() if k not in NOT_LOSSES)
            self.line = f"{losses}  {record['img_per_s']:.1f} images a second"
            if self.hidden:
                self._print(f"step {record['step']}/{self.steps}  {self.line}  {self._left()}")
        elif record["event"] == "samples":
            self.samples = str(self.out / record["file"])
        elif record["event"] == "validation":
            self._print(
                f"step {record['step']}: validation PSNR {record['psnr_db']:.2f} dB "
                f"(input {record['input_psnr_db']:.2f}), SSIM {record['ssim']:.3f}, "
                f"sharpness {record['sharpness']:.2f}"
            )

    def go_on(self, done: int) -> bool:
        """Whether the run may go on after `done` steps."""
        if self.began is None:
            self.heed()  # where no record comes: in the processes that do not write
            self.began = (time.monotonic(), done)
        self.done = done
        self.bar.update(self.task, completed=done, line=self.line, left=self._left(), samples=self.samples)
        return not self.code

    def end(self, file: Path) -> None:
        """The last line; raises typer.Exit with 128 and the signal's number when there was one."""
        if not self.quiet and self.as_json:
            stopped = {"event": "stopped", "step": self.done}
            print_json(stopped if self.code else {"event": "done", "step": self.done, "file": str(file)})
        elif not self.quiet and self.code:
            err.print(f"stopped at step {self.done}; the same command goes on from there", highlight=False)
        elif not self.quiet:
            say(str(file))
        if self.code:
            raise typer.Exit(self.code)

    def heed(self) -> None:
        """From now on a signal ends the run after its step."""
        for number in SIGNALS:
            signal.signal(number, self._stop)

    def _stop(self, number: int, _: object) -> None:
        if self.code:
            raise Interrupted(128 + number)  # the second one ends it at once
        self.code = 128 + number

    def _left(self) -> str:
        if self.began is None or self.done <= self.began[1]:
            return ""
        pace_s = (time.monotonic() - self.began[0]) / (self.done - self.began[1])
        return f"{timedelta(seconds=round(pace_s * (self.steps - self.done)))} left"

    def _say_start(self, record: dict[str, Any]) -> None:
        self._print(_described(record))
        for name, why in record["terms_off"].items():
            self._print(f"loss {name} is off: {why}")

    def _print(self, line: str) -> None:
        err.print(line, markup=False, highlight=False)


def _described(record: dict[str, Any]) -> str:
    terms = ", ".join(f"{name} {weight:g}" for name, weight in record["terms"].items())
    where = record["device"] + (f" in {record['processes']} processes" if record["processes"] > 1 else "")
    return (
        f"{record['faces']} faces, {record['parameters']:,} parameters, {where}, "
        f"from step {record['step']} to {record['steps']}; losses: {terms}"
    )


def _tell_dry_run(record: dict[str, Any], options: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(record | {"options": options})
        return
    for name, value in options.items():
        say(f"{name:22} {json.dumps(value)}")
    say(_described(record))
    for name, why in record["terms_off"].items():
        say(f"loss {name} is off: {why}")
    say(f"{record['img_per_s']:.1f} images a second: {record['hours']:.2f} hours for all steps")
