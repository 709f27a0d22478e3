"""`gpenvideo bench`: how fast this machine restores, and how much of what it could do that is."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gpenvideo.cli.console import Device, Dtype, Json, described, err, out, print_json, say

__all__ = ["bench"]


def bench(
    video: Annotated[
        Path | None, typer.Argument(readable=False, help="A video to restore as well, stage by stage.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A checkpoint, or a name of `weights list`.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Faster after a slow start.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the networks on this machine, and a whole video if one is named; nothing is kept."""
    from gpenvideo.faces.tracker import KEEP
    from gpenvideo.networks import load_detector
    from gpenvideo.restorer import load
    from gpenvideo.speed import detector_ms, network_speeds

    with err.status("loading"):
        restorer = load(weights, device, dtype, compile=compile)
        detector = load_detector(device=device, dtype=dtype, threshold=KEEP)
    with err.status("measuring the networks"):
        speeds, searching_ms = network_speeds(restorer), detector_ms(detector)
    facts = {
        "network": repr(restorer),
        "speeds": [
            {**asdict(speed), "psnr_db": speed.psnr_db if math.isfinite(speed.psnr_db) else None}
            for speed in speeds
        ],
        "detector_ms": searching_ms,
    }
    if not as_json:
        err.print(described(restorer), highlight=False)
        table = Table("faces at once", "ms a face", "faces a second", "share of the ceiling", "PSNR to fp32")
        for speed in speeds:
            quality = f"{speed.psnr_db:.1f} dB" if math.isfinite(speed.psnr_db) else "the same"
            table.add_row(
                str(speed.faces), f"{speed.ms:.2f}", f"{1e3 / speed.ms:.0f}", f"{speed.share:.0%}", quality
            )
        out.print(table)
        say("the ceiling is one large convolution in the same precision on the same device, in the same run")
        say(f"the detector takes {searching_ms:.1f} ms for a picture of 640x360")
    if video is not None:
        facts["video"] = _restored(video, restorer, detector, as_json)
    if as_json:
        print_json(facts)


def _restored(video: Path, restorer: object, detector: object, as_json: bool) -> dict[str, object]:
    from gpenvideo.transcode import Encoding, restore_video

    with tempfile.TemporaryDirectory() as folder, err.status(f"restoring {video.name}"):
        report = restore_video(
            video,
            Path(folder) / "restored.mkv",
            weights=restorer,  # type: ignore[arg-type]
            detector=detector,  # type: ignore[arg-type]
            encoding=Encoding(preset="veryfast"),
        )
    frames = report.written
    stages = {name: seconds / frames * 1e3 for name, seconds in report.stages_s.items()}
    if not as_json:
        table = Table("stage", "ms a frame")
        for name, ms in sorted(stages.items(), key=lambda item: -item[1]):
            table.add_row(name, f"{ms:.2f}")
        out.print(table)
        faces = report.faces / frames
        say(f"{video}: {report.fps:.1f} frames a second, {faces:.2f} faces a frame, decoded and encoded")
    return {"fps": report.fps, "frames": frames, "faces": report.faces, "stages_ms": stages}
