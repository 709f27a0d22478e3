"""The operations of `fused` in Triton, registered as torch operations `gpenvideo::...`.

Imported only where there is a CUDA device and Triton. Tensors are channels_last: one program handles BLOCK_P
pixels by BLOCK_C channels, so that neighbouring threads read neighbouring channels. All of it is bound by
memory; the arithmetic is float32. Offsets of pictures and rows are 64 bits wide, those inside a row 32.
"""

# Triton's functions are its own language: untyped, with constants in capitals.
# ruff: noqa: N803
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["finish", "low_pass", "low_pass_finish"]

THREADS = 128  # a program, as Triton has it unless told
FINISH_ELEMENTS = 8 * THREADS  # a tile: one 128-bit load of half precision a thread
LOW_PASS_ELEMENTS = 4 * THREADS  # half of that: with three rows of sums, more would not fit into registers
ROWS = 8  # of output by one program of a low-pass: it reads three more


@triton.jit
def _leaky(x):
    return tl.maximum(x, 0.2 * x)


@triton.jit
def _constants(skip_bias, bias, c, keep, channels, HAS_SKIP_BIAS: tl.constexpr, CONCAT: tl.constexpr):
    """What `_joined` adds, (1, channels) each: to the feature before it is activated, to the halves after."""
    own = tl.load(bias + c, keep, 0.0)[None, :]
    other, raw = own, own
    if CONCAT:
        other = tl.load(bias + channels + c, keep, 0.0)[None, :]
    if HAS_SKIP_BIAS:
        raw = tl.load(skip_bias + c, keep, 0.0)[None, :]
    return raw, own, other


@triton.jit
def _joined(y, s, gain, raw, own, other, HAS_SKIP_BIAS: tl.constexpr, CONCAT: tl.constexpr):
    """Scaled output and encoder feature (pixels, channels) -> the activated halves, or their sum, twice."""
    if HAS_SKIP_BIAS:
        s = _leaky(s + raw)
    s *= gain
    if CONCAT:
        return _leaky(y + own), _leaky(s + other)
    else:
        y = _leaky(y + own + s)
        return y, y


@triton.jit
def _enlarged(below, row, column, mask, height, width):
    """The picture (height, width) enlarged by two, at rows and columns of the large one."""
    i, j = row >> 1, column >> 1
    i2, j2 = i - 1 + 2 * (row & 1), j - 1 + 2 * (column & 1)
    rows, columns = (i2 >= 0) & (i2 < height), (j2 >= 0) & (j2 < width)
    near = tl.load(below + i * width + j, mask, 0.0) * 0.75
    near += tl.load(below + i * width + j2, mask & columns, 0.0) * 0.25
    far = tl.load(below + i2 * width + j, mask & rows, 0.0) * 0.75
    far += tl.load(below + i2 * width + j2, mask & rows & columns, 0.0) * 0.25
    return near * 0.75 + far * 0.25


@triton.jit
def _rgb_of(y, weights, stride, keep):
    """Sums over the channels of (pixels, channels), weighted for red, green and blue."""
    red = tl.sum(y * tl.load(weights, keep, 0.0)[None, :], 1)
    green = tl.sum(y * tl.load(weights + stride, keep, 0.0)[None, :], 1)
    blue = tl.sum(y * tl.load(weights + 2 * stride, keep, 0.0)[None, :], 1)
    return red, green, blue


@triton.jit
def _finish(
    x,
    scale,
    skip,
    skip_bias,
    bias,
    gain,
    following,
    rgb,
    rgb_bias,
    below,
    out,
    picture,
    pixels,
    width,
    channels,
    scale_stride,
    skip_stride,
    following_stride,
    HAS_SKIP_BIAS: tl.constexpr,
    CONCAT: tl.constexpr,
    STORE: tl.constexpr,
    BELOW: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK_P
    here = tl.arange(0, BLOCK_P)
    inside = first + here < pixels
    joined = 2 * channels if CONCAT else channels
    x += (n * pixels + first) * channels
    skip += n * skip_stride + first * channels
    out += (n * pixels + first) * joined
    red = tl.zeros([BLOCK_P], tl.float32)
    green, blue = red, red
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        keep = c < channels
        mask = inside[:, None] & keep[None, :]
        at = here[:, None] * channels + c[None, :]
        y = tl.load(x + at, mask, 0.0).to(tl.float32)
        y *= tl.load(scale + n * scale_stride + c, keep, 0.0)[None, :]
        s = tl.load(skip + at, mask, 0.0).to(tl.float32)
        raw, own, other = _constants(skip_bias, bias, c, keep, channels, HAS_SKIP_BIAS, CONCAT)
        y, s = _joined(y, s, tl.load(gain), raw, own, other, HAS_SKIP_BIAS, CONCAT)
        weights = rgb + n * 3 * joined + c
        r, g, b = _rgb_of(y, weights, joined, keep)
        red, green, blue = red + r, green + g, blue + b
        if CONCAT:
            r, g, b = _rgb_of(s, weights + channels, joined, keep)
            red, green, blue = red + r, green + g, blue + b
        if STORE:
            factors = following + n * following_stride + c
            at = here[:, None] * joined + c[None, :]
            tl.store(out + at, (y * tl.load(factors, keep, 0.0)[None, :]).to(out.dtype.element_ty), mask)
            if CONCAT:
                s *= tl.load(factors + channels, keep, 0.0)[None, :]
                tl.store(out + at + channels, s.to(out.dtype.element_ty), mask)
    red, green, blue = red + tl.load(rgb_bias), green + tl.load(rgb_bias + 1), blue + tl.load(rgb_bias + 2)
    if BELOW:
        pixel = (first + here).to(tl.int32)
        row, column = pixel // width, pixel % width
        low_height, low_width = pixels // width // 2, width // 2
        below += n * 3 * low_height * low_width
        red += _enlarged(below, row, column, inside, low_height, low_width)
        below += low_height * low_width
        green += _enlarged(below, row, column, inside, low_height, low_width)
        below += low_height * low_width
        blue += _enlarged(below, row, column, inside, low_height, low_width)
    picture += n * 3 * pixels + first + here
    tl.store(picture, red, inside)
    tl.store(picture + pixels, green, inside)
    tl.store(picture + 2 * pixels, blue, inside)


@triton.jit
def _low_pass(
    x,
    x_bias,
    scale,
    skip,
    skip_bias,
    bias,
    gain,
    following,
    out,
    height,
    width,
    channels,
    out_height,
    out_width,
    scale_stride,
    skip_stride,
    following_stride,
    norm,
    PAD: tl.constexpr,
    HAS_X_BIAS: tl.constexpr,
    FINISH: tl.constexpr,
    HAS_SKIP_BIAS: tl.constexpr,
    CONCAT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n = tl.program_id(2).to(tl.int64)
    across = tl.cdiv(channels, BLOCK_C)
    c = tl.program_id(0) % across * BLOCK_C + tl.arange(0, BLOCK_C)
    column = tl.program_id(0) // across * BLOCK_P + tl.arange(0, BLOCK_P)
    top = tl.program_id(1) * ROWS
    keep = c < channels
    joined = 2 * channels if CONCAT else channels
    at = column[:, None] * channels + c[None, :]
    # constants are read before the loop: inside, they would be read again after every store
    if HAS_X_BIAS:
        raw = tl.load(x_bias + c, keep, 0.0)[None, :]
    if FINISH:
        raw, own, other = _constants(skip_bias, bias, c, keep, channels, HAS_SKIP_BIAS, CONCAT)
        gains = tl.load(gain)
        scales = tl.load(scale + n * scale_stride + c, keep, 0.0)[None, :] * norm
        factors = tl.load(following + n * following_stride + c, keep, 0.0)[None, :]
        if CONCAT:
            more_factors = tl.load(following + n * following_stride + channels + c, keep, 0.0)[None, :]
    first = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)  # sums begun one, two and three rows ago
    second, third = first, first
    for step in tl.static_range(ROWS + 3):
        row = top - PAD + step
        end = tl.where((row >= 0) & (row < height), width, 0)
        line = x + (n * height + row) * width * channels
        filtered = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        for tap in tl.static_range(4):
            i = column - PAD + tap
            mask = ((i >= 0) & (i < end))[:, None] & keep[None, :]
            value = tl.load(line + at + (tap - PAD) * channels, mask, 0.0).to(tl.float32)
            if HAS_X_BIAS:  # zeros outside are of the activated picture
                value = tl.where(mask, _leaky(value + raw), 0.0)
            filtered += value * (3.0 if tap == 1 or tap == 2 else 1.0)
        if step >= 3:
            out_row = top + step - 3
            y = third + filtered
            mask = (column < tl.where(out_row < out_height, out_width, 0))[:, None] & keep[None, :]
            target = out + (n * out_height + out_row) * out_width * joined
            target += column[:, None] * joined + c[None, :]
            if FINISH:
                line = skip + n * skip_stride + out_row.to(tl.int64) * out_width * channels
                s = tl.load(line + at, mask, 0.0).to(tl.float32)
                y, s = _joined(y * scales, s, gains, raw, own, other, HAS_SKIP_BIAS, CONCAT)
                y *= factors
                if CONCAT:
                    tl.store(target + channels, (s * more_factors).to(out.dtype.element_ty), mask)
            else:
                y *= norm
            tl.store(target, y.to(out.dtype.element_ty), mask)
        third = second + 3.0 * filtered
        second = first + 3.0 * filtered
        first = filtered


@torch.library.custom_op("gpenvideo::finish", mutates_args=())
def finish(
    x: Tensor,
    scale: Tensor,
    skip: Tensor,
    skip_bias: Tensor | None,
    bias: Tensor,
    gain: Tensor,
    following: Tensor | None,
    rgb: Tensor,
    rgb_bias: Tensor,
    below: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See `fused.finish`."""
    n, channels, height, width = x.shape
    out, picture = _finish_fake(x, scale, skip, skip_bias, bias, gain, following, rgb, rgb_bias, below)
    block_p, block_c = _tile(channels, FINISH_ELEMENTS)
    _checked(x, skip)
    _finish[triton.cdiv(height * width, block_p), n](
        x,
        scale,
        skip,
        skip_bias,
        bias,
        gain,
        following,
        rgb.contiguous(),
        rgb_bias,
        below,
        out,
        picture,
        height * width,
        width,
        channels,
        scale.stride(0),
        skip.stride(0),
        0 if following is None else following.stride(0),
        HAS_SKIP_BIAS=skip_bias is not None,
        CONCAT=len(bias) == 2 * channels,
        STORE=following is not None,
        BELOW=below is not None,
        BLOCK_P=block_p,
        BLOCK_C=block_c,
        enable_fp_fusion=True,
    )
    return out, picture


@finish.register_fake
def _finish_fake(
    x: Tensor,
    scale: Tensor,
    skip: Tensor,
    skip_bias: Tensor | None,
    bias: Tensor,
    gain: Tensor,
    following: Tensor | None,
    rgb: Tensor,
    rgb_bias: Tensor,
    below: Tensor | None,
) -> tuple[Tensor, Tensor]:
    n, _, height, width = x.shape
    picture = x.new_empty((n, 3, height, width), dtype=torch.float32)
    if following is None:
        return x.new_empty(0), picture
    return _picture(x, len(bias), height, width), picture


@torch.library.custom_op("gpenvideo::low_pass_finish", mutates_args=())
def low_pass_finish(
    x: Tensor,
    scale: Tensor,
    skip: Tensor,
    skip_bias: Tensor | None,
    bias: Tensor,
    gain: Tensor,
    following: Tensor,
) -> Tensor:
    """See `fused.low_pass_finish`."""
    out = _picture(x, len(bias), x.shape[2] - 1, x.shape[3] - 1)
    _checked(x, skip)
    strides = (scale.stride(0), skip.stride(0), following.stride(0))
    pointers = (x, None, scale, skip, skip_bias, bias, gain, following)
    _launch_low_pass(pointers, out, strides, 1.0 / 16.0, 1)
    return out


@low_pass_finish.register_fake
def _low_pass_finish_fake(
    x: Tensor,
    scale: Tensor,
    skip: Tensor,
    skip_bias: Tensor | None,
    bias: Tensor,
    gain: Tensor,
    following: Tensor,
) -> Tensor:
    return _picture(x, len(bias), x.shape[2] - 1, x.shape[3] - 1)


@torch.library.custom_op("gpenvideo::low_pass", mutates_args=())
def low_pass(x: Tensor, bias: Tensor | None) -> Tensor:
    """See `fused.low_pass`."""
    out = _picture(x, x.shape[1], x.shape[2] + 1, x.shape[3] + 1)
    _checked(x, x)
    _launch_low_pass((x, bias, *[None] * 6), out, (0, 0, 0), 1.0 / 64.0, 2)
    return out


@low_pass.register_fake
def _low_pass_fake(x: Tensor, bias: Tensor | None) -> Tensor:
    return _picture(x, x.shape[1], x.shape[2] + 1, x.shape[3] + 1)


def _launch_low_pass(
    pointers: tuple[Tensor | None, ...], out: Tensor, strides: tuple[int, int, int], norm: float, pad: int
) -> None:
    x, x_bias, scale, _, skip_bias = pointers[:5]
    assert x is not None
    n, channels, height, width = x.shape
    out_height, out_width = out.shape[2:]
    block_p, block_c = _tile(channels, LOW_PASS_ELEMENTS)
    tiles = triton.cdiv(out_width, block_p) * triton.cdiv(channels, block_c)
    grid = (tiles, triton.cdiv(out_height, ROWS), n)
    _low_pass[grid](
        *pointers,
        out,
        height,
        width,
        channels,
        out_height,
        out_width,
        *strides,
        norm,
        PAD=pad,
        HAS_X_BIAS=x_bias is not None,
        FINISH=scale is not None,
        HAS_SKIP_BIAS=skip_bias is not None,
        CONCAT=out.shape[1] == 2 * channels,
        ROWS=ROWS,
        BLOCK_P=block_p,
        BLOCK_C=block_c,
        enable_fp_fusion=True,
    )


def _tile(channels: int, elements: int) -> tuple[int, int]:
    block_c = min(64, triton.next_power_of_2(channels))
    return elements // block_c, block_c


def _picture(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    size = (x.shape[0], channels, height, width)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _checked(x: Tensor, skip: Tensor) -> None:
    """The kernels walk memory as it lies: what lies otherwise would be read as another picture."""
    for tensor in (x, skip[:1]):  # a skip that is the same for all faces is expanded, with stride 0
        if not tensor.is_contiguous(memory_format=torch.channels_last):
            raise ValueError(f"the fused operations take channels_last, got strides {tensor.stride()}")
