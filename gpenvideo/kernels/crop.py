"""Out of a frame's planes into an aligned crop: one warp, anti-aliased where it minifies."""

from __future__ import annotations

import cv2
import numpy as np

from gpenvideo.affine import Matrix, compose, invert
from gpenvideo.frame import Frame
from gpenvideo.kernels.colour import rgb_from_samples
from gpenvideo.kernels.light import as_seen
from gpenvideo.kernels.warp import Pixels, channels, grids, patch, resample

__all__ = ["crop", "crop_as_seen"]


def crop(frame: Frame, crop_from_frame: Matrix, size_px: int) -> Pixels:
    """The aligned crop of a face.

    Each plane is sampled on its own grid: bilinear where the crop is as fine as it or finer, as the published
    code samples, and smoothed where it is coarser (see `gpenvideo.kernels.warp`). Beyond its edges the frame
    is mirrored. The cost is that of the face, not of the frame.

    Args:
        frame: any layout; unchanged.
        crop_from_frame: (2, 3), px to px; may shrink x and y differently.
        size_px: side of the crop.

    Returns:
        (size_px, size_px, 3) float32 RGB in [-1, 1]: levels beyond black and white are clipped.

    Raises:
        OptionError: a matrix without an inverse, colour that is not supported.
    """
    frame_from_crop = invert(crop_from_frame)
    size = (size_px, size_px)
    parts: list[Pixels] = []
    for grid in grids(frame.layout, frame.colour):
        plane_from_crop = compose(invert(grid.frame_from_plane), frame_from_crop)
        source, source_from_crop = patch(frame.planes[grid.planes], plane_from_crop, size)
        pixels = resample(source, source_from_crop, size, cv2.BORDER_REPLICATE)
        parts += [pixels] if pixels.ndim == 2 else channels(pixels, range(len(frame.planes[grid.planes])))
    levels = parts[0] if len(parts) == 1 else cv2.merge(parts)
    rgb = cv2.transform(levels, rgb_from_samples(frame.layout, frame.colour))
    return np.asarray(np.clip(rgb, -1, 1), dtype=np.float32)


def crop_as_seen(frame: Frame, crop_from_frame: Matrix, size_px: int) -> Pixels:
    """The aligned crop of a face as networks and people know faces, whatever the transfer and the primaries.

    Arguments, result and errors are those of `crop`; HDR is tone-mapped, see `gpenvideo.kernels.light`.
    """
    return as_seen(crop(frame, crop_from_frame, size_px), frame.colour).pixels
