"""The pages of the documentation as tests see them: their fenced blocks, and how their commands are run."""

from __future__ import annotations

import ast
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import traceback
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"sh", "python", "toml", "yaml", "json", "text"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: "```sh" is run, "```sh no-run: needs a camera" is only parsed."""

    page: str
    line: int
    language: str
    note: str
    text: str

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and not self.note

    @property
    def place(self) -> str:
        return f"{self.page}, line {self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif opened is None:
            language, _, note = line[3:].partition(" ")
            opened, lines = (number, language, note.strip()), []
        else:
            start, language, note = opened
            found.append(Block(page.name, start, language, note, "\n".join(lines) + "\n"))
            opened = None
    assert opened is None, f"{page.name}: a block has no end"
    return found


def outside(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block; comments left out, lines that end in a backslash joined."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def arguments_of(words: list[str]) -> list[str] | None:
    """What a command hands to gpenvideo, also by way of `torchrun -m gpenvideo`; None for other programs."""
    if words[0] == "gpenvideo":
        return words[1:]
    for place in range(len(words) - 1):
        if words[place : place + 2] == ["-m", "gpenvideo"]:
            return words[place + 2 :]
    return None


def check_options(arguments: list[str]) -> None:
    """Parse a command line as far as its options and their values; nothing is begun.

    Raises:
        the command line's own complaint: no such command, no such option, a value that is not one.
    """
    from typer.main import get_command

    from gpenvideo.cli import app

    command: Any = get_command(app)
    with suppress(typer.Exit):  # --help
        context = command.make_context("gpenvideo", list(arguments))
        while hasattr(command, "resolve_command") and (rest := [*context._protected_args, *context.args]):
            _, command, arguments = command.resolve_command(context, rest)
            context = command.make_context(command.name, list(arguments), parent=context)


def run(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Run a block in a folder, which is the current one; the first thing that fails fails the test.

    Args:
        names: what the page's Python blocks have defined so far.
    """
    if block.language == "python":
        said = io.StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
                warnings.simplefilter("default")
                exec(compile(block.text, block.place, "exec"), names)
        except BaseException:
            pytest.fail(f"{block.place}:\n{traceback.format_exc(limit=-3)}", pytrace=False)
        return
    for words in commands(block):
        arguments = arguments_of(words) if words[0] == "gpenvideo" else None
        code, said_ = _gpenvideo(arguments) if arguments is not None else _program(words, folder)
        if code:
            pytest.fail(f"{block.place}: {shlex.join(words)}\nexit code {code}\n{said_}", pytrace=False)


def _gpenvideo(arguments: list[str]) -> tuple[int, str]:
    """The command line, in this process."""
    from gpenvideo.cli import main

    before, said = sys.argv, io.StringIO()
    sys.argv = ["gpenvideo", *arguments]
    code: Any = 0
    try:
        with redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("default")
            main()
    except SystemExit as stopped:
        code = stopped.code or 0
    finally:
        sys.argv = before
    return int(code), said.getvalue()


def _program(words: list[str], folder: Path) -> tuple[int, str]:
    if words[0] == "python":
        words = [sys.executable, *words[1:]]
    if shutil.which(words[0]) is None:
        return 127, f"{words[0]} is not installed"
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def check_toml(block: Block) -> None:
    """A block of settings: every key is one that a gpenvideo.toml may have."""
    from gpenvideo.batch.settings import work_of

    table = tomllib.loads(block.text)
    work_of("film.mkv", {name: [value] if name == "reference" else value for name, value in table.items()})


def check_python(block: Block) -> None:
    """A block that is not run is Python all the same."""
    ast.parse(block.text, block.place)
