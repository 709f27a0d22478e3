"""Face: one face found in one picture; FaceTrack: one person's face at one moment of a shot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpenvideo.errors import OptionError

__all__ = ["LANDMARKS", "Face", "FaceTrack"]

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""The order of the five landmarks; left and right as seen in the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face: where it is, five points on it, and how sure the detector was.

    Pixels of the picture it was found in: x right, y down, the centre of the first pixel at (0, 0). A face
    may reach over the picture's edge. The arrays are the face's own copies and read-only.

    Raises:
        OptionError: a shape, a number that is not finite, a box inside out, or a score outside [0, 1].
    """

    box: NDArray[np.float32]
    """(4,) float32, px: left, top, right, bottom."""

    landmarks: NDArray[np.float32]
    """(5, 2) float32, px: x and y in the order of `LANDMARKS`."""

    score: float
    """Confidence of the detector, in [0, 1]."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", _read_only(self.box, (4,), "box"))
        object.__setattr__(self, "landmarks", _read_only(self.landmarks, (len(LANDMARKS), 2), "landmarks"))
        object.__setattr__(self, "score", float(self.score))
        left, top, right, bottom = self.box.tolist()
        if left > right or top > bottom:
            raise OptionError(f"a face's box is (left, top, right, bottom), got {self.box.tolist()}")
        if not 0.0 <= self.score <= 1.0:
            raise OptionError(f"a face's score lies in [0, 1], got {self.score}")

    def __repr__(self) -> str:
        box = ", ".join(f"{edge:.1f}" for edge in self.box)
        points = ", ".join(f"({x:.1f}, {y:.1f})" for x, y in self.landmarks)
        return f"Face(box=({box}), landmarks=({points}), score={self.score:.3f})"

    @property
    def width_px(self) -> float:
        """Width of the box."""
        return float(self.box[2] - self.box[0])

    @property
    def size_px(self) -> float:
        """Side of the square of the box's area, at least 1: what distances on a face are measured in."""
        left, top, right, bottom = self.box.tolist()
        return max(1.0, float(np.sqrt((right - left) * (bottom - top))))


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """A face that is followed through a shot, at one moment.

    Raises:
        OptionError: an opacity outside [0, 1], or a time that is not finite.
    """

    id: int
    """Counts from 1 through a video; no two people share one."""

    face: Face
    """Smoothed; where it was missed, where it should be."""

    time_s: float
    age_s: float
    """Since it was first seen."""

    missed_s: float
    """Since it was last seen; 0 where it is seen."""

    opacity: float
    """How much of the restored face is to be shown, in [0, 1]: faces fade in and out."""

    person: int = 0
    """The same number is the same person, in any shot; 0 is nobody known."""

    def __post_init__(self) -> None:
        if not np.isfinite([self.time_s, self.age_s, self.missed_s]).all():
            raise OptionError(f"a track's times are finite, got {self.time_s}, {self.age_s}, {self.missed_s}")
        if not 0.0 <= self.opacity <= 1.0:
            raise OptionError(f"a track's opacity lies in [0, 1], got {self.opacity}")

    def __repr__(self) -> str:
        return (
            f"FaceTrack({self.id} at {self.time_s:.3f} s, age {self.age_s:.3f} s, "
            f"missed {self.missed_s:.3f} s, opacity {self.opacity:.2f}, {self.face})"
        )

    @property
    def score(self) -> float:
        """Confidence of the detector when it last saw the face, in [0, 1]."""
        return self.face.score


def _read_only(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    array = np.array(values, dtype=np.float32)
    if array.shape != shape:
        raise OptionError(f"a face's {name} has shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise OptionError(f"a face's {name} must be finite, got {array.tolist()}")
    array.flags.writeable = False
    return array
