"""`gpenvideo evaluate`: how good restored faces are, on pictures whose truth is known, and on videos."""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from gpenvideo.cli.console import Device, Dtype, Json, described, err, out, print_json, say
from gpenvideo.cli.degrade import NoColour, Preset, Workers
from gpenvideo.errors import MediaError, OptionError

if TYPE_CHECKING:
    from gpenvideo.evaluate.lockstep import Analyse
    from gpenvideo.evaluate.pictures import Source
    from gpenvideo.evaluate.report import Evaluation
    from gpenvideo.evaluate.video import VideoEvaluation
    from gpenvideo.faces.detector import Detector

__all__ = ["app"]

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
VIDEO_HEADINGS = {
    "psnr_db": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.3f}"),
    "sharpness": ("sharpness", "{:.2f}"),
    "warp_error": ("warp error, 10⁻³", "{:.3g}"),
    "warp_ratio": ("  to the reference's", "{:.2f}"),
    "flicker": ("flicker, 10⁻³", "{:.3g}"),
    "flicker_ratio": ("  to the reference's", "{:.2f}"),
    "jitter": ("landmark jitter", "{:.2%}"),
    "jitter_to_truth": ("  against the truth", "{:.2%}"),
    "jitter_to_input": ("  against the input", "{:.2%}"),
    "tlme": ("landmark motion error", "{:.2%}"),
    "landmark_error": ("landmark error", "{:.2%}"),
    "lag_frames": ("lag, frames", "{:.2f}"),
    "peak_velocity_error": ("error at peak velocity", "{:.2%}"),
    "vidd": ("VIDD, radians", "{:.4f}"),
}
THOUSANDTHS = ("warp_error", "flicker")


class _PicturesByDefault(typer.core.TyperGroup):
    """What names no command is about pictures, as it was before there were commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["pictures", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PicturesByDefault,
    help="How good restored faces are: of pictures (which needs no name) and of videos.",
)


@app.command("pictures")
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
    from gpenvideo.processor import find_device
    from gpenvideo.restorer import load

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


@app.command("video")
def evaluate_videos(
    restored: Annotated[Path, typer.Option(help="The video that is judged.")],
    truth: Annotated[Path | None, typer.Option(help="The good video.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="The bad video it was made of.")] = None,
    per_frame: Annotated[Path | None, typer.Option(help="Restored with --no-temporal, to compare.")] = None,
    tracks: Annotated[Path | None, typer.Option(help="Tracks of the truth or the input: no search.")] = None,
    detector: Annotated[str | None, typer.Option(help="RetinaFace weights: a path or a name.")] = None,
    device: Device = "auto",
    output: Annotated[Path, typer.Option("-o", "--output", "--out", help="For tables and pictures.")] = Path(
        "evaluation"
    ),
    as_json: Json = False,
) -> None:
    """Say how good and how steady the faces of a restored video are, against the truth or its source."""
    files = {"input": source, "per_frame": per_frame, "restored": restored, "truth": truth}
    if truth is None and source is None:
        raise OptionError("say --truth VIDEO or --input VIDEO: the restored one is measured against it")
    from gpenvideo.evaluate.video import as_json as plain
    from gpenvideo.evaluate.video import evaluate_video, identity_measure
    from gpenvideo.faces.tracker import KEEP
    from gpenvideo.networks import load_detector
    from gpenvideo.processor import find_device

    finder = load_detector(detector, device=device, threshold=KEEP)
    leader, analyse = _analysis(finder, tracks, {"truth": truth, "input": source})
    identity, why = identity_measure(find_device(device))
    start = time.perf_counter()
    with _progress(quiet=as_json) as bar:
        task = bar.add_task("measuring", total=None)
        result = evaluate_video(
            {name: path for name, path in files.items() if path is not None},
            output,
            finder,
            analyse,
            leader=leader,
            identity=identity,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    off = result.off | ({} if identity else {"vidd": why})
    seconds = time.perf_counter() - start
    if as_json:
        print_json(plain(result) | {"off": off, "seconds": round(seconds, 1)})
    else:
        _show_video(result, off, seconds)


def _analysis(finder: Detector, tracks: Path | None, files: dict[str, Path | None]) -> tuple[str, Analyse]:
    """Which video leads, and what finds its faces: the detector, or tracks that were found before."""
    from gpenvideo.analysis import Analysis
    from gpenvideo.tracks.file import read_tracks
    from gpenvideo.tracks.given import Given
    from gpenvideo.video.reader import VideoReader

    there = {name: path for name, path in files.items() if path is not None}
    if tracks is None:
        return next(iter(there)), lambda reader: Analysis(finder, reader.info)
    given = read_tracks(tracks)
    for name, path in there.items():
        with VideoReader(path) as reader, suppress(OptionError):
            Given(given, reader)  # refuses tracks of another file
            return name, partial(Given, given)
    named = " nor ".join(path.name for path in there.values())
    raise OptionError(f"these tracks are of {given.source.name}, which {named} is not", path=tracks)


def _show_video(result: VideoEvaluation, off: dict[str, str], seconds: float) -> None:
    for warning in result.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    for why in dict.fromkeys(off.values()):
        names = ", ".join(name for name, reason in off.items() if reason == why)
        err.print(f"without {names}: {why}", style="yellow", markup=False, highlight=False)
    from rich.table import Table

    table = Table("", *result.measures)
    for name, (heading, form) in VIDEO_HEADINGS.items():
        values = [found.get(name, math.nan) for found in result.measures.values()]
        if not all(map(math.isnan, values)):
            factor = 1e3 if name in THOUSANDTHS else 1.0
            table.add_row(heading, *("" if math.isnan(v) else form.format(factor * v) for v in values))
    out.print(table)
    files = result.files
    say(
        f"{files['table']}: {result.frames} frames in {seconds:.0f} s, one a row; {files['plots']}: over time"
    )
    if "sheet" in files and result.worst_s is not None:
        say(f"{files['sheet']}: the worst second, {result.worst_s[0]:.2f} s to {result.worst_s[1]:.2f} s")


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
