"""Gates: where a restorer had better hold back, for a face is in profile or hardly more than some pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from gpenvideo.errors import FaceError
from gpenvideo.face import Face

__all__ = ["gate", "yaw_deg"]

# Of a mean head, in distances between the pupils: how far the tip of the nose stands before the line from
# between the eyes to between the mouth's corners, at which part of that line, and the width of the mouth.
# Place and width are those of FFHQ's mean landmarks, the depth is that of the adult face (27 of 63 mm).
NOSE_DEPTH, NOSE_PLACE, MOUTH_WIDTH = 0.43, 0.564, 0.888

FRONTAL_DEG, PROFILE_DEG = 50.0, 70.0  # restorers know faces of up to 50 degrees or so
LARGE_PX, TINY_PX = 20.0, 12.0  # of 12 photographs shrunk to less, the default restorer makes other people


def yaw_deg(landmarks: ArrayLike) -> float:
    """How far a face is turned to its side, from its five landmarks.

    With the head's x axis through the eyes, y down to the mouth and z to the camera, a turn by the yaw, then
    a nod, and a parallel projection onto the picture leave x' = x cos(yaw) + z sin(yaw): the nod changes y'
    alone. The tip of the nose thus lies `NOSE_DEPTH` sin(yaw) beside the line between eyes and mouth, and
    eyes and mouth are cos(yaw) times as wide as they were. The yaw is the angle of the two; it does not
    depend on size, place or roll. Landmarks that are off by 3 % of the eye distance change it by 4 degrees.

    Args:
        landmarks: (5, 2), px, in the order of `gpenvideo.face.LANDMARKS`.

    Returns:
        Degrees in [-180, 180]; 0 looks into the camera, above 0 the nose points right in the picture.

    Raises:
        FaceError: eyes and mouth lie on one point.
    """
    left, right, nose, mouth_left, mouth_right = np.asarray(landmarks, dtype=np.float64)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    height = float(np.hypot(*(mouth - eyes)))
    if height < 1e-6:
        raise FaceError(f"no yaw of a face without height: {np.asarray(landmarks).tolist()}")
    across = np.array((mouth[1] - eyes[1], eyes[0] - mouth[0])) / height  # to the right of an upright face
    beside = float((nose - eyes - NOSE_PLACE * (mouth - eyes)) @ across)
    width = float((right - left) @ across + (mouth_right - mouth_left) @ across / MOUTH_WIDTH) / 2
    return math.degrees(math.atan2(beside / NOSE_DEPTH, width))


def gate(face: Face) -> float:
    """How much of a restored face may be shown: less in profile and of tiny faces.

    Args:
        face: its pixels are those of the source, whatever the detector saw.

    Returns:
        In [0, 1], exactly 1 up to 50 degrees of yaw from 20 px of width on, 0 from 70 degrees on or up to
        12 px; smooth between.
    """
    turned = abs(yaw_deg(face.landmarks))
    return _rise(turned, PROFILE_DEG, FRONTAL_DEG) * _rise(face.width_px, TINY_PX, LARGE_PX)


def _rise(value: float, none: float, whole: float) -> float:
    """0 at `none` and beyond, 1 at `whole` and beyond, with no corner between."""
    share = min(1.0, max(0.0, (value - none) / (whole - none)))
    return share * share * (3 - 2 * share)
