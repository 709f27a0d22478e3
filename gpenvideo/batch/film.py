"""Film: one file on its way through a batch."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from gpenvideo.batch.sources import is_changed, stamp_of
from gpenvideo.batch.tasks import RestorePart, Task
from gpenvideo.segmented.parts import Part, PartDone
from gpenvideo.segmented.work import Work

__all__ = ["Film", "number", "segment_folder"]

ANALYSIS_SHARE = 0.2  # of the work on a file, for the bar
JOIN_SHARE = 0.02
WHOLE = -1


@dataclass(eq=False)
class Film:
    """What is known of a file while it is worked on."""

    id: str
    work: Work
    target: str
    order: int
    """Of those that were found; earlier ones go first."""

    bytes: int = 0
    state: str = "queued"
    """As in the store."""

    reason: str | None = None
    skipped: bool = False
    """It was done before, and is as it was."""

    twin: Film | None = None
    """The same file elsewhere, whose result it got."""

    searched: int = 0
    """Frames that were analysed so far."""

    stamp: str | None = None
    source_hash: str = ""
    work_hash: str = ""
    parts: tuple[Part, ...] = ()
    frames: int = 0
    """As the analysis counted them; 0 before."""

    known: dict[int, PartDone] = field(default_factory=dict)
    """Segments of an earlier run."""

    done: dict[int, PartDone] = field(default_factory=dict)
    followers: list[Film] = field(default_factory=list)
    """The same files elsewhere."""

    deaths: Counter[int] = field(default_factory=Counter)
    """Of workers, by the part they restored, or by `WHOLE`."""

    told: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Frames and faces of tasks that are at work, by the same."""

    begun_s: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> str:
        """Of its segments, by name: the same for the same content and options."""
        return segment_folder(self.source_hash, self.work_hash)

    @property
    def is_open(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def is_changed(self) -> bool:
        """Whether the source is another by now, or away."""
        return is_changed(self.stamp, stamp_of(self.work.source))

    def lighten(self) -> None:
        """Let go of what is told of segments: they are joined."""
        for parts in (self.known, self.done):
            parts.update({index: replace(part, told={}) for index, part in parts.items()})

    @property
    def reused(self) -> int:
        """Segments of an earlier run that were taken."""
        return sum(self.known.get(index) == done for index, done in self.done.items())

    @property
    def faces(self) -> int:
        """Restored so far."""
        return sum(done.faces for done in self.done.values()) + sum(faces for _, faces in self.told.values())

    @property
    def share(self) -> float:
        """How much of its work is done, in [0, 1]."""
        if not self.is_open:
            return 1.0
        if not self.frames:
            return 0.0
        frames = sum(done.frames for done in self.done.values())
        frames += sum(frames for frames, _ in self.told.values())
        return ANALYSIS_SHARE + (1 - ANALYSIS_SHARE - JOIN_SHARE) * min(1.0, frames / self.frames)

    @property
    def doing(self) -> str:
        """What is done to it now, in some words."""
        if self.parts and len(self.done) == len(self.parts):
            return "joining"
        if self.parts:
            return f"{len(self.done)} of {len(self.parts)} segments"
        if self.twin:
            return "copying"
        return f"searching for faces, {self.searched} frames" if self.work_hash else "reading"


def segment_folder(source_hash: str, work_hash: str) -> str:
    """The name of the folder for the segments of a source and what is done to it."""
    return hashlib.sha256(f"{source_hash} {work_hash}".encode()).hexdigest()[:16]


def number(task: Task) -> int:
    """The part of a task, or `WHOLE`: a film has no two tasks of one number at a time."""
    return task.part.index if isinstance(task, RestorePart) else WHOLE
