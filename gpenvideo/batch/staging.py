"""Staging: what of a store of objects, or of a share, lies on a machine while it is worked on."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gpenvideo.batch.executor import Outcome
from gpenvideo.batch.storage import as_place, exists, fetch, is_url, name_of, put, remove, stamp, told
from gpenvideo.batch.tasks import Analyse, Join, RestorePart, Task, attempt
from gpenvideo.errors import FileError
from gpenvideo.place import Lock

if TYPE_CHECKING:
    from gpenvideo.segmented.warm import Warm

__all__ = ["Staged", "make_root", "usual_root"]

LOCK = "held"  # by the process whose folder it is in
STARTING = "starting"  # is held while folders come and go


class Staged:
    """The `gpenvideo.batch.tasks.Storage` of a worker: what lies behind URLs is staged on its machine.

    What was fetched stays for the next task, until `tidy`; the workers of a machine fetch it once, together.
    What a worker that was killed left behind is removed by the next one that stages something.

    Args:
        paths: whether files that are made at paths are staged too, so that a share never meets a half of one.
        root: a folder of this machine, made when it is needed; None is one of this user in the folder that
            the system has for temporary files.
    """

    def __init__(self, *, paths: bool = False, root: Path | None = None) -> None:
        self._paths = paths
        self._root = root or usual_root()
        self._fetched: dict[str, Path] = {}
        self._places: dict[str, str] = {}
        """Of what is staged, by its path here."""

        self._held: tuple[Path, Lock] | None = None

    @property
    def _folder(self) -> Path:
        """Of this worker, made at the first call. FileError: nothing can be written there."""
        if self._held is None:
            with told(str(self._root), "write"):
                make_root(self._root)
                with _one_at_a_time(self._root / STARTING):
                    self._sweep()
                    folder = Path(tempfile.mkdtemp(dir=self._root))
                    self._held = folder, Lock(folder / LOCK, "what is staged")
        return self._held[0]

    def exists(self, path: str) -> bool:
        """See the function `exists`."""
        return exists(path)

    def fetched(self, path: str) -> Path:
        """See `fetch`. The copy stays until `tidy`; it is fetched anew when the place changed."""
        if not is_url(path):
            return Path(as_place(path))
        key = hashlib.sha256(f"{path} {stamp(path)}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        own = self._folder / key / name_of(path)
        if not own.exists():
            with told(path, "read"):
                own.parent.mkdir(exist_ok=True)
            with _one_at_a_time(self._root / f"fetching-{key[0]}"):
                if not any(
                    _linked(other, own) for other in self._root.glob(f"*/{key}/{glob.escape(own.name)}")
                ):
                    fetch(path, own.parent)
        self._fetched[path], self._places[str(own)] = own, path
        return own

    @contextmanager
    def made(self, path: str) -> Iterator[Path]:
        """A place for a file; it is put to `path`, see `put`, when the block ends well."""
        if not is_url(path) and not self._paths:
            yield Path(as_place(path))
            return
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            file = Path(folder) / name_of(path)
            self._places[str(file)] = path
            yield file
            put(file, path)

    def attempt(
        self, task: Task, warm: Warm | None = None, tell: Callable[[int, int], None] | None = None
    ) -> Outcome:
        """See `gpenvideo.batch.tasks.attempt`; errors tell of places, not of their copies here.

        The source stays staged for the next task, and nothing else does.
        """
        outcome = attempt(task, warm, self, tell)
        if outcome.error and outcome.error.path:
            outcome.error.path = self._places.get(outcome.error.path, outcome.error.path)
        self.tidy(task.work.source if isinstance(task, Analyse | RestorePart | Join) else task.source)
        return outcome

    def make_folder(self, path: str) -> None:
        """Make a folder, and those that it is in; behind URLs they come with the files."""
        if not is_url(path):
            with told(path, "write"):
                Path(as_place(path)).mkdir(parents=True, exist_ok=True)

    def remove(self, path: str) -> None:
        """See the function `remove`."""
        remove(path)

    def tidy(self, *keep: str) -> None:
        """Remove what was fetched but for these places."""
        for place in set(self._fetched) - set(keep):
            shutil.rmtree(self._fetched.pop(place).parent, ignore_errors=True)
        self._places = {str(own): place for place, own in self._fetched.items()}

    def close(self) -> None:
        """Remove all that is staged, and what workers of this machine that are no more had staged."""
        if self._held:
            folder, lock = self._held
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)
            self._fetched, self._places, self._held = {}, {}, None
        if self._root.is_dir():
            with _one_at_a_time(self._root / STARTING):
                self._sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sweep(self) -> None:
        """Remove the folders of workers that are no more."""
        for lock in self._root.glob(f"*/{LOCK}"):
            try:
                Lock(lock, "what is staged").release()
            except FileError:
                continue  # it lives
            shutil.rmtree(lock.parent, ignore_errors=True)


def usual_root() -> Path:
    """The folder of this user on this machine for what is staged."""
    return Path(tempfile.gettempdir()) / f"gpenvideo-{getattr(os, 'getuid', lambda: '')()}"


def make_root(root: Path) -> None:
    """Make it, for this user alone. FileError: it cannot be written, or is another user's."""
    with told(str(root), "write"):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and root.stat().st_uid != os.getuid():
            raise FileError("it is another user's: let TMPDIR name another folder", path=root)


def _linked(other: Path, own: Path) -> bool:
    """Whether a file that another process fetched is this one's too now, however long that one keeps it."""
    try:
        os.link(other, own)
    except OSError:
        return False
    return True


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block; where there is no fcntl, each fetches for itself."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
