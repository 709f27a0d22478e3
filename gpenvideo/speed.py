"""Speed: how fast networks are on this machine, and how much of what it could do that is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gpenvideo.faces.detector import Detector
from gpenvideo.gpen.generator import for_inference
from gpenvideo.restorer import GPENRestorer, buckets

__all__ = ["NetworkSpeed", "ceiling", "detector_ms", "network_speeds"]

CHANNELS, SIDE = 256, 128  # of the convolution that is taken for the most a machine can do
ROUNDS = 5
AT_LEAST_S = 0.1


@dataclass(frozen=True, slots=True)
class NetworkSpeed:
    """A restorer's network, given some faces at once."""

    faces: int
    """A call."""

    ms: float
    """A face: median."""

    share: float
    """Of the ceiling: the rate of its multiplications over that of one large convolution, in one run."""

    psnr_db: float
    """Against the same network in float32, over the range of 2; infinite where it is the same."""


def network_speeds(
    restorer: GPENRestorer, progress: Callable[[int, int], None] | None = None
) -> list[NetworkSpeed]:
    """Time a network for one face, and on CUDA for as many as it takes at once.

    Args:
        restorer: warm or not: the first calls do not count.
        progress: is told after each size.
    """
    sizes = [1] if restorer.device.type == "cpu" else sorted({1, *buckets(restorer.max_batch)[-1:]})
    exact = GPENRestorer(restorer.model, device=str(restorer.device), dtype="fp32", max_batch=1)
    face = _face(restorer.size_px).to(restorer.device)
    noise = (restorer(face) - exact(face)).square().mean().sqrt().item()
    psnr_db = float(20 * np.log10(2 / noise)) if noise else float("inf")
    operations = _operations(restorer, face)
    reference, reference_operations = ceiling(restorer.device, restorer.dtype)
    found = []
    for done, size in enumerate(sizes, start=1):
        faces = face.expand(size, -1, -1, -1).contiguous()
        network_s, reference_s = _seconds([lambda x=faces: restorer(x), reference], restorer.device)  # type: ignore[misc]
        rate, most = size * operations / network_s, reference_operations / reference_s
        found.append(NetworkSpeed(size, network_s / size * 1e3, rate / most, psnr_db))
        if progress:
            progress(done, len(sizes))
    return found


def detector_ms(detector: Detector, size: tuple[int, int] = (640, 360)) -> float:
    """Milliseconds a picture of some width and height, four at once, as films are searched."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8) for _ in range(4)]
    (seconds,) = _seconds([lambda: detector(pictures)], torch.device("cpu"))
    return seconds / len(pictures) * 1e3


def ceiling(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """The most a device can do: one large channels_last convolution, and its operations."""
    x = torch.randn(1, CHANNELS, SIDE, SIDE, device=device).to(dtype)
    weight = (torch.randn(CHANNELS, CHANNELS, 3, 3, device=device) * 0.02).to(dtype)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    return lambda: F.conv2d(x, weight, padding=1), 2 * 9 * CHANNELS**2 * SIDE**2


def _operations(restorer: GPENRestorer, face: Tensor) -> int:
    """Multiplications and additions of a face."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        for_inference(restorer.model).to(face.device)(face)
    return int(counter.get_total_flops())


def _face(size_px: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 16, 16, generator=random) * 2 - 1
    return F.interpolate(coarse, size=(size_px, size_px), mode="bicubic").clamp(-1, 1)


def _seconds(cases: list[Callable[[], object]], device: torch.device) -> list[float]:
    """Median seconds a call of each; they take turns, so that a machine that is shared slows them alike."""

    def timed(run: Callable[[], object], calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / calls

    with torch.inference_mode():
        calls = [(timed(run, 1), max(1, round(AT_LEAST_S / timed(run, 1))))[1] for run in cases]
        rounds = [[timed(run, n) for run, n in zip(cases, calls, strict=True)] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]
