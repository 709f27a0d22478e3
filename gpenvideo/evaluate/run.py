"""What a run tells of its own steadiness, while it is at work and without a truth."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import invert
from gpenvideo.evaluate import temporal
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.frame import Frame, Rectangle
from gpenvideo.pipeline import Restored

__all__ = ["RunMetrics"]

EVERY_S = 0.2  # from one pair of frames that is compared to the next
SEEN_PX = 160  # the longer side of a face where it is compared: larger ones are shrunk
OUTLINE = 0.7  # of a mask's rectangle: the ellipse inside which it is nearly whole


class RunMetrics:
    """Takes the frames of a run in their order, and measures how steady source and result are.

    Compared is the luma (or green) of neighbouring frames, inside the masks, a pair every 0.2 s of the
    stream; flow is sought in the source. The cost is some milliseconds a pair.
    """

    def __init__(self) -> None:
        self._before: Restored | None = None
        self._slot = -math.inf
        self._pairs = 0
        self._sums: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._last: dict[int, list[NDArray[np.float64]]] = {}
        self._squares = 0.0
        self._seconds = 0  # second differences

    def take(self, restored: Restored) -> None:
        """Take in a frame."""
        self._take_crops(restored)
        if restored.starts_shot:
            self._before = None
        if self._before is not None:
            self._compare(self._before, restored)
        slot = math.floor(restored.frame.time_s / EVERY_S + 1e-6)
        self._before = restored if slot != self._slot else None
        self._slot = slot

    def result(self) -> dict[str, Any]:
        """What was measured so far; None of what there was nothing to measure of.

        "crop_jitter"   rms second difference in time of the landmarks as the crops have them, eye distances
        "warp_error"    of "source" and "result", see `temporal.warp_error`
        "flicker"       the same, see `temporal.flicker`
        "pairs"         of faces in neighbouring frames, that the two are the means of
        """
        found: dict[str, Any] = {"pairs": self._pairs, "crop_jitter": None}
        if self._seconds:
            found["crop_jitter"] = math.sqrt(self._squares / self._seconds)
        for measure in ("warp_error", "flicker"):
            values = {side: self._sums[measure, side] for side in ("source", "result")}
            found[measure] = {side: float(np.mean(v)) if v else None for side, v in values.items()}
        return found

    def _take_crops(self, restored: Restored) -> None:
        points = template("ffhq", 1)
        before = {} if restored.starts_shot else self._last
        self._last = {}
        for track in restored.tracks:
            frame_from_crop = invert(crop_from_frame(track.face.landmarks, points))
            place = points @ frame_from_crop[:, :2].T + frame_from_crop[:, 2]
            places = [*before.get(track.id, []), place][-3:]
            self._last[track.id] = places
            if len(places) == 3:
                self._squares += float(temporal.jitters(places)[2]) ** 2
                self._seconds += 1

    def _compare(self, before: Restored, restored: Restored) -> None:
        old = {track.id: mask for track, mask in zip(before.tracks, before.masks, strict=True)}
        for track, mask in zip(restored.tracks, restored.masks, strict=True):
            if track.id not in old:
                continue
            last = old[track.id]
            place = Rectangle(
                min(mask.x0, last.x0), min(mask.y0, last.y0), max(mask.x1, last.x1), max(mask.y1, last.y1)
            )
            pairs = {
                "source": (_luma(before.source, place), _luma(restored.source, place)),
                "result": (_luma(before.frame, place), _luma(restored.frame, place)),
            }
            if min(pairs["source"][0].shape) < temporal.LEAST_SIDE_PX:
                continue
            moved = temporal.motion(*pairs["source"])
            inside = _ellipse(moved.known.shape)
            rests = temporal.still(*pairs["source"], moved) & inside
            self._pairs += 1
            for side, (previous, picture) in pairs.items():
                errors = {
                    "warp_error": temporal.warp_error(picture, previous, moved, inside),
                    "flicker": temporal.flicker(picture, previous, rests),
                }
                for measure, value in errors.items():
                    if math.isfinite(value):
                        self._sums[measure, side].append(value)


def _luma(frame: Frame, place: Rectangle) -> NDArray[np.uint8]:
    """The first plane of a part of a frame in 8 bits, shrunk to what is compared."""
    plane = frame.planes[0][place.y0 : place.y1, place.x0 : place.x1]
    levels = np.asarray(plane >> max(0, frame.layout.depth_bits - 8), np.uint8)
    longest = max(levels.shape, default=0)
    if longest <= SEEN_PX or not levels.size:
        return levels
    size = (max(1, round(side * SEEN_PX / longest)) for side in levels.shape[::-1])
    return np.asarray(cv2.resize(levels, tuple(size), interpolation=cv2.INTER_AREA), np.uint8)


def _ellipse(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    y, x = (np.linspace(-1, 1, side) for side in shape)
    return np.asarray(x**2 + y[:, None] ** 2 < OUTLINE**2)
