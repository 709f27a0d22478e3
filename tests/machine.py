"""The kernels' CUDA sources on this processor: compiled as C++ through a shim, launched as on a device."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from gpenvideo.kernels.cuda import Size, source

HERE = Path(__file__).parent


class Machine:
    """A `gpenvideo.kernels.cuda.Launch` that runs on the CPU.

    Args:
        compiler: of C++17.
        folder: where it works.
    """

    def __init__(self, compiler: str, folder: Path) -> None:
        program, library = folder / "all.cpp", folder / "kernels.so"
        program.write_text(
            (HERE / "host.h").read_text() + "\n" + source() + "\n" + (HERE / "kernels.cpp").read_text()
        )
        command = [compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
        run = subprocess.run(
            [*command, "-shared", "-fPIC", "-o", str(library), str(program)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        self._library = ctypes.CDLL(str(library))
        self._library.size_of.restype = ctypes.c_longlong

    def __call__(self, kernel: str, blocks: Size, threads: Size, tensors: Sequence[Tensor]) -> None:
        addresses = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        self._library.launch(
            kernel.encode(), (ctypes.c_uint * 3)(*blocks), (ctypes.c_uint * 3)(*threads), addresses
        )

    def size_of(self, record: str) -> int:
        return int(self._library.size_of(record.encode()))
