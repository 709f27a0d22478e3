"""Sharpness: a restored face that is as soft as its picture, or nearly.

How soft a picture is, its edges tell: an edge as wide as a Gaussian of sigma s, seen through Gaussians of
sigma a and b, has slopes in the ratio sqrt((s^2 + b^2) / (s^2 + a^2)), of which s follows (Zhuo and Sim,
"Defocus map estimation from a single image", 2011). The steepest twentieth of a part of the picture counts,
and the noise's share of the slopes is taken off before. A restored face whose edges are narrower than those
of its picture, divided by `SHARPER`, is blurred by what is missing; one with more than `STRONGER` times the
contrast of detail that the picture had there is drawn to it, by `LEAST_CONTRAST` at most. It is never
sharpened.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from gpenvideo.matching.noise import Noise, Pixels, gaussian

__all__ = ["SHARPER", "edge_width_px", "softening"]

SHARPER, STRONGER = 1.5, 1.25
FINE_PX, COARSE_PX = 1.5, 3.0  # a and b
STEEPEST = 0.05
MOST_PX = 4.0  # of blur
LEAST_CONTRAST = 0.6
BROAD = 0.06  # of the face's height: what is broader is no detail
CORE = 0.5


def edge_width_px(levels: Pixels, inside: Pixels, around: Noise) -> float:
    """The sigma of a picture's edges, px; 0 is as sharp as can be, infinite without edges.

    Args:
        levels: (H, W) float32.
        inside: (H, W): where it is not 0 the edges count.
        around: the noise of the picture.
    """
    fine, coarse = (_slopes(levels, width)[inside > 0] for width in (FINE_PX, COARSE_PX))
    steepest = int((1 - STEEPEST) * (coarse.size - 1))
    steep = coarse >= np.partition(coarse, steepest)[steepest]
    above = float(fine[steep].mean()) - _noise_slopes(around, FINE_PX)
    below = float(coarse[steep].mean()) - _noise_slopes(around, COARSE_PX)
    if not above > below > 0:
        return math.inf
    ratio = above / below
    return math.sqrt(max(0.0, (COARSE_PX**2 - ratio * FINE_PX**2) / (ratio - 1)))


def softening(source: Pixels, result: Pixels, weights: Pixels, around: Noise) -> Pixels:
    """What is to be added to a picture with a restored face, so that the face is as soft as the picture.

    Args:
        source: (H, W) float32 levels of the picture before, of the face and what is around it.
        result: the same with the face.
        weights: (H, W) float32 in [0, 1]: how much of it is the restored face.
        around: the noise of the source.

    Returns:
        (H, W) float32, levels; exactly 0 where the weight is.
    """
    core = np.asarray(weights > CORE * weights.max(), dtype=np.float32)
    none = around._replace(sigmas=np.zeros_like(around.sigmas))
    wanted_px = edge_width_px(source, np.ones_like(weights), around) / SHARPER
    has_px = edge_width_px(result, core, none)
    face = np.where(weights > 0, result - (1 - weights) * source, np.float32(0))  # its share of the result
    blur_px = 0.0
    if has_px < wanted_px < math.inf:
        blur_px = min(MOST_PX, math.sqrt(wanted_px**2 - has_px**2))
    blurred = _blurred(face, weights, blur_px)
    broad_px = BROAD * len(weights)
    wanted = STRONGER * _detail(source, core, broad_px, around)
    contrast = wanted / max(_detail(blurred, core, broad_px, none), 1e-3)
    broad = _blurred(face, weights, broad_px)
    softer = broad + np.float32(min(1.0, max(LEAST_CONTRAST, contrast))) * (blurred - broad)
    return np.asarray(np.where(weights > 0, weights * softer - face, np.float32(0)))


def _blurred(face: Pixels, weights: Pixels, width_px: float) -> Pixels:
    """A face out of its share of a picture, through a Gaussian that sees nothing but the face."""
    if width_px < 0.2:
        return np.asarray(face / np.maximum(weights, np.float32(1e-3)))
    share = _gauss(weights, width_px)
    return np.asarray(_gauss(face, width_px) / np.maximum(share, np.float32(1e-3)))


def _detail(levels: Pixels, core: Pixels, broad_px: float, around: Noise) -> float:
    """The standard deviation of what is finer than `broad_px` and no noise."""
    band = _gauss(levels, FINE_PX) - _gauss(levels, broad_px)
    noise = _density(around) / (4 * math.pi * (FINE_PX**2 + math.prod(around.width_px)))
    return math.sqrt(max(0.0, float((band * band)[core > 0].mean()) - noise))


def _slopes(levels: Pixels, width_px: float) -> Pixels:
    """Squared, per px."""
    smooth = _gauss(levels, width_px)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=1, scale=0.5) for order in ((1, 0), (0, 1)))
    return np.asarray(cv2.add(cv2.multiply(x, x), cv2.multiply(y, y)))


def _noise_slopes(around: Noise, width_px: float) -> float:
    """The mean of a noise's squared slopes, seen through a Gaussian: its density over 4 pi sigma^4."""
    return _density(around) / (4 * math.pi * (width_px**2 + math.prod(around.width_px)) ** 2)


def _density(around: Noise) -> float:
    """The power of the white noise that a noise was before its Gaussian."""
    shares = [float((gaussian(width) ** 2).sum()) for width in around.width_px]
    return float(np.median(around.sigmas)) ** 2 / (shares[0] * shares[1])


def _gauss(levels: Pixels, width_px: float) -> Pixels:
    """Through a Gaussian; a wide one on a smaller picture."""
    by = int(width_px / FINE_PX)
    if by > 2:
        size = [max(1, -(-side // by)) for side in levels.shape[::-1]]
        small = np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        return np.asarray(cv2.resize(_gauss(small, width_px / by), levels.shape[::-1]), dtype=np.float32)
    return np.asarray(cv2.GaussianBlur(levels, (0, 0), width_px, borderType=cv2.BORDER_REPLICATE))
