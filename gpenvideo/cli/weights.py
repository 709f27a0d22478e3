"""`gpenvideo weights`: network files: which there are, getting, checking and converting them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gpenvideo.cli.console import Json, err, print_json, say
from gpenvideo.errors import CheckpointError, FileMissing, OptionError

if TYPE_CHECKING:
    from gpenvideo.weights import Weights

__all__ = ["app"]

app = typer.Typer(help="Network files: which there are, getting, checking and converting them.")


@app.command("list")
def weights_list(as_json: Json = False) -> None:
    """Every network file gpenvideo knows by name."""
    from rich.table import Column, Table

    from gpenvideo.weights import located, read_manifest

    entries = read_manifest().values()
    if as_json:
        for entry in entries:
            path = located(entry)
            line = {"name": entry.name, "kind": entry.kind, "size_px": entry.size_px, "bytes": entry.bytes}
            line |= {"licence": entry.licence, "non_commercial": entry.non_commercial, "advice": entry.advice}
            print_json(line | {"path": str(path) if path else None})
        return
    table = Table("name", "kind", "size", "here", Column("licence", min_width=14), "advice", show_lines=True)
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


@app.command("pull")
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
    say(str(path))


@app.command("verify")
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
            say(f"{path}: right")


@app.command("info")
def weights_info(
    file: Annotated[str, typer.Argument(help="A checkpoint, or a name of `weights list`.")],
    as_json: Json = False,
) -> None:
    """What a checkpoint is, read from the file itself."""
    from gpenvideo.weights import find, sha256

    path = find(file)
    facts = {"file": str(path), **_facts(path), "sha256": sha256(path)}
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        say(f"{key:18} {value}")


def _facts(path: Path) -> dict[str, Any]:
    """What a network is: a GPEN, or one of those that spandrel knows."""
    from gpenvideo.foreign import facts_of, read_network
    from gpenvideo.gpen.checkpoint import open_checkpoint

    try:
        opened = open_checkpoint(path)
    except CheckpointError as error:
        return facts_of(read_network(path, refused=error))
    config = opened.model.config
    facts: dict[str, Any] = {
        "container": opened.container,
        "layout": config.layout,
        "stored_as": str(opened.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in opened.model.parameters()),
    }
    return facts | config.as_args() | {key: v for key, v in opened.args.items() if key not in facts}


@app.command("convert")
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
    say(str(target))
