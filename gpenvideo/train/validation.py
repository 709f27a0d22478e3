"""How good the network is so far: distances to the truth on held-out faces, and sheets to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gpenvideo.errors import file_error
from gpenvideo.evaluate.image import psnr_db, sharpness, ssim
from gpenvideo.gpen.generator import GPEN
from gpenvideo.train.data import FaceFolder
from gpenvideo.train.options import TrainOptions

__all__ = ["held_out", "pairs", "sheet", "validate"]

AT_ONCE = 4  # pictures through the network


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
            for measure in (psnr_db, ssim, sharpness):
                found.setdefault(f"{name}{measure.__name__}", []).append(measure(pictures, truth))
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
