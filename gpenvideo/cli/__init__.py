"""The command line: arguments in, lines and pictures out. The only part that prints or exits."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from gpenvideo.cli.about import demo, info
from gpenvideo.cli.batch import BatchCommand, batch
from gpenvideo.cli.bench import bench
from gpenvideo.cli.conditional import colorize, inpaint, segmentation_to_face
from gpenvideo.cli.console import err, out, show_warning
from gpenvideo.cli.degrade import degrade
from gpenvideo.cli.evaluate import app as evaluate_app
from gpenvideo.cli.interrupts import Interrupted, interruptible, leave
from gpenvideo.cli.jobs import app as jobs_app
from gpenvideo.cli.live import live
from gpenvideo.cli.materials import materials
from gpenvideo.cli.restore import restore
from gpenvideo.cli.tracks import tracks
from gpenvideo.cli.train import train
from gpenvideo.cli.train_detector import train_detector
from gpenvideo.cli.train_landmarks import train_landmarks
from gpenvideo.cli.weights import app as weights_app
from gpenvideo.errors import GpenvideoError
from gpenvideo.weights import cache_dir

__all__ = ["app", "main"]

app = typer.Typer(
    name="gpenvideo",
    help="Restore faces in film, video and photographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(restore)
app.command(cls=BatchCommand)(batch)
app.command()(tracks)
app.command()(live)
app.command()(info)
app.command()(materials)
app.command()(demo)
app.command()(bench)
app.command()(degrade)
app.command()(colorize)
app.command()(inpaint)
app.command()(segmentation_to_face)
app.command()(train)
app.command()(train_detector)
app.command()(train_landmarks)
app.add_typer(jobs_app, name="jobs", no_args_is_help=True)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(weights_app, name="weights", no_args_is_help=True)


def main() -> None:
    """Run the command line; one clear line and exit code 2 for whatever a person can put right.

    Ctrl-C ends it with 130, SIGTERM with 143; what was half written is removed.
    """
    # Decoder and encoder share the cores with the network, whose threads are to sleep while they wait.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # What --compile made is kept for the next run; by itself torch puts it where a restart removes it.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir().parent / "compiled"))
    with interruptible() as asked:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                app()
        except (Exception, Interrupted) as error:
            if asked.code is not None:
                err.print("stopped")
                leave(asked.code)
            if not isinstance(error, GpenvideoError):
                raise
            err.print(f"gpenvideo: {error}", style="red", markup=False, highlight=False)
            sys.exit(2)


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
