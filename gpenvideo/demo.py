"""The demonstration: a real face, made as bad as old film, restored with the default weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.degradation import Degradation, degrade
from gpenvideo.errors import DependencyError, file_error
from gpenvideo.face import Face
from gpenvideo.faces.detector import Detector
from gpenvideo.picture import Picture, write_picture
from gpenvideo.restorer import Restorer
from gpenvideo.still import restore_image

__all__ = ["Demo", "run_demo"]

BAD = Degradation(
    blur_sigma_px=0.8, down_scale=2.5, up_filter="bicubic", noise_levels=9.0, jpeg_quality=45
)  # a face of some 40 px, soft, noisy and compressed


@dataclass(frozen=True)
class Demo:
    """What the demonstration wrote, and how far the restored face is from the truth."""

    sheet: Path
    degraded_db: float
    """PSNR of the degraded picture's face, dB."""
    restored_db: float
    """The same after restoring."""


def run_demo(out: str | PathLike[str], restorer: Restorer, detector: Detector, *, seed: int = 0) -> Demo:
    """Degrade a public-domain portrait (scikit-image's astronaut, NASA), restore it, and write both.

    Writes degraded.png, restored.png, truth.png and before-after.png (the three faces side by side) to the
    folder `out`, which is made.

    Raises DependencyError without scikit-image, FaceError when the degraded face is not found, FileError.
    """
    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise DependencyError("the demo's portrait is in scikit-image: pip install scikit-image") from error
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, folder, "write") from error
    truth: NDArray[np.uint8] = np.asarray(astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]
    random = np.random.default_rng(seed)
    degraded = degrade(truth, BAD, random)
    restored = restore_image(degraded, restorer, detector=detector)
    face = detector([truth])[0][0]
    pictures = {"degraded": degraded, "restored": restored, "truth": truth}
    for name, pixels in pictures.items():
        write_picture(Picture(pixels), folder / f"{name}.png")
    head, inner = _window(face, truth.shape[0], 0.9), _window(face, truth.shape[0], 0.5)
    shown = np.concatenate([p[head] for p in pictures.values()], axis=1)
    sheet = folder / "before-after.png"
    enlarged = cv2.resize(shown, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    write_picture(Picture(np.asarray(enlarged)), sheet)
    return Demo(sheet, _psnr_db(degraded[inner], truth[inner]), _psnr_db(restored[inner], truth[inner]))


def _window(face: Face, side: int, reach: float) -> tuple[slice, slice]:
    """The rows and columns within `reach` box heights of a face's middle."""
    left, top, right, bottom = face.box.tolist()
    half = reach * (bottom - top)
    middle = (top + bottom) / 2, (left + right) / 2
    rows, columns = (slice(int(max(0, m - half)), int(min(side, m + half))) for m in middle)
    return rows, columns


def _psnr_db(a: NDArray[np.generic], b: NDArray[np.uint8]) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-9))
