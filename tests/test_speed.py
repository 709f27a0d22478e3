"""How fast this machine is: what is told, not how fast it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clips import write_clip

from gpenvideo import load
from gpenvideo.speed import ceiling, network_speeds


@pytest.mark.usefixtures("one_thread")
def test_a_network_is_measured(network: Path) -> None:
    seen = []
    (speed,) = network_speeds(load(network, "cpu", "bf16"), lambda done, of: seen.append((done, of)))
    assert speed.faces == 1
    assert speed.ms > 0
    assert 0 < speed.share < 1.5
    assert 25 < speed.psnr_db < 100
    assert seen == [(1, 1)]
    (exact,) = network_speeds(load(network, "cpu", "fp32"))
    assert exact.psnr_db == float("inf")


def test_the_ceiling_counts_what_it_does() -> None:
    run, operations = ceiling(torch.device("cpu"), torch.float32)
    y = run()
    assert isinstance(y, torch.Tensor)
    assert operations == 2 * 9 * 256 * y.numel()


@pytest.mark.usefixtures("one_thread")
def test_the_command(said: Callable[..., tuple[int, str, str]], network: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", size=(64, 48), frames=5)
    code, out, _ = said("bench", clip, "--weights", network, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["speeds"][0]["ms"] > 0
    assert facts["detector_ms"] > 0
    assert facts["video"]["frames"] == 5
    assert {"decode", "encode", "detect"} <= set(facts["video"]["stages_ms"])
    code, out, err = said("bench", "--weights", network)
    assert code == 0
    assert "ms a face" in out
    assert "64 px" in err
    code, _, err = said("bench", "--weights", tmp_path / "none.pth")
    assert code == 2
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [clip]
