"""The synthesis network, and the whole GPEN model over either encoder (GPEN notes, sections 4 to 6)."""

from __future__ import annotations

import copy
import itertools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.gpen import ops
from gpenvideo.gpen.config import GPENConfig
from gpenvideo.gpen.encoder import ResNetEncoder, StridedEncoder, fold_batch_norm
from gpenvideo.gpen.layers import EqualLinear, StyledConv, ToRGB, cast_convs, fold_gains, gaussian

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

    def forward(self, w: Tensor, skips: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Styles and skips -> (N, 3, S, S) float32, not clamped.

        `w` is (N, D), or (N, n_latent, D) with one style a layer. `skips` holds a pair a resolution from
        4 up: what the first and the second convolution there are given (at 4 px only the first is used).
        """
        latents = w[:, None].expand(-1, 2 * len(self.to_rgbs), -1) if w.ndim == 2 else w
        x = self.constant.expand(w.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, latents[:, 0], skips[0][0])
        image: Tensor = self.to_rgbs[0](x, latents[:, 1])
        for level in range(1, len(self.to_rgbs)):
            index = 2 * level - 1  # an RGB layer shares its style with the next up-sampling convolution
            x = self.convs[index](x, latents[:, index], skips[level][0])
            x = self.convs[index + 1](x, latents[:, index + 1], skips[level][1])
            image = self.to_rgbs[level](x, latents[:, index + 2]) + ops.upsample_rgb(image)
        return image


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
        skips = [(feature, feature) for feature in features]
        n = x.shape[0]
        for index in range(0, 2 * (self.config.levels - len(skips)), 2):
            pair = (self.get_buffer(f"noise_{index + i}").expand(n, -1, -1, -1) for i in (0, 1))
            skips.append((next(pair), next(pair)))
        return skips, z

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
        if self.config.residual:
            size = image.shape[2:]
            picture = x.float()
            if picture.shape[2:] != size:
                picture = F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
            image = image + picture
        return image


def for_inference(model: GPEN, dtype: torch.dtype = torch.float32) -> GPEN:
    """A copy of `model` that runs fastest: gains and norms folded, convolutions in `dtype`, channels_last.

    The copy is in evaluation mode, without gradients, and no longer in any checkpoint's form.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norm(model)
    fold_gains(model)
    cast_convs(model, dtype)
    model.to(memory_format=torch.channels_last)
    for conv in model.synthesis.convs:
        assert isinstance(conv, StyledConv)
        conv.lay_out()
    return model
