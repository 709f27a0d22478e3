"""Everything a training run is told, as one value that is written beside its results."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gpenvideo.errors import OptionError, file_error
from gpenvideo.gpen.config import GPENConfig, channel_table
from gpenvideo.train.losses import LossWeights

__all__ = [
    "TrainOptions",
    "check_continues",
    "checked",
    "make_options",
    "network_values",
    "read_options",
    "read_values",
    "write_options",
]

# What a run that continues may not change: the networks, and what each step sees.
FIXED = (
    "data",
    "exclude_sources",
    "only_sources",
    "min_side_px",
    "size_px",
    "input_px",
    "layout",
    "template",
    "channel_multiplier",
    "narrow",
    "style_dim",
    "mapping_layers",
    "concat",
    "encoder_width",
    "encoder_blocks",
    "residual",
    "grow_from",
    "fade_steps",
    "adversarial_crop_px",
    "discriminator_narrow",
    "std_dev_group",
    "norm_group",
    "batch",
    "seed",
)


@dataclass(frozen=True)
class TrainOptions:
    """One training run. Steps count from 0; a cadence of 0 means never.

    data, out              folder of faces (see `FaceFolder`), folder of results
    exclude_sources, only_sources, min_side_px, presets, colour, grey_share   see `FaceFolder`
    validation_data        folder of held-out faces; None: `data`, of which `validation_sources` are held out
    validation_sources     patterns of sources that are never trained on; none: no validation
    validation_pictures    at most so many
    size_px, layout, template, channel_multiplier, narrow, style_dim, mapping_layers, concat,
    encoder_width, encoder_blocks, residual      the network, see `GPENConfig` and `channel_table`; the last
                           three are for layout "v2"
    input_px               side of what the network takes, where that is less than size_px: None is size_px
    initial                state.pt of another run, or a checkpoint, of the same network: this one starts with
                           its (averaged) weights
    grow_from, fade_steps  checkpoint of half the size, and the steps in which what it lacks is faded in, see
                           `gpenvideo.train.grow`
    batch, steps           pictures a step (of all processes), steps
    norm_group             pictures that a batch norm looks at together (all of the batch when that is less);
                           0: the norms are frozen, which is folded into their convolutions
    std_dev_group          pictures a group of the discriminator's minibatch statistic
    lr, late_lr, lr_drop_at   learning rates of Adam, and the part of the steps after which the second holds
    equalized_lr           factor of the learning rate for weights with a runtime gain (StyleGAN's layers)
    betas, discriminator_betas   of Adam
    grad_clip              greatest norm of the generator's gradient; 0: not clipped
    ema_half_life          of the averaged weights, in pictures (Karras et al. 2018)
    weights, face_features the loss terms, see `terms`
    adversarial_from_step  the GAN loss comes in here; None: never, and no discriminator is built
    adversarial_crop_px    the discriminator sees random crops of this side; None: whole pictures
    discriminator_narrow   factor of its channels
    r1, r1_every           weight and interval of the gradient penalty
    precision              of the convolutions; parameters, styles and optimiser stay float32
    device, threads, workers   threads 0: as torch chooses; workers 0: the data is made between the steps
    tick_every, sample_every, validate_every, checkpoint_every   in steps
    sample_pictures        on a sample sheet
    seed                   of everything random
    cache                  folder for the aligned crops, see `FaceFolder`

    Raises OptionError for values that cannot be used.
    """

    data: str
    out: str
    exclude_sources: tuple[str, ...] = ()
    only_sources: tuple[str, ...] = ()
    min_side_px: float = 0.0
    presets: dict[str, float] = field(default_factory=lambda: {"base": 1.0})
    colour: bool = True
    grey_share: float = 0.1
    validation_data: str | None = None
    validation_sources: tuple[str, ...] = ()
    validation_pictures: int = 100
    size_px: int = 256
    layout: Literal["v2", "gpen"] = "v2"
    template: Literal["ffhq", "gpen"] = "ffhq"
    channel_multiplier: float = 2
    narrow: float = 1.0
    style_dim: int = 512
    mapping_layers: int = 2
    concat: bool = True
    encoder_width: int = 64
    encoder_blocks: tuple[int, ...] = (3, 4, 6, 3)
    residual: bool = True
    input_px: int | None = None
    initial: str | None = None
    grow_from: str | None = None
    fade_steps: int = 10_000
    batch: int = 8
    steps: int = 1_000_000
    lr: float = 2e-4
    late_lr: float = 2e-5
    lr_drop_at: float = 0.8
    equalized_lr: float = 1.0
    norm_group: int = 8
    betas: tuple[float, float] = (0.9, 0.99)
    discriminator_betas: tuple[float, float] = (0.0, 0.99)
    grad_clip: float = 0.0
    ema_half_life: float = 10_000
    weights: LossWeights = field(default_factory=LossWeights)
    face_features: str | None = None
    adversarial_from_step: int | None = None
    adversarial_crop_px: int | None = None
    discriminator_narrow: float = 1.0
    std_dev_group: int = 4
    r1: float = 10.0
    r1_every: int = 16
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: str = "cpu"
    threads: int = 0
    workers: int = 0
    tick_every: int = 100
    sample_every: int = 1000
    validate_every: int = 5000
    checkpoint_every: int = 1000
    sample_pictures: int = 8
    seed: int = 0
    cache: str | None = None

    def __post_init__(self) -> None:
        crop = self.adversarial_crop_px
        for wrong, why in (
            (self.layout not in ("v2", "gpen"), f"layout is v2 or gpen, not {self.layout!r}"),
            (
                self.precision not in ("fp32", "bf16", "fp16"),
                f"precision is fp32, bf16 or fp16, not {self.precision!r}",
            ),
            (self.precision == "fp16" and self.device == "cpu", "fp16 trains on a GPU; on a CPU take bf16"),
            (min(self.batch, self.steps, self.r1_every, self.tick_every) < 1, "a count is 1 or more"),
            (not (self.lr > 0 and self.late_lr > 0), "learning rates are above 0"),
            (not 0 <= self.lr_drop_at <= 1, "lr_drop_at lies in [0, 1]"),
            (not (self.ema_half_life > 0 and self.r1 >= 0 and self.grad_clip >= 0), "a factor is below 0"),
            (
                min(
                    self.sample_every,
                    self.validate_every,
                    self.checkpoint_every,
                    self.threads,
                    self.workers,
                    self.seed,
                    self.fade_steps,
                    self.norm_group,
                )
                < 0,
                "cadences, threads, workers, seed, fade_steps and norm_group are 0 or more",
            ),
            (
                self.layout == "v2"
                and self.norm_group > 0
                and self.batch % max(1, min(self.batch, self.norm_group)),
                f"a batch of {self.batch} is no multiple of norm_group {self.norm_group}",
            ),
            (self.std_dev_group < 1, "std_dev_group is 1 or more"),
            (
                self.adversarial and self.batch % max(1, self.std_dev_group),
                f"a batch of {self.batch} is no multiple of std_dev_group {self.std_dev_group}",
            ),
            (
                self.grow_from is not None and self.initial is not None,
                "a run starts from initial or from grow_from, not from both",
            ),
            (
                self.layout == "v2" and self.grow_from is not None and self.norm_group,
                "a grown network has its batch norms folded: take norm_group 0",
            ),
            (self.sample_pictures < 1 or self.validation_pictures < 1, "a sheet has 1 picture or more"),
            (
                crop is not None and not (8 <= crop <= self.size_px and math.log2(crop).is_integer()),
                f"adversarial_crop_px is a power of two from 8 to {self.size_px}",
            ),
        ):
            if wrong:
                raise OptionError(why)
        try:
            self.network()
        except ValueError as error:
            raise OptionError(str(error)) from error

    def network(self) -> GPENConfig:
        """The network to train. Raises ValueError for a shape that is none."""
        v2 = self.layout == "v2"
        shape = {"encoder_width": self.encoder_width, "encoder_blocks": self.encoder_blocks}
        return GPENConfig(
            input_size_px=self.input_px or self.size_px,
            output_size_px=self.size_px,
            channels=channel_table(self.size_px, self.channel_multiplier, self.narrow),
            style_dim=self.style_dim,
            mapping_layers=self.mapping_layers,
            concat=self.concat,
            encoder="resnet" if v2 else "strided",
            residual=v2 and self.residual,
            template=self.template,
            **(shape if v2 else {}),  # type: ignore[arg-type]
        )

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return self.adversarial_from_step is not None and self.weights.adversarial > 0

    def faded_in(self, step: int) -> float:
        """How much of a grown network's new level counts after `step` steps, in [0, 1]."""
        return 1.0 if self.grow_from is None else min(1.0, step / max(1, self.fade_steps))

    def check_shared(self, world: int) -> None:
        """Raise OptionError when `world` processes cannot share a batch without changing what it means."""
        share, left = divmod(self.batch, world)
        groups = [("norm_group", min(self.norm_group, self.batch))] if self.layout == "v2" else []
        groups += [("std_dev_group", self.std_dev_group)] if self.adversarial else []
        needed = math.lcm(world, *(world * group for _, group in groups if group > 0))
        if left or any(group > 0 and share % group for _, group in groups):
            names = "".join(f", {name} {group}" for name, group in groups)
            raise OptionError(
                f"a batch of {self.batch} cannot be shared by {world} processes{names}: "
                f"take a batch of {needed} or a multiple of it, or smaller groups"
            )

    def plain(self) -> dict[str, Any]:
        """As values of JSON, with the options' own names."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


def write_options(options: TrainOptions, path: str | os.PathLike[str]) -> None:
    """Write the options as JSON. Raises FileError."""
    try:
        Path(path).write_text(json.dumps(options.plain(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise file_error(error, path, "write") from error


def read_options(path: str | os.PathLike[str]) -> TrainOptions:
    """The options in a file that `write_options` wrote. Raises FileError, or OptionError when it is none."""
    try:
        return make_options(read_values(path))
    except OptionError as error:
        raise OptionError(f"no training options: {error.message}", path=path) from error


def read_values(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of options says, by name. Raises FileError, or OptionError when it is none."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise file_error(error, path, "read") from error
    except ValueError as error:
        raise OptionError(f"no training options: {error}", path=path) from error
    if not isinstance(values, dict):
        raise OptionError("no training options", path=path)
    return values


def make_options(values: Mapping[str, Any]) -> TrainOptions:
    """The options with these values of JSON; a loss weight may be called weights.NAME.

    Raises OptionError for a name that is none, or a value that is of another kind.
    """
    weights: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in values.items():
        if name == "weights" and isinstance(value, Mapping):
            weights |= value
        elif name.startswith("weights."):
            weights[name.removeprefix("weights.")] = value
        else:
            others[name] = value
    found = checked(TrainOptions, others)
    if weights:
        found["weights"] = LossWeights(**checked(LossWeights, weights))
    missing = [name for name in ("data", "out") if name not in found]
    if missing:
        raise OptionError(f"{' and '.join(missing)} must be given")
    return TrainOptions(**found)


def checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of JSON as the fields of the dataclass `kind` have them.

    Raises OptionError for a name that is no field's, or a value of another kind.
    """
    hints = get_type_hints(kind)
    unknown = values.keys() - hints.keys()
    if unknown:
        raise OptionError(f"no option is called {', '.join(sorted(unknown))}: there are {', '.join(hints)}")
    return {name: _as(hints[name], value, name) for name, value in values.items()}


def network_values(config: GPENConfig) -> dict[str, Any]:
    """The options whose `network` is `config`. Raises OptionError when its widths follow no table."""
    size_px, narrow = config.output_size_px, config.channels[0] / 512
    multiplier = config.channels[-1] * size_px / 16384 / narrow if size_px > 32 else 2
    values: dict[str, Any] = {
        "size_px": size_px,
        "input_px": None if config.input_size_px == size_px else config.input_size_px,
        "layout": config.layout,
        "template": config.template,
        "channel_multiplier": multiplier,
        "narrow": narrow,
        "style_dim": config.style_dim,
        "mapping_layers": config.mapping_layers,
        "concat": config.concat,
    }
    if config.layout == "v2":
        values |= {name: getattr(config, name) for name in ("encoder_width", "encoder_blocks", "residual")}
    if TrainOptions(data="", out="", **values).network() != config:
        raise OptionError("its widths follow no table of channels, so that no options describe it")
    return values


def _as(hint: Any, value: Any, name: str) -> Any:
    """`value` of JSON as the kind of thing that `hint` says."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is UnionType:
        wanted = next(each for each in inner if each is not NoneType)
        return None if value is None else _as(wanted, value, name)
    if kind is tuple and inner[1] is ... and not isinstance(value, (list, tuple)):
        value = [value]
    if kind is tuple and isinstance(value, (list, tuple)) and (inner[1] is ... or len(value) == len(inner)):
        return tuple(_as(inner[0], each, name) for each in value)
    if kind is dict and isinstance(value, Mapping):
        return {str(key): _as(inner[1], each, name) for key, each in value.items()}
    if kind is Literal and isinstance(value, str):
        return value  # TrainOptions says which there are
    if hint is float and type(value) in (int, float):
        return value
    if kind is None and type(value) is hint:
        return value
    raise OptionError(f"{name} cannot be {value!r}")


def check_continues(options: TrainOptions, before: TrainOptions) -> None:
    """Raise OptionError when `options` cannot continue the run that `before` began."""
    changed = [name for name in FIXED if getattr(options, name) != getattr(before, name)]
    if changed:
        raise OptionError(
            f"it holds a run with another {', '.join(changed)}; choose another folder", path=options.out
        )
