"""The folder of a run that teaches one network: its options, its statistics, and how far it has come."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gpenvideo.errors import CheckpointError, OptionError, file_error

__all__ = [
    "cut_stats",
    "export_average",
    "keep_options",
    "load_state",
    "move_average",
    "resume",
    "save_state",
]


@torch.no_grad()
def move_average(average: dict[str, Tensor], state: dict[str, Tensor], decay: float) -> None:
    """Bring a moving average of weights a step on, in place: `decay` of it stays."""
    for name, value in state.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def keep_options(folder: Path, options: Any) -> None:
    """Write options.json, or make sure that the run in the folder has the same."""
    file, text = folder / "options.json", json.dumps(asdict(options), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_text("utf-8") != text:
            raise OptionError("this folder holds a run with other options; choose another", path=folder)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise file_error(error, file, "write") from error


def resume(
    file: Path, network: nn.Module, average: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> int:
    """The step to start at; everything is put back as it was before that step."""
    if not file.exists():
        return 0
    state = load_state(file)
    network.load_state_dict(state["network"])
    for name, value in state["average"].items():
        average[name].copy_(value)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def load_state(file: Path) -> dict[str, Any]:
    """What `save_state` kept. FileError, CheckpointError."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise file_error(error, file, "read") from error
    except Exception as error:  # what a damaged file makes the unpickler raise has no common base
        raise CheckpointError("damaged, or not a checkpoint of a training run", path=file) from error
    if not isinstance(state, dict) or not {"network", "average", "optimiser", "step"} <= set(state):
        raise CheckpointError("not a checkpoint of such a training run", path=file)
    return state


def save_state(state: dict[str, Any], file: Path) -> None:
    """Keep network, average, optimiser and step: whole or not at all. FileError."""
    beside = file.with_suffix(".part")
    try:
        torch.save(state, beside)
        beside.replace(file)
    except OSError as error:
        raise file_error(error, file, "write") from error


def cut_stats(file: Path, steps: int) -> None:
    """Drop the lines of steps that will be done again."""
    if file.exists():
        lines = file.read_text("utf-8").splitlines(keepends=True)
        file.write_text("".join(lines[:steps]), "utf-8")


def export_average(average: dict[str, Tensor], path: Path) -> None:
    """Write averaged weights as float16 .safetensors. FileError."""
    state = {name: value for name, value in average.items() if not name.endswith("num_batches_tracked")}
    try:
        save_file({name: value.half().contiguous() for name, value in state.items()}, path)
    except OSError as error:
        raise file_error(error, path, "write") from error
