"""What a GPEN network is: sizes, widths and kind, as one value that a checkpoint carries or implies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from gpenvideo.errors import CheckpointError

__all__ = ["GPENConfig", "channel_table"]


def channel_table(size_px: int, channel_multiplier: float = 2, narrow: float = 1.0) -> tuple[int, ...]:
    """Channels at 4, 8, ..., `size_px` by the published rule (GPEN notes, section 1)."""
    table = {4: 512.0, 8: 512.0, 16: 512.0, 32: 512.0}
    table |= {r: 16384 / r * channel_multiplier for r in (64, 128, 256, 512, 1024, 2048)}
    return tuple(int(table[4 << level] * narrow) for level in range(int(math.log2(size_px)) - 1))


@dataclass(frozen=True, slots=True)
class GPENConfig:
    """The architecture of one network.

    `encoder` "strided" is the published network (GPEN notes, sections 1 to 6); "resnet" is the v2 network,
    a ResNet encoder and a two-layer mapper before the same synthesis (docs/architecture.md). Sizes are
    powers of two; `channels` lists the synthesis widths at 4, 8, ..., `output_size_px`.

    Raises ValueError on values that describe no network.
    """

    input_size_px: int
    output_size_px: int
    channels: tuple[int, ...]
    style_dim: int = 512
    mapping_layers: int = 8
    concat: bool = True  # encoder skips are concatenated (every released model) or added
    encoder: Literal["strided", "resnet"] = "strided"
    encoder_width: int = 64  # resnet: channels of its first stage; 64 is ResNet-50's
    encoder_blocks: tuple[int, ...] = (3, 4, 6, 3)  # resnet: bottlenecks a stage; these are ResNet-50's
    residual: bool = False  # resnet: the synthesis adds to the input picture
    template: str = "gpen"  # the alignment its faces want: "gpen" or "ffhq"

    def __post_init__(self) -> None:
        for name in ("input_size_px", "output_size_px"):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 8 or size > 4096 or size & (size - 1):
                raise ValueError(f"{name} must be a power of two between 8 and 4096, got {size!r}")
        if self.input_size_px > self.output_size_px:
            raise ValueError(f"input {self.input_size_px} px is larger than output {self.output_size_px} px")
        if len(self.channels) != self.levels or not all(isinstance(c, int) and c > 0 for c in self.channels):
            raise ValueError(f"channels must be {self.levels} positive counts, got {self.channels!r}")
        for name in ("style_dim", "mapping_layers", "encoder_width"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive count, got {getattr(self, name)!r}")
        if self.encoder not in ("strided", "resnet"):
            raise ValueError(f"encoder must be 'strided' or 'resnet', got {self.encoder!r}")
        if self.encoder == "resnet" and (self.input_size_px < 32 or not 1 <= len(self.encoder_blocks) <= 4):
            raise ValueError("a resnet encoder needs 32 px or more and one to four stages")
        if self.template not in ("gpen", "ffhq"):
            raise ValueError(f"template must be 'gpen' or 'ffhq', got {self.template!r}")

    @property
    def levels(self) -> int:
        """How many resolutions the synthesis passes: 4, 8, ..., `output_size_px`."""
        return int(math.log2(self.output_size_px)) - 1

    @property
    def n_latent(self) -> int:
        """How many style vectors the synthesis takes, one a layer (GPEN notes, section 4)."""
        return 2 * self.levels

    @property
    def layout(self) -> Literal["gpen", "v2"]:
        """The checkpoint layout that holds this network."""
        return "gpen" if self.encoder == "strided" else "v2"

    def channels_at(self, size_px: int) -> int:
        """Synthesis channels at resolution `size_px`."""
        return self.channels[int(math.log2(size_px)) - 2]

    def as_args(self) -> dict[str, Any]:
        """The configuration as plain values, for a v2 checkpoint's `args` and for safetensors metadata."""
        return {
            "input_resolution": self.input_size_px,
            "output_resolution": self.output_size_px,
            "channels": list(self.channels),
            "style_dim": self.style_dim,
            "mapping_layers": self.mapping_layers,
            "concat": self.concat,
            "encoder": self.encoder,
            "encoder_width": self.encoder_width,
            "encoder_blocks": list(self.encoder_blocks),
            "residual": self.residual,
            "template": self.template,
        }

    @classmethod
    def from_args(cls, args: dict[str, Any]) -> GPENConfig:
        """The configuration in `args`, which comes from an untrusted file.

        Raises CheckpointError when a needed value is missing or describes no network.
        """
        try:
            output = int(args["output_resolution"])
            encoder = args.get("encoder", "resnet")
            channels = args.get("channels")
            if channels is None:
                channels = channel_table(
                    output, float(args.get("channel_multiplier", 2)), float(args.get("narrow", 1))
                )
            return cls(
                input_size_px=int(args.get("input_resolution", output)),
                output_size_px=output,
                channels=tuple(int(c) for c in channels),
                style_dim=int(args.get("style_dim", 512)),
                mapping_layers=int(args.get("mapping_layers", 2 if encoder == "resnet" else 8)),
                concat=bool(args.get("concat", True)),
                encoder=encoder,
                encoder_width=int(args.get("encoder_width", 64)),
                encoder_blocks=tuple(int(n) for n in args.get("encoder_blocks", (3, 4, 6, 3))),
                residual=bool(args.get("residual", False)),
                template=str(args.get("template", "gpen")),
            )
        except KeyError as error:
            raise CheckpointError(f"its args lack {error.args[0]!r}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"its args describe no GPEN network: {error}") from error
