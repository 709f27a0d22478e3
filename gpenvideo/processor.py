"""Processors: which device computes, in which precision, with which threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

from gpenvideo.errors import DeviceError, OptionError

__all__ = ["DTYPES", "automatic_dtype", "find_device", "find_dtype", "side_by_side"]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one. OptionError, DeviceError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"{name!r} is no device: say auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise DeviceError(
            f"{name} was asked for, but this machine has {found} CUDA devices; say --device cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"{name!r} is no device gpenvideo runs on: say auto, cpu or cuda")
    return device


def side_by_side(n: int) -> ThreadPoolExecutor:
    """Threads that compute with one thread of torch's each; all others keep as many as they have."""
    threads, together = torch.get_num_threads(), Barrier(n)

    def alone() -> None:
        torch.set_num_threads(1)
        torch.zeros(1 << 16).add_(1)  # a thread takes the number for good with its first parallel work

    workers = ThreadPoolExecutor(n, "restorer", initializer=alone)
    list(workers.map(lambda _: together.wait(), range(n)))  # all have begun
    torch.set_num_threads(threads)  # what the last of them said would hold for threads to come
    return workers


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of a name; "auto": fp16 on CUDA, bf16 on a CPU that has it, else fp32. OptionError."""
    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if _cpu_computes_bf16() else torch.float32
    try:
        return DTYPES[name]
    except KeyError:
        raise OptionError(f"{name!r} is no precision: say auto, {', '.join(DTYPES)}") from None


def automatic_dtype(device: str) -> str:
    """The precision that "auto" means on `device`: "fp32", "fp16" or "bf16"."""
    chosen = find_dtype("auto", torch.device(device))
    return next(name for name, dtype in DTYPES.items() if dtype == chosen)


def _cpu_computes_bf16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # before torch 2.12
