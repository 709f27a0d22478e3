"""Faces restored in the memory of a device: the same as on the host, on the CPU through the kernels' C++."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from machine import Machine
from numpy.typing import NDArray

from gpenvideo.crops import Aligned, Shown
from gpenvideo.device import DeviceFaces, common_device, disagreement
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.alignment import crop_from_frame
from gpenvideo.frame import Colour, Frame, Layout
from gpenvideo.gpen import GPEN, GPENConfig
from gpenvideo.host import HostFaces
from gpenvideo.restorer import GPENRestorer
from gpenvideo.stages import Stages
from gpenvideo.steady import Steady

CPU = torch.device("cpu")
MEAN_FACE = np.array([(-0.35, -0.3), (0.35, -0.3), (0.0, 0.1), (-0.28, 0.4), (0.28, 0.4)])


@pytest.fixture(scope="module", params=[(32, 32), (32, 64)], ids=["same size", "enlarging"])
def restorer(request: pytest.FixtureRequest) -> GPENRestorer:
    torch.manual_seed(3)
    size, larger = request.param
    channels = (8, 8, 8, 8, 8)[: {32: 4, 64: 5}[larger]]
    config = GPENConfig(size, larger, channels, style_dim=16, mapping_layers=2)
    return GPENRestorer(GPEN(config).eval(), device="cpu", dtype="fp32", max_batch=2)


def frame(layout: Layout, number: int, size: tuple[int, int] = (96, 120)) -> Frame:
    """A smooth picture that moves, with a little noise."""
    rng = np.random.default_rng(number)
    top, (across, down) = 2**layout.depth_bits - 1, layout.step
    planes = []
    for index in range(layout.planes):
        rows, columns = (size[0] // (down if index else 1), size[1] // (across if index else 1))
        y, x = np.mgrid[:rows, :columns] / rows
        wave = 0.5 + 0.3 * np.sin(4 * x + index + 0.1 * number) * np.cos(3 * y - index)
        noisy = wave + rng.normal(0, 0.01, wave.shape)
        planes.append(np.rint(np.clip(noisy, 0, 1) * top).astype(layout.dtype))
    colour = Colour(0 if layout.model == "rgb" else 1, layout.model == "rgb")
    return Frame(tuple(planes), layout, colour, number, Fraction(1, 25))


def face(restorer: GPENRestorer, number: int, at: tuple[float, float], side_px: float) -> Aligned:
    landmarks = np.float32(MEAN_FACE * side_px + at)
    box = [at[0] - side_px / 2, at[1] - side_px / 2, at[0] + side_px / 2, at[1] + side_px / 2]
    track = FaceTrack(number, Face(box, landmarks, 0.9), 0.0, 0.0, 0.0, 1.0)
    return Aligned(track, restorer, crop_from_frame(landmarks, restorer.template))


def film(restorer: GPENRestorer, layout: Layout) -> list[list[Shown]]:
    """Three batches: two faces that overlap, a frame without one, more than a batch, another size."""
    found: list[list[Shown]] = [[], [], []]
    for number in range(7):
        faces = [face(restorer, 1, (50 + number, 45), 40), face(restorer, 2, (75, 55 - number), 30)]
        picture = frame(layout, number, (64, 80) if number == 6 else (96, 120))
        shown = Shown(picture, [] if number == 2 else faces, Fraction(number, 25), number in (0, 5))
        found[(0, 0, 0, 1, 1, 2, 2)[number]].append(shown)
    return found


def strengths(track: FaceTrack, pair: Any, template: NDArray[np.float64]) -> float:
    """Of the second face less, by what its crop and what was made of it look like."""
    original, restored = pair()
    assert original.shape == (len(original), len(original), 3)
    assert original.dtype == restored.dtype == np.float32
    assert template.max() < len(original) <= len(restored)
    return 1.0 if track.id == 1 else 0.7


@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize(
    "layout", [Layout("yuv", 8, (2, 2)), Layout("yuv", 10, (2, 1)), Layout("rgb", 8)], ids=str
)
def test_a_device_restores_as_the_host_does(
    machine: Machine, restorer: GPENRestorer, layout: Layout, temporal: bool
) -> None:
    host = HostFaces(Stages(), Steady() if temporal else None)
    stages = Stages()
    device = DeviceFaces(CPU, stages, Steady() if temporal else None, launch=machine)
    touched = 0
    for batch in film(restorer, layout):
        for shown, one, other in zip(
            batch, host.begin(batch, strengths)(), device.begin(batch, strengths)(), strict=True
        ):
            (expected, where), (got, there) = one, other
            if not shown.faces:
                assert got is shown.frame
                assert there == []
                continue
            assert got.edited
            assert got.pts == shown.frame.pts
            assert (
                np.abs(np.array(where) - np.array(there)).max() <= 1
            )  # a faint edge may fall to either side
            for before, ours, theirs in zip(shown.frame.planes, expected.planes, got.planes, strict=True):
                off = np.abs(ours.astype(int) - theirs.astype(int))
                assert off.max() <= 2 << (layout.depth_bits - 8) << 1
                assert off.mean() < 0.05 * (1 << (layout.depth_bits - 8))
                touched += int((before != theirs).sum())
    assert touched > 10000
    assert set(stages.seconds) >= {"upload", "network", "paste", "download"}


def test_the_check_passes_and_can_fail(machine: Machine) -> None:
    assert disagreement(CPU, machine) is None
    said = disagreement(CPU)
    assert said is not None
    assert "cpu" in said

    def idle(*_: Any) -> None: ...

    assert disagreement(CPU, idle) == "its crops differ from the host's"


def test_only_a_gpu_is_a_device(restorer: GPENRestorer) -> None:
    assert common_device([restorer, restorer]) is None


@pytest.mark.cuda
def test_on_cuda(restorer: GPENRestorer) -> None:
    there = GPENRestorer(restorer.model, device="cuda", dtype="fp32", max_batch=2)
    device = common_device([there])
    assert device is not None
    assert disagreement(device) is None
    host, faces = HostFaces(Stages(), Steady()), DeviceFaces(device, Stages(), Steady())
    for mine, its in zip(
        film(restorer, Layout("yuv", 8, (2, 2))), film(there, Layout("yuv", 8, (2, 2))), strict=True
    ):
        for (expected, _), (got, _) in zip(
            host.begin(mine, strengths)(), faces.begin(its, strengths)(), strict=True
        ):
            for ours, theirs in zip(expected.planes, got.planes, strict=True):
                assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 4
