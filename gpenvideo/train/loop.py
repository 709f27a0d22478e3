"""The training loop: options in, a folder with a restorer out.

    out/options.json       what the run was told, before its first step
    out/stats.jsonl        a line a tick, a validation, a checkpoint: what the progress callback gets too
    out/state.pt           what the run goes on from when it is started again, to the last bit on a CPU
    out/restorer.pth       the averaged network as `gpenvideo.gpen.checkpoint.load` reads it
    out/samples/           sheets of degraded, restored, true

Order of a step: one restored batch; the discriminator's step on it; the restorer's step; the average.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.data import DataLoader

from gpenvideo.errors import DeviceError, OptionError, file_error
from gpenvideo.gpen import checkpoint
from gpenvideo.gpen.generator import GPEN, for_inference
from gpenvideo.gpen.memory import keep_freed_memory
from gpenvideo.train import losses
from gpenvideo.train.data import FaceFolder, Jitter, batches, one_thread
from gpenvideo.train.options import TrainOptions, check_continues, read_options, write_options
from gpenvideo.train.state import DTYPES, TrainState, in_precision, without_gradients
from gpenvideo.train.validation import held_out, pairs, sheet, validate

__all__ = ["Progress", "dry_run", "train", "training_step"]

Record = dict[str, Any]
Progress = Callable[[Record], None]

DRY_STEPS = 3


def train(options: TrainOptions, progress: Progress | None = None) -> Path:
    """Train a restorer, or go on where the run in options.out stopped; returns the exported file.

    `progress` gets each line of stats.jsonl as a dictionary; its "event" is "start" (which loss terms are on,
    and why the others are off), "tick", "validation" or "checkpoint".

    Raises OptionError for options that cannot be used, that do not continue the run in the folder, or when
    the loss is no longer finite; DeviceError for a device that is not there; else as `FaceFolder`,
    `losses.terms` and `checkpoint.save`.
    """
    out = Path(options.out)
    faces, terms, state = _prepare(options)
    try:
        (out / "samples").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, out, "write") from error
    if (out / "state.pt").exists():
        check_continues(options, read_options(out / "options.json"))
        state.load(out / "state.pt", options.device)
    write_options(options, out / "options.json")
    log = _Log(out, state.step, progress)
    log.write(_start_record(options, faces, terms, state))
    held = held_out(options)
    shown = pairs(faces if held is None else held, options.sample_pictures)
    stream = _stream(faces, options, state.step)
    tick = _Tick(options)
    for step in range(state.step, options.steps):
        began = time.perf_counter()
        degraded, truth = next(stream)
        waited_s = time.perf_counter() - began
        found = training_step(state, degraded, truth, options, terms)
        tick.add(found, waited_s, time.perf_counter() - began)
        done = step + 1
        last = done == options.steps

        def due(every: int, done: int = done, last: bool = last) -> bool:
            return bool(every) and (last or done % every == 0)

        if due(options.tick_every) or due(options.checkpoint_every):
            log.write(tick.record(done))
            tick = _Tick(options)
        if due(options.sample_every) or due(options.validate_every):
            model = for_inference(state.averaged, DTYPES[options.precision])
            if due(options.sample_every):
                sheet(model, shown, options.device, out / "samples" / f"{done:08d}.png")
            if held is not None and due(options.validate_every):
                log.write({"event": "validation", "step": done} | validate(model, held, options))
        if due(options.checkpoint_every) or last:
            export(state.averaged, options, done, out / "restorer.pth")
            state.save(out / "state.pt")
            log.write({"event": "checkpoint", "step": done, "images": done * options.batch})
    return out / "restorer.pth"


def dry_run(options: TrainOptions) -> Record:
    """Check everything a run needs and take a few steps, without writing but for the cache of crops.

    Returns the record of the start with the images per second and the hours that all steps would take.
    """
    faces, terms, state = _prepare(options)
    record = _start_record(options, faces, terms, state)
    stream = _stream(faces, options, 0)
    for step in range(DRY_STEPS):
        if step == 1:  # the first is slower: memory and kernels are new
            began = time.perf_counter()
        training_step(state, *next(stream), options, terms)
    seconds = (time.perf_counter() - began) / (DRY_STEPS - 1)
    return record | {
        "event": "dry run",
        "img_per_s": options.batch / seconds,
        "hours": options.steps * seconds / 3600,
    }


def training_step(
    state: TrainState, degraded: Tensor, truth: Tensor, options: TrainOptions, terms: losses.Terms
) -> dict[str, Tensor]:
    """One step on (N, 3, S, S) float32 in [-1, 1], any device; returns the unweighted losses, detached."""
    degraded = degraded.to(options.device, non_blocking=True)
    truth = truth.to(options.device, non_blocking=True, memory_format=torch.channels_last)
    late = state.step >= options.lr_drop_at * options.steps
    for optimizer in (state.optimizer, state.discriminator_optimizer):
        for group in () if optimizer is None else optimizer.param_groups:
            group["lr"] = (options.late_lr if late else options.lr) * group.get("lr_factor", 1.0)
    restored = functional_call(state.model, in_precision(state.model, options.precision), (degraded,))
    found = {"pixel": losses.pixel_loss(restored, truth)}
    total = options.weights.pixel * found["pixel"]
    for name, weight, distance in terms.on:
        found[name] = distance(restored, truth)
        total = total + weight * found[name]
    judged = {}
    if state.discriminator is not None and state.step >= (options.adversarial_from_step or 0):
        view = _window(options, state.step)
        judged = _discriminator_step(state, restored.detach()[view], truth[view], options)
        with without_gradients(state.discriminator):
            found["adversarial"] = losses.adversarial_loss(_logits(state, restored[view], options))
        total = total + options.weights.adversarial * found["adversarial"]
    _descend(state, state.optimizer, total, options.grad_clip)
    state.scaler.update()
    state.step += 1
    state.average(options)
    return {name: value.detach() for name, value in ({"total": total} | found | judged).items()}


def export(averaged: GPEN, options: TrainOptions, step: int, path: Path) -> None:
    """Write the averaged network with what it was trained with; no folder of this machine goes along."""
    kept = {
        key: value
        for key, value in options.plain().items()
        if key not in ("data", "out", "validation_data", "cache", "initial", "face_features")
    }
    described = {"gpenvideo_version": version("gpenvideo"), "steps_trained": step, "training": kept}
    checkpoint.save(averaged, path, args=described)


def _prepare(options: TrainOptions) -> tuple[FaceFolder, losses.Terms, TrainState]:
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError("there is no CUDA device here; train with device cpu")
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    same_folder = options.validation_data is None
    faces = FaceFolder(
        options.data,
        options.size_px,
        template=options.template,
        presets=options.presets,  # type: ignore[arg-type]
        colour=options.colour,
        grey_share=options.grey_share,
        jitter=Jitter(),
        exclude_sources=(*options.exclude_sources, *(options.validation_sources if same_folder else ())),
        only_sources=options.only_sources,
        min_side_px=options.min_side_px,
        seed=options.seed,
        cache=options.cache,
    )
    terms = losses.terms(
        options.weights,
        template=options.template,
        face_features=options.face_features,
        device=options.device,
    )
    return faces, terms, TrainState.begin(options)


def _stream(faces: FaceFolder, options: TrainOptions, start_step: int) -> Iterator[tuple[Tensor, Tensor]]:
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        faces,
        batch_sampler=batches(faces, options.batch, options.seed, start_step),
        num_workers=options.workers,
        worker_init_fn=one_thread if options.workers else None,
        pin_memory=options.device != "cpu",
    )
    return iter(loader)


def _start_record(options: TrainOptions, faces: FaceFolder, terms: losses.Terms, state: TrainState) -> Record:
    on = {"pixel": options.weights.pixel} | {name: weight for name, weight, _ in terms.on}
    off = dict(terms.off)
    if state.discriminator is not None:
        on["adversarial"] = options.weights.adversarial
    else:
        wanted = options.weights.adversarial
        off["adversarial"] = "no adversarial_from_step given" if wanted else "its weight is 0"
    return {
        "event": "start",
        "step": state.step,
        "faces": len(faces),
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "terms": on,
        "terms_off": off,
    }


def _window(options: TrainOptions, step: int) -> tuple[slice, ...]:
    """The part of the pictures that the discriminator sees in this step, as an index into (N, C, H, W)."""
    side = options.adversarial_crop_px or options.size_px
    random = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
    top, left = torch.randint(options.size_px - side + 1, (2,), generator=random).tolist()
    return slice(None), slice(None), slice(top, top + side), slice(left, left + side)


def _logits(state: TrainState, pictures: Tensor, options: TrainOptions) -> Tensor:
    assert state.discriminator is not None
    logits: Tensor = functional_call(
        state.discriminator, in_precision(state.discriminator, options.precision), (pictures,)
    )
    return logits


def _discriminator_step(
    state: TrainState, restored: Tensor, truth: Tensor, options: TrainOptions
) -> dict[str, Tensor]:
    assert state.discriminator is not None
    assert state.discriminator_optimizer is not None
    loss = losses.discriminator_loss(_logits(state, truth, options), _logits(state, restored, options))
    found = {"discriminator": loss}
    if options.r1 and state.step % options.r1_every == 0:
        real = truth.detach().requires_grad_()
        # In float32 throughout: the gradient of a gradient has no bits to spare.
        found["r1"] = losses.r1_penalty(state.discriminator(real), real)
        loss = loss + options.r1 / 2 * options.r1_every * found["r1"]
    _descend(state, state.discriminator_optimizer, loss, 0.0)
    return found


def _descend(state: TrainState, optimizer: torch.optim.Adam, loss: Tensor, clip: float) -> None:
    optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    if clip:
        state.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), clip)
    state.scaler.step(optimizer)


class _Tick:
    """The losses and times of the steps since the last line."""

    def __init__(self, options: TrainOptions) -> None:
        self.options = options
        self.values: dict[str, list[Tensor]] = {}
        self.steps = 0
        self.waited_s = self.spent_s = 0.0

    def add(self, found: dict[str, Tensor], waited_s: float, spent_s: float) -> None:
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)
        self.steps += 1
        self.waited_s += waited_s
        self.spent_s += spent_s

    def record(self, done: int) -> Record:
        """The line for `done` steps. Raises OptionError when the loss is no longer finite."""
        means = {name: float(torch.stack(values).mean()) for name, values in self.values.items()}
        if not all(math.isfinite(value) for value in means.values()):
            raise OptionError(
                f"the loss is no longer finite at step {done}; go on from the last checkpoint "
                "with a lower lr, a grad_clip, or precision fp32"
            )
        options = self.options
        return {
            "event": "tick",
            "step": done,
            "images": done * options.batch,
            **means,
            "lr": options.late_lr if done - 1 >= options.lr_drop_at * options.steps else options.lr,
            "img_per_s": self.steps * options.batch / self.spent_s,
            "data_share": self.waited_s / self.spent_s,
        }


class _Log:
    """stats.jsonl, TensorBoard where it is installed, and the caller's callback: each gets every record."""

    def __init__(self, out: Path, step: int, progress: Progress | None) -> None:
        self.path = out / "stats.jsonl"
        self.progress = progress
        if self.path.exists():  # what a run wrote after its last checkpoint, it will write again
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
            self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step)

    def write(self, record: Record) -> None:
        """Hand one record, which has an "event" and a "step", to all three."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{record['event']}/{name}", value, record["step"])
            self.board.flush()
        if self.progress is not None:
            self.progress(record)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # cut off by a crash
