"""Live pictures made upright, smaller or mirrored, with their planes, and as pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.frame import Frame, Layout, StreamInfo
from gpenvideo.kernels.picture import thumbnail
from gpenvideo.video.pixels import planar_name

__all__ = ["described", "mirrored", "pixels", "resized", "shrunk", "upright"]

Plane = NDArray[Any]


def described(frame: Frame) -> StreamInfo:
    """What is known of a stream by one frame of it: upright, of square pixels."""
    return StreamInfo(
        frame.width,
        frame.height,
        planar_name(frame.layout, alpha=frame.alpha is not None),
        frame.layout,
        frame.colour,
        frame.time_base,
    )


def upright(frame: Frame, info: StreamInfo) -> Frame:
    """The frame as it is to be seen, in square pixels; itself where it is so already."""
    if info.sample_aspect != 1:
        size = replace(info, rotation_deg=0).upright_size
        frame = resized(frame, (_even(size[0]), _even(size[1])))
    if info.mirrored:
        frame = mirrored(frame)
    turns = -info.rotation_deg // 90
    if turns == 0:
        return frame
    across, down = frame.layout.step if turns % 2 == 0 else frame.layout.step[::-1]
    layout = Layout(frame.layout.model, frame.layout.depth_bits, (across, down))
    return _made(frame, lambda plane, _: np.ascontiguousarray(np.rot90(plane, turns)), layout)


def resized(frame: Frame, size: tuple[int, int]) -> Frame:
    """The frame at another width and height, in planes of its own."""
    across, down = frame.layout.step
    chroma = (-(-size[0] // across), -(-size[1] // down))
    smaller = size[0] <= frame.width and size[1] <= frame.height
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR

    def made(plane: Plane, is_chroma: bool) -> Plane:
        wanted = chroma if is_chroma else size
        return np.asarray(cv2.resize(np.ascontiguousarray(plane), wanted, interpolation=how))

    return _made(frame, made, frame.layout)


def shrunk(frame: Frame, longest_px: int) -> Frame:
    """The frame with no side above `longest_px`, both even, in planes of its own; else the frame itself."""
    scale = longest_px / max(frame.width, frame.height)
    if scale >= 1:
        return frame
    return resized(frame, (_even(frame.width * scale), _even(frame.height * scale)))


def mirrored(frame: Frame) -> Frame:
    """The frame with left and right exchanged, in planes of its own."""
    return _made(frame, lambda plane, _: np.ascontiguousarray(plane[:, ::-1]), frame.layout)


def pixels(frame: Frame) -> NDArray[np.uint8]:
    """A frame at its full size: (H, W, 3) uint8 RGB."""
    return thumbnail(frame, max(frame.width, frame.height))


def _made(frame: Frame, make: Callable[[Plane, bool], Plane], layout: Layout) -> Frame:
    """A frame of planes that are made of those of another, each told whether it is chroma."""
    planes = tuple(make(plane, index > 0) for index, plane in enumerate(frame.planes))
    alpha = None if frame.alpha is None else make(frame.alpha, False)
    return replace(frame, planes=planes, alpha=alpha, layout=layout, decoded=None, edited=True)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)
