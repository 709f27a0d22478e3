"""The store: which files are to be restored, how far each is, and which of their segments are done.

One SQLite file for each folder (or URL) that results go to, in the user's state directory: never beside the
results, which may lie on a network share, where locks and syncs cannot be trusted. Only the driver of a run
writes it, and a second run on the same results is refused. A transaction is on the disk when its call returns
(rollback journal, synchronous=EXTRA), so whatever happens then, what was said to be done is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpenvideo.errors import FileError, OptionError, file_error
from gpenvideo.place import Lock
from gpenvideo.segmented.parts import PartDone

__all__ = ["STATES", "Job", "Store", "store_path"]

STATES = ("queued", "running", "done", "failed", "cancelled")
BUSY_S = 10.0
VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, target TEXT NOT NULL, source_hash TEXT, work_hash TEXT,
    state TEXT NOT NULL, reason TEXT, attempts INTEGER NOT NULL, seconds REAL NOT NULL,
    frames INTEGER NOT NULL, faces INTEGER NOT NULL, report TEXT NOT NULL, added REAL NOT NULL,
    changed REAL NOT NULL, number INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS segments (
    job TEXT NOT NULL, number INTEGER NOT NULL, path TEXT NOT NULL, begun INTEGER NOT NULL, sha256 TEXT,
    bytes INTEGER, frames INTEGER, faces INTEGER, seconds REAL, told TEXT, PRIMARY KEY (job, number)
);
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One file, and what has become of it."""

    id: str
    source: str
    target: str
    source_hash: str | None = None
    """SHA-256 of the source; None until it is known."""

    work_hash: str | None = None
    """`Work.fingerprint` of what is done to it; None until it is known."""

    state: str = "queued"
    """One of `STATES`."""

    reason: str | None = None
    """Why it failed, was skipped or cancelled: one line."""

    attempts: int = 0
    seconds: float = 0.0
    frames: int = 0
    faces: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    added: float = 0.0
    """Wall clock, seconds since 1970: for people to read, never to decide by, for a clock may go back."""

    changed: float = 0.0
    """The same, of the last change."""


COLUMNS = tuple(f.name for f in fields(Job))
CHANGED = {"source_hash", "work_hash", "attempts", "seconds", "frames", "faces", "report", "source", "target"}
DONE = tuple(f.name for f in fields(PartDone) if f.name != "index")
WITH_PATHS = {"source", "target", "path", "reason"}  # a path may be no text


class Store:
    """The jobs of one place that results go to. Use it in one thread; close it, or leave its `with` block.

    Made by `Store.open`. Every method raises FileError, one line, where the file is held by another program
    for ten seconds, is damaged, or its disk is full.
    """

    def __init__(self, path: Path, lock: Lock | None) -> None:
        self.path = path
        self._lock = lock
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._db.text_factory = os.fsdecode
            try:
                self._prepare(lock is not None)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise _told(error, path) from error

    @classmethod
    def open(
        cls,
        output_root: str | PathLike[str],
        path: str | PathLike[str] | None = None,
        *,
        writing: bool = True,
    ) -> Store:
        """The store of a folder or a URL.

        Args:
            output_root: where results go.
            path: of the SQLite file; None is `store_path(output_root)`.
            writing: this is the driver of a run; else it is only looked at, while a run may go on.

        Raises:
            FileError: another run writes to the same results (its process is named), the file cannot be made,
            or is no store. FileMissing: there is nothing to look at.
        """
        file = store_path(output_root) if path is None else Path(path)
        if not writing:
            try:
                file.stat()
            except OSError as error:
                raise file_error(error, file, "read") from error
            return cls(file, None)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise file_error(error, file, "write") from error
        lock = Lock(file.with_name(file.name + ".lock"), f"jobs for {fspath(output_root)}")
        try:
            return cls(file, lock)
        except BaseException:
            lock.release()
            raise

    def _prepare(self, writing: bool) -> None:
        self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.execute("PRAGMA synchronous=EXTRA")
        if writing:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute("INSERT OR IGNORE INTO about VALUES ('version', ?)", (str(VERSION),))
            self._db.execute("COMMIT")
        (version,) = self._db.execute("SELECT value FROM about WHERE key = 'version'").fetchone()
        if version != str(VERSION):
            raise FileError(f"it is of another version of gpenvideo ({version})", path=self.path)

    def add(self, job: Job) -> Job:
        """Take a job up, in the place of the one with its id if there is one. The job, with its times."""
        now = time.time()
        job = replace(job, added=job.added or now, changed=now)
        values = {name: getattr(job, name) for name in COLUMNS} | {"report": json.dumps(job.report)}
        names, marks = ", ".join(COLUMNS), ", ".join(map(_mark, COLUMNS))
        updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in ("id", "added"))
        with self._writing():
            _check_state(job.state)
            self._db.execute(
                f"INSERT INTO jobs ({names}, number) VALUES ({marks}, "
                f"(SELECT COALESCE(MAX(number), 0) + 1 FROM jobs)) ON CONFLICT (id) DO UPDATE SET {updates}",
                _bound(values),
            )
        return job

    def jobs(self, state: str | None = None) -> list[Job]:
        """All jobs, or those of one state, in the order they were first added."""
        where = "" if state is None else "WHERE state = ?"
        query = f"SELECT {', '.join(COLUMNS)} FROM jobs {where} ORDER BY number"
        return [_job(row) for row in self._rows(query, () if state is None else (state,))]

    def get(self, id: str) -> Job:
        """OptionError: there is no such job."""
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM jobs WHERE id = ?", (id,))
        if not rows:
            raise OptionError(f"there is no job {id!r}", path=self.path)
        return _job(rows[0])

    def set_state(self, id: str, state: str, reason: str | None = None, **facts: Any) -> None:
        """Say what has become of a job.

        Args:
            facts: further fields of `Job`: source_hash, work_hash, attempts, seconds, frames, faces, report.

        Raises:
            OptionError: no such job, state or field.
        """
        _check_state(state)
        if set(facts) - CHANGED:
            raise OptionError(f"a job has no {', '.join(sorted(set(facts) - CHANGED))} to be set")
        if "report" in facts:
            facts["report"] = json.dumps(facts["report"])
        values = {"state": state, "reason": reason, "changed": time.time(), **facts}
        with self._writing():
            done = self._db.execute(
                f"UPDATE jobs SET {', '.join(f'{name} = {_mark(name)}' for name in values)} WHERE id = :id",
                _bound({**values, "id": id}),
            )
            if not done.rowcount:
                raise OptionError(f"there is no job {id!r}", path=self.path)

    def part_begun(self, job_id: str, index: int, path: str | PathLike[str]) -> None:
        """A part is about to be restored into a segment at `path`; how often that was is counted."""
        with self._writing():
            self._db.execute(
                f"INSERT INTO segments (job, number, path, begun) VALUES (:job, :number, {_mark('path')}, 1) "
                "ON CONFLICT DO UPDATE SET path = excluded.path, begun = begun + 1, sha256 = NULL",
                _bound({"job": job_id, "number": index, "path": fspath(path)}),
            )

    def part_done(self, job_id: str, done: PartDone) -> None:
        """A segment lies on the disk, whole."""
        values = {name: getattr(done, name) for name in DONE} | {"told": json.dumps(done.told)}
        names, marks = ", ".join(DONE), ", ".join(map(_mark, DONE))
        with self._writing():
            self._db.execute(
                f"INSERT INTO segments (job, number, begun, {names}) VALUES (:job, :number, 1, {marks}) "
                f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in DONE)}",
                _bound({**values, "job": job_id, "number": done.index}),
            )

    def parts_done(self, job_id: str) -> dict[int, PartDone]:
        """The segments of a job that were done, by index; whether they are still there is not looked at."""
        rows = self._rows(
            f"SELECT number, {', '.join(DONE)} FROM segments "
            "WHERE job = ? AND sha256 IS NOT NULL ORDER BY number",
            (job_id,),
        )
        return {row[0]: PartDone(*(*row[:-1], json.loads(row[-1]))) for row in rows}

    def parts_begun(self, job_id: str) -> dict[int, int]:
        """How often each part of a job was begun, by index."""
        query = "SELECT number, begun FROM segments WHERE job = ? ORDER BY number"
        return dict(self._rows(query, (job_id,)))

    def forget_parts(self, job_id: str) -> None:
        """The job's segments are of no use any more; their files are the caller's."""
        with self._writing():
            self._db.execute("DELETE FROM segments WHERE job = ?", (job_id,))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: on the disk when the block is left, or not begun."""
        if self._lock is None:
            raise OptionError("this store was opened to be looked at", path=self.path)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _told(error, self.path) from error

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _told(error, self.path) from error

    def close(self) -> None:
        """Let others write."""
        self._db.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def store_path(output_root: str | PathLike[str]) -> Path:
    """Where the store of a folder or a URL lies: in the user's state directory."""
    from platformdirs import user_state_path

    root = fspath(output_root)
    known = root.rstrip("/") if "://" in root else str(Path(root).resolve())
    name = hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return user_state_path("gpenvideo", appauthor=False) / "batch" / f"{name}.sqlite"


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(COLUMNS, row, strict=True))
    return Job(**values | {"report": json.loads(values["report"])})


def _mark(name: str) -> str:
    """The place of a value in a statement."""
    return f"CAST(:{name} AS TEXT)" if name in WITH_PATHS else f":{name}"


def _bound(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a statement; paths as the bytes that they are to the system."""
    return {
        name: os.fsencode(value) if name in WITH_PATHS and value is not None else value
        for name, value in values.items()
    }


def _check_state(state: str) -> None:
    if state not in STATES:
        raise OptionError(f"a job is {', '.join(STATES)}, not {state!r}")


def _told(error: sqlite3.Error, path: Path) -> FileError:
    text = str(error).lower()
    if "locked" in text or "busy" in text:
        line = f"another program has held it for {BUSY_S:.0f} s: close that program and start again"
    elif "full" in text or "disk i/o" in text:
        line = "cannot write it: its disk is full or fails; make room and start again"
    elif isinstance(error, sqlite3.OperationalError) and "no such table" not in text:
        line = f"cannot use it: {text}"
    else:
        line = f"it is no store of jobs, or a damaged one ({text}): move it away to begin anew"
    return FileError(line, path=path)
