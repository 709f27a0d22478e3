"""Samples to RGB and back: one affine map each way, by ITU-T H.273."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.frame import Colour, Layout

__all__ = ["luma_from_samples", "rgb_from_samples", "samples_from_rgb"]

Matrix = NDArray[np.float64]

LUMA_RED_BLUE = {  # K_R and K_B of H.273, table 4, by MatrixCoefficients
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC, 1953
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),  # BT.2020 with constant luminance: exact for greys, near for skin
}
YCGCO = np.array([(0.25, 0.5, 0.25), (-0.25, 0.5, -0.25), (0.5, 0, -0.5)])


@lru_cache(maxsize=32)
def samples_from_rgb(layout: Layout, colour: Colour) -> Matrix:
    """The affine map of RGB in [-1, 1] to the levels of a layout's planes (H.273, 8.3).

    BT.2020 with constant luminance (10), which no matrix describes, is taken as without (9); its way there
    and back is exact all the same. Of RGB, and of grey with no matrix of its own, the luma is BT.709's.

    Returns:
        (planes, 4) float64, acts on (R, G, B, 1); neither rounded nor clipped. Read-only.

    Raises:
        OptionError: a matrix it does not know, among them 14, ICtCp: its crops would have other colours.
    """
    matrix = colour.matrix
    if layout.model == "rgb" or (layout.model == "grey" and matrix not in LUMA_RED_BLUE):
        matrix = 1
    if matrix == 8:
        linear = YCGCO
    elif matrix in LUMA_RED_BLUE:
        linear = _luma_and_differences(*LUMA_RED_BLUE[matrix])
    else:
        known = ", ".join(map(str, sorted([*LUMA_RED_BLUE, 8])))
        raise OptionError(f"the matrix coefficients {matrix} are not supported: name one of {known}")
    if layout.model == "rgb":
        linear = np.array([(0, 1, 0), (0, 0, 1), (1, 0, 0)])
    bits = layout.depth_bits
    top, unit = 2**bits - 1, 2.0 ** (bits - 8)
    black, luma, chroma = (0.0, top, top) if colour.full_range else (16 * unit, 219 * unit, 224 * unit)
    gains = np.array([luma] * 3 if layout.model == "rgb" else [luma, chroma, chroma])
    zeros = np.array([black] * 3 if layout.model == "rgb" else [black, 128 * unit, 128 * unit])
    halves = linear * gains[:, None] / 2  # of RGB in [0, 1], which is (RGB in [-1, 1] + 1) / 2
    affine = np.column_stack([halves, zeros + halves.sum(axis=1)])[: layout.planes]
    affine.flags.writeable = False
    return affine


@lru_cache(maxsize=32)
def rgb_from_samples(layout: Layout, colour: Colour) -> Matrix:
    """The affine map of the levels of a layout's planes to RGB in [-1, 1]: of grey, three times the same.

    Returns:
        (3, planes + 1) float64, acts on (level, ..., 1); not clipped. Read-only.

    Raises:
        OptionError: a matrix that `samples_from_rgb` does not know.
    """
    forward = samples_from_rgb(layout, colour)
    if layout.model == "grey":
        gain = forward[0, :3].sum()
        affine = np.repeat([(1 / gain, -forward[0, 3] / gain)], 3, axis=0)
    else:
        linear = np.linalg.inv(forward[:, :3])
        affine = np.column_stack([linear, -linear @ forward[:, 3]])
    affine.flags.writeable = False
    return affine


def luma_from_samples(layout: Layout, colour: Colour) -> Matrix:
    """The affine map of levels to luma, 0 for black and 1 for white.

    Returns:
        (1, k + 1) float64: k is 3 for RGB, else 1, of the first plane alone.
    """
    if layout.model == "rgb":
        red, blue = LUMA_RED_BLUE[1]
        to_unit = np.array((red, 1 - red - blue, blue)) / 2
        from_samples = rgb_from_samples(layout, colour)
        return np.array([(*(to_unit @ from_samples[:, :3]), to_unit @ from_samples[:, 3] + 0.5)])
    row = samples_from_rgb(layout, colour)[0]
    black, gain = row[3] - row[:3].sum(), 2 * row[:3].sum()
    return np.array([(1 / gain, -black / gain)])


def _luma_and_differences(red: float, blue: float) -> Matrix:
    """(3, 3): R, G, B in [0, 1] to Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    luma = np.array((red, 1 - red - blue, blue))
    cb = (np.array((0, 0, 1)) - luma) / (2 * (1 - blue))
    cr = (np.array((1, 0, 0)) - luma) / (2 * (1 - red))
    return np.stack([luma, cb, cr])
