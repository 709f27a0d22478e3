"""A network on CUDA, recorded as graphs: one launch a batch instead of some two hundred."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Graphs"]


class Graphs:
    """A network recorded once for each batch size, at its first use.

    Recorded by hand rather than by the compiler, so that the input is a place known beforehand, which whoever
    cuts the crops can write to, and so that a network that is not compiled has graphs too. All sizes read
    from the start of one `input` and share one pool of memory: they never run at once, and the output of a
    call is overwritten by the next.

    Args:
        network: (n, 3, S, S) -> (n, 3, S', S'), the same operations every time.
        shape: of the largest batch.
        dtype, device: of `input`.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.input = torch.zeros(shape, dtype=dtype, device=device).contiguous(
            memory_format=torch.channels_last
        )
        self._network = network
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def __call__(self, size: int) -> Tensor:
        """Run the first `size` pictures of `input`, on the current stream."""
        if size not in self._recorded:
            self._recorded[size] = self._record(size)
        graph, output = self._recorded[size]
        graph.replay()
        return output

    def _record(self, size: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        x = self.input[:size]
        pool = next((graph.pool() for graph, _ in self._recorded.values()), None)
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(x.device),
            torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
        ):
            for _ in range(2):  # compiles kernels and chooses algorithms, which a recording cannot
                self._network(x)
            # other threads may use the device meanwhile
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                output = self._network(x)
        return graph, output
