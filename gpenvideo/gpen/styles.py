"""All styles of a synthesis at once, for inference: one w serves every layer (GPEN notes, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.gpen import ops
from gpenvideo.gpen.layers import StyledConv, ToRGB

__all__ = ["PackedStyles"]


class PackedStyles(nn.Module):
    """The modulations of all layers as one product, and their demodulations as one batched product.

    Layer by layer they are a dozen operations each, none of them long enough to fill a machine. Layers of
    different widths share a batch padded with zeros, which change no sum.
    """

    weight: Tensor
    bias: Tensor
    entries: Tensor
    power: Tensor

    def __init__(self, convs: Sequence[StyledConv], rgbs: Sequence[ToRGB]) -> None:
        super().__init__()
        linears = [*(conv.modulation for conv in convs), *(rgb.modulation for rgb in rgbs)]
        self.widths = [linear.weight.shape[0] for linear in linears]
        self.outputs = [conv.weight.shape[0] for conv in convs]
        total, widest = sum(self.widths), max(self.widths)
        zero = torch.zeros_like(linears[0].weight[:1])
        entries = torch.full((len(linears), widest), total)  # the entry behind the last is always 0
        power = torch.zeros(len(convs), widest, max(self.outputs))
        start = 0
        for index, width in enumerate(self.widths):
            entries[index, :width] = torch.arange(start, start + width)
            start += width
        for index, conv in enumerate(convs):
            assert conv.power is not None
            power[index, : self.widths[index], : self.outputs[index]] = conv.power.T
        self.register_buffer("weight", torch.cat([*(linear.weight for linear in linears), zero]).detach())
        biases = [*(linear.scaled_bias() for linear in linears), zero[0, :1]]
        self.register_buffer("bias", torch.cat(biases).detach())
        self.register_buffer("entries", entries)
        self.register_buffer("power", power)

    def forward(self, w: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        """w (N, D) float32 -> `StyledConv.styles` of every convolution, the style of every RGB layer."""
        convs = len(self.outputs)
        styles = F.linear(w, self.weight, self.bias)[:, self.entries]  # (N, layers, widest)
        style = styles[:, :convs]
        peak = style.abs().amax(dim=2, keepdim=True).clamp_min(1e-8)
        unit = style / peak
        power = torch.bmm(style.square().transpose(0, 1), self.power).transpose(0, 1)
        scale = (ops.SQRT2 * peak) * torch.rsqrt(power + 1e-8)  # (N, convs, most outputs)
        pairs = [
            (unit[:, index, :width], scale[:, index, :outputs])
            for index, (width, outputs) in enumerate(zip(self.widths[:convs], self.outputs, strict=True))
        ]
        return pairs, [styles[:, convs + i, :width] for i, width in enumerate(self.widths[convs:])]
