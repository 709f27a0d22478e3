"""Networks of live video: several restorers to choose from, and a device that sessions use in turn."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpenvideo.errors import OptionError
from gpenvideo.face import Face
from gpenvideo.faces.detector import Detector, Images
from gpenvideo.networks import NetworkOptions, load_finder, load_restorer
from gpenvideo.restorer import Restorer

__all__ = ["Networks", "OwnedDetector", "OwnedRestorer", "live_networks"]


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """What restores, by name, and what finds faces; sessions may share them, and use the device in turn."""

    restorers: Mapping[str, Restorer]
    """The first is the one that is used unless another is named."""

    detector: Detector
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not self.restorers:
            raise OptionError("a session takes one network or more")

    def descending(self, name: str | None) -> list[tuple[str, int]]:
        """Names and sizes in px: the named network (None is the first), then all that are smaller.

        OptionError: there is none of that name.
        """
        name = next(iter(self.restorers)) if name is None else name
        if name not in self.restorers:
            known = ", ".join(self.restorers)
            raise OptionError(f"this session has no network {name!r}, only {known}")
        size_px = self.restorers[name].size_px
        smaller = [(other, it.size_px) for other, it in self.restorers.items() if it.size_px < size_px]
        return [(name, size_px), *sorted(smaller, key=lambda one: -one[1])]


def live_networks(
    weights: Sequence[str | PathLike[str]] = (),
    detector: str | PathLike[str] | Detector | None = None,
    options: NetworkOptions | None = None,
) -> Networks:
    """Load networks for live video, warm: the largest comes first.

    Args:
        weights: paths, or names of the manifest; none is the default network.
        detector, options: see `gpenvideo.networks.load_networks`.

    Raises:
        FileError, CheckpointError, DeviceError, OptionError: see `gpenvideo.load`.
    """
    finder = load_finder(detector, options)
    loaded: dict[str, Restorer] = {}
    for path in weights:
        name = Path(path).stem if Path(path).is_file() else str(path)  # viewers see it, and need no folders
        loaded[str(path) if name in loaded else name] = load_restorer(path, options)
    if not loaded:
        loaded["default"] = load_restorer(None, options)
    finder([np.zeros((480, 640, 3), dtype=np.uint8)])
    for restorer in loaded.values():
        restorer(torch.zeros(1, 3, restorer.size_px, restorer.size_px))
    largest_first = sorted(loaded.items(), key=lambda one: -one[1].size_px)
    return Networks(dict(largest_first), finder)


class OwnedDetector:
    """A detector that waits for the device."""

    def __init__(self, detector: Detector, lock: Any) -> None:
        self._detector, self._lock = detector, lock

    def __call__(self, images: Images) -> list[list[Face]]:
        with self._lock:
            return self._detector(images)


class OwnedRestorer:
    """A restorer that waits for the device, and for no more faces than there are."""

    max_batch = 1  # a live frame waits for no other

    def __init__(self, restorer: Restorer, lock: Any) -> None:
        self._restorer, self._lock = restorer, lock
        self.size_px, self.template = restorer.size_px, restorer.template

    def __repr__(self) -> str:
        return repr(self._restorer)

    def __call__(self, pixels: Tensor) -> Tensor:
        with self._lock:
            return self._restorer(pixels)
