"""The operations of a photographic chain, each alone: blur, motion, size, gamma, contrast, noise, JPEG.

Every function takes and returns a picture as (H, W, 3) float32 RGB, nominally in [0, 1] (values outside
pass through unless said otherwise), and leaves its argument as it was. What is random comes from the
generator given and from nowhere else.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError

__all__ = [
    "Image",
    "Range",
    "UpFilter",
    "adjust_contrast",
    "adjust_gamma",
    "check_bounds",
    "down_sample",
    "gaussian_blur",
    "gaussian_noise",
    "jpeg",
    "luma",
    "motion_blur",
    "motion_kernel",
    "up_sample",
]

Image = NDArray[np.float32]
UpFilter = Literal["bilinear", "bicubic"]


class Range(NamedTuple):
    """The range of one parameter and how often its operation happens: uniform, or log-uniform if `log`."""

    low: float
    high: float
    probability: float = 1.0
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float | None:
        """A value of the range, or None (the operation is off). Always takes two numbers from `rng`."""
        chance, place = rng.random(2)
        if chance >= self.probability:
            return None
        if self.log:
            return float(self.low * (self.high / self.low) ** place)
        return float(self.low + (self.high - self.low) * place)


def check_bounds(value: object, **bounds: tuple[float, float]) -> None:
    """Raise OptionError for the first attribute of `value` outside its (low, high); None is always right."""
    for name, (low, high) in bounds.items():
        number = getattr(value, name)
        if number is not None and not low <= number <= high:
            raise OptionError(f"{name} must lie between {low} and {high}, not {number}")


def gaussian_blur(image: Image, sigma_px: float) -> Image:
    """Blur with an isotropic Gaussian of `sigma_px`, cut at 4 sigma; edges mirrored (reflect-101)."""
    if sigma_px <= 0:
        return image
    taps = 2 * int(4 * sigma_px + 0.5) + 1
    return np.asarray(
        cv2.GaussianBlur(image, (taps, taps), sigma_px, borderType=cv2.BORDER_REFLECT_101), np.float32
    )


def motion_kernel(length_px: float, angle_deg: float) -> Image:
    """The kernel of a straight, even motion: (K, K) float32 summing to 1, K odd and at most the length.

    A segment of `length_px`, centred, at `angle_deg` (0 along x, 90 along y downwards). Each pixel gets the
    part of the segment that crosses it along its steeper axis, shared linearly between the two nearest
    pixels across. At 0 degrees an odd length is the box filter of that many pixels.
    """
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    upright = abs(sin) > abs(cos)
    major, minor = (sin, cos) if upright else (cos, sin)
    half = max(0.5, length_px * abs(major) / 2)
    radius = int(np.ceil(half - 0.5 - 1e-6))
    columns = np.arange(2 * radius + 1)
    left = np.clip(columns - radius - 0.5, -half, half)
    right = np.clip(columns - radius + 0.5, -half, half)
    row = radius + (left + right) / 2 * (minor / major)
    below = row - np.floor(row)
    kernel = np.zeros((2 * radius + 3, 2 * radius + 1))
    kernel[np.floor(row).astype(int), columns] += (right - left) * (1 - below)
    kernel[np.floor(row).astype(int) + 1, columns] += (right - left) * below
    kernel = kernel[: 2 * radius + 1] / (2 * half)
    return np.asarray(kernel.T if upright else kernel, np.float32)


def motion_blur(image: Image, length_px: float, angle_deg: float) -> Image:
    """Blur along a straight line of `length_px` at `angle_deg` (see `motion_kernel`); edges reflect-101."""
    kernel = motion_kernel(length_px, angle_deg)
    if kernel.size == 1:
        return image
    height, width = image.shape[:2]
    radius = kernel.shape[0] // 2
    padded = cv2.copyMakeBorder(image, radius, radius, radius, radius, cv2.BORDER_REFLECT_101)
    total = np.zeros_like(image)
    # OpenCV turns to a Fourier transform above 130 taps, zeros included; the line has few, and in bands of
    # five rows (25 x 5) it is summed directly, six times faster.
    for top in range(0, kernel.shape[0], 5):
        band = cv2.filter2D(padded[top : top + height + 4], -1, kernel[top : top + 5], anchor=(0, 0))
        total += band[:height, :width]
    return total


def down_sample(image: Image, scale: float) -> Image:
    """Shrink by `scale` (1 or more, not rounded to a whole number) with an area filter: no aliasing.

    Returns (round(H / scale), round(W / scale), 3), at least one pixel, pixel centres aligned.
    """
    height, width = image.shape[:2]
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def up_sample(image: Image, height_px: int, width_px: int, kind: UpFilter) -> Image:
    """Enlarge to (height_px, width_px, 3), bilinear or bicubic (which may overshoot [0, 1])."""
    if image.shape[:2] == (height_px, width_px):
        return image
    interpolation = cv2.INTER_LINEAR if kind == "bilinear" else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width_px, height_px), interpolation=interpolation), np.float32)


def adjust_gamma(image: Image, gamma: float) -> Image:
    """v ** gamma of a picture clipped to [0, 1]: above 1 darkens the middle, below 1 lightens it."""
    return np.asarray(cv2.pow(np.clip(image, 0, 1), gamma), np.float32)


def adjust_contrast(image: Image, contrast: float) -> Image:
    """Stretch by `contrast` about mid-grey (0.5) and clip to [0, 1]."""
    stretched = (image - np.float32(0.5)) * np.float32(contrast) + np.float32(0.5)
    return np.asarray(np.clip(stretched, 0, 1))


def gaussian_noise(
    image: Image, sigma_levels: float, rng: np.random.Generator, *, grey: bool = False
) -> Image:
    """Add white Gaussian noise of `sigma_levels` (of 255) and clip; `grey` is the same in each channel."""
    shape = (*image.shape[:2], 1 if grey else 3)
    noise = rng.standard_normal(shape, np.float32)
    noise *= np.float32(sigma_levels / 255)
    return np.asarray(np.clip(image + noise, 0, 1))


def jpeg(image: Image, quality: int, *, block_offset_px: tuple[int, int] = (0, 0)) -> Image:
    """Write as JPEG (4:2:0) and read again: clips to [0, 1] and rounds to 8 bits on the way.

    `quality` 1 to 100 is libjpeg's. `block_offset_px` (x, y) is where the picture's corner lies against
    the blocks, 0 to 15.
    """
    left, top = block_offset_px
    bgr = cv2.convertScaleAbs(np.clip(image[..., ::-1], 0, 1), alpha=255)
    bgr = cv2.copyMakeBorder(bgr, top, 0, left, 0, cv2.BORDER_REFLECT_101)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
    return decoded[top:, left:].astype(np.float32) * np.float32(1 / 255)


def luma(image: Image) -> Image:
    """The luma of Rec. 601, (H, W, 1) float32."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], np.float32)
