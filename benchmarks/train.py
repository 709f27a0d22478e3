"""Training speed, and how much of it is waiting for data: pictures read, degraded and turned into tensors.

    python -m benchmarks.train [--device cuda] [--size 256] [--batch 8] [--workers 0 2] [--data DIR]

`step ms` is a training step on a batch that is there, `whole ms` with making (or waiting for) its batch.
`data share` is what is left of the whole when the step is taken out: the aim is 10 % or less on a GPU.
With workers the queue is drained first, so that what was made ahead is not counted as free. Without --data
the faces are noise: their content costs nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import measure
from gpenvideo.train.data import FaceFolder, Jitter, batches, one_thread
from gpenvideo.train.loop import training_step
from gpenvideo.train.losses import LossWeights, Terms
from gpenvideo.train.options import TrainOptions
from gpenvideo.train.state import TrainState

FACES = 64
NETWORKS: dict[str, dict[str, Any]] = {
    "as shipped": {
        "narrow": 0.125,
        "style_dim": 128,
        "encoder_width": 16,
        "encoder_blocks": (2, 2, 2, 2),
    },
    "full, adversarial": {"adversarial_from_step": 0},
    "published, adversarial": {"layout": "gpen", "mapping_layers": 8, "adversarial_from_step": 0},
}


def faces_of_noise(folder: Path, size_px: int) -> None:
    for index in range(FACES):
        pixels = np.random.default_rng(index).integers(0, 255, (size_px // 8, size_px // 8, 3), np.uint8)
        Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.BICUBIC).save(
            folder / f"{index}.png"
        )


def options(
    args: argparse.Namespace, network: str, precision: str, workers: int, folder: Path
) -> TrainOptions:
    return TrainOptions(
        data=str(args.data or folder),
        out="",
        cache=str(folder / "cache"),
        size_px=args.size,
        batch=args.batch,
        workers=workers,
        device=args.device,
        precision=precision,  # type: ignore[arg-type]
        weights=LossWeights(perceptual=0, identity=0, lpips=0, face=0),
        **NETWORKS[network],
    )


def stream(run: TrainOptions) -> Iterator[tuple[Tensor, Tensor]]:
    faces = FaceFolder(run.data, run.size_px, jitter=Jitter(), grey_share=run.grey_share, cache=run.cache)
    return iter(
        DataLoader(
            faces,
            batch_sampler=batches(faces, run.batch, run.seed),
            num_workers=run.workers,
            worker_init_fn=one_thread if run.workers else None,
            pin_memory=run.device != "cpu",
        )
    )


def seconds(run: TrainOptions, rounds: int) -> tuple[list[float], list[float]]:
    """Of a step alone, and of a step with its data, in each round."""
    state, made = TrainState.begin(run), stream(run)
    ready = [side.to(run.device) for side in next(made)]
    step: Callable[[], object] = lambda: training_step(state, *ready, run, Terms((), {}))  # noqa: E731
    whole: Callable[[], object] = lambda: training_step(state, *next(made), run, Terms((), {}))  # noqa: E731
    if not run.workers:
        found = measure.interleaved({"step": step, "whole": whole}, rounds)
        return found["step"], found["whole"]
    steps = measure.interleaved({"step": step}, rounds)["step"]
    for _ in range(4 * run.workers):  # two batches a worker were made ahead
        next(made)
    return steps, measure.interleaved({"whole": whole}, rounds)["whole"]


def row(args: argparse.Namespace, network: str, precision: str, workers: int, folder: Path) -> dict[str, Any]:
    run = options(args, network, precision, workers, folder)
    steps, wholes = seconds(run, args.rounds)
    (step, _), (whole, spread) = measure.summary(steps), measure.summary(wholes)
    share = 1 - measure.ratio(steps, wholes)
    return {
        "network": network,
        "size": run.size_px,
        "batch": run.batch,
        "precision": precision,
        "workers": workers,
        "images/s": round(run.batch / whole, 2),
        "step ms": round(step * 1e3, 1),
        "whole ms": round(whole * 1e3, 1),
        "IQR ms": round(spread * 1e3, 1),
        "data share": round(max(0.0, share), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16 if on_gpu else 8)
    parser.add_argument("--workers", type=int, nargs="+", default=[8] if on_gpu else [0, 1])
    parser.add_argument("--precisions", nargs="+", default=["bf16"] if on_gpu else ["fp32", "bf16"])
    parser.add_argument(
        "--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS) if on_gpu else ["as shipped"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        if args.data is None:
            faces_of_noise(Path(name), args.size)
        for network in args.networks:
            for precision in args.precisions:
                for workers in args.workers:
                    rows.append(row(args, network, precision, workers, Path(name)))
                    print(measure.table(rows[-1:]).splitlines()[-1], flush=True)
    print(measure.table(rows), measure.save("train", rows), sep="\n\n")


if __name__ == "__main__":
    main()
