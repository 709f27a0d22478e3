"""GPEN weights out of an .onnx file, as GPEN-BFR-256, 512, 1024 and 2048 circulate.

An exporter folds constants: the runtime gains are multiplied in, matrices may be transposed, and the
names of most parameters are lost. What stays is the order in which the network uses them, so they are
read off the graph in that order, told apart by the operator that consumes them, and divided by their
gains (GPEN notes, sections 3 and 8). The encoder skips' gains are scalars that no folding touches and are
found by name.

What can break a foreign file, each with a sentence of its own rather than wrong pictures: an optimiser that
fuses convolutions or reorders nodes, quantised weights, names of `noise.weight` that were stripped, two
faces a batch unrolled into the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpenvideo.errors import CheckpointError, DependencyError
from gpenvideo.gpen import published
from gpenvideo.gpen.config import GPENConfig
from gpenvideo.gpen.generator import GPEN

__all__ = ["read"]

Array = np.ndarray[Any, Any]
FOLDABLE = 1 << 28  # elements: larger results are no weights of ours


@dataclass
class _Found:
    """The constants of a graph by kind, each list in the order of use."""

    convs: list[Array] = field(default_factory=list)  # (out, in, k, k)
    linears: list[Array] = field(default_factory=list)  # (out, in)
    biases: list[Array] = field(default_factory=list)  # (n,)
    encoder_stages: int = 0  # convolutions before the first linear layer
    constant: Array | None = None  # (1, C, 4, 4)
    skip_gains: dict[str, Array] = field(default_factory=dict)


def read(path: Path) -> tuple[GPENConfig, dict[str, Tensor]]:
    """The architecture and the published state dict (raw weights, float32) of the .onnx file `path`.

    Raises CheckpointError when the graph is no GPEN's, DependencyError without the onnx package.
    """
    try:
        import onnx
    except ImportError as error:
        raise DependencyError(
            "reading .onnx files needs: pip install 'gpenvideo[onnx]'", path=path
        ) from error
    graph = onnx.load(path).graph
    found = _find(graph)
    config = _config(found)
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in GPEN(config).state_dict().items()}
    return config, _assemble(config, found, shapes)


def _find(graph: Any) -> _Found:
    from onnx import numpy_helper

    known: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found, used = _Found(), set()
    found.skip_gains = {name: value for name, value in known.items() if name.endswith(".noise.weight")}
    for node in graph.node:
        if _fold(node, known):
            continue
        for position, name in enumerate(node.input):
            value = known.get(name)
            if value is None or name in used or value.size < 2 or value.dtype.kind != "f":
                continue
            used.add(name)
            _classify(node, position, value, found)
    return found


def _fold(node: Any, known: dict[str, Array]) -> bool:
    """Compute a node whose inputs are all constants, as an exporter with constant folding would have."""
    from onnx.reference import ReferenceEvaluator

    if node.op_type in ("RandomNormal", "RandomUniform", "If", "Loop") or not node.output[0]:
        return False
    if any(name and name not in known for name in node.input):
        return False
    inputs = {name: known[name] for name in node.input if name}
    if sum(value.size for value in inputs.values()) > FOLDABLE:
        return False
    results: list[Any] = list(ReferenceEvaluator(node).run(None, inputs))
    known.update(zip(node.output, results, strict=True))
    return True


def _classify(node: Any, position: int, value: Array, found: _Found) -> None:
    kind, shape = node.op_type, value.shape
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if kind in ("Conv", "ConvTranspose") and position == 1:
        if shape[1:] == (1, 4, 4):
            return  # a low-pass filter
        _add_conv(found, value.swapaxes(0, 1) if kind == "ConvTranspose" else value)
    elif value.ndim == 5 and shape[0] == 1:
        _add_conv(found, value[0])
    elif kind in ("Gemm", "MatMul") and position == 1 and value.ndim == 2:
        found.linears.append(value if kind == "Gemm" and attributes.get("transB") else value.T)
    elif (kind in ("Gemm", "Conv") and position == 2) or (kind == "Add" and value.size == max(shape)):
        found.biases.append(value.reshape(-1))
    elif value.ndim == 4 and shape[2:] == (4, 4) and shape[1] > 1 and found.constant is None:
        found.constant = value[:1]


def _add_conv(found: _Found, weight: Array) -> None:
    found.convs.append(weight)
    if not found.linears:
        found.encoder_stages += 1


def _config(found: _Found) -> GPENConfig:
    synthesis = found.convs[found.encoder_stages :]
    levels, rest = divmod(len(synthesis) + 1, 3)
    mapping = len(found.linears) - 1 - len(synthesis)
    if rest or levels < 2 or mapping < 1 or found.encoder_stages < 2:
        raise CheckpointError(
            "its graph is no GPEN generator's, or was rearranged by an optimiser: "
            f"{found.encoder_stages} encoder and {len(synthesis)} synthesis convolutions, "
            f"{len(found.linears)} linear layers"
        )
    channels = tuple(int(synthesis[index].shape[0]) for index in (0, *range(2, len(synthesis), 3)))
    try:
        return GPENConfig(
            input_size_px=4 << (found.encoder_stages - 1),
            output_size_px=4 << (levels - 1),
            channels=channels,
            style_dim=int(found.linears[0].shape[0]),
            mapping_layers=mapping,
            concat=synthesis[1].shape[1] == 2 * channels[0],
        )
    except ValueError as error:
        raise CheckpointError(f"its graph describes no GPEN network: {error}") from error


def _order(config: GPENConfig) -> list[str]:
    """The published layers in the order in which the network uses them."""
    layers = [
        f"ecd{stage}.0.{1 if stage else 0}" for stage in range(int(math.log2(config.input_size_px)) - 1)
    ]
    layers += ["final_linear.0"] + [f"generator.style.{i + 1}" for i in range(config.mapping_layers)]
    layers += ["generator.conv1", "generator.to_rgb1"]
    for index in range(config.levels - 1):
        layers += [f"generator.convs.{2 * index + i}" for i in (0, 1)] + [f"generator.to_rgbs.{index}"]
    return layers


def _assemble(config: GPENConfig, found: _Found, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    convs, linears, biases = iter(found.convs), iter(found.linears), iter(found.biases)
    state: dict[str, Tensor] = {}

    def put(name: str, value: Array | None, gain: float) -> None:
        if value is None:
            raise CheckpointError(f"its graph holds no {name}: it was rearranged by an optimiser")
        state[name] = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32) / np.float32(gain))

    def linear(name: str, lr_mul: float) -> None:
        weight = next(linears, None)
        put(f"{name}.weight", weight, lr_mul / math.sqrt(weight.shape[1] if weight is not None else 1))
        put(f"{name}.bias", next(biases, None), lr_mul)

    def conv(name: str) -> None:
        weight = next(convs, None)
        put(name, weight, 1 / math.sqrt(weight[0].size) if weight is not None else 1)

    for layer in _order(config):
        if layer.startswith("ecd"):
            conv(f"{layer}.weight")
            stage, index = layer.rsplit(".", 1)
            put(f"{stage}.{int(index) + 1}.bias", next(biases, None), 1.0)
        elif layer == "final_linear.0" or ".style." in layer:
            linear(layer, 0.01 if ".style." in layer else 1.0)
        else:
            linear(f"{layer}.conv.modulation", 1.0)
            conv(f"{layer}.conv.weight")
            if "rgb" in layer:
                put(f"{layer}.bias", next(biases, None), 1.0)
            else:
                put(f"{layer}.noise.weight", found.skip_gains.get(f"{layer}.noise.weight"), 1.0)
                put(f"{layer}.activate.bias", next(biases, None), 1.0)
    put("generator.input.input", found.constant, 1.0)
    names = {theirs: ours for ours, theirs in published.generator_names(config).items()}
    for key, value in state.items():  # the published shapes differ from the plain ones by ones only
        expected = published.published_shape(names[key], shapes[names[key]])
        if value.numel() != math.prod(expected) or [n for n in value.shape if n > 1] != [
            n for n in expected if n > 1
        ]:
            raise CheckpointError(
                f"its graph gives {key} the shape {tuple(value.shape)}, expected {expected}"
            )
        state[key] = value.reshape(expected)
    return state
