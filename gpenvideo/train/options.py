"""Everything a training run is told, as one value that is written beside its results."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpenvideo.errors import OptionError, file_error
from gpenvideo.gpen.config import GPENConfig, channel_table
from gpenvideo.train.losses import LossWeights

__all__ = ["TrainOptions", "read_options", "write_options"]

# What a run that continues may not change: the networks, and what each step sees.
FIXED = (
    "data",
    "exclude_sources",
    "only_sources",
    "min_side_px",
    "size_px",
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
    "adversarial_crop_px",
    "discriminator_narrow",
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
    initial                state.pt of another run of the same network: its weights are where this one starts
    batch, steps           pictures a step, steps
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
    initial: str | None = None
    batch: int = 8
    steps: int = 1_000_000
    lr: float = 2e-4
    late_lr: float = 2e-5
    lr_drop_at: float = 0.8
    equalized_lr: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    discriminator_betas: tuple[float, float] = (0.0, 0.99)
    grad_clip: float = 0.0
    ema_half_life: float = 10_000
    weights: LossWeights = field(default_factory=LossWeights)
    face_features: str | None = None
    adversarial_from_step: int | None = None
    adversarial_crop_px: int | None = None
    discriminator_narrow: float = 1.0
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
                )
                < 0,
                "cadences, threads, workers and seed are 0 or more",
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
            input_size_px=self.size_px,
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
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise file_error(error, path, "read") from error
    try:
        values = json.loads(text)
        values["weights"] = LossWeights(**values.get("weights", {}))
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return TrainOptions(**(values | lists))
    except (AttributeError, TypeError, ValueError) as error:
        raise OptionError(f"no training options: {error}", path=path) from error


def check_continues(options: TrainOptions, before: TrainOptions) -> None:
    """Raise OptionError when `options` cannot continue the run that `before` began."""
    changed = [name for name in FIXED if getattr(options, name) != getattr(before, name)]
    if changed:
        raise OptionError(
            f"it holds a run with another {', '.join(changed)}; choose another folder", path=options.out
        )
