"""How near a region of a picture is to the truth: the measures of `image`, within a mask.

Pictures are (H, W, 3) uint8 RGB of one size, masks (H, W) bool. NaN where a mask is empty.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import compose, invert
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.faces.mask import rounded
from gpenvideo.frame import Rectangle

__all__ = ["bounds", "gradient_energy", "inside", "psnr_db", "ssim"]

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

OUTLINE_PX = 64  # side of the crop that the outline of a face is drawn on
WHOLE = 0.9  # of a mask, at least: further out the source is seen through it
ROUNDING = 1 / 12  # mean square error of 8 bits, levels


def bounds(landmarks: NDArray[np.floating], size: tuple[int, int], margin: float = 0.0) -> Rectangle:
    """The rectangle of a picture around the region of a face, with a margin in parts of its size.

    size   (width, height) of the picture, that the rectangle stays inside
    """
    frame_from_crop = invert(crop_from_frame(landmarks, template("ffhq", OUTLINE_PX)))
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * (OUTLINE_PX - 1)
    points = corners @ frame_from_crop[:, :2].T + frame_from_crop[:, 2]
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    x0, y0 = (min(max(0, int(edge)), side) for edge, side in zip(low, size, strict=True))
    x1, y1 = (min(max(0, int(edge) + 2), side) for edge, side in zip(high, size, strict=True))
    return Rectangle(x0, y0, x1, y1)


def inside(landmarks: NDArray[np.floating], rectangle: Rectangle) -> Mask:
    """(h, w): what of a rectangle is face: where the mask that a face is pasted by is nearly whole.

    See `gpenvideo.faces.mask.rounded`: from the brows to below the mouth, and from cheek to cheek.

    landmarks   (5, 2) px of the picture
    """
    points = template("ffhq", OUTLINE_PX)
    picture_from_crop = invert(crop_from_frame(landmarks, points))
    rectangle_from_crop = compose([(1, 0, -rectangle.x0), (0, 1, -rectangle.y0)], picture_from_crop)
    size = (rectangle.x1 - rectangle.x0, rectangle.y1 - rectangle.y0)
    return np.asarray(cv2.warpAffine(rounded(OUTLINE_PX, points), rectangle_from_crop, size) > WHOLE)


def psnr_db(picture: Pixels, truth: Pixels, mask: Mask) -> float:
    """Peak signal to noise ratio in dB, 58.9 at most, as `image.psnr_db`."""
    if not mask.any():
        return float("nan")
    error = np.mean((picture[mask].astype(np.float64) - truth[mask]) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), ROUNDING)))


def ssim(picture: Pixels, truth: Pixels, mask: Mask) -> float:
    """Structural similarity, the channels' mean, as `image.ssim`: the mean of its map inside the mask."""
    if not mask.any():
        return float("nan")
    a, b = picture.astype(np.float32) / 255, truth.astype(np.float32) / 255
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = (
        cv2.GaussianBlur(values, (11, 11), 1.5) for values in (a, b, a * a, b * b, a * b)
    )
    variance_a, variance_b = mean_aa - mean_a**2, mean_bb - mean_b**2
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * (mean_ab - mean_a * mean_b) + c2) / (variance_a + variance_b + c2)
    return float((likeness * structure)[mask].mean())


def gradient_energy(picture: Pixels, mask: Mask) -> float:
    """Mean square of the differences of neighbouring pixels, levels: how sharp (or noisy) a region is.

    Its ratio to the truth's is the sharpness: below 1 smoother, above 1 sharper or noisier.
    """
    values = picture.astype(np.float32)
    energies = []
    for axis in (0, 1):
        both = mask[1:] & mask[:-1] if axis == 0 else mask[:, 1:] & mask[:, :-1]
        if not both.any():
            return float("nan")
        energies.append(float((np.diff(values, axis=axis)[both] ** 2).mean()))
    return sum(energies)
