"""Face: one face found in one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpenvideo.errors import OptionError

__all__ = ["LANDMARKS", "Face"]

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


def _read_only(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    array = np.array(values, dtype=np.float32)
    if array.shape != shape:
        raise OptionError(f"a face's {name} has shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise OptionError(f"a face's {name} must be finite, got {array.tolist()}")
    array.flags.writeable = False
    return array
