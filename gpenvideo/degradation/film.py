"""What film and its transfer to video add: grain, scratches, dust, flicker, weave, fields, a codec.

Each function takes and returns (H, W, 3) float32 RGB in [0, 1] and leaves its argument as it was. Pixels
are those of the frame the face was cut from: grain and scratches have the size of a frame's pixels, not of
a face, so on a face that is 40 px wide one scratch is a broad band.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.degradation.base import Image, Range, check_bounds, jpeg, luma

__all__ = [
    "FILM_RANGES",
    "Film",
    "codec",
    "draw_film",
    "dust",
    "flicker",
    "grain",
    "greyscale",
    "interlace",
    "scratches",
    "weave",
]

GREY_PROBABILITY = 0.6

FILM_RANGES: dict[str, Range] = {
    "grain_levels": Range(2, 20, 0.9),
    "grain_size_px": Range(0.4, 1.4),
    "scratches_per_100px": Range(0.2, 4, 0.4),
    "dust_per_1000px": Range(0.05, 1.0, 0.5, log=True),
    "flicker_gain": Range(0.75, 1.25, 0.5),
    "flicker_tilt": Range(-0.15, 0.15),
    "weave_x_px": Range(-0.75, 0.75, 0.5),
    "weave_y_px": Range(-0.75, 0.75),
    "field_shift_px": Range(-10, 10, 0.25),
    "codec_quality": Range(10, 70, 0.5),
}


@dataclass(frozen=True, slots=True)
class Film:
    """What film and its transfer did to one picture. None: that did not happen.

    grey               black and white film: Rec. 601 luma
    grain_levels       standard deviation of the grain at mid-grey, of 255
    grain_size_px      sigma of a grain, frame pixels
    scratches_per_100px  mean number of vertical scratches over 100 frame pixels of width
    dust_per_1000px    mean number of dust spots in 1,000 frame pixels of area
    flicker_gain       brightness against the neighbours in time
    flicker_tilt       further change of brightness from the middle to the bottom edge, -tilt to the top
    weave_px           (x, y) displacement in the gate, pixels of the full-size picture
    field_shift_px     displacement along x between the two fields, pixels of the full-size picture
    codec_quality      JPEG quality (1 to 100) that stands for a video codec's

    Raises OptionError for a value that makes no sense.
    """

    grey: bool = False
    grain_levels: float | None = None
    grain_size_px: float = 0.7
    scratches_per_100px: float | None = None
    dust_per_1000px: float | None = None
    flicker_gain: float | None = None
    flicker_tilt: float = 0.0
    weave_px: tuple[float, float] | None = None
    field_shift_px: float | None = None
    codec_quality: int | None = None

    def __post_init__(self) -> None:
        check_bounds(
            self,
            grain_levels=(0, 255),
            grain_size_px=(0, 100),
            scratches_per_100px=(0, 100),
            dust_per_1000px=(0, 1000),
            flicker_gain=(0, 100),
            flicker_tilt=(-1, 1),
            field_shift_px=(-1000, 1000),
            codec_quality=(1, 100),
        )


def draw_film(rng: np.random.Generator, *, colour: bool = True) -> Film:
    """Draw a Film over `FILM_RANGES`; `colour` False leaves the flicker out, a tone nothing can undo."""
    grey = bool(rng.random() < GREY_PROBABILITY)
    value = {name: span.draw(rng) for name, span in FILM_RANGES.items()}
    weave_x, weave_y, quality = value["weave_x_px"], value["weave_y_px"], value["codec_quality"]
    return Film(
        grey=grey,
        grain_levels=value["grain_levels"],
        grain_size_px=value["grain_size_px"] or 0.0,
        scratches_per_100px=value["scratches_per_100px"],
        dust_per_1000px=value["dust_per_1000px"],
        flicker_gain=value["flicker_gain"] if colour else None,
        flicker_tilt=(value["flicker_tilt"] or 0.0) if colour else 0.0,
        weave_px=None if weave_x is None else (weave_x, weave_y or 0.0),
        field_shift_px=value["field_shift_px"],
        codec_quality=None if quality is None else round(quality),
    )


def greyscale(image: Image) -> Image:
    """Black and white: Rec. 601 luma in all three channels."""
    return np.repeat(luma(image), 3, axis=2)


def grain(image: Image, sigma_levels: float, size_px: float, rng: np.random.Generator) -> Image:
    """Add film grain: Gaussian noise, correlated over `size_px` (a sigma), the same in each channel.

    Its standard deviation is `sigma_levels` (of 255) at mid-grey and falls to a fifth of that in black and
    in white, where film has nothing to show or is clear.
    """
    field = rng.standard_normal(image.shape[:2], np.float32)
    if size_px > 0:
        taps = np.asarray(cv2.getGaussianKernel(2 * int(3 * size_px + 0.5) + 1, size_px))
        taps = taps / np.linalg.norm(taps)  # keeps the noise's variance
        field = np.asarray(cv2.sepFilter2D(field, -1, taps, taps, borderType=cv2.BORDER_REFLECT_101))
    grey = np.clip(luma(image), 0, 1)
    amount = np.float32(sigma_levels / 255) * (np.float32(0.2) + np.float32(3.2) * grey * (1 - grey))
    return np.clip(image + amount * field[..., None], 0, 1)


def scratches(image: Image, per_100px: float, rng: np.random.Generator) -> Image:
    """Draw vertical scratches, a Poisson number of them: bright or dark, 1 to 3 px wide, nearly upright.

    Each covers the whole height or a part of it and lets some of the picture through.
    """
    height, width = image.shape[:2]
    y = np.arange(height, dtype=np.float32)[:, None]
    out = image.copy()
    for _ in range(rng.poisson(per_100px * width / 100)):
        start, slant = rng.uniform(-0.5, width - 0.5), rng.normal(0, 0.01)
        wave, turn = rng.uniform(0, 0.5), rng.uniform(0, 2 * np.pi)
        sigma, opacity, bright = rng.uniform(0.4, 1.1), rng.uniform(0.25, 0.9), rng.random() < 0.65
        top, bottom = sorted(rng.uniform(-0.6, 1.6, 2) * height)
        centre = start + slant * y + wave * np.sin(4 * np.pi * y / height + turn)
        there = np.clip(y - top, 0, 1) * np.clip(bottom - y, 0, 1)
        left, right = max(0, int(centre.min()) - 4), max(0, int(centre.max()) + 5)
        x = np.arange(width, dtype=np.float32)[left:right]
        alpha = opacity * there * np.exp(-(((x - centre) / sigma) ** 2) / 2)
        out[:, left:right] = _blend(out[:, left:right], alpha, bright)
    return out


def dust(image: Image, per_1000px: float, rng: np.random.Generator) -> Image:
    """Lay dust on the film: a Poisson number of ragged spots, 1 to 6 px across, white or black."""
    height, width = image.shape[:2]
    masks = np.zeros((2, height, width), np.uint8)
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    for _ in range(rng.poisson(per_1000px * height * width / 1000)):
        centre = rng.uniform(0, (width, height))
        radius = rng.uniform(0.7, 1.7) ** 2 * rng.uniform(0.6, 1.0, 8)
        stretch, opacity, bright = rng.uniform(0.5, 1.0), rng.uniform(0.4, 1.0), rng.random() < 0.6
        points = centre + radius[:, None] * np.stack([np.cos(angle), stretch * np.sin(angle)], 1)
        # OpenCV takes sub-pixel corners as integers with four binary places.
        corners = np.round(points * 16).astype(np.int32)
        cv2.fillPoly(masks[int(bright)], [corners], round(255 * opacity), cv2.LINE_AA, 4)
    out = image
    for bright in (False, True):
        if masks[int(bright)].any():
            out = _blend(out, masks[int(bright)].astype(np.float32) / 255, bright)
    return out


def flicker(image: Image, gain: float, tilt: float) -> Image:
    """Multiply by `gain` and by 1 - tilt at the top row to 1 + tilt at the bottom one; clip to [0, 1]."""
    ramp = gain * (1 + tilt * np.linspace(-1, 1, image.shape[0], dtype=np.float32))
    return np.asarray(np.clip(image * ramp.astype(np.float32)[:, None, None], 0, 1))


def weave(image: Image, x_px: float, y_px: float) -> Image:
    """Move the picture right by `x_px` and down by `y_px`, parts of a pixel too: bilinear, edges held."""
    matrix = np.array([[1, 0, x_px], [0, 1, y_px]], np.float64)
    size = (image.shape[1], image.shape[0])
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


def interlace(image: Image, shift_px: float) -> Image:
    """Comb: even rows move right by half of `shift_px`, odd rows left by the other half, along x.

    The two fields of an interlaced frame, taken while the face moved; its middle stays where it was.
    """
    out = np.empty_like(image)
    out[0::2] = weave(image, shift_px / 2, 0)[0::2]
    out[1::2] = weave(image, -shift_px / 2, 0)[1::2]
    return out


def codec(image: Image, quality: int, *, block_offset_px: tuple[int, int] = (0, 0)) -> Image:
    """Block quantisation as of a video codec: JPEG 4:2:0, the chroma with half of `quality`.

    JPEG has a codec's 8 px transform and its quantisation, not its motion search or deblocking filter.
    """
    fine = jpeg(image, quality, block_offset_px=block_offset_px)
    coarse = jpeg(image, max(1, quality // 2), block_offset_px=block_offset_px)
    # OpenCV writes 4:4:4 when it is given two qualities; so luma and chroma come from two files.
    mixed = cv2.cvtColor(coarse, cv2.COLOR_RGB2YCrCb)
    mixed[..., :1] = luma(fine)
    return np.asarray(np.clip(cv2.cvtColor(mixed, cv2.COLOR_YCrCb2RGB), 0, 1))


def _blend(image: Image, alpha: NDArray[np.floating], bright: bool) -> Image:
    """The picture with white (0.95) or black (0.05) laid over it, by `alpha` (H, W) in [0, 1]."""
    cover = alpha.astype(np.float32)[..., None]
    return image + cover * (np.float32(0.95 if bright else 0.05) - image)
