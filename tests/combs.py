"""Clips of two fields a picture, as a camera of fields makes them, and a machine that turns film into them.

    take = Take(path, (160, 120), 48)
    combed = [take.woven("tff", number) for number in range(48)]

Every field is of its own moment, and its chroma is its own, as cameras have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import skimage.data
from clips import write_clip

from gpenvideo.degradation.camera import CameraPath, Key, Shake, shoot

FIELDS_HZ = 60
PULLDOWN = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))  # top and bottom field of each five, by film frame

SLOW = CameraPath((Key(0, 0.45, 0.3, 0.6), Key(2, 0.5, 0.35, 0.55)), Shake(0.002, 0.1), seed=1)
FAST = CameraPath((Key(0, 0.2, 0.3, 0.4), Key(0.8, 0.7, 0.4, 0.4), Key(2, 0.3, 0.3, 0.4)), seed=2)
SHAKEN = CameraPath((Key(0, 0.45, 0.25, 0.5),), Shake(0.012, 0.6), seed=3)
ZOOMED = CameraPath((Key(0, 0.45, 0.25, 0.8), Key(1.8, 0.45, 0.25, 0.35)), seed=4)
TURNED = CameraPath((Key(0, 0.45, 0.3, 0.5, -8), Key(1.6, 0.5, 0.3, 0.5, 8)), seed=5)


@lru_cache(maxsize=64)
def moments(path: CameraPath, size: tuple[int, int], count: int, rate_hz: int = FIELDS_HZ) -> list[Any]:
    """(H, W, 3) uint8 RGB of the astronaut, one for each moment."""
    return [shot.pixels for shot in shoot(skimage.data.astronaut(), path, size, count, rate_hz)]


@dataclass(frozen=True)
class Take:
    """What a camera saw, and what is made of it."""

    path: CameraPath
    size: tuple[int, int] = (160, 120)
    noise: float = 0.0
    """Standard deviation of what is added to each field, levels."""

    blur_px: float = 0.0
    """A sigma: how soft the lens is."""

    still: float = 0.0
    """Share of the width, from the left, that does not move."""

    pix_fmt: str = "yuv420p"
    pictures: int = 48

    def moment(self, number: int) -> Any:
        """What is seen at a moment of the fields' rate, RGB."""
        seen = moments(self.path, self.size, 2 * self.pictures + 2)
        rgb = seen[number]
        if self.still:
            columns = round(self.still * rgb.shape[1])
            rgb = rgb.copy()
            rgb[:, :columns] = seen[0][:, :columns]
        if self.blur_px:
            rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), self.blur_px))
        if self.noise:
            noise = np.random.default_rng(number).normal(0, self.noise, rgb.shape)
            rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
        return rgb

    def progressive(self, number: int) -> av.VideoFrame:
        """A whole picture, of the moment of its first field."""
        return yuv(self.moment(2 * number), self.pix_fmt)

    def woven(self, kind: str, number: int) -> av.VideoFrame:
        """A picture of "progressive", "tff", "bff", "telecined" or "mixed" material."""
        if kind == "mixed":  # progressive, then top field first, and again
            kind = "tff" if number // 12 % 2 else "progressive"
        if kind == "progressive":
            return self.progressive(number)
        if kind == "telecined":
            return weave(*(self.film(4 * (number // 5) + frame) for frame in PULLDOWN[number % 5]))
        top, bottom = (2 * number, 2 * number + 1) if kind == "tff" else (2 * number + 1, 2 * number)
        return weave(self._field(top, 0), self._field(bottom, 1))

    def film(self, number: int) -> av.VideoFrame:
        """A picture of the film that is telecined, 24 of which take as long as 60 fields."""
        return yuv(self.moment(round(2.5 * number)), self.pix_fmt)

    def _field(self, moment: int, parity: int) -> av.VideoFrame:
        """A whole picture that has right rows at this parity: its chroma is of those rows alone."""
        rows = np.ascontiguousarray(self.moment(moment)[parity::2])
        return _whole(yuv(rows, self.pix_fmt), self.size, parity)

    def write(self, path: Path, kind: str, flag: str | None = None, **more: Any) -> Path:
        """A clip of them; `flag` ("tff", "bff") is what the stream says, None that it is progressive."""
        given: dict[str, Any] = {"codec": "ffv1", "rate": Fraction(30000, 1001)} | more
        codec, options = given["codec"], dict(given.pop("options", {}))
        if flag and codec == "libx264":
            options["x264-params"] = f"{flag}=1"
        elif flag and codec == "mpeg2video":
            options |= {"flags": "+ildct+ilme", "alternate_scan": "1"}
        picture: Callable[[int], Any] = lambda i: flagged(self.woven(kind, i), flag)  # noqa: E731
        return write_clip(
            path,
            size=self.size,
            frames=self.pictures,
            pix_fmt=self.pix_fmt,
            picture=picture,
            options=options,
            **given,
        )


def flagged(picture: av.VideoFrame, flag: str | None) -> av.VideoFrame:
    """The same picture, said to be of two fields."""
    if flag is None:
        return picture
    graph = av.filter.Graph()
    begin = graph.add_buffer(picture, time_base=Fraction(1, 25))
    graph.link_nodes(begin, graph.add("setfield", flag), graph.add("buffersink")).configure()
    graph.push(picture)
    return graph.pull()


def weave(top: av.VideoFrame, bottom: av.VideoFrame) -> av.VideoFrame:
    """The even rows of one picture and the odd ones of another."""
    woven = av.VideoFrame(top.width, top.height, top.format.name)
    for into, *fields in zip(woven.planes, top.planes, bottom.planes, strict=True):
        for parity, field in enumerate(fields):
            _rows(into)[parity::2] = _rows(field)[parity::2]
    return woven


def _whole(field: av.VideoFrame, size: tuple[int, int], parity: int) -> av.VideoFrame:
    """A picture with the rows of a field at their places."""
    whole = av.VideoFrame(*size, field.format.name)
    for into, of in zip(whole.planes, field.planes, strict=True):
        room = _rows(into)[parity::2]
        room[:] = _rows(of)[: len(room)]
    return whole


def _rows(plane: Any) -> Any:
    """(H, W) uint8 of a plane, to be written."""
    return np.ndarray((plane.height, plane.width), np.uint8, plane, 0, (plane.line_size, 1))


def yuv(rgb: Any, pix_fmt: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt, threads=1)
