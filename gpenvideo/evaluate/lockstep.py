"""Videos in step: the frames of several files that show one moment, a moment at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpenvideo.analysis import Analysed, upright_picture
from gpenvideo.errors import MediaError, OptionError
from gpenvideo.face import FaceTrack
from gpenvideo.frame import Frame
from gpenvideo.video.reader import VideoReader

__all__ = ["Lockstep", "Moment"]

Pixels = NDArray[np.uint8]
Analyse = Callable[[VideoReader], Callable[[Iterable[Frame]], Iterator[Analysed]]]

UNSURE_S = 0.005  # how far two timestamps of one moment may be apart where no rate is known


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame of the leading video, and what the others show at its time."""

    number: int
    """From 0, of the leader's frames."""

    time_s: float
    """From the leader's first frame."""

    starts_shot: bool
    tracks: list[FaceTrack]
    pictures: dict[str, Pixels]
    """By name: (H, W, 3) uint8 RGB, upright, all of one size; nothing where there is no face, and none of a
    video without a frame of this time."""


class Lockstep:
    """Reads some videos of one size side by side; a frame of each is in memory, and the few of the analysis.

    Frames belong together when they are of one time, counted from the first frame of each file, within half
    a frame. `close`, or leaving the context, closes the files.

    Args:
        files: by name.
        leader: the name of the one whose shots, faces and times hold for all.
        analyse: the leader's reader to what finds its shots and faces: see `gpenvideo.analysis.Analysis`.

    Raises:
        OptionError: the pictures are of different sizes.
        FileError, MediaError: a file that cannot be read.
    """

    def __init__(self, files: Mapping[str, Path], leader: str, analyse: Analyse) -> None:
        self.leader = leader
        self.files = dict(files)
        self.matched = dict.fromkeys(files, 0)
        """How many frames of each had a frame of the leader."""
        self.frames = dict.fromkeys(files, 0)
        """How many frames of each were read."""
        with ExitStack() as stack:
            self._readers = {name: stack.enter_context(VideoReader(path)) for name, path in files.items()}
            self._closing = stack.pop_all()
        info = self._readers[leader].info
        for name, reader in self._readers.items():
            if reader.info.upright_size != info.upright_size:
                self.close()
                sizes = ["x".join(map(str, one.upright_size)) for one in (reader.info, info)]
                raise OptionError(
                    f"it is {sizes[0]} and {self.files[leader].name} is {sizes[1]}: "
                    "videos that are compared have one size",
                    path=self.files[name],
                )
        self.size: tuple[int, int] = info.upright_size
        self.rate_hz = float(info.rate_hz) if info.rate_hz else None
        self.expected = self._readers[leader].expected_frames
        self._analysed = analyse(self._readers[leader])(self._frames(leader))

    def __iter__(self) -> Iterator[Moment]:
        others = {name: _Times(self._frames(name)) for name in self.files if name != self.leader}
        within_s = 0.5 / self.rate_hz if self.rate_hz else UNSURE_S
        first_s: float | None = None
        for number, analysed in enumerate(self._analysed):
            first_s = analysed.frame.time_s if first_s is None else first_s
            time_s = analysed.frame.time_s - first_s
            frames = {name: times.at(time_s, within_s) for name, times in others.items()}
            shown = {self.leader: analysed.frame} | {n: f for n, f in frames.items() if f is not None}
            pictures = {}
            for name, frame in shown.items():
                self.matched[name] += 1
                if analysed.tracks:
                    pictures[name] = upright_picture(frame, self._readers[name].info, max(self.size))
            yield Moment(number, time_s, analysed.starts_shot, analysed.tracks, pictures)
        for times in others.values():
            times.drain()
        for name in others:
            if not self.matched[name]:
                raise MediaError("none of its frames is of the time of another's", path=self.files[name])

    @property
    def warnings(self) -> list[str]:
        """What did not fit together, a sentence each."""
        total, said = self.frames[self.leader], []
        for name, path in self.files.items():
            read, matched = self.frames[name], self.matched[name]
            if name != self.leader and (read, matched) != (total, total):
                whole = f"{read} frames where {self.files[self.leader].name} has {total}"
                said.append(f"{path}: {whole}; the {matched} of one time were compared")
        return said

    def close(self) -> None:
        """Let go of the files."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frames(self, name: str) -> Iterator[Frame]:
        for item in self._readers[name]:
            if isinstance(item, Frame):
                self.frames[name] += 1
                yield item


class _Times:
    """The frames of a video by their time from its first one; asked for in the order of time."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._next = next(frames, None)
        self._first_s = 0.0 if self._next is None else self._next.time_s

    def at(self, time_s: float, within_s: float) -> Frame | None:
        while self._next is not None and self._next.time_s - self._first_s < time_s - within_s:
            self._next = next(self._frames, None)
        if self._next is None or self._next.time_s - self._first_s >= time_s + within_s:
            return None
        found, self._next = self._next, next(self._frames, None)
        return found

    def drain(self) -> None:
        """Read on to the end, so that all its frames are counted."""
        while self._next is not None:
            self._next = next(self._frames, None)
