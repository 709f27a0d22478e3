"""Foreign networks: face restorers and super-resolution networks that are no GPEN, built by spandrel.

Their files are as untrusted as ours and come through the same door, `gpen.checkpoint.read_state`: spandrel is
given tensors, never a file. GFPGAN and RestoreFormer are in `gpenvideo[models]`, CodeFormer, whose licence
(S-Lab 1.0) allows non-commercial use only, is in `gpenvideo[codeformer]`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpenvideo.errors import CheckpointError, DependencyError, DeviceError, OptionError
from gpenvideo.faces.alignment import template as template_of
from gpenvideo.gpen.checkpoint import read_state
from gpenvideo.processor import DTYPES, find_device, find_dtype

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

__all__ = ["ForeignRestorer", "SuperResolution", "facts_of", "read_network"]

Forward = Callable[["ImageModelDescriptor[Any]", Tensor], Tensor]

OURS = ("generator.input.input", "synthesis.constant", "ecd0.0.0.weight")  # names that only a GPEN has
PREFIXES = ("module.", "netG.")  # of training on several devices, and of BasicSR's
CODEFORMER = "idx_pred_layer.1.weight"
FACE_SIZE_PX = 512  # of all that spandrel knows
SELF_CHECK_DB = 35.0  # see `gpenvideo.restorer`


def _gfpgan(network: ImageModelDescriptor[Any], faces: Tensor) -> Tensor:
    """With the noise that is stored in it: each call of the network itself draws another."""
    made: Tensor = network.model(faces, return_rgb=False, randomize_noise=False)[0]
    return made


def _first(network: ImageModelDescriptor[Any], faces: Tensor) -> Tensor:
    made: Tensor = network.model(faces)[0]
    return made


def _tiles(network: ImageModelDescriptor[Any], tiles: Tensor) -> Tensor:
    made: Tensor = network(tiles)
    return made


# Their networks take and give RGB in [-1, 1]; spandrel's own calls of GFPGAN and CodeFormer do not say so.
FACES: dict[str, Forward] = {"GFPGAN": _gfpgan, "RestoreFormer": _first, "CodeFormer": _first}


def read_network(
    path: str | PathLike[str], refused: CheckpointError | None = None
) -> ImageModelDescriptor[Any]:
    """The network in a file that is no GPEN, float32 on the CPU.

    Args:
        path: a .pth or .safetensors file.
        refused: what the reader of GPEN checkpoints said of it.

    Raises:
        FileError, CheckpointError: it cannot be read, or nobody knows the network. DependencyError: it is
        not known whether somebody does, without spandrel.
    """
    try:
        state = read_state(path)
    except CheckpointError as error:
        raise refused or error from None
    if any(name in state for name in OURS):
        raise refused or CheckpointError(
            "it is a GPEN, which restores faces: name it as --weights", path=path
        )
    loader, unsupported = _loader(state, path)
    found = refused.message if refused else "it holds no network for --background"
    try:
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        wrong = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
        if wrong:
            raise CheckpointError(f"{wrong[0]} holds NaN or infinite weights; download it again", path=path)
        network: ImageModelDescriptor[Any] = loader.load_from_state_dict(state)
    except CheckpointError:
        raise
    except unsupported as error:
        raise CheckpointError(f"{found}; spandrel does not know it either", path=path) from error
    except Exception as error:  # whatever its reader meets in tensors of other shapes than it supposes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{found}; spandrel cannot build it ({reason})", path=path) from error
    if network.purpose == "Inpainting" or (network.input_channels, network.output_channels) != (3, 3):
        raise CheckpointError(f"{network.architecture.name} is no network of RGB to RGB", path=path)
    network.model.eval().requires_grad_(False)
    return network


def _loader(state: Mapping[str, Tensor], path: str | PathLike[str]) -> tuple[Any, type[Exception]]:
    """Spandrel's loader, with the further architectures where they are installed."""
    try:
        import spandrel
    except ImportError as error:
        line = "it holds no GPEN; GFPGAN and others need spandrel: pip install 'gpenvideo[models]'"
        raise DependencyError(line, path=path) from error
    registry = spandrel.MAIN_REGISTRY.copy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch, about torch.jit
            import spandrel_extra_arches

        registry.add(*spandrel_extra_arches.EXTRA_REGISTRY, ignore_duplicates=True)
    except ImportError as error:
        if CODEFORMER in state:
            line = (
                "it is a CodeFormer, for non-commercial use only: "
                "pip install 'gpenvideo[codeformer]' to restore with it"
            )
            raise DependencyError(line, path=path) from error
    return spandrel.ModelLoader(registry=registry), spandrel.UnsupportedModelError


def facts_of(network: ImageModelDescriptor[Any]) -> dict[str, Any]:
    """What is to be told of a network, as plain values."""
    facts = {
        "layout": network.architecture.name,
        "purpose": {"FaceSR": "faces", "SR": "super-resolution"}.get(network.purpose, network.purpose),
        "scale": network.scale,
        "parameters": sum(parameter.numel() for parameter in network.model.parameters()),
        "tags": ", ".join(network.tags),
    }
    return {name: value for name, value in facts.items() if value != ""}


class _Runner:
    """A network on a device, at the precision it does well there.

    Reduced precision is checked against float32 on one picture, and given up with a warning when it fails;
    what comes out not finite is done again in float32.
    """

    def __init__(
        self, network: ImageModelDescriptor[Any], forward: Forward, device: str, dtype: str, check_px: int
    ) -> None:
        self._network, self._forward = network, forward
        self.device = find_device(device)
        self.dtype = self._supported(dtype)
        self._exact: ImageModelDescriptor[Any] | None = None
        self._fast = self._placed(self.dtype)
        if self.dtype != torch.float32 and not self._agrees(check_px):
            self.dtype = torch.float32
            self._fast = self._placed(torch.float32)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) of any device -> float32 on `device`."""
        with torch.inference_mode():
            made = self._run(self._fast, pixels, self.dtype)
            if self.dtype != torch.float32 and not bool(torch.isfinite(made).all()):
                made = self._run(self._precise, pixels, torch.float32)
        return made

    @property
    def _precise(self) -> ImageModelDescriptor[Any]:
        self._exact = self._exact or self._placed(torch.float32)
        return self._exact

    def _run(self, network: ImageModelDescriptor[Any], pixels: Tensor, dtype: torch.dtype) -> Tensor:
        return self._forward(network, pixels.to(self.device, dtype).contiguous()).float()

    def _supported(self, name: str) -> torch.dtype:
        """A network says itself what it can be reduced to; on a CPU only what is asked for is."""
        if name == "auto":
            half = self.device.type == "cuda" and self._network.supports_half
            return torch.float16 if half else torch.float32
        dtype = find_dtype(name, self.device)
        can = {torch.float16: self._network.supports_half, torch.bfloat16: self._network.supports_bfloat16}
        if not can.get(dtype, True):
            warnings.warn(
                f"{self._network.architecture.name} does not do {name}: float32 it is",
                RuntimeWarning,
                stacklevel=4,
            )
            return torch.float32
        return dtype

    def _placed(self, dtype: torch.dtype) -> ImageModelDescriptor[Any]:
        """A copy, unless the network itself is what is wanted."""
        if dtype == torch.float32 and self.device.type == "cpu":
            return self._network
        return copy.deepcopy(self._network).to(self.device, dtype)

    def _agrees(self, check_px: int) -> bool:
        axis = torch.linspace(-1, 1, check_px)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        waves = [torch.sin(3 * x + y), torch.cos(5 * y - 2 * x), torch.sin(8 * x * y + 1)]
        picture = 0.5 + 0.4 * torch.stack(waves)[None]
        try:
            with torch.inference_mode():
                exact = self._run(self._precise, picture, torch.float32)
                reduced = self._run(self._fast, picture, self.dtype)
        except RuntimeError as error:  # an operation that there is not in this precision
            told = f"cannot be computed ({str(error).splitlines()[0]})"
        else:
            span = (exact.amax() - exact.amin()).clamp_min(1e-6)
            noise = float((exact - reduced).square().mean().sqrt() / span)
            agreement_db = -20 * np.log10(max(noise, 1e-9)) if np.isfinite(noise) else -np.inf
            if agreement_db >= SELF_CHECK_DB:
                return True
            told = f"agrees with float32 to {agreement_db:.0f} dB only"
        warnings.warn(
            f"{self._network.architecture.name} in {self.dtype} on {self.device} {told}: float32 it is",
            RuntimeWarning,
            stacklevel=4,
        )
        return False


class ForeignRestorer:
    """A face restorer that is no GPEN, ready to run: GFPGAN, RestoreFormer or CodeFormer.

    They take and give 512 px. A CPU takes faces one by one, so that what becomes of a face does not depend on
    its company.

    Args:
        network: what `read_network` gives; it is not changed.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        dtype: "auto" (fp16 on CUDA where the network does that, else fp32), "fp32", "fp16" or "bf16".
        template: the alignment of its faces; all were trained on that of FFHQ.
        max_batch: the most faces a run of the network.

    Raises:
        OptionError: a network that restores no faces. DeviceError: a device that there is not.
    """

    def __init__(
        self,
        network: ImageModelDescriptor[Any],
        *,
        device: str = "auto",
        dtype: str = "auto",
        template: str = "ffhq",
        max_batch: int = 8,
    ) -> None:
        self.name = network.architecture.name
        if network.architecture.id not in FACES:
            what = f"{self.name} restores no aligned faces"
            if network.purpose == "SR":
                raise OptionError(
                    f"{what}, it makes pictures larger: name it as --background, with --upscale"
                )
            raise OptionError(f"{what}: name a GPEN, GFPGAN, RestoreFormer or CodeFormer")
        if max_batch < 1:
            raise OptionError(f"max_batch is 1 or more, got {max_batch}")
        alignment = cast(Literal["gpen", "ffhq"], template)
        self.template: NDArray[np.float64] = template_of(alignment, FACE_SIZE_PX)
        """(5, 2) float64: where the landmarks of an aligned crop lie, px."""
        self.max_batch = max_batch
        self._run = _Runner(network, FACES[network.architecture.id], device, dtype, FACE_SIZE_PX)

    @property
    def size_px(self) -> int:
        """Side of the crops the network takes, and of the faces it gives."""
        return FACE_SIZE_PX

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._run.device

    @property
    def dtype(self) -> torch.dtype:
        """In what precision."""
        return self._run.dtype

    def __repr__(self) -> str:
        precision = {dtype: name for name, dtype in DTYPES.items()}[self.dtype]
        return (
            f"ForeignRestorer({self.name}, {FACE_SIZE_PX} px, {precision} on {self.device}, "
            f"batches to {self.max_batch})"
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Restore aligned faces.

        Args:
            pixels: (N, 3, 512, 512) floating-point RGB in [-1, 1], any device.

        Returns:
            (N, 3, 512, 512) float32 RGB in [-1, 1] on the device of `pixels`.

        Raises:
            OptionError: another shape or dtype. DeviceError: no memory for one face.
        """
        if pixels.shape[1:] != (3, FACE_SIZE_PX, FACE_SIZE_PX) or not pixels.is_floating_point():
            raise OptionError(
                f"aligned faces are (N, 3, {FACE_SIZE_PX}, {FACE_SIZE_PX}) floating point, "
                f"got {tuple(pixels.shape)} {pixels.dtype}"
            )
        done = [torch.empty(0, *pixels.shape[1:], device=pixels.device)]
        start = 0
        while start < len(pixels):
            size = 1 if self.device.type == "cpu" else self.max_batch
            chunk = pixels[start : start + size]
            try:
                done.append(self._run(chunk).clamp(-1.0, 1.0).to(pixels.device))
            except torch.OutOfMemoryError as error:
                self._take_fewer(len(chunk), error)
                continue
            start += len(chunk)
        return torch.cat(done)

    def warm_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Run it once, so that later calls meet a network that is in memory."""
        self(torch.zeros(1, 3, FACE_SIZE_PX, FACE_SIZE_PX))
        if progress:
            progress(1, 1)

    def _take_fewer(self, n: int, error: torch.OutOfMemoryError) -> None:
        if n == 1:
            raise DeviceError(
                f"{self.device} has too little free memory for one face of {self.name}: "
                "close what else uses it, or say --device cpu"
            ) from error
        self.max_batch = n // 2
        warnings.warn(
            f"{self.device} has too little free memory for {n} faces at once: {self.max_batch} it is",
            RuntimeWarning,
            stacklevel=3,
        )
        torch.cuda.empty_cache()


class SuperResolution:
    """A super-resolution network ready to run on the tiles of a picture.

    Args:
        network: what `read_network` gives; it is not changed.
        device, dtype: as of a `ForeignRestorer`.

    Raises:
        OptionError: a network of faces, or one that makes nothing larger. DeviceError: no such device.
    """

    def __init__(
        self, network: ImageModelDescriptor[Any], *, device: str = "auto", dtype: str = "auto"
    ) -> None:
        self.name, self.scale = network.architecture.name, int(network.scale)
        """How many times the size of its tiles its pictures have."""
        if network.purpose == "FaceSR":
            raise OptionError(f"{self.name} restores faces, no background: name it as --weights")
        if self.scale < 2:
            raise OptionError(f"{self.name} makes no picture larger: name a super-resolution network")
        self._needs = network.size_requirements
        self._run = _Runner(network, _tiles, device, dtype, self.side_px(64))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._run.device

    def __repr__(self) -> str:
        precision = {dtype: name for name, dtype in DTYPES.items()}[self._run.dtype]
        return f"{self.name}, {self.scale}x, {precision} on {self.device}"

    def side_px(self, least_px: int) -> int:
        """The least side of square tiles, `least_px` or more, that it takes as they are."""
        step = self._needs.multiple_of
        return int(-(-max(least_px, self._needs.minimum) // step) * step)

    def __call__(self, tiles: Tensor) -> Tensor:
        """(N, 3, T, T) RGB in [0, 1] -> (N, 3, scale T, scale T) float32, same range and device.

        DeviceError: no memory for them.
        """
        try:
            return self._run(tiles).clamp(0.0, 1.0).to(tiles.device)
        except torch.OutOfMemoryError as error:
            if len(tiles) > 1:
                return torch.cat([self(tile) for tile in tiles[:, None]])
            raise DeviceError(
                f"{self.device} has too little free memory for a tile of {self.name}: "
                "close what else uses it, or say --device cpu"
            ) from error
