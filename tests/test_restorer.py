"""Restorers: batches, precisions, devices, and what happens when half precision breaks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import gpenvideo
from gpenvideo.errors import DeviceError, FileMissing, OptionError
from gpenvideo.faces.alignment import template
from gpenvideo.gpen import GPEN, GPENConfig, checkpoint
from gpenvideo.restorer import GPENRestorer, buckets, is_suspect

CONFIG = GPENConfig(32, 32, (16, 12, 8, 8), style_dim=32, mapping_layers=2)


@pytest.fixture
def model() -> GPEN:
    network = GPEN(CONFIG).eval()
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network


def faces(n: int, size: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, size, size) * 2 - 1


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 9, 19])
def test_any_number_of_faces(model: GPEN, n: int) -> None:
    restorer = GPENRestorer(model, dtype="fp32", device="cpu", max_batch=8)
    x = faces(n)
    y = restorer(x)
    assert y.shape == (n, 3, 32, 32)
    assert y.dtype == torch.float32
    if n:
        torch.testing.assert_close(y, model(x).clamp(-1, 1).detach(), rtol=1e-4, atol=1e-4)


def test_padding_never_reaches_a_result(model: GPEN) -> None:
    restorer = GPENRestorer(model, dtype="fp32", device="cpu", max_batch=4)
    x = faces(3)
    torch.testing.assert_close(restorer(x)[:2], restorer(x[:2]), rtol=1e-4, atol=1e-4)
    first = restorer(x[:1])
    kept = first.clone()
    restorer(x[1:2])
    assert torch.equal(first, kept)  # a result outlives the next call


def test_the_model_is_not_changed(model: GPEN) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = faces(1)
    expected = model(x)
    GPENRestorer(model, device="cpu", dtype="bf16")(x)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_reduced_precision_agrees(model: GPEN, dtype: str) -> None:
    x = faces(2)
    exact = GPENRestorer(model, device="cpu", dtype="fp32")(x)
    reduced = GPENRestorer(model, device="cpu", dtype=dtype)(x)
    error = (exact - reduced).square().mean().sqrt()
    assert 0 < error < 0.05


def test_a_network_that_breaks_in_half_precision_is_run_in_single(model: GPEN) -> None:
    model.encoder.stages[0].weight.data.mul_(3e5)  # its features are beyond float16
    for stage in model.encoder.stages[1:2]:
        stage.weight.data.div_(3e5)
    with pytest.warns(RuntimeWarning, match="float32 it is"):
        restorer = GPENRestorer(model, device="cpu", dtype="fp16")
    assert restorer.dtype == torch.float32
    assert torch.isfinite(restorer(faces(1))).all()


def test_a_batch_that_breaks_in_half_precision_is_done_again_in_single(model: GPEN) -> None:
    restorer = GPENRestorer(model, device="cpu", dtype="fp16")
    assert restorer.dtype == torch.float16
    x = faces(1) * 3e5  # out of range on purpose: float16 overflows, float32 does not
    expected = GPENRestorer(model, device="cpu", dtype="fp32")(x)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(restorer(x), expected, rtol=1e-4, atol=1e-4)


def test_what_is_suspect() -> None:
    good = faces(2)
    assert not is_suspect(good)
    for broken in (torch.full_like(good, torch.nan), torch.full_like(good, 0.3), good.sign() * 5):
        assert is_suspect(broken)
        assert is_suspect(torch.cat((good, broken)))  # one face of a batch is enough


def test_the_device_is_what_was_asked_for(model: GPEN) -> None:
    assert "on cpu" in repr(GPENRestorer(model, device="cpu"))
    with pytest.raises(OptionError, match="no device"):
        GPENRestorer(model, device="toaster")
    with pytest.raises(OptionError, match="auto, cpu or cuda"):
        GPENRestorer(model, device="meta")
    with pytest.raises(DeviceError, match="CUDA devices"):
        GPENRestorer(model, device=f"cuda:{torch.cuda.device_count()}")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cpu"):
            GPENRestorer(model, device="cuda")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dtype": "int8"}, "precision"),
        ({"max_batch": 3}, "power of two"),
        ({"max_batch": 0}, "power of two"),
    ],
)
def test_options_that_cannot_be_used(model: GPEN, options: dict[str, object], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        GPENRestorer(model, **options)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 3, 32, 31), (1, 4, 32, 32), (1, 3, 64, 64)])
def test_faces_of_another_shape(model: GPEN, shape: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r"\(N, 3, 32, 32\)"):
        GPENRestorer(model, device="cpu", dtype="fp32")(torch.zeros(shape))


def test_integer_faces_are_refused(model: GPEN) -> None:
    with pytest.raises(OptionError, match="floating point"):
        GPENRestorer(model, device="cpu", dtype="fp32")(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_warm_up_reports_every_batch_size(model: GPEN) -> None:
    seen: list[tuple[int, int]] = []
    GPENRestorer(model, device="cpu", dtype="fp32", max_batch=4).warm_up(lambda i, n: seen.append((i, n)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert buckets(8) == [1, 2, 4, 8]


def test_compiled_equals_eager(model: GPEN, cxx: str) -> None:
    x = faces(2)
    eager = GPENRestorer(model, device="cpu", dtype="fp32", max_batch=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about itself
        compiled = GPENRestorer(model, device="cpu", dtype="fp32", max_batch=2, compile=True)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)


def test_loading_by_path(model: GPEN, tmp_path: Path) -> None:
    checkpoint.save(model, tmp_path / "net.pth")
    restorer = gpenvideo.load(tmp_path / "net.pth", device="cpu", dtype="fp32")
    assert (restorer.size_px, restorer.output_size_px) == (32, 32)
    assert np.array_equal(restorer.template, template("gpen", 32))
    x = faces(1)
    torch.testing.assert_close(restorer(x), model(x).clamp(-1, 1).detach(), rtol=1e-4, atol=1e-4)
    with pytest.raises(FileMissing):
        gpenvideo.load(tmp_path / "other.pth")
    closer = gpenvideo.load(tmp_path / "net.pth", device="cpu", dtype="fp32", template="ffhq")
    assert np.array_equal(closer.template, template("ffhq", 32))
    with pytest.raises(OptionError, match="template"):
        gpenvideo.load(tmp_path / "net.pth", template="egyptian")


@pytest.mark.cuda
def test_on_cuda(model: GPEN) -> None:
    x = faces(3)
    restorer = GPENRestorer(model)
    assert (restorer.device.type, restorer.dtype) == ("cuda", torch.float16)
    expected = GPENRestorer(model, device="cpu", dtype="fp32")(x)
    torch.testing.assert_close(restorer(x), expected, rtol=0.05, atol=0.05)
    assert restorer(x.cuda()).device.type == "cuda"
