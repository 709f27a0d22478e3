"""The journal of one resumable run: lines of JSON, each on the disk before what follows from it is done."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpenvideo.errors import FileError, file_error
from gpenvideo.place import Lock
from gpenvideo.segmented.parts import PartDone
from gpenvideo.segmented.work import hash_of
from gpenvideo.video.disk import sync_folder

__all__ = ["Journal"]

LOCK = "lock"
OURS = re.compile(r"lock|journal\.jsonl|tracks\.json|\d{5,}\.nut|\.[^.]+(\.json)?\.part-.*")


class Journal:
    """What is done of a run, in a folder with the segments; it is there until the run ends well.

    Args:
        folder: is made where it is not there.
        run: what tells this run from others: what another one has left is removed.
        what: is made, for the message that another process makes it.

    Raises:
        FileError: another process works in it, or it cannot be written.
    """

    def __init__(self, folder: Path, run: dict[str, Any], what: str) -> None:
        self.folder, self._path = folder, folder / "journal.jsonl"
        try:
            folder.mkdir(exist_ok=True)
            strange = [file.name for file in folder.iterdir() if not OURS.fullmatch(file.name)]
        except OSError as error:
            raise file_error(error, folder, "write") from error
        if strange:
            raise FileError(f"it is to hold a journal, and there is {strange[0]!r} in it", path=folder)
        self._lock = Lock(folder / LOCK, what)
        try:
            self._lines = self._read()
            if not self._lines or self._lines[0] != run:
                self._begin(run)
        except BaseException:
            self._lock.release()
            raise

    def _read(self) -> list[dict[str, Any]]:
        """The lines that are whole; what a power cut has left behind them is cut off."""
        try:
            text = self._path.read_bytes() if self._path.exists() else b""
            lines, whole = [], 0
            for line in text.splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                lines.append(json.loads(line))
                whole += len(line)
            if whole < len(text):
                os.truncate(self._path, whole)
            return lines
        except ValueError:
            return []
        except OSError as error:
            raise file_error(error, self._path, "read") from error

    def _begin(self, run: dict[str, Any]) -> None:
        try:
            self._empty()
        except OSError as error:
            raise file_error(error, self.folder, "write") from error
        self._lines = []
        self.write(run)
        try:
            sync_folder(self.folder)
            sync_folder(self.folder.parent)
        except OSError as error:
            raise file_error(error, self.folder, "write") from error

    def write(self, line: dict[str, Any]) -> None:
        """Add a line: it is on the disk when this returns."""
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise file_error(error, self._path, "write") from error
        self._lines.append(line)

    @property
    def tracks_path(self) -> Path:
        """Of the file that an analysis writes."""
        return self.folder / "tracks.json"

    def tracks_known(self) -> bool:
        """Whether that file is there, as it was when it was journalled."""
        known = [line["tracks"] for line in self._lines if "tracks" in line]
        return bool(known) and self.tracks_path.exists() and hash_of(self.tracks_path) == known[-1]

    def segment_path(self, index: int) -> Path:
        """Of a part."""
        return self.folder / f"{index:05d}.nut"

    def parts_done(self) -> dict[int, PartDone]:
        """The parts that are done, of the tracks that are there, and whose segments are as they were."""
        found: dict[int, PartDone] = {}
        for line in self._lines:
            if "tracks" in line:
                found = {}
            if "done" in line:
                part = PartDone(**line["done"])
                found[part.index] = replace(part, path=str(self.segment_path(part.index)))
        return {index: part for index, part in found.items() if _is_whole(part)}

    def part_done(self, done: PartDone) -> None:
        """A segment lies in its place."""
        self.write({"done": asdict(done)})

    def remove(self) -> None:
        """The run has ended well."""
        with contextlib.suppress(OSError):
            self._path.unlink()  # first: while it is there, so is what it tells of
            self._empty()
            self._lock.release()
            (self.folder / LOCK).unlink()
            self.folder.rmdir()

    def _empty(self) -> None:
        for file in self.folder.iterdir():
            if file.name != LOCK:
                file.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def _is_whole(part: PartDone) -> bool:
    path = Path(part.path)
    return path.exists() and hash_of(path) == part.sha256
