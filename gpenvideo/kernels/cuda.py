"""The two warps on a CUDA device: all faces of all frames at once, on torch's current stream, without a sync.

What they compute is what `crop`, `match_colour` and `paste` compute on a CPU, to the rounding of float32. The
sources are compiled for the device when they are first used (NVRTC, through CuPy, which keeps the result on
disk).

What a face of 2048 px costs in a frame of 1080p, 8 bits 4:2:0, where it is 400 px wide, float16 both ways:

    crop     0.4 MB of planes read, 25 MB of crop written
    cells    25 MB of crop, 25 MB of face, 17 MB of mask read
    levels   twice 25 MB of face and 17 MB of mask read, less what the mask leaves out; 11 MB written
    blend    11 MB and 36 vectors a sample read, 0.3 MB written

About 200 MB in all: 0.07 ms at the 3.0 TB/s of an H100, were nothing in its cache of 50 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpenvideo.affine import Matrix
from gpenvideo.errors import DependencyError, OptionError
from gpenvideo.frame import Rectangle
from gpenvideo.kernels.device import FLOATS, DevicePaste, DevicePlanes
from gpenvideo.kernels.paste import NOWHERE, paste_order
from gpenvideo.kernels.records import crop_records, paste_records

__all__ = ["OPTIONS", "Launch", "crop_batch", "paste_batch", "rectangles", "source"]

Size = tuple[int, int, int]
Launch = Callable[[str, Size, Size, Sequence[Tensor]], None]
"""Runs a kernel by its name: blocks of the grid, threads of a block, and the tensors it is given."""

OPTIONS = ("-std=c++17",)
"""How the sources are compiled."""

TILE = (32, 8, 1)  # threads of a block that makes a tile of a picture
CELL_THREADS, SHIFT_THREADS = (128, 1, 1), (256, 1, 1)


def crop_batch(
    frames: Sequence[DevicePlanes], matrices: Sequence[Matrix], out: Tensor, *, launch: Launch | None = None
) -> None:
    """The aligned crops of faces, as `gpenvideo.kernels.crop.crop` makes them, in one launch.

    Args:
        frames: of each face, the frame it is in; the same one as often as it has faces.
        matrices: of each face, (2, 3) `crop_from_frame`, px to px.
        out: (N, 3, S, S) float16 or float32, any strides, on the frames' device: RGB in [-1, 1] is written to
            the first faces of it, and the rest is left.
        launch: what runs the kernels; CuPy on the device of `out` if None.

    Raises:
        OptionError: an `out` that is something else or too small; a matrix without an inverse, or that
            reaches farther than 2^30 px; colour that is not supported.
        DependencyError: CuPy is not installed.
    """
    count, size = len(frames), out.shape[-1]
    if out.ndim != 4 or out.shape[1:] != (3, size, size) or out.dtype not in FLOATS or len(out) < count:
        raise OptionError(
            f"crops are ({count} or more, 3, S, S) float16 or float32, got {tuple(out.shape)} {out.dtype}"
        )
    _check_devices(out.device, [frame.device for frame in frames])
    if not count:
        return
    run = launch or _cupy(out.device)
    records = _uploaded(crop_records(frames, matrices, out), out.device)
    run("crop", (*_tiles(size, size), count), TILE, records)


def paste_batch(
    frames: Sequence[DevicePlanes], faces: Sequence[Sequence[DevicePaste]], *, launch: Launch | None = None
) -> Tensor:
    """Write restored faces into the planes of frames, in place, as `match_colour` and `paste` do.

    Args:
        frames: on one device; none twice.
        faces: those of each frame, on its device.
        launch: what runs the kernels; CuPy on the frames' device if None.

    Returns:
        (faces, 4) int32, on the device: where each face of the first frame, then of the next, was written.
        `rectangles` tells what it says, once it is on the host.

    Raises:
        OptionError: faces on another device; a matrix that reaches farther than 2^30 px; colour that is not
            supported.
        DependencyError: CuPy is not installed.
    """
    count = sum(map(len, faces))
    numbers = iter(range(count))
    numbered = [[(next(numbers), paste) for paste in pastes] for pastes in faces]
    ordered = [
        [pastes[i] for i in paste_order([paste.crop_from_frame for _, paste in pastes])]
        for pastes in numbered
    ]
    device = frames[0].device if frames else torch.device("cpu")
    tensors = [t for pastes in faces for p in pastes for t in (p.restored, p.crop, p.mask.values)]
    found = [frame.device for frame in frames] + [t.device for t in tensors if t is not None]
    _check_devices(device, found)
    records = paste_records(frames, ordered, count)
    if not len(records.patches):
        return torch.from_numpy(records.written).to(device)
    run = launch or _cupy(device)
    scratch = torch.empty(records.scratch, dtype=torch.float32, device=device)
    records.moved(scratch.data_ptr())
    on_device, patches, written = _uploaded((records.faces, records.patches, records.written), device)
    if seen := int(records.faces["seen"].max()):
        run("cells", (seen, seen, count), CELL_THREADS, [on_device])
        run("shift", (count, 1, 1), SHIFT_THREADS, [on_device])
    sides = records.patches
    across, down = int(sides["width"].max()), int(sides["height"].max())
    run("levels", (*_tiles(across, down), len(sides)), TILE, [on_device, patches])
    across, down = int((sides["x1"] - sides["x0"]).max()), int((sides["y1"] - sides["y0"]).max())
    if across > 0 and down > 0:
        run("blend", (*_tiles(across, down), len(sides)), TILE, [patches, written])
    return written.view(torch.int32).reshape(count, 4)


def rectangles(written: Tensor) -> list[Rectangle]:
    """What `paste_batch` found, from (faces, 4) on the host: as `paste` returns it."""
    return [Rectangle(*face) if face[2] >= 0 else NOWHERE for face in written.tolist()]


def source() -> str:
    """The kernels' CUDA C++, as one translation unit that needs no header."""
    folder = resources.files("gpenvideo.kernels")
    return "\n".join(folder.joinpath(name).read_text() for name in ("samples.cuh", "crop.cu", "paste.cu"))


def _tiles(width: int, height: int) -> tuple[int, int]:
    return -(-width // TILE[0]), -(-height // TILE[1])


def _check_devices(wanted: torch.device, found: Sequence[torch.device]) -> None:
    for device in found:
        if device != wanted:
            raise OptionError(f"frames and faces lie on one device, got {wanted} and {device}")


def _uploaded(records: Sequence[Any], device: torch.device) -> list[Tensor]:
    """Records on a device, each as its bytes: one copy, from pinned memory and so without waiting."""
    parts = [np.frombuffer(record.tobytes(), dtype=np.uint8) for record in records]
    starts = np.cumsum([0, *(-(-part.size // 16) * 16 for part in parts)]).tolist()
    host = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    for part, start in zip(parts, starts, strict=False):
        host.numpy()[start : start + part.size] = part
    there = host.to(device, non_blocking=True)
    return [there[start : start + part.size] for part, start in zip(parts, starts, strict=False)]


class _Stream(NamedTuple):
    """A stream for CuPy, which asks for one that speaks CUDA's stream protocol; not every torch's does."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


def _cupy(device: torch.device) -> Launch:
    """Runs the kernels on a CUDA device, on the stream that is torch's when they are run."""
    if device.type != "cuda":
        raise OptionError(f"these kernels run on CUDA, not on {device}")
    try:
        import cupy
    except ImportError as error:
        raise DependencyError("CuPy is not installed: pip install 'gpenvideo[cuda]'") from error
    index = torch.cuda.current_device() if device.index is None else device.index

    def launch(kernel: str, blocks: Size, threads: Size, tensors: Sequence[Tensor]) -> None:
        stream = cupy.cuda.Stream.from_external(_Stream(torch.cuda.current_stream(index).cuda_stream))
        with cupy.cuda.Device(index), stream:
            addresses = tuple(np.uint64(tensor.data_ptr()) for tensor in tensors)
            _module(index).get_function(kernel)(blocks, threads, addresses)

    return launch


@cache
def _module(index: int) -> Any:
    """The compiled kernels of the current CUDA device, which is the one of this index."""
    import cupy

    return cupy.RawModule(code=source(), options=OPTIONS)
