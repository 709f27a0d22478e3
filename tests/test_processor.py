"""Processors: how many threads compute what."""

from __future__ import annotations

import torch

from gpenvideo.processor import side_by_side


def test_threads_side_by_side_have_one_thread_each() -> None:
    before = torch.get_num_threads()
    workers = side_by_side(2)

    def threads_used(_: int) -> int:
        torch.rand(1 << 18).exp_()  # work that torch would share among threads
        return torch.get_num_threads()

    assert list(workers.map(threads_used, range(8))) == [1] * 8
    assert torch.get_num_threads() == before
    workers.shutdown()
