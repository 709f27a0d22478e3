"""Still pictures as frames, and frames as small pictures."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.frame import Colour, Frame, Layout, Samples
from gpenvideo.kernels.colour import luma_from_samples, rgb_from_samples
from gpenvideo.kernels.light import is_foreign, to_working

__all__ = ["as_frame", "small_luma", "thumbnail"]

OVERSAMPLING = 8  # samples along each side of a pixel of `small_luma`: enough for a mean


def as_frame(picture: NDArray[Any], *, edited: bool = False) -> Frame:
    """A still picture as a frame whose planes are views of it: what is written to them is written to it.

    Args:
        picture: (H, W, 3) RGB, uint8 or uint16, each over its full range.
        edited: whether its planes may be written.

    Raises:
        OptionError: another dtype or shape.
    """
    if (
        picture.ndim != 3
        or picture.shape[2] != 3
        or picture.dtype not in (np.uint8, np.uint16)
        or not picture.size
    ):
        raise OptionError(f"a picture is (H, W, 3) uint8 or uint16 RGB, got {picture.shape} {picture.dtype}")
    return Frame(
        planes=(picture[..., 1], picture[..., 2], picture[..., 0]),
        layout=Layout("rgb", 8 * picture.itemsize),
        colour=Colour(matrix=0, full_range=True, siting=(0, 0)),
        pts=0,
        time_base=Fraction(1),
        edited=edited,
    )


def thumbnail(frame: Frame, longest_px: int) -> NDArray[np.uint8]:
    """A frame as a small picture, each sample about the mean of what it covers; for detectors.

    Chroma is taken as centred on its luma samples, at most half a luma sample off (4:2:0). HDR is tone-mapped
    and wide gamuts become BT.709's, see `gpenvideo.kernels.light`.

    Args:
        frame: any layout.
        longest_px: the longer side of the picture; a frame that is smaller keeps its size.

    Returns:
        (h, w, 3) uint8 RGB over its full range, in the orientation in which the frame is coded.

    Raises:
        OptionError: a side below 1, colour that is not supported.
    """
    if longest_px < 1:
        raise OptionError(f"a thumbnail is 1 px wide or more, got {longest_px}")
    shrink = min(1.0, longest_px / max(frame.width, frame.height))
    size = (max(1, round(frame.width * shrink)), max(1, round(frame.height * shrink)))
    small = [_resized(plane, size) for plane in frame.planes]
    levels = small[0] if len(small) == 1 else cv2.merge(small)
    if is_foreign(frame.colour):
        rgb = cv2.transform(levels.astype(np.float32), rgb_from_samples(frame.layout, frame.colour))
        seen = to_working(np.asarray(rgb, dtype=np.float32), frame.colour)
        return np.asarray(np.rint((seen + 1) * 127.5).clip(0, 255), dtype=np.uint8)
    rgb_from_levels = rgb_from_samples(frame.layout, frame.colour) * 127.5
    rgb_from_levels[:, -1] += 127.5
    rgb = cv2.transform(levels, rgb_from_levels)  # rounded and saturated, by the levels' own type
    return np.minimum(rgb, 255).astype(np.uint8)


def small_luma(frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
    """A frame's luma, very small and made quickly: to compare frames by.

    Args:
        frame: any layout.
        size: (width, height).

    Returns:
        (height, width) float32: 0 is black and 1 white; each the mean of some of the samples it covers. HDR
        is tone-mapped.
    """
    matrix = luma_from_samples(frame.layout, frame.colour)
    sampled = (min(frame.width, OVERSAMPLING * size[0]), min(frame.height, OVERSAMPLING * size[1]))
    luma = np.full(size[::-1], matrix[0, -1], dtype=np.float32)
    for plane, gain in zip(frame.planes, matrix[0, :-1], strict=False):
        some = cv2.resize(plane, sampled, interpolation=cv2.INTER_NEAREST)
        luma += np.float32(gain) * _resized(some.astype(np.float32), size)
    if is_foreign(frame.colour):
        luma = to_working(np.repeat(luma[..., None] * 2 - 1, 3, axis=2), frame.colour)[..., 0] * 0.5 + 0.5
    return luma


def _resized(plane: Samples, size: tuple[int, int]) -> Samples:
    """A plane at another size: means of whole samples where they fit, then bilinear by less than two, which
    OpenCV makes several times faster than means of fractions."""
    height, width = plane.shape
    whole = min(width // size[0], height // size[1])
    if whole > 1 and width % whole == 0 and height % whole == 0:
        plane = cv2.resize(plane, (width // whole, height // whole), interpolation=cv2.INTER_AREA)
        whole = 1
    if plane.shape == size[::-1]:
        return plane
    return np.asarray(
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA if whole > 1 else cv2.INTER_LINEAR)
    )
