"""Planes, masks and restored faces in the memory of one device, as torch tensors for the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpenvideo.affine import Matrix, invert
from gpenvideo.errors import OptionError
from gpenvideo.frame import Colour, Frame, Layout
from gpenvideo.kernels.paste import covered

__all__ = ["DeviceMask", "DevicePaste", "DevicePlanes"]

FLOATS = (torch.float32, torch.float16)


@dataclass(frozen=True, slots=True, eq=False)
class DevicePlanes:
    """The planes of a `Frame` on a device: views of a decoder's surface, or a slot that may be written.

    Raises:
        OptionError: planes that do not fit the layout, or that lie on several devices.
    """

    planes: tuple[Tensor, ...]
    """(H, W) each, uint8 or uint16 as the layout's dtype, any strides; sizes as in `Frame`."""

    layout: Layout
    colour: Colour

    def __post_init__(self) -> None:
        height, width = self.planes[0].shape
        across, down = self.layout.step
        chroma = (-(-height // down), -(-width // across))
        sizes = [(height, width)] + [chroma] * (self.layout.planes - 1)
        dtype = torch.uint8 if self.layout.dtype == np.uint8 else torch.uint16
        found = [(tuple(plane.shape), plane.dtype, plane.device) for plane in self.planes]
        if found != [(size, dtype, self.device) for size in sizes]:
            raise OptionError(f"the planes of {self.layout} are {sizes} {dtype} on one device, got {found}")

    @classmethod
    def of(cls, frame: Frame, device: str | torch.device) -> DevicePlanes:
        """A frame's planes, copied."""
        planes = (torch.tensor(np.ascontiguousarray(plane), device=device) for plane in frame.planes)
        return cls(tuple(planes), frame.layout, frame.colour)

    @property
    def device(self) -> torch.device:
        return self.planes[0].device

    @property
    def width(self) -> int:
        return self.planes[0].shape[1]

    @property
    def height(self) -> int:
        return self.planes[0].shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceMask:
    """A mask on a device, and where it is not 0: made once for every crop size and template."""

    values: Tensor
    """(S, S) float32 in [0, 1]."""

    columns: range
    rows: range

    @classmethod
    def of(cls, mask: NDArray[np.float32], device: str | torch.device) -> DeviceMask:
        return cls(torch.tensor(mask, device=device), *covered(mask))


@dataclass(frozen=True, slots=True, eq=False)
class DevicePaste:
    """One restored face on its way back, as `Paste` is on a CPU.

    Raises:
        OptionError: another dtype or shape, a strength outside [0, 1], a matrix without an inverse.
    """

    restored: Tensor
    """(3, S, S) float16 or float32 RGB in [-1, 1], finite, any strides; clipped to that range."""

    crop: Tensor | None
    """(3, S', S') float16 or float32, what it was made from and whose colour and light it is to have, as
    `match_colour` has it; None leaves its own."""

    mask: DeviceMask
    """Of S px."""

    crop_from_frame: Matrix
    """(2, 3), to the S px of `restored`."""

    strength: float = 1.0
    """In [0, 1], multiplies the mask."""

    def __post_init__(self) -> None:
        size, mask = self.restored.shape[-1], self.mask.values
        for pixels in (self.restored, self.crop):
            if pixels is not None and (
                pixels.shape != (3, pixels.shape[-1], pixels.shape[-1]) or pixels.dtype not in FLOATS
            ):
                raise OptionError(
                    f"a face is (3, S, S) float16 or float32, got {tuple(pixels.shape)} {pixels.dtype}"
                )
        if mask.shape != (size, size) or mask.dtype != torch.float32:
            raise OptionError(
                f"the mask of a face is ({size}, {size}) float32, got {tuple(mask.shape)} {mask.dtype}"
            )
        if not 0.0 <= self.strength <= 1.0:
            raise OptionError(f"a strength lies in [0, 1], got {self.strength}")
        invert(self.crop_from_frame)
