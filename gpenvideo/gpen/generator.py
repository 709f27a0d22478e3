"""The synthesis network, and the whole GPEN model over either encoder (GPEN notes, sections 4 to 6)."""

from __future__ import annotations

import copy
import itertools
import math
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.gpen import ops
from gpenvideo.gpen.config import GPENConfig
from gpenvideo.gpen.encoder import ResNetEncoder, StridedEncoder, fold_batch_norm
from gpenvideo.gpen.layers import EqualLinear, StyledConv, ToRGB, cast_convs, fold_gains, gaussian
from gpenvideo.gpen.styles import PackedStyles

__all__ = ["GPEN", "Mapping", "MlpMapper", "Synthesis", "for_inference"]

NOISE_SEED = 2021  # of the fixed noise above the input size; the year of the paper


class Mapping(nn.Module):
    """The published style network: PixelNorm, then linear layers at a hundredth of the learning rate."""

    def __init__(self, style_dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EqualLinear(style_dim, style_dim, lr_mul=0.01, activate=True) for _ in range(layers)
        )

    def forward(self, z: Tensor) -> Tensor:
        """(N, D) -> (N, D), float32."""
        w = ops.pixel_norm(z)
        for layer in self.layers:
            w = layer(w)
        return w


class MlpMapper(nn.Module):
    """The v2 mapper: layer norm, then linear layers with leaky ReLU between (two in v2.0)."""

    def __init__(self, style_dim: int, layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(style_dim)
        self.layers = nn.ModuleList(nn.Linear(style_dim, style_dim) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        """(N, D) -> (N, D), float32."""
        w = self.norm(z)
        for index, layer in enumerate(self.layers):
            w = layer(F.leaky_relu(w, 0.2) if index else w)
        style: Tensor = w
        return style


class Synthesis(nn.Module):
    """StyleGAN2's synthesis with encoder skips in the place of noise (Yang et al., CVPR 2021)."""

    def __init__(self, config: GPENConfig) -> None:
        super().__init__()
        channels, style_dim, concat = config.channels, config.style_dim, config.concat
        f = 2 if concat else 1
        self.constant = nn.Parameter(gaussian(1, channels[0], 4, 4))
        convs = [StyledConv(channels[0], channels[0], style_dim, upsample=False, concat=concat)]
        for below, here in itertools.pairwise(channels):
            convs.append(StyledConv(f * below, here, style_dim, upsample=True, concat=concat))
            convs.append(StyledConv(f * here, here, style_dim, upsample=False, concat=concat))
        self.convs = nn.ModuleList(convs)
        self.to_rgbs = nn.ModuleList(ToRGB(f * c, style_dim) for c in channels)
        self.packed_styles: PackedStyles | None = None

    def forward(self, w: Tensor, skips: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Styles and skips -> (N, 3, S, S) float32, not clamped.

        `w` is (N, D), or, before `for_inference`, (N, n_latent, D) with one style a layer. `skips` holds a
        pair a resolution from 4 up: what the first and the second convolution there are given (at 4 px only
        the first is used).
        """
        styles, rgb_styles = self.styles(w)
        x = self.constant.expand(w.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, *styles[0], skips[0][0])
        image: Tensor = self.to_rgbs[0](x, rgb_styles[0])
        for level in range(1, len(self.to_rgbs)):
            index = 2 * level - 1
            x = self.convs[index](x, *styles[index], skips[level][0])
            x = self.convs[index + 1](x, *styles[index + 1], skips[level][1])
            image = self.to_rgbs[level](x, rgb_styles[level]) + ops.upsample_rgb(image)
        return image

    def styles(self, w: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        """What `w`, as `forward` takes it, means to each convolution (`StyledConv.styles`) and RGB layer."""
        if self.packed_styles is not None:
            packed: tuple[list[tuple[Tensor, Tensor]], list[Tensor]] = self.packed_styles(w)
            return packed
        latents = w[:, None].expand(-1, len(self.convs) + 1, -1) if w.ndim == 2 else w
        convs = [conv.styles(latents[:, i]) for i, conv in enumerate(self._convs())]
        # an RGB layer shares its style with the next up-sampling convolution
        rgbs = [rgb.modulation(latents[:, 2 * i + 1]) for i, rgb in enumerate(self._to_rgbs())]
        return convs, rgbs

    def pack_styles(self) -> None:
        """Replace the modulations of folded layers by one product: for inference only."""
        convs, rgbs = self._convs(), self._to_rgbs()
        self.packed_styles = PackedStyles(convs, rgbs)
        for layer in (*convs, *rgbs):
            del layer.modulation

    def _convs(self) -> list[StyledConv]:
        return cast(list[StyledConv], list(self.convs))

    def _to_rgbs(self) -> list[ToRGB]:
        return cast(list[ToRGB], list(self.to_rgbs))


class GPEN(nn.Module):
    """The whole network: encoder, mapper, synthesis.

    Args:
        config: the architecture.
        batch_norm: build the resnet encoder with batch norm, for training; a loaded model has it folded.
    """

    def __init__(self, config: GPENConfig, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.config = config
        self.encoder: StridedEncoder | ResNetEncoder
        self.mapper: Mapping | MlpMapper
        if config.encoder == "strided":
            self.encoder = StridedEncoder(config)
            self.mapper = Mapping(config.style_dim, config.mapping_layers)
        else:
            self.encoder = ResNetEncoder(config, batch_norm=batch_norm)
            self.mapper = MlpMapper(config.style_dim, config.mapping_layers)
        self.synthesis = Synthesis(config)
        if (
            config.encoder == "resnet"
        ):  # there are no noise weights to take over, as GPEN had: skips count at once
            for conv in self.synthesis.convs:
                assert isinstance(conv, StyledConv)
                nn.init.ones_(conv.skip_gain)
        if config.residual:  # training starts from the picture itself
            for rgb in self.synthesis.to_rgbs:
                assert isinstance(rgb, ToRGB)
                nn.init.zeros_(rgb.weight)
        for index, noise in enumerate(self._noise()):
            self.register_buffer(f"noise_{index}", noise, persistent=False)

    def _noise(self) -> list[Tensor]:
        """What the published network draws anew above its input size, drawn once: the same for every face."""
        if self.config.encoder != "strided":
            return []
        levels = range(int(math.log2(self.config.input_size_px)) - 1, self.config.levels)
        shapes = [
            (1, self.config.channels[level], 4 << level, 4 << level) for level in levels for _ in (0, 1)
        ]
        random = torch.Generator().manual_seed(NOISE_SEED)
        return [torch.randn(shape, generator=random, device="cpu") for shape in shapes]

    def encode(self, x: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """(N, 3, S, S) RGB in [-1, 1] -> the skips the synthesis takes, and z (N, style_dim) float32."""
        features, z = self.encoder(x)
        return [(feature, feature) for feature in features] + self.noise(len(x), len(features)), z

    def noise(self, n: int, level: int) -> list[tuple[Tensor, Tensor]]:
        """What `n` faces are given instead of features from resolution 4 << `level` up."""
        pairs = range(0, 2 * (self.config.levels - level), 2)
        noise = [[self.get_buffer(f"noise_{i + j}").expand(n, -1, -1, -1) for j in (0, 1)] for i in pairs]
        return [(first, second) for first, second in noise]

    def forward(self, x: Tensor) -> Tensor:
        """Restore aligned faces: (N, 3, S, S) RGB in [-1, 1] -> (N, 3, S', S') float32, not clamped.

        S is `config.input_size_px`, S' `config.output_size_px`; device and dtype of `x` are the model's.
        """
        expected = (3, self.config.input_size_px, self.config.input_size_px)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(f"expected (N, {', '.join(map(str, expected))}), got {tuple(x.shape)}")
        x = x.contiguous(memory_format=torch.channels_last)
        skips, z = self.encode(x)
        image: Tensor = self.synthesis(self.mapper(z), skips)
        return self.added(x, image) if self.config.residual else image

    @staticmethod
    def added(x: Tensor, image: Tensor) -> Tensor:
        """The input (N, 3, S, S), enlarged where it is smaller, plus what the synthesis adds to it."""
        size, picture = image.shape[2:], x.float()
        if picture.shape[2:] != size:
            picture = F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
        return image + picture


def for_inference(model: GPEN, dtype: torch.dtype = torch.float32) -> GPEN:
    """A copy of `model` that runs fastest: gains and norms folded, convolutions in `dtype`, channels_last.

    The copy is in evaluation mode, without gradients, and no longer in any checkpoint's form.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norm(model)
    fold_gains(model)
    model.synthesis.pack_styles()
    cast_convs(model, dtype)
    model.to(memory_format=torch.channels_last)
    for conv in model.synthesis.convs:
        assert isinstance(conv, StyledConv)
        conv.lay_out()
    return model
