"""Checkpoints of every kind people have, read without a word about them; bad files refused in one line."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.naive import NaiveGPEN
from gpenvideo.errors import CheckpointError, FileError, FileMissing, GpenvideoError, OptionError
from gpenvideo.gpen import GPEN, GPENConfig, channel_table, checkpoint, published
from gpenvideo.gpen.encoder import fold_batch_norm
from gpenvideo.gpen.generator import for_inference

SMALL = {"style_dim": 16, "mapping_layers": 2}
V2 = {"encoder": "resnet", "encoder_width": 4, "encoder_blocks": (1, 1, 1, 1), **SMALL}
CONFIGS = [
    GPENConfig(8, 8, (6, 4), **SMALL),
    GPENConfig(16, 16, (6, 5, 4), **SMALL),
    GPENConfig(32, 32, (8, 8, 6, 4), style_dim=24, mapping_layers=8),
    GPENConfig(32, 32, (8, 8, 6, 4), concat=False, **SMALL),
    GPENConfig(64, 64, channel_table(64, 1, 0.03), **SMALL),
    GPENConfig(64, 64, channel_table(64, 2, 0.02), concat=False, **SMALL),
    GPENConfig(16, 64, (8, 8, 6, 4, 4), **SMALL),  # noise above the input size
    GPENConfig(32, 64, (8, 8, 6, 4, 4), concat=False, **SMALL),
    GPENConfig(32, 32, (8, 8, 6, 4), **V2),
    GPENConfig(64, 64, (8, 8, 6, 4, 4), **V2 | {"encoder_blocks": (1, 2, 1, 1), "template": "ffhq"}),
    GPENConfig(64, 64, (8, 8, 6, 4, 4), **V2 | {"concat": False, "residual": True}),
    GPENConfig(32, 64, (8, 8, 6, 4, 4), **V2 | {"encoder_blocks": (1, 1)}),
    GPENConfig(64, 128, (8, 8, 6, 4, 4, 3), **V2 | {"residual": True, "encoder_blocks": (2, 1, 1)}),
    GPENConfig(128, 128, (8, 8, 6, 4, 4, 3), **V2 | {"style_dim": 32, "mapping_layers": 3}),
]
WAYS = {
    "zip": ("pth", {}),
    "legacy": ("pth", {"legacy": True}),
    "safetensors": ("safetensors", {}),
    "half": ("pth", {"half": True}),
    "legacy half": ("pth", {"half": True, "legacy": True}),
    "safetensors half": ("safetensors", {"half": True}),
}


def make(config: GPENConfig, *, batch_norm: bool = False) -> GPEN:
    model = GPEN(config, batch_norm=batch_norm)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 2.0)
        elif tensor.is_floating_point() and not name.startswith("noise"):
            tensor.data.add_(0.1 * torch.randn_like(tensor))
    return model.eval().requires_grad_(False)


def picture(config: GPENConfig, n: int = 2) -> Tensor:
    return torch.rand(n, 3, config.input_size_px, config.input_size_px) * 2 - 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("index", range(len(CONFIGS)))
def test_a_saved_network_comes_back_the_same(tmp_path: Path, index: int, way: str) -> None:
    config = CONFIGS[index]
    model, (suffix, options) = make(config), WAYS[way]
    if "half" in way:
        for p in model.parameters():  # what half precision can hold comes back to the bit
            p.data = p.data.half().float()
    file = tmp_path / f"net.{suffix}"
    checkpoint.save(model, file, **options)
    loaded = checkpoint.load(file)
    assert config.encoder == "resnet" or loaded.config == GPENConfig(**_fields(config) | {"template": "gpen"})
    assert config.encoder == "strided" or loaded.config == config
    x = picture(config)
    assert torch.equal(loaded(x), model(x))
    assert os.listdir(tmp_path) == [file.name]  # nothing half-written is left


def _fields(config: GPENConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in GPENConfig.__dataclass_fields__}


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.encoder == "resnet"], ids=str)
def test_folding_batch_norm_changes_nothing(tmp_path: Path, config: GPENConfig) -> None:
    model = make(config, batch_norm=True)
    x = picture(config)
    expected = model(x)
    checkpoint.save(model, tmp_path / "net.pth")
    assert any(module.__class__.__name__ == "BatchNorm2d" for module in model.modules())  # ours is untouched
    loaded = checkpoint.load(tmp_path / "net.pth")
    assert not any(module.__class__.__name__ == "BatchNorm2d" for module in loaded.modules())
    torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-5)
    fold_batch_norm(model)
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_a_v2_file_is_what_its_description_says(tmp_path: Path) -> None:
    model = make(CONFIGS[9])
    checkpoint.save(
        model, tmp_path / "net.pth", half=True, args={"steps": 12, "learning_rates": [2e-4, 2e-5]}
    )
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = torch.load(tmp_path / "net.pth", weights_only=True)
    assert set(loaded) == {"encoder", "mapper", "generator", "args"}
    assert loaded["args"].version == "GPEN-BFR-v2.0-64"
    assert (loaded["args"].input_resolution, loaded["args"].output_resolution) == (64, 64)
    assert loaded["args"].steps == 12
    assert all(
        v.dtype == torch.float16 for part in ("encoder", "mapper", "generator") for v in loaded[part].values()
    )
    opened = checkpoint.open_checkpoint(tmp_path / "net.pth")
    assert opened.args["learning_rates"] == [2e-4, 2e-5]
    assert (opened.container, opened.dtype) == ("zip", torch.float16)


@pytest.mark.parametrize("wrapper", ["", "g_ema", "params_ema", "g"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_bare_wrapped_and_prefixed_state_dicts(tmp_path: Path, wrapper: str, prefix: str) -> None:
    model = make(CONFIGS[2])
    state = {prefix + k: v for k, v in published.to_published(model.state_dict(), model.config).items()}
    content = {wrapper: state, "d": {"other": torch.zeros(1)}} if wrapper else OrderedDict(state)
    torch.save(content, tmp_path / "net.pth")
    x = picture(model.config)
    assert torch.equal(checkpoint.load(tmp_path / "net.pth")(x), model(x))
    if not wrapper:
        save_file(state, tmp_path / "plain.safetensors")  # somebody else's conversion: no metadata of ours
        assert torch.equal(checkpoint.load(tmp_path / "plain.safetensors")(x), model(x))


def test_the_average_is_preferred_in_a_training_checkpoint(tmp_path: Path) -> None:
    average, raw = make(CONFIGS[1]), make(CONFIGS[1])
    content = {
        name: published.to_published(model.state_dict(), model.config)
        for name, model in (("g", raw), ("g_ema", average))
    }
    torch.save(content | {"g_optim": {"state": {}, "param_groups": [{"lr": 0.002}]}}, tmp_path / "net.pth")
    x = picture(average.config)
    assert torch.equal(checkpoint.load(tmp_path / "net.pth")(x), average(x))


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_later_pickle_protocols(tmp_path: Path, protocol: int, zipped: bool, half: bool) -> None:
    model = make(CONFIGS[9])
    if half:
        for p in model.parameters():
            p.data = p.data.half().float()
    checkpoint.save(model, tmp_path / "two.pth", half=half)
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(tmp_path / "two.pth", weights_only=True)
    file = tmp_path / "later.pth"
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    x = picture(model.config)
    assert torch.equal(checkpoint.load(file)(x), model(x))


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("exporter", ["torchscript, folded", "torchscript", "dynamo"])
def test_onnx_files(tmp_path: Path, exporter: str, concat: bool) -> None:
    """The published graph's export: gains folded in, matrices transposed, most names lost."""
    pytest.importorskip("onnx")
    config = GPENConfig(32, 32, (16, 12, 10, 8), style_dim=24, mapping_layers=3, concat=concat)
    model = make(config)
    naive = NaiveGPEN(config.channels, 24, 3, concat).eval()
    naive.load_state_dict(published.to_published(model.state_dict(), config))
    x = picture(config, 1)
    file = tmp_path / "net.onnx"
    folded = (
        {"dynamo": True}
        if exporter == "dynamo"
        else {"dynamo": False, "do_constant_folding": "," in exporter}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(naive, (x,), file, verbose=False, input_names=["input"], **folded)
    loaded = checkpoint.load(file)
    assert loaded.config == config
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-5)


def test_an_onnx_file_of_something_else_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:])), tmp_path / "a.onnx"
    )
    with pytest.raises(CheckpointError, match="no GPEN generator"):
        checkpoint.load(tmp_path / "a.onnx")


@pytest.mark.parametrize("size", [256, 512, 1024, 2048])
def test_every_key_of_the_published_files(shared: Path, tmp_path: Path, size: int) -> None:
    manifest = json.loads((shared / "gpen" / f"manifest_gpen_bfr_{size}.json").read_text())
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 64
    state = {}
    for key, (shape, dtype) in manifest["tensors"].items():
        assert dtype == "float32"
        gain = 4 if key.startswith("generator") else 1
        state[key] = kernel * gain if key in manifest["buffers"] else torch.full(shape, 0.01)
    file = tmp_path / "net.pth"
    torch.save(OrderedDict(state), file)
    bytes_ = sum(value.nbytes for value in state.values())
    assert bytes_ == manifest["state_dict_bytes_fp32"]
    del state
    program = (
        "import sys, json\n"
        "from benchmarks.measure import peak_memory_of_this_process_mb as peak_mb\n"
        "from gpenvideo.gpen import checkpoint\n"
        "before = peak_mb()\n"
        "model = checkpoint.load(sys.argv[1])\n"
        "peak = peak_mb() - before\n"
        "count = sum(p.numel() for p in model.parameters())\n"
        "print(json.dumps([peak * 1e6, count, model.config.input_size_px]))\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", program, file]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    peak, count, input_px = json.loads(done.stdout)
    assert (count, input_px) == (manifest["n_params"], size)
    assert 0.9 * bytes_ < peak < 1.5 * bytes_
    config = manifest["config"]
    expected = channel_table(size, config["channel_multiplier"], config["narrow"])
    assert checkpoint.load(file).config == GPENConfig(size, size, expected)


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["alone", "in args", "in weights"])
def test_a_file_that_would_run_code_does_not(tmp_path: Path, protocol: int, zipped: bool, place: str) -> None:
    proof = tmp_path / "it ran"
    content: object = Bomb(proof)
    if place == "in args":
        content = {
            "encoder": {},
            "mapper": {},
            "generator": {},
            "args": argparse.Namespace(steps=Bomb(proof)),
        }
    elif place == "in weights":
        content = {"generator.input.input": Bomb(proof)}
    file = tmp_path / "net.pth"
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="refused"):
        checkpoint.load(file)
    assert not proof.exists()


@pytest.mark.parametrize("value", [torch.zeros(2), {"a": {1, 2}}, {"a": torch.zeros(1)}, {3: "x"}], ids=str)
def test_args_hold_plain_values_only(tmp_path: Path, value: object) -> None:
    model = make(CONFIGS[8])
    with pytest.raises(OptionError, match="plain"):
        checkpoint.save(model, tmp_path / "net.pth", args={"x": value})
    checkpoint.save(model, tmp_path / "net.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(tmp_path / "net.pth", weights_only=True)
    content["args"].x = value
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="refused"):
        checkpoint.load(tmp_path / "net.pth")


def one_line(error: GpenvideoError, file: Path) -> str:
    text = str(error)
    assert "\n" not in text
    assert text.startswith(str(file))
    return text


def test_bad_files_say_what_is_wrong(tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    model = make(CONFIGS[2])
    checkpoint.save(model, good)
    state = published.to_published(model.state_dict(), model.config)

    def refused(name: str, match: str, content: bytes | None = None, kind: type = CheckpointError) -> None:
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(kind, match=match) as caught:
            checkpoint.load(file)
        one_line(caught.value, file)

    data = good.read_bytes()
    for cut in (1, 9, 40, len(data) // 2, len(data) - 3):
        refused("cut.pth", "damaged|no weights file", data[:cut])
    legacy = tmp_path / "legacy.pth"
    checkpoint.save(model, legacy, legacy=True)
    for cut in (100, len(legacy.read_bytes()) // 2):
        refused("cut.pth", "damaged", legacy.read_bytes()[:cut])
    refused("empty.pth", "empty", b"")
    refused("text.pth", "no weights file", b"<html>404 not found</html>, says the server")
    refused("text.onnx", "damaged", b"<html>404 not found</html>, says the server")
    refused("missing.pth", "no such file", kind=FileMissing)
    refused(".", "folder", kind=FileError)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "no weights here")
    refused("other.zip", "damaged", archive.getvalue())

    other = {"conv.weight": torch.zeros(3, 3), "conv.bias": torch.zeros(3)}
    torch.save(other, tmp_path / "other.pth")
    refused("other.pth", r"another network.*conv\.bias, conv\.weight")
    missing = {key: value for key, value in state.items() if key != "generator.conv1.noise.weight"}
    torch.save(missing | {"extra.weight": torch.zeros(1)}, tmp_path / "missing.pth")
    refused("missing.pth", r"missing generator\.conv1\.noise\.weight; unexpected extra\.weight")
    torch.save(state | {"generator.conv1.conv.weight": torch.zeros(1, 8, 9, 3, 3)}, tmp_path / "shape.pth")
    refused("shape.pth", r"generator\.conv1\.conv\.weight has shape \(1, 8, 9, 3, 3\)")
    torch.save(state | {"ecd1.0.0.kernel": torch.ones(4, 4)}, tmp_path / "fir.pth")
    refused("fir.pth", "low-pass")
    torch.save(state | {"final_linear.0.bias": torch.full((24,), torch.nan)}, tmp_path / "nan.pth")
    refused("nan.pth", "NaN")
    torch.save([1, 2], tmp_path / "list.pth")
    refused("list.pth", "no state dict")
    torch.save({"g_ema": 3}, tmp_path / "number.pth")
    refused("number.pth", "no state dict of tensors")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="file permissions as Unix has them")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    checkpoint.save(make(CONFIGS[0]), file)
    file.chmod(0)
    user = os.geteuid()
    if user == 0:  # root reads everything: be nobody for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(FileError, match="permission denied") as caught:
            checkpoint.load(file)
    finally:
        os.seteuid(user)
    one_line(caught.value, file)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"output_resolution": 48}, "power of two"),
        ({"output_resolution": 10**9}, "power of two"),
        ({"channels": [8]}, "channels"),
        ({"encoder_width": "many"}, "describe no GPEN"),
        ({"template": "mona lisa"}, "template"),
        ({"style_dim": 17}, "has shape"),
        ({"encoder_blocks": [2, 1, 1, 1]}, "missing encoder.stages.0.1"),
    ],
)
def test_args_that_do_not_fit(tmp_path: Path, change: dict[str, object], match: str) -> None:
    checkpoint.save(make(CONFIGS[8]), tmp_path / "net.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(tmp_path / "net.pth", weights_only=True)
    vars(content["args"]).update(change)
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=match):
        checkpoint.load(tmp_path / "net.pth")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_is_a_clear_refusal_or_harmless(data: st.DataObject) -> None:
    """One byte of a small file changed: it loads, or is refused in one line; it never crashes another way."""
    source = _small_files()[data.draw(st.sampled_from(sorted(_small_files())))]
    damaged = bytearray(source)
    place = data.draw(st.integers(0, min(len(damaged), 3000) - 1))
    damaged[place] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:  # tmp_path would be one for all examples
        file = Path(folder) / "net.bin"
        file.write_bytes(damaged)
        try:
            checkpoint.load(file)
        except GpenvideoError as error:
            one_line(error, file)


_cache: dict[str, bytes] = {}


def _small_files() -> dict[str, bytes]:
    if not _cache:
        model = make(CONFIGS[0])
        with TemporaryDirectory() as place:
            folder = Path(place)
            for way, (suffix, options) in WAYS.items():
                checkpoint.save(model, folder / f"net.{suffix}", **options)
                _cache[way] = (folder / f"net.{suffix}").read_bytes()
            content = published.to_published(model.state_dict(), model.config)
            torch.save(content, folder / "four.pth", pickle_protocol=4, _use_new_zipfile_serialization=False)
            _cache["protocol 4"] = (folder / "four.pth").read_bytes()
    return _cache


def test_what_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    model = make(CONFIGS[0])
    with pytest.raises(FileError) as caught:
        checkpoint.save(model, tmp_path / "no folder" / "net.pth")
    one_line(caught.value, tmp_path / "no folder" / "net.pth")
    with pytest.raises(OptionError, match="inference"):
        checkpoint.save(for_inference(model), tmp_path / "net.pth")
    assert os.listdir(tmp_path) == []
