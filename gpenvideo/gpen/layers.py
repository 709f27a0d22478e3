"""The layers with parameters (GPEN notes, section 3), thin over `ops`.

Parameters are stored as published: raw, about unit variance, with the runtime gain (1/sqrt(fan-in), learning
rate multiplier) beside them. `fold_gains` multiplies the gains in once for inference.

A layer computes in the dtype of its own weight. Convolutions may be cast to half precision; linear layers,
styles, demodulation and the RGB sum stay float32, which costs nothing and keeps half precision safe.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.gpen import ops

__all__ = [
    "ConvLayer",
    "EqualLinear",
    "Equalized",
    "StyledConv",
    "ToRGB",
    "cast_convs",
    "fold_gains",
    "gaussian",
]


def gaussian(*shape: int, std: float = 1.0) -> Tensor:
    """A freshly drawn N(0, std²) tensor; only its shape on the meta device, where a file's weights come next.

    (On that device torch's own draw imports its Python reference operators: a second and 150 MB.)
    """
    tensor = torch.empty(shape)
    return tensor if tensor.is_meta else tensor.normal_(std=std)


class Equalized(nn.Module):
    """A weight and a bias with runtime gains: the base of every layer here."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, bias: Tensor | None, gain: float, bias_gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.gain = gain
        self.bias_gain = bias_gain

    def scaled_weight(self) -> Tensor:
        """The weight with its gain."""
        return self.weight if self.gain == 1.0 else self.weight * self.gain

    def scaled_bias(self) -> Tensor:
        """The bias with its gain."""
        assert self.bias is not None
        return self.bias if self.bias_gain == 1.0 else self.bias * self.bias_gain

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply the gains into the parameters."""
        self.weight.mul_(self.gain)
        if self.bias is not None:
            self.bias.mul_(self.bias_gain)
        self.gain = self.bias_gain = 1.0

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, gain={self.gain:.4g}"


class EqualLinear(Equalized):
    """(N, in) -> (N, out), float32. With `activate`: leaky ReLU times sqrt(2)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activate: bool = False,
    ) -> None:
        weight = gaussian(out_features, in_features, std=1.0 / lr_mul)
        bias = torch.full((out_features,), bias_init)
        gain = ops.SQRT2 if activate else 1.0  # leaky ReLU is positively homogeneous: its gain goes before it
        super().__init__(weight, bias, gain * lr_mul / math.sqrt(in_features), gain * lr_mul)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.scaled_weight(), self.scaled_bias())
        return ops.leaky_relu(y) if self.activate else y


class ConvLayer(Equalized):
    """Encoder and discriminator convolution: (N, in, H, W) -> (N, out, H, W), or half that size.

    Down-sampling is the [1, 3, 3, 1] low-pass, then stride 2. With `activate`: bias and leaky ReLU times
    sqrt(2); without, neither bias nor activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        downsample: bool = False,
        activate: bool = True,
    ) -> None:
        weight = gaussian(out_channels, in_channels, kernel, kernel)
        bias = torch.zeros(out_channels) if activate else None
        gain = ops.SQRT2 if activate else 1.0
        super().__init__(weight, bias, gain / math.sqrt(in_channels * kernel**2), gain)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) of any floating dtype -> the class's output, in the dtype of the weight."""
        x = x.to(self.weight.dtype)
        weight = self.scaled_weight()
        bias = None if self.bias is None else self.scaled_bias().to(x.dtype)
        kernel = weight.shape[2]
        if self.downsample:
            x = F.conv2d(ops.blur(x, pad=(kernel + 1) // 2), weight, bias, stride=2)
        else:
            x = F.conv2d(x, weight, bias, padding=kernel // 2)
        return x if bias is None else ops.leaky_relu(x)


class StyledConv(Equalized):
    """Modulated 3x3 convolution, encoder skip, bias and activation: (N, in, H, W) -> (N, f·out, H', W').

    f is 2 where skips are concatenated, 1 where they are added. The style scales activations, never
    weights, so a batch is one plain convolution.
    """

    modulation: EqualLinear
    power: Tensor | None

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, *, upsample: bool, concat: bool
    ) -> None:
        weight = gaussian(out_channels, in_channels, 3, 3)
        bias = torch.zeros(out_channels * (2 if concat else 1))
        super().__init__(weight, bias, 1.0 / math.sqrt(in_channels * 9))
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.skip_gain = nn.Parameter(torch.zeros(1))
        self.upsample = upsample
        self.concat = concat
        self.register_buffer("power", None, persistent=False)

    @torch.no_grad()
    def fold(self) -> None:
        super().fold()
        self.power = self.weight.float().square().sum(dim=(2, 3))

    def lay_out(self) -> None:
        """Store an up-sampling weight as the transposed convolution reads it, or each call copies it."""
        if self.upsample:
            transposed = self.weight.data.transpose(0, 1).contiguous(memory_format=torch.channels_last)
            self.weight.data = transposed.transpose(0, 1)

    def styles(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """w (N, D) -> factors of the input (N, in), at most 1, and of the output (N, out); float32."""
        power = self.scaled_weight().float().square().sum(dim=(2, 3)) if self.power is None else self.power
        style = self.modulation(w)
        unit, peak = ops.unit_style(style)
        return unit, ops.SQRT2 * ops.demodulation(style, power, peak)

    def forward(self, x: Tensor, unit: Tensor, scale: Tensor, skip: Tensor) -> Tensor:
        """x (N, in, H, W), `styles`, skip (N, out, H', W') -> (N, f·out, H', W')."""
        weight = self.scaled_weight()
        x = x.to(weight.dtype)
        x = x * unit.to(x.dtype)[:, :, None, None]
        x = ops.upsampling_conv(x, weight) if self.upsample else F.conv2d(x, weight, padding=1)
        scale = scale.to(x.dtype)[:, :, None, None]
        bias = (ops.SQRT2 * self.scaled_bias()).to(x.dtype)[None, :, None, None]
        skip_gain = (ops.SQRT2 * self.skip_gain).to(x.dtype)[None, :, None, None]
        skip = skip.to(x.dtype)
        if not self.concat:
            return ops.leaky_relu(torch.addcmul(bias, x, scale) + skip * skip_gain)
        channels = x.shape[1]
        image = torch.addcmul(bias[:, :channels], x, scale)
        return ops.leaky_relu(torch.cat((image, torch.addcmul(bias[:, channels:], skip, skip_gain)), dim=1))


class ToRGB(Equalized):
    """Modulated 1x1 convolution to RGB, not demodulated: (N, in, H, W) -> (N, 3, H, W) float32.

    Here the style scales the weights, which are tiny, rather than a picture of `in` channels.
    """

    modulation: EqualLinear

    def __init__(self, in_channels: int, style_dim: int) -> None:
        weight = gaussian(3, in_channels)
        super().__init__(weight, torch.zeros(3), 1.0 / math.sqrt(in_channels))
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (N, in, H, W), the modulation's style (N, in) float32 -> (N, 3, H, W) float32."""
        n, _, height, width = x.shape
        weight = style[:, None, :] * self.scaled_weight().float()  # (N, 3, in)
        peak = weight.abs().amax(dim=(1, 2), keepdim=True).clamp_min(1e-8)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # a view in channels_last
        rgb = torch.bmm(pixels, (weight / peak).to(x.dtype).transpose(1, 2)).float() * peak
        image: Tensor = rgb + self.scaled_bias().float()
        return image.view(n, height, width, 3).permute(0, 3, 1, 2)


def fold_gains(model: nn.Module) -> None:
    """Multiply every runtime gain of `model` into its parameters, in place: for inference only."""
    for module in model.modules():
        if isinstance(module, Equalized):
            module.fold()


def cast_convs(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the 3x3 and 1x1 picture convolutions of `model` to `dtype`, in place; the rest stays float32."""
    for module in model.modules():
        if isinstance(module, (ConvLayer, StyledConv, nn.Conv2d)):
            module.weight.data = module.weight.data.to(dtype)
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.data = module.bias.data.to(dtype)
