"""Recall, precision and landmark difference of a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gpenvideo.faces.detector import RetinaFaceDetector
from gpenvideo.faces.portraits import read_picture
from gpenvideo.train.detector_report import Tally, best_threshold, compare, tally_faces

TEACHER = "data/weights/retinaface_mobilenet0.25_Final.pth"
POINTS = np.array([(35, 45), (65, 45), (50, 60), (38, 75), (62, 75)], np.float64)

pytestmark = pytest.mark.usefixtures("one_thread")


def faces_of(*boxes: tuple[float, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    size = corners[:, None, 2:] - corners[:, None, :2]
    return corners, (corners[:, None, :2] + POINTS / 100 * size).astype(np.float32)


def test_a_tally_counts_each_face_once() -> None:
    true_boxes, true_points = faces_of((0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 420, 20))
    counts = np.array([True, True, False])
    boxes, points = faces_of((2, 0, 102, 100), (0, 0, 100, 100), (400, 0, 420, 20), (600, 0, 700, 100))
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    tally = tally_faces(boxes, points, scores, true_boxes, true_points, counts)
    assert tally.hits.tolist() == [1, 0, -1, 0]
    assert tally.recall(0.5) == 0.5
    assert tally.precision(0.5) == pytest.approx(1 / 3)
    assert tally.precision(0.85) == 1.0
    assert tally.landmark_difference(0.5) == pytest.approx(2 / 30)  # 2 px off, eyes 30 px apart
    both = tally + tally
    assert (both.faces, both.recall(0.5)) == (4, 0.5)
    assert np.isnan(tally.recall(0.99)) or tally.recall(0.99) == 0
    assert np.isnan(tally.precision(0.99))


def test_a_threshold_is_chosen_where_both_are_high() -> None:
    scores = np.array([0.9, 0.8, 0.6, 0.3], np.float32)
    tally = Tally(3, scores, np.array([1, 1, 1, 0]), np.zeros(4, np.float32))
    assert 0.3 < best_threshold(tally) <= 0.6


def test_a_teacher_agrees_with_itself(shared: Path) -> None:
    teacher = RetinaFaceDetector(shared / TEACHER)
    files = sorted((shared / "data" / "faces" / "canada").glob("*.jpg"))[:2]
    tally = compare(teacher, teacher, [read_picture(file) for file in files])
    assert tally.faces == 2
    assert (tally.recall(0.9), tally.precision(0.9), tally.landmark_difference(0.9)) == (1.0, 1.0, 0.0)
