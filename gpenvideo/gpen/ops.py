"""The primitive operators of the network, as pure functions (GPEN notes, section 2).

Tensors are (N, C, H, W) in any floating dtype. Everything here is plain torch, so that `torch.compile`
traces it whole; nothing chooses a path by device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

__all__ = [
    "FIR_TAPS",
    "blur",
    "demodulation",
    "leaky_relu",
    "pixel_norm",
    "unit_style",
    "upsample_rgb",
    "upsampling_conv",
]

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)  # every released model's; other taps are refused when a file is loaded
SQRT2 = math.sqrt(2.0)


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, in place; the network's gain of sqrt(2) is left to the scale before it."""
    return F.leaky_relu(x, 0.2, inplace=True)


def pixel_norm(x: Tensor) -> Tensor:
    """(N, D) scaled to unit mean square per row."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def blur(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """[1, 3, 3, 1] low-pass in both axes, every channel alike, `pad` zeros on each side.

    (N, C, H, W) -> (N, C, H + 2 pad - 3, W + 2 pad - 3). `gain` is 4 after a factor-2 up-sampling.
    One depthwise convolution: on a CPU it runs at memory speed in channels_last, where the published
    single-channel form costs more than all other convolutions together.
    """
    taps = torch.tensor(FIR_TAPS, dtype=torch.float32, device=x.device)
    kernel = torch.outer(taps, taps) * (gain / 64.0)
    channels = x.shape[1]
    return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, 4, 4), padding=pad, groups=channels)


def upsampling_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Stride-2 transposed 3x3 convolution and its low-pass: (N, I, H, W) -> (N, O, 2H, 2W).

    `weight` is (O, I, 3, 3). The transposed convolution costs 9 multiplications an input sample and
    output channel; folding the low-pass into it would make them 36.
    """
    return blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), pad=1, gain=4.0)


def upsample_rgb(image: Tensor) -> Tensor:
    """The RGB skip's factor-2 up-sampling: zero insertion and the [1, 3, 3, 1] low-pass.

    (N, C, H, W) -> (N, C, 2H, 2W). Each output is 3/4 of the nearest input sample and 1/4 of the next one
    in each axis, with zeros outside the picture.
    """
    padded = F.pad(image, (1, 1, 1, 1))
    before, here, after = padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]
    rows = torch.stack((0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after), dim=3).flatten(2, 3)
    before, here, after = rows[..., :-2], rows[..., 1:-1], rows[..., 2:]
    return torch.stack((0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after), dim=4).flatten(3, 4)


def unit_style(style: Tensor) -> tuple[Tensor, Tensor]:
    """A style (N, I) float32 scaled so that its largest entry is 1, and `peak` (N, 1), that entry.

    Activations times a unit style cannot overflow half precision; what follows is to be multiplied by the
    peak, or demodulated with it.
    """
    peak = style.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
    return style / peak, peak


def demodulation(style: Tensor, power: Tensor, peak: Tensor) -> Tensor:
    """The factor (N, O) that brings a modulated convolution's output back to unit variance.

    `style` (N, I) float32, `power` (O, I) the sum over the kernel of the squared weights, `peak` as
    `unit_style` gave it: the factor holds for activations times the unit style (GPEN notes, section 3).
    """
    return peak * torch.rsqrt(style.square() @ power.T + 1e-8)
