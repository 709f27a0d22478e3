"""Network weights in and out of files: whatever a GPEN checkpoint comes in, and nothing that could run.

Files are untrusted. Pickles are read with `weights_only=True` (or by `unpickle`, as narrow) and the only
class besides tensors is `argparse.Namespace`, whose values must be plain. The architecture comes from the
file: from tensor shapes in the published layout, from `args` in the v2 container, from the metadata of a
.safetensors file, from the graph of an .onnx file.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpenvideo.errors import CheckpointError, GpenvideoError, OptionError, file_error
from gpenvideo.gpen import onnx_graph, published, unpickle
from gpenvideo.gpen.config import GPENConfig
from gpenvideo.gpen.encoder import fold_batch_norm
from gpenvideo.gpen.generator import GPEN

__all__ = ["Checkpoint", "load", "open_checkpoint", "read_state", "save"]

WRAPPERS = ("g_ema", "params_ema", "g", "params", "state_dict", "model")  # in order of preference
OTHER_WRAPPERS = (
    "params_ema",
    "params-ema",
    "params",
    "g_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)
PARTS = {"encoder": "encoder.", "mapper": "mapper.", "generator": "synthesis."}  # v2 key -> our prefix
FORMAT = "gpenvideo"  # the safetensors metadata key that holds layout, configuration and args as JSON


@dataclass(frozen=True)
class Checkpoint:
    """A loaded file: the network, and what the file said besides."""

    model: GPEN
    container: str  # "zip", "legacy", "safetensors" or "onnx"
    dtype: torch.dtype  # of the stored weights; the model is float32
    args: Mapping[str, Any]  # plain values: training options, version; empty in the published layout


def load(path: str | os.PathLike[str]) -> GPEN:
    """The network in `path`, float32 on the CPU, in evaluation mode.

    Calling it restores aligned faces: (N, 3, S, S) RGB in [-1, 1] -> the same at its output size.

    Raises FileError when the file cannot be read and CheckpointError when it holds no usable GPEN.
    """
    return open_checkpoint(path).model


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """As `load`, with what else the file says."""
    with _told_with(Path(path)):
        return _open(Path(path))


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors in a .pth or .safetensors file by their names there, of whatever network; on the CPU.

    Raises FileError when the file cannot be read and CheckpointError when it holds no state dict, or more.
    """
    path = Path(path)
    with _told_with(path):
        head = _head(path)
        with _damage_is_a_checkpoint_error():
            if _is_safetensors(head, path):
                from safetensors.torch import load_file

                return load_file(path)
            if head[:2] != b"PK" and head[:1] != b"\x80":
                raise CheckpointError("it is no weights file: neither .pth nor .safetensors inside")
            loaded = _read_pickle(path)
            if isinstance(loaded, Mapping) and loaded.keys() >= PARTS.keys():
                return _joined(loaded)
            for key in OTHER_WRAPPERS:
                if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
                    loaded = loaded[key]
                    break
            return _tensors(loaded, "it")


@contextmanager
def _told_with(path: Path) -> Iterator[None]:
    """What goes wrong inside is one of our errors, with the path."""
    try:
        yield
    except OSError as error:
        if isinstance(error, GpenvideoError):
            raise
        raise file_error(error, path, "read") from error
    except CheckpointError as error:
        raise CheckpointError(error.message, path=path) from error


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise IsADirectoryError(21, "it is a folder; name a weights file")
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise CheckpointError("it is empty; download it again")
    return head


def _is_safetensors(head: bytes, path: Path) -> bool:
    return head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size


def _open(path: Path) -> Checkpoint:
    head = _head(path)
    with _damage_is_a_checkpoint_error():
        if _is_safetensors(head, path):
            return _from_safetensors(path)
        if head[:2] == b"PK" or head[:1] == b"\x80":
            return _from_object(_read_pickle(path), "zip" if head[:2] == b"PK" else "legacy")
        if path.suffix.lower() == ".onnx":
            config, state = onnx_graph.read(path)
            return _from_published(state, "onnx", {}, config)
    raise CheckpointError("it is no weights file: neither .pth, .safetensors nor .onnx inside")


@contextmanager
def _damage_is_a_checkpoint_error() -> Iterator[None]:
    """Readers of damaged files raise all sorts; here they become one, with the cause's first line."""
    try:
        yield
    except GpenvideoError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(".: ")[:200] if lines else type(error).__name__
        if "weights_only" in str(error) or "Unsupported" in str(error) or "not allowed" in str(error):
            raise CheckpointError(
                f"refused: it holds more than weights and could run code ({reason})"
            ) from error
        raise CheckpointError(f"it is damaged, download it again ({reason})") from error


def _read_pickle(path: Path) -> Any:
    if unpickle.protocol(path) > 2:
        return unpickle.load(path)
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about dtypes of storages, nothing a reader can act on
        return torch.load(path, map_location="cpu", weights_only=True)


def _from_object(loaded: Any, container: str) -> Checkpoint:
    if isinstance(loaded, Mapping) and {*PARTS, "args"} <= loaded.keys():
        args = loaded["args"]
        plain = vars(args) if isinstance(args, argparse.Namespace) else args
        if not isinstance(plain, Mapping) or not _is_plain(dict(plain)):
            raise CheckpointError("refused: its args hold more than plain values")
        return _from_v2(_joined(loaded), container, plain)
    if isinstance(loaded, Mapping):
        for key in WRAPPERS:
            if isinstance(loaded.get(key), Mapping):
                loaded = loaded[key]
                break
    bare = {key.removeprefix("module."): value for key, value in _tensors(loaded, "it").items()}
    return _from_published(bare, container, {})


def _joined(loaded: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The parts of a v2 container as one state dict, under our names."""
    state: dict[str, Tensor] = {}
    for part, prefix in PARTS.items():
        tensors = _tensors(loaded[part], f"its {part}")
        state |= {prefix + key: tensor for key, tensor in tensors.items()}
    return state


def _tensors(value: Any, what: str) -> dict[str, Tensor]:
    if not isinstance(value, Mapping) or not value:
        raise CheckpointError(f"{what} holds no state dict but a {type(value).__name__}")
    wrong = [str(key) for key, v in value.items() if not isinstance(key, str) or not isinstance(v, Tensor)]
    if wrong:
        raise CheckpointError(f"{what} is no state dict of tensors: {published.listed(keys=wrong)}")
    return dict(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def _from_safetensors(path: Path) -> Checkpoint:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = (file.metadata() or {}).get(FORMAT)
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    if metadata is None:
        return _from_object(state, "safetensors")
    described = json.loads(metadata)
    if not isinstance(described, dict) or not isinstance(described.get("args"), dict):
        raise CheckpointError("its metadata is not what gpenvideo writes")
    if described.get("layout") == "gpen":
        return _from_published(state, "safetensors", described["args"])
    return _from_v2(state, "safetensors", described["args"])


def _from_published(
    state: dict[str, Tensor], container: str, args: Mapping[str, Any], config: GPENConfig | None = None
) -> Checkpoint:
    if config is None:
        config = published.config_from_shapes({key: tuple(value.shape) for key, value in state.items()})
    model = _empty(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    dtype = _stored_dtype(state)
    ours = published.from_published(state, published.generator_names(config), shapes)
    return Checkpoint(_filled(model, ours), container, dtype, args)


def _from_v2(state: dict[str, Tensor], container: str, args: Mapping[str, Any]) -> Checkpoint:
    config = GPENConfig.from_args(dict(args))
    model = _empty(config)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        keys = published.listed(missing=missing, unexpected=unexpected)
        raise CheckpointError(f"it holds another network than its args say: {keys}")
    for key, shape in expected.items():
        if tuple(state[key].shape) != shape:
            raise CheckpointError(f"{key} has shape {tuple(state[key].shape)}, its args imply {shape}")
    return Checkpoint(_filled(model, state), container, _stored_dtype(state), args)


def _empty(config: GPENConfig) -> GPEN:
    with torch.device("meta"):
        return GPEN(config)


def _stored_dtype(state: Mapping[str, Tensor]) -> torch.dtype:
    return max((t for t in state.values()), key=Tensor.numel).dtype


def _filled(model: GPEN, state: dict[str, Tensor]) -> GPEN:
    """`model`, built without memory, with the tensors of `state` as its parameters: nothing is copied."""
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            raise CheckpointError(f"{key} holds {tensor.dtype}, not floating-point weights")
        low, high = torch.aminmax(tensor)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise CheckpointError(f"{key} holds NaN or infinite weights; download or train it again")
    floats = {key: tensor.float() for key, tensor in state.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def save(
    model: GPEN,
    path: str | os.PathLike[str],
    *,
    half: bool = False,
    legacy: bool = False,
    args: Mapping[str, Any] | None = None,
) -> None:
    """Write `model` to `path`, to be read back by `load` (and, as .pth, by torch of any age).

    A .safetensors path gets its configuration as metadata. Any other path is a pickle of protocol 2: the v2
    container (`encoder`, `mapper`, `generator`, `args`, batch norm folded) for a resnet encoder, the
    published state dict for the strided one. `half` stores float16, `legacy` the format before torch 1.6.
    `args` are plain values to keep with a v2 model: training options, version, commit.

    The file is written beside and renamed. Raises OptionError for args that are not plain, FileError when the
    file cannot be written.
    """
    path = Path(path)
    config = model.config
    if not _is_plain(dict(args or {})):
        raise OptionError("args must be plain values: numbers, strings, lists, dictionaries")
    if any(getattr(conv, "power", None) is not None for conv in model.synthesis.convs):
        raise OptionError("this copy was made for inference; save the network it was made from")
    model = copy.deepcopy(model).cpu() if config.encoder == "resnet" else model
    fold_batch_norm(model)
    everything = {"version": f"GPEN-BFR-v2.0-{config.output_size_px}"} | dict(args or {}) | config.as_args()
    dtype = torch.float16 if half else torch.float32
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    if config.layout == "gpen":
        state = {key: value.to(dtype) for key, value in published.to_published(state, config).items()}
    beside = path.with_name(path.name + ".part")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import save_file

            described = {"layout": config.layout, "args": everything}
            save_file(state, beside, metadata={FORMAT: json.dumps(described, sort_keys=True)})
        else:
            content: dict[str, Any] = dict(state)
            if config.layout == "v2":
                content = {part: _part(state, prefix) for part, prefix in PARTS.items()}
                content["args"] = argparse.Namespace(**everything)
            torch.save(content, beside, pickle_protocol=2, _use_new_zipfile_serialization=not legacy)
        beside.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a folder that is not there as RuntimeError
        beside.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else OSError(0, str(error).splitlines()[0])
        raise file_error(cause, path, "write") from error


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
