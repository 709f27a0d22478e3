"""The Triton operations against plain torch. Not collected: `test_fused` runs it in a process of its own.

With TRITON_INTERPRET=1, which Triton reads when it is imported, the kernels run on the CPU; without, on CUDA.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpenvideo.gpen import GPEN, GPENConfig, fused, fused_triton
from gpenvideo.gpen.generator import for_inference

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))

shapes = st.tuples(
    st.integers(1, 3), st.sampled_from([1, 3, 8, 16, 65, 130]), st.integers(1, 11), st.integers(1, 17)
)
dtypes = st.sampled_from([torch.float32, torch.float16])
flags = st.booleans()


def picture(n: int, channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    x = torch.randn(n, channels, height, width, device=DEVICE).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


def vector(*shape: int) -> Tensor:
    return torch.randn(shape, device=DEVICE)


def slice_of(n: int, width: int) -> Tensor:
    """(n, width) out of a wider tensor, as styles come."""
    return vector(n, width + 5)[:, 2 : width + 2]


def reference(run: str, *arguments: object) -> object:
    """What plain torch says, on the CPU."""

    def moved(value: object) -> object:
        if isinstance(value, Tensor):
            return value.cpu()
        return tuple(map(moved, value)) if isinstance(value, tuple) else value

    return getattr(fused, run)(*map(moved, arguments))


def close(ours: Tensor, plain: object, dtype: torch.dtype) -> None:
    assert isinstance(plain, Tensor)
    assert ours.dtype == plain.dtype
    tolerance = 2e-3 if dtype == torch.float16 else 1e-5
    torch.testing.assert_close(ours.cpu(), plain, rtol=tolerance, atol=tolerance)


def skip_of(shape: tuple[int, int, int, int], dtype: torch.dtype, raw: bool, shared: bool) -> fused.Feature:
    n, channels, height, width = shape
    feature = picture(1 if shared else n, channels, height, width, dtype).expand(n, -1, -1, -1)
    return feature, vector(channels) if raw else None


@FEW
@given(shape=shapes, dtype=dtypes, concat=flags, raw=flags, shared=flags, last=flags, first=flags)
def test_finish(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    concat: bool,
    raw: bool,
    shared: bool,
    last: bool,
    first: bool,
) -> None:
    n, channels, height, width = shape
    height, width = height + height % 2, width + width % 2  # twice what lies below
    joined = channels * (2 if concat else 1)
    x, skip = (
        picture(n, channels, height, width, dtype),
        skip_of((n, channels, height, width), dtype, raw, shared),
    )
    scale, following = slice_of(n, channels), None if last else slice_of(n, joined)
    bias, gain, rgb = vector(joined), vector(1), (vector(n, 3, joined) / joined, vector(3))
    below = None if first else vector(n, 3, height // 2, width // 2)
    out, image = fused_triton.finish(x, scale, *skip, bias, gain, following, *rgb, below)
    expected = reference("finish", x, scale, skip, bias, gain, following, rgb, below)
    assert isinstance(expected, tuple)
    close(image, expected[1], torch.float32)
    close(out, expected[0], dtype)


@FEW
@given(shape=shapes, dtype=dtypes, concat=flags, raw=flags, shared=flags)
def test_low_pass_finish(
    shape: tuple[int, int, int, int], dtype: torch.dtype, concat: bool, raw: bool, shared: bool
) -> None:
    n, channels, height, width = shape
    joined = channels * (2 if concat else 1)
    x, skip = picture(n, channels, height + 1, width + 1, dtype), skip_of(shape, dtype, raw, shared)
    given_ = (x, slice_of(n, channels), skip, vector(joined), vector(1), slice_of(n, joined))
    out = fused_triton.low_pass_finish(*given_[:2], *skip, *given_[3:])
    close(out, reference("low_pass_finish", *given_), dtype)
    assert out.is_contiguous(memory_format=torch.channels_last)


@FEW
@given(shape=shapes, dtype=dtypes, raw=flags)
def test_low_pass(shape: tuple[int, int, int, int], dtype: torch.dtype, raw: bool) -> None:
    n, channels, height, width = shape
    x, bias = picture(n, channels, height, width, dtype), vector(channels) if raw else None
    close(fused_triton.low_pass(x, bias), reference("low_pass", x, bias), dtype)


def test_other_layouts_are_refused() -> None:
    for x in (torch.zeros(2, 4, 6, 6, device=DEVICE), picture(2, 4, 6, 12, torch.float32)[..., ::2]):
        with pytest.raises(ValueError, match="channels_last"):
            fused_triton.low_pass(x, None)


def test_the_operations_are_what_they_say_they_are() -> None:
    """Shapes and strides without running, as the compiler asks for them."""
    x, skip, w = picture(2, 8, 6, 8, torch.float32), picture(2, 8, 6, 8, torch.float32), vector(2, 8)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(fused_triton.low_pass, (x, vector(8)), test_utils=checks)
    up = (picture(2, 8, 7, 9, torch.float32), w, skip, None, vector(16), vector(1), vector(2, 16))
    torch.library.opcheck(fused_triton.low_pass_finish, up, test_utils=checks)
    plain = (x, w, skip, None, vector(16), vector(1), vector(2, 16), vector(2, 3, 16), vector(3), None)
    torch.library.opcheck(fused_triton.finish, plain, test_utils=checks)


def test_a_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = GPENConfig(16, 32, (8, 8, 6, 4), style_dim=16, mapping_layers=2)
    model = GPEN(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    network = fused.FusedGPEN(for_inference(model)).to(DEVICE)
    with torch.inference_mode():
        if DEVICE == "cpu":  # there it is plain torch that `fused` chooses: have it choose the kernels
            for name in ("finish", "low_pass_finish", "low_pass"):
                monkeypatch.setattr(fused, name, _flattened(getattr(fused_triton, name)))
        torch.testing.assert_close(network(x.to(DEVICE)).cpu(), model(x), rtol=1e-4, atol=1e-4)


def _flattened(operation: object) -> object:
    def run(*arguments: object) -> object:
        flat: list[object] = []
        for argument in arguments:
            flat.extend(argument if isinstance(argument, tuple) else (argument,))
        return operation(*flat)  # type: ignore[operator]

    return run
