"""A virtual camera: a moving clip from a still picture, with the exact matrix of every frame.

    path = CameraPath((Key(0.0, width=0.9), Key(4.0, x=0.4, y=0.3, width=0.5, roll_deg=3.0)), Shake(), seed=1)
    for pixels, frame_from_picture in shoot(picture, path, (640, 480), frames=100, rate_hz=25): ...

So what is known of the picture is known of every frame: frame_from_picture @ (x, y, 1) is where a landmark
of the picture lies, without any detector. Pixel coordinates: x right, y down, the centre of the first pixel
at (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError

__all__ = ["CameraPath", "Key", "Shake", "Shot", "shoot"]

Matrix = NDArray[np.float64]

WAVES = 12  # sines that make up each component of a shake


@dataclass(frozen=True, slots=True)
class Key:
    """Where the camera looks at one moment.

    Raises OptionError for a width that is not positive, or a number that is not finite.
    """

    time_s: float
    x: float = 0.5
    """What the middle of the frame sees, as a fraction of the picture's width."""

    y: float = 0.5
    """The same down its height."""

    width: float = 1.0
    """How much of the picture's width spans the frame; half of it is a zoom of two."""

    roll_deg: float = 0.0
    """How far the camera is turned clockwise: the picture turns the other way."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.time_s, self.x, self.y, self.width, self.roll_deg))):
            raise OptionError(f"a camera's key is made of finite numbers, got {self}")
        if self.width <= 0:
            raise OptionError(f"a camera sees a positive part of the picture, got {self.width}")


@dataclass(frozen=True, slots=True)
class Shake:
    """An unsteady hand: band-limited noise that falls with frequency, the same at any frame rate."""

    shift: float = 0.004
    """Root mean square of the shift along each axis, as a fraction of the frame's width."""

    roll_deg: float = 0.2
    """Root mean square of the turn."""

    zoom: float = 0.0
    """Root mean square of the change of scale, as a fraction."""

    slowest_hz: float = 0.4
    fastest_hz: float = 6.0

    def __post_init__(self) -> None:
        if not 0 < self.slowest_hz <= self.fastest_hz < math.inf:
            raise OptionError(f"a shake has 0 < slowest_hz <= fastest_hz, got {self}")


STEADY = Shake(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class CameraPath:
    """How the camera moves: it rests at each key and glides between them, and the hand adds its shake.

    The glide is the one of least jerk, 10 s^3 - 15 s^4 + 6 s^5 (Flash and Hogan, "The coordination of arm
    movements", 1985); scales change by equal factors in equal parts of it. Before the first key and after
    the last the camera rests. The path is a function of time, twice differentiable.

    Raises OptionError for keys that are not in the order of time, or none.
    """

    keys: tuple[Key, ...]
    shake: Shake = STEADY
    seed: int = 0
    """Of the shake; the same seed gives the same path."""

    def __post_init__(self) -> None:
        if not self.keys or any(a.time_s >= b.time_s for a, b in pairwise(self.keys)):
            raise OptionError("a camera's path has one key or more, each later than the one before")

    def picture_from_frame(
        self, time_s: float, picture_size: tuple[int, int], frame_size: tuple[int, int]
    ) -> Matrix:
        """The similarity at one moment; sizes are (width, height), px.

        Returns:
            (2, 3) float64: pixels of the frame to pixels of the picture.
        """
        (picture_w, picture_h), (frame_w, frame_h) = picture_size, frame_size
        x, y, log_width, roll_deg = self._at(time_s)
        shift_x, shift_y, turn, zoom = self._shaken(time_s)
        scale = math.exp(log_width) * picture_w / frame_w * (1 + self.shake.zoom * zoom)
        angle = math.radians(roll_deg + self.shake.roll_deg * turn)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        middle_x = (frame_w - 1) / 2 - self.shake.shift * frame_w * shift_x
        middle_y = (frame_h - 1) / 2 - self.shake.shift * frame_w * shift_y
        seen_x, seen_y = x * picture_w - 0.5, y * picture_h - 0.5
        return np.array(
            [
                [cos, -sin, seen_x - cos * middle_x + sin * middle_y],
                [sin, cos, seen_y - sin * middle_x - cos * middle_y],
            ]
        )

    def _at(self, time_s: float) -> tuple[float, ...]:
        """x, y, logarithm of the width, and roll, without the shake."""
        times = [key.time_s for key in self.keys]
        values = [(key.x, key.y, math.log(key.width), key.roll_deg) for key in self.keys]
        after = int(np.searchsorted(times, time_s))
        if after in (0, len(times)):
            return values[min(after, len(times) - 1)]
        s = (time_s - times[after - 1]) / (times[after] - times[after - 1])
        eased = s**3 * (10 - 15 * s + 6 * s**2)
        return tuple(a + eased * (b - a) for a, b in zip(values[after - 1], values[after], strict=True))

    def _shaken(self, time_s: float) -> list[float]:
        """Four noises of unit root mean square: along x, along y, roll, zoom."""
        random = np.random.default_rng(self.seed)
        low, high = math.log(self.shake.slowest_hz), math.log(self.shake.fastest_hz)
        rates_hz = np.exp(random.uniform(low, high, (4, WAVES)))
        phases = random.uniform(0, 2 * math.pi, (4, WAVES))
        amplitudes = 1 / rates_hz
        amplitudes *= math.sqrt(2) / np.linalg.norm(amplitudes, axis=1, keepdims=True)
        waves = amplitudes * np.sin(2 * math.pi * rates_hz * time_s + phases)
        return [float(value) for value in waves.sum(axis=1)]


class Shot(NamedTuple):
    """One frame of a virtual camera."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB."""

    frame_from_picture: Matrix
    """(2, 3) float64, a similarity, exact."""


def shoot(
    picture: NDArray[np.uint8],
    path: CameraPath,
    size: tuple[int, int],
    frames: int,
    rate_hz: float | Fraction,
) -> Iterator[Shot]:
    """The frames that a camera on `path` takes of a picture, one after another from time 0.

    A frame's pixel is the mean over its square of the picture, sampled finer than the picture's own pixels
    with bicubic interpolation: neither aliased when the picture is shrunk nor blocky when it is enlarged,
    and nothing jumps while the scale changes. What lies outside the picture is its mirror image.

    Args:
        picture: (H, W, 3) uint8 RGB.
        path: how the camera moves.
        size: width and height of the frames, px.
        frames: how many.
        rate_hz: frames a second.

    Raises:
        OptionError: a picture of another shape or dtype, a size, number or rate that makes no sense.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise OptionError(f"a picture is (H, W, 3) uint8 RGB, got {picture.shape} {picture.dtype}")
    if min(size) < 1 or frames < 0 or rate_hz <= 0:
        raise OptionError(f"cannot shoot {frames} frames of {size[0]}x{size[1]} px at {rate_hz} Hz")
    height, width = picture.shape[:2]
    for i in range(frames):
        picture_from_frame = path.picture_from_frame(float(i / rate_hz), (width, height), size)
        yield Shot(_sampled(picture, picture_from_frame, size), _inverse(picture_from_frame))


def _sampled(
    picture: NDArray[np.uint8], picture_from_frame: Matrix, size: tuple[int, int]
) -> NDArray[np.uint8]:
    scale = math.hypot(picture_from_frame[0, 0], picture_from_frame[1, 0])
    finer = max(2, math.ceil(scale))
    picture_from_fine = picture_from_frame.copy()
    picture_from_fine[:, :2] /= finer
    picture_from_fine[:, 2] += picture_from_fine[:, :2] @ [(1 - finer) / 2, (1 - finer) / 2]
    fine = cv2.warpAffine(
        picture,
        picture_from_fine,
        (size[0] * finer, size[1] * finer),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _inverse(similarity: Matrix) -> Matrix:
    linear = similarity[:, :2].T / (similarity[0, 0] ** 2 + similarity[1, 0] ** 2)
    return np.column_stack([linear, -linear @ similarity[:, 2]])
