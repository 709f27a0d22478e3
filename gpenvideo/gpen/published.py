"""The published checkpoint layout: its names and shapes, and what they say of the network.

GPEN notes, section 8. Our modules have names of their own; this file is the only place that knows both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from gpenvideo.errors import CheckpointError
from gpenvideo.gpen import ops
from gpenvideo.gpen.config import GPENConfig

__all__ = [
    "config_from_shapes",
    "discriminator_names",
    "from_published",
    "generator_names",
    "listed",
    "published_shape",
    "to_published",
]

Shapes = Mapping[str, tuple[int, ...]]


def _layer(ours: str, weight: str, bias: str) -> dict[str, str]:
    return {f"{ours}.weight": weight, f"{ours}.bias": bias}


def generator_names(config: GPENConfig) -> dict[str, str]:
    """Every parameter of the strided network: our name -> published name."""
    names: dict[str, str] = {}
    for stage in range(int(math.log2(config.input_size_px)) - 1):
        first = 1 if stage else 0  # index 0 of a stage that halves the picture is its low-pass filter
        head = f"ecd{stage}.0"
        names |= _layer(f"encoder.stages.{stage}", f"{head}.{first}.weight", f"{head}.{first + 1}.bias")
    names |= _layer("encoder.head", "final_linear.0.weight", "final_linear.0.bias")
    for index in range(config.mapping_layers):
        style = f"generator.style.{index + 1}"
        names |= _layer(f"mapper.layers.{index}", f"{style}.weight", f"{style}.bias")
    names["synthesis.constant"] = "generator.input.input"
    for index in range(2 * config.levels - 1):
        ours = f"synthesis.convs.{index}"
        theirs = f"generator.convs.{index - 1}" if index else "generator.conv1"
        names |= _layer(ours, f"{theirs}.conv.weight", f"{theirs}.activate.bias")
        names[f"{ours}.skip_gain"] = f"{theirs}.noise.weight"
        style = f"{theirs}.conv.modulation"
        names |= _layer(f"{ours}.modulation", f"{style}.weight", f"{style}.bias")
    for index in range(config.levels):
        ours = f"synthesis.to_rgbs.{index}"
        theirs = f"generator.to_rgbs.{index - 1}" if index else "generator.to_rgb1"
        names |= _layer(ours, f"{theirs}.conv.weight", f"{theirs}.bias")
        style = f"{theirs}.conv.modulation"
        names |= _layer(f"{ours}.modulation", f"{style}.weight", f"{style}.bias")
    return names


def discriminator_names(levels: int) -> dict[str, str]:
    """Every parameter of the discriminator that sees `levels` resolutions: our name -> published name."""
    names = _layer("blocks.0", "convs.0.0.weight", "convs.0.1.bias")
    for index in range(1, levels):
        ours, theirs = f"blocks.{index}", f"convs.{index}"
        names |= _layer(f"{ours}.conv1", f"{theirs}.conv1.0.weight", f"{theirs}.conv1.1.bias")
        names |= _layer(f"{ours}.conv2", f"{theirs}.conv2.1.weight", f"{theirs}.conv2.2.bias")
        names[f"{ours}.skip.weight"] = f"{theirs}.skip.1.weight"
    names |= _layer("final_conv", "final_conv.0.weight", "final_conv.1.bias")
    names |= _layer("hidden", "final_linear.0.weight", "final_linear.0.bias")
    return names | _layer("logit", "final_linear.1.weight", "final_linear.1.bias")


def _filter_gain(name: str) -> float | None:
    """The gain of the low-pass buffer called `name` in published files; None if it is no such buffer."""
    if re.fullmatch(r"ecd\d+\.0\.0\.kernel|convs\.\d+\.(conv2|skip)\.0\.kernel", name):
        return 1.0
    if re.fullmatch(r"generator\.(convs\.\d+\.conv\.blur|to_rgbs\.\d+\.upsample)\.kernel", name):
        return 4.0
    return None


def _filter_names(config: GPENConfig) -> list[str]:
    stages = range(1, int(math.log2(config.input_size_px)) - 1)
    names = [f"ecd{stage}.0.0.kernel" for stage in stages]
    for index in range(config.levels - 1):
        names += [
            f"generator.convs.{2 * index}.conv.blur.kernel",
            f"generator.to_rgbs.{index}.upsample.kernel",
        ]
    return names


def _low_pass(gain: float) -> Tensor:
    taps = torch.tensor(ops.FIR_TAPS)
    return torch.outer(taps, taps) * (gain / 64.0)


def published_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the published file gives our parameter `name`."""
    if re.fullmatch(r"synthesis\.convs\.\d+\.weight", name):
        return (1, *shape)
    if re.fullmatch(r"synthesis\.to_rgbs\.\d+\.(weight|bias)", name):
        return (1, *shape, 1, 1)
    return shape


def from_published(
    state: Mapping[str, Tensor], names: Mapping[str, str], shapes: Shapes
) -> dict[str, Tensor]:
    """A published state dict under our names and in our `shapes`, strictly; tensors are views.

    Raises CheckpointError, which lists the missing and unexpected keys, or names the wrong shape.
    """
    filters = {key for key in state if _filter_gain(key) is not None}
    missing = sorted(set(names.values()) - state.keys())
    unexpected = sorted(state.keys() - set(names.values()) - filters)
    if missing or unexpected:
        raise CheckpointError(f"it holds another network: {listed(missing=missing, unexpected=unexpected)}")
    for key in filters:
        gain = _filter_gain(key)
        assert gain is not None
        if state[key].shape != (4, 4) or not torch.allclose(state[key].float(), _low_pass(gain), atol=1e-3):
            raise CheckpointError(f"{key} is not the [1, 3, 3, 1] low-pass filter that every known GPEN has")
    ours = {}
    for name, published in names.items():
        tensor, expected = state[published], published_shape(name, shapes[name])
        if tuple(tensor.shape) != expected:
            raise CheckpointError(f"{published} has shape {tuple(tensor.shape)}, expected {expected}")
        ours[name] = tensor.reshape(shapes[name])
    return ours


def to_published(state: Mapping[str, Tensor], config: GPENConfig) -> dict[str, Tensor]:
    """Our state dict of the strided network in the published layout, low-pass buffers included."""
    published = {
        theirs: state[ours].reshape(published_shape(ours, tuple(state[ours].shape)))
        for ours, theirs in generator_names(config).items()
    }
    for key in _filter_names(config):
        published[key] = _low_pass(_filter_gain(key) or 1.0)
    return published


def config_from_shapes(shapes: Shapes) -> GPENConfig:
    """The architecture that a published generator's `shapes` imply.

    Raises CheckpointError when they imply none.
    """
    try:
        constant = shapes["generator.input.input"]
        rgbs = sum(1 for key in shapes if re.fullmatch(r"generator\.to_rgbs?\d*(\.\d+)?\.bias", key))
        channels = [constant[1]]
        channels += [shapes[f"generator.convs.{2 * j}.conv.weight"][1] for j in range(rgbs - 1)]
        stages = sum(1 for key in shapes if re.fullmatch(r"ecd\d+\.0\.\d+\.bias", key))
        return GPENConfig(
            input_size_px=4 << (stages - 1),
            output_size_px=4 << (rgbs - 1),
            channels=tuple(channels),
            style_dim=shapes["final_linear.0.weight"][0],
            mapping_layers=sum(1 for key in shapes if re.fullmatch(r"generator\.style\.\d+\.bias", key)),
            concat=shapes["generator.conv1.activate.bias"][0] == 2 * constant[1],
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            "it holds another network: a GPEN has ecd0..., final_linear and generator.* keys, this has "
            + listed(keys=sorted(shapes))
        ) from error
    except ValueError as error:
        raise CheckpointError(f"its shapes describe no GPEN network: {error}") from error


def listed(**keys: list[str]) -> str:
    """Lists of keys on one line, each cut after six."""
    parts = []
    for label, names in keys.items():
        if names:
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            parts.append(f"{label} {', '.join(names[:6])}{more}")
    return "; ".join(parts) or "nothing"
