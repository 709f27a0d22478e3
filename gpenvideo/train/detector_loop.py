"""Training a face detector: RetinaFace's mobilenet0.25 network, from random weights.

    for stats in train_detector(scenes, "run", DetectorOptions(steps=9000)):
        ...
    export_detector("run/checkpoint.pth", "detector.safetensors")

The losses are those of `gpenvideo.train.detector_losses`. A run is a function of its options and scenes;
stopped and started again, it goes on with the losses it would have had.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gpenvideo.errors import OptionError
from gpenvideo.faces.detector import RetinaFace, fill, network_input
from gpenvideo.train.data import one_thread
from gpenvideo.train.detector_data import Scene
from gpenvideo.train.detector_distillation import distillation_losses
from gpenvideo.train.detector_losses import Batch, collate, detector_losses
from gpenvideo.train.run_folder import (
    cut_stats,
    export_average,
    keep_options,
    load_state,
    move_average,
    resume,
    save_state,
)

__all__ = ["DetectorOptions", "export_detector", "new_detector", "train_detector"]


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """What a run is, apart from its scenes.

    steps           of the optimiser
    sizes_px        sides of the scenes, one a step, in turn; multiples of 32
    pixels_per_step how many pixels a step sees: scenes = pixels / side squared
    lr, weight_decay  of AdamW; lr rises over `warmup_steps`, then falls to 0 along a cosine
    ema             decay of the averaged weights, which are what is exported
    norm_steps      after so many steps the run goes on from its average, with the batch norms as they will be
                    used; None: they see each batch to the end
    max_grad_norm   longer gradients are shortened to this
    bf16            autocast; faster where the processor has it
    save_every      steps between checkpoints
    workers         processes that make scenes; 0: this one does
    seed            of the weights
    """

    steps: int = 9000
    sizes_px: tuple[int, ...] = (256, 384, 256, 512)
    pixels_per_step: int = 16 * 320 * 320
    lr: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 300
    ema: float = 0.998
    norm_steps: int | None = None
    max_grad_norm: float = 10.0
    bf16: bool = False
    save_every: int = 500
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.save_every < 1 or not 0 <= self.ema < 1 or self.workers < 0:
            raise OptionError(f"these options of a run make no sense: {self}")
        if not self.sizes_px or any(side < 32 or side % 32 for side in self.sizes_px):
            raise OptionError(f"sizes_px are multiples of 32, got {self.sizes_px}")

    def scenes_at(self, step: int) -> list[tuple[int, int, int]]:
        """The keys of a step's scenes: (step, item, size_px)."""
        side = self.sizes_px[step % len(self.sizes_px)]
        return [(step, item, side) for item in range(max(1, self.pixels_per_step // side**2))]

    def lr_at(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.lr * rise * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


def new_detector(seed: int) -> RetinaFace:
    """The mobilenet0.25 network with random weights (He normal convolutions)."""
    from facexlib.detection.retinaface_net import MobileNetV1

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RetinaFace(MobileNetV1(), (64, 128, 256), 64)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d) and module.bias is None:
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", a=0.1)
    return network


def train_detector(
    scenes: Dataset[Scene],
    out: str | os.PathLike[str],
    options: DetectorOptions,
    *,
    teacher: RetinaFace | None = None,
    start_from: Mapping[str, Tensor] | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[dict[str, float]]:
    """Train, or go on with the run in folder `out`; yields each step's losses when it is done.

    With a `teacher` the losses are those of `gpenvideo.train.detector_distillation`. A new run starts from
    the weights `start_from`, or from random ones.

    The folder gets options.json, stats.jsonl (a line a step) and checkpoint.pth (weights, average, optimiser
    and step; written whole or not at all).

    Raises OptionError when `out` holds a run with other options, FileError when it cannot be written,
    CheckpointError when its checkpoint is damaged.
    """
    folder, device = Path(out), torch.device(device)
    checkpoint = folder / "checkpoint.pth"
    keep_options(folder, options)
    network = new_detector(options.seed).to(device).to(memory_format=torch.channels_last)
    if start_from is not None:
        fill(network, start_from)
    if teacher is not None:
        teacher = teacher.to(device)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    start = resume(checkpoint, network, average, optimiser)
    cut_stats(folder / "stats.jsonl", start)
    loader = DataLoader(
        scenes,
        batch_sampler=[options.scenes_at(step) for step in range(start, options.steps)],
        num_workers=options.workers,
        collate_fn=collate,
        worker_init_fn=one_thread,
        prefetch_factor=6 if options.workers else None,
    )
    network.train()
    with (folder / "stats.jsonl").open("a", encoding="utf-8") as stats_file:
        for step, batch in enumerate(loader, start):
            began = time.perf_counter()
            for group in optimiser.param_groups:
                group["lr"] = options.lr_at(step)
            if step == options.norm_steps:
                network.load_state_dict(average)
            if options.norm_steps is not None and step >= options.norm_steps:
                network.eval()
            losses = _step(network, optimiser, batch, options, teacher)
            decay = min(options.ema, (1 + step) / (10 + step))
            move_average(average, network.state_dict(), decay)
            stats = {"step": step, "lr": options.lr_at(step), "s": time.perf_counter() - began, **losses}
            stats_file.write(json.dumps(stats) + "\n")
            stats_file.flush()
            if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
                parts = {"network": network.state_dict(), "average": average}
                save_state(parts | {"optimiser": optimiser.state_dict(), "step": step + 1}, checkpoint)
            yield stats


def export_detector(
    checkpoint: str | os.PathLike[str], path: str | os.PathLike[str], *, score_shift: float = 0.0
) -> None:
    """Write the averaged weights of a run's checkpoint as float16 .safetensors, for `RetinaFaceDetector`.

    `score_shift` is added to the log-odds of every score. A student is less sure than its teacher; shifted by
    log-odds(0.9) - log-odds(t) it has at the usual threshold 0.9 the recall and precision that it had at t.

    Raises CheckpointError for a file that is no checkpoint of a run, FileError when a file cannot be read or
    written.
    """
    average = load_state(Path(checkpoint))["average"]
    for name, value in average.items():
        if name.startswith("ClassHead") and name.endswith("bias"):
            value[1::2] += score_shift  # the logits are background, face, background, face
    export_average(average, Path(path))


def _step(
    network: RetinaFace,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    options: DetectorOptions,
    teacher: RetinaFace | None,
) -> dict[str, float]:
    device = next(network.parameters()).device
    batch = Batch(*(getattr(batch, name).to(device) for name in Batch.__slots__))
    with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
        outputs = network(network_input(batch.pictures))
    logits, box_codes, landmark_codes = (output.float() for output in outputs)
    if teacher is None:
        losses = detector_losses(logits, box_codes, landmark_codes, batch)
    else:
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            losses = distillation_losses(logits, box_codes, landmark_codes, batch, teacher)
    optimiser.zero_grad(set_to_none=True)
    losses["total"].backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), options.max_grad_norm)
    optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()}
