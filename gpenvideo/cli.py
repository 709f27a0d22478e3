"""The command line: arguments in, pictures and lines out. The only module that prints or exits."""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gpenvideo.errors import FaceError, FileMissing, GpenvideoError, OptionError

if TYPE_CHECKING:
    from gpenvideo.restorer import GPENRestorer
    from gpenvideo.weights import Weights

app = typer.Typer(
    name="gpenvideo",
    help="Restore faces in film, video and photographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(help="Network files: which there are, getting, checking and converting them.")
app.add_typer(weights_app, name="weights", no_args_is_help=True)

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Dtype = Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")]


def main() -> None:
    """Run the command line; one clear line and exit code 2 for whatever a person can put right."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app()
    except GpenvideoError as error:
        err.print(f"gpenvideo: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(version("gpenvideo"), highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="The version, and no more."),
    ] = False,
) -> None:
    """Restore faces in film, video and photographs."""


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, (UserWarning, RuntimeWarning)):
        err.print(f"warning: {message}", style="yellow", markup=False, highlight=False)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The restored picture, or a folder.")],
    weights: Annotated[str | None, typer.Option(help="A checkpoint, or a name of `weights list`.")] = None,
    detector: Annotated[str | None, typer.Option(help="RetinaFace weights: a path or a name.")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned faces.")] = False,
    strength: Annotated[float, typer.Option(min=0, max=1, help="How much of the restored face.")] = 1.0,
    template: Annotated[str | None, typer.Option(help="gpen or ffhq, if the weights do not say.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Faster after a slow start.")] = False,
    as_json: Json = False,
) -> None:
    """Restore the faces of a picture or of a folder of pictures."""
    pairs = _pairs(source, output)
    from gpenvideo.faces.detector import RetinaFaceDetector
    from gpenvideo.restorer import load
    from gpenvideo.still import default_detector, restore_picture
    from gpenvideo.weights import find

    found = None
    if not aligned:
        found = RetinaFaceDetector(find(detector)) if detector else default_detector()
    restorer = load(weights, device, dtype, template=template, compile=compile, max_batch=1 if compile else 8)
    if not as_json:
        err.print(_described(restorer), highlight=False)
    if compile:
        with err.status("compiling the network"):
            restorer.warm_up()
    failures = 0
    for picture, target in _shown(pairs, "restoring", quiet=as_json):
        start = time.perf_counter()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            faces = restore_picture(
                picture, target, restorer, aligned=aligned, detector=found, strength=strength
            )
        except GpenvideoError as error:
            if source.is_file():
                raise
            failures += 1
            if as_json:
                out.print_json(json.dumps({"input": str(picture), "error": str(error)}), indent=None)
            else:
                err.print(f"gpenvideo: {error}", style="red", markup=False, highlight=False)
            continue
        seconds = round(time.perf_counter() - start, 3)
        if as_json:
            line = {"input": str(picture), "output": str(target), "faces": faces, "seconds": seconds}
            out.print_json(json.dumps(line), indent=None)
        else:
            out.print(
                f"{target}: {faces} {'face' if faces == 1 else 'faces'}, {seconds:.2f} s", highlight=False
            )
    if failures:
        raise FaceError(f"{failures} of {len(pairs)} pictures could not be restored", path=source)


def _pairs(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """Each picture and where its restored one goes."""
    from gpenvideo.picture import SUFFIXES

    if source.is_dir():
        if output.is_file():
            raise OptionError("it is a file; name a folder for the restored pictures", path=output)
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise FileMissing(f"no pictures in it ({', '.join(SUFFIXES)})", path=source)
        if output.resolve() == source.resolve():
            raise OptionError(
                "the restored pictures would replace their sources; name another folder", path=output
            )
        return [(file, output / file.relative_to(source)) for file in files]
    if not source.exists():
        raise FileMissing("no such file or folder", path=source)
    if output.is_dir():
        output = output / source.name
    if output.exists() and output.resolve() == source.resolve():
        raise OptionError("the restored picture would replace its source; name another file", path=output)
    return [(source, output)]


def _described(restorer: GPENRestorer) -> str:
    names = {"cpu": "the CPU", "cuda": "CUDA"}
    precision = str(restorer.dtype).removeprefix("torch.")
    where = names[restorer.device.type]
    return f"{restorer.size_px} px {restorer.config.layout} network on {where}, {precision}"


def _shown(items: list[Any], doing: str, *, quiet: bool) -> Any:
    """The items, with a progress bar on a terminal where there are several."""
    if quiet or len(items) < 2 or not err.is_terminal:
        return items
    from rich.progress import track

    return track(items, doing, console=err)


@weights_app.command("list")
def weights_list(as_json: Json = False) -> None:
    """Every network file gpenvideo knows by name."""
    from rich.table import Table

    from gpenvideo.weights import located, read_manifest

    entries = read_manifest().values()
    if as_json:
        for entry in entries:
            path = located(entry)
            line = {"name": entry.name, "kind": entry.kind, "size_px": entry.size_px, "bytes": entry.bytes}
            line |= {"licence": entry.licence, "non_commercial": entry.non_commercial, "advice": entry.advice}
            out.print_json(json.dumps(line | {"path": str(path) if path else None}), indent=None)
        return
    table = Table("name", "kind", "size", "here", "licence", "advice", show_lines=True)
    for entry in entries:
        size = f"{entry.bytes / 1e6:.1f} MB" if entry.bytes else "?"
        here = "ships" if entry.shipped else "yes" if located(entry) else "no"
        licence = "NON-COMMERCIAL" if entry.non_commercial else entry.licence
        table.add_row(entry.name, entry.kind, size, here, licence, entry.advice)
    Console().print(table)


def _entry(name: str) -> Weights:
    from gpenvideo.weights import read_manifest

    entries = read_manifest()
    if name not in entries:
        raise OptionError(f"no weights are called {name!r}: the names are {', '.join(entries)}")
    return entries[name]


@weights_app.command("pull")
def weights_pull(
    name: Annotated[str, typer.Argument(help="A name of `weights list`.")],
    folder: Annotated[Path | None, typer.Option(help="Where to; default the user's cache.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use what is here; fetch nothing.")] = False,
) -> None:
    """Download a network file; its licence is shown first, its sha256 checked after."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from gpenvideo.weights import pull

    entry = _entry(name)
    style = "bold yellow" if entry.non_commercial else None
    prefix = "NON-COMMERCIAL. " if entry.non_commercial else ""
    err.print(f"licence of {entry.name}: {prefix}{entry.licence}", style=style, markup=False, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(entry.file, total=entry.bytes or None)
        path = pull(
            entry,
            folder=folder,
            offline=offline,
            progress=lambda done, total: bar.update(task, completed=done, total=total or None),
        )
    out.print(str(path), markup=False, highlight=False)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of `weights list`; none: all here.")
    ] = None,
) -> None:
    """Compare the network files on this machine with their sha256."""
    from gpenvideo.weights import located, read_manifest, verify

    entries = [_entry(name) for name in names] if names else list(read_manifest().values())
    for entry in entries:
        path = located(entry)
        if path is None and names:
            raise FileMissing(f"{entry.name} is not on this machine: gpenvideo weights pull {entry.name}")
        if path is not None and entry.sha256:
            verify(path, entry)
            out.print(f"{path}: right", markup=False, highlight=False)


@weights_app.command("info")
def weights_info(
    file: Annotated[str, typer.Argument(help="A checkpoint, or a name of `weights list`.")],
    as_json: Json = False,
) -> None:
    """What a checkpoint is, read from the file itself."""
    from gpenvideo.gpen.checkpoint import open_checkpoint
    from gpenvideo.weights import find, sha256

    path = find(file)
    opened = open_checkpoint(path)
    config = opened.model.config
    facts: dict[str, Any] = {
        "file": str(path),
        "container": opened.container,
        "layout": config.layout,
        "stored_as": str(opened.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in opened.model.parameters()),
        "sha256": sha256(path),
    }
    facts |= config.as_args() | {key: value for key, value in opened.args.items() if key not in facts}
    if as_json:
        out.print_json(json.dumps(facts), indent=None)
        return
    for key, value in facts.items():
        out.print(f"{key:18} {value}", markup=False, highlight=False)


@weights_app.command("convert")
def weights_convert(
    source: Annotated[str, typer.Argument(help="A checkpoint: .pth, .safetensors or .onnx.")],
    target: Annotated[Path, typer.Argument(help="A .safetensors or .pth file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store float16.")] = False,
    legacy: Annotated[bool, typer.Option("--legacy", help="The format before torch 1.6.")] = False,
) -> None:
    """Write a checkpoint in another container or precision."""
    from gpenvideo.gpen.checkpoint import open_checkpoint, save
    from gpenvideo.weights import find

    opened = open_checkpoint(find(source))
    save(opened.model, target, half=half, legacy=legacy, args=opened.args)
    out.print(str(target), markup=False, highlight=False)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--out", help="Where the pictures go.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Restore a real face, made as bad as old film, with the default weights."""
    from gpenvideo.demo import run_demo
    from gpenvideo.restorer import load
    from gpenvideo.still import default_detector

    restorer = load(device=device)
    err.print(_described(restorer), highlight=False)
    done = run_demo(output, restorer, default_detector())
    gain = done.restored_db - done.degraded_db
    out.print(f"{done.sheet}: degraded, restored, truth", markup=False, highlight=False)
    out.print(f"the face: {done.degraded_db:.1f} dB before, {done.restored_db:.1f} dB after ({gain:+.1f})")


@app.command()
def info(as_json: Json = False) -> None:
    """Versions and devices: what a bug report needs."""
    import platform
    from importlib.metadata import version

    import torch

    from gpenvideo.restorer import automatic_dtype

    packages = ("gpenvideo", "torch", "torchvision", "av", "facexlib", "numpy", "opencv-python", "pillow")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts = {name: version(name) for name in packages} | {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cuda_devices": devices,
        "cpu_threads": torch.get_num_threads(),
        "precision": {name: automatic_dtype(name) for name in ["cpu"] + ["cuda"] * bool(devices)},
    }
    if as_json:
        out.print_json(json.dumps(facts), indent=None)
        return
    for key, value in facts.items():
        out.print(f"{key:14} {value}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
