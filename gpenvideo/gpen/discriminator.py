"""The discriminator (GPEN notes, section 7)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from gpenvideo.gpen.layers import ConvLayer, EqualLinear

__all__ = ["Discriminator", "ResBlock", "std_dev_channel"]


class ResBlock(nn.Module):
    """(N, in, H, W) -> (N, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(in_channels, in_channels, 3)
        self.conv2 = ConvLayer(in_channels, out_channels, 3, downsample=True)
        self.skip = ConvLayer(in_channels, out_channels, 1, downsample=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x)) + self.skip(x)
        return y * math.sqrt(0.5)


def std_dev_channel(x: Tensor, group: int | None = None) -> Tensor:
    """The minibatch standard deviation as a constant channel: (N, C, H, W) -> (N, 1, H, W).

    `group` pictures are judged together; None is the whole batch, as published. N must be a multiple of it.
    """
    n, c, height, width = x.shape
    size = n if group is None else group
    if n % size:
        raise ValueError(f"a batch of {n} cannot be split into groups of {size}")
    deviation = torch.sqrt(x.float().view(n // size, size, c, height, width).var(1, correction=0) + 1e-8)
    mean = deviation.mean(dim=(1, 2, 3)).repeat_interleave(size)
    return mean.to(x.dtype)[:, None, None, None].expand(n, 1, height, width)


class Discriminator(nn.Module):
    """Real or restored? (N, 3, S, S) RGB in [-1, 1] -> logits (N, 1).

    Args:
        channels: widths at 4, 8, ..., S (`channel_table`).
        std_dev_group: pictures a group of the minibatch statistic; None is the whole batch, as published.
    """

    def __init__(self, channels: tuple[int, ...], *, std_dev_group: int | None = None) -> None:
        super().__init__()
        widths = channels[::-1]
        blocks: list[nn.Module] = [ConvLayer(3, widths[0], 1)]
        blocks += [ResBlock(a, b) for a, b in itertools.pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)
        self.final_conv = ConvLayer(channels[0] + 1, channels[0], 3)
        self.hidden = EqualLinear(channels[0] * 16, channels[0], activate=True)
        self.logit = EqualLinear(channels[0], 1)
        self.std_dev_group = std_dev_group

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, C, 4, 4): the picture before the minibatch statistic."""
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.final_conv(torch.cat((x, std_dev_channel(x, self.std_dev_group)), dim=1))
        logits: Tensor = self.logit(self.hidden(x.float().flatten(1)))
        return logits
