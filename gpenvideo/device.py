"""A GPU's way of restoring the faces of some frames: planes up, crops, network and paste there, planes down.

Copies in and out have streams of their own, joined to the computing one by events, over slots of pinned
memory that are used in turn. Crops are cut straight into the network's input. Only means over time are made
on the host, of small crops; what they change is added on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gpenvideo.crops import Aligned, Crop, Finish, Shown, Strength, enlarged
from gpenvideo.faces.mask import rounded
from gpenvideo.frame import Colour, Frame, Layout, Rectangle
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.cuda import Launch, crop_batch, paste_batch, rectangles
from gpenvideo.kernels.device import DeviceMask, DevicePaste, DevicePlanes
from gpenvideo.kernels.paste import Paste, paste
from gpenvideo.restorer import GPENRestorer, Restorer
from gpenvideo.stages import Stages
from gpenvideo.steady import WORK_PX, Change, Settled, Steady, tensors

__all__ = ["DeviceFaces", "common_device", "disagreement"]

Made = tuple[Tensor, Tensor]  # a crop (3, S, S) and what was made of it (3, S', S')


class DeviceFaces:
    """Restores the faces of frames on a CUDA device, with results like those of `gpenvideo.host.HostFaces`.

    Args:
        device: of all restorers.
        stages: where the seconds are counted: those of the host.
        steady: averages the crops of a stream; None leaves them as they are.
        launch: what runs the kernels; CuPy if None. With another one the device may be the CPU.
    """

    def __init__(
        self, device: torch.device, stages: Stages, steady: Steady | None, *, launch: Launch | None = None
    ) -> None:
        self._device, self._stages, self._steady, self._launch = device, stages, steady, launch
        self._settled = Settled(tensors.settled)
        self._up, self._down = _stream(device), _stream(device)
        self._slots: tuple[list[_Slot], list[_Slot]] = ([], [])  # of the batch at hand, and of the next
        self._masks: dict[tuple[int, bytes], DeviceMask] = {}

    def begin(self, shown: Sequence[Shown], strength: Strength) -> Finish:
        """See `HostFaces`: no more than two batches may be begun and not finished."""
        self._slots = self._slots[::-1]
        busy = [item for item in shown if item.faces]
        targets = [item.target for item in busy]
        others = [item.frame for item in busy if item.frame is not item.target]
        with self._stages("upload"):
            slots = self._uploaded(targets + others)
        spare = iter(slots[len(targets) :])
        sources = [
            slot if item.frame is item.target else next(spare)
            for slot, item in zip(slots, busy, strict=False)
        ]
        differences, changes = self._steadied(shown)
        faces = [(slot, face) for slot, item in zip(sources, busy, strict=True) for face in item.faces]
        with self._stages("network"):
            restored = self._restored(faces, differences)
        made = iter(self._settle(shown, restored, changes) if self._steady else restored)
        slots = slots[: len(targets)]

        def finish() -> list[tuple[Frame, list[Rectangle]]]:
            pastes = [
                [self._paste(item, face, *next(made), strength) for face in item.faces] for item in busy
            ]
            with self._stages("paste"):
                written = paste_batch([slot.planes for slot in slots], pastes, launch=self._launch)
            with self._stages("download"):
                pasted = iter(self._downloaded(slots, busy, written))
            return [next(pasted) if item.faces else (item.target, []) for item in shown]

        return finish

    def end(self) -> None:
        """No batch follows."""

    def _uploaded(self, frames: Sequence[Frame]) -> list[_Slot]:
        slots = self._slots[0]
        with _on(self._up):
            for index, frame in enumerate(frames):
                if index == len(slots):
                    slots.append(_Slot(frame, self._device))
                elif not slots[index].fits(frame):
                    slots[index] = _Slot(frame, self._device)
                slots[index].take(frame)
        if self._up is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._up)
        return slots[: len(frames)]

    def _steadied(self, shown: Sequence[Shown]) -> tuple[list[Crop], list[Change | None]]:
        """What makes each crop steady once it is added, (s, s, 3) of `WORK_PX` or less, [] is nothing; and
        what became of each face."""
        differences, changes = [], []
        for item in shown:
            if item.starts_shot and self._steady:
                self._steady.cut()
            for face in item.faces if self._steady else ():
                size = face.restorer.size_px
                small = min(size, WORK_PX)
                with self._stages("crop"):
                    pixels = crop(item.frame, enlarged(face.crop_from_frame, small / size), small)
                with self._stages("steady"):
                    assert self._steady
                    steadied = self._steady(face.track.id, item.time_s, pixels)
                    differences.append(steadied.pixels - pixels)
                    changes.append(steadied.change)
        return differences, changes

    def _settle(
        self, shown: Sequence[Shown], made: Sequence[Made], changes: Sequence[Change | None]
    ) -> list[Made]:
        """What was made of each face, made steady."""
        steadied, pairs = [], iter(zip(made, changes, strict=True))
        for item in shown:
            if item.starts_shot:
                self._settled.cut()
            for face in item.faces:
                (original, restored), change = next(pairs)
                with self._stages("steady"):
                    settled = self._settled(face.track.id, item.time_s, restored, change)
                steadied.append((original, settled))
        return steadied

    def _restored(self, faces: Sequence[tuple[_Slot, Aligned]], changes: Sequence[Crop]) -> list[Made]:
        made: dict[int, Made] = {}
        for restorer in {id(face.restorer): face.restorer for _, face in faces}.values():
            assert isinstance(restorer, GPENRestorer)
            places = [place for place, (_, face) in enumerate(faces) if face.restorer is restorer]
            for part in _parts(places, restorer):
                pixels = restorer.bucket(len(part))
                planes = [faces[place][0].planes for place in part]
                matrices = [faces[place][1].crop_from_frame for place in part]
                crop_batch(planes, matrices, pixels, launch=self._launch)
                if changes:
                    pixels += self._enlarged([changes[place] for place in part], pixels)
                crops = pixels.clone()  # the restorer's input is anybody's with its next call
                made |= zip(part, zip(crops, restorer(pixels), strict=True), strict=True)
        return [made[place] for place in range(len(faces))]

    def _enlarged(self, changes: Sequence[Crop], like: Tensor) -> Tensor:
        host = torch.from_numpy(np.stack(changes)).permute(0, 3, 1, 2)
        there = host.to(self._device, non_blocking=True)
        if there.shape[-1] != like.shape[-1]:
            there = F.interpolate(there, size=like.shape[-1], mode="bilinear", align_corners=False)
        return there.to(like.dtype)

    def _paste(
        self, shown: Shown, face: Aligned, original: Tensor, restored: Tensor, strength: Strength
    ) -> DevicePaste:
        template, scale = face.restorer.template, restored.shape[-1] / original.shape[-1]
        share = strength(face.track, lambda: (_on_host(original), _on_host(restored)), template)
        key = (restored.shape[-1], template.tobytes())
        if key not in self._masks:
            self._masks[key] = DeviceMask.of(rounded(restored.shape[-1], template * scale), self._device)
        matrix = enlarged(shown.onto_target(face.crop_from_frame), scale)
        return DevicePaste(restored, original, self._masks[key], matrix, share)

    def _downloaded(
        self, slots: Sequence[_Slot], shown: Sequence[Shown], written: Tensor
    ) -> Iterator[tuple[Frame, list[Rectangle]]]:
        if self._down is not None:
            self._down.wait_stream(torch.cuda.current_stream(self._device))
        with _on(self._down):
            for slot in slots:
                slot.give()
            places = iter(rectangles(written.cpu()))  # waits for all that was put on this stream
        if self._down is not None:
            self._down.synchronize()
        for slot, item in zip(slots, shown, strict=True):
            yield slot.frame(item.target), [next(places) for _ in item.faces]


class _Slot:
    """The planes of one frame: pinned on the host, and on the device."""

    def __init__(self, like: Frame, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self._layout, self._colour = like.layout, like.colour
        dtype = torch.uint8 if like.layout.dtype == np.uint8 else torch.uint16
        shapes = [plane.shape for plane in like.planes]
        self._host = [torch.empty(shape, dtype=dtype, pin_memory=pinned) for shape in shapes]
        there = tuple(torch.empty(shape, dtype=dtype, device=device) for shape in shapes)
        self.planes = DevicePlanes(there, like.layout, like.colour)

    def fits(self, frame: Frame) -> bool:
        shapes = [tuple(plane.shape) for plane in self._host]
        same = (frame.layout, frame.colour) == (self._layout, self._colour)
        return same and [plane.shape for plane in frame.planes] == shapes

    def take(self, frame: Frame) -> None:
        """Copy a frame's planes into the slot on the device, on the current stream.

        From where its decoder left them there, if it did: they are whole, and the frame holds them until its
        batch is finished.
        """
        for there, plane in zip(self.planes.planes, frame.on_device or (), strict=False):
            there.copy_(plane, non_blocking=True)
        if frame.on_device:
            return
        for host, there, plane in zip(self._host, self.planes.planes, frame.planes, strict=True):
            host.numpy()[...] = plane
            there.copy_(host, non_blocking=True)

    def give(self) -> None:
        """Copy them back, on the current stream."""
        for host, there in zip(self._host, self.planes.planes, strict=True):
            host.copy_(there, non_blocking=True)

    def frame(self, source: Frame) -> Frame:
        """What came back, as a frame with planes of its own."""
        frame = source.copy()
        for plane, host in zip(frame.planes, self._host, strict=True):
            plane[...] = host.numpy()
        return frame


def common_device(restorers: Sequence[Restorer]) -> torch.device | None:
    """The CUDA device of all restorers; None where there is no such one."""
    devices = {restorer.device if isinstance(restorer, GPENRestorer) else None for restorer in restorers}
    device = devices.pop()
    return device if not devices and device is not None and device.type == "cuda" else None


def disagreement(device: torch.device, launch: Launch | None = None) -> str | None:
    """Why the kernels cannot be trusted on a device; None where they do with a small face as the host's."""
    axis = np.linspace(0, 6, 64)
    luma = 128 + 90 * np.sin(axis) * np.cos(axis[:, None])
    planes = tuple(np.rint(part).astype(np.uint8) for part in (luma, luma[::2, ::2], 255 - luma[::2, ::2]))
    frame = Frame(planes, Layout("yuv", 8, (2, 2)), Colour(1, False), 0, Fraction(1))
    matrix = np.array([(0.6, 0.2, 3.0), (-0.2, 0.6, 12.0)])
    size, mask = 48, np.full((48, 48), 0.5, dtype=np.float32)
    try:
        there, pixels = DevicePlanes.of(frame, device), torch.zeros(1, 3, size, size, device=device)
        crop_batch([there], [matrix], pixels, launch=launch)
        expected = crop(frame, matrix, size)
        if not np.abs(_on_host(pixels[0]) - expected).max() <= 0.05:  # NaN is neither
            return "its crops differ from the host's"
        darker = expected * np.float32(0.5)
        given = torch.from_numpy(darker).permute(2, 0, 1).to(device)
        paste_batch([there], [[DevicePaste(given, None, DeviceMask.of(mask, device), matrix)]], launch=launch)
        frame = frame.copy()
        paste(frame, [Paste(darker, mask, matrix)])
        pairs = zip(there.planes, frame.planes, strict=True)
        if max(np.abs(plane.cpu().numpy().astype(int) - ours).max() for plane, ours in pairs) > 2:
            return "what it pastes differs from the host's"
    except Exception as error:  # of CuPy, its compiler or the driver: the host can do what they cannot
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


def _parts(places: list[int], restorer: GPENRestorer) -> Iterator[list[int]]:
    """As many at a time as the restorer takes, which may become fewer on the way."""
    start = 0
    while start < len(places):
        part = places[start : start + restorer.max_batch]
        yield part
        start += len(part)


def _stream(device: torch.device) -> Any:
    """A stream of its own; None where there are none."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _on(stream: Any) -> AbstractContextManager[Any]:
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def _on_host(pixels: Tensor) -> Crop:
    """(3, S, S) of any device and dtype as (S, S, 3) float32."""
    return np.ascontiguousarray(pixels.float().permute(1, 2, 0).cpu().numpy())
