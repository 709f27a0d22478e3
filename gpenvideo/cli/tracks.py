"""`gpenvideo tracks`: which face is where in a video, for a person to edit before it is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpenvideo.cli.console import Device, Dtype, Json
from gpenvideo.cli.restore import DetectEvery, DetectSize, End, Rate, Start, Stream, Strict

__all__ = ["tracks"]


def tracks(
    source: Annotated[
        Path, typer.Argument(readable=False, help="A video, a folder, or a pattern like shot_%04d.png.")
    ],
    output: Annotated[
        Path | None, typer.Argument(help="A .json file; a .png is put beside it. Default: NAME.tracks.json.")
    ] = None,
    detector: Annotated[str | None, typer.Option(help="RetinaFace weights: a path or a name.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    detect_size: DetectSize = 640,
    detect_every: DetectEvery = None,
    start: Start = None,
    end: End = None,
    video_stream: Stream = None,
    rate: Rate = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Find the faces of a video and restore none: edit the file, then `restore --tracks-in` it."""
    from gpenvideo.cli import video

    video.analyse(
        source,
        output or source.with_name(f"{source.stem}.tracks.json"),
        detector=detector,
        networks={"device": device, "dtype": dtype},
        options={"detect_size_px": detect_size, "detect_every": detect_every},
        decoding={
            "start": start,
            "end": end,
            "video_stream": video_stream,
            "rate": rate,
            "strict": strict,
        },
        as_json=as_json,
    )
