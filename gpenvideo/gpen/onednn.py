"""The network for a CPU with oneDNN: one face at a time, a layer's whole work in its convolution.

Layer by layer half of the time goes into passes over memory between the convolutions, not into them. Here

- a style scales the convolution's weights, which for one face are less than its picture, and not what goes
  in and what comes out;
- bias, activation and sums are oneDNN's post-operations, done while the results are still in registers; the
  low-pass after an up-sampling is a convolution that takes them too;
- what the encoder's feature becomes as a skip (gain, bias, activation) is folded into its projection.

One face at a time: a batch gains nothing on a CPU, and a face's result does not depend on its company.

The post-operations are torch's own for compiled networks, not public ones: `has_post_operations` tells
whether they are there; where they are not, the plain network runs.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.gpen import ops
from gpenvideo.gpen.encoder import Bottleneck, NormConv, ResNetEncoder, StridedEncoder
from gpenvideo.gpen.generator import GPEN
from gpenvideo.gpen.layers import ConvLayer, StyledConv, ToRGB

__all__ = ["OneDnnGPEN", "has_post_operations"]

Skips = list[list[Tensor]]  # by level, for each of its convolutions


def has_post_operations(dtype: torch.dtype) -> bool:
    """Is torch built with oneDNN for this processor, with the operations used here, in this dtype?"""
    if platform.machine() not in ("x86_64", "AMD64") or not torch._C._has_mkldnn:
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    half = dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32 or half


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A convolution with its bias, in the dtype it is computed in, channels_last."""

    weight: Tensor
    bias: Tensor | None
    padding: int = 0
    stride: int = 1
    groups: int = 1

    def __call__(self, x: Tensor, activation: str = "none", add: Tensor | None = None) -> Tensor:
        """(1, C, H, W) -> (1, O, H', W'): "none", "relu" or "leaky_relu" (0.2), of the sum with `add`."""
        given = x, self.weight, self.bias
        shape = [self.padding] * 2, [self.stride] * 2, [1, 1], self.groups
        operation = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            slopes = [0.2] if activation == "leaky_relu" else []
            y: Tensor = operation(*given, *shape, activation, slopes, "")
            return y
        after = "relu" if activation == "relu" else None  # the only one that oneDNN takes after a sum
        total: Tensor = operation.binary(given[0], add, *given[1:], *shape, "add", 1.0, after, [], None)
        return ops.leaky_relu(total) if activation == "leaky_relu" else total


class OneDnnGPEN(nn.Module):
    """A network made `for_inference` in float32, computed as the module says; answers as `GPEN.forward` does.

    Args:
        model: its parameters are copied where they are folded, else shared.
        dtype: of the convolutions, float32 or bfloat16.
    """

    def __init__(self, model: GPEN, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self._dtype = model, dtype
        self._convs = [_Styled(conv, dtype) for conv in model.synthesis.convs if isinstance(conv, StyledConv)]
        self._rgbs = [_Colours(rgb, dtype) for rgb in model.synthesis.to_rgbs if isinstance(rgb, ToRGB)]
        self._constant = _laid_out(model.synthesis.constant, dtype)
        encoder = model.encoder
        convs = [module for module in encoder.modules() if isinstance(module, (NormConv, ConvLayer))]
        self._encoders = {id(conv): _encoding(conv, dtype) for conv in convs}
        self._projections = self._folded(encoder) if isinstance(encoder, ResNetEncoder) else []

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in [-1, 1] -> (N, 3, S', S') float32, not clamped."""
        x = x.contiguous(memory_format=torch.channels_last)
        done = [self._restored(x[index : index + 1]) for index in range(len(x))]
        return torch.cat(done) if len(done) > 1 else done[0]

    def _restored(self, x: Tensor) -> Tensor:
        encoder = self.model.encoder
        if isinstance(encoder, ResNetEncoder):
            skips, z = self._encoded(encoder, x.to(self._dtype))
        else:
            skips, z = self._encoded_strided(encoder, x.to(self._dtype))
        image = self._synthesized(self.model.mapper(z), skips)
        return self.model.added(x, image) if self.model.config.residual else image

    def _level(self, level: int) -> list[_Styled]:
        """The convolutions of a resolution."""
        return self._convs[max(0, 2 * level - 1) : 2 * level + 1]

    def _folded(self, encoder: ResNetEncoder) -> list[Conv]:
        """A projection a level, for all its convolutions: gains and biases of their skips are folded in."""
        folded = []
        for level, projection in enumerate(encoder.projections):
            assert isinstance(projection, nn.Conv2d)
            assert projection.bias is not None
            gains = [conv.gain for conv in self._level(level)]
            biases = [conv.skip_bias for conv in self._level(level)]
            weight = torch.cat([projection.weight.float() * gain for gain in gains])
            bias = torch.cat(
                [projection.bias.float() * gain + bias for gain, bias in zip(gains, biases, strict=True)]
            )
            folded.append(Conv(_laid_out(weight, self._dtype), bias.to(self._dtype)))
        return folded

    def _encoded(self, encoder: ResNetEncoder, x: Tensor) -> tuple[Skips, Tensor]:
        def conv(
            module: nn.Module | None, x: Tensor, activation: str = "none", add: Tensor | None = None
        ) -> Tensor:
            return x if module is None else self._encoders[id(module)](x, activation, add)

        features = [conv(encoder.stem, x, "relu"), conv(encoder.conv1, x, "relu")]
        y = F.max_pool2d(features[-1], 3, 2, 1)
        for stage in encoder.stages:
            for block in stage:  # type: ignore[attr-defined]
                assert isinstance(block, Bottleneck)
                inner = conv(block.conv2, conv(block.conv1, y, "relu"), "relu")
                y = conv(block.conv3, inner, "relu", conv(block.shortcut, y))
            features.append(y)
        z: Tensor = encoder.head(y.float().mean(dim=(2, 3)))
        skips: Skips = []
        for level, (source, projection) in enumerate(zip(encoder.sources, self._projections, strict=True)):
            size_px, feature = 4 << level, features[source]
            if feature.shape[2] > size_px:
                feature = F.avg_pool2d(feature, feature.shape[2] // size_px)
            skip = projection(feature, "leaky_relu" if self.model.config.concat else "none")
            if skip.shape[2] < size_px:
                skip = F.interpolate(skip, size=(size_px, size_px), mode="nearest")
            skips.append(list(skip.chunk(len(self._level(level)), dim=1)))
        return skips, z

    def _encoded_strided(self, encoder: StridedEncoder, x: Tensor) -> tuple[Skips, Tensor]:
        features: list[Tensor] = []
        for stage in encoder.stages:
            assert isinstance(stage, ConvLayer)
            x = ops.blur(x, pad=(stage.weight.shape[2] + 1) // 2) if stage.downsample else x
            x = self._encoders[id(stage)](x, "leaky_relu")
            features.append(x)
        z: Tensor = encoder.head(x.float().flatten(1))
        given = [(feature, feature) for feature in features[::-1]] + self.model.noise(1, len(features))
        skips = [
            [conv.skip(feature) for conv, feature in zip(self._level(level), pair, strict=False)]
            for level, pair in enumerate(given)
        ]
        return skips, z

    def _synthesized(self, w: Tensor, skips: Skips) -> Tensor:
        styles, rgb_styles = self.model.synthesis.styles(w)
        x, image = self._constant, None
        pairs = iter(styles)
        for level, (colours, style) in enumerate(zip(self._rgbs, rgb_styles, strict=True)):
            for conv, skip in zip(self._level(level), skips[level], strict=True):
                x = conv(x, *next(pairs), skip)
            image = colours(x, style, image)
        assert image is not None
        return image


class _Styled:
    """A modulated convolution and all that follows it, for one face."""

    def __init__(self, conv: StyledConv, dtype: torch.dtype) -> None:
        outputs = conv.weight.shape[0]
        bias = ops.SQRT2 * conv.scaled_bias().float()
        self.gain = ops.SQRT2 * conv.skip_gain.float()
        self.skip_bias = bias[-outputs:] if conv.concat else torch.zeros(outputs)
        self._bias = bias[:outputs].to(dtype)
        self._weight, self._dtype = conv.weight.float(), dtype
        self._upsample, self._concat = conv.upsample, conv.concat
        if conv.upsample:
            self._weight = self._weight.transpose(0, 1).contiguous()
            taps = torch.tensor(ops.FIR_TAPS)
            kernel = (torch.outer(taps, taps) / 16).to(dtype).expand(outputs, 1, 4, 4).contiguous()
            self._low_pass = Conv(kernel, self._bias, padding=1, groups=outputs)
        ones = self.gain.to(dtype).expand(outputs, 1, 1, 1).contiguous()
        self._skip = Conv(ones, self.skip_bias.to(dtype), groups=outputs)

    def skip(self, feature: Tensor) -> Tensor:
        """What an encoder's feature (1, O, H, W) is to this convolution."""
        return self._skip(feature.to(self._dtype), "leaky_relu" if self._concat else "none")

    def __call__(self, x: Tensor, unit: Tensor, scale: Tensor, skip: Tensor) -> Tensor:
        """x (1, I, H, W), `StyledConv.styles`, `skip` (1, O, H', W') -> (1, f·O, H', W')."""
        add = None if self._concat else skip
        if self._upsample:
            weight = self._weight * (unit[0][:, None] * scale)[:, :, None, None]
            x = F.conv_transpose2d(x, _laid_out(weight, self._dtype), stride=2)
            x = self._low_pass(x, "leaky_relu", add)
        else:
            weight = self._weight * (scale[0][:, None] * unit)[:, :, None, None]
            x = Conv(_laid_out(weight, self._dtype), self._bias, padding=1)(x, "leaky_relu", add)
        return torch.cat((x, skip), dim=1) if self._concat else x


class _Colours:
    """The colours of a level, added to those of the one before, for one face."""

    def __init__(self, rgb: ToRGB, dtype: torch.dtype) -> None:
        self._weight, self._dtype = rgb.scaled_weight().float(), dtype
        self._bias = rgb.scaled_bias().float()[:, None, None]
        taps = torch.tensor(ops.FIR_TAPS)
        self._low_pass = (torch.outer(taps, taps) / 16).expand(3, 1, 4, 4).contiguous()

    def __call__(self, x: Tensor, style: Tensor, smaller: Tensor | None) -> Tensor:
        """x (1, I, H, W), style (1, I) float32, the image (1, 3, H / 2, W / 2) -> (1, 3, H, W) float32."""
        weight = (style * self._weight)[:, :, None, None]
        colours = Conv(_laid_out(weight, self._dtype), None)(x)
        if smaller is None:
            return colours.float() + self._bias
        image = F.conv_transpose2d(smaller, self._low_pass, stride=2, padding=1, groups=3)
        return image.add_(self._bias).add_(colours)


def _encoding(conv: NormConv | ConvLayer, dtype: torch.dtype) -> Conv:
    assert conv.bias is not None
    weight, bias = _laid_out(conv.weight, dtype), conv.bias.to(dtype)
    if isinstance(conv, NormConv):
        return Conv(weight, bias, int(conv.padding[0]), int(conv.stride[0]))
    return Conv(weight, bias, 0 if conv.downsample else weight.shape[2] // 2, 2 if conv.downsample else 1)


def _laid_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)
