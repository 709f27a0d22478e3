"""The demonstration: a real face, made as bad as old film, restored with the default weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpenvideo.degradation import degrade, draw
from gpenvideo.errors import DependencyError, file_error
from gpenvideo.faces.detector import Detector
from gpenvideo.picture import Picture, write_picture
from gpenvideo.restorer import Restorer
from gpenvideo.still import restore_image

__all__ = ["Demo", "run_demo"]

SEED = 7


@dataclass(frozen=True)
class Demo:
    """What the demonstration wrote, and how far the restored face is from the truth."""

    sheet: Path
    degraded_db: float
    """PSNR of the face's surroundings in the degraded picture, dB."""
    restored_db: float
    """The same after restoring."""


def run_demo(out: str | PathLike[str], restorer: Restorer, detector: Detector, *, seed: int = SEED) -> Demo:
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
    degraded = degrade(truth, draw(random, colour=False), random)
    restored = restore_image(degraded, restorer, detector=detector)
    face = detector([truth])[0][0]
    left, top, right, bottom = face.box
    centre, half = np.array([left + right, top + bottom]) / 2, 0.9 * max(right - left, bottom - top)
    low, high = np.clip([centre - half, centre + half], 0, truth.shape[0]).astype(int)
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    pictures = {"degraded": degraded, "restored": restored, "truth": truth}
    for name, pixels in pictures.items():
        write_picture(Picture(pixels), folder / f"{name}.png")
    sheet = folder / "before-after.png"
    write_picture(Picture(np.concatenate([p[window] for p in pictures.values()], axis=1)), sheet)
    return Demo(sheet, _psnr_db(degraded[window], truth[window]), _psnr_db(restored[window], truth[window]))


def _psnr_db(a: NDArray[np.generic], b: NDArray[np.uint8]) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-9))
