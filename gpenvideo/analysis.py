"""Analysis: which shots a video has, and which faces are where in each of its frames.

Faces are searched for on every n-th frame of a shot and on its last; from frame to frame they are followed by
the flow of the picture, and what the searches found is smoothed over half a second to each side, so nothing
lags. What is found depends on the frames and the options alone, never on timing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.detector import Detector
from gpenvideo.faces.motion import Points, Similarity, motion
from gpenvideo.faces.shots import CutDetector
from gpenvideo.faces.tracker import LOOK_AHEAD_S, Tracker
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.kernels.picture import small_luma, thumbnail
from gpenvideo.stages import Stages

__all__ = ["Analysed", "Analysis", "faces_in", "upright_picture"]

T = TypeVar("T")

SEARCH_EVERY_S = 0.12
SHOT_SIZE = (64, 36)  # of the pictures that shots are told apart by
SEARCHES_A_BATCH = 4  # the detector's cost a picture halves from 1 to 4 on a CPU, and hardly falls after
HELD_BYTES = 512 << 20  # the most that frames waiting for a search, or for the future, may take


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """A frame and the faces in it."""

    frame: Frame
    tracks: list[FaceTrack]
    """Landmarks and boxes are px of the upright picture in square pixels."""

    starts_shot: bool


@dataclass(slots=True, eq=False)
class _Waiting:
    frame: Frame
    starts_shot: bool
    is_due: bool = False  # for a search


class Analysis:
    """Finds the shots of one video stream and tracks the faces through them.

    Args:
        detector: finds the faces in (H, W, 3) uint8 RGB pictures.
        info: of the stream; its rotation, mirroring and sample aspect make the picture upright.
        detect_size_px: longest side of the picture the detector sees.
        detect_every: frames from one search to the next; None goes by time.
        detect_every_s: seconds from one search to the next, where `detect_every` is None.
        live: give back each frame at once, with what is known by then; for cameras.
        stages: where the seconds are counted.

    Raises:
        OptionError: a size or a cadence that cannot be.
    """

    def __init__(
        self,
        detector: Detector,
        info: StreamInfo,
        *,
        detect_size_px: int = 640,
        detect_every: int | None = None,
        detect_every_s: float = SEARCH_EVERY_S,
        live: bool = False,
        stages: Stages | None = None,
    ) -> None:
        if detect_size_px < 16:
            raise OptionError(f"the detector sees 16 px or more, got {detect_size_px}")
        if detect_every is not None and detect_every < 1:
            raise OptionError(f"faces are searched for every 1 or more frames, got {detect_every}")
        if not detect_every_s > 0:
            raise OptionError(f"faces are searched for every so many seconds, got {detect_every_s}")
        self._detector = detector
        self._info = info
        self._size_px = detect_size_px
        self._every, self._every_s = detect_every, detect_every_s
        self._stages = stages or Stages()
        self._live = live
        self._tracker = Tracker(look_ahead=not live)
        self._waiting: deque[Any] = deque()  # for a search: frames, and what lies between them
        self._followed: deque[Any] = deque()  # up to the last search; for the future
        self._last: Frame | None = None  # of those, if it is of this shot
        self._frame_bytes = 0
        self._shot_s = 0.0  # when the shot began
        self._in_shot = 0  # frames of it so far
        self._slot = -1  # which span between searches was searched last

    def __call__(self, items: Iterable[Frame | T]) -> Iterator[Analysed | T]:
        """Analyse a stream: a frame comes out when all that its faces depend on is known.

        Items that are no frames (packets of other streams) keep their place among the frames.
        """
        for item in self._in_shots(items):
            if isinstance(item, _Waiting):
                yield from self._take(item)
            elif self._waiting:
                self._waiting.append(item)
            elif self._followed:
                self._followed.append(item)
            else:
                yield item
        yield from self._end_shot()

    def _in_shots(self, items: Iterable[Any]) -> Iterator[Any]:
        """Each frame with whether a shot starts at it; it waits for the frames that this depends on."""
        cuts = CutDetector(0) if self._live else CutDetector()
        queue: deque[Any] = deque()
        for item in items:
            queue.append(item)
            if isinstance(item, Frame):
                with self._stages("shots"):
                    luma = small_luma(item.view, SHOT_SIZE)
                    decided = cuts.update(np.rint(luma * 255).clip(0, 255).astype(np.uint8))
                yield from _decided(queue, decided)
            elif len(queue) == 1:
                yield queue.pop()
        yield from _decided(queue, cuts.finish())

    def _take(self, taken: _Waiting) -> Iterator[Any]:
        frame = taken.frame
        if taken.starts_shot:
            yield from self._end_shot()
            self._shot_s, self._in_shot, self._slot = frame.time_s, 0, -1
        self._waiting.append(taken)
        self._in_shot += 1
        self._frame_bytes = sum(plane.nbytes for plane in frame.planes)
        waiting = [item for item in self._waiting if isinstance(item, _Waiting)]
        full = (len(waiting) + 1) * self._frame_bytes > HELD_BYTES // 2
        taken.is_due = self._is_due(frame.time_s) or full
        if self._live or full or sum(item.is_due for item in waiting) == SEARCHES_A_BATCH:
            self._search()
            yield from self._ripe(frame.time_s - (0 if self._live else LOOK_AHEAD_S))

    def _is_due(self, time_s: float) -> bool:
        if self._every is not None:
            return (self._in_shot - 1) % self._every == 0
        slot = math.floor((time_s - self._shot_s) / self._every_s + 1e-6)
        due, self._slot = slot > self._slot, max(slot, self._slot)
        return due

    def _end_shot(self) -> Iterator[Any]:
        """Search the last frame of a shot too, and forget its faces."""
        waiting = [item for item in self._waiting if isinstance(item, _Waiting)]
        if waiting:
            waiting[-1].is_due = True
        self._search()
        self._tracker.finish()
        yield from self._ripe(math.inf)
        self._tracker.reset()
        self._last = None

    def _search(self) -> None:
        """Look for faces in the waiting frames that are due, and follow them through all that wait.

        The last frame that waits is due. What waits behind it is no frame.
        """
        due = [item.frame.view for item in self._waiting if isinstance(item, _Waiting) and item.is_due]
        with self._stages("detect"):
            found = iter(faces_in(due, self._detector, self._info, self._size_px) if due else [])
        with self._stages("track"):
            for item in self._waiting:
                if isinstance(item, _Waiting):
                    self._tracker.carry(item.frame.time_s, self._motion(self._last, item.frame.view))
                    if item.is_due:
                        self._tracker.update(next(found))
                    self._last = item.frame.view
        self._followed += self._waiting
        self._waiting.clear()

    def _motion(
        self, before: Frame | None, after: Frame
    ) -> Callable[[Points, Similarity], Similarity | None]:
        if before is None:
            return lambda *_: None
        lumas, bits = (before.planes[0], after.planes[0]), after.layout.depth_bits
        matrix = self._info.upright_from_coded
        return lambda landmarks, moved: motion(*lumas, landmarks, matrix, bits, moved)

    def _ripe(self, until_s: float) -> Iterator[Any]:
        """Give back the frames up to a moment, and those that are too many to be held."""
        held = sum(isinstance(item, _Waiting) for item in self._followed)
        while self._followed:
            item = self._followed[0]
            if isinstance(item, _Waiting):
                if item.frame.time_s > until_s and held * self._frame_bytes <= HELD_BYTES // 2:
                    return
                held -= 1
                with self._stages("track"):
                    item = Analysed(item.frame, self._tracker.at(item.frame.time_s), item.starts_shot)
            self._followed.popleft()
            yield item


def _decided(queue: deque[Any], decisions: Sequence[bool]) -> Iterator[Any]:
    """Take the frames that are decided, and what follows each that is no frame, off the head of a queue."""
    for starts_shot in decisions:
        yield _Waiting(queue.popleft(), starts_shot)
        while queue and not isinstance(queue[0], Frame):
            yield queue.popleft()


def faces_in(
    frames: Sequence[Frame], detector: Detector, info: StreamInfo, longest_px: int = 640
) -> list[list[Face]]:
    """The faces of some frames of a stream, in pixels of the upright picture in square pixels."""
    pictures = [upright_picture(frame, info, longest_px) for frame in frames]
    width, height = info.upright_size
    found = []
    for picture, faces in zip(pictures, detector(pictures), strict=True):
        scale = np.array([width / picture.shape[1], height / picture.shape[0]], dtype=np.float32)
        found.append([_scaled(face, scale) for face in faces])
    return found


def upright_picture(frame: Frame, info: StreamInfo, longest_px: int) -> NDArray[np.uint8]:
    """A frame as a person is to see it, shrunk so that no side is over `longest_px`: (h, w, 3) uint8 RGB."""
    width, height = info.upright_size
    shrink = min(1.0, longest_px / max(width, height))
    width, height = max(1, round(width * shrink)), max(1, round(height * shrink))
    size = (width, height) if info.rotation_deg % 180 == 0 else (height, width)
    picture = thumbnail(frame, longest_px)
    if picture.shape[1::-1] != size:
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR))
    if info.mirrored:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(np.rot90(picture, -info.rotation_deg // 90))


def _scaled(face: Face, scale: NDArray[np.float32]) -> Face:
    """A face of a small picture in pixels of the large one; pixel centres lie on whole numbers."""
    box = (face.box + 0.5) * np.tile(scale, 2) - 0.5
    return Face(box, (face.landmarks + 0.5) * scale - 0.5, face.score)
