"""How near a restored face is to the true one, measured on the pixels.

Pictures are (N, 3, H, W) floating-point RGB in [-1, 1] on one device, H and W 11 or more, clamped to that
range before they are measured; each measure is (N,), one number a picture.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["gradient_correlation", "gradient_energy", "landmark_error", "psnr_db", "sharpness", "ssim"]


ROUNDING = (2 / 255) ** 2 / 12  # mean square error of 8 bits in a range of 2


def psnr_db(pictures: Tensor, truth: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB, 58.9 at most: below the rounding of 8 bits nothing is measured.

    Without that limit one picture that nothing was done to would outweigh hundreds in a mean.
    """
    error = (pictures.clamp(-1, 1) - truth).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error.clamp_min(ROUNDING))


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, the channels' mean (Wang et al. 2004; sigma 1.5, window 11, no border)."""
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
    """Mean square of the differences of neighbouring pixels: how sharp (or noisy) a picture is."""
    across, down = _differences(pictures)
    return across.square().flatten(1).mean(dim=1) + down.square().flatten(1).mean(dim=1)


def sharpness(pictures: Tensor, truth: Tensor) -> Tensor:
    """Gradient energy against the truth's: below 1 smoother, above 1 sharper or noisier."""
    return gradient_energy(pictures.clamp(-1, 1)) / gradient_energy(truth).clamp_min(1e-10)


def gradient_correlation(pictures: Tensor, truth: Tensor) -> Tensor:
    """Correlation of the differences of neighbouring pixels with the truth's, in [-1, 1].

    It tells detail from noise: both make a picture sharp, and only detail is where the truth has it.
    """

    def centred(x: Tensor) -> Tensor:
        differences = torch.cat([each.flatten(1) for each in _differences(x)], dim=1)
        return differences - differences.mean(dim=1, keepdim=True)

    a, b = centred(pictures.clamp(-1, 1)), centred(truth)
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    correlation: Tensor = (a * b).sum(dim=1) / norms.clamp_min(1e-9)
    return correlation


def landmark_error(landmarks: NDArray[np.floating], true_landmarks: NDArray[np.floating]) -> float:
    """Mean distance of five landmarks (5, 2) from the true ones, in eye distances of the truth."""
    distance_px = np.linalg.norm(np.asarray(landmarks, float) - true_landmarks, axis=1).mean()
    return float(distance_px / np.linalg.norm(true_landmarks[1] - true_landmarks[0]))


def _differences(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures[..., :, 1:] - pictures[..., :, :-1], pictures[..., 1:, :] - pictures[..., :-1, :]
