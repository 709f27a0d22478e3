"""Synthetic degradation, seeded: what turns a good face into one from bad footage.

    rng = np.random.default_rng(seed)
    bad = degrade(good, draw(rng), rng)

`draw` picks the parameters, `degrade` applies them. Both take everything random from the generator they
are given: the same seed gives the same bytes. The order is that of a face in a film or video frame:

    on the full-size picture    Gaussian blur, motion blur, (film) gate weave
    down-sampling, an area filter
    on the frame's pixels       gamma and contrast, (film) greyscale, grain, scratches, dust, flicker,
                                interlaced fields; noise, JPEG, (film) codec
    up-sampling, bilinear or bicubic

so noise, blocks and scratches are as coarse as the down-sampling makes them. In a part of the draws
(`late`) noise, JPEG and codec come after the up-sampling instead: a frame that was enlarged before it was
stored. Each operation happens with its own probability and over its own range: `RANGES`, `FILM_RANGES`.
Pixels are those of the picture given, so a `blur_sigma_px` of 3 is milder on a larger picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from gpenvideo.degradation.base import (
    Image,
    Range,
    UpFilter,
    adjust_contrast,
    adjust_gamma,
    check_bounds,
    down_sample,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    motion_blur,
    motion_kernel,
    up_sample,
)
from gpenvideo.degradation.film import (
    FILM_RANGES,
    Film,
    codec,
    draw_film,
    dust,
    flicker,
    grain,
    greyscale,
    interlace,
    scratches,
    weave,
)
from gpenvideo.errors import OptionError

__all__ = [
    "FILM_RANGES",
    "RANGES",
    "Degradation",
    "Film",
    "Preset",
    "Range",
    "UpFilter",
    "adjust_contrast",
    "adjust_gamma",
    "codec",
    "degrade",
    "down_sample",
    "draw",
    "dust",
    "flicker",
    "gaussian_blur",
    "gaussian_noise",
    "grain",
    "greyscale",
    "interlace",
    "jpeg",
    "motion_blur",
    "motion_kernel",
    "scratches",
    "up_sample",
    "weave",
]

Preset = Literal["base", "mild", "film"]
Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float32])

RANGES: dict[str, Range] = {
    "blur_sigma_px": Range(0, 3, 0.6),
    "motion_length_px": Range(1, 25, 0.25),
    "motion_angle_deg": Range(0, 180),
    "down_scale": Range(2, 16, 0.9, log=True),
    "gamma": Range(0.7, 1.4, 0.3, log=True),
    "contrast": Range(0.7, 1.3, 0.3),
    "noise_levels": Range(0, 25, 0.6),
    "jpeg_quality": Range(10, 100, 0.7),
}
MILD_DOWN_SCALE = Range(2, 4, 0.9, log=True)
BICUBIC_PROBABILITY = 0.5
GREY_NOISE_PROBABILITY = 0.4
LATE_PROBABILITY = 0.2


@dataclass(frozen=True, slots=True)
class Degradation:
    """What is done to one picture; None leaves an operation out, so `Degradation()` changes nothing.

    blur_sigma_px      Gaussian blur, pixels of the full-size picture
    motion_length_px   length of a straight motion blur, pixels of the full-size picture, 1 or more
    motion_angle_deg   its direction
    down_scale         how many times smaller the frame's pixels are, 1 or more
    up_filter          "bilinear" or "bicubic", back to full size
    gamma, contrast    the colour shift: v ** gamma, then a stretch about mid-grey
    noise_levels       standard deviation of the noise, of 255
    noise_grey         the same noise in all channels
    jpeg_quality       1 to 100
    late               noise, JPEG and the film's codec come after the up-sampling
    film               what film did, or None

    Raises OptionError for a value outside what is said here.
    """

    blur_sigma_px: float | None = None
    motion_length_px: float | None = None
    motion_angle_deg: float = 0.0
    down_scale: float | None = None
    up_filter: UpFilter = "bilinear"
    gamma: float | None = None
    contrast: float | None = None
    noise_levels: float | None = None
    noise_grey: bool = False
    jpeg_quality: int | None = None
    late: bool = False
    film: Film | None = None

    def __post_init__(self) -> None:
        check_bounds(
            self,
            blur_sigma_px=(0, 100),
            motion_length_px=(1, 100),
            down_scale=(1, 1000),
            gamma=(0.01, 100),
            contrast=(0, 100),
            noise_levels=(0, 255),
            jpeg_quality=(1, 100),
        )
        if self.up_filter not in get_args(UpFilter):
            raise OptionError(f"up_filter must be bilinear or bicubic, not {self.up_filter!r}")

    @property
    def grey(self) -> bool:
        """Whether the colour is gone: then no restorer can bring it back, and the truth to compare with
        is the greyscale of the picture."""
        return self.film is not None and self.film.grey


def draw(rng: np.random.Generator, preset: Preset = "base", *, colour: bool = True) -> Degradation:
    """Draw the parameters of one degradation.

    preset   "base": every range of `RANGES`; "mild": the same with a down-sampling of 2 to 4;
             "film": base, with `draw_film` on top
    colour   False leaves out what changes the tone (gamma and contrast, the film's flicker): an unknown
             gamma cannot be undone. Nothing else in the draw changes with it.

    Raises OptionError for an unknown preset.
    """
    if preset not in get_args(Preset):
        raise OptionError(f"there is no degradation preset {preset!r}; choose one of {get_args(Preset)}")
    ranges = RANGES | {"down_scale": MILD_DOWN_SCALE} if preset == "mild" else RANGES
    # Every number is taken from the generator whether it is used or not: presets and options then share
    # the rest of their draws, and results with and without the colour shift can be compared in pairs.
    value = {name: span.draw(rng) for name, span in ranges.items()}
    bicubic, grey, late = rng.random(3) < (BICUBIC_PROBABILITY, GREY_NOISE_PROBABILITY, LATE_PROBABILITY)
    quality = value["jpeg_quality"]
    return Degradation(
        blur_sigma_px=value["blur_sigma_px"],
        motion_length_px=value["motion_length_px"],
        motion_angle_deg=value["motion_angle_deg"] or 0.0,
        down_scale=value["down_scale"],
        up_filter="bicubic" if bicubic else "bilinear",
        gamma=value["gamma"] if colour else None,
        contrast=value["contrast"] if colour else None,
        noise_levels=value["noise_levels"],
        noise_grey=bool(grey),
        jpeg_quality=None if quality is None else round(quality),
        late=bool(late),
        film=draw_film(rng, colour=colour) if preset == "film" else None,
    )


def degrade(image: Pixels, degradation: Degradation, rng: np.random.Generator) -> Pixels:
    """Apply a degradation to a picture, in the order that the module describes.

    image    (H, W, 3) RGB, float32 in [0, 1] or uint8; not changed
    rng      gives the noise, the grain and the places of scratches, dust and blocks

    Returns a new array of the same shape, dtype and range. Raises OptionError for another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise OptionError(
            f"a picture to degrade is (H, W, 3) float32 or uint8, not {image.shape} {image.dtype}"
        )
    frame = np.asarray(image, np.float32)
    if image.dtype == np.uint8:
        frame = frame * np.float32(1 / 255)
    frame = _to_frame(frame, degradation)
    if degradation.film is not None:
        frame = _age(frame, degradation.film, image.shape[1] / frame.shape[1], rng)
    if not degradation.late:
        frame = _store(frame, degradation, rng)
    frame = up_sample(frame, image.shape[0], image.shape[1], degradation.up_filter)
    if degradation.late:
        frame = _store(frame, degradation, rng)
    frame = np.clip(frame, 0, 1)  # a copy, where nothing was done
    return (np.rint(frame * 255) if image.dtype == np.uint8 else frame).astype(image.dtype, copy=False)


def _to_frame(image: Image, degradation: Degradation) -> Image:
    """The picture as the camera put it on the frame's pixels: blurred, moved, shrunk, with its tone."""
    if degradation.blur_sigma_px is not None:
        image = gaussian_blur(image, degradation.blur_sigma_px)
    if degradation.motion_length_px is not None:
        image = motion_blur(image, degradation.motion_length_px, degradation.motion_angle_deg)
    if degradation.film is not None and degradation.film.weave_px is not None:
        image = weave(image, *degradation.film.weave_px)
    if degradation.down_scale is not None:
        image = down_sample(image, degradation.down_scale)
    if degradation.gamma is not None:
        image = adjust_gamma(image, degradation.gamma)
    if degradation.contrast is not None:
        image = adjust_contrast(image, degradation.contrast)
    return image


def _age(frame: Image, film: Film, scale: float, rng: np.random.Generator) -> Image:
    """What happens on the film and in its transfer, on the frame's pixels (each `scale` full-size ones)."""
    if film.grey:
        frame = greyscale(frame)
    if film.grain_levels is not None:
        frame = grain(frame, film.grain_levels, film.grain_size_px, rng)
    if film.scratches_per_100px is not None:
        frame = scratches(frame, film.scratches_per_100px, rng)
    if film.dust_per_1000px is not None:
        frame = dust(frame, film.dust_per_1000px, rng)
    if film.flicker_gain is not None:
        frame = flicker(frame, film.flicker_gain, film.flicker_tilt)
    if film.field_shift_px is not None:
        frame = interlace(frame, film.field_shift_px / scale)
    return frame


def _store(frame: Image, degradation: Degradation, rng: np.random.Generator) -> Image:
    """What the sensor or scanner and the file format add: noise, JPEG, the film's codec."""
    if degradation.noise_levels is not None:
        grey = degradation.noise_grey or degradation.grey
        frame = gaussian_noise(frame, degradation.noise_levels, rng, grey=grey)
    # Where the face lies against the blocks is chance: a network must not learn where their edges are.
    (x, y), (codec_x, codec_y) = rng.integers(0, 16, (2, 2)).tolist()
    if degradation.jpeg_quality is not None:
        frame = jpeg(frame, degradation.jpeg_quality, block_offset_px=(x, y))
    if degradation.film is not None and degradation.film.codec_quality is not None:
        frame = codec(frame, degradation.film.codec_quality, block_offset_px=(codec_x, codec_y))
    return frame
