"""The kernels' CUDA sources: compiled for every target; run as C++, and on CUDA, beside the CPU's reference.

What is asked of both, of noise: crops within 1e-4 of the range of 2 (float16: 1e-3); planes of 8 bits within
one level, and that in one sample of a hundred, where float32 falls to either side of a half.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import Machine
from numpy.typing import NDArray
from torch import Tensor

from gpenvideo.errors import OptionError
from gpenvideo.faces.alignment import template
from gpenvideo.faces.mask import rounded
from gpenvideo.frame import CENTRED, LEFT, Colour, Frame, Layout
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.cuda import OPTIONS, Launch, crop_batch, paste_batch, rectangles, source
from gpenvideo.kernels.device import DeviceMask, DevicePaste, DevicePlanes
from gpenvideo.kernels.paste import Paste, match_colour, paste
from gpenvideo.kernels.records import RECORDS

Array = NDArray[Any]

TARGETS = (75, 80, 86, 89, 90, 100, 120)
HERE = Path(__file__).parent
STEPS = [(2, 2), (2, 1), (1, 1), (4, 1)]
LAYOUTS = [Layout("yuv", bits, step) for bits in (8, 9, 10, 12, 14, 16) for step in STEPS]
LAYOUTS += [Layout(model, bits) for model in ("rgb", "grey") for bits in (8, 10, 16)]  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
def test_the_sources_compile_for(target: int) -> None:
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        missing = "torch came without CUDA, and so without NVRTC (cuda-bindings)"
        if os.environ.get("GPENVIDEO_REQUIRE_CUDA") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(source().encode(), b"kernels.cu", 0, [], [])
    options = [*OPTIONS, f"--gpu-architecture=sm_{target}"]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    _, length = nvrtc.nvrtcGetProgramLogSize(program)
    log = b" " * (length + 1)  # it is written into; a bytes of one character is shared by all of Python
    nvrtc.nvrtcGetProgramLog(program, log)
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    assert not log.strip(b"\0 \n"), log.decode()  # no warning either
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    assert size > 0


@pytest.fixture(scope="module")
def off_px() -> float:
    """How far from their places this OpenCV takes its samples: some builds have them on a grid of 1/32 px."""
    ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))
    matrix = np.array([(0.311, 0.117, 7.03), (-0.12, 0.29, 20.77)])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(ramp, matrix, (90, 90), flags=how, borderMode=cv2.BORDER_REPLICATE)
    y, x = np.mgrid[:90, :90]
    places = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    return float(np.abs(found - np.clip(places, 0, 63)).max())


def noise_frame(
    layout: Layout, height: int, width: int, seed: int, *, full_range: bool, siting: tuple[float, float]
) -> Frame:
    rng = np.random.default_rng(seed)
    across, down = layout.step
    sizes = [(height, width)] + [(-(-height // down), -(-width // across))] * (layout.planes - 1)
    planes = tuple(rng.integers(0, 2**layout.depth_bits, size, dtype=layout.dtype) for size in sizes)
    meaning = Colour(0 if layout.model == "rgb" else 1, full_range, siting)
    return Frame(planes, layout, meaning, 0, Fraction(1), edited=True)


def on_device(frame: Frame, device: str, interleaved: bool) -> DevicePlanes:
    """With `interleaved`, planes of one size as NV12 has chroma: views with a pixel stride of 2 or 3."""
    if not interleaved or len(frame.planes) == 1:
        return DevicePlanes.of(frame, device)
    apart = 0 if frame.layout.step == (1, 1) else 1
    first = (torch.tensor(plane, device=device) for plane in frame.planes[:apart])
    rest = torch.tensor(np.stack(frame.planes[apart:], axis=-1), device=device)
    return DevicePlanes((*first, *rest.unbind(-1)), frame.layout, frame.colour)


def affine(angle: float, sx: float, sy: float, x: float, y: float, size_px: int) -> Array:
    turn = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    linear = turn @ np.diag([sx, sy])
    return np.column_stack([linear, (size_px - 1) / 2 - linear @ (x, y)])


def noise(size_px: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (size_px, size_px, 3)).astype(np.float32)


def hill(size_px: int) -> NDArray[np.float32]:
    line = np.sin(np.pi * (np.arange(size_px) + 0.5) / size_px)
    return np.asarray(np.outer(line, line) ** 0.5, dtype=np.float32)


def tensor(pixels: NDArray[np.float32], device: str, dtype: torch.dtype, interleaved: bool) -> Tensor:
    """(S, S, 3) as (3, S, S), interleaved in memory or not."""
    there = torch.tensor(pixels, device=device, dtype=dtype).permute(2, 0, 1)
    return there if interleaved else there.contiguous()


def check_crops(device: str, launch: Launch | None, off_px: float, drawn: dict[str, Any]) -> float:
    """The largest difference between crops of two faces in one of two frames, and the reference's."""
    layout, (height, width), size = drawn["layout"], drawn["shape"], drawn["size"]
    frames = [noise_frame(layout, height, width, seed, **drawn["colour"]) for seed in (1, 2)]
    there = [on_device(frame, device, drawn["interleaved"]) for frame in frames]
    scale, angle, (px, py) = drawn["scale"], drawn["angle"], drawn["place"]
    matrices = [
        affine(angle, scale, scale * drawn["stretch"], px * width, py * height, size),
        affine(-angle, 1.3 * scale, scale, width / 3, height / 2, size),
        affine(0.1, scale, 0.6 * scale, width, 0, size),
    ]
    which = [0, 1, 0]
    dtype = torch.float16 if drawn["half"] else torch.float32
    form = torch.channels_last if drawn["channels_last"] else torch.contiguous_format
    out = torch.full((4, 3, size, size), 7, dtype=dtype, device=device).to(memory_format=form)
    crop_batch([there[i] for i in which], matrices, out, launch=launch)
    assert (out[3] == 7).all(), "beyond the faces"
    worst = 0.0
    for i, matrix, found in zip(which, matrices, out.float().cpu(), strict=False):
        expected = torch.from_numpy(crop(frames[i], matrix, size)).permute(2, 0, 1)
        worst = max(worst, float((found - expected).abs().max()))
    assert worst <= (1e-3 if drawn["half"] else 1e-4) + 8 * (off_px if off_px > 1e-3 else 0)
    return worst


SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 70))
COLOURS = st.fixed_dictionaries(
    {"full_range": st.booleans(), "siting": st.sampled_from([LEFT, CENTRED, (0.0, 0.0)])}
)
CROPS = st.fixed_dictionaries(
    {
        "layout": st.sampled_from(LAYOUTS),
        "shape": SHAPES,
        "size": st.integers(1, 40),
        "colour": COLOURS,
        "interleaved": st.booleans(),
        "scale": st.floats(0.08, 6),
        "stretch": st.floats(0.6, 1.6),
        "angle": st.floats(-3.2, 3.2),
        "place": st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)),
        "half": st.booleans(),
        "channels_last": st.booleans(),
    }
)
PASTES = st.fixed_dictionaries(
    {
        "layout": st.sampled_from(LAYOUTS),
        "shape": SHAPES,
        "size": st.integers(4, 40),
        "crop_size": st.integers(4, 28),
        "colour": COLOURS,
        "interleaved": st.booleans(),
        "scale": st.floats(0.3, 9),
        "stretch": st.floats(0.6, 1.6),
        "angle": st.floats(-3.2, 3.2),
        "place": st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)),
        "half": st.booleans(),
        "matched": st.sampled_from(["no", "colour", "grey"]),
        "whole": st.booleans(),
        "strength": st.sampled_from([1.0, 0.7]),
    }
)


def face_of(drawn: dict[str, Any], i: int) -> tuple[Any, Any, Any, Any, float]:
    """Restored, crop, mask, matrix, strength of one of three faces that overlap."""
    (height, width), size, (px, py) = drawn["shape"], drawn["size"], drawn["place"]
    dtype = np.float16 if drawn["half"] else np.float32
    restored = noise(size, i).astype(dtype).astype(np.float32)
    original = noise(drawn["crop_size"], 10 + i).clip(-1, 1).astype(dtype).astype(np.float32)
    if drawn["matched"] == "grey":
        original = np.repeat(original[..., :1], 3, axis=2)
    whole = drawn["whole"] and i != 1
    mask = np.ones((size, size), dtype=np.float32) if whole else hill(size)
    if not whole:
        mask[: size // 4] = 0
    scale, angle = drawn["scale"] * (1, 1.1, 0.5)[i], drawn["angle"] + 0.4 * i
    reach = size / scale / 4
    x, y = px * width + reach * (i == 1), py * height - reach * (i == 2)
    matrix = affine(angle, scale, scale * drawn["stretch"], x, y, size)
    return restored, original, mask, matrix, drawn["strength"] * (1, 0.9, 0.8)[i]  # so that few weights tie


class Off(NamedTuple):
    """How the planes after a paste differ from the reference's."""

    levels: int
    """The most."""

    beyond_one: float
    share: float
    """Of samples: those that differ by more than a level, and that differ."""

    edges: int
    """The most that the rectangles do, luma samples."""


def pasted(
    device: str, launch: Launch | None, drawn: dict[str, Any], of_frames: Sequence[Sequence[int]]
) -> Off:
    """Faces in two frames."""
    frames = [noise_frame(drawn["layout"], *drawn["shape"], seed, **drawn["colour"]) for seed in (1, 2)]
    there = [on_device(frame, device, drawn["interleaved"]) for frame in frames]
    dtype, matched = torch.float16 if drawn["half"] else torch.float32, drawn["matched"] != "no"
    here: list[list[Paste]] = []
    faces: list[list[DevicePaste]] = []
    for of_frame in of_frames:
        parts = [face_of(drawn, i) for i in of_frame]
        here.append([Paste(match_colour(*f[:3]) if matched else f[0], *f[2:]) for f in parts])
        faces.append(
            [
                DevicePaste(
                    tensor(restored, device, dtype, drawn["interleaved"]),
                    tensor(original, device, dtype, True) if matched else None,
                    DeviceMask.of(mask, device),
                    *rest,
                )
                for restored, original, mask, *rest in parts
            ]
        )
    expected = [r for frame, pastes in zip(frames, here, strict=True) for r in paste(frame, pastes)]
    found = rectangles(paste_batch(there, faces, launch=launch).cpu())
    planes = [plane for frame in frames for plane in frame.planes]
    made = [plane.cpu().numpy() for frame in there for plane in frame.planes]
    off = np.concatenate([np.abs(a.astype(int) - b).ravel() for a, b in zip(planes, made, strict=True)])
    edges = max(int(np.abs(np.subtract(a, b)).max()) for a, b in zip(found, expected, strict=True))
    return Off(int(off.max()), float((off > 1).mean()), float((off > 0).mean()), edges)


def check_pasted(device: str, launch: Launch | None, off_px: float, drawn: dict[str, Any]) -> None:
    """One face a frame, then three that overlap: these may tie to float32's rounding, and change hands."""
    unit = 2.0 ** (drawn["layout"].depth_bits - 8)
    apart = pasted(device, launch, drawn, ((0,), (1,)))
    if off_px > 1e-3:  # noise, sampled a little beside: nothing tight can be said
        assert apart.share < 1
        return
    assert apart.levels <= max(1, unit / 2)
    assert apart.share <= 0.01 * max(1, unit / 16)
    assert apart.edges <= max(drawn["layout"].step)
    together = pasted(device, launch, drawn, ((0, 1, 2), (1,)))
    assert together.beyond_one <= (0.01 if unit <= 64 else 0.1)


@given(drawn=CROPS)
@settings(max_examples=150, deadline=None)
def test_crops_are_the_references(machine: Machine, off_px: float, drawn: dict[str, Any]) -> None:
    check_crops("cpu", machine, off_px, drawn)


@given(drawn=PASTES)
@settings(max_examples=60, deadline=None)
def test_pastes_are_the_references(machine: Machine, off_px: float, drawn: dict[str, Any]) -> None:
    check_pasted("cpu", machine, off_px, drawn)


EXAMPLE: dict[str, Any] = {
    "layout": Layout("yuv", 8, (2, 2)),
    "shape": (61, 53),
    "size": 40,
    "crop_size": 20,
    "colour": {"full_range": False, "siting": LEFT},
    "interleaved": True,
    "scale": 0.7,
    "stretch": 1.1,
    "angle": 0.4,
    "place": (0.5, 0.5),
    "half": True,
    "channels_last": True,
    "matched": "colour",
    "whole": False,
    "strength": 1.0,
}


@pytest.mark.parametrize(("bits", "scale"), [(8, 4.3), (10, 0.2), (16, 1.0)])
def test_a_large_face_is_the_references(machine: Machine, off_px: float, bits: int, scale: float) -> None:
    """Larger than the grid on which colours are matched: its cells are means."""
    shape = (150, 170) if scale > 1 else (61, 53)
    more = {
        "layout": Layout("yuv", bits, (2, 2)),
        "size": 72,
        "crop_size": 80,
        "shape": shape,
        "scale": scale,
    }
    check_pasted("cpu", machine, off_px, EXAMPLE | more)


def test_the_records_are_the_structs(machine: Machine) -> None:
    assert {name: machine.size_of(name) for name in RECORDS} == {n: r.itemsize for n, r in RECORDS.items()}


def test_places_are_exact_far_out_in_a_large_frame(machine: Machine) -> None:
    """A strip of 16384 samples that repeats: its two ends look alike."""
    period = np.random.default_rng(0).integers(0, 65536, (40, 64), dtype=np.uint16)
    strip = np.tile(period, (1, 256))
    frame = Frame((strip,), Layout("grey", 16), Colour(1, True), 0, Fraction(1))
    there = [DevicePlanes.of(frame, "cpu")] * 2
    near, far = (affine(0.3, 2.7, 2.7, x, 20.3, 24) for x in (100.7, 100.7 + 64 * 252))
    out = torch.empty(2, 3, 24, 24)
    crop_batch(there, [near, far], out, launch=machine)
    assert float((out[0] - out[1]).abs().max()) < 1e-4


def test_the_order_of_the_faces_does_not_matter(machine: Machine) -> None:
    results = []
    for order in permutations(range(3)):
        frame = noise_frame(EXAMPLE["layout"], 61, 53, 1, **EXAMPLE["colour"])
        there = DevicePlanes.of(frame, "cpu")
        pastes = []
        for i in order:
            restored, _, _, matrix, _ = face_of(EXAMPLE, i)
            mask = DeviceMask.of(np.ones((40, 40), dtype=np.float32), "cpu")
            pastes.append(DevicePaste(tensor(restored, "cpu", torch.float32, True), None, mask, matrix))
        written = paste_batch([there], [pastes], launch=machine)
        results.append([plane.numpy() for plane in there.planes] + [written.numpy()[np.argsort(order)]])
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert np.array_equal(one, same)


def test_what_no_face_reaches_stays(machine: Machine) -> None:
    frame = noise_frame(EXAMPLE["layout"], 61, 53, 1, **EXAMPLE["colour"])
    there = DevicePlanes.of(frame, "cpu")
    face = torch.ones(3, 16, 16)
    whole = DeviceMask.of(np.ones((16, 16), dtype=np.float32), "cpu")
    nothing = DeviceMask.of(np.zeros((16, 16), dtype=np.float32), "cpu")
    here, away = affine(0.3, 1, 1, 30, 30, 16), affine(0.3, 1, 1, 900, 30, 16)
    pastes = [
        DevicePaste(face, None, whole, away),
        DevicePaste(face, face, nothing, here),
        DevicePaste(face, None, whole, here, 0.0),
    ]
    assert rectangles(paste_batch([there], [pastes], launch=machine)) == [(0, 0, 0, 0)] * 3
    assert rectangles(paste_batch([there], [[]], launch=machine)) == []
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(frame.planes, there.planes, strict=True))


def test_arguments_of_another_kind_are_refused(machine: Machine) -> None:
    frame = noise_frame(EXAMPLE["layout"], 61, 53, 1, **EXAMPLE["colour"])
    there = DevicePlanes.of(frame, "cpu")
    matrix = affine(0, 1, 1, 30, 30, 16)
    mask = DeviceMask.of(np.ones((16, 16), dtype=np.float32), "cpu")
    with pytest.raises(OptionError, match=r"1 or more, 3, S, S.*float64"):
        crop_batch([there], [matrix], torch.empty(1, 3, 16, 16, dtype=torch.float64), launch=machine)
    with pytest.raises(OptionError, match="2 or more"):
        crop_batch([there] * 2, [matrix] * 2, torch.empty(1, 3, 16, 16), launch=machine)
    with pytest.raises(OptionError, match="farther than"):
        crop_batch([there], [matrix * 1e-12], torch.empty(1, 3, 16, 16), launch=machine)
    with pytest.raises(OptionError, match="run on CUDA, not on cpu"):
        crop_batch([there], [matrix], torch.empty(1, 3, 16, 16))
    with pytest.raises(OptionError, match="one device"):
        crop_batch([there], [matrix], torch.empty(1, 3, 16, 16, device="meta"), launch=machine)
    with pytest.raises(OptionError, match=r"uint8 on one device"):
        DevicePlanes(tuple(plane.float() for plane in there.planes), there.layout, there.colour)
    with pytest.raises(OptionError, match=r"\(3, S, S\)"):
        DevicePaste(torch.ones(16, 16, 3), None, mask, matrix)
    with pytest.raises(OptionError, match=r"\(17, 17\) float32"):
        DevicePaste(torch.ones(3, 17, 17), None, mask, matrix)
    with pytest.raises(OptionError, match=r"got 1\.5"):
        DevicePaste(torch.ones(3, 16, 16), None, mask, matrix, 1.5)
    with pytest.raises(OptionError, match="inverse is needed"):
        DevicePaste(torch.ones(3, 16, 16), None, mask, np.zeros((2, 3)))


@pytest.mark.cuda
@given(drawn=CROPS)
@settings(max_examples=150, deadline=None)
def test_crops_on_cuda(off_px: float, drawn: dict[str, Any]) -> None:
    check_crops("cuda:0", None, off_px, drawn)


@pytest.mark.cuda
@given(drawn=PASTES)
@settings(max_examples=150, deadline=None)
def test_pastes_on_cuda(off_px: float, drawn: dict[str, Any]) -> None:
    check_pasted("cuda:0", None, off_px, drawn)


@pytest.mark.cuda
def test_on_cuda_it_runs_on_torchs_stream() -> None:
    """A crop of what a slow chain of work on another stream has just written, and that chain's result."""
    frame = noise_frame(Layout("rgb", 8), 256, 256, 1, full_range=True, siting=(0.0, 0.0))
    there = DevicePlanes.of(frame, "cuda:0")
    slot = DevicePlanes(tuple(torch.zeros_like(p) for p in there.planes), there.layout, there.colour)
    matrix = affine(0, 1, 1, 128, 128, 64)
    out = torch.empty(1, 3, 64, 64, device="cuda:0")
    crop_batch([there], [matrix], out)  # compiles
    stream, large = torch.cuda.Stream(), torch.randn(4096, 4096, device="cuda:0")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(10):
            large = torch.tanh(large @ large)
        for plane, empty in zip(there.planes, slot.planes, strict=True):
            empty.copy_(plane)
        crop_batch([slot], [matrix], out)
        found = out.clone()
    stream.synchronize()
    expected = torch.from_numpy(crop(frame, matrix, 64)).permute(2, 0, 1)
    assert float((found[0].cpu() - expected).abs().max()) < 1e-4


@pytest.mark.cuda
def test_crop_and_paste_on_cuda_take_less_than_a_third_of_a_millisecond() -> None:
    """A face of 2048 px, 400 px wide in 1080p, in a batch of four; on an H100-class card."""
    major, _ = torch.cuda.get_device_capability()
    frame = noise_frame(Layout("yuv", 8, (2, 2)), 1080, 1920, 1, full_range=False, siting=LEFT)
    matrix = affine(0.2, 5.12, 5.12, 900, 500, 2048)
    frames = [DevicePlanes.of(frame, "cuda:0") for _ in range(4)]
    out = torch.empty(4, 2048, 2048, 3, dtype=torch.float16, device="cuda:0").permute(0, 3, 1, 2)
    mask = DeviceMask.of(rounded(2048, template("ffhq", 2048)), "cuda:0")
    faces = [[DevicePaste(out[i], out[i], mask, matrix)] for i in range(4)]
    times = []
    for _ in range(30):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(50_000_000)  # until all is in the queue: it is the device's time that is asked
        start.record()
        crop_batch(frames, [matrix] * 4, out)
        paste_batch(frames, faces)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 4)
    assert np.median(times[5:]) <= (0.3 if major >= 9 else 3)
