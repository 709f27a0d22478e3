"""Pictures that change their size or format on the way, brought back to those of the first."""

from __future__ import annotations

from typing import Any

import av
from av.video.reformatter import ColorRange, Interpolation

from gpenvideo.errors import MediaError
from gpenvideo.frame import StreamInfo
from gpenvideo.video.pixels import planar_name, planes_of

__all__ = ["fit"]

CAREFUL = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def fit(picture: Any, info: StreamInfo, alpha: bool) -> Any:
    """An av.VideoFrame scaled (bicubic) to the size and planes of `info`, its shape kept by black bars.

    Its samples are said to mean what they mean in `info`.

    MediaError: swscale cannot.
    """
    scale = min(info.width / picture.width, info.height / picture.height)
    width = min(info.width, max(1, round(picture.width * scale)))
    height = min(info.height, max(1, round(picture.height * scale)))
    if abs(width - info.width) <= 2 and abs(height - info.height) <= 2:
        width, height = info.width, info.height
    name = planar_name(info.layout, alpha=alpha)
    span = ColorRange.JPEG if info.colour.full_range else ColorRange.MPEG
    try:
        inner = picture.reformat(width, height, name, dst_color_range=span, interpolation=CAREFUL, threads=1)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"a picture of {picture.width}x{picture.height} cannot be scaled") from error
    whole = (width, height) == (info.width, info.height)
    fitted = inner if whole else _between_bars(inner, info, name)
    fitted.colorspace, fitted.color_range = info.colour.matrix, 2 if info.colour.full_range else 1
    fitted.color_primaries, fitted.color_trc = info.colour.primaries, info.colour.transfer
    return fitted


def _between_bars(inner: Any, info: StreamInfo, name: str) -> Any:
    outer = av.VideoFrame(info.width, info.height, name)
    outer.color_range = inner.color_range
    depth, (across, down) = info.layout.depth_bits, info.layout.step
    black = 0 if info.colour.full_range or info.layout.model == "rgb" else 16 << (depth - 8)
    x = (info.width - inner.width) // 2 // across * across
    y = (info.height - inner.height) // 2 // down * down
    targets, alpha = planes_of(outer)
    sources, source_alpha = planes_of(inner)
    for index, (target, source) in enumerate(zip(targets, sources, strict=True)):
        chroma = index > 0 and info.layout.model == "yuv"
        target[...] = 1 << (depth - 1) if chroma else black
        left, top = (x // across, y // down) if chroma else (x, y)
        target[top : top + source.shape[0], left : left + source.shape[1]] = source
    if alpha is not None and source_alpha is not None:
        alpha[...] = 0
        alpha[y : y + inner.height, x : x + inner.width] = source_alpha
    return outer
