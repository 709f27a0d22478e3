"""The fused network: plain torch against the network it stands for, Triton against plain torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gpenvideo.gpen import GPEN, GPENConfig
from gpenvideo.gpen.fused import FusedGPEN, has_kernels
from gpenvideo.gpen.generator import for_inference
from gpenvideo.gpen.onednn import OneDnnGPEN, has_post_operations

CASES = Path(__file__).with_name("triton_cases.py")
CONFIGS = [
    GPENConfig(32, 32, (8, 8, 6, 4), style_dim=16, mapping_layers=2),
    GPENConfig(32, 32, (8, 8, 6, 4), style_dim=16, mapping_layers=2, concat=False),
    GPENConfig(16, 32, (8, 8, 6, 4), style_dim=16, mapping_layers=2),
    GPENConfig(32, 64, (8, 8, 6, 4, 4), 16, 2, encoder="resnet", encoder_width=4, residual=True),
]
NAMES = ["strided", "added", "enlarging", "v2"]


def network(config: GPENConfig) -> GPEN:
    model = GPEN(config).eval().requires_grad_(False)
    spread = (
        0.2 if config.encoder == "strided" else 0.05
    )  # more, and its untrained ResNet leaves half precision
    for parameter in model.parameters():
        parameter.add_(spread * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_the_fused_network_is_the_same_network(config: GPENConfig) -> None:
    model = network(config)
    x = torch.rand(3, 3, config.input_size_px, config.input_size_px) * 2 - 1
    expected, fused = model(x), FusedGPEN(for_inference(model))
    torch.testing.assert_close(fused(x), expected, rtol=0, atol=2e-5)
    traced = torch.compile(fused, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(x), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_the_network_of_one_dnn_is_the_same_network(config: GPENConfig) -> None:
    if not has_post_operations(torch.float32):
        pytest.skip("torch has no oneDNN on this processor")
    model = network(config)
    x = torch.rand(3, 3, config.input_size_px, config.input_size_px) * 2 - 1
    folded = OneDnnGPEN(for_inference(model), torch.float32)
    torch.testing.assert_close(folded(x), model(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_bfloat16_with_styles_in_the_weights_is_as_near_as_without(config: GPENConfig) -> None:
    if not has_post_operations(torch.bfloat16):
        pytest.skip("this processor has no bfloat16")
    model = network(config)
    x = torch.rand(2, 3, config.input_size_px, config.input_size_px) * 2 - 1
    exact, apart = model(x), for_inference(model, torch.bfloat16)(x)
    folded = OneDnnGPEN(for_inference(model), torch.bfloat16)(x)
    assert 0 < (folded - exact).square().mean() <= 2 * (apart - exact).square().mean()


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_half_precision_loses_nothing_by_being_fused(config: GPENConfig) -> None:
    model = network(config)
    x = torch.rand(2, 3, config.input_size_px, config.input_size_px) * 2 - 1
    half = for_inference(model, torch.float16)
    exact, apart, fused = model(x), half(x), FusedGPEN(half)(x)
    assert 0 < (fused - exact).square().mean() <= 1.1 * (apart - exact).square().mean()


class Passes(TorchDispatchMode):
    """Counts the operations that make new pictures (`side_px` and up), by name; views make none."""

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.side_px = side_px
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple) else (made,):
            picture = (
                isinstance(tensor, torch.Tensor) and tensor.ndim == 4 and tensor.shape[2] >= self.side_px
            )
            if picture and not function.is_view:
                self.counts[function.name()] += 1
        return made


def test_on_cuda_every_pass_is_a_convolution_or_fused() -> None:
    """Traced with tensors that say they are on CUDA and hold nothing; no device is needed."""
    pytest.importorskip("triton")
    assert has_kernels()
    fused = FusedGPEN(for_inference(network(CONFIGS[0]), torch.float16))
    with FakeTensorMode():
        for module in fused.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        tensors[name] = torch.empty_strided(
                            tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda"
                        )
        x = torch.empty(2, 3, 32, 32, dtype=torch.float16, device="cuda")
        x = x.contiguous(memory_format=torch.channels_last)
        with Passes(side_px=8) as passes:
            y = fused(x)
    assert (y.shape, y.dtype, y.device.type) == ((2, 3, 32, 32), torch.float32, "cuda")
    assert passes.counts == {
        "aten::convolution": 3 + 3 + 3,  # encoder at 32, 16, 8 px; up-sampling and plain at 8, 16, 32 px
        "gpenvideo::low_pass": 3,
        "gpenvideo::low_pass_finish": 3,
        "gpenvideo::finish": 5,  # activations and RGB at 8 and 16 px, RGB alone at 32
    }


def in_a_process_of_its_own(**environment: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


def test_the_triton_kernels_agree_with_plain_torch() -> None:
    pytest.importorskip("triton")
    in_a_process_of_its_own(TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


@pytest.mark.cuda
def test_the_triton_kernels_agree_on_the_device() -> None:
    in_a_process_of_its_own(TRITON_INTERPRET="0")


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "low-pass of a raw feature": ("_low_pass", {"PAD": 2, "HAS_X_BIAS": 1, "FINISH": 0, "CONCAT": 0}),
    "after a transposed convolution": ("_low_pass", {"PAD": 1, "HAS_X_BIAS": 0, "FINISH": 1, "CONCAT": 1}),
    "after a convolution": ("_finish", {"CONCAT": 1, "STORE": 1, "BELOW": 1}),
    "after the last convolution": ("_finish", {"CONCAT": 0, "STORE": 0, "BELOW": 1}),
}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("capability", [80, 90])
def test_the_triton_kernels_compile_without_a_gpu(
    variant: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To machine code, for devices that this machine need not have."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from gpenvideo.gpen import fused_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    name, constants = VARIANTS[variant]
    kernel = getattr(fused_triton, name)
    elements = {"_finish": fused_triton.FINISH_ELEMENTS, "_low_pass": fused_triton.LOW_PASS_ELEMENTS}[name]
    tile = {"BLOCK_P": elements // 16, "BLOCK_C": 16}
    constants = {"HAS_SKIP_BIAS": 1, "ROWS": fused_triton.ROWS, **tile, **constants}
    half, whole = ("x", "skip", "out"), ("height", "width", "channels", "pixels", "out_height", "out_width")
    signature: dict[str, str] = {}
    for argument in kernel.arg_names:
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in half:
            signature[argument] = "*fp16"
        elif argument == "norm":
            signature[argument] = "fp32"
        else:
            signature[argument] = "i32" if argument in whole or argument.endswith("stride") else "*fp32"
    used = {argument: value for argument, value in constants.items() if argument in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(kernel.arg_names)
        if signature[argument].startswith("*") or argument == "channels" or argument.endswith("stride")
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=used, attrs=aligned)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options={"enable_fp_fusion": True})
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000
    assert re.search(r"ld\.global\.v[24]\.b32", compiled.asm["ptx"])  # four or eight channels in one load
    assert "ld.global.b16" not in compiled.asm["ptx"]
