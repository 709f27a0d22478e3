"""Whole pictures made larger: where every sample comes to lie, what it costs, and faces upon them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import write_clip
from numpy.typing import NDArray
from PIL import Image
from portraits import Same, decoded_planes, portrait, portrait_clip
from spandrels import bilinear, compact, esrgan, gfpgan, saved

import gpenvideo
from gpenvideo import NetworkOptions, OptionError, RestoreOptions, restore_resumable, restore_video
from gpenvideo.analysis import Analysed
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.alignment import template
from gpenvideo.faces.tracker import KEEP
from gpenvideo.frame import CENTRED, LEFT, Colour, Frame, Layout, StreamInfo
from gpenvideo.networks import load_background, load_detector
from gpenvideo.picture import read_picture
from gpenvideo.pipeline import VideoRestorer
from gpenvideo.transcode import Encoding, preview_video
from gpenvideo.upscaling import Upscaler
from gpenvideo.video.reader import VideoReader

pytestmark = pytest.mark.usefixtures("one_thread")

FFV1, CPU = Encoding(codec="ffv1"), NetworkOptions(device="cpu")
BARE: dict[str, Any] = {"gates": False, "guard": False, "temporal": False, "color": "allow", "grain": "none"}
"""Faces as the network makes them."""

PLANES = [  # chroma step and siting
    ((2, 2), LEFT),
    ((2, 2), CENTRED),
    ((2, 2), (0.0, 0.0)),
    ((2, 1), (0.0, 0.0)),
    ((4, 1), (0.0, 0.0)),
    ((4, 4), (1.5, 1.5)),
    ((1, 1), (0.0, 0.0)),
]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Super-resolution networks by name; "plain" ones repeat each pixel."""
    folder = tmp_path_factory.mktemp("nets")
    models = {"esrgan": esrgan(), "compact": compact(), "plain2": compact(plain=True)}
    models |= {"plain4": compact(4, plain=True), "bilinear2": bilinear(2), "bilinear4": bilinear(4)}
    return {name: saved(model, folder / f"{name}.pth") for name, model in models.items()}


def scene(
    size: tuple[int, int],
    step: tuple[int, int],
    siting: tuple[float, float],
    *,
    scale: int = 1,
    bits: int = 8,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Frame:
    """A smooth picture whose samples of all planes are what lies there; the larger one shows the same."""
    width, height = size[0] * scale, size[1] * scale

    def seen(count: int, every: int, first: float, moved: float) -> NDArray[np.float64]:
        return (np.arange(count) * every + first - (scale - 1) / 2) / scale - moved

    x, y = seen(width, 1, 0, shift[0]), seen(height, 1, 0, shift[1])[:, None]
    cx = seen(-(-width // step[0]), step[0], siting[0], shift[0])
    cy = seen(-(-height // step[1]), step[1], siting[1], shift[1])[:, None]
    levels = [
        120 + 30 * np.sin(x / 5) + 15 * np.cos(y / 4),
        128 + 14 * np.sin(cx / 9 + 1) + 0 * cy,
        128 + 14 * np.cos(cy / 9) + 0 * cx,
    ]
    unit, dtype = 2 ** (bits - 8), np.uint8 if bits <= 8 else np.uint16
    planes = tuple(np.rint(unit * plane).astype(dtype) for plane in levels)
    return Frame(planes, Layout("yuv", bits, step), Colour(1, False, siting), 3, Fraction(1, 25))


def furthest(frame: Frame, other: Frame) -> float:
    """The largest difference of two frames away from their edges, in 8-bit levels."""
    assert (frame.layout, frame.colour, frame.pts) == (other.layout, other.colour, other.pts)
    unit = 2 ** (frame.layout.depth_bits - 8)
    pairs = zip(frame.planes, other.planes, strict=True)
    differences = [np.abs(a.astype(int) - b)[10:-10, 10:-10] for a, b in pairs]
    return float(max(difference.max() for difference in differences)) / unit


@pytest.mark.parametrize(("step", "siting"), PLANES, ids=str)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_sample_comes_to_lie_where_it_was(
    step: tuple[int, int], siting: tuple[float, float], scale: int
) -> None:
    for size, bits in (((96, 80), 8), ((95, 83), 10)):
        larger = Upscaler(scale)(scene(size, step, siting, bits=bits))
        assert furthest(larger, scene(size, step, siting, scale=scale, bits=bits)) <= 1.25
        wrong = scene(size, step, siting, scale=scale, bits=bits, shift=(0.25, 0.25))
        assert furthest(larger, wrong) > 1.25  # the measure can tell


@pytest.mark.parametrize(("step", "siting"), PLANES, ids=str)
@pytest.mark.parametrize(("scale", "network"), [(2, 2), (2, 4), (3, 4), (4, 4)])
def test_a_network_does_not_move_the_picture_and_tiles_do_not_show(
    step: tuple[int, int], siting: tuple[float, float], scale: int, network: int, nets: dict[str, Path]
) -> None:
    made_by = load_background(nets[f"bilinear{network}"], "cpu")
    frame = scene((95, 83), step, siting, bits=10)
    larger = Upscaler(scale, made_by, tile_px=48)(frame)
    whole = Upscaler(scale, made_by, tile_px=256)(frame)
    truth = scene((95, 83), step, siting, scale=scale, bits=10)
    assert furthest(larger, truth) <= 1.25
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(larger.planes, whole.planes, strict=True)) <= 1


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("model", ["rgb", "grey"])
def test_other_layouts_and_alpha(model: Any, bits: int, nets: dict[str, Path]) -> None:
    top = 2**bits - 1
    layout = Layout(model, bits)
    plane = np.linspace(0, top, 41 * 37).reshape(37, 41).astype(layout.dtype)
    alpha = np.full((37, 41), top, layout.dtype)
    colour = Colour(0 if model == "rgb" else 1, True, (0, 0))
    frame = Frame((plane,) * layout.planes, layout, colour, 0, Fraction(1), alpha=alpha)
    for network in (None, load_background(nets["plain2"], "cpu")):
        larger = Upscaler(2, network)(frame)
        assert [made.shape for made in larger.planes] == [(74, 82)] * layout.planes
        assert larger.alpha is not None
        assert larger.alpha.shape == (74, 82)
        assert (larger.alpha == top).all()
        off = larger.planes[0].astype(float) - plane.repeat(2, axis=0).repeat(2, axis=1)
        assert np.abs(off).max() <= 0.02 * top
        assert larger.planes[0].max() <= top


def test_what_cannot_be_is_refused(nets: dict[str, Path]) -> None:
    with pytest.raises(OptionError, match="2, 3, 4 times"):
        Upscaler(5)
    with pytest.raises(OptionError, match="2, 3 or 4 times"):
        RestoreOptions(upscale=5)
    with pytest.raises(OptionError, match=r"2 times as large, not 4: say --upscale 2"):
        Upscaler(4, load_background(nets["plain2"], "cpu"))


def test_memory_is_that_of_tiles(nets: dict[str, Path], tmp_path: Path) -> None:
    """A network of 64 channels would take 35 MB for each of its layers, of all of this frame at once."""
    file = saved(compact(4, features=64), tmp_path / "wide.pth")
    program = f"""
import resource, sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
import numpy as np, torch
from fractions import Fraction
from gpenvideo.frame import Colour, Frame, Layout
from gpenvideo.networks import load_background
from gpenvideo.upscaling import Upscaler
torch.set_num_threads(1)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def frame(width, height):
    planes = np.zeros((height, width), np.uint8), *[np.full((height // 2, width // 2), 128, np.uint8)] * 2
    return Frame(planes, Layout("yuv", 8, (2, 2)), Colour(1, False), 0, Fraction(1))
upscaler = Upscaler(4, load_background({str(file)!r}, "cpu"), tile_px=128)
upscaler(frame(128, 96))
small = peak()
upscaler(frame(448, 320))
print(small, peak())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    small_mb, large_mb = map(float, run.stdout.split())
    planes_mb = 448 * 320 * 16 * 1.5 / 2**20
    assert large_mb - small_mb < planes_mb + 40


def face_at(x: float, y: float, side_px: float) -> FaceTrack:
    """A face whose crop in FFHQ's template has its middle there."""
    points = (template("ffhq", 512) - 255.5) * side_px / 512 + (x, y)
    box = [points[:, 0].min(), points[:, 1].min(), points[:, 0].max(), points[:, 1].max()]
    return FaceTrack(1, Face(box, points, 0.95), 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("rotation_deg", [0, 90])
def test_a_face_is_pasted_where_it_was_to_a_tenth_of_a_sample(scale: int, rotation_deg: int) -> None:
    """The identity upon a canvas that is half a sample off would be seen: so it is laid upon a flat one."""
    frame = scene((120, 100), (2, 2), LEFT)
    flat = replace(frame, planes=tuple(np.full_like(plane, 128) for plane in frame.planes))
    info = StreamInfo(
        120, 100, "yuv420p", frame.layout, frame.colour, frame.time_base, rotation_deg=rotation_deg
    )

    class OntoFlat(Upscaler):
        def __call__(self, _: Frame) -> Frame:
            return super().__call__(flat)

    track = face_at(54.3, 47.7, 70) if rotation_deg == 0 else face_at(52.3, 60.7, 70)

    def analysis(frames: Any) -> Iterator[Analysed]:
        yield Analysed(frame, [track], True)

    video = VideoRestorer(Same(256), analysis, info, RestoreOptions(**BARE), upscaler=OntoFlat(scale))
    (restored,) = video([])
    (mask,) = restored.masks
    truth = scene((120, 100), (2, 2), LEFT, scale=scale).planes[0].astype(float)
    assert restored.source is frame
    made = restored.frame.planes[0].astype(float)
    assert made.shape == truth.shape
    x, y = (mask.x0 + mask.x1) // 2, (mask.y0 + mask.y1) // 2
    reach = 12 * scale
    inside = slice(y - reach, y + reach), slice(x - reach, x + reach)
    assert np.abs(made[inside] - 128).max() > 10  # the face is there
    slopes = [along[inside].ravel() for along in np.gradient(truth)]
    off = (made - truth)[inside].ravel()
    (down, across, *_), *_ = np.linalg.lstsq(np.stack([*slopes, np.ones_like(off)], axis=1), off, rcond=None)
    assert abs(down) < 0.1
    assert abs(across) < 0.1


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector(device="cpu", threshold=KEEP)


def outside(shape: tuple[int, int], masks: list[list[int]], step: int) -> NDArray[np.bool_]:
    mark = np.ones(shape, dtype=bool)
    for x0, y0, x1, y1 in masks:
        mark[y0 // step : -(-y1 // step), x0 // step : -(-x1 // step)] = False
    return mark


def test_a_video_with_gfpgan_on_esrgan(nets: dict[str, Path], tmp_path: Path, detector: Any) -> None:
    """The background is what the network makes of each frame, bit for bit; faces are in their places."""
    clip = portrait_clip(tmp_path / "in.mkv", size=(160, 120), frames=2, faceless_from=1)
    weights = saved(gfpgan(), tmp_path / "GFPGANv1.4.pth", half=True)
    report = restore_video(
        clip,
        tmp_path / "out.mkv",
        weights=weights,
        detector=detector,
        networks=CPU,
        options=RestoreOptions(upscale=2, background=str(nets["esrgan"]), **BARE),
        encoding=FFV1,
        report_frames=tmp_path / "masks.jsonl",
    )
    weights.unlink()
    assert "GFPGAN" in report.network
    assert report.faces_per_frame == {1: 1, 0: 1}
    assert any("2 times as large, made by ESRGAN" in line for line in report.warnings)
    masks = [json.loads(line)["masks"] for line in (tmp_path / "masks.jsonl").read_text().splitlines()]
    upscaler = Upscaler(2, load_background(nets["esrgan"], "cpu"))
    with VideoReader(clip) as reader:
        frames = [upscaler(frame) for frame in reader if isinstance(frame, Frame)]
    made = decoded_planes(tmp_path / "out.mkv")
    for frame, planes, rectangles in zip(frames, made.values(), masks, strict=True):
        for index, (before, after) in enumerate(zip(frame.planes, planes, strict=True)):
            away = outside(before.shape, rectangles, 2 if index else 1)
            assert np.array_equal(before[away], after[away])
            assert bool((before != after).any()) == bool(rectangles)
    (mask,) = masks[0]
    with av.open(str(clip)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    (face,) = (found for found in detector([picture])[0] if found.score > 0.9)
    nose = 2 * face.landmarks[2] + 0.5
    middle = (mask[0] + mask[2]) / 2, (mask[1] + mask[3]) / 2
    assert np.hypot(*(middle - nose)) < 0.35 * (mask[2] - mask[0])


def test_segments_and_plain_runs_are_equal(nets: dict[str, Path], tmp_path: Path) -> None:
    clip = portrait_clip(tmp_path / "in.mkv", size=(96, 72), frames=30, rate=2, audio=1)
    options = RestoreOptions(upscale=2, background=str(nets["compact"]))
    plain = restore_video(clip, tmp_path / "a.mkv", networks=CPU, options=options, encoding=FFV1)
    parts = restore_resumable(
        clip, tmp_path / "b.mkv", networks=CPU, options=options, encoding=FFV1, segment_s=5
    )
    assert plain.faces == parts.faces > 0
    assert set(plain.warnings) == set(parts.warnings)
    was, now = decoded_planes(tmp_path / "a.mkv"), decoded_planes(tmp_path / "b.mkv")
    assert list(was) == list(now)
    assert was[0][0].shape == (144, 192)
    for pts, planes in was.items():
        assert all(np.array_equal(a, b) for a, b in zip(planes, now[pts], strict=True))


def test_rotation_sample_aspect_and_depth_stay(tmp_path: Path, detector: Any) -> None:
    clip = write_clip(
        tmp_path / "in.mov",
        codec="libx264",
        pix_fmt="yuv420p10le",
        size=(64, 48),
        frames=3,
        rotation=90,
        sample_aspect=Fraction(4, 3),
        matrix=9,
        transfer=16,
        primaries=9,
    )
    restore_video(
        clip,
        tmp_path / "out.mov",
        weights=Same(64),
        detector=detector,
        options=RestoreOptions(upscale=3),
    )
    with VideoReader(clip) as reader, VideoReader(tmp_path / "out.mov") as made:
        before, after = reader.info, made.info
    assert (after.width, after.height) == (192, 144)
    same = ("sample_aspect", "rotation_deg", "mirrored", "layout", "colour")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


def test_what_is_told_beside_the_result(tmp_path: Path, detector: Any) -> None:
    """Comparisons, metrics and previews show the source as large as the result, interpolated."""
    clip = portrait_clip(tmp_path / "in.mkv", size=(160, 120), frames=8)
    how: dict[str, Any] = {"weights": Same(64), "detector": detector}
    options = RestoreOptions(upscale=2)
    report = restore_video(
        clip, tmp_path / "out.mkv", options=options, encoding=FFV1, compare="side", metrics=True, **how
    )
    assert report.metrics["pairs"] > 0
    planes = decoded_planes(tmp_path / "out.mkv")[0]
    assert planes[0].shape == (240, 640)
    with VideoReader(clip) as reader:
        frame = next(item for item in reader if isinstance(item, Frame))
    assert np.array_equal(planes[0][:, :320], Upscaler(2)(frame).planes[0])
    assert preview_video(clip, tmp_path / "seen.png", Fraction(0), options=options, **how) == 1
    assert read_picture(tmp_path / "seen.png").rgb.shape == (240, 640, 3)


def test_a_part_of_a_video_from_the_command_line_and_in_a_batch(
    nets: dict[str, Path], tmp_path: Path, said: Callable[..., Any]
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    clip = portrait_clip(folder / "in.mkv", size=(96, 72), frames=4)
    told = said(
        *("restore", clip, "-o", tmp_path / "a.mkv", "--upscale", 2, "--background", nets["plain4"]),
        *("--codec", "ffv1", "--device", "cpu"),
    )
    assert told.code == 0, told.err
    assert "made by RealESRGAN Compact" in told.err
    (folder / "gpenvideo.toml").write_text('upscale = 2\nbackground = "net.pth"\ncodec = "ffv1"\n')
    (folder / "net.pth").write_bytes(nets["plain4"].read_bytes())
    told = said("batch", folder, "-o", tmp_path / "out", "--workers", 0, "--device", "cpu", "--verify")
    assert told.code == 0, told.err
    one, other = decoded_planes(tmp_path / "a.mkv"), decoded_planes(tmp_path / "out" / "in.mkv")
    assert one[0][0].shape == (144, 192)
    for pts, planes in one.items():
        assert all(np.array_equal(a, b) for a, b in zip(planes, other[pts], strict=True))
    told = said("restore", clip, "-o", tmp_path / "b.mkv", "--background", nets["plain2"])
    assert (told.code, "--upscale 2 too" in told.err) == (2, True)
    told = said("restore", clip, "-o", tmp_path / "b.mkv", "--upscale", 4, "--background", nets["plain2"])
    assert (told.code, "2 times as large, not 4" in told.err) == (2, True)


def test_pictures(nets: dict[str, Path], tmp_path: Path, said: Callable[..., Any]) -> None:
    """A face is restored upon the larger picture; one without a face is made larger too."""
    face, dunes = tmp_path / "face.png", tmp_path / "dunes.png"
    Image.fromarray(portrait(256)).save(face)
    Image.fromarray(portrait(256)[:60, :60]).save(dunes)
    for source, faces in ((face, "1 face"), (dunes, "0 faces")):
        told = said("restore", source, "-o", tmp_path / "out.png", "--upscale", 2, "--device", "cpu")
        assert told.code == 0, told.err
        assert faces in told.out
        larger, made = read_picture(source).rgb, read_picture(tmp_path / "out.png").rgb
        assert made.shape == (2 * larger.shape[0], 2 * larger.shape[1], 3)
        small = made.reshape(larger.shape[0], 2, larger.shape[1], 2, 3).mean(axis=(1, 3))
        assert np.abs(small - larger).mean() < 3
    told = said("restore", face, "-o", tmp_path / "b.png", "--upscale", 2, "--aligned")
    assert (told.code, "leave --upscale out" in told.err) == (2, True)
    made = gpenvideo.restore_image(
        portrait(256), Same(128), faces=[], upscaler=Upscaler(2, load_background(nets["plain2"], "cpu"))
    )
    assert np.abs(made[::2, ::2].astype(int) - portrait(256)).max() <= 1
