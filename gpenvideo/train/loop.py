"""The training loop: options in, a folder with a restorer out.

    out/options.json       what the run was told, before its first step
    out/stats.jsonl        a line a tick, a sheet, a validation, a checkpoint: what the callback gets too
    out/state.pt           what the run goes on from when it is started again, to the last bit on a CPU
    out/restorer.pth       the averaged network as `gpenvideo.gpen.checkpoint.load` reads it
    out/samples/           sheets of degraded, restored, true
    out/tensorboard/       the same numbers, where TensorBoard is installed

Order of a step: one restored batch; the discriminator's step on it; the restorer's step; the average. Under
torchrun each process makes its part of the batch, and the first alone writes and calls back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.func import functional_call
from torch.utils.data import DataLoader

from gpenvideo.errors import DeviceError, file_error
from gpenvideo.gpen import checkpoint
from gpenvideo.gpen.generator import GPEN, for_inference
from gpenvideo.gpen.memory import keep_freed_memory
from gpenvideo.train import losses
from gpenvideo.train.data import FaceFolder, Jitter, batches, one_thread
from gpenvideo.train.grow import faded, fixed_at
from gpenvideo.train.log import Log, Progress, Record, Tick
from gpenvideo.train.options import TrainOptions, check_continues, read_options, write_options
from gpenvideo.train.parallel import ALONE, Processes, launched, own_device
from gpenvideo.train.state import DTYPES, TrainState, in_precision, without_gradients
from gpenvideo.train.validation import held_out, pairs, sheet, validate

__all__ = ["Progress", "dry_run", "train", "training_step"]

DRY_STEPS = 3


def train(
    options: TrainOptions, progress: Progress | None = None, go_on: Callable[[int], bool] | None = None
) -> Path:
    """Train a restorer, or go on where the run in options.out stopped; returns the exported file.

    `progress` gets each line of stats.jsonl as a dictionary; its "event" is "start" (which loss terms are on,
    and why the others are off), "tick", "samples", "validation" or "checkpoint". `go_on` is called after each
    step with the steps done so far; when it says False, the run writes its state and ends: the same options
    go on from there.

    Raises OptionError for options that cannot be used, that do not continue the run in the folder, or when
    the loss is no longer finite; DeviceError for a device that is not there or has too little memory; else as
    `FaceFolder`, `losses.terms`, `TrainState.begin` and `checkpoint.save`.
    """
    with launched() as processes, _short_of_memory():
        out = Path(options.out)
        with processes.first_ahead():
            run = _Run.prepare(options, processes)
        processes.like_the_first_(run.state.tensors())
        if processes.first:
            write_options(options, out / "options.json")
            run.log = Log(out, run.state.step, progress)
            run.log.write(run.start_record())
        stream = run.stream()
        tick = Tick(options)
        for step in range(run.state.step, options.steps):
            began = time.perf_counter()
            degraded, truth = next(stream)
            waited_s = time.perf_counter() - began
            found = training_step(run.state, degraded, truth, run.options, run.terms, processes)
            tick.add(found, waited_s, time.perf_counter() - began)
            done = step + 1
            stopped = processes.any(go_on is not None and not go_on(done))
            last = stopped or done == options.steps

            def due(every: int, done: int = done, last: bool = last) -> bool:
                return bool(every) and (last or done % every == 0)

            if due(options.tick_every) or due(options.checkpoint_every):
                record = tick.record(done, processes)
                run.write(record)
                tick = Tick(options)
            if processes.first and not stopped:
                run.look(done, sample=due(options.sample_every), validation=due(options.validate_every))
            if due(options.checkpoint_every) or last:
                run.keep(done)
            if stopped:
                break
    return out / "restorer.pth"


def dry_run(options: TrainOptions) -> Record:
    """Check everything a run needs and take a few steps, without writing but for the cache of crops.

    Returns the record of the start with the images per second and the hours that all steps would take.
    """
    with launched() as processes, _short_of_memory():
        with processes.first_ahead():
            run = _Run.prepare(options, processes, resume=False)
        record = run.start_record()
        stream = run.stream()
        for step in range(DRY_STEPS):
            if step == 1:  # the first is slower: memory and kernels are new
                began = time.perf_counter()
            training_step(run.state, *next(stream), run.options, run.terms, processes)
        if run.options.device != "cpu":
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - began) / (DRY_STEPS - 1)
    return record | {
        "event": "dry run",
        "img_per_s": options.batch / seconds,
        "hours": options.steps * seconds / 3600,
    }


def training_step(
    state: TrainState,
    degraded: Tensor,
    truth: Tensor,
    options: TrainOptions,
    terms: losses.Terms,
    processes: Processes = ALONE,
) -> dict[str, Tensor]:
    """One step on (N, 3, S, S) float32 in [-1, 1], any device; returns the unweighted losses, detached.

    N is this process's part of the batch; the losses are this part's, what they change is all processes'.
    """
    degraded = degraded.to(options.device, non_blocking=True)
    truth = truth.to(options.device, non_blocking=True, memory_format=torch.channels_last)
    late = state.step >= options.lr_drop_at * options.steps
    for optimizer in (state.optimizer, state.discriminator_optimizer):
        for group in () if optimizer is None else optimizer.param_groups:
            group["lr"] = (options.late_lr if late else options.lr) * group.get("lr_factor", 1.0)
    weights = in_precision(state.model, options.precision)
    weights |= faded(state.model, options.faded_in(state.step))
    restored = functional_call(state.model, weights, (_as_input(degraded, options),))
    found = {"pixel": losses.pixel_loss(restored, truth)}
    total = options.weights.pixel * found["pixel"]
    for name, weight, distance in terms.on:
        found[name] = distance(restored, truth)
        total = total + weight * found[name]
    judged = {}
    if state.discriminator is not None and state.step >= (options.adversarial_from_step or 0):
        view = _window(options, state.step)
        judged = _discriminator_step(state, restored.detach()[view], truth[view], options, processes)
        with without_gradients(state.discriminator):
            found["adversarial"] = losses.adversarial_loss(_logits(state, restored[view], options))
        total = total + options.weights.adversarial * found["adversarial"]
    _descend(state, state.optimizer, total, options.grad_clip, processes)
    state.scaler.update()
    processes.mean_(state.norms())
    state.step += 1
    state.average(options)
    return {name: value.detach() for name, value in ({"total": total} | found | judged).items()}


def export(averaged: GPEN, options: TrainOptions, step: int, path: Path) -> None:
    """Write the averaged network with what it was trained with; no folder of this machine goes along."""
    own = ("data", "out", "validation_data", "cache", "initial", "grow_from", "face_features")
    kept = {key: value for key, value in options.plain().items() if key not in own}
    described = {"gpenvideo_version": version("gpenvideo"), "steps_trained": step, "training": kept}
    checkpoint.save(fixed_at(averaged, options.faded_in(step)), path, args=described)


@dataclass
class _Run:
    """What `train` has in its hands: `options` name this process's own device."""

    options: TrainOptions
    processes: Processes
    faces: FaceFolder
    held: FaceFolder | None
    terms: losses.Terms
    state: TrainState
    shown: list[tuple[Tensor, Tensor]]
    log: Log | None = None

    @classmethod
    def prepare(cls, options: TrainOptions, processes: Processes, *, resume: bool = True) -> _Run:
        out = Path(options.out)
        device = own_device(options.device, processes)
        options.check_shared(processes.world)
        stored = out / "state.pt" if resume and (out / "state.pt").exists() else None
        if stored is not None:
            check_continues(options, read_options(out / "options.json"))
        elif resume:
            try:
                (out / "samples").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise file_error(error, out, "write") from error
        options = dataclasses.replace(options, device=device)
        if options.threads:
            torch.set_num_threads(options.threads)
        keep_freed_memory()
        faces = _faces(options)
        held = held_out(options)
        terms = losses.terms(
            options.weights, template=options.template, face_features=options.face_features, device=device
        )
        state = TrainState.begin(options, stored)
        shown = pairs(faces if held is None else held, options.sample_pictures)
        return cls(options, processes, faces, held, terms, state, shown)

    def stream(self) -> Iterator[tuple[Tensor, Tensor]]:
        options, processes = self.options, self.processes
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            self.faces,
            batch_sampler=batches(
                self.faces,
                options.batch,
                options.seed,
                self.state.step,
                rank=processes.rank,
                world=processes.world,
            ),
            num_workers=options.workers,
            worker_init_fn=_worker if options.workers else None,
            pin_memory=options.device != "cpu",
        )
        return iter(loader)

    def start_record(self) -> Record:
        options, terms = self.options, self.terms
        on = {"pixel": options.weights.pixel} | {name: weight for name, weight, _ in terms.on}
        off = dict(terms.off)
        if options.adversarial:
            on["adversarial"] = options.weights.adversarial
        else:
            wanted = options.weights.adversarial
            off["adversarial"] = "no adversarial_from_step given" if wanted else "its weight is 0"
        return {
            "event": "start",
            "step": self.state.step,
            "steps": options.steps,
            "faces": len(self.faces),
            "parameters": sum(p.numel() for p in self.state.model.parameters()),
            "processes": self.processes.world,
            "device": options.device,
            "terms": on,
            "terms_off": off,
        }

    def write(self, record: Record) -> None:
        if self.log is not None:
            self.log.write(record)

    def look(self, done: int, *, sample: bool, validation: bool) -> None:
        """A sheet of samples and a validation of the averaged network, where they are due."""
        options = self.options
        if not sample and not validation:
            return
        averaged = fixed_at(self.state.averaged, options.faded_in(done))
        network = for_inference(averaged, DTYPES[options.precision])

        def model(pictures: Tensor) -> Tensor:
            restored: Tensor = network(_as_input(pictures, options))
            return restored

        if sample:
            file = Path("samples") / f"{done:08d}.png"
            sheet(model, self.shown, options.device, Path(options.out) / file)  # type: ignore[arg-type]
            self.write({"event": "samples", "step": done, "file": str(file)})
        if self.held is not None and validation:
            found = validate(model, self.held, options)  # type: ignore[arg-type]
            self.write({"event": "validation", "step": done} | found)

    def keep(self, done: int) -> None:
        """Export the averaged network and write the state, in the first process."""
        if not self.processes.first:
            return
        out = Path(self.options.out)
        export(self.state.averaged, self.options, done, out / "restorer.pth")
        self.state.save(out / "state.pt")
        self.write({"event": "checkpoint", "step": done, "images": done * self.options.batch})


def _faces(options: TrainOptions) -> FaceFolder:
    same_folder = options.validation_data is None
    return FaceFolder(
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


def _worker(number: int) -> None:
    """A process that makes data: one thread, and Ctrl-C is the trainer's to heed."""
    one_thread(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_input(degraded: Tensor, options: TrainOptions) -> Tensor:
    """The pictures at the size that the network takes."""
    factor = 1 if options.input_px is None else options.size_px // options.input_px
    return degraded if factor == 1 else F.avg_pool2d(degraded, factor)


@contextlib.contextmanager
def _short_of_memory() -> Iterator[None]:
    """A device or a worker without enough memory is said in a line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError("the device has too little memory: take a smaller batch or network") from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DeviceError(
            "a process that makes the data was ended, by want of memory perhaps: take fewer workers"
        ) from error


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
    state: TrainState, restored: Tensor, truth: Tensor, options: TrainOptions, processes: Processes
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
    _descend(state, state.discriminator_optimizer, loss, 0.0, processes)
    return found


def _descend(
    state: TrainState, optimizer: torch.optim.Adam, loss: Tensor, clip: float, processes: Processes
) -> None:
    optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    processes.mean_(p.grad for p in parameters if p.grad is not None)
    if clip:
        state.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    state.scaler.step(optimizer)
