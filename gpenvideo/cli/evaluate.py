"""`gpenvideo evaluate`: how good restored faces are, on pictures whose truth is known."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpenvideo.cli.console import Device, Dtype, Json, described, err, out, print_json, say
from gpenvideo.cli.degrade import NoColour, Preset, Workers
from gpenvideo.errors import MediaError, OptionError

if TYPE_CHECKING:
    from gpenvideo.evaluate.pictures import Source
    from gpenvideo.evaluate.report import Evaluation

__all__ = ["evaluate"]

WITHOUT_NETWORK_PX = 512
HEADINGS = {
    "psnr_db": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.3f}"),
    "sharpness": ("sharpness", "{:.2f}"),
    "correlation": ("correlation", "{:.3f}"),
    "lpips": ("LPIPS", "{:.3f}"),
    "identity": ("identity", "{:.3f}"),
    "landmark_error": ("landmark error", "{:.1%}"),
    "found": ("faces found", "{:.0%}"),
}
SETS, WHICH = "Which pictures", "Which network"


def evaluate(
    more: Annotated[
        list[Path] | None, typer.Argument(help="More folders for --clean.", metavar="[FOLDER]...")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Holds input/, truth/ and maybe restored/.", rich_help_panel=SETS)
    ] = None,
    clean: Annotated[
        Path | None, typer.Option(help="Good pictures, to be degraded.", rich_help_panel=SETS)
    ] = None,
    degrade: Annotated[
        int | None, typer.Option(help="The seed of their degradation.", min=0, rich_help_panel=SETS)
    ] = None,
    preset: Preset = "base",
    no_colour: NoColour = False,
    aligned: Annotated[bool, typer.Option("--aligned", help="They are aligned faces, square.")] = False,
    landmarks: Annotated[
        Path | None, typer.Option(help="Where their faces are; default: faces.csv, or the detector.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the faces judged, px.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="A checkpoint, or a name of `weights list`.", rich_help_panel=WHICH)
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="RetinaFace weights: a path or a name.", rich_help_panel=WHICH)
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="gpen or ffhq, if the weights do not say.", rich_help_panel=WHICH)
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    output: Annotated[Path, typer.Option("-o", "--output", help="For pictures.csv and sheet.png.")] = Path(
        "evaluation"
    ),
    shown: Annotated[int, typer.Option(min=0, help="How many pictures the sheet shows.")] = 24,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Restore pictures whose truth is known, and say how near the results are to it."""
    sources = _sources(more or [], pairs, clean, degrade, landmarks)
    from gpenvideo.evaluate.degraded import Decay
    from gpenvideo.evaluate.examples import Alignment
    from gpenvideo.evaluate.features import feature_measures
    from gpenvideo.evaluate.report import Judges, evaluate
    from gpenvideo.faces import alignment
    from gpenvideo.networks import load_detector
    from gpenvideo.restorer import find_device, load

    decay = None if degrade is None else Decay(degrade, preset, not no_colour)  # type: ignore[arg-type]
    restorer = None
    if any(one.restored is None for one in sources):
        restorer = load(weights, device, dtype, template=template)
    if not as_json:
        err.print(
            "judging restored/; no network runs" if restorer is None else described(restorer), highlight=False
        )
    name: Any = template or "ffhq" if restorer is None else restorer.config.template
    side = size or (WITHOUT_NETWORK_PX if restorer is None else restorer.size_px)
    finder = load_detector(detector, device=device)
    features = feature_measures(name, find_device(device))
    for measure, why in features.off.items():
        err.print(f"without {measure}: {why}", style="yellow", markup=False, highlight=False)
    start = time.perf_counter()
    with _progress(quiet=as_json) as bar:
        task = bar.add_task("judging", total=len(sources))
        result = evaluate(
            sources,
            output,
            Alignment(side, None if aligned else alignment.template(name, side), finder),
            Judges(features.on, finder, find_device(device)),
            decay=decay,
            restorer=restorer,
            shown=shown,
            workers=workers or os.cpu_count() or 1,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _show(result, features.off, time.perf_counter() - start, as_json)
    if result.failures:
        raise MediaError(f"{len(result.failures)} of {len(sources)} pictures could not be judged")


def _sources(
    more: list[Path], pairs: Path | None, clean: Path | None, degrade: int | None, landmarks: Path | None
) -> list[Source]:
    from gpenvideo.evaluate.pictures import read_clean, read_pairs

    if pairs is not None and clean is None and degrade is None and not more:
        return read_pairs(pairs, landmarks)
    if clean is not None and pairs is None and degrade is not None:
        return read_clean([clean, *more], landmarks)
    raise OptionError("say --pairs FOLDER, or --clean FOLDER with --degrade SEED")


def _progress(*, quiet: bool) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)


def _show(result: Evaluation, off: dict[str, str], seconds: float, as_json: bool) -> None:
    means = result.means()
    if as_json:
        files = {"table": str(result.table), "sheet": str(result.sheet) if result.sheet else None}
        failures = [str(error) for error in result.failures]
        print_json(
            {"pictures": len(result.rows), "failures": failures, **means, "off": off}
            | {"seconds": round(seconds, 1)}
            | files
        )
        return
    for error in result.failures:
        err.print(f"gpenvideo: {error}", style="red", markup=False, highlight=False)
    from rich.table import Table

    table = Table("", *means)
    for name, (heading, form) in HEADINGS.items():
        if any(name in values for values in means.values()):
            cells = (form.format(values[name]) if name in values else "" for values in means.values())
            table.add_row(heading, *cells)
    out.print(table)
    count = len(result.rows)
    say(f"{result.table}: {count} {'picture' if count == 1 else 'pictures'} in {seconds:.0f} s, one a row")
    if result.sheet is not None:
        say(f"{result.sheet}: input, restored, truth; the worst, some of all, the best")
