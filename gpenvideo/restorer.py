"""Restorers: batches of aligned faces in, restored faces out, at the precision the machine does best."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpenvideo import weights
from gpenvideo.errors import DeviceError, FileMissing, OptionError
from gpenvideo.faces import alignment
from gpenvideo.gpen import GPEN, checkpoint
from gpenvideo.gpen.fused import FusedGPEN, has_kernels
from gpenvideo.gpen.generator import for_inference
from gpenvideo.gpen.graphs import Graphs
from gpenvideo.gpen.memory import keep_freed_memory
from gpenvideo.gpen.onednn import OneDnnGPEN, has_post_operations
from gpenvideo.processor import DTYPES, find_device, find_dtype, side_by_side

__all__ = [
    "GPENRestorer",
    "Restorer",
    "buckets",
    "default_file",
    "is_suspect",
    "load",
]

SELF_CHECK_DB = 35.0  # bf16 gives 45 to 60 dB on trained and random networks; broken kernels give 10 or less


class Restorer(Protocol):
    """What restores aligned faces.

    `size_px` is the side of the crops it takes, `template` (5, 2) where it wants their landmarks in them, px,
    and `max_batch` the most it takes through its network at once (a call may bring more).
    """

    @property
    def size_px(self) -> int: ...

    @property
    def template(self) -> NDArray[np.float64]: ...

    @property
    def max_batch(self) -> int: ...

    def __call__(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in [-1, 1] -> (N, 3, S', S') float32, same range and device."""


class GPENRestorer:
    """A GPEN network ready to run.

    On CUDA batches are padded to a few fixed sizes, so that a compiled network meets no new shapes; each size
    is recorded as a graph (`gpen.graphs`) at its first use, of the fused network (`gpen.fused`) where Triton
    is installed. A CPU takes faces one by one: more at once gain nothing there, and what becomes of a face
    does not depend on its company; the network runs through oneDNN's fused operations (`gpen.onednn`) where
    they are. Reduced precision is checked against float32 on one picture at the start, and given up with a
    warning when it fails; a face that comes out flat, saturated or not finite is done again in float32. A
    batch that the device's memory does not hold is halved, with a warning, and nothing is left out.

    Args:
        model: a loaded network; it is copied, not changed.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        dtype: "auto" (fp16 on CUDA, bf16 on a CPU that computes it, else fp32), "fp32", "fp16" or "bf16".
        compile: run through torch.compile; the first call of each batch size then takes a while.
        max_batch: the most faces a run of the network; a power of two.

    Raises:
        DeviceError: a device this machine does not have.
        OptionError: another dtype or max_batch.
    """

    def __init__(
        self,
        model: GPEN,
        *,
        device: str = "auto",
        dtype: str = "auto",
        compile: bool = False,
        max_batch: int = 8,
    ) -> None:
        if max_batch < 1 or max_batch & (max_batch - 1):
            raise OptionError(f"max_batch must be a power of two, got {max_batch}")
        self.config = model.config
        self.device = find_device(device)
        self.dtype = find_dtype(dtype, self.device)
        self.max_batch = max_batch
        self.model = model
        """As it was given; do not change it."""
        self._exact: GPEN | None = None
        if self.device.type == "cpu":
            keep_freed_memory()
        self._network = self._fast(self.dtype)
        if self.dtype != torch.float32 and not self._agrees_with_float32():
            self.dtype = torch.float32
            self._network = self._fast(torch.float32)
        self._run: Callable[[Tensor], Tensor] = self._network
        self._workers: ThreadPoolExecutor | None = None
        self._compiled = compile
        if compile:
            on_cpu = self.device.type == "cpu"
            self._run = _compiled(self._plain(self.dtype) if on_cpu else self._network, self.device)
        self._graphs = self._recorder()

    @property
    def size_px(self) -> int:
        """Side of the crops the network takes."""
        return self.config.input_size_px

    @property
    def output_size_px(self) -> int:
        """Side of the faces it gives."""
        return self.config.output_size_px

    @property
    def template(self) -> NDArray[np.float64]:
        """(5, 2) float64: where the landmarks of an aligned crop lie, px."""
        return alignment.template(cast(Literal["gpen", "ffhq"], self.config.template), self.size_px)

    def __repr__(self) -> str:
        names = {dtype: name for name, dtype in DTYPES.items()}
        return (
            f"GPENRestorer({self.size_px} px to {self.output_size_px} px, "
            f"{names[self.dtype]} on {self.device}, {self.config.layout} layout, batches to {self.max_batch})"
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Restore aligned faces.

        Args:
            pixels: (N, 3, S, S) floating-point RGB in [-1, 1], any device; S is `size_px`.

        Returns:
            (N, 3, S', S') float32 RGB in [-1, 1] on the device of `pixels`; S' is `output_size_px`.

        Raises:
            OptionError: another shape or dtype.
        """
        expected = (3, self.size_px, self.size_px)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected or not pixels.is_floating_point():
            raise OptionError(
                f"aligned faces are (N, 3, {self.size_px}, {self.size_px}) floating point, "
                f"got {tuple(pixels.shape)} {pixels.dtype}"
            )
        home = pixels.device
        if not len(pixels):
            return torch.empty(0, 3, self.output_size_px, self.output_size_px, device=home)
        done: list[Tensor] = []
        start = 0
        with torch.inference_mode():
            while start < len(pixels):
                chunk = pixels[start : start + self._at_once]
                restored = self._attempted(chunk)
                if restored is None:
                    self._take_fewer(min(len(chunk), self.max_batch))
                    continue
                done.append(restored.to(home))
                start += len(chunk)
        return torch.cat(done) if len(done) > 1 else done[0]

    def bucket(self, n: int) -> Tensor:
        """Where the next `n` faces (at most `max_batch`) may be written: (n, 3, S, S), channels_last.

        On CUDA it is the network's own input, in its dtype, always at the same place: given to the restorer,
        it is not copied. What it holds is lost with the next call.
        """
        if self._graphs is not None:
            return self._graphs.input[:n]
        shape = (n, 3, self.size_px, self.size_px)
        return torch.empty(shape, device=self.device, memory_format=torch.channels_last)

    @property
    def starts_slowly(self) -> bool:
        """Whether the first call of a batch size takes much longer than later ones: compiled, or recorded."""
        return self._compiled or self._graphs is not None

    def warm_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Run every batch size once, so that later calls meet a network that is compiled and in memory.

        The largest comes first: the smaller ones then fit into its memory.
        """
        sizes = self._sizes[::-1]
        picture = _test_picture(self.size_px)
        for index, size in enumerate(sizes):
            self(picture.expand(size, -1, -1, -1))
            if progress:
                progress(index + 1, len(sizes))

    def _attempted(self, chunk: Tensor) -> Tensor | None:
        """One run of the network; None where the device's memory does not hold so many."""
        try:
            y = self._one_by_one(chunk) if self._graphs is None else self._recorded(self._graphs, chunk)
            if self.dtype != torch.float32 and is_suspect(y):
                pairs = zip(y.split(1), chunk.to(self.device, torch.float32).split(1), strict=True)  # type: ignore[no-untyped-call]
                y = torch.cat([self._exactly(x) if is_suspect(face) else face for face, x in pairs])
            return y.clamp(-1.0, 1.0)
        except torch.OutOfMemoryError as error:
            if len(chunk) > 1:
                return None
            raise DeviceError(
                f"{self.device} has too little free memory for one face of {self.output_size_px} px: "
                "close what else uses it, or say --device cpu"
            ) from error

    def _take_fewer(self, n: int) -> None:
        """Halve the batch that did not fit, from here on."""
        size = self._bucket_size(n)
        self.max_batch = size // 2
        warnings.warn(
            f"{self.device} has too little free memory for {size} faces at once: {self.max_batch} it is",
            RuntimeWarning,
            stacklevel=3,
        )
        self._graphs = None  # what it holds is freed before anything new is asked for
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._graphs = self._recorder()

    @property
    def _at_once(self) -> int:
        """Faces of a run. On a CPU they go side by side: one that is left over would have to share itself."""
        alone = self.device.type != "cpu" or self.max_batch == 1
        return self.max_batch if alone else 2 * self.max_batch

    @property
    def _sizes(self) -> list[int]:
        """Of the batches that the network is given."""
        return [1] if self.device.type == "cpu" else buckets(self.max_batch)

    def _bucket_size(self, n: int) -> int:
        return min(size for size in buckets(self.max_batch) if size >= n)

    def _one_by_one(self, chunk: Tensor) -> Tensor:
        """Faces on a CPU: several side by side, a thread each, which is quicker than threads for one face."""
        x = chunk.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)
        faces = [x[index : index + 1] for index in range(len(x))]
        if len(faces) == 1:
            return self._run(faces[0])
        if self._compiled or torch.get_num_threads() == 1:
            return torch.cat([self._run(face) for face in faces])
        if self._workers is None:
            self._workers = side_by_side(torch.get_num_threads())
        return torch.cat(list(self._workers.map(self._alone, faces)))

    def _alone(self, face: Tensor) -> Tensor:
        with torch.inference_mode():  # which holds for one thread
            return self._run(face)

    def _recorded(self, graphs: Graphs, chunk: Tensor) -> Tensor:
        n = len(chunk)
        x = graphs.input[:n]
        if (chunk.data_ptr(), chunk.stride(), chunk.dtype) != (x.data_ptr(), x.stride(), x.dtype):
            x.copy_(chunk)
        return graphs(self._bucket_size(n))[:n]  # what lies behind the n-th is of no account

    def _recorder(self) -> Graphs | None:
        if self.device.type != "cuda":
            return None
        shape = (self.max_batch, 3, self.size_px, self.size_px)
        with torch.inference_mode(False):  # others write to its input
            return Graphs(self._run, shape, self.dtype, self.device)

    def _exactly(self, x: Tensor) -> Tensor:
        if self._exact is None:
            self._exact = self._plain(torch.float32)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            y: Tensor = self._exact(x)
        return y

    def _plain(self, dtype: torch.dtype) -> GPEN:
        return for_inference(self.model, dtype).to(self.device)

    def _fast(self, dtype: torch.dtype) -> nn.Module:
        if self.device.type == "cpu" and has_post_operations(dtype):
            return OneDnnGPEN(self._plain(torch.float32), dtype)
        plain = self._plain(dtype)
        return plain if self.device.type == "cpu" or not has_kernels() else FusedGPEN(plain)

    def _agrees_with_float32(self) -> bool:
        """Does the network restore one picture as it does in float32? Warns if not."""
        x = _test_picture(self.size_px).to(self.device)
        with torch.inference_mode():
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                exact = self._plain(torch.float32)(x)
            reduced = self._network(x)
        span = (exact.amax() - exact.amin()).clamp_min(1e-6)
        noise = (exact - reduced).square().mean().sqrt() / span
        agreement_db = -20 * torch.log10(noise.clamp_min(1e-9)).item() if torch.isfinite(noise) else -np.inf
        if agreement_db >= SELF_CHECK_DB:
            return True
        warnings.warn(
            f"{self.dtype} on {self.device} agrees with float32 to {agreement_db:.0f} dB only: float32 it is",
            RuntimeWarning,
            stacklevel=3,
        )
        return False


def load(
    path: str | PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    *,
    template: str | None = None,
    compile: bool = False,
    max_batch: int = 8,
) -> GPENRestorer:
    """A restorer from a checkpoint: a path, a name of the manifest, or None for the default weights.

    `template` ("gpen" or "ffhq") is the alignment it was trained on. None takes the v2 checkpoint's own, a
    published one's manifest entry's (by file name), else "gpen".

    Raises FileError, CheckpointError, DeviceError, OptionError: see `checkpoint.load` and `GPENRestorer`.
    """
    file = weights.find(path) if path is not None else default_file()
    model = checkpoint.load(file)
    if template is None and model.config.layout == "gpen":
        entries = [entry for entry in weights.read_manifest().values() if entry.file == file.name]
        template = entries[0].template if entries else None
    if template is not None:
        try:
            model.config = replace(model.config, template=template)
        except ValueError as error:
            raise OptionError(str(error)) from error
    return GPENRestorer(model, device=device, dtype=dtype, compile=compile, max_batch=max_batch)


def default_file() -> Path:
    """The weights that None means. FileMissing: this version ships none."""
    for entry in weights.read_manifest().values():
        if entry.shipped and entry.kind == "restorer":
            return weights.find(entry.name)
    raise FileMissing(
        "no default restorer ships with this version: name a checkpoint, see `gpenvideo weights list`"
    )


def buckets(max_batch: int) -> list[int]:
    """The batch sizes a network is run at: 1, 2, 4, ..., `max_batch`."""
    return [1 << i for i in range(max_batch.bit_length())]


def is_suspect(y: Tensor) -> bool:
    """Does a batch (N, 3, S, S) look like overflow: not finite, flat, or nearly all beyond the range?"""
    low, high = torch.aminmax(y)  # one pass over all; where anything is not a number, so are they
    sample = y[..., ::4, ::4].float().flatten(1)
    varied = sample.std(dim=1).amin() > 1e-3
    within = (sample.abs() <= 1.0).float().mean(dim=1).amin() > 0.1
    return not bool(torch.isfinite(low) & torch.isfinite(high) & varied & within)


def _test_picture(size_px: int) -> Tensor:
    """A smooth, colourful (1, 3, S, S) picture in [-1, 1], the same on every machine."""
    axis = torch.linspace(-1, 1, size_px)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    waves = [torch.sin(3 * x + y), torch.cos(5 * y - 2 * x), torch.sin(8 * x * y + 1)]
    return 0.8 * torch.stack(waves)[None]


def _compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    if device.type == "cpu":  # freezing packs the weights once, which else happens on every call
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            raise DeviceError("compiling for a CPU needs a C++ compiler: install g++, or leave compile out")
        return torch.compile(network, fullgraph=True, dynamic=False, options={"freezing": True})
    return torch.compile(network, fullgraph=True, dynamic=False)
