"""A small unpickler for weight files that torch's own safe one does not read: pickle protocols 3 to 5.

`torch.load(weights_only=True)` reads protocol 2. Files written with later protocols exist (a legacy fp16
file with protocol 4, for one), so they are read here, by the standard library's unpickler with an allow-list
as narrow: tensors, their storages, ordered dictionaries and `argparse.Namespace`. No name outside the list
is ever looked up, so nothing a file says can run. The constructors on the list are ours, not torch's.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

__all__ = ["load", "protocol"]

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a legacy file; a fact of the format
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _StorageType(NamedTuple):
    dtype: torch.dtype


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset)  # torch checks the bounds


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("argparse", "Namespace"): argparse.Namespace,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storage: Callable[[torch.dtype, str, int], Tensor]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed") from None

    def persistent_load(self, pid: Any) -> Tensor:
        kind, storage_type, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(storage_type, _StorageType) or int(count) < 0:
            raise pickle.UnpicklingError("it refers to something that is no tensor storage")
        return self._storage(storage_type.dtype, str(key), int(count))


def protocol(path: Path) -> int:
    """The pickle protocol a .pth file was written with, zip or legacy; 2 is torch's own."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, archive.open(_pickle_name(archive)) as file:
            head = file.read(2)
    else:
        with path.open("rb") as file:
            head = file.read(2)
    return head[1] if len(head) == 2 and head[0] == 0x80 else 0


def load(path: Path) -> Any:
    """The object in a zip or legacy .pth file of any protocol; tensors on the CPU.

    Raises pickle.UnpicklingError for whatever is not on the allow-list, and EOFError, KeyError, RuntimeError
    or ValueError for damaged files.
    """
    return _load_zip(path) if zipfile.is_zipfile(path) else _load_legacy(path)


def _pickle_name(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError("the archive holds no data.pkl")
    return names[0]


def _load_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        name = _pickle_name(archive)
        root = name.removesuffix("data.pkl")
        storages: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in storages:
                data = bytearray(archive.read(f"{root}data/{key}"))
                storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            return storages[key]

        with archive.open(name) as file:
            return _Unpickler(file, storage).load()  # type: ignore[arg-type]


def _load_legacy(path: Path) -> Any:
    if sys.byteorder != "little":
        raise ValueError("legacy files are read on little-endian machines only")
    size = path.stat().st_size
    storages: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if count * dtype.itemsize > size:
            raise EOFError("a tensor is larger than the file")
        return storages.setdefault(key, torch.empty(count, dtype=dtype))

    with path.open("rb") as file:
        magic, _, _ = (_Unpickler(file, storage).load() for _ in range(3))
        if magic != MAGIC:
            raise ValueError("it is no torch file")
        loaded = _Unpickler(file, storage).load()
        for key in _Unpickler(file, storage).load():
            target = storages[str(key)]
            if int.from_bytes(file.read(8), "little") != target.numel():
                raise ValueError("a tensor's length is not what its header says")
            if target.numel() and file.readinto(target.view(torch.uint8).numpy().data) != target.nbytes:
                raise EOFError("the file ends inside a tensor")
    return loaded
