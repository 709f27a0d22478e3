"""Networks: the restorer and the detector of a run, from names, files or what is loaded already."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch

from gpenvideo import weights as manifest
from gpenvideo.errors import CheckpointError, FileMissing, OptionError
from gpenvideo.faces.detector import Detector, RetinaFaceDetector
from gpenvideo.faces.identity import ARCFACE, Appearance, ArcFaceEmbedder, Embedder
from gpenvideo.faces.landmarks import RefinedDetector
from gpenvideo.faces.tracker import KEEP
from gpenvideo.foreign import ForeignRestorer, SuperResolution, read_network
from gpenvideo.processor import automatic_dtype, find_device
from gpenvideo.restorer import GPENRestorer, Restorer
from gpenvideo.restorer import load as load_gpen
from gpenvideo.upscaling import Upscaler

__all__ = [
    "NetworkOptions",
    "detector_files",
    "gpu_of",
    "load",
    "load_background",
    "load_detector",
    "load_embedder",
    "load_finder",
    "load_networks",
    "load_restorer",
    "load_upscaler",
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


def load(
    path: str | PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    *,
    template: str | None = None,
    compile: bool = False,
    max_batch: int = 8,
) -> GPENRestorer | ForeignRestorer:
    """A restorer from a checkpoint: a path, a name of the manifest, or None for the default weights.

    What is no GPEN is looked up among the networks that spandrel knows: GFPGAN, RestoreFormer, CodeFormer.

    Args:
        path: of a file, or a name.
        device, dtype, compile, max_batch: see `GPENRestorer`; only a GPEN is compiled.
        template: "gpen" or "ffhq", the alignment it was trained on. None takes the v2 checkpoint's own, a
            published one's manifest entry's (by file name), else "gpen"; "ffhq" of what is no GPEN.

    Raises:
        FileError, CheckpointError, DeviceError, OptionError. DependencyError: spandrel is needed.
    """
    try:
        return load_gpen(path, device, dtype, template=template, compile=compile, max_batch=max_batch)
    except CheckpointError as error:
        if path is None:
            raise
        network = read_network(manifest.find(path), refused=error)
    if compile:
        raise OptionError(
            f"only GPEN networks are compiled, and it is a {network.architecture.name}", path=path
        )
    try:
        return ForeignRestorer(
            network, device=device, dtype=dtype, template=template or "ffhq", max_batch=max_batch
        )
    except OptionError as error:
        raise OptionError(error.message, path=path) from error


def load_background(path: str | PathLike[str], device: str = "auto", dtype: str = "auto") -> SuperResolution:
    """A super-resolution network, for what is around the faces, from a path or a name of the manifest.

    Raises FileError, CheckpointError, DeviceError, DependencyError; OptionError for a face network.
    """
    network = read_network(manifest.find(path))
    try:
        return SuperResolution(network, device=device, dtype=dtype)
    except OptionError as error:
        raise OptionError(error.message, path=path) from error


def load_upscaler(
    scale: int, background: str | PathLike[str] | None, options: NetworkOptions | None = None
) -> Upscaler | None:
    """What makes pictures `scale` times as large; None where that is 1.

    Raises FileError, CheckpointError, DeviceError, DependencyError, OptionError: see `load_background`.
    """
    if scale == 1 and background is None:
        return None
    if scale == 1:
        raise OptionError("a background network makes pictures larger: say --upscale 2 too")
    how = options or NetworkOptions()
    return Upscaler(scale, load_background(background, how.device, how.dtype) if background else None)


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


def gpu_of(
    weights: str | PathLike[str] | Restorer | None, options: NetworkOptions | None = None
) -> torch.device | None:
    """The GPU that what restores is on, or will be; None: it is on none. OptionError, DeviceError."""
    if callable(weights):
        device = getattr(weights, "device", None)
    else:
        device = find_device((options or NetworkOptions()).device)
    return device if isinstance(device, torch.device) and device.type == "cuda" else None


def load_detector(
    name: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: str = "fp32",
    threshold: float = 0.9,
) -> RetinaFaceDetector | RefinedDetector:
    """A face detector from a path or a name of the manifest; None is the first that is on this machine.

    Landmarks are refined where the manifest names a network for that.

    With `dtype` "bf16", or "auto" on a CPU that computes it, it takes half the time, and its landmarks move
    by some 0.3 % of the eye distance.

    Raises FileMissing, which says how to get one; FileError, CheckpointError, DeviceError, OptionError.
    """
    place = find_device(device)
    chosen = automatic_dtype(place.type) if dtype == "auto" else dtype
    half = chosen == "bf16" and place.type == "cpu"
    file, *finer = detector_files(name)
    detector = RetinaFaceDetector(
        file, device=place, dtype=torch.bfloat16 if half else torch.float32, threshold=threshold
    )
    return RefinedDetector(detector, finer[0], device=place) if finer else detector


def detector_files(name: str | PathLike[str] | None = None) -> list[Path]:
    """The weights of a detector, and of what refines its landmarks, if anything does.

    Of a path or a name of the manifest; None is the first on this machine.
    """
    if name is None:
        entries = [entry for entry in manifest.read_manifest().values() if entry.kind == "detector"]
        entries.sort(key=lambda entry: not entry.shipped)
        here = [entry for entry in entries if manifest.located(entry)]
        name = (here or entries)[0].name
    entry = manifest.read_manifest().get(str(name))
    finer = [manifest.find(entry.landmarks)] if entry and entry.landmarks else []
    return [manifest.find(name), *finer]


def load_embedder(device: str = "auto") -> Embedder:
    """What tells people apart: ArcFace where its weights are on this machine, else `Appearance`.

    Raises CheckpointError, DeviceError, FileError.
    """
    try:
        weights = manifest.find(ARCFACE)
    except FileMissing:
        return Appearance()
    return ArcFaceEmbedder(weights, device=str(find_device(device)))
