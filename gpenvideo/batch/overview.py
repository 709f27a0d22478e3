"""Overview: how far a batch has come, for whoever looks on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from gpenvideo.batch.film import Film

__all__ = ["Overview", "Running"]

EARLY = 0.002  # of the work: before that nobody can tell how long it will take


@dataclass(frozen=True, slots=True)
class Running:
    """A file that is worked on."""

    source: str
    doing: str
    share: float
    """Of its work that is done, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Overview:
    """How far a batch has come."""

    states: dict[str, int]
    """How many files are queued, running, done, failed, cancelled."""

    skipped: int
    """Of those that are done: they were so before."""

    running: tuple[Running, ...]
    frames: int
    """Restored in this run, as are the faces."""

    faces: int
    seconds: float
    share: float
    """Of all work that is done, by the sizes of the files, in [0, 1]."""

    eta_s: float | None
    """Until all is done; None while nobody can tell."""

    @classmethod
    def of(cls, films: Iterable[Film], seconds: float) -> Self:
        """The overview of some files after some seconds."""
        films = list(films)
        ours = [film for film in films if not film.skipped and film.state != "cancelled"]
        whole = sum(max(1, film.bytes) for film in ours)
        done = sum(max(1, film.bytes) * film.share for film in ours)
        share = done / whole if whole else 1.0
        running = [film for film in films if film.state == "running"]
        return cls(
            dict(Counter(film.state for film in films)),
            sum(film.skipped for film in films if film.state == "done"),
            tuple(Running(film.work.source, film.doing, film.share) for film in running),
            sum(part.frames for film in films for part in film.done.values()),
            sum(film.faces for film in films),
            seconds,
            share,
            seconds * (1 - share) / share if share > EARLY else None,
        )
