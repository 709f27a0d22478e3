"""Places: whether a report can be written where it is to go, and writing it there whole or not at all."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from gpenvideo.errors import FileError, OptionError, file_error

__all__ = ["beside", "check_place", "write_json"]


def check_place(path: str | PathLike[str], *taken: str | PathLike[str]) -> None:
    """Try whether a report can be written, before the work that it is to tell of.

    OptionError: it would replace one of `taken`. FileError: a folder, or a place that cannot be written to.
    """
    path = Path(path)
    for other in map(Path, taken):
        if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
            raise OptionError("a report would replace it: choose another name for the report", path=other)
    if path.is_dir():
        raise FileError("it is a folder: name a file for the report", path=path)
    try:
        beside(path).touch()
        beside(path).unlink()
    except OSError as error:
        raise file_error(error, path, "write") from error


def beside(path: Path) -> Path:
    """Where a file is written before it is whole."""
    return path.with_name(f".{path.name}.part-{os.getpid():x}")


def write_json(text: str, path: str | PathLike[str]) -> None:
    """Write a report beside its place and move it there; FileError when it cannot be."""
    path = Path(path)
    part = beside(path)
    try:
        part.write_text(text + "\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise file_error(error, path, "write") from error
