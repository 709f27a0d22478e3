"""The network for a GPU: what lies between two convolutions in one pass over memory.

Convolutions are torch's; a compiler fuses what is pointwise after them, but not the low-pass, nor the sum
over channels that makes RGB. Here each is one operation, written twice: in plain torch, which says what it
means, and in Triton (`fused_triton`), which runs on CUDA. Three things make for less traffic than layer by
layer:

- a style scales what the layer before it writes, not a second copy;
- RGB is summed while the activations are still in registers, and the last ones are never written;
- the encoder's bias and activation are applied by whoever reads its features.

Pictures are (N, C, H, W) in channels_last and half precision or float32; what is summed is summed in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.gpen import ops
from gpenvideo.gpen.encoder import StridedEncoder
from gpenvideo.gpen.generator import GPEN
from gpenvideo.gpen.layers import ConvLayer, StyledConv, ToRGB

__all__ = ["FusedGPEN", "finish", "has_kernels", "low_pass", "low_pass_finish"]


def has_kernels() -> bool:
    """Is Triton here, which the fused operations need on CUDA? It then has them registered."""
    try:
        from gpenvideo.gpen import fused_triton
    except ImportError:
        return False
    return bool(fused_triton.__all__)


Feature = tuple[Tensor, Tensor | None]  # of the encoder: raw with its bias (C,), or activated with None


def activated(x: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W) in float32, plus bias, through leaky ReLU; as it is where there is no bias."""
    return x.float() if bias is None else F.leaky_relu(x.float() + bias[:, None, None], 0.2)


def finish(
    x: Tensor,
    scale: Tensor,
    skip: Feature,
    bias: Tensor,
    gain: Tensor,
    following: Tensor | None,
    rgb: tuple[Tensor, Tensor],
    below: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """All that follows a modulated convolution: demodulation, skip, bias, activation, RGB, the next style.

    Args:
        x: (N, C, H, W), the convolution's output.
        scale: (N, C) float32, its demodulation.
        skip: the encoder's feature of x's shape.
        bias: (f·C,) float32; f is 2 where the skip is concatenated, 1 where it is added.
        gain: (1,) float32, of the skip.
        following: (N, f·C) float32, the unit style of the next convolution; None where there is none.
        rgb: weights (N, 3, f·C) and bias (3,), float32.
        below: the picture (N, 3, H/2, W/2) float32 summed so far; None at the start.

    Returns:
        The next convolution's input (N, f·C, H, W) in x's dtype, empty where there is none, and the picture
        (N, 3, H, W) float32.
    """
    if x.is_cuda:
        pair: tuple[Tensor, Tensor] = torch.ops.gpenvideo.finish(
            x, scale, *skip, bias, gain, following, *rgb, below
        )
        return pair
    y = _joined(x.float(), scale, skip, bias, gain)
    picture = torch.einsum("nchw,nkc->nkhw", y, rgb[0]) + rgb[1][:, None, None]
    if below is not None:
        picture = picture + ops.upsample_rgb(below)
    if following is None:
        return x.new_empty(0), picture
    return (y * following[:, :, None, None]).to(x.dtype), picture


def low_pass_finish(
    x: Tensor, scale: Tensor, skip: Feature, bias: Tensor, gain: Tensor, following: Tensor
) -> Tensor:
    """The low-pass after a transposed convolution, and then as `finish`, without RGB.

    x is (N, C, 2H + 1, 2W + 1), the skip (N, C, 2H, 2W); the result (N, f·C, 2H, 2W) in x's dtype.
    """
    if x.is_cuda:
        fused: Tensor = torch.ops.gpenvideo.low_pass_finish(x, scale, *skip, bias, gain, following)
        return fused
    y = _joined(ops.blur(x.float(), pad=1, gain=4.0), scale, skip, bias, gain)
    return (y * following[:, :, None, None]).to(x.dtype)


def low_pass(x: Tensor, bias: Tensor | None) -> Tensor:
    """An encoder feature (see `activated`) for the next, stride-2 convolution: low-passed, 2 zeros around.

    (N, C, H, W) -> (N, C, H + 1, W + 1) in x's dtype.
    """
    if x.is_cuda:
        fused: Tensor = torch.ops.gpenvideo.low_pass(x, bias)
        return fused
    return ops.blur(activated(x, bias), pad=2).to(x.dtype)


def _joined(x: Tensor, scale: Tensor, skip: Feature, bias: Tensor, gain: Tensor) -> Tensor:
    x, feature = x * scale[:, :, None, None], activated(*skip) * gain
    concat = len(bias) == 2 * x.shape[1]
    x = torch.cat((x, feature.expand_as(x)), dim=1) if concat else x + feature
    return F.leaky_relu(x + bias[:, None, None], 0.2)


class Finish(nn.Module):
    """The constants of `finish` after one convolution."""

    bias: Tensor
    gain: Tensor

    def __init__(self, conv: StyledConv) -> None:
        super().__init__()
        self.register_buffer("bias", ops.SQRT2 * conv.scaled_bias().float())
        self.register_buffer("gain", ops.SQRT2 * conv.skip_gain.float())


class FusedGPEN(nn.Module):
    """A network made `for_inference`, with fused operations between its convolutions.

    It shares the parameters of `model`, and answers as `GPEN.forward` does.
    """

    def __init__(self, model: GPEN) -> None:
        super().__init__()
        self.model = model
        self.convs = [conv for conv in model.synthesis.convs if isinstance(conv, StyledConv)]
        self.rgbs = [rgb for rgb in model.synthesis.to_rgbs if isinstance(rgb, ToRGB)]
        self.finishes = nn.ModuleList(Finish(conv) for conv in self.convs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in [-1, 1] -> (N, 3, S', S') float32, not clamped."""
        x = x.contiguous(memory_format=torch.channels_last)
        skips, z = self._encode(x)
        image = self._synthesize(self.model.mapper(z), skips)
        return self.model.added(x, image) if self.model.config.residual else image

    def _encode(self, x: Tensor) -> tuple[list[tuple[Feature, Feature]], Tensor]:
        encoder = self.model.encoder
        features: list[Feature] = []
        if isinstance(encoder, StridedEncoder):
            for stage in encoder.stages:
                assert isinstance(stage, ConvLayer)
                if features:
                    x = F.conv2d(low_pass(*features[-1]), stage.weight, stride=2)
                else:
                    x = F.conv2d(x.to(stage.weight.dtype), stage.weight)
                features.append((x, stage.scaled_bias()))
            z: Tensor = encoder.head(activated(*features[-1]).flatten(1))
            features.reverse()
        else:
            plain, z = encoder(x)
            features = [(feature, None) for feature in plain]
        noise = [((first, None), (second, None)) for first, second in self.model.noise(len(x), len(features))]
        return [(feature, feature) for feature in features] + noise, z

    def _synthesize(self, w: Tensor, skips: list[tuple[Feature, Feature]]) -> Tensor:
        synthesis, finishes = self.model.synthesis, list(self.finishes)
        styles, rgb_styles = synthesis.styles(w)
        first = synthesis.constant * styles[0][0][:, :, None, None]
        x = first.to(self.convs[0].weight.dtype).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for level, (rgb, rgb_style) in enumerate(zip(self.rgbs, rgb_styles, strict=True)):
            if level:
                up = 2 * level - 1
                x = F.conv_transpose2d(x, self.convs[up].weight.transpose(0, 1), stride=2)
                x = low_pass_finish(
                    x, styles[up][1], skips[level][0], *_constants(finishes[up]), styles[up + 1][0]
                )
            plain = 2 * level
            x = F.conv2d(x, self.convs[plain].weight, padding=1)
            following = styles[plain + 1][0] if plain + 1 < len(styles) else None
            weight = rgb_style[:, None, :] * rgb.scaled_weight().float()
            skip = skips[level][1 if level else 0]
            constants, rgb_bias = _constants(finishes[plain]), rgb.scaled_bias().float()
            x, image = finish(x, styles[plain][1], skip, *constants, following, (weight, rgb_bias), image)
        assert image is not None
        return image


def _constants(finishing: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(finishing, Finish)
    return finishing.bias, finishing.gain
