"""Executors of this machine: the caller's own thread, or processes that keep their networks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from gpenvideo.batch.executor import Outcome, Tell
from gpenvideo.batch.staging import Staged
from gpenvideo.batch.tasks import Task
from gpenvideo.errors import DeviceError

if TYPE_CHECKING:
    from gpenvideo.segmented.restoring import Warm

__all__ = ["InProcess", "Processes"]

TELL_EVERY_S = 0.5
END_S = 2.0  # that a process has to end by itself
FALSE_STARTS = 3  # of workers, one upon the other, that say that none will ever start


class InProcess:
    """Does each task when its outcome is asked for. A file that crashes the process ends the batch.

    Args:
        warm: networks that are loaded, or take the place of the default ones.
    """

    slots = 1

    def __init__(self, warm: Warm | None = None) -> None:
        from gpenvideo.segmented.restoring import Warm

        self._warm, self._storage = warm or Warm(), Staged()
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def next_outcome(self, timeout_s: float, tell: Tell | None = None) -> Outcome | None:
        if not self._tasks:
            time.sleep(timeout_s)
            return None
        task = self._tasks.popleft()
        on_the_way = None if tell is None else partial(tell, task)
        return self._storage.attempt(task, self._warm, on_the_way)

    def close(self) -> None:
        self._tasks.clear()
        self._storage.close()


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Connection[Any, Any]
    device: str
    ready: bool = False
    """Whether it has said that it has started."""

    task: Task | None = None


class Processes:
    """Some processes, each of which loads its networks once. They end with the process that made them.

    Args:
        workers: how many, 1 or more. The cores are shared out among them, and so are CUDA devices.
    """

    def __init__(self, workers: int = 1) -> None:
        self.slots = workers
        self._context = multiprocessing.get_context("spawn")
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._devices = _devices()
        self._false_starts = 0
        self._workers: list[_Worker] = []
        self._waiting: deque[Task] = deque()
        self._ended: deque[Outcome] = deque()

    def submit(self, task: Task) -> None:
        self._waiting.append(task)
        self._deal()

    def _deal(self) -> None:
        """Give what waits to workers that are free; start one where there are too few."""
        while self._waiting:
            free = next((worker for worker in self._workers if worker.task is None), None)
            if free is None and len(self._workers) < self.slots:
                free = self._started()
            if free is None:
                return
            free.task = self._waiting.popleft()
            try:
                free.pipe.send(free.task)
            except OSError:
                self._bury(free)

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        taken = [worker.device for worker in self._workers]
        device = min(self._devices, key=taken.count, default="")
        process = self._context.Process(target=_work, args=(theirs, self._threads, device), daemon=True)
        with _ctrl_c_kept():
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours, device))
        return self._workers[-1]

    def next_outcome(self, timeout_s: float, tell: Tell | None = None) -> Outcome | None:
        end = time.monotonic() + timeout_s
        while not self._ended:
            left_s = max(0.0, end - time.monotonic())
            busy = {worker.pipe.fileno(): worker for worker in self._workers if worker.task is not None}
            if not busy:
                time.sleep(left_s)
            for pipe in wait([worker.pipe for worker in busy.values()], left_s):
                self._hear(busy[pipe.fileno()], tell)  # type: ignore[union-attr]
            if not left_s:
                break
        self._deal()
        return self._ended.popleft() if self._ended else None

    def _hear(self, worker: _Worker, tell: Tell | None) -> None:
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if said is None:
            worker.ready, self._false_starts = True, 0
        elif isinstance(said, Outcome):
            self._ended.append(said)
            worker.task = None
        elif tell and worker.task:
            tell(worker.task, *said)

    def _bury(self, worker: _Worker) -> None:
        """Tell of a worker that died; the next task makes a new one."""
        worker.process.join(END_S)
        self._end(worker)
        self._workers.remove(worker)
        code = worker.process.exitcode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        if not worker.ready:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise DeviceError(f"no worker starts on this machine: the last {how}")
            self._waiting.extendleft([worker.task] if worker.task else [])
        elif worker.task is not None:
            self._ended.append(Outcome(worker.task, died=f"worker {worker.process.pid} {how}"))

    def _end(self, worker: _Worker) -> None:
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(END_S)
        worker.pipe.close()

    def close(self) -> None:
        self._waiting.clear()
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(END_S)
            self._end(worker)
        self._workers.clear()


@contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """What is begun in this block never hears of Ctrl-C, not even while it starts: it is the driver's."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # what starts it with the first process lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _devices() -> list[str]:
    """The CUDA devices that are to be shared out, as CUDA_VISIBLE_DEVICES has them; none for one or none."""
    import torch

    devices = list(map(str, range(torch.cuda.device_count())))
    known = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (known if len(known) == len(devices) else devices) if len(devices) > 1 else []


def _work(pipe: Connection[Any, Any], threads: int, device: str) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be kept away
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    import torch

    from gpenvideo.segmented.restoring import Warm

    torch.set_num_threads(threads)
    warm, storage, last_s = Warm(), Staged(), 0.0
    pipe.send(None)

    def tell(frames: int, faces: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= TELL_EVERY_S:
            last_s = time.monotonic()
            pipe.send((frames, faces))

    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(storage.attempt(task, warm, tell))


def _end_with_driver() -> None:
    """A driver that is killed takes its workers with it: nobody would ever ask for what they do."""
    driver = multiprocessing.parent_process()
    if driver:
        driver.join()
        os._exit(1)
