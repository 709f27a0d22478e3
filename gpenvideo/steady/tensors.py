"""What `gpenvideo.steady.settled` does with arrays, of tensors on a device."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gpenvideo.steady.change import Change, Pixels
from gpenvideo.steady.settled import SETTLED_PX

__all__ = ["carried", "settled"]


def settled(
    mean: Tensor | None, made: Tensor, change: Change | None, weight: Pixels
) -> tuple[Tensor, Tensor]:
    """See there: (3, W, W) and (3, S, S) float32 on a device, where the results are, too."""
    small = _shrunk(made[None])
    if mean is None or change is None:
        return small[0].clone(), made
    share = torch.from_numpy(weight).to(made.device, non_blocking=True)[None, None]
    moved = carried(mean, change)[None]
    mean = torch.lerp(moved, small, _enlarged(share, small.shape[-1]))[0]
    if small.shape == made[None].shape:
        return mean, mean
    return mean, made + _enlarged(mean[None] - small, made.shape[-1])[0]


def carried(pixels: Tensor, change: Change) -> Tensor:
    """See `gpenvideo.steady.change`: (3, W, W) float32."""
    size, device = pixels.shape[-1], pixels.device
    theta = change.matrix(size)
    middle = (size - 1) / 2  # grid_sample counts from the middle, in halves of a side
    theta[:, 2] = (theta[:, 2] + middle * (theta[:, :2].sum(axis=1) - 1)) / middle
    grid = F.affine_grid(
        torch.from_numpy(theta).to(device, torch.float32)[None], [1, 3, size, size], align_corners=True
    )
    moved = F.grid_sample(pixels[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
    blur = _enlarged(torch.from_numpy(change.blur(size)).to(device)[None, None], size)
    wider = F.pad(moved, (1, 1, 1, 1), mode="replicate")
    around = wider[..., 1:-1, :-2] + wider[..., 1:-1, 2:] + wider[..., :-2, 1:-1] + wider[..., 2:, 1:-1]
    moved = moved + blur * (2 * moved - 0.5 * around)
    wide = change.wide(size)
    if wide is not None:
        kernel, reach = torch.from_numpy(wide).to(device), len(wide) // 2
        moved = F.pad(moved, (reach,) * 4, mode="replicate").transpose(0, 1)
        moved = F.conv2d(F.conv2d(moved, kernel[None, None, None]), kernel[None, None, :, None])
        moved = moved.transpose(0, 1)
    moved = moved[0]
    if change.is_lit:
        gains = torch.from_numpy(change.gains(size)).to(device)[:, None]
        moved = torch.addcmul(gains - 1 + change.offset, moved, gains)
    return moved


def _shrunk(pixels: Tensor) -> Tensor:
    while pixels.shape[-1] > SETTLED_PX:
        pixels = F.avg_pool2d(pixels, 2)
    return pixels


def _enlarged(pixels: Tensor, size_px: int) -> Tensor:
    if pixels.shape[-1] == size_px:
        return pixels
    return F.interpolate(pixels, size=size_px, mode="bilinear", align_corners=False)
