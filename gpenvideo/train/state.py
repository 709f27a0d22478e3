"""What a run is made of between two steps: networks, optimisers, and how far it has come."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpenvideo.errors import CheckpointError, FileMissing, file_error
from gpenvideo.gpen import checkpoint
from gpenvideo.gpen.config import channel_table
from gpenvideo.gpen.discriminator import Discriminator
from gpenvideo.gpen.encoder import fold_batch_norm
from gpenvideo.gpen.generator import GPEN
from gpenvideo.gpen.layers import ConvLayer, Equalized, StyledConv
from gpenvideo.train.grow import grow
from gpenvideo.train.options import TrainOptions
from gpenvideo.train.parallel import norm_in_groups

__all__ = ["DTYPES", "TrainState", "in_precision", "without_gradients"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class TrainState:
    """The state after `step` steps; nothing random is in it: draws are functions of (seed, step)."""

    step: int
    model: GPEN
    averaged: GPEN  # exponential moving average of the model
    optimizer: torch.optim.Adam
    discriminator: Discriminator | None
    discriminator_optimizer: torch.optim.Adam | None
    scaler: torch.amp.GradScaler  # does nothing but for fp16

    @classmethod
    def begin(cls, options: TrainOptions, stored: Path | None = None) -> TrainState:
        """The state before the first step, or the one in the file `stored` that a run of them wrote.

        Raises as `load`; as `checkpoint.load`, and CheckpointError for another network, where options.initial
        or options.grow_from is given.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            model = _first_network(options) if stored is None else _random_network(options)
            discriminator = None
            if options.adversarial:
                side = options.adversarial_crop_px or options.size_px
                channels = channel_table(side, options.channel_multiplier, options.discriminator_narrow)
                discriminator = Discriminator(channels, std_dev_group=options.std_dev_group)
        if options.norm_group:
            norm_in_groups(model, options.norm_group)
        model.requires_grad_(True)
        averaged = copy.deepcopy(model).eval().requires_grad_(False)
        for network in (model, averaged, discriminator):
            if network is not None:
                network.to(options.device).to(memory_format=torch.channels_last)
        state = cls(
            step=0,
            model=model.train(),
            averaged=averaged,
            optimizer=torch.optim.Adam(_groups(model, options), options.lr, options.betas),
            discriminator=discriminator,
            discriminator_optimizer=None
            if discriminator is None
            else torch.optim.Adam(discriminator.parameters(), options.lr, options.discriminator_betas),
            scaler=torch.amp.GradScaler(
                torch.device(options.device).type, enabled=options.precision == "fp16"
            ),
        )
        if stored is not None:
            state.load(stored, options.device)
        return state

    def save(self, path: Path) -> None:
        """Write everything to `path`; a crash leaves the old file or the new. Raises FileError."""
        beside = path.with_name(path.name + ".part")
        try:
            with beside.open("wb") as file:
                torch.save({"step": self.step} | {k: v.state_dict() for k, v in self._parts().items()}, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise file_error(error, path, "write") from error

    def load(self, path: Path, device: str) -> None:
        """Become what `save` wrote. Raises FileError, or CheckpointError for the state of another run.

        A discriminator that the stored run did not have yet stays new.
        """
        stored = _read(path, device)
        for name, part in self._parts().items():
            if name in stored:
                _fill(part, stored[name], path)
        self.step = int(stored["step"])

    def tensors(self) -> list[Tensor]:
        """The weights of all networks, as they lie in memory."""
        networks = [each for each in (self.model, self.averaged, self.discriminator) if each is not None]
        return [value for network in networks for value in network.state_dict().values()]

    def norms(self) -> list[Tensor]:
        """The running statistics of the model's batch norms."""
        return [buffer for name, buffer in self.model.named_buffers() if "running_" in name]

    def average(self, options: TrainOptions) -> None:
        """Move the averaged weights, and batch norm's statistics, towards the model's after a step.

        The half-life is short in the beginning, so that the first weights, which are random, are forgotten.
        """
        decay = min(0.5 ** (options.batch / options.ema_half_life), (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            ours = (*self.averaged.parameters(), *self.averaged.buffers())
            theirs = (*self.model.parameters(), *self.model.buffers())
            for mean, value in zip(ours, theirs, strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "averaged": self.averaged,
            "optimizer": self.optimizer,
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator_optimizer,
            "scaler": self.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}


def in_precision(model: nn.Module, precision: str) -> dict[str, Tensor]:
    """The convolutions' parameters in half precision, differentiably, for `torch.func.functional_call`.

    Layers compute in the dtype of their weight, so this is the same mixture as `cast_convs` makes for
    inference while the parameters stay float32. Autocast would convert activations back and forth: the
    layers ask for the dtype of their float32 weight.
    """
    if precision == "fp32":
        return {}
    cast = {}
    for prefix, module in model.named_modules():
        if isinstance(module, (ConvLayer, StyledConv, nn.Conv2d)):
            cast[f"{prefix}.weight"] = module.weight.to(DTYPES[precision])
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                cast[f"{prefix}.bias"] = module.bias.to(DTYPES[precision])
    return cast


@contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """Within, gradients pass through `model` and its parameters get none."""
    model.requires_grad_(False)
    try:
        yield
    finally:
        model.requires_grad_(True)


def _groups(model: GPEN, options: TrainOptions) -> list[dict[str, Any]]:
    """The parameters by learning rate.

    Those with a runtime gain are stored at unit variance, so a step of the same size changes them less, by
    1/sqrt(fan-in), than the plain ones of the resnet encoder.
    """
    equalized = {id(module.weight) for module in model.modules() if isinstance(module, Equalized)}
    return [
        {"params": [p for p in model.parameters() if id(p) not in equalized], "lr_factor": 1.0},
        {"params": [p for p in model.parameters() if id(p) in equalized], "lr_factor": options.equalized_lr},
    ]


def _random_network(options: TrainOptions) -> GPEN:
    return GPEN(options.network(), batch_norm=options.layout == "v2" and options.norm_group > 0)


def _first_network(options: TrainOptions) -> GPEN:
    """The network that a run begins with: grown, as it is in a file, or random."""
    config = options.network()
    if options.grow_from is not None:
        return grow(checkpoint.load(options.grow_from), config)
    if options.initial is None:
        return _random_network(options)
    try:
        stored = _read(Path(options.initial), "cpu")["averaged"]
    except FileMissing:
        raise
    except CheckpointError:  # no state, so a checkpoint: this says what is wrong when it is neither
        model = checkpoint.load(options.initial)
        if dataclasses.replace(model.config, template=config.template) != config:
            raise CheckpointError("it holds another network than the options", path=options.initial) from None
        model.config = config
    else:
        model = GPEN(config, batch_norm="encoder.stem.norm.weight" in stored)
        _fill(model, stored, options.initial)
    if not options.norm_group:
        fold_batch_norm(model)
    elif options.layout == "v2" and not any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        raise CheckpointError("its batch norms are folded: take norm_group 0", path=options.initial)
    return model


def _read(path: Path, device: str) -> dict[str, Any]:
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise FileMissing("there is no such training state", path=path) from error
    except Exception as error:  # a damaged file makes torch raise all sorts
        raise CheckpointError(
            f"damaged, or no training state: {str(error).splitlines()[0]}", path=path
        ) from error
    if not isinstance(stored, dict) or not {"step", "model", "averaged"} <= stored.keys():
        raise CheckpointError("no training state: name a state.pt that training wrote", path=path)
    return stored


def _fill(part: Any, state: dict[str, Any], path: str | Path) -> None:
    try:
        part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the training state of another network: {str(error).splitlines()[0]}", path=path
        ) from error
