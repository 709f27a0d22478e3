"""What the commands share: where they print, the options they have in common, and the warnings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from gpenvideo.foreign import ForeignRestorer
    from gpenvideo.restorer import GPENRestorer

__all__ = ["Device", "Dtype", "Json", "described", "err", "out", "print_json", "say", "show_warning"]

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Dtype = Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")]


def print_json(value: dict[str, Any]) -> None:
    """One line for a program."""
    out.print_json(json.dumps(value), indent=None, ensure_ascii=True)  # names may be no text


def say(line: str) -> None:
    """One line for a person, to standard output."""
    out.print(line, markup=False, highlight=False)


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """In the place of `warnings.showwarning`: one yellow line, and none for what only programmers heed."""
    if issubclass(category, (UserWarning, RuntimeWarning)):
        err.print(f"warning: {message}", style="yellow", markup=False, highlight=False)


def described(restorer: GPENRestorer | ForeignRestorer) -> str:
    """The network and where it runs, in a line."""
    from gpenvideo.foreign import ForeignRestorer

    names = {"cpu": "the CPU", "cuda": "CUDA"}
    precision = str(restorer.dtype).removeprefix("torch.")
    where = names[restorer.device.type]
    kind = restorer.name if isinstance(restorer, ForeignRestorer) else restorer.config.layout
    return f"{restorer.size_px} px {kind} network on {where}, {precision}"
