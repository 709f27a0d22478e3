"""Still pictures: every face restored where it stands, or an aligned face whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.crops import paste_of, through
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

__all__ = ["check_aligned", "restore_aligned", "restore_image", "restore_picture"]

ALIGNED_WITHIN = 0.25  # of the eye distance: aligned crops measure below 0.2, portraits some 0.4


def restore_image(
    image: Pixels,
    restorer: Restorer,
    *,
    faces: Sequence[Face] | None = None,
    detector: Detector | None = None,
    strength: float = 1.0,
) -> Pixels:
    """Restore every face of a picture where it stands.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16.
        restorer: what `gpenvideo.load` gives.
        faces: where the faces are; None lets `detector` find them.
        detector: finds the faces; None is the default one, loaded anew at each call.
        strength: how much of the restored face to take, in [0, 1].

    Returns:
        A new picture of the same shape and dtype; outside the faces' masks it is `image`, bit for bit.

    Raises:
        FaceError: there is no face.
        OptionError: another dtype or shape, a strength outside [0, 1].
    """
    if faces is None:
        faces = (detector or load_detector())([as_uint8(image)])[0]
    if not faces:
        raise FaceError("no face was found in it; if it is all face, add --aligned")
    result = image.copy()
    frame = as_frame(result, edited=True)
    matrices = [crop_from_frame(face.landmarks, restorer.template) for face in faces]
    crops = [crop(frame, matrix, restorer.size_px) for matrix in matrices]
    ready = zip(through(restorer, crops), crops, matrices, strict=True)
    paste(frame, [paste_of(*face, restorer.template, strength) for face in ready])
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
    height, width = image.shape[:2]
    size = restorer.size_px
    crop_from_picture = np.array([(size / width, 0, 0), (0, size / height, 0)])
    crop_from_picture[:, 2] = (
        crop_from_picture[[0, 1], [0, 1]] - 1
    ) / 2  # pixel centres lie on whole numbers
    face = crop(as_frame(image), crop_from_picture, size)
    restored = through(restorer, [face])[0]
    if strength < 1:
        before = _resized(face, len(restored))
        restored = before + np.float32(strength) * (restored - before)
    top = np.iinfo(image.dtype).max
    return np.asarray(np.rint((np.clip(restored, -1, 1) + 1) * (top / 2)), dtype=image.dtype)


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
) -> int:
    """Restore a picture file into another; the profile, the EXIF and the alpha channel are kept.

    Returns the number of faces restored.

    Raises FileError, MediaError, FaceError: no file, no picture, no face; each with the path.
    """
    check_suffix(target)
    picture = read_picture(source)
    try:
        if aligned:
            count, rgb = 1, restore_aligned(picture.rgb, restorer, strength=strength)
        else:
            faces = (detector or load_detector())([as_uint8(picture.rgb)])[0]
            count, rgb = len(faces), restore_image(picture.rgb, restorer, faces=faces, strength=strength)
    except FaceError as error:
        raise FaceError(error.message, path=source) from error
    alpha = picture.alpha
    if alpha is not None and alpha.shape != rgb.shape[:2]:
        alpha = np.asarray(cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_AREA))
    write_picture(replace(picture, rgb=rgb, alpha=alpha), target)
    return count


def _resized(face: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    if len(face) == size_px:
        return face
    return np.asarray(cv2.resize(face, (size_px, size_px), interpolation=cv2.INTER_CUBIC))
