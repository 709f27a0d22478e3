"""The C library's memory, set up for networks on a CPU."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # <malloc.h>


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next layer instead of handing it back to the system.

    A layer's output is some tens of megabytes; returned to the kernel after each layer, it comes back page
    by page, which at 512 px takes longer than the convolutions. The setting is the whole process's. Elsewhere
    than on glibc nothing is done.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
