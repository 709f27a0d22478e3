"""What every test may ask for: the shared data of the workshop, the tools and the devices of the machine."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

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


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is not installed (Debian package {package})"
        if os.environ.get("GPENVIDEO_REQUIRE_TOOLS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `cuda` skips without a device, but fails where GPENVIDEO_REQUIRE_CUDA=1."""
    import torch

    if torch.cuda.is_available() or os.environ.get("GPENVIDEO_REQUIRE_CUDA") == "1":
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
