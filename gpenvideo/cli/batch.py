"""`gpenvideo batch`: many videos, on one machine or many, of which those that fail do not stop the others."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from gpenvideo.cli.console import Device, Dtype, Json
from gpenvideo.cli.materials import Material, tell_material
from gpenvideo.cli.restore import (
    Background,
    Codec,
    Color,
    Crf,
    Decoder,
    Deinterlace,
    DetectEvery,
    DetectSize,
    End,
    Gates,
    Grain,
    Guarded,
    Ivtc,
    MatchSharpness,
    MaxFaces,
    MinFace,
    PixFmt,
    Prefilter,
    PrefilterOutput,
    Preset,
    Rate,
    Reference,
    Select,
    Start,
    Strength,
    Strict,
    Temporal,
    Upscale,
)
from gpenvideo.cli.restore import Stream as VideoStream
from gpenvideo.errors import OptionError

if TYPE_CHECKING:
    from gpenvideo.batch.executor import Executor

__all__ = ["BatchCommand", "batch"]

FILES, TROUBLE, MACHINES = "Which files", "When something fails", "What does the work"
WATCH_S = 2.0
ADDRESS = re.compile(r"auto|local|ray://.+|[^/\\]+:\d+")


class OnError(StrEnum):
    """What to do when a file fails."""

    keep_going = "keep-going"
    stop = "stop"


class BatchCommand(TyperCommand):
    """Lets `--ray` stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        head = args[: args.index("--")] if "--" in args else args
        if "--ray" in head:
            after = args.index("--ray") + 1
            if after == len(head) or not ADDRESS.fullmatch(args[after]):
                args = [*args[:after], "auto", *args[after:]]
        return super().parse_args(ctx, args)


def batch(
    ctx: typer.Context,
    given: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Videos, folders, patterns, @lists, URLs.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="The folder or URL that results go to.")],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders in folders too.", rich_help_panel=FILES)
    ] = False,
    suffix: Annotated[
        str | None, typer.Option(help="Of all results, as .mkv; default: its own.", rich_help_panel=FILES)
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for further files, without end.", rich_help_panel=FILES)
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes; default 1. 0: in this one.", rich_help_panel=MACHINES),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]", help="On a Ray cluster; by itself: this machine's.", rich_help_panel=MACHINES
        ),
    ] = None,
    segment: Annotated[
        float, typer.Option(min=1, help="Least length of a segment, s.", rich_help_panel=MACHINES)
    ] = 60,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Use segments of an earlier run.", rich_help_panel=TROUBLE),
    ] = True,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Files that failed before too.", rich_help_panel=TROUBLE)
    ] = False,
    on_error: Annotated[
        OnError, typer.Option(help="What to do when a file fails.", rich_help_panel=TROUBLE)
    ] = OnError.keep_going,
    delete_partial: Annotated[
        bool,
        typer.Option("--delete-partial", help="Segments of files that failed go.", rich_help_panel=TROUBLE),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Decode every result and compare it.", rich_help_panel=TROUBLE)
    ] = False,
    exec_done: Annotated[
        str | None, typer.Option(help="A command for each result: 'cmd {}'.", rich_help_panel=TROUBLE)
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A checkpoint, or a name of `weights list`.")] = None,
    detector: Annotated[str | None, typer.Option(help="RetinaFace weights: a path or a name.")] = None,
    material: Material = None,
    strength: Strength = 1.0,
    template: Annotated[str | None, typer.Option(help="gpen or ffhq, if the weights do not say.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Faster after a slow start.")] = False,
    select: Select = "all",
    min_face: MinFace = 0,
    max_faces: MaxFaces = None,
    reference: Reference = None,
    gates: Gates = True,
    temporal: Temporal = True,
    guard: Guarded = True,
    color: Color = "keep",
    grain: Grain = "match",
    match_sharpness: MatchSharpness = False,
    detect_size: DetectSize = 640,
    detect_every: DetectEvery = None,
    start: Start = None,
    end: End = None,
    video_stream: VideoStream = None,
    rate: Rate = None,
    strict: Strict = False,
    deinterlace: Deinterlace = "auto",
    ivtc: Ivtc = False,
    prefilter: Prefilter = None,
    prefilter_output: PrefilterOutput = False,
    decoder: Decoder = "software",
    codec: Codec = None,
    crf: Crf = None,
    preset: Preset = None,
    pix_fmt: PixFmt = None,
    upscale: Upscale = 1,
    background: Background = None,
    as_json: Json = False,
) -> None:
    """Restore many videos, on from where an earlier run was; `gpenvideo jobs` tells what became of them.

    Exit code 1: some failed. 2: nothing more could be done, whatever the file.
    """
    if suffix is not None and not re.fullmatch(r"\.\w+", suffix):
        raise OptionError(f"a suffix is written .mkv, not {suffix!r}")
    from gpenvideo.batch.driver import BatchOptions
    from gpenvideo.batch.run import run_batch
    from gpenvideo.cli.overview import shown_batch

    options = BatchOptions(
        segment_s=segment,
        resume=resume,
        retry_failed=retry_failed,
        stop_on_error=on_error is OnError.stop,
        verify=verify,
        delete_partial=delete_partial,
    )
    tell_material(ctx, material)
    with shown_batch(as_json) as shown:
        summary = run_batch(
            given,
            out,
            settings=_said(ctx),
            recursive=recursive,
            suffix=suffix,
            watch_s=WATCH_S if watch else None,
            options=options,
            executor=_executor(workers, ray, device),
            exec_done=exec_done,
            progress=shown.overview,
            finished=shown.film,
        )
    shown.summary(summary)
    if summary.failed:
        sys.exit(1)


def _said(ctx: typer.Context) -> dict[str, Any]:
    """The settings that the command line names: they override those of folders."""
    from gpenvideo.batch.settings import SETTINGS

    names = {name.replace("_", "-"): name for name in ctx.params}
    given = [name for name in SETTINGS if _is_said(ctx, names[name])]
    settings = {name: ctx.params[names[name]] for name in given}
    if "reference" in settings:
        settings["reference"] = list(map(str, settings["reference"]))
    return settings


def _is_said(ctx: typer.Context, parameter: str) -> bool:
    source = ctx.get_parameter_source(parameter)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _executor(workers: int | None, ray: str | None, device: str) -> Executor:
    if ray is not None:
        from gpenvideo.batch.ray import Cluster

        return Cluster(None if ray == "auto" else ray, workers, {"cuda": 1, "cpu": 0}.get(device))
    from gpenvideo.batch.local import InProcess, Processes

    return InProcess() if workers == 0 else Processes(workers or 1)
