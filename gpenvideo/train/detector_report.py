"""How good a detector is: recall, precision and landmark difference, against a teacher or against labels.

    tally = compare(detector, teacher, pictures)
    tally.recall(0.5), tally.precision(0.5), tally.landmark_difference(0.5)

Give `compare` a detector with a low threshold: the tally keeps the scores, and answers for every threshold
above it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpenvideo.faces.detector import Detector
from gpenvideo.train.detector_data import Scene

__all__ = ["Tally", "best_threshold", "compare", "compare_scenes", "overlaps", "tally_faces"]

SMALLEST_COUNTED_PX = 24.0
LEAST_OVERLAP = 0.5
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What was found, beside what there is.

    faces        how many true faces count: 24 px wide or more
    scores       (D,) float32, of each face found
    hits         (D,) int64: 1 it is a face that counts, 0 it is no face, -1 it is a face that does not count
    differences  (D,) float32: mean distance of its five landmarks from the true ones, of the true eyes'
                 distance; nan where there is no true face
    """

    faces: int
    scores: Array
    hits: NDArray[np.int64]
    differences: Array

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.faces + other.faces,
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.hits, other.hits]),
            np.concatenate([self.differences, other.differences]),
        )

    def recall(self, threshold: float) -> float:
        """The part of the faces that is found with at least this score; nan without faces."""
        found = int(((self.hits == 1) & (self.scores >= threshold)).sum())
        return found / self.faces if self.faces else float("nan")

    def precision(self, threshold: float) -> float:
        """The part of what is found with at least this score that is a face; nan when nothing is."""
        counted = self.hits[(self.hits >= 0) & (self.scores >= threshold)]
        return float(counted.mean()) if len(counted) else float("nan")

    def landmark_difference(self, threshold: float) -> float:
        """Median over the faces found with at least this score; nan when none is."""
        found = self.differences[(self.hits == 1) & (self.scores >= threshold)]
        return float(np.median(found)) if len(found) else float("nan")


def tally_faces(
    boxes: Array,
    landmarks: Array,
    scores: Array,
    true_boxes: Array,
    true_landmarks: Array,
    counts: NDArray[np.bool_],
) -> Tally:
    """The tally of one picture.

    A found face is the true one it overlaps most, with an IoU of 0.5 or more, if no better-scored one is
    that already.

    boxes, landmarks, scores    (D, 4), (D, 5, 2) and (D,) of the faces found
    true_boxes, true_landmarks  (T, 4) and (T, 5, 2), in the same pixels
    counts                      (T,) bool: whether finding this face is asked for
    """
    overlap = overlaps(boxes, true_boxes)
    hits = np.zeros(len(boxes), np.int64)
    differences = np.full(len(boxes), np.nan, np.float32)
    for i in np.argsort(-scores, kind="stable"):
        if not len(true_boxes) or overlap[i].max() < LEAST_OVERLAP:
            continue
        j = int(overlap[i].argmax())
        overlap[:, j] = -1
        hits[i] = 1 if counts[j] else -1
        eyes = np.linalg.norm(true_landmarks[j, 0] - true_landmarks[j, 1])
        differences[i] = np.linalg.norm(landmarks[i] - true_landmarks[j], axis=-1).mean() / eyes
    return Tally(int(counts.sum()), scores, hits, differences)


def compare(detector: Detector, teacher: Detector, pictures: Iterable[NDArray[np.uint8]]) -> Tally:
    """The tally of pictures, (H, W, 3) uint8 RGB each, for which what the teacher says is the truth."""
    total = _nothing()
    for picture in pictures:
        true_boxes, true_landmarks, _ = _arrays(teacher, picture)
        counts = true_boxes[:, 2] - true_boxes[:, 0] >= SMALLEST_COUNTED_PX
        total += tally_faces(*_arrays(detector, picture), true_boxes, true_landmarks, counts)
    return total


def compare_scenes(detector: Detector, scenes: Iterable[Scene]) -> Tally:
    """The tally of composed scenes, whose labels are the truth."""
    total = _nothing()
    for scene in scenes:
        wide = scene.boxes[:, 2] - scene.boxes[:, 0] >= SMALLEST_COUNTED_PX
        found = _arrays(detector, scene.picture)
        total += tally_faces(*found, scene.boxes, scene.landmarks, wide & scene.certain)
    return total


def best_threshold(tally: Tally) -> float:
    """The threshold, in steps of 0.01, at which the smaller of recall and precision is largest."""
    steps = np.arange(1, 100) / 100
    worst = [min(tally.recall(step), tally.precision(step)) for step in steps]
    return float(steps[np.nan_to_num(worst, nan=-1).argmax()])


def overlaps(boxes: Array, others: Array) -> NDArray[np.float64]:
    """The IoU of each box with each other one: (N, 4) and (M, 4) left, top, right, bottom to (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1, dtype=np.float64)
    areas, other_areas = (np.prod(some[:, 2:] - some[:, :2], axis=-1) for some in (boxes, others))
    return np.asarray(common / np.maximum(areas[:, None] + other_areas[None] - common, 1e-9))


def _arrays(detector: Detector, picture: NDArray[np.uint8]) -> tuple[Array, Array, Array]:
    """Boxes, landmarks and scores of the faces of one picture."""
    faces = detector([picture])[0]
    return (
        np.array([face.box for face in faces], np.float32).reshape(-1, 4),
        np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2),
        np.array([face.score for face in faces], np.float32),
    )


def _nothing() -> Tally:
    return Tally(0, np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
