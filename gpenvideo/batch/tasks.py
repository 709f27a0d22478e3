"""Tasks: what is done to a file, in steps that any worker on any machine can do.

A file is hashed, analysed, restored part by part, and joined. A task is a value that can be pickled, and
`attempt` does it, wherever that is. Paths may be URLs where the worker's `Storage` knows them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gpenvideo.errors import DependencyError, DeviceError, FileError, GpenvideoError, MediaError, file_error
from gpenvideo.video.disk import beside, put_in_place, remove_left_over

if TYPE_CHECKING:
    from gpenvideo.batch.executor import Outcome
    from gpenvideo.segmented.parts import Part, PartDone
    from gpenvideo.segmented.restoring import Warm
    from gpenvideo.segmented.work import Work

__all__ = [
    "Analyse",
    "Analysed",
    "Copy",
    "Hash",
    "Join",
    "RestorePart",
    "Storage",
    "Task",
    "attempt",
    "perform",
    "sha256_of",
]

EVERYONES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}


@dataclass(frozen=True, slots=True)
class Hash:
    """Tell a source from all others: its SHA-256."""

    job_id: str
    source: str


@dataclass(frozen=True, slots=True)
class Analyse:
    """Find the shots and tracks of a source; tracks that are there already are taken: Analysed."""

    job_id: str
    work: Work
    tracks_path: str
    segment_s: float


@dataclass(frozen=True, slots=True)
class Analysed:
    """In what parts a source can be restored."""

    parts: tuple[Part, ...]
    frames: int


@dataclass(frozen=True, slots=True)
class RestorePart:
    """Restore a part into a segment: PartDone."""

    job_id: str
    work: Work
    part: Part
    tracks_path: str
    segment_path: str
    done: PartDone | None = None
    """What an earlier run made of it: is taken, if it is still there as it was."""


@dataclass(frozen=True, slots=True)
class Join:
    """Make the result of its segments, and look whether it is right: facts for the report, a dict."""

    job_id: str
    work: Work
    segments: tuple[PartDone, ...]
    target: str
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """The result of a source that is the same as another: a copy of that one's."""

    job_id: str
    source: str
    target: str
    verify: bool = False


Task = Hash | Analyse | RestorePart | Join | Copy


class Storage(Protocol):
    """Where the driver and the workers find what paths and URLs name. Every method raises FileError."""

    def exists(self, path: str) -> bool:
        """Whether there is a file, or a folder."""
        ...

    def fetched(self, path: str) -> Path:
        """The file, on this machine, to be read: what is not there is told when it is read."""
        ...

    def made(self, path: str) -> AbstractContextManager[Path]:
        """Where to write a file, on this machine, with its suffix; at `path` when the block ends well."""
        ...

    def make_folder(self, path: str) -> None:
        """Make a folder, and those that it is in, where files need one."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; what is not there is no error."""
        ...


def attempt(
    task: Task,
    warm: Warm | None,
    storage: Storage,
    tell: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Do a task, and say what became of it: nothing but an interrupt is raised. See `perform`."""
    from gpenvideo.batch.executor import Outcome

    with warnings.catch_warnings(record=True) as caught:
        try:
            outcome = Outcome(task, perform(task, warm, storage, tell))
        except GpenvideoError as error:
            outcome = Outcome(task, error=error, everyones=_is_everyones(error))
        except Exception as error:
            line = " ".join(str(error).split())
            told = GpenvideoError(f"{type(error).__name__}: {line}"[:500])
            outcome = Outcome(task, error=told, everyones=_is_everyones(error), trace=traceback.format_exc())
    heeded = [w for w in caught if issubclass(w.category, (UserWarning, RuntimeWarning))]
    return replace(outcome, warnings=tuple(dict.fromkeys(str(w.message) for w in heeded)))


def perform(
    task: Task,
    warm: Warm | None,
    storage: Storage,
    tell: Callable[[int, int], None] | None = None,
) -> Any:
    """Do a task.

    Args:
        warm: networks that are loaded, and kept for the next task.
        storage: knows the task's paths.
        tell: is called with the frames and the faces so far.

    Returns:
        What the task's class says.

    Raises:
        GpenvideoError: whatever a person can put right.
    """
    match task:
        case Hash():
            return sha256_of(storage.fetched(task.source))
        case Analyse():
            return _analyse(task, warm, storage, tell)
        case RestorePart():
            return _restore_part(task, warm, storage, tell)
        case Join():
            return _join(task, storage)
        case Copy():
            with storage.made(task.target) as target:
                _copy(storage.fetched(task.source), target, task.verify)
            return {}


def _analyse(task: Analyse, warm: Warm | None, storage: Storage, tell: Any) -> Analysed:
    from gpenvideo.segmented.parts import parts
    from gpenvideo.segmented.restoring import analyse
    from gpenvideo.tracks.file import read_tracks

    tracks = None
    if storage.exists(task.tracks_path):
        with suppress(GpenvideoError):  # damaged ones are found again
            tracks = read_tracks(storage.fetched(task.tracks_path))
    if tracks is None:
        work = replace(task.work, source=str(storage.fetched(task.work.source)))
        with storage.made(task.tracks_path) as place:
            tracks = analyse(work, place, warm=warm, progress=_teller(tell))
    return Analysed(tuple(parts(tracks, task.segment_s)), tracks.frames)


def _restore_part(task: RestorePart, warm: Warm | None, storage: Storage, tell: Any) -> PartDone:
    from gpenvideo.segmented.restoring import restore_part

    tracks = storage.fetched(task.tracks_path)
    if task.done and _is_good(task.done, tracks, storage):
        return task.done
    work = replace(task.work, source=str(storage.fetched(task.work.source)))
    with storage.made(task.segment_path) as place:
        done = restore_part(work, task.part, tracks, place, warm=warm, progress=_teller(tell))
    return replace(done, path=task.segment_path)


def _is_good(done: PartDone, tracks: Path, storage: Storage) -> bool:
    """Whether a segment is there as it was made, and of these tracks."""
    if done.told.get("tracks") != sha256_of(tracks) or not storage.exists(done.path):
        return False
    return sha256_of(storage.fetched(done.path)) == done.sha256


def _join(task: Join, storage: Storage) -> dict[str, Any]:
    from gpenvideo.segmented.restoring import join

    work = replace(task.work, source=str(storage.fetched(task.work.source)))
    segments = [replace(done, path=str(storage.fetched(done.path))) for done in task.segments]
    with storage.made(task.target) as target:
        facts = _verified(work, segments, target) if task.verify else join(work, segments, target)
    return facts | {"source": task.work.source, "target": task.target}


def _verified(work: Work, segments: list[PartDone], target: Path) -> dict[str, Any]:
    """Join beside the target, which gets its name when it is found to be right."""
    from gpenvideo.batch.verify import verify
    from gpenvideo.segmented.restoring import join

    remove_left_over(target)
    trial = beside(target)
    for segment in segments:
        if sha256_of(segment.path) != segment.sha256:
            raise MediaError(f"segment {segment.index} is damaged, the disk may be failing: try it again")
    try:
        facts = join(work, segments, trial) | {"verified": verify(work, segments, trial)}
        put_in_place(trial, target)
        return facts
    except GpenvideoError as error:
        if error.path == str(trial):
            error.path = str(target)
        raise
    except OSError as error:
        raise file_error(error, target, "write") from error
    finally:
        trial.unlink(missing_ok=True)


def _teller(tell: Callable[[int, int], None] | None) -> Any:
    return None if tell is None else lambda done: tell(done.frames, done.faces)


def _copy(source: Path, target: Path, verified: bool) -> None:
    """Beside first, then renamed."""
    remove_left_over(target)
    part = beside(target)
    try:
        shutil.copyfile(source, part)
        if verified and sha256_of(part) != sha256_of(source):
            raise MediaError("its copy is not the same: the disk may be failing", path=target)
        put_in_place(part, target)
    except FileError:
        raise
    except OSError as error:
        raise file_error(error, target, "write") from error
    finally:
        part.unlink(missing_ok=True)


def sha256_of(path: str | PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal digits. FileError: it cannot be read, or is no file."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.listdir(path)  # its own error, if there is one, tells more
            raise FileError("it is a folder: give a video", path=path)
        if not stat.S_ISREG(mode):
            raise FileError("it is no file but a pipe or a device: give a video", path=path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileError:
        raise
    except OSError as error:
        raise file_error(error, path, "read") from error


def _is_everyones(error: BaseException) -> bool:
    """Whether what went wrong is the machine's, and would meet every other file as well."""
    if isinstance(error, (DependencyError, DeviceError)):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in EVERYONES:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
