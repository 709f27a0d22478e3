"""What a run tells: a line an event in stats.jsonl, TensorBoard, and whoever called."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpenvideo.errors import OptionError, file_error
from gpenvideo.train.options import TrainOptions
from gpenvideo.train.parallel import Processes

__all__ = ["Log", "Progress", "Record", "Tick"]

Record = dict[str, Any]
Progress = Callable[[Record], None]


class Tick:
    """The losses and times of the steps since the last line."""

    def __init__(self, options: TrainOptions) -> None:
        self.options = options
        self.values: dict[str, list[Tensor]] = {}
        self.steps = 0
        self.waited_s = self.spent_s = 0.0

    def add(self, found: dict[str, Tensor], waited_s: float, spent_s: float) -> None:
        """Note the losses of one step, and its seconds: waiting for data, and in all."""
        for name, value in found.items():
            self.values.setdefault(name, []).append(value.float())
        self.steps += 1
        self.waited_s += waited_s
        self.spent_s += spent_s

    def record(self, done: int, processes: Processes) -> Record:
        """The line for `done` steps; the losses are means over the steps and the processes."""
        means = {name: torch.stack(values).mean() for name, values in self.values.items()}
        processes.mean_(means.values())
        options = self.options
        return {
            "event": "tick",
            "step": done,
            "images": done * options.batch,
            **{name: float(value) for name, value in means.items()},
            "lr": options.late_lr if done - 1 >= options.lr_drop_at * options.steps else options.lr,
            "img_per_s": self.steps * options.batch / self.spent_s,
            "data_share": self.waited_s / self.spent_s,
        }


class Log:
    """stats.jsonl, TensorBoard where it is installed, and the caller's callback: each gets every record.

    Raises FileError when the folder cannot be written.
    """

    def __init__(self, out: Path, step: int, progress: Progress | None) -> None:
        self.path = out / "stats.jsonl"
        self.progress = progress
        try:
            if self.path.exists():  # what a run wrote after its last checkpoint, it will write again
                lines = self.path.read_text(encoding="utf-8").splitlines()
                kept = [line for line in lines if _step_of(line) <= step]
                self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise file_error(error, self.path, "write") from error
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step)

    def write(self, record: Record) -> None:
        """Hand one record, which has an "event" and a "step", to all three.

        Raises OptionError when a loss in it is no longer finite, FileError when the file cannot be written.
        """
        if not all(math.isfinite(value) for value in record.values() if isinstance(value, float)):
            raise OptionError(
                f"the loss is no longer finite at step {record['step']}; go on from the last checkpoint "
                "with a lower lr, a grad_clip, or precision fp32"
            )
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise file_error(error, self.path, "write") from error
        if self.board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{record['event']}/{name}", value, record["step"])
            self.board.flush()
        if self.progress is not None:
            self.progress(record)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # cut off by a crash
