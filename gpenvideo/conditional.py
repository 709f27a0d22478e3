"""Conditional GPEN networks, for still pictures: colour for grey faces, faces for holes and for label maps.

They are GPENs of the published layout, each trained for its task (GPEN notes, section 13), and take faces
that are aligned already. A picture of another size than the network's is stretched to it, as by the published
code: bilinear, but smoothed where it shrinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.crops import through
from gpenvideo.errors import GpenvideoError, OptionError
from gpenvideo.picture import Pixels, check_suffix, read_picture, write_picture
from gpenvideo.restorer import Restorer
from gpenvideo.still import aligned_crop, as_pixels, resized

__all__ = [
    "colorize",
    "colorize_picture",
    "face_from_segmentation",
    "face_picture_from_segmentation",
    "inpaint",
    "inpaint_picture",
]

LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # BT.601, as the published code has it
SQUARE = (0.8, 1.25)  # width over height of what can be an aligned face


def colorize(image: Pixels, restorer: Restorer) -> Pixels:
    """Give a grey face its colours.

    The network sees the luma of the picture, three times. Where its result has the size of the picture, that
    is the result; where not, it is stretched to it and lends its colours alone: luma stays the picture's,
    except where a colour of that luma would lie outside the range (GPEN notes, section 13).

    Args:
        image: (H, W, 3) RGB, uint8 or uint16; colours in it are not looked at.
        restorer: a network for colourisation, such as GPEN-Colorization-1024.

    Returns:
        A new picture of the same shape and dtype.

    Raises:
        OptionError: another dtype or shape, or no aligned face by its shape.
    """
    _check_square(image)
    luma = _unit(image) @ LUMA * 2 - 1
    grey = np.repeat(luma[..., None], 3, axis=2)
    made = through(restorer, [aligned_crop(as_pixels(grey, image.dtype), restorer.size_px)])[0]
    if made.shape != image.shape:
        made = resized(made, image.shape[1::-1])
        made = made + (luma - made @ LUMA)[..., None]
    return as_pixels(made, image.dtype)


def inpaint(image: Pixels, mask: NDArray[np.bool_], restorer: Restorer, *, whole: bool = False) -> Pixels:
    """Fill holes in a face.

    The network sees white where there is a hole, as it was trained (GPEN notes, section 13). It makes the
    whole face anew, which is what the published code gives; here only the holes are taken from it, unless
    `whole` is asked for.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16.
        mask: (H, W): true in the holes.
        restorer: a network for inpainting, such as GPEN-Inpainting-1024.
        whole: give all that the network makes, at its own size.

    Returns:
        A new picture of the same shape and dtype: outside the mask it is `image`, bit for bit. Of `whole`,
        (S', S', 3) at the network's output size.

    Raises:
        OptionError: another dtype or shape, a mask of another size, or no aligned face by its shape.
    """
    _check_square(image)
    if mask.shape != image.shape[:2]:
        sizes = [f"{width}x{height}" for height, width in (mask.shape, image.shape[:2])]
        raise OptionError(f"a mask is as large as its picture, and it is {sizes[0]}, the picture {sizes[1]}")
    holed = image.copy()
    holed[mask] = np.iinfo(image.dtype).max
    made = through(restorer, [aligned_crop(holed, restorer.size_px)])[0]
    if whole:
        return as_pixels(made, image.dtype)
    filled = as_pixels(resized(made, image.shape[1::-1]), image.dtype)
    return np.where(mask[..., None], filled, image)


def face_from_segmentation(image: Pixels, restorer: Restorer) -> Pixels:
    """Make a face of a map of its parts.

    This network, unlike the others, takes and gives values in [0, 1] (GPEN notes, sections 9 and 13).

    Args:
        image: (H, W, 3) RGB, uint8 or uint16: a colour for each part of a face, those of its training.
        restorer: a network for it, such as GPEN-Seg2face-512.

    Returns:
        (S', S', 3) RGB of the same dtype, at the network's output size.

    Raises:
        OptionError: another dtype or shape, or no aligned face by its shape.
    """
    _check_square(image)
    parts = aligned_crop(image, restorer.size_px) * np.float32(0.5) + np.float32(0.5)
    return as_pixels(through(restorer, [parts])[0] * 2 - 1, image.dtype)


def colorize_picture(source: str | PathLike[str], target: str | PathLike[str], restorer: Restorer) -> None:
    """`colorize` from a picture file to another. FileError, MediaError, OptionError."""
    _picture(source, target, lambda image: colorize(image, restorer))


def inpaint_picture(
    source: str | PathLike[str],
    mask: str | PathLike[str],
    target: str | PathLike[str],
    restorer: Restorer,
    *,
    whole: bool = False,
) -> None:
    """`inpaint` from a picture file to another; the mask's file is black wherever the picture is kept.

    FileError, MediaError; OptionError, also for a mask that is all black.
    """
    holes = np.asarray(read_picture(mask).rgb.max(axis=2) > 0)
    if not holes.any():
        raise OptionError("it is black all over: paint white what is to be filled", path=mask)
    _picture(source, target, lambda image: inpaint(image, holes, restorer, whole=whole))


def face_picture_from_segmentation(
    source: str | PathLike[str], target: str | PathLike[str], restorer: Restorer
) -> None:
    """`face_from_segmentation` from a picture file to another. FileError, MediaError, OptionError."""
    _picture(source, target, lambda image: face_from_segmentation(image, restorer))


def _picture(
    source: str | PathLike[str], target: str | PathLike[str], made: Callable[[Pixels], Pixels]
) -> None:
    check_suffix(target)
    picture = read_picture(source)
    try:
        rgb = made(picture.rgb)
    except GpenvideoError as error:
        error.path = error.path or str(source)
        raise
    alpha = picture.alpha
    if alpha is not None and alpha.shape != rgb.shape[:2]:
        alpha = np.asarray(cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    profile = None if picture.grey else picture.icc_profile  # one of grey levels is none of colours
    write_picture(replace(picture, rgb=rgb, alpha=alpha, grey=False, icc_profile=profile), target)


def _check_square(image: Pixels) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise OptionError(f"a picture is (H, W, 3) uint8 or uint16 RGB, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if not SQUARE[0] < width / height < SQUARE[1]:
        raise OptionError(
            f"it is no aligned face, {width}x{height} px: cut a square around the face out of it first"
        )


def _unit(image: Pixels) -> NDArray[np.float32]:
    return np.asarray(image / np.float32(np.iinfo(image.dtype).max), dtype=np.float32)
