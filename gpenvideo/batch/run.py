"""A batch from what a person gives to what is told at its end."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from gpenvideo.batch.driver import BatchOptions, Driver
from gpenvideo.batch.executor import Executor
from gpenvideo.batch.film import Film
from gpenvideo.batch.local import Processes
from gpenvideo.batch.overview import Overview
from gpenvideo.batch.settings import folder_settings, work_of
from gpenvideo.batch.sources import Found, find_sources, is_whole, stamp_of
from gpenvideo.batch.staging import Staged
from gpenvideo.batch.storage import as_place, inside, is_url
from gpenvideo.batch.store import Store
from gpenvideo.batch.tasks import Storage
from gpenvideo.errors import FileError, GpenvideoError, OptionError
from gpenvideo.place import write_json

__all__ = ["REPORT", "Summary", "export_jobs", "run_batch"]

REPORT = "report.jsonl"
STDERR = 2  # standard output is for programs
PATIENCE = 30  # looks after which a file that rests, but does not open, is taken for a broken one


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a batch."""

    films: tuple[Film, ...]
    """All files, in their order."""

    seconds: float
    report: str
    """Where the report is: a line of JSON a file."""

    warnings: tuple[str, ...] = ()

    @property
    def states(self) -> dict[str, int]:
        """How many files are done, failed, queued (not begun: the run was to stop) and cancelled."""
        return dict(Counter(film.state for film in self.films))

    @property
    def failed(self) -> list[Film]:
        return [film for film in self.films if film.state == "failed"]


def run_batch(
    given: Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    recursive: bool = False,
    suffix: str | None = None,
    watch_s: float | None = None,
    options: BatchOptions | None = None,
    executor: Executor | None = None,
    storage: Storage | None = None,
    store: str | PathLike[str] | None = None,
    exec_done: str | None = None,
    progress: Callable[[Overview], None] | None = None,
    finished: Callable[[Film], None] | None = None,
) -> Summary:
    """Restore many files; those that fail do not stop the others. What was done before is not done again.

    Args:
        given: see `gpenvideo.batch.sources.find_sources`, as are `recursive` and `suffix`.
        output: the folder or URL that results go to.
        settings: that hold for all files, whatever their folders say; see `gpenvideo.batch.settings`.
        watch_s: look for further files every so many seconds, without end.
        options: how the batch goes about it.
        executor: what does the work, closed at the end; None is one process of this machine.
        storage: knows the paths and URLs of sources and results; None is `gpenvideo.batch.staging.Staged`.
        store: the file of jobs; None is in the user's state folder.
        exec_done: a command that is run for every file that is done; {} in it is the result.
        progress: is called with an overview a few times a second.
        finished: is called with every file that is done, has failed or was skipped.

    Raises:
        OptionError, FileError: nothing was begun, or nothing more can be done, whatever the file. What is
        done is kept, and the next run goes on from there.
    """
    begun_s, root = time.monotonic(), as_place(output)
    root = root if is_url(root) else os.path.abspath(root)
    names = [as_place(name) for name in given]
    feed = _Feed(lambda: find_sources(names, root, recursive=recursive, suffix=suffix), settings or {})
    with ExitStack() as stack:
        places = storage or stack.enter_context(Staged())
        worker = executor or Processes()
        stack.callback(worker.close)
        notices = stack.enter_context(_Notices(exec_done))
        files = [(found, feed.work(found)) for found in feed.look()] if watch_s is None else []
        if not files and watch_s is None:
            raise OptionError("there are no videos in what was given; is --recursive missing?")
        jobs = stack.enter_context(Store.open(root, store))

        def closed(film: Film) -> None:
            notices.tell(film)
            if finished:
                finished(film)

        driver = Driver(jobs, worker, root, places, options, progress=progress, finished=closed)
        try:
            for found, work in files:
                driver.add(found, work)
            driver.run(None if watch_s is None else lambda: feed.more(driver, watch_s))
        except BaseException:
            with suppress(GpenvideoError):  # what ends the run is told, and no more than that
                _write_report(driver, jobs, root, places)
            raise
        place = _write_report(driver, jobs, root, places)
    films, warnings = tuple(driver.films.values()), (*driver.warnings, *notices.warnings)
    return Summary(films, time.monotonic() - begun_s, place, warnings)


def _write_report(driver: Driver, jobs: Store, root: str, storage: Storage) -> str:
    lines = []
    for film in driver.films.values():
        facts = {"skipped": film.skipped, "copied": film.twin is not None}
        lines.append(json.dumps(asdict(jobs.get(film.id)) | facts, default=str))
    place = inside(root, REPORT)
    if is_url(root) or storage.exists(root):
        with storage.made(place) as path:
            write_json("\n".join(lines), path)
    return place


def export_jobs(jobs: Store, path: str | PathLike[str]) -> int:
    """Write all that is known of all jobs, as a line of JSON each; their number. FileError: it cannot be."""
    lines = [json.dumps(asdict(job)) for job in jobs.jobs()]
    write_json("\n".join(lines), path)
    return len(lines)


class _Feed:
    """Finds files, and of those that are still being written waits for the end."""

    def __init__(self, look: Callable[[], list[Found]], settings: Mapping[str, Any]) -> None:
        self.look, self._settings = look, settings
        self._seen: dict[str, tuple[str | None, int]] = {}  # stamp, and how many looks it has been so
        self._taken: dict[str, str | None] = {}
        self._last_s: float | None = None

    def work(self, found: Found) -> Any:
        """What is to be done to a file. OptionError, FileError: its settings cannot be used."""
        folders: dict[str, Any] = {}
        if not is_url(found.source):
            folders = folder_settings(Path(found.source).parent, Path(found.base))
        container = Path(found.relative).suffix
        return work_of(found.source, folders | dict(self._settings), container)

    def more(self, driver: Driver, every_s: float) -> bool:
        """Add what has come and is whole. Always True: more may follow."""
        now_s = time.monotonic()
        if self._last_s is not None and now_s - self._last_s < every_s:
            return True
        try:
            files = self.look()
        except FileError:
            if self._last_s is None:
                raise
            files = []  # of a folder or share that is away for a while
        self._last_s = now_s
        for found in files:
            if self._is_due(found) and driver.is_free(found.id):
                self._taken[found.id] = self._seen[found.id][0]
                try:
                    driver.add(found, self.work(found))
                except GpenvideoError as error:
                    driver.reject(found, error)
        return True

    def _is_due(self, found: Found) -> bool:
        stamp = stamp_of(found.source)
        before, looks = self._seen.get(found.id, (None, 0))
        looks = looks + 1 if stamp is not None and stamp == before else 0
        self._seen[found.id] = stamp, looks
        if not looks or self._taken.get(found.id) == stamp:
            return False
        return looks >= PATIENCE or is_whole(found.source)


class _Notices:
    """Commands that are run when a file is done, beside the batch."""

    def __init__(self, command: str | None) -> None:
        self.warnings: list[str] = []
        self._running: list[subprocess.Popen[bytes]] = []
        try:
            self._words = shlex.split(command or "")
        except ValueError as error:
            raise OptionError(f"the command to run when a file is done cannot be read: {error}") from None
        if self._words and shutil.which(self._words[0]) is None:
            raise OptionError(f"the command to run when a file is done is not there: {self._words[0]!r}")

    def tell(self, film: Film) -> None:
        self._reap(wait=False)
        if self._words and film.state == "done" and not film.skipped:
            words = [word.replace("{}", film.target) for word in self._words]
            try:
                self._running.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=STDERR))
            except OSError as error:
                self.warnings.append(f"the command for {film.target!r} could not be run: {error.strerror}")

    def _reap(self, wait: bool) -> None:
        for process in list(self._running):
            if wait or process.poll() is not None:
                self._running.remove(process)
                if process.wait():
                    self.warnings.append(f"{process.args!r} ended with code {process.returncode}")

    def __enter__(self) -> _Notices:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._reap(wait=kind is None)
