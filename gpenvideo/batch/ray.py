"""The executor of a cluster: actors of Ray, each with its networks loaded, on whatever nodes there are."""

from __future__ import annotations

import os
import platform
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from gpenvideo.batch.executor import Outcome, Tell
from gpenvideo.batch.staging import Staged, make_root, usual_root
from gpenvideo.batch.tasks import Analyse, RestorePart, Task
from gpenvideo.errors import DependencyError, DeviceError, FileError, GpenvideoError, OptionError
from gpenvideo.place import Lock

__all__ = ["Cluster", "Share", "share_of"]

MOST_CPUS = 4  # of a worker without a GPU: more threads gain little, more workers take more memory
FALSE_STARTS = 3  # of workers, one after the other, that say that none will ever start
LOOK_EVERY_S = 5.0  # for nodes that came or went
TELL_EVERY_S = 1.0
END_S = 2.0  # that workers have to remove what they staged
ANSWER_S = 10.0  # that a cluster has to answer at all
NOT_THERE = "no Ray cluster answers: start one with `ray start --head`, or give its HOST:PORT"
NOT_OURS = (
    "no Ray cluster takes us there: set RAY_AUTH_MODE=token where it has a token, or give its HOST:PORT"
)
OBJECTS_BYTES = 80 << 20  # tasks and outcomes are small; files do not travel through Ray


class Share(NamedTuple):
    """How a cluster is shared out: so many workers, and what each holds."""

    workers: int
    cpus: int
    gpus: int


def share_of(
    nodes: Iterable[Mapping[str, float]], workers: int | None = None, gpus: int | None = None
) -> Share:
    """One worker a GPU and its part of the cores; without GPUs, one worker every four cores.

    Args:
        nodes: the resources of each ("CPU", "GPU"), as Ray tells them.
        workers: how many are asked for; without GPUs, the cores are shared out among them.
        gpus: of a worker: 0, or 1 even where there is no GPU yet; None is 1 where there are GPUs.
    """
    with_cpu = [node for node in nodes if node.get("CPU", 0) >= 1]
    with_gpu = [node for node in with_cpu if node.get("GPU", 0) >= 1 and gpus != 0]
    if with_gpu or gpus:
        cpus = min((int(node["CPU"] / int(node["GPU"])) for node in with_gpu), default=1)
        return Share(workers or sum(int(node["GPU"]) for node in with_gpu), max(1, cpus), 1)
    cores = [int(node["CPU"]) for node in with_cpu]
    cpus = min([MOST_CPUS, *cores])
    if workers:
        cpus = max(1, min([*cores, sum(cores) // workers]))
    return Share(workers or sum(core // cpus for core in cores), cpus, 0)


@dataclass(eq=False)
class _Worker:
    """An actor as the driver sees it."""

    actor: Any
    name: str = ""
    """Who it is; it has not said yet."""

    ready: bool = False
    """Whether it lived when it was last heard of."""

    task: Task | None = None
    progress: Future[tuple[int, int]] | None = None


class Cluster:
    """Workers on the nodes of a Ray cluster, as `gpenvideo.batch.executor.Executor` has it.

    Sources and results are URLs, or paths that mean the same on all nodes; weights are the same on all. Each
    worker makes its segments in a folder of its node for temporary files and puts them to their places whole.
    Nodes that join get workers.

    Args:
        address: "HOST:PORT", "ray://HOST:PORT", "auto" (the cluster of this machine or of RAY_ADDRESS),
            "local" (one that begins and ends with this process), or None: "auto", or where there is none
            "local". A cluster that this process is already connected to is used, and left as it is.
        workers: how many; None is what `share_of` finds, now and whenever nodes come or go. A cluster that
            grows on demand grows for as many as are named.
        gpus: of each worker, see `share_of`.

    Raises:
        DependencyError: Ray is not installed. OptionError: no cluster answers there. DeviceError: it has no
        cores, or no worker starts on it.
    """

    def __init__(
        self, address: str | None = None, workers: int | None = None, gpus: int | None = None
    ) -> None:
        self._ray = _imported()
        self._asked = workers, gpus
        self._ours = not self._ray.is_initialized()
        if self._ours:
            with _signals_kept():
                _connect(self._ray, address)
        self._workers: list[_Worker] = []
        self._answers: SimpleQueue[tuple[_Worker, Future[Any]]] = SimpleQueue()
        self._waiting: deque[Task] = deque()
        self._ended: deque[Outcome] = deque()
        self._false_starts = 0
        self._looked_s = self._told_s = time.monotonic()
        self._share = share_of(self._nodes(), *self._asked)
        if not self._share.workers:
            self.close()
            what = "GPU" if gpus else "core"
            raise DeviceError(
                f"no node of the cluster has a {what} to give: name --workers where it grows on demand"
            )

    @property
    def slots(self) -> int:
        """One for each worker that the cluster has, or is to have."""
        return max(1, self._share.workers)

    def submit(self, task: Task) -> None:
        """Take a task up: the next worker that is free gets it."""
        self._waiting.append(task)
        self._deal()

    def next_outcome(self, timeout_s: float, tell: Tell | None = None) -> Outcome | None:
        """See `gpenvideo.batch.executor.Executor`. DeviceError: workers fail to start, one upon the other."""
        end = time.monotonic() + timeout_s
        while not self._ended:
            self._look()
            self._deal()
            left_s = max(0.0, end - time.monotonic())
            with suppress(Empty):
                self._hear(*self._answers.get(timeout=min(left_s, TELL_EVERY_S)))
            if tell:
                self._ask(tell)
            if not left_s:
                break
        self._deal()
        return self._ended.popleft() if self._ended else None

    def close(self) -> None:
        """End all workers, what they staged is removed; and the connection, if it was made here."""
        self._waiting.clear()
        futures.wait([worker.actor.tidy.remote().future() for worker in self._workers if worker.ready], END_S)
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()
        if self._ours:
            with _signals_kept():
                self._ray.shutdown()

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _look(self) -> None:
        """Nodes may have come or gone; workers that have not started may ask for more than there is now."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s, before = time.monotonic(), self._share
        self._share = share_of(self._nodes(), *self._asked)
        if self._share[1:] != before[1:]:
            for worker in [worker for worker in self._workers if not worker.name]:
                self._ray.kill(worker.actor)
                self._workers.remove(worker)

    def _deal(self) -> None:
        """Give what waits to workers that are free; start as many as are missing."""
        for worker in self._workers:
            if self._waiting and worker.ready and worker.task is None:
                worker.task = self._waiting.popleft()
                self._await(worker, worker.actor.attempt.remote(worker.task, _fingerprint(worker.task)))
        starting = sum(not worker.ready for worker in self._workers)
        for _ in range(min(len(self._waiting) - starting, self.slots - len(self._workers))):
            kind = self._ray.remote(_Actor)
            resources = {"num_cpus": self._share.cpus, "num_gpus": self._share.gpus}
            actor = kind.options(**resources, max_concurrency=2).remote(os.getcwd(), self._share.cpus)
            self._workers.append(_Worker(actor))
            self._await(self._workers[-1], actor.hello.remote())

    def _await(self, worker: _Worker, answer: Any) -> None:
        """Have an answer put among those that came. Ray's own waiting would turn a signal into an error."""
        answer.future().add_done_callback(lambda said: self._answers.put((worker, said)))

    def _hear(self, worker: _Worker, said: Future[Any]) -> None:
        """Take what a worker answered: that it has started, an outcome, or that it is no more."""
        if worker not in self._workers:
            return
        try:
            answer = said.result()
        except self._ray.exceptions.RayTaskError as error:  # what came could not be read: another version
            self._bury(worker, error.cause)
            return
        except self._ray.exceptions.RayError as error:
            self._bury(worker, error)
            return
        if worker.task is None:
            worker.name, theirs = answer
            worker.ready, self._false_starts = True, 0
            if theirs != _versions():
                told = " and ".join(f"{name} {number}" for name, number in theirs.items())
                raise DeviceError(f"{worker.name} has {told}: install what this machine has on all nodes")
            return
        task, worker.task, worker.progress = worker.task, None, None
        if answer.error and answer.everyones:
            answer.error.message += f" (on {worker.name})"
        self._ended.append(replace(answer, task=task))

    def _bury(self, worker: _Worker, error: BaseException) -> None:
        """Tell of a worker that died; another takes its place when there is work."""
        self._ray.kill(worker.actor)
        self._workers.remove(worker)
        if worker.task is not None:
            how = str(error).strip().partition("\n")[0]
            self._ended.append(Outcome(worker.task, died=f"{worker.name}: {how}"))
            self._call_the_roll()
        self._false_starts += not worker.name
        if self._false_starts >= FALSE_STARTS:
            raise DeviceError(f"no worker starts on the cluster: {' '.join(str(error).split())[:600]}")

    def _call_the_roll(self) -> None:
        """Ask workers that are free whether they live: if a node is gone, no other task is to pay for it."""
        for worker in self._workers:
            if worker.ready and worker.task is None:
                worker.ready = False
                self._await(worker, worker.actor.hello.remote())

    def _ask(self, tell: Tell) -> None:
        """Tell how far the tasks are, as far as the workers have said; ask them again now and then."""
        if time.monotonic() - self._told_s < TELL_EVERY_S:
            return
        self._told_s = time.monotonic()
        for worker in self._workers:
            if worker.task is None:
                continue
            if worker.progress is not None:
                if not worker.progress.done():
                    continue
                try:
                    tell(worker.task, *worker.progress.result())
                except self._ray.exceptions.RayError:
                    continue  # its death is heard of where its outcome is waited for
            worker.progress = worker.actor.progress.remote().future()


class _Actor:
    """A worker on a node. A task, and what is asked beside it, run in two threads."""

    def __init__(self, folder: str, cpus: int) -> None:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        self._cores = _kept_to_cores(cpus)
        with suppress(OSError):  # where it is on no share, nothing that is asked for can be in it
            os.chdir(folder)
        from gpenvideo.segmented.warm import Warm

        self._warm, self._storage = Warm(), Staged(paths=True)
        self._told = (0, 0)
        self._one = threading.Lock()

    def hello(self) -> tuple[str, dict[str, str]]:
        """Who it is, and what it runs."""
        return f"worker {os.getpid()} on {platform.node()}", _versions()

    def attempt(self, task: Task, fingerprint: str | None) -> Outcome:
        """See `Staged.attempt`. Where weights are not those that the driver knows, no file can be done."""
        with self._one:
            self._told = (0, 0)
            try:
                if _fingerprint(task) != fingerprint:
                    raise DeviceError("its weights are not those of the driver's machine: copy them there")
            except GpenvideoError as error:
                return Outcome(task, error=error, everyones=True)
            return self._storage.attempt(task, self._warm, self._tell)

    def progress(self) -> tuple[int, int]:
        """Frames and faces of the task that is done now."""
        return self._told

    def tidy(self) -> None:
        """Remove what is staged: this is the end."""
        self._storage.close()

    def _tell(self, frames: int, faces: int) -> None:
        self._told = (frames, faces)


def _kept_to_cores(count: int) -> list[Lock]:
    """Keep this process to cores that no other worker of the node has; what is returned holds them.

    Decoders and encoders start as many threads as they see cores. Where too few are free, or there is no such
    call, it goes where the system sends it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    held: dict[int, Lock] = {}
    with suppress(FileError):
        make_root(usual_root())
    for core in sorted(os.sched_getaffinity(0)):
        if len(held) < count:
            with suppress(FileError):
                held[core] = Lock(usual_root() / f"core-{core}", f"core {core}")
    if len(held) < count:
        for lock in held.values():
            lock.release()
        return []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            os.sched_setaffinity(int(thread.name), held)
    return list(held.values())


def _fingerprint(task: Task) -> str | None:
    """Of the task's work, as this machine has its files; None where it has none."""
    return task.work.fingerprint() if isinstance(task, Analyse | RestorePart) else None


def _versions() -> dict[str, str]:
    """What results depend on, and must be the same on all nodes."""
    return {name: version(name).partition("+")[0] for name in ("gpenvideo", "torch")}


def _imported() -> Any:
    try:
        import ray
    except ImportError:
        raise DependencyError("--ray takes Ray: pip install 'gpenvideo[cluster]'") from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere that nobody asked for
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # Ray prints what befalls its workers to stdout, where JSON lines may go; here it is told as outcomes. The
    # switch is the one that Ray's own debugger uses.
    ray._private.worker._worker_logs_enabled = False
    if address not in (None, "auto", "local"):
        _knock(str(address))
    try:
        if address == "local":
            ray.init("local", include_dashboard=False, object_store_memory=OBJECTS_BYTES, **quiet)
        else:
            ray.init(address or "auto", **quiet)
    except ConnectionError as error:
        if address is None:
            _connect(ray, "local")
            return
        line = NOT_THERE if address == "auto" else NOT_OURS
        raise OptionError(f"{line} ({address})") from error
    except RuntimeError as error:  # another version of Ray or Python there, and the like
        raise DeviceError(f"the cluster cannot be used: {' '.join(str(error).split())}") from error


def _knock(address: str) -> None:
    """Ray itself waits minutes for a cluster that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except ValueError:
        raise OptionError(f"a cluster's address is HOST:PORT, not {address!r}") from None
    except OSError as error:
        raise OptionError(f"{NOT_THERE} ({address}: {error.strerror or error})") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM, whose handler is the program's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
