"""The network against the original code's own numbers (golden vectors of the shared data)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.naive import NaiveGPEN
from gpenvideo.gpen import GPEN, Discriminator, GPENConfig, channel_table
from gpenvideo.gpen.fused import FusedGPEN
from gpenvideo.gpen.generator import for_inference
from gpenvideo.gpen.published import (
    config_from_shapes,
    discriminator_names,
    from_published,
    generator_names,
    to_published,
)

TOLERANCE = 2e-5
RMS = {  # of the original computed wholly in that precision: gpen/README.md of the shared data
    "A": {torch.float16: 8.8e-4, torch.bfloat16: 8.9e-3},
    "B": {torch.float16: 4.7e-4, torch.bfloat16: 5.0e-3},
}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    tensors = {
        key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()
    }
    with safe_open(path, "pt") as file:
        return tensors, json.loads(file.metadata()["info"])


def golden_model(tensors: dict[str, Tensor]) -> GPEN:
    state = {key[6:]: value for key, value in tensors.items() if key.startswith("param.")}
    config = config_from_shapes({key: tuple(value.shape) for key, value in state.items()})
    model = GPEN(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(from_published(state, generator_names(config), shapes))
    return model.eval().requires_grad_(False)


def thinned(tensor: Tensor, n: int) -> Tensor:
    step = max(1, tensor.shape[2] // n)
    return tensor[..., step // 2 :: step, step // 2 :: step] if step > 1 else tensor


def close(ours: Tensor, golden: Tensor) -> None:
    torch.testing.assert_close(ours.float(), golden, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["A", "B"])
@pytest.mark.parametrize("folded", [False, True])
def test_every_stored_value_of_the_original(shared: Path, name: str, folded: bool) -> None:
    tensors, _ = read(shared / "gpen" / f"gpen_{name}.safetensors")
    model = golden_model(tensors)
    if folded:
        model = for_inference(model)
    seen: dict[str, Tensor] = {}
    levels = model.config.levels
    for index, stage in enumerate(model.encoder.stages):
        stage.register_forward_hook(lambda m, a, out, k=f"enc.{index}": seen.__setitem__(k, out.clone()))
    for index, conv in enumerate(model.synthesis.convs):
        key = f"gen.convs.{index - 1}" if index else "gen.conv1"
        conv.register_forward_hook(lambda m, a, out, k=key: seen.__setitem__(k, out.clone()))
    skips, z = model.encode(tensors["input"])
    w = model.mapper(z)
    output = model.synthesis(w, skips)
    close(output, tensors["output"])
    close(model(tensors["input"]), tensors["output"])
    close(z, tensors["z"])
    close(w, tensors["w"])
    stored = [key for key in tensors if key.startswith(("enc.", "gen."))]
    assert len(stored) == 2 * levels + levels - 1
    for key in stored:
        close(thinned(seen[key], 16 if key.startswith("enc") else 8), tensors[key])


@pytest.mark.parametrize("name", ["A", "B"])
def test_rgb_sums_of_the_original(shared: Path, name: str) -> None:
    tensors, _ = read(shared / "gpen" / f"gpen_{name}.safetensors")
    model = golden_model(tensors)
    skips, z = model.encode(tensors["input"])
    w, levels = model.mapper(z), model.config.levels
    stored = [key for key in tensors if key.startswith("skip.")]
    assert stored
    for level in range(levels):
        key = f"skip.{4 << level}"
        if key in tensors:
            short = golden_model(tensors).synthesis
            short.to_rgbs = short.to_rgbs[: level + 1]
            close(thinned(short(w, skips), 64), tensors[key])
            stored.remove(key)
    assert not stored


@pytest.mark.parametrize("name", ["A", "B"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_is_as_good_as_the_original_in_it(
    shared: Path, name: str, dtype: torch.dtype
) -> None:
    tensors, _ = read(shared / "gpen" / f"gpen_{name}.safetensors")
    output = for_inference(golden_model(tensors), dtype)(tensors["input"])
    assert output.dtype == torch.float32
    rms = (output - tensors["output"]).square().mean().sqrt().item()
    assert 0 < rms <= 3 * RMS[name][dtype]


def agreement_db(output: Tensor, exact: Tensor) -> float:
    """PSNR over the range of pictures, [-1, 1]."""
    return float(20 * torch.log10(2 / (output - exact).square().mean().sqrt()))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["A", "B"])
def test_half_precision_keeps_60_db(shared: Path, name: str, fused: bool) -> None:
    tensors, _ = read(shared / "gpen" / f"gpen_{name}.safetensors")
    network = for_inference(golden_model(tensors), torch.float16)
    output = (FusedGPEN(network) if fused else network)(tensors["input"])
    assert 60 <= agreement_db(output, tensors["output"]) < 100


@pytest.mark.parametrize("fused", [False, True])
def test_half_precision_keeps_60_db_at_512_px(fused: bool) -> None:
    """Weights as the golden ones were drawn, and a sixteenth of the channels."""
    model = GPEN(GPENConfig(512, 512, channel_table(512, 2, 1 / 16))).eval().requires_grad_(False)
    for key, parameter in model.named_parameters():
        if key.endswith("skip_gain"):
            parameter.uniform_(0.3, 0.9).mul_(1 if torch.rand(1) < 0.5 else -1)
        elif key.endswith("modulation.bias"):
            parameter.normal_(1, 0.2)
        elif key.endswith("bias"):
            parameter.normal_(0, 15 if key.startswith("mapper") else 0.15)
        elif key.startswith("synthesis.to_rgbs") and "modulation" not in key:
            parameter.mul_(0.3)
    x = F.interpolate(torch.rand(1, 3, 16, 16) * 2 - 1, size=512, mode="bicubic").clamp(-1, 1)
    network = for_inference(model, torch.float16)
    exact, output = for_inference(model)(x), (FusedGPEN(network) if fused else network)(x)
    assert exact.std() > 0.1  # a picture with something in it
    assert 60 <= agreement_db(output, exact) < 100


def test_styles_in_one_product_are_the_same_styles() -> None:
    config = GPENConfig(32, 32, (24, 16, 12, 8), style_dim=20, mapping_layers=2)
    model = GPEN(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    w = torch.randn(3, 20)
    (convs, rgbs), (packed_convs, packed_rgbs) = (
        network.synthesis.styles(w) for network in (model, for_inference(model))
    )
    for (unit, scale), (packed_unit, packed_scale) in zip(convs, packed_convs, strict=True):
        torch.testing.assert_close(packed_unit, unit, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(packed_scale, scale, rtol=1e-4, atol=1e-6)
    for style, packed in zip(rgbs, packed_rgbs, strict=True):
        torch.testing.assert_close(packed, style, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("concat", [True, False])
def test_a_naive_transcription_of_the_formulas_agrees(concat: bool) -> None:
    """One weight a sample and zero insertion, against scaled activations and a depthwise low-pass."""
    config = GPENConfig(64, 64, (24, 24, 16, 12, 8), style_dim=32, mapping_layers=3, concat=concat)
    model = GPEN(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    naive = NaiveGPEN(config.channels, 32, 3, concat).eval()
    naive.load_state_dict(to_published(model.state_dict(), config))
    x = torch.rand(3, 3, 64, 64) * 2 - 1
    close(model(x), naive(x).detach())
    close(for_inference(model)(x), naive(x).detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_styles_of_any_size_are_safe_in_half_precision(dtype: torch.dtype, factor: float) -> None:
    config = GPENConfig(64, 64, (24, 24, 16, 12, 8), style_dim=32, mapping_layers=3)
    model = GPEN(config).eval().requires_grad_(False)
    for conv in model.synthesis.convs:  # demodulation takes the factor out again
        conv.modulation.weight.mul_(factor)
        conv.modulation.bias.mul_(factor)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    exact, reduced = model(x), for_inference(model, dtype)(x)
    rms = (exact - reduced).square().mean().sqrt()
    assert rms < 0.02 * exact.std()


def test_noise_above_the_input_size_is_the_same_every_time() -> None:
    config = GPENConfig(16, 64, (8, 8, 6, 4, 4), style_dim=16, mapping_layers=2)
    torch.manual_seed(3)
    model = GPEN(config).eval().requires_grad_(False)
    for conv in model.synthesis.convs:
        conv.skip_gain.fill_(0.5)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    y = model(x)
    assert y.shape == (2, 3, 64, 64)
    assert torch.equal(model(x), y)
    close(model(x[1:]), y[1:])  # whatever the batch
    again = GPEN(config).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), y)
    quiet = GPEN(config).eval()
    quiet.load_state_dict(model.state_dict())
    for conv in quiet.synthesis.convs[-4:]:
        conv.skip_gain.data.zero_()
    assert (quiet(x) - y).abs().max() > 1e-3  # the noise is really there


@pytest.mark.parametrize(
    "config",
    [
        GPENConfig(32, 32, (8, 8, 6, 4), style_dim=16, mapping_layers=2),
        GPENConfig(32, 32, (8, 8, 6, 4), style_dim=16, mapping_layers=2, concat=False),
        GPENConfig(16, 32, (8, 8, 6, 4), style_dim=16, mapping_layers=2),
        GPENConfig(32, 64, (8, 8, 6, 4, 4), 16, 2, encoder="resnet", encoder_width=4, residual=True),
    ],
    ids=["strided", "added", "enlarging", "v2"],
)
def test_torch_compile_traces_the_whole_network(config: GPENConfig) -> None:
    model = for_inference(GPEN(config).eval())
    traced = torch.compile(model, fullgraph=True, backend="eager")
    x = torch.rand(2, 3, config.input_size_px, config.input_size_px) * 2 - 1
    close(traced(x), model(x))


@pytest.mark.parametrize("case", ["same", "resized"])
def test_a_picture_through_the_original_program(shared: Path, case: str) -> None:
    import cv2

    tensors, _ = read(shared / "gpen" / "gpen_A.safetensors")
    bgr = tensors[f"process.{case}.in_bgr_u8"].numpy().astype(np.uint8)
    rgb = cv2.resize(bgr, (64, 64))[..., ::-1]
    x = torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    y = golden_model(tensors)(x)[0].permute(1, 2, 0).numpy() * 0.5 + 0.5
    ours = (np.clip(y, 0, 1) * 255).astype(int)[..., ::-1]
    golden = tensors[f"process.{case}.out_bgr_u8"].numpy().astype(int)
    assert np.abs(ours - golden).max() <= (1 if case == "same" else 2)


@pytest.mark.parametrize("size", [64, 128])
def test_the_discriminator(shared: Path, size: int) -> None:
    tensors, info = read(shared / "gpen" / f"disc_{size}.safetensors")
    state = {key[6:]: value for key, value in tensors.items() if key.startswith("param.")}
    config = info["config"]
    assert isinstance(config, dict)
    channels = channel_table(config["size"], config["channel_multiplier"], config["narrow"])
    model = Discriminator(channels)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(from_published(state, discriminator_names(len(channels)), shapes))
    x = tensors["input"].requires_grad_()
    maps: dict[str, Tensor] = {}
    model.final_conv.register_forward_hook(lambda m, a, out: maps.update(before=a[0], after=out.clone()))
    logits = model(x)
    close(logits, tensors["logits"])
    close(maps["before"][:, :-1], tensors["feat4x4"])
    close(maps["before"][:, -1:], tensors["stddev_map"])
    close(maps["after"], tensors["final_conv"])
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    close(thinned(gradient, 32), tensors["input_grad"])
    penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(penalty, tensors["r1_penalty"].reshape(()), rtol=1e-4, atol=TOLERANCE)
    close(model(tensors["input"][:1]), tensors["logits_first_alone"])
