"""Training a landmark network: views in, how far each landmark lies from where the view was cut by.

    for stats in train_landmarks(views, "run", LandmarkOptions(steps=6000)):
        ...
    export_landmarks("run/checkpoint.pth", "landmarks.safetensors")

A run is a function of its options and views; stopped and started again, it goes on with the losses it would
have had.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gpenvideo.errors import OptionError
from gpenvideo.faces.detector import fill
from gpenvideo.faces.landmarks import TEMPLATE, LandmarkNetwork
from gpenvideo.train.data import one_thread
from gpenvideo.train.landmark_data import View
from gpenvideo.train.run_folder import (
    cut_stats,
    export_average,
    keep_options,
    load_state,
    move_average,
    resume,
    save_state,
)

__all__ = ["LandmarkOptions", "export_landmarks", "train_landmarks"]

EYES_PX = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))


@dataclass(frozen=True, slots=True)
class LandmarkOptions:
    """What a run is, apart from its views.

    steps           of the optimiser
    batch           views a step
    width           channels of the first layer; the last has six times as many
    lr, weight_decay  of AdamW; lr rises over `warmup_steps`, then falls to 0 along a cosine
    ema             decay of the averaged weights, which are what is exported
    save_every      steps between checkpoints
    workers         processes that make views; 0: this one does
    seed            of the weights
    """

    steps: int = 6000
    batch: int = 96
    width: int = 24
    lr: float = 2e-3
    weight_decay: float = 1e-3
    warmup_steps: int = 100
    ema: float = 0.998
    save_every: int = 500
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.width, self.save_every)
        if min(counts) < 1 or not 0 <= self.ema < 1 or self.workers < 0:
            raise OptionError(f"these options of a run make no sense: {self}")

    def lr_at(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.lr * rise * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


def train_landmarks(
    views: Dataset[View],
    out: str | os.PathLike[str],
    options: LandmarkOptions,
    *,
    start_from: Mapping[str, Tensor] | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[dict[str, float]]:
    """Train, or go on with the run in folder `out`; yields each step's numbers when it is done.

    "total" is the mean distance of the landmarks from the labels', "median" the median over faces of their
    mean, both in distances of the template's eyes. A new run starts from the weights `start_from`, or from
    random ones. The folder gets options.json, stats.jsonl (a line a step) and checkpoint.pth.

    Raises OptionError when `out` holds a run with other options, FileError when it cannot be written,
    CheckpointError when its checkpoint is damaged.
    """
    folder, device = Path(out), torch.device(device)
    checkpoint = folder / "checkpoint.pth"
    keep_options(folder, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = LandmarkNetwork(options.width).to(device).to(memory_format=torch.channels_last)
        torch.nn.init.zeros_(network.head.weight)
    if start_from is not None:
        fill(network, start_from)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    start = resume(checkpoint, network, average, optimiser)
    cut_stats(folder / "stats.jsonl", start)
    loader = DataLoader(
        views,
        batch_sampler=[
            [(step, item) for item in range(options.batch)] for step in range(start, options.steps)
        ],
        num_workers=options.workers,
        collate_fn=_collate,
        worker_init_fn=one_thread,
        prefetch_factor=6 if options.workers else None,
    )
    network.train()
    with (folder / "stats.jsonl").open("a", encoding="utf-8") as stats_file:
        for step, (pixels, moves) in enumerate(loader, start):
            began = time.perf_counter()
            for group in optimiser.param_groups:
                group["lr"] = options.lr_at(step)
            seen = pixels.to(device).permute(0, 3, 1, 2).float()
            distances = (network(seen) - moves.to(device)).norm(dim=2) / EYES_PX
            loss = distances.mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            move_average(average, network.state_dict(), min(options.ema, (1 + step) / (10 + step)))
            told = {"total": float(loss.detach()), "median": float(distances.detach().mean(dim=1).median())}
            stats = {"step": step, "lr": options.lr_at(step), "s": time.perf_counter() - began, **told}
            stats_file.write(json.dumps(stats) + "\n")
            stats_file.flush()
            if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
                parts = {"network": network.state_dict(), "average": average}
                save_state(parts | {"optimiser": optimiser.state_dict(), "step": step + 1}, checkpoint)
            yield stats


def export_landmarks(checkpoint: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the averaged weights of a run's checkpoint as float16 .safetensors, for `RefinedDetector`.

    Raises CheckpointError for a file that is no checkpoint of a run, FileError when a file cannot be read or
    written.
    """
    export_average(load_state(Path(checkpoint))["average"], Path(path))


def _collate(views: Sequence[View]) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(np.stack([view.pixels for view in views]))
    return pixels, torch.from_numpy(np.stack([view.moves for view in views]))
