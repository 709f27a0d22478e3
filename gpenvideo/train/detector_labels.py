"""Where the faces of portraits are, said by a teacher: the labels that a detector is trained with.

    labels = label_portraits("faces", read_portraits("faces", exclude_sources=["london_*"]), teacher)
    write_labels(labels, "labels.jsonl")

The teacher's own convention of a face's box cannot be derived from landmarks, so its boxes are taken, and
its landmarks with them: averaged over sizes and over the mirrored picture, where they are steadier than
what it says at any one size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import MediaError, file_error
from gpenvideo.faces.detector import Detector
from gpenvideo.faces.landmarks import MIRRORED
from gpenvideo.faces.portraits import Portrait, read_picture

__all__ = ["Label", "label_portraits", "read_labels", "write_labels"]

Array = NDArray[np.float64]

VIEW_WIDTHS_PX = (70.0, 110.0, 170.0)  # the face's width in the sizes that a portrait is labelled at
MOST_DISAGREEMENT = 0.12  # of the box's width, with the portrait's own landmarks


@dataclass(frozen=True, slots=True)
class Label:
    """The face of a portrait: `file` relative to the folder; `box` (left, top, right, bottom) and five
    `landmarks` ((x, y), ...) in its pixels, the centre of the first pixel at (0, 0)."""

    file: str
    box: tuple[float, ...]
    landmarks: tuple[tuple[float, ...], ...]


def label_portraits(
    folder: str | os.PathLike[str],
    portraits: Sequence[Portrait],
    teacher: Detector,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Label]:
    """What `teacher` says of each portrait that has one clear face; the others are left out.

    Left out are pictures in which the teacher sees no face or several, loses the face when the picture is
    resized or mirrored, or puts the landmarks elsewhere than the portrait's own (a mean of 0.12
    box widths away). `progress` is called with (done, total). Raises as `read_picture`.
    """
    labels = []
    for done, one in enumerate(portraits, 1):
        views = _views(read_picture(Path(folder) / one.file), teacher)
        if views is not None:
            box, landmarks = (np.mean(values, axis=0) for values in views)
            known = landmarks if one.landmarks is None else np.array(one.landmarks)
            off_px = np.linalg.norm(landmarks - known, axis=1).mean()
            if off_px <= MOST_DISAGREEMENT * (box[2] - box[0]):
                points = tuple(tuple(point) for point in landmarks.round(2).tolist())
                labels.append(Label(one.file, tuple(box.round(2).tolist()), points))
        if progress is not None:
            progress(done, len(portraits))
    return labels


def _views(picture: NDArray[np.uint8], teacher: Detector) -> tuple[list[Array], list[Array]] | None:
    """Boxes and landmarks of a portrait's one face, as seen at several sizes and mirrored."""
    seen = teacher([picture])[0]
    if len(seen) != 1:
        return None
    boxes, landmarks = [], []
    for width_px in VIEW_WIDTHS_PX:
        factor = width_px / float(seen[0].box[2] - seen[0].box[0])
        kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        view = np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=kind), np.uint8)
        for mirror in (False, True):
            found = teacher([np.ascontiguousarray(view[:, ::-1]) if mirror else view])[0]
            if not found:
                return None
            box, points = found[0].box.astype(np.float64), found[0].landmarks.astype(np.float64)
            if mirror:
                box[[0, 2]] = view.shape[1] - 1 - box[[2, 0]]
                points[:, 0] = view.shape[1] - 1 - points[:, 0]
                points = points[list(MIRRORED)]
            boxes.append((box + 0.5) / factor - 0.5)
            landmarks.append((points + 0.5) / factor - 0.5)
    return boxes, landmarks


def write_labels(labels: Sequence[Label], path: str | os.PathLike[str]) -> None:
    """Keep labels in a JSON file. Raises FileError when it cannot be written."""
    try:
        Path(path).write_text("\n".join(json.dumps(asdict(label)) for label in labels) + "\n", "utf-8")
    except OSError as error:
        raise file_error(error, path, "write") from error


def read_labels(path: str | os.PathLike[str]) -> list[Label]:
    """The labels that `write_labels` kept. Raises FileError, or MediaError for a file of another kind."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise file_error(error, path, "read") from error
    try:
        rows = [json.loads(line) for line in lines]
        return [
            Label(row["file"], tuple(row["box"]), tuple(tuple(point) for point in row["landmarks"]))
            for row in rows
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(f"these are not a detector's labels: {error}", path=path) from error
