"""Clips of a real face for tests, and restorers that are easy to judge."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from clips import write_clip
from numpy.typing import NDArray

from gpenvideo.faces.alignment import template


class Same:
    """A restorer that changes nothing, or paints every face."""

    max_batch = 8

    def __init__(self, size_px: int = 128, paint: float | None = None, name: str = "ffhq") -> None:
        self.size_px, self.paint = size_px, paint
        self.template = template(name, size_px)  # type: ignore[arg-type]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[1:] == (3, self.size_px, self.size_px)
        return pixels if self.paint is None else torch.full_like(pixels, self.paint)


@cache
def portrait(side_px: int) -> NDArray[np.uint8]:
    """scikit-image's astronaut (public domain, NASA): her face is 0.1 of the side wide, at (0.44, 0.22)."""
    from skimage.data import astronaut

    how = cv2.INTER_AREA if side_px < 512 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.asarray(astronaut()), (side_px, side_px), interpolation=how))


@cache
def scenery(width: int, height: int) -> NDArray[np.uint8]:
    """A picture without a face: dunes under a sky."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    sand = y > 0.55 + 0.1 * np.sin(7 * x) + 0.04 * np.sin(23 * x + 2)
    sky = np.stack([90 + 60 * y, 130 + 60 * y, 200 - 30 * y], axis=2)
    dunes = (
        np.stack([190 - 60 * y, 150 - 50 * y, 90 - 40 * y], axis=2) + 12 * np.sin(60 * x + 25 * y)[..., None]
    )
    return np.where(sand[..., None], dunes, sky).astype(np.uint8)


def shot(
    pix_fmt: str,
    size: tuple[int, int],
    *,
    faceless_from: int | None = None,
    matrix: int = 6,
    full_range: bool = False,
    turn: Callable[[NDArray[Any]], NDArray[Any]] = lambda picture: picture,
) -> Callable[[int], av.VideoFrame]:
    """Frame number to picture: the portrait, drifting; from a frame on, scenery. `turn` acts on the RGB."""

    def picture(number: int) -> av.VideoFrame:
        width, height = size
        if faceless_from is not None and number >= faceless_from:
            rgb = scenery(width, height)
        else:
            side = round(1.35 * max(size))
            x, y = round(0.12 * side) + number, round(0.02 * side) + number // 2
            rgb = portrait(side)[y : y + height, x : x + width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(turn(rgb)), format="rgb24")
        frame.color_range = 2
        if pix_fmt.startswith(("gbr", "rgb")):
            return frame.reformat(format=pix_fmt, threads=1)
        return frame.reformat(
            format=pix_fmt, threads=1, dst_colorspace=matrix, dst_color_range=2 if full_range else 1
        )

    return picture


def portrait_clip(
    path: Path,
    *,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (320, 240),
    frames: int = 10,
    codec: str = "ffv1",
    faceless_from: int | None = None,
    matrix: int = 6,
    full_range: bool = False,
    **more: Any,
) -> Path:
    """A clip of the drifting portrait, by default lossless; see `clips.write_clip`."""
    make = shot(pix_fmt, size, faceless_from=faceless_from, matrix=matrix, full_range=full_range)
    tags = {} if pix_fmt.startswith(("gbr", "rgb")) else {"matrix": matrix, "full_range": full_range}
    return write_clip(
        path, codec=codec, pix_fmt=pix_fmt, size=size, frames=frames, picture=make, **tags, **more
    )


def decoded_planes(path: Path, stream: int = 0) -> dict[int, list[NDArray[Any]]]:
    """Every picture of a video stream by its pts: its planes as the decoder gives them, padding left out."""
    found = {}
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[stream]):
            planes = []
            for plane in frame.planes:
                wide = plane.line_size // plane.width >= 2 and frame.format.components[0].bits > 8
                dtype = np.uint16 if wide else np.uint8
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).view(dtype)
                samples = plane.width * (2 if frame.format.name == "nv12" and len(planes) else 1)
                planes.append(rows[:, :samples].copy())
            found[frame.pts] = planes
    return found
