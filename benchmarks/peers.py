"""The same network on the same clip in four ways, side by side: seconds a frame, and how near to fp32 eager.

    python -m benchmarks.peers [--size 256] [--frames 20] [--rounds 3] [--threads 2]

The network is a published one with random weights, so that any way of running it may be compared; the clip is
640x360 with one face (benchmarks.video's). `ours` is `restore_video`; `ONNX Runtime` the same with our own
exported graph as its network; `usual style` is benchmarks.usual, frame by frame on the whole frame, with the
formulas as they are written (benchmarks.naive), eager and through torch.compile. Only `ours` searches now and
then, smooths and steadies; `usual style` searches every frame. `network PSNR` is of one face against ours in
fp32, over the range of 2; `memory` the most of the process up to then, so of the rows in their order.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from benchmarks import measure, usual
from benchmarks.model import naive, network, onnx_runtime
from benchmarks.video import PUBLISHED, SCENES, film, psnr_db
from benchmarks.waterfall import faces
from gpenvideo import weights
from gpenvideo.faces.alignment import template
from gpenvideo.networks import load_networks
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.restorer import GPENRestorer
from gpenvideo.transcode import Encoding, restore_video


class Other:
    """Another way to run the network, as a restorer: one face at a time."""

    max_batch = 1

    def __init__(self, run: Callable[[Tensor], Tensor], size_px: int) -> None:
        self._run, self.size_px, self.template = run, size_px, template("gpen", size_px)

    def __call__(self, pixels: Tensor) -> Tensor:
        return torch.cat([self._run(face.contiguous()) for face in pixels.split(1)]).clamp(-1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, choices=[256, 512])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    rows, frames = [], options.frames
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        source, scene = Path(folder) / "clip.mp4", SCENES["640x360, one face"]._replace(frames=frames)
        film(scene, source)
        model = network(options.size)
        exact, auto = GPENRestorer(model, device="cpu", dtype="fp32"), GPENRestorer(model, device="cpu")
        _, detector = load_networks(auto, None)
        published = PUBLISHED if PUBLISHED.exists() else weights.find("gpenvideo-retinaface-mobile0.25")
        plain, facexlib = naive(model, "fp32"), usual.retinaface(published)
        runtime = Other(onnx_runtime(model, options.threads), options.size)
        compiled = torch.compile(plain)

        def ours(restorer: Any) -> Callable[[Path], object]:
            return lambda target: restore_video(
                source,
                target,
                weights=restorer,
                detector=detector,
                options=RestoreOptions(select="largest"),
                encoding=Encoding(preset="veryfast"),
            )

        def usually(run: Any) -> Callable[[Path], object]:
            return lambda target: usual.restore(source, target, facexlib, run, size_px=options.size)

        ways: dict[str, tuple[Callable[[Path], object], Callable[[Tensor], Tensor]]] = {
            f"ours, {auto}": (ours(auto), auto),
            f"ours, {exact}": (ours(exact), exact),
            "ONNX Runtime, fp32": (ours(runtime), runtime),
            "usual style, eager fp32": (usually(plain), plain),
            "usual style, compiled fp32": (usually(compiled), compiled),
        }
        targets = {name: Path(folder) / f"{i}.mp4" for i, name in enumerate(ways)}
        cases: dict[str, Callable[[], object]] = {
            name: (lambda run=run, name=name: run(targets[name])) for name, (run, _) in ways.items()
        }
        times = measure.interleaved(cases, options.rounds, at_least_s=0)
        face, first = faces(options.size, 1, "cpu"), next(iter(ways))
        for name, (_, run) in ways.items():
            median, spread = measure.summary(times[name])
            noise = (run(face).float().clamp(-1, 1) - exact(face)).square().mean().sqrt().clamp_min(1e-9)
            rows.append(
                {
                    "way": name,
                    "fps": round(frames / median, 2),
                    "ms": round(median / frames * 1e3, 1),
                    "IQR ms": round(spread / frames * 1e3, 1),
                    "time / ours": round(measure.ratio(times[name], times[first]), 2),
                    "network PSNR dB": round(float(20 * torch.log10(2 / noise)), 1),
                    "luma PSNR to the source dB": psnr_db(source, targets[name], frames),
                    "memory MB": round(measure.peak_memory_of_this_process_mb()),
                }
            )
    print(measure.table(rows), measure.save("peers", rows), sep="\n\n")


if __name__ == "__main__":
    main()
