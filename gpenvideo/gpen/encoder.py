"""The two encoders: a picture in, one skip feature a resolution and a global vector out."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.gpen.config import GPENConfig
from gpenvideo.gpen.layers import ConvLayer, EqualLinear, gaussian

__all__ = ["NormConv", "ResNetEncoder", "StridedEncoder", "fold_batch_norm"]


class StridedEncoder(nn.Module):
    """The published encoder (GPEN notes, section 5): strided convolutions to 4x4, then a linear layer."""

    def __init__(self, config: GPENConfig) -> None:
        super().__init__()
        sizes = [config.input_size_px >> i for i in range(int(math.log2(config.input_size_px)) - 1)]
        widths = [config.channels_at(size) for size in sizes]
        stages = [ConvLayer(3, widths[0], 1)]
        stages += [ConvLayer(a, b, 3, downsample=True) for a, b in itertools.pairwise(widths)]
        self.stages = nn.ModuleList(stages)
        self.head = EqualLinear(widths[-1] * 16, config.style_dim, activate=True)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """(N, 3, S, S) -> features at 4, 8, ..., S (in the synthesis' channels), vector (N, style_dim)."""
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        z: Tensor = self.head(x.float().flatten(1))  # C, H, W order: flatten of a logical NCHW tensor
        return features[::-1], z


class NormConv(nn.Conv2d):
    """A convolution followed by batch norm while training, or with the norm folded into weight and bias."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, batch_norm: bool
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(out_channels) if batch_norm else None
        std = math.sqrt(2.0 / (out_channels * kernel**2))  # He et al. 2015, by fan-out
        self.weight.data = gaussian(*self.weight.shape, std=std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.to(self.weight.dtype))
        return y if self.norm is None else self.norm(y)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the norm's evaluation statistics into weight and bias; does nothing twice."""
        if self.norm is None:
            return
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
        self.weight.copy_(self.weight.double() * scale[:, None, None, None])
        self.bias = nn.Parameter(
            (norm.bias.double() - norm.running_mean.double() * scale).to(norm.bias.dtype)
        )
        self.norm = None


class Bottleneck(nn.Module):
    """ResNet's 1x1, 3x3, 1x1 block with the stride on the 3x3, as torchvision has it (He et al. 2016)."""

    def __init__(self, in_channels: int, width: int, stride: int, *, batch_norm: bool) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = NormConv(in_channels, width, 1, batch_norm=batch_norm)
        self.conv2 = NormConv(width, width, 3, stride, batch_norm=batch_norm)
        self.conv3 = NormConv(width, out_channels, 1, batch_norm=batch_norm)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = (
            None if same else NormConv(in_channels, out_channels, 1, stride, batch_norm=batch_norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x), inplace=True)
        y = F.relu(self.conv2(y), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.conv3(y) + shortcut, inplace=True)


class ResNetEncoder(nn.Module):
    """The v2 encoder: a ResNet (width 64 and blocks 3, 4, 6, 3 make ResNet-50) with a feature at every size.

    The input resolution has a small stem of its own, S/2 the 7x7 convolution, S/4 to S/32 the residual
    stages; smaller resolutions are averages of the last stage, larger ones (output above
    input) are the stem's feature enlarged. A 1x1 projection a resolution gives the synthesis its channels.
    """

    def __init__(self, config: GPENConfig, *, batch_norm: bool) -> None:
        super().__init__()
        width = config.encoder_width
        stem_width = max(8, width // 2)
        self.stem = NormConv(3, stem_width, 3, batch_norm=batch_norm)
        self.conv1 = NormConv(3, width, 7, 2, batch_norm=batch_norm)
        widths = [stem_width, width]
        stages = []
        for index, blocks in enumerate(config.encoder_blocks):
            inner = width << index
            block_in = [widths[-1]] + [4 * inner] * (blocks - 1)
            stages.append(
                nn.Sequential(
                    *(
                        Bottleneck(c, inner, 2 if index and not i else 1, batch_norm=batch_norm)
                        for i, c in enumerate(block_in)
                    )
                )
            )
            widths.append(4 * inner)
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(widths[-1], config.style_dim)
        sizes = [4 << level for level in range(config.levels)]
        self.sources = [self._source(size, config.input_size_px, len(widths)) for size in sizes]
        self.projections = nn.ModuleList(
            nn.Conv2d(widths[source], config.channels_at(size), 1)
            for source, size in zip(self.sources, sizes, strict=True)
        )

    @staticmethod
    def _source(size_px: int, input_size_px: int, features: int) -> int:
        """Which feature (0: full size, 1: half size, ...) serves the synthesis at `size_px`."""
        return min(
            max(int(math.log2(input_size_px // size_px)) if size_px < input_size_px else 0, 0), features - 1
        )

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """(N, 3, S, S) -> projected features at 4, 8, ..., output size, vector (N, style_dim) float32."""
        features = [F.relu(self.stem(x), inplace=True), F.relu(self.conv1(x), inplace=True)]
        y = F.max_pool2d(features[-1], 3, 2, 1)
        for stage in self.stages:
            y = stage(y)
            features.append(y)
        z: Tensor = self.head(y.float().mean(dim=(2, 3)))
        skips = []
        for level, (source, projection) in enumerate(zip(self.sources, self.projections, strict=True)):
            assert isinstance(projection, nn.Conv2d)
            size_px, feature = 4 << level, features[source]
            if feature.shape[2] > size_px:
                feature = F.avg_pool2d(feature, feature.shape[2] // size_px)
            feature = projection(feature.to(projection.weight.dtype))  # before enlarging: it is linear
            if feature.shape[2] < size_px:
                feature = F.interpolate(feature, size=(size_px, size_px), mode="nearest")
            skips.append(feature)
        return skips, z


def fold_batch_norm(model: nn.Module) -> None:
    """Fold every batch norm of `model` into its convolution, in place ("BN stripped")."""
    for module in model.modules():
        if isinstance(module, NormConv):
            module.fold()
