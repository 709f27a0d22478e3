"""A larger restorer out of a smaller one, by progressive growing (Karras et al. 2018).

    large = grow(checkpoint.load("gpen-1024.pth"), grown_config(small.config))

The grown network has one more synthesis level, whose layers start as copies of the level below as far as the
shapes go. What it adds to the picture is faded in: `faded` scales it, from 0, where the picture is the small
network's own, enlarged, to 1, where the network is an ordinary one of its size.

- Layout "gpen": input and output are doubled. The new encoder stage hands the picture on, low-passed and
  halved, so that the old stages see what they know: grown(x) is small(halved(x)), enlarged.
- Layout "v2": the output is doubled, the input stays: the octaves of its ResNet cannot be moved without
  changing what they compute. grown(x) is small(x), enlarged.

"Enlarged" is the network's own up-sampling of RGB, which `reduced` undoes exactly.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.errors import OptionError
from gpenvideo.gpen import ops
from gpenvideo.gpen.config import GPENConfig, channel_table
from gpenvideo.gpen.encoder import StridedEncoder
from gpenvideo.gpen.generator import GPEN
from gpenvideo.gpen.layers import ConvLayer, StyledConv, ToRGB

__all__ = ["faded", "fixed_at", "grow", "grown_config", "halved", "reduced"]

SLOPE = 0.2  # of the leaky ReLU
RGB_PAIR = 6  # channels that carry a picture through a leaky ReLU unharmed: itself and its negative


def grown_config(config: GPENConfig) -> GPENConfig:
    """The configuration of twice the output size; its new width follows the published table.

    Raises OptionError for a network that cannot be grown.
    """
    size_px = 2 * config.output_size_px
    strided = config.encoder == "strided"
    if strided and config.input_size_px != config.output_size_px:
        raise OptionError("a gpen network is grown while its input is as large as its output")
    table = channel_table(size_px)
    width = max(1, config.channels[-1] * table[-1] // table[-2])
    if strided and width < RGB_PAIR:
        raise OptionError(
            f"the new encoder stage would have {width} channels; it takes {RGB_PAIR} to hand a picture on"
        )
    try:
        return dataclasses.replace(
            config,
            input_size_px=size_px if strided else config.input_size_px,
            output_size_px=size_px,
            channels=(*config.channels, width),
        )
    except ValueError as error:
        raise OptionError(f"it cannot be grown: {error}") from error


def grow(small: GPEN, config: GPENConfig) -> GPEN:
    """A network of `config`, which is `grown_config(small.config)`, with the weights of `small` in it.

    What is new and has nothing to start from is drawn from torch's random state. `small` has its batch norms
    folded. The result is float32 on the CPU, without fading: see `faded`. Raises OptionError when `config`
    is another one.
    """
    if config != grown_config(small.config):
        raise OptionError(
            f"a network of {small.config.output_size_px} px grows to twice its size and keeps its widths; "
            f"the options describe another one of {config.output_size_px} px"
        )
    large = GPEN(config)
    moved = "encoder.stages." if config.encoder == "strided" else "none"  # an octave, not by name
    kept = {name: value for name, value in small.state_dict().items() if not name.startswith(moved)}
    large.load_state_dict(kept, strict=False)
    with torch.no_grad():
        if isinstance(large.encoder, StridedEncoder):
            assert isinstance(small.encoder, StridedEncoder)
            _grow_strided(small.encoder, large.encoder)
        else:
            above, below = large.encoder.projections[-1], large.encoder.projections[-2]
            assert isinstance(above, nn.Conv2d)
            assert isinstance(below, nn.Conv2d)
            if large.encoder.sources[-1] == large.encoder.sources[-2]:
                _copy_part(above, below, {"weight": (1, 1), "bias": (1,)})
        _grow_synthesis(large, 2 if config.concat else 1)
    return large


def faded(model: GPEN, amount: float) -> dict[str, Tensor]:
    """The parameters of the newest level's RGB scaled by `amount` in [0, 1], for `functional_call`.

    None where the amount is 1: the network is itself.
    """
    if amount >= 1:
        return {}
    last = len(model.synthesis.to_rgbs) - 1
    return {
        f"synthesis.to_rgbs.{last}.{name}": value * amount
        for name, value in model.synthesis.to_rgbs[last].named_parameters(recurse=False)
    }


def fixed_at(model: GPEN, amount: float) -> GPEN:
    """`model` as an ordinary network with its newest level faded in by `amount`; a copy unless that is 1."""
    if amount >= 1:
        return model
    model = copy.deepcopy(model)
    with torch.no_grad():
        for value in model.synthesis.to_rgbs[-1].parameters(recurse=False):
            value.mul_(amount)
    return model


def halved(pictures: Tensor) -> Tensor:
    """(N, C, 2H, 2W) -> (N, C, H, W), [1, 3, 3, 1] low-pass: what a grown encoder hands to the old one."""
    return ops.blur(pictures, pad=1)[:, :, ::2, ::2]


def reduced(pictures: Tensor) -> Tensor:
    """(N, C, 2H, 2W) -> (N, C, H, W), undoing `ops.upsample_rgb` and bilinear enlargement.

    Up-sampling by two makes each pixel 3/4 of one sample and 1/4 of its neighbour; the filter
    [-1, 3, 3, -1] / 4 is its left inverse. Exact but for the outermost pixels, which lack a neighbour.
    """
    taps = torch.tensor((-0.25, 0.75, 0.75, -0.25), dtype=pictures.dtype, device=pictures.device)
    channels = pictures.shape[1]
    kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel, stride=2, groups=channels)


def _grow_strided(small: StridedEncoder, large: StridedEncoder) -> None:
    """A first stage that passes the picture on, and a second that is the old first one on half of it.

    A leaky ReLU of slope s keeps x in a pair of channels: relu(x) - relu(-x) = (1 + s) x. The other new
    channels start as drawn, and unused.
    """
    for old, new in zip(list(small.stages)[1:], list(large.stages)[2:], strict=True):
        new.load_state_dict(old.state_dict())
    entry, second, first = large.stages[0], large.stages[1], small.stages[0]
    assert isinstance(entry, ConvLayer)
    assert isinstance(second, ConvLayer)
    assert isinstance(first, ConvLayer)
    assert first.bias is not None
    assert second.bias is not None
    identity = torch.eye(3)[:, :, None, None]
    entry.weight[:RGB_PAIR] = torch.cat((identity, -identity)) / entry.gain
    weight = first.scaled_weight()[:, :, 0, 0] / (1 + SLOPE)
    second.weight.zero_()
    second.weight[:, :RGB_PAIR, 1, 1] = torch.cat((weight, -weight), dim=1) / second.gain
    second.bias.copy_(first.bias * (first.bias_gain / second.bias_gain))


def _grow_synthesis(model: GPEN, f: int) -> None:
    """The newest level's layers as copies of the level below; its widths are the first of those.

    `f` is 2 where a layer's channels are features and encoder skip side by side: each half is cut alone.
    """
    convs, rgbs = model.synthesis.convs, model.synthesis.to_rgbs
    for above, below in ((convs[-2], convs[-4]), (convs[-1], convs[-3])):
        assert isinstance(above, StyledConv)
        assert isinstance(below, StyledConv)
        _copy_part(above, below, {"weight": (1, f), "bias": (f,), "skip_gain": (1,)})
        _copy_part(above.modulation, below.modulation, {"weight": (f, 1), "bias": (f,)})
    above, below = rgbs[-1], rgbs[-2]
    assert isinstance(above, ToRGB)
    assert isinstance(below, ToRGB)
    _copy_part(above, below, {"weight": (1, f), "bias": (1,)})
    _copy_part(above.modulation, below.modulation, {"weight": (f, 1), "bias": (f,)})


def _copy_part(above: nn.Module, below: nn.Module, halves: dict[str, tuple[int, ...]]) -> None:
    """Copy the parameters that `halves` names, cut to shape: in so many parts along each dimension."""
    for name, parts in halves.items():
        target, value = above.get_parameter(name), below.get_parameter(name).data
        for dim, count in enumerate(parts):
            size = target.shape[dim] // count
            if value.shape[dim] // count < size:
                break  # a wider layer starts as drawn
            value = torch.cat([part.narrow(dim, 0, size) for part in value.chunk(count, dim)], dim)
        else:
            target.copy_(value)
