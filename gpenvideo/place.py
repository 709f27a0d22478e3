"""Places: whether a report can be written where it is to go, writing it whole or not at all, and locks."""

from __future__ import annotations

import os
import sys
from os import PathLike
from pathlib import Path

from gpenvideo.errors import FileError, OptionError, file_error

__all__ = ["Lock", "beside", "check_place", "write_json"]

LOCKED_BYTE = 1 << 20  # Windows locks bytes: one far behind what is said


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


class Lock:
    """A file that one process holds; it lets go of it when it ends, however it ends.

    Args:
        path: of the file, which says in it who holds it and stays when nobody does.
        what: is held, for the message.

    Raises:
        FileError: another process holds it (it is named), or the file cannot be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise file_error(error, path, "write") from error
        try:
            if not _taken(self._file):
                said = os.pread(self._file, 64, 0) if hasattr(os, "pread") else os.read(self._file, 64)
                who = said.split(b"\n")[0].decode(errors="replace").strip() or "unknown"
                raise FileError(
                    f"another run (process {who}) works on {what}: let it end, or stop it", path=path
                )
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, b"%d\n" % os.getpid())
        except BaseException:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Let go; once is enough."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _taken(file: int) -> bool:
    """Whether the lock of an open file was free, and is this process's now."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
