"""Frame: one picture of a video, as the planes its decoder made; StreamInfo: what holds for all of them.

Pixel coordinates: x right, y down, the centre of the first luma sample at (0, 0). Colour is described by the
code points of ITU-T H.273, as streams carry them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError

__all__ = ["CENTRED", "LEFT", "Colour", "Frame", "Layout", "Rectangle", "Samples", "StreamInfo"]

Samples = NDArray[Any]  # uint8 or uint16

LEFT = (0.0, 0.5)
"""Siting of MPEG-2, H.264 and most of what followed: chroma on the left column, between two rows."""

CENTRED = (0.5, 0.5)
"""Siting of JPEG and MPEG-1: chroma in the middle of its luma samples."""


class Rectangle(NamedTuple):
    """A region in luma samples of the coded frame, half-open: columns [x0, x1), rows [y0, y1)."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What planes there are, and how fine their samples."""

    model: Literal["yuv", "rgb", "grey"]
    """"yuv": planes Y, U, V. "rgb": G, B, R. "grey": Y alone."""

    depth_bits: int
    """8 to 16; samples are uint8 up to 8, else uint16 with the value in the low bits."""

    step: tuple[int, int] = (1, 1)
    """Luma samples a chroma sample, across and down: (2, 2) is 4:2:0, (2, 1) 4:2:2, (4, 1) 4:1:1."""

    def __post_init__(self) -> None:
        if not 1 <= self.depth_bits <= 16:
            raise OptionError(f"samples have 1 to 16 bits, got {self.depth_bits}")
        if self.model != "yuv" and self.step != (1, 1):
            raise OptionError(f"only chroma is sub-sampled: {self.model} has step (1, 1), got {self.step}")

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.depth_bits <= 8 else np.uint16)

    @property
    def planes(self) -> int:
        return 1 if self.model == "grey" else 3


@dataclass(frozen=True, slots=True)
class Colour:
    """What samples mean."""

    matrix: int
    """H.273 MatrixCoefficients: 1 BT.709, 5 and 6 BT.601, 9 BT.2020, 0 RGB; never 2, unknown."""

    full_range: bool
    """Whether luma spans all levels, or 16 to 235 (scaled to the depth) with chroma 16 to 240."""

    siting: tuple[float, float] = LEFT
    """Where the first chroma sample lies, luma samples; 0 along an axis that is not sub-sampled."""

    primaries: int = 2
    """H.273 ColourPrimaries; 2 is unknown."""

    transfer: int = 2
    """H.273 TransferCharacteristics; 2 is unknown, 16 PQ, 18 HLG."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture: planes of samples and its place in time.

    Raises:
        OptionError: planes that do not fit the layout.
    """

    planes: tuple[Samples, ...]
    """(H, W) each, luma first, any strides; chroma is (ceil(H / step), ceil(W / step))."""

    layout: Layout
    colour: Colour
    pts: int
    """Ticks of `time_base`."""

    time_base: Fraction
    """Seconds a tick."""

    alpha: Samples | None = None
    """(H, W) of the planes' dtype; never restored, carried to the result."""

    decoded: Any = None
    """The decoder's own frame, opaque here: its side data goes to the encoder."""

    edited: bool = False
    """Whether the planes are this frame's own and may be written; else they belong to the decoder."""

    filtered: Frame | None = None
    """The same picture made easier to see, of the same size, layout and colour: see `view`."""

    on_device: tuple[Any, ...] | None = None
    """The planes once more, as torch tensors on the GPU that decoded them; None, too, once it is edited."""

    def __post_init__(self) -> None:
        if self.edited:
            object.__setattr__(self, "on_device", None)
        if len(self.planes) != self.layout.planes:
            raise OptionError(f"{self.layout} has {self.layout.planes} planes, got {len(self.planes)}")
        height, width = self.planes[0].shape
        across, down = self.layout.step
        sizes = [(height, width)] + [(-(-height // down), -(-width // across))] * (len(self.planes) - 1)
        for plane, size in zip(self.planes, sizes, strict=True):
            if plane.shape != size or plane.dtype != self.layout.dtype:
                raise OptionError(
                    f"a plane is {size} {self.layout.dtype}, got {plane.shape} {plane.dtype} in a "
                    f"{width}x{height} frame of {self.layout}"
                )

    def __repr__(self) -> str:
        layout = self.layout
        return (
            f"Frame({self.width}x{self.height} {layout.model} {layout.depth_bits} bits step {layout.step}, "
            f"pts {self.pts} of {self.time_base} s)"
        )

    @property
    def view(self) -> Frame:
        """What faces are looked for in and cut out of; what is restored is written upon this frame itself."""
        return self if self.filtered is None else self.filtered

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def time_s(self) -> float:
        return float(self.pts * self.time_base)

    def copy(self) -> Frame:
        """The same picture in planes of its own, which may be written."""
        return replace(self, planes=tuple(np.array(plane) for plane in self.planes), edited=True)


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a video stream says of all its frames."""

    width: int
    height: int
    pixel_format: str
    """The decoder's, by FFmpeg's name."""

    layout: Layout
    """Of the frames that are read: packed and palette formats come as planes."""

    colour: Colour
    time_base: Fraction
    rate_hz: Fraction | None = None
    """Frames a second; None when it varies or is unknown."""

    duration_s: float | None = None
    frames: int | None = None
    """As the container says; None where it does not."""

    sample_aspect: Fraction = Fraction(1)
    """Width of a sample over its height."""

    rotation_deg: int = 0
    """How far the coded picture is turned clockwise to stand upright: 0, 90, 180 or 270."""

    mirrored: bool = False
    """Whether it is mirrored left to right before it is turned."""

    field_order: str = "progressive"
    siting_told: bool = False
    """Whether the stream says where its chroma lies."""

    assumed: tuple[str, ...] = ()
    """What the stream does not say and was assumed, a sentence each."""

    def __post_init__(self) -> None:
        if self.rotation_deg not in (0, 90, 180, 270):
            raise OptionError(f"a picture is turned by 0, 90, 180 or 270 degrees, got {self.rotation_deg}")
        if self.sample_aspect <= 0:
            raise OptionError(f"a sample aspect is positive, got {self.sample_aspect}")

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright picture in square pixels, rounded."""
        sx, sy = self._stretch
        upright = (max(1, round(self.width * sx)), max(1, round(self.height * sy)))
        return upright if self.rotation_deg % 180 == 0 else (upright[1], upright[0])

    @property
    def upright_from_coded(self) -> NDArray[np.float64]:
        """(2, 3): coded pixels to those of the upright picture in square pixels.

        An aspect other than 1 stretches the picture, it never shrinks it: along x or along y.
        """
        sx, sy = self._stretch
        width, height = self.width * sx, self.height * sy
        matrix = np.array([(sx, 0, sx / 2), (0, sy, sy / 2), (0, 0, 1)])  # corners at whole numbers
        if self.mirrored:
            matrix = np.array([(-1, 0, width), (0, 1, 0), (0, 0, 1)]) @ matrix
        for _ in range(self.rotation_deg // 90):
            matrix = np.array([(0, -1, height), (1, 0, 0), (0, 0, 1)]) @ matrix
            width, height = height, width
        matrix[:2, 2] -= 0.5
        return np.array(matrix[:2])

    @property
    def _stretch(self) -> tuple[float, float]:
        aspect = float(self.sample_aspect)
        return max(aspect, 1.0), max(1 / aspect, 1.0)
