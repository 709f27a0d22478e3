"""What every test may ask for: the shared data of the workshop, the tools and the devices of the machine."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' shared data (golden vectors, photographs, clips) beside the checkout, or a skip."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "gpen").is_dir():
        pytest.skip("the developers' shared data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def ffprobe() -> str:
    """The path of ffprobe; a missing tool is a skip, or a failure where GPENVIDEO_REQUIRE_TOOLS=1."""
    return _tool("ffprobe", "ffmpeg")


@pytest.fixture(scope="session")
def cxx() -> str:
    """The C++ compiler that torch.compile needs on a CPU; treated as `ffprobe` is."""
    return _tool(os.environ.get("CXX", "g++"), "g++")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Debian's Chromium; treated as `ffprobe` is."""
    return _tool("chromium", "chromium")


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is not installed (Debian package {package})"
        if os.environ.get("GPENVIDEO_REQUIRE_TOOLS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="session")
def machine(cxx: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The CUDA kernels, as C++ on this processor."""
    from machine import Machine

    return Machine(cxx, tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch: tiny networks are slower with more, many times so on a machine that is busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _random_state_does_not_leak() -> Iterator[None]:
    """Each test starts from the same random state and leaves the one it found."""
    import torch

    python, numpy, state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(state)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with random weights: its pictures mean nothing, its plumbing is real."""
    import torch

    from gpenvideo.gpen import GPEN, GPENConfig, checkpoint

    torch.manual_seed(0)
    model = GPEN(GPENConfig(64, 64, (8, 8, 8, 8, 8), style_dim=16, mapping_layers=2))
    file = tmp_path_factory.mktemp("net") / "net.pth"
    checkpoint.save(model, file)
    return file


class Said(NamedTuple):
    """What a run of the command line said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs the command line in this process."""
    from gpenvideo.cli import main

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["gpenvideo", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code or 0
        return Said(code, *capsys.readouterr())

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `cuda` skips without a device, but fails where GPENVIDEO_REQUIRE_CUDA=1."""
    import torch

    if torch.cuda.is_available() or os.environ.get("GPENVIDEO_REQUIRE_CUDA") == "1":
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
