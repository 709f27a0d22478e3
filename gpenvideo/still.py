"""Still pictures: every face restored where it stands, or an aligned face whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import cv2
import numpy as np

from gpenvideo.crops import Crop, enlarged_frame, paste_of, through
from gpenvideo.errors import FaceError, OptionError
from gpenvideo.face import Face
from gpenvideo.faces.alignment import alignment_error, crop_from_frame
from gpenvideo.faces.detector import Detector
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.paste import paste
from gpenvideo.kernels.picture import as_frame
from gpenvideo.networks import load_detector
from gpenvideo.picture import Pixels, as_uint8, check_suffix, read_picture, write_picture
from gpenvideo.restorer import Restorer
from gpenvideo.upscaling import Upscaler

__all__ = [
    "aligned_crop",
    "as_pixels",
    "check_aligned",
    "resized",
    "restore_aligned",
    "restore_image",
    "restore_picture",
]

ALIGNED_WITHIN = 0.25  # of the eye distance: aligned crops measure below 0.2, portraits some 0.4


def restore_image(
    image: Pixels,
    restorer: Restorer,
    *,
    faces: Sequence[Face] | None = None,
    detector: Detector | None = None,
    strength: float = 1.0,
    upscaler: Upscaler | None = None,
) -> Pixels:
    """Restore every face of a picture where it stands.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16.
        restorer: what `gpenvideo.load` gives.
        faces: where the faces are; None lets `detector` find them.
        detector: finds the faces; None is the default one, loaded anew at each call.
        strength: how much of the restored face to take, in [0, 1].
        upscaler: makes the picture larger first, whether or not there is a face.

    Returns:
        A new picture of the same dtype, and the same shape unless an upscaler was given; outside the faces'
        masks it is `image`, bit for bit, or what the upscaler made of it.

    Raises:
        FaceError: there is no face, and no upscaler.
        OptionError: another dtype or shape, a strength outside [0, 1].
    """
    if faces is None:
        faces = (detector or load_detector())([as_uint8(image)])[0]
    if not faces and upscaler is None:
        raise FaceError("no face was found in it; if it is all face, add --aligned")
    frame = as_frame(image)
    result, scale = image.copy(), 1
    if upscaler:
        green, blue, red = upscaler(frame).planes
        result, scale = np.dstack([red, green, blue]), upscaler.scale
    matrices = [crop_from_frame(face.landmarks, restorer.template) for face in faces]
    crops = [crop(frame, matrix, restorer.size_px) for matrix in matrices]
    places = [enlarged_frame(matrix, scale) for matrix in matrices]
    ready = zip(through(restorer, crops), crops, places, strict=True)
    paste(as_frame(result, edited=True), [paste_of(*face, restorer.template, strength) for face in ready])
    return result


def restore_aligned(image: Pixels, restorer: Restorer, *, strength: float = 1.0) -> Pixels:
    """Restore a picture that is an aligned face, whole.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16; nearly square, aligned as `restorer.template` says.
        restorer: what `gpenvideo.load` gives.
        strength: how much of the restored face to take, in [0, 1].

    Returns:
        (S', S', 3) of the same dtype, at the restorer's output size.

    Raises:
        OptionError: another dtype or shape, a strength outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise OptionError(f"a strength lies in [0, 1], got {strength}")
    face = aligned_crop(image, restorer.size_px)
    restored = through(restorer, [face])[0]
    if strength < 1:
        before = resized(face, restored.shape[1::-1])
        restored = before + np.float32(strength) * (restored - before)
    return as_pixels(restored, image.dtype)


def aligned_crop(image: Pixels, size_px: int) -> Crop:
    """A picture that is an aligned face, stretched to a square: (S, S, 3) float32 RGB in [-1, 1]."""
    height, width = image.shape[:2]
    crop_from_picture = np.array([(size_px / width, 0, 0), (0, size_px / height, 0)])
    crop_from_picture[:, 2] = (crop_from_picture[[0, 1], [0, 1]] - 1) / 2  # centres are whole numbers
    return crop(as_frame(image), crop_from_picture, size_px)


def as_pixels(face: Crop, dtype: np.dtype[Any]) -> Pixels:
    """RGB in [-1, 1] as the levels of a picture, rounded."""
    top = np.iinfo(dtype).max
    return np.asarray(np.rint((np.clip(face, -1, 1) + 1) * (top / 2)), dtype=dtype)


def resized(face: Crop, size: tuple[int, int]) -> Crop:
    """The same at another (width, height): bicubic, or averaged where it becomes smaller."""
    if face.shape[1::-1] == size:
        return face
    how = cv2.INTER_AREA if size[0] < face.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, size, interpolation=how), dtype=np.float32)


def check_aligned(image: Pixels, restorer: Restorer, detector: Detector | None = None) -> None:
    """FaceError unless `image` is one face, aligned as `restorer` wants it."""
    height, width = image.shape[:2]
    faces = (detector or load_detector())([as_uint8(image)])[0]
    if not faces:
        raise FaceError(
            "no face was found in it: it is no aligned face; add --face_align to look for faces in it"
        )
    scale = np.array([restorer.size_px / width, restorer.size_px / height])
    error = min(alignment_error(face.landmarks * scale, restorer.template) for face in faces)
    if error > ALIGNED_WITHIN or not 0.8 < width / height < 1.25:
        raise FaceError("it is no aligned face: add --face_align to align the faces in it first")


def restore_picture(
    source: str | PathLike[str],
    target: str | PathLike[str],
    restorer: Restorer,
    *,
    aligned: bool = False,
    detector: Detector | None = None,
    strength: float = 1.0,
    upscaler: Upscaler | None = None,
) -> int:
    """Restore a picture file into another; the profile, the EXIF and the alpha channel are kept.

    Returns the number of faces restored.

    Raises FileError, MediaError, FaceError: no file, no picture, no face; each with the path. OptionError: an
    upscaler for an aligned face.
    """
    check_suffix(target)
    if aligned and upscaler:
        raise OptionError("an aligned face becomes as large as its network makes it: leave --upscale out")
    picture = read_picture(source)
    try:
        if aligned:
            count, rgb = 1, restore_aligned(picture.rgb, restorer, strength=strength)
        else:
            faces = (detector or load_detector())([as_uint8(picture.rgb)])[0]
            count = len(faces)
            rgb = restore_image(picture.rgb, restorer, faces=faces, strength=strength, upscaler=upscaler)
    except FaceError as error:
        raise FaceError(error.message, path=source) from error
    alpha = picture.alpha
    if alpha is not None and alpha.shape != rgb.shape[:2]:
        how = cv2.INTER_AREA if rgb.shape[1] < alpha.shape[1] else cv2.INTER_CUBIC
        alpha = np.asarray(cv2.resize(alpha, rgb.shape[1::-1], interpolation=how))
    write_picture(replace(picture, rgb=rgb, alpha=alpha), target)
    return count
