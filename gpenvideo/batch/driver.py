"""The driver: sees every file through its tasks, on whatever executor, and writes down what is done.

The store is written before anything relies on it: a segment counts when it lies on the disk whole and the
store says so, a job is done when its result has its name. So a driver may be killed at any moment: the next
one begins where it was, and redoes at most what its workers were doing.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gpenvideo.batch.executor import Executor, Outcome
from gpenvideo.batch.film import Film, number, segment_folder
from gpenvideo.batch.overview import Overview
from gpenvideo.batch.sources import JOURNAL, Found, stamp_of
from gpenvideo.batch.storage import inside, is_url
from gpenvideo.batch.store import Job, Store
from gpenvideo.batch.tasks import (
    Analyse,
    Analysed,
    Copy,
    Hash,
    Join,
    RestorePart,
    Storage,
    Task,
)
from gpenvideo.errors import FileError, FileMissing, GpenvideoError
from gpenvideo.segmented.parts import PartDone
from gpenvideo.segmented.work import Work

__all__ = ["BatchOptions", "Driver"]

MOST_DEATHS = 3  # of workers by one task
CHANGED = "it was changed while it was restored: start again"
WAIT_S = SHOW_EVERY_S = 0.25
FIRST = (Copy, Join, RestorePart, Analyse, Hash)  # what is nearest to a result goes first


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch goes about it; what is done to a file is its `Work`."""

    segment_s: float = 60.0
    """The least length of a segment."""

    resume: bool = True
    """Whether segments of an earlier run are taken where source and options are the same."""

    retry_failed: bool = False
    """Whether files that failed before, and are as they were, are tried again."""

    stop_on_error: bool = False
    """Whether the first file that fails is the last that is begun."""

    verify: bool = False
    """Whether every result is decoded and compared, see `gpenvideo.batch.verify.verify`."""

    delete_partial: bool = False
    """Whether the segments of a file that failed are removed."""


class Driver:
    """Runs a batch in the caller's thread.

    Args:
        store: of the jobs; written by nobody else.
        executor: what does the work.
        output: the folder or URL that results go to; it is made.
        storage: knows the paths.
        options: how.
        progress: is called with an `Overview` a few times a second.
        finished: is called with each `Film` that is done, has failed or was skipped.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        output: str,
        storage: Storage,
        options: BatchOptions | None = None,
        *,
        progress: Callable[[Overview], None] | None = None,
        finished: Callable[[Film], None] | None = None,
    ) -> None:
        self.films: dict[str, Film] = {}
        self.warnings: dict[str, None] = {}
        self._store, self._executor, self._storage = store, executor, storage
        self._output, self._journal = output, inside(output, JOURNAL)
        self._options = options or BatchOptions()
        self._progress, self._finished = progress, finished
        self._ready: list[tuple[int, int, int, Task]] = []
        self._number = itertools.count()
        self._in_flight = 0
        self._originals: dict[tuple[str, str], Film] = {}
        self._stopping = False
        self._begun_s = self._shown_s = time.monotonic()
        storage.make_folder(self._journal)
        self._jobs = {job.id: job for job in store.jobs()}
        for job in store.jobs("running"):  # of a driver that was ended
            store.set_state(job.id, "queued")

    # What is to be done

    def is_free(self, id: str) -> bool:
        """Whether nothing is being done to a file, so that it can be added, or added again."""
        film = self.films.get(id)
        return film is None or not (film.is_open or film.told)

    def add(self, found: Found, work: Work) -> None:
        """Take a file up."""
        film = self._film(found, work)
        if film.state == "cancelled":
            return
        job = self._store.get(film.id)
        known = job.report.get("stamp") == film.stamp is not None
        if known and job.source_hash and job.state == "done":
            self._hashed(film, job.source_hash)
        else:
            self._push(film, Hash(film.id, work.source))

    def reject(self, found: Found, error: GpenvideoError) -> None:
        """Take a file up that nothing can be done to."""
        self._fail(self._film(found, Work(found.source)), str(error))

    def _film(self, found: Found, work: Work) -> Film:
        target = inside(self._output, found.relative)
        stamp = stamp_of(found.source)
        size = os.stat(found.source).st_size if stamp and not is_url(found.source) else 0
        film = Film(found.id, work, target, len(self.films), size, stamp=stamp)
        self.films[film.id] = film
        job = self._jobs.get(film.id)
        if job is None or job.source != found.source:
            self._store.add(Job(film.id, found.source, target))
        elif job.state == "cancelled":
            film.state, film.reason = job.state, job.reason
        return film

    def _push(self, film: Film, task: Task) -> None:
        entry = (FIRST.index(type(task)), film.order, next(self._number), task)
        heapq.heappush(self._ready, entry)

    # The loop

    def run(self, more: Callable[[], bool] | None = None) -> None:
        """See all files through.

        Args:
            more: is called all the time: it may `add` files, and says whether others may follow.

        Raises:
            FileError: the store or the place of the results cannot be written. What was done stays done, and
            the next run goes on from there.
        """
        following = True
        try:
            while True:
                following = more() if more and following and not self._stopping else False
                self._submit()
                if not self._in_flight and not following:
                    break
                outcome = self._executor.next_outcome(WAIT_S, self._tell)
                if outcome is not None:
                    self._take(outcome)
                self._show()
        finally:
            with suppress(FileError):  # if the store is what failed, that has been said
                for film in self.films.values():
                    if film.state == "running":
                        film.state = "queued"
                        self._store.set_state(film.id, "queued")
        if all(job.state in ("done", "cancelled") for job in self._store.jobs()):
            self._storage.remove(self._journal)

    def _submit(self) -> None:
        while self._ready and self._in_flight < self._executor.slots and not self._stopping:
            task = heapq.heappop(self._ready)[-1]
            film = self.films[task.job_id]
            if not film.is_open:
                continue
            if isinstance(task, RestorePart) and task.done is None:
                self._store.part_begun(film.id, task.part.index, task.segment_path)
            film.told[number(task)] = (0, 0)
            self._in_flight += 1
            self._executor.submit(task)

    def _tell(self, task: Task, frames: int, faces: int) -> None:
        film = self.films[task.job_id]
        if isinstance(task, RestorePart):
            film.told[number(task)] = (frames, faces)
        elif isinstance(task, Analyse):
            film.searched = frames
        self._show()

    def _show(self) -> None:
        now_s = time.monotonic()
        if self._progress and now_s - self._shown_s >= SHOW_EVERY_S:
            self._shown_s = now_s
            self._progress(Overview.of(self.films.values(), now_s - self._begun_s))

    def _take(self, outcome: Outcome) -> None:
        task, film = outcome.task, self.films[outcome.task.job_id]
        self._in_flight -= 1
        film.told.pop(number(task), None)
        self.warnings.update(dict.fromkeys(outcome.warnings))
        if outcome.died:
            self._buried(film, task, outcome.died)
        elif outcome.error:
            self._check_output(outcome.error if outcome.everyones else None)
            self._fail(film, self._reason(outcome.error, film), outcome.trace)
        elif film.is_open or isinstance(task, RestorePart):
            self._went_well(film, task, outcome.value)

    def _went_well(self, film: Film, task: Task, value: Any) -> None:
        match task:
            case Hash():
                self._hashed(film, value)
            case Analyse():
                self._analysed(film, value)
            case RestorePart():
                self._restored(film, value)
            case Join():
                self._done(film, value)
            case Copy():
                self._done(film, {"copy_of": task.source})

    def _check_output(self, error: GpenvideoError | None = None) -> None:
        """FileError, which ends the run: no file could be restored now."""
        if not self._storage.exists(self._journal) and not is_url(self._output):  # URLs that fail raise
            line = "the folder of the results is gone: bring it back and start again; what is done is known"
            raise FileMissing(line, path=self._output)
        if error:
            line = f"{error.message}; put that right and start again: what is done is kept"
            raise FileError(line, path=error.path or self._output)

    # The steps of a file

    def _hashed(self, film: Film, source_hash: str) -> None:
        try:
            film.source_hash, film.work_hash = source_hash, film.work.fingerprint()
        except GpenvideoError as error:
            self._fail(film, str(error))
            return
        job = self._store.get(film.id)
        same = (job.source_hash, job.work_hash) == (film.source_hash, film.work_hash)
        original = self._originals.setdefault((film.source_hash, film.work_hash), film)
        if same and job.state == "done" and self._storage.exists(film.target):
            film.skipped = True
            self._close(film, "done", None)
        elif same and job.state == "failed" and not self._options.retry_failed:
            film.skipped = True
            self._close(film, "failed", job.reason)
        elif original is film:
            self._begin(film, job, same)
        elif original.is_open:
            original.followers.append(film)
        else:
            self._follow(film, original)

    def _begin(self, film: Film, job: Job, same: bool) -> None:
        folder = self._folder(film)
        self._check_output()
        if (job.source_hash and not same) or not self._options.resume:
            self._store.forget_parts(film.id)
            self._storage.remove(folder)
        if job.source_hash and job.work_hash and (job.source_hash, job.work_hash) not in self._originals:
            self._storage.remove(inside(self._journal, segment_folder(job.source_hash, job.work_hash)))
        self._run(film, job.attempts + 1)
        self._storage.make_folder(folder)
        self._push(film, Analyse(film.id, film.work, inside(folder, "tracks.json"), self._options.segment_s))

    def _run(self, film: Film, attempts: int) -> None:
        film.state, film.begun_s = "running", time.monotonic()
        hashes: dict[str, Any] = {"source_hash": film.source_hash, "work_hash": film.work_hash}
        self._store.set_state(film.id, "running", attempts=attempts, **hashes)

    def _folder(self, film: Film) -> str:
        return inside(self._journal, film.folder)

    def _analysed(self, film: Film, found: Analysed) -> None:
        film.parts, film.frames = found.parts, found.frames
        folder = self._folder(film)
        done = self._store.parts_done(film.id)
        for part in film.parts:
            path = inside(folder, f"{part.index:05d}_{part.start_pts}_{part.end_pts}.nut")
            known = done.get(part.index)
            if known and known.path == path:
                film.known[part.index] = known
            tracks = inside(folder, "tracks.json")
            self._push(
                film,
                RestorePart(film.id, film.work, part, tracks, path, film.known.get(part.index)),
            )

    def _restored(self, film: Film, done: PartDone) -> None:
        if film.known.get(done.index) != done:
            self._store.part_done(film.id, done)
        film.done[done.index] = done
        if film.is_open and film.is_changed:
            self._fail(film, CHANGED)
        elif film.is_open and len(film.done) == len(film.parts):
            segments = tuple(film.done[part.index] for part in film.parts)
            self._make_place(film)
            self._push(film, Join(film.id, film.work, segments, film.target, self._options.verify))

    def _make_place(self, film: Film) -> None:
        self._check_output()
        self._storage.make_folder(os.path.dirname(film.target) or ".")

    def _follow(self, film: Film, original: Film) -> None:
        """Give a file the result of its twin."""
        if original.state != "done":
            self._fail(film, f"it is the same as {original.work.source!r}, which failed: {original.reason}")
            return
        film.twin = original
        self._run(film, self._store.get(film.id).attempts + 1)
        self._make_place(film)
        self._push(film, Copy(film.id, original.target, film.target, self._options.verify))

    def _done(self, film: Film, report: dict[str, Any]) -> None:
        frames, faces = sum(done.frames for done in film.done.values()), film.faces
        if film.twin:
            twin = self._store.get(film.twin.id)
            frames, faces = twin.frames, twin.faces
        seconds = round(time.monotonic() - film.begun_s, 3)
        report |= {"stamp": film.stamp, "segments": len(film.parts), "segments_reused": film.reused}
        self._store.set_state(film.id, "done", frames=frames, faces=faces, seconds=seconds, report=report)
        self._forget(film)
        film.lighten()
        self._close(film, "done", None)

    def _forget(self, film: Film) -> None:
        self._store.forget_parts(film.id)
        if self._originals.get((film.source_hash, film.work_hash)) is film:
            self._storage.remove(self._folder(film))

    def _buried(self, film: Film, task: Task, how: str) -> None:
        film.deaths[number(task)] += 1
        if not film.is_open:
            return
        if film.deaths[number(task)] < MOST_DEATHS:
            self._push(film, task)
            return
        part = f" at segment {task.part.index}" if isinstance(task, RestorePart) else ""
        self._fail(film, f"it kills its workers{part}: {MOST_DEATHS} ended over it, the last {how}")

    def _fail(self, film: Film, reason: str, trace: str = "") -> None:
        if not film.is_open:
            return
        self._store.set_state(
            film.id,
            "failed",
            reason,
            source_hash=None if film.is_changed else film.source_hash or None,  # so that it is tried again
            work_hash=film.work_hash or None,
            seconds=round(time.monotonic() - film.begun_s, 3),
            report={"trace": trace} if trace else {},
        )
        if self._options.delete_partial or not film.parts:
            self._forget(film)
        self._stopping = self._stopping or self._options.stop_on_error
        self._close(film, "failed", reason)

    def _close(self, film: Film, state: str, reason: str | None) -> None:
        film.state, film.reason = state, reason
        if self._finished:
            self._finished(film)
        followers, film.followers = film.followers, []
        for follower in followers:
            self._follow(follower, film)

    def _reason(self, error: GpenvideoError, film: Film) -> str:
        """What to say of an error where the file's name is said already; segments have no name for people."""
        path, source = error.path or "", film.work.source
        if film.is_changed and stamp_of(source) is not None:
            return CHANGED
        if path == source or path.startswith(self._journal):
            return str(type(error)(error.message, time_s=error.time_s))
        return str(error)
