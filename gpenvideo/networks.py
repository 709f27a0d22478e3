"""Networks: the restorer and the detector of a run, from names, files or what is loaded already."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch

from gpenvideo import weights as manifest
from gpenvideo.errors import FileMissing
from gpenvideo.faces.detector import Detector, RetinaFaceDetector
from gpenvideo.faces.identity import ARCFACE, Appearance, ArcFaceEmbedder, Embedder
from gpenvideo.faces.tracker import KEEP
from gpenvideo.processor import automatic_dtype, find_device
from gpenvideo.restorer import Restorer, load

__all__ = [
    "NetworkOptions",
    "detector_file",
    "load_detector",
    "load_embedder",
    "load_finder",
    "load_networks",
    "load_restorer",
]


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How networks are loaded; see `gpenvideo.load`."""

    device: str = "auto"
    dtype: str = "auto"
    template: str | None = None
    compile: bool = False
    max_batch: int = 8


def load_networks(
    weights: str | PathLike[str] | Restorer | None,
    detector: str | PathLike[str] | Detector | None,
    options: NetworkOptions | None = None,
) -> tuple[Restorer, Detector]:
    """The restorer, warm, and the detector, with the threshold that a tracker wants.

    Args:
        weights, detector: a path or a name of the manifest; a network, which is given back as it is; or None
            for the default one.
        options: for what is loaded here.

    Raises:
        FileError, CheckpointError, DeviceError, OptionError: see `gpenvideo.load`.
    """
    finder = load_finder(detector, options)
    return load_restorer(weights, options), finder


def load_finder(
    detector: str | PathLike[str] | Detector | None, options: NetworkOptions | None = None
) -> Detector:
    """The detector alone, as `load_networks` gives it."""
    how = options or NetworkOptions()
    if callable(detector):
        return detector
    return load_detector(detector, device=how.device, dtype=how.dtype, threshold=KEEP)


def load_restorer(
    weights: str | PathLike[str] | Restorer | None, options: NetworkOptions | None = None
) -> Restorer:
    """The restorer alone, as `load_networks` gives it."""
    how = options or NetworkOptions()
    if callable(weights):
        return weights
    restorer = load(
        weights, how.device, how.dtype, template=how.template, compile=how.compile, max_batch=how.max_batch
    )
    if how.compile or restorer.device.type == "cuda":
        restorer.warm_up()
    return restorer


def load_detector(
    name: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: str = "fp32",
    threshold: float = 0.9,
) -> RetinaFaceDetector:
    """A face detector from a path or a name of the manifest; None is the first that is on this machine.

    With `dtype` "bf16", or "auto" on a CPU that computes it, it takes half the time, and its landmarks move
    by some 0.3 % of the eye distance.

    Raises FileMissing, which says how to get one; FileError, CheckpointError, DeviceError, OptionError.
    """
    place = find_device(device)
    chosen = automatic_dtype(place.type) if dtype == "auto" else dtype
    half = chosen == "bf16" and place.type == "cpu"
    return RetinaFaceDetector(
        detector_file(name),
        device=place,
        dtype=torch.bfloat16 if half else torch.float32,
        threshold=threshold,
    )


def detector_file(name: str | PathLike[str] | None = None) -> Path:
    """The weights of a detector: of a path or a name of the manifest; None is the first on this machine."""
    if name is None:
        entries = [entry for entry in manifest.read_manifest().values() if entry.kind == "detector"]
        entries.sort(key=lambda entry: not entry.shipped)
        here = [entry for entry in entries if manifest.located(entry)]
        name = (here or entries)[0].name
    return manifest.find(name)


def load_embedder(device: str = "auto") -> Embedder:
    """What tells people apart: ArcFace where its weights are on this machine, else `Appearance`.

    Raises CheckpointError, DeviceError, FileError.
    """
    try:
        weights = manifest.find(ARCFACE)
    except FileMissing:
        return Appearance()
    return ArcFaceEmbedder(weights, device=str(find_device(device)))
