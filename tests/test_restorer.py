"""Restorers: batches, precisions, devices, and what happens when half precision breaks."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import gpenvideo
from gpenvideo.errors import DeviceError, FileMissing, OptionError
from gpenvideo.faces.alignment import template
from gpenvideo.frame import Colour, Layout, StreamInfo
from gpenvideo.gpen import GPEN, GPENConfig, checkpoint
from gpenvideo.pipeline import VideoRestorer
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


def test_a_poisoned_weight_is_noticed_and_the_batch_done_in_single(model: GPEN) -> None:
    restorer = GPENRestorer(model, device="cpu", dtype="fp16")
    x = faces(3)
    expected = GPENRestorer(model, device="cpu", dtype="fp32")(x)
    assert not torch.equal(restorer(x), expected)  # half precision, until
    restorer._network.synthesis.convs[3].weight.data[0, 0, 1, 1] = 65504.0  # the largest there is
    restorer._network.synthesis.convs[3].weight.data[0, 1, 1, 1] = 65504.0
    assert is_suspect(restorer._network(x))
    torch.testing.assert_close(restorer(x), expected, rtol=0, atol=1e-6)


def test_a_poisoned_checkpoint_is_noticed_at_the_start(model: GPEN) -> None:
    weight = model.encoder.stages[1].weight.data
    weight[0, 0, 1, 1] = 3e6 * weight.abs().max()  # float32 holds it, and what it makes
    with pytest.warns(RuntimeWarning, match="float32 it is"):
        restorer = GPENRestorer(model, device="cpu", dtype="fp16")
    x = faces(2)
    assert restorer.dtype == torch.float32
    torch.testing.assert_close(restorer(x), model(x).clamp(-1, 1).detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("fits", "n"), [(1, 1), (1, 5), (2, 8), (3, 3), (4, 19)])
def test_a_batch_that_memory_does_not_hold_is_halved(model: GPEN, fits: int, n: int) -> None:
    x = faces(n)
    expected = GPENRestorer(model, dtype="fp32", device="cpu", max_batch=1)(x)
    restorer = GPENRestorer(model, dtype="fp32", device="cpu", max_batch=8)
    tried = memory_for(restorer, fits)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        y = restorer(x)
    assert len(y) == n
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)  # all of them, in their order
    refused = [size for size in tried if size > fits]
    assert len(said) == len(refused)
    assert all("too little free memory" in str(warning.message) for warning in said)
    tried.clear()
    restorer(x)
    assert max(tried) <= fits  # it remembers


def test_memory_for_not_even_one_face(model: GPEN) -> None:
    restorer = GPENRestorer(model, dtype="fp32", device="cpu", max_batch=2)
    memory_for(restorer, 0)
    with pytest.raises(DeviceError, match="one face"), pytest.warns(RuntimeWarning, match="1 it is"):
        restorer(faces(2))


def memory_for(restorer: GPENRestorer, fits: int) -> list[int]:
    """Have the network run out of memory above `fits` faces; the list tells what it was given."""
    tried: list[int] = []

    def limited(module: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        tried.append(len(arguments[0]))
        if tried[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    restorer._network.register_forward_pre_hook(limited)
    return tried


def test_faces_written_into_the_bucket(model: GPEN) -> None:
    restorer = GPENRestorer(model, dtype="fp32", device="cpu", max_batch=4)
    x, bucket = faces(3), restorer.bucket(3)
    bucket.copy_(x)
    assert torch.equal(restorer(bucket), restorer(x))


def test_what_is_suspect() -> None:
    good = faces(2)
    assert not is_suspect(good)
    for broken in (torch.full_like(good, torch.nan), torch.full_like(good, 0.3), good.sign() * 5):
        assert is_suspect(broken)
        assert is_suspect(torch.cat((good, broken)))  # one face of a batch is enough
    for value in (torch.nan, torch.inf, -torch.inf):
        pixel = good.clone()
        pixel[1, 2, 30, 29] = value
        assert is_suspect(pixel)


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
    assert seen == [(1, 1)]  # a CPU takes faces one by one


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_face_does_not_depend_on_its_company(model: GPEN, dtype: str) -> None:
    restorer = GPENRestorer(model, device="cpu", dtype=dtype, max_batch=4)
    faces = torch.rand(5, 3, restorer.size_px, restorer.size_px) * 2 - 1
    faces[3] = torch.nan  # is done again in single precision, alone
    together = restorer(faces)
    for index in (0, 1, 2, 4):
        assert torch.equal(restorer(faces[index : index + 1])[0], together[index])
    assert torch.equal(restorer(faces[1:3]), together[1:3])
    assert buckets(8) == [1, 2, 4, 8]


def test_faces_side_by_side_come_out_as_alone(model: GPEN) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        restorer = GPENRestorer(model, device="cpu", dtype="fp32", max_batch=4)
        faces = torch.rand(5, 3, restorer.size_px, restorer.size_px) * 2 - 1
        together = restorer(faces)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert torch.equal(restorer(faces), together)
    finally:
        torch.set_num_threads(before)


def test_compiled_equals_eager(model: GPEN, cxx: str) -> None:
    x = faces(2)
    eager = GPENRestorer(model, device="cpu", dtype="fp32", max_batch=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about itself
        compiled = GPENRestorer(model, device="cpu", dtype="fp32", max_batch=2, compile=True)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)
    assert (compiled.starts_slowly, eager.starts_slowly) == (True, False)
    info = StreamInfo(64, 48, "gray", Layout("grey", 8), Colour(1, False), Fraction(1, 25))
    for restorer, expected in ((compiled, [(1, 1)]), (eager, [])):
        told: list[tuple[int, int]] = []
        VideoRestorer(restorer, iter, info).warm_up(lambda *done, told=told: told.append(done))
        assert told == expected


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
@pytest.mark.parametrize("compile", [False, True])
def test_on_cuda(model: GPEN, compile: bool) -> None:
    x = faces(7)
    restorer = GPENRestorer(model, max_batch=4, compile=compile)
    assert (restorer.device.type, restorer.dtype) == ("cuda", torch.float16)
    expected = GPENRestorer(model, device="cpu", dtype="fp32")(x)
    restorer.warm_up()
    y = restorer(x)
    error = (y - expected).square().mean().sqrt()
    assert 0 < error < 2e-3  # 60 dB
    assert restorer(x.cuda()).device.type == "cuda"
    bucket = restorer.bucket(3)
    bucket.copy_(x[:3])
    torch.testing.assert_close(restorer(bucket), y[:3].cuda(), rtol=0, atol=1e-3)
    kept = y.clone()
    restorer(faces(7))
    assert torch.equal(y, kept)  # a result outlives the next call


@pytest.mark.cuda
def test_single_precision_on_cuda(model: GPEN) -> None:
    x = faces(2)
    expected = GPENRestorer(model, device="cpu", dtype="fp32")(x)
    restorer = GPENRestorer(model, device="cuda", dtype="fp32")
    torch.testing.assert_close(restorer(x), expected, rtol=1e-4, atol=1e-4)  # TensorFloat-32 would not


@pytest.mark.cuda
def test_memory_that_is_really_full(model: GPEN) -> None:
    big = GPENRestorer(GPEN(GPENConfig(512, 512, (16,) * 8, style_dim=16, mapping_layers=2)), max_batch=64)
    free, _ = torch.cuda.mem_get_info()
    blocker = torch.empty(free - 2**30, dtype=torch.uint8, device="cuda")
    with pytest.warns(RuntimeWarning, match="too little free memory"):
        y = big(faces(64, 512))
    assert len(y) == 64
    del blocker
