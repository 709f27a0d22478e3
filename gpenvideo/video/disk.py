"""Files on a disk: written beside their place, whole and synced when they get it, whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

__all__ = ["beside", "put_in_place", "remove_left_over", "sync_folder"]


def beside(path: Path) -> Path:
    """Where a file is written before it is whole; the process's number is in its name."""
    return path.with_name(f".{path.stem}.part-{os.getpid():x}{path.suffix}")


def put_in_place(part: Path, path: Path) -> None:
    """Give a written file its name. After a power cut it is there and whole, or what was there before is.

    Raises OSError.
    """
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk when this returns. Raises OSError."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network shares know no sync of folders
            os.fsync(opened)
    finally:
        os.close(opened)


def remove_left_over(path: Path) -> None:
    """Remove what processes that are no more have left `beside` a path."""
    name = re.compile(re.escape(f".{path.stem}.part-") + "([0-9a-f]+)" + re.escape(path.suffix))
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            found = name.fullmatch(other.name)
            if found and not _is_running(int(found[1], 16)):
                other.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether it is another one that runs: numbers come back, in containers the same one each time."""
    if os.name != "posix" or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
