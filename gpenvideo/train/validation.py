"""How good the network is so far: distances to the truth on held-out faces, and sheets to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from gpenvideo.errors import file_error
from gpenvideo.gpen.generator import GPEN
from gpenvideo.train.data import FaceFolder
from gpenvideo.train.options import TrainOptions

__all__ = ["gradient_energy", "held_out", "psnr_db", "sheet", "ssim", "validate"]

AT_ONCE = 4  # pictures through the network


def psnr_db(pictures: Tensor, truth: Tensor) -> Tensor:
    """Peak signal to noise ratio (N,) in dB of (N, 3, H, W) in [-1, 1], clamped to it."""
    error = (pictures.clamp(-1, 1) - truth).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (N,) of (N, 3, H, W) in [-1, 1] (Wang et al. 2004; sigma 1.5, window 11)."""
    place = torch.arange(11, dtype=truth.dtype, device=truth.device) - 5
    taps = torch.exp(-place.square() / (2 * 1.5**2))
    taps = taps / taps.sum()
    channels = truth.shape[1]

    def mean(x: Tensor) -> Tensor:
        x = F.conv2d(x, taps.view(1, 1, 1, 11).expand(channels, 1, 1, 11), groups=channels)
        return F.conv2d(x, taps.view(1, 1, 11, 1).expand(channels, 1, 11, 1), groups=channels)

    a, b = (pictures.clamp(-1, 1) + 1) / 2, (truth + 1) / 2  # it is not invariant to shifts
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (likeness * structure).flatten(1).mean(dim=1)


def gradient_energy(pictures: Tensor) -> Tensor:
    """Mean square (N,) of the differences of neighbouring pixels: how sharp (or noisy) a picture is."""
    across = (pictures[..., :, 1:] - pictures[..., :, :-1]).square().flatten(1).mean(dim=1)
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).square().flatten(1).mean(dim=1)
    return across + down


def held_out(options: TrainOptions) -> FaceFolder | None:
    """The validation faces, always degraded the same way: the base preset without its colour shift, seed 0.

    None when the options name no held-out faces. Raises as `FaceFolder`.
    """
    if options.validation_data is None and not options.validation_sources:
        return None
    return FaceFolder(
        options.validation_data or options.data,
        options.size_px,
        template=options.template,
        colour=False,
        flip=False,
        jitter=None,
        only_sources=options.validation_sources,
        cache=options.cache,
    )


def pairs(faces: FaceFolder, count: int) -> list[tuple[Tensor, Tensor]]:
    """`count` pairs spread over the folder, the same ones at each call."""
    indices = np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(int)
    return [faces[int(index)] for index in indices]


@torch.inference_mode()
def validate(model: GPEN, faces: FaceFolder, options: TrainOptions) -> dict[str, float]:
    """Means over the held-out faces of PSNR, SSIM and sharpness, and of the input's.

    Sharpness is the gradient energy against the truth's.
    `model` is one made `for_inference`, on options.device.
    """
    found: dict[str, list[Tensor]] = {}
    everything = pairs(faces, options.validation_pictures)
    for start in range(0, len(everything), AT_ONCE):
        some = everything[start : start + AT_ONCE]
        degraded, truth = (torch.stack(side).to(options.device) for side in zip(*some, strict=True))
        restored = model(degraded).clamp(-1, 1)
        for name, pictures in (("", restored), ("input_", degraded)):
            found.setdefault(f"{name}psnr_db", []).append(psnr_db(pictures, truth))
            found.setdefault(f"{name}ssim", []).append(ssim(pictures, truth))
            ratio = gradient_energy(pictures) / gradient_energy(truth).clamp_min(1e-10)
            found.setdefault(f"{name}sharpness", []).append(ratio)
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}


@torch.inference_mode()
def sheet(model: GPEN, shown: list[tuple[Tensor, Tensor]], device: str, path: Path) -> None:
    """Write a PNG with a row a pair: degraded, restored, truth. Raises FileError."""
    rows = []
    for degraded, truth in shown:
        restored = model(degraded[None].to(device))[0].clamp(-1, 1).cpu()
        rows.append(torch.cat((degraded, restored, truth), dim=2))
    pixels = torch.cat(rows, dim=1).add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 0)
    try:
        Image.fromarray(pixels.numpy()).save(path)
    except OSError as error:
        raise file_error(error, path, "write") from error
