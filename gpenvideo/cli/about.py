"""`gpenvideo info` and `gpenvideo demo`: what a file holds, what runs here, and what it can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gpenvideo.cli.console import Device, Json, described, err, out, print_json, say

__all__ = ["demo", "info"]


def demo(
    output: Annotated[Path, typer.Option("--out", help="Where the pictures go.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Restore a real face, made as bad as old film, with the default weights."""
    from gpenvideo.demo import run_demo
    from gpenvideo.networks import load_detector
    from gpenvideo.restorer import load

    restorer = load(device=device)
    err.print(described(restorer), highlight=False)
    with err.status("") as status:
        done = run_demo(output, restorer, load_detector(device=device), progress=status.update)
    table = Table("clip", "PSNR of the face", "SSIM", "landmark error", "faces found")
    for name, quality in done.quality.items():
        table.add_row(
            name,
            f"{quality.psnr_db:.2f} dB",
            f"{quality.ssim:.3f}",
            f"{quality.landmark_error:.2%}",
            f"{quality.found:.0%}",
        )
    out.print(table)
    err.print(
        "landmark error: of what the detector finds in the true frames, in eye distances", highlight=False
    )
    say(f"{done.clip}: before and after, {done.report.fps:.1f} frames a second")
    say(f"{done.sheet}: degraded, restored, truth")


def info(
    file: Annotated[
        Path | None,
        typer.Argument(
            readable=False, help="A video, a folder of pictures, or a pattern like shot_%04d.png."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """What a video holds; without one, versions and devices: what a bug report needs."""
    if file is not None:
        _show_file(file, as_json)
        return
    import platform
    from importlib.metadata import version

    import torch

    from gpenvideo.processor import automatic_dtype

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
        print_json(facts)
        return
    for key, value in facts.items():
        say(f"{key:14} {value}")


def _show_file(file: Path, as_json: bool) -> None:
    from gpenvideo.video.probe import probe

    facts = probe(file)
    if as_json:
        print_json(facts)
        return
    streams, chapters, metadata = (facts.pop(key) for key in ("streams", "chapters", "metadata"))
    for key, value in [*facts.items(), *metadata.items()]:
        _show(key, value)
    for chapter in chapters:
        _show("chapter", f"{chapter['start_s']:.3f} to {chapter['end_s']:.3f} s {chapter['title']}")
    for stream in streams:
        say(f"\nstream {stream.pop('index')}: {stream.pop('kind')}")
        for key, value in stream.items():
            _show(key, value)


def _show(key: str, value: object) -> None:
    """A fact in a line; those that are not known are left out."""
    if isinstance(value, dict):
        value = ", ".join(f"{name} {each}" for name, each in value.items())
    elif isinstance(value, list):
        value = ("x" if key.endswith("_px") else ", ").join(str(each) for each in value)
    if value not in (None, ""):
        say(f"{key:14} {value}")
