"""GPEN written straight from its formulas: the yardstick of `model.py` and the source of the ONNX tests.

One weight a sample, zero insertion before every low-pass, 16 taps a sample: nothing is arranged for speed.
Parameters have the published names and shapes, so a published state dict loads as it is, and an ONNX export
folds its constants as the circulated .onnx files have them.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def fir_kernel(gain: float) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64 * gain


def upfirdn(x: Tensor, kernel: Tensor, up: int, pad0: int, pad1: int) -> Tensor:
    n, c, h, w = map(int, x.shape)
    if up > 1:
        x = x.reshape(n, c, h, 1, w, 1)
        x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    x = F.pad(x, (pad0, pad1, pad0, pad1))
    h, w = map(int, x.shape[2:])
    return F.conv2d(x.reshape(n * c, 1, h, w), kernel[None, None].to(x.dtype)).reshape(n, c, h - 3, w - 3)


def activate(x: Tensor, bias: Tensor) -> Tensor:
    return math.sqrt(2) * F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2)


class Fir(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain))


class Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class Conv(nn.Module):
    def __init__(self, a: int, b: int, k: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a, k, k))


class Linear(nn.Module):
    def __init__(self, a: int, b: int, lr_mul: float = 1.0, bias: float = 0.0, act: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a) / lr_mul)
        self.bias = nn.Parameter(torch.full((b,), bias))
        self.lr_mul, self.scale, self.act = lr_mul, lr_mul / math.sqrt(a), act

    def forward(self, x: Tensor) -> Tensor:
        if self.act:
            return activate(F.linear(x, self.weight * self.scale), self.bias * self.lr_mul)
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)


class EncoderLayer(nn.Sequential):
    def __init__(self, a: int, b: int, k: int, down: bool) -> None:
        super().__init__(*([Fir(1.0)] if down else []), Conv(a, b, k), Bias(b))
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        *fir, conv, bias = self
        weight = conv.weight / math.sqrt(conv.weight[0].numel())
        x = (
            F.conv2d(upfirdn(x, fir[0].kernel, 1, 2, 2), weight, stride=2)
            if self.down
            else F.conv2d(x, weight)
        )
        return activate(x, bias.bias)


class Modulated(nn.Module):
    def __init__(self, a: int, b: int, k: int, style: int, demodulate: bool, up: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, b, a, k, k))
        self.modulation = Linear(style, a, bias=1.0)
        if up:
            self.blur = Fir(4.0)
        self.demodulate, self.up = demodulate, up

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        n, a, height, width = map(int, x.shape)
        _, b, _, k, _ = self.weight.shape
        weight = self.weight / math.sqrt(a * k * k) * self.modulation(w).view(n, 1, a, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, n * a, height, width)
        if not self.up:
            x = F.conv2d(x, weight.view(n * b, a, k, k), padding=k // 2, groups=n)
            return x.view(n, b, height, width)
        weight = weight.transpose(1, 2).reshape(n * a, b, k, k)
        x = F.conv_transpose2d(x, weight, stride=2, groups=n).view(n, b, 2 * height + 1, 2 * width + 1)
        return upfirdn(x, self.blur.kernel, 1, 1, 1)


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class Styled(nn.Module):
    def __init__(self, a: int, b: int, style: int, up: bool, concat: bool) -> None:
        super().__init__()
        self.conv = Modulated(a, b, 3, style, True, up)
        self.noise = Noise()
        self.activate = Bias(b * (2 if concat else 1))
        self.concat = concat

    def forward(self, x: Tensor, w: Tensor, skip: Tensor) -> Tensor:
        x, skip = self.conv(x, w), self.noise.weight * skip
        return activate(torch.cat((x, skip), 1) if self.concat else x + skip, self.activate.bias)


class Rgb(nn.Module):
    def __init__(self, a: int, style: int, up: bool) -> None:
        super().__init__()
        self.conv = Modulated(a, 3, 1, style, False, False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = Fir(4.0)

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None) -> Tensor:
        rgb = self.conv(x, w) + self.bias
        return rgb if image is None else rgb + upfirdn(image, self.upsample.kernel, 2, 2, 1)


class Generator(nn.Module):
    def __init__(self, channels: tuple[int, ...], style: int, mapping_layers: int, concat: bool) -> None:
        super().__init__()
        f = 2 if concat else 1
        mapping = [Linear(style, style, lr_mul=0.01, act=True) for _ in range(mapping_layers)]
        self.style = nn.Sequential(nn.Identity(), *mapping)
        self.input = nn.Module()
        self.input.input = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.conv1 = Styled(channels[0], channels[0], style, False, concat)
        self.to_rgb1 = Rgb(f * channels[0], style, False)
        convs, rgbs = [], []
        for a, b in itertools.pairwise(channels):
            convs += [Styled(f * a, b, style, True, concat), Styled(f * b, b, style, False, concat)]
            rgbs.append(Rgb(f * b, style, True))
        self.convs, self.to_rgbs = nn.ModuleList(convs), nn.ModuleList(rgbs)


class NaiveGPEN(nn.Module):
    """(N, 3, S, S) RGB in [-1, 1] -> the same, as `gpenvideo.gpen.GPEN` with a strided encoder."""

    def __init__(
        self, channels: tuple[int, ...], style: int = 512, mapping_layers: int = 8, concat: bool = True
    ) -> None:
        super().__init__()
        widths = channels[::-1]
        self.ecd0 = nn.Sequential(EncoderLayer(3, widths[0], 1, False))
        for index, (a, b) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"ecd{index + 1}", nn.Sequential(EncoderLayer(a, b, 3, True)))
        self.final_linear = nn.Sequential(Linear(channels[0] * 16, style, act=True))
        self.generator = Generator(channels, style, mapping_layers, concat)

    def forward(self, x: Tensor) -> Tensor:
        g, features = self.generator, []
        for index in range(len(g.to_rgbs) + 1):
            x = getattr(self, f"ecd{index}")(x)
            features.append(x)
        z = self.final_linear(x.reshape(x.shape[0], -1))
        w = g.style(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
        features = features[::-1]
        x = g.conv1(g.input.input.repeat(x.shape[0], 1, 1, 1), w, features[0])
        image = g.to_rgb1(x, w, None)
        for level, feature in enumerate(features[1:]):
            x = g.convs[2 * level](x, w, feature)
            x = g.convs[2 * level + 1](x, w, feature)
            image = g.to_rgbs[level](x, w, image)
        return image
