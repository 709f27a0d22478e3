"""HDR and deep video from file to file: samples, tags, metadata; what networks and detectors see of it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import write_clip
from graded import TRANSFERS, graded, portrait_frame, pq
from numpy.typing import NDArray
from portraits import Same, decoded_planes

import gpenvideo
from gpenvideo.analysis import Analysis
from gpenvideo.face import Face
from gpenvideo.faces.tracker import KEEP
from gpenvideo.frame import Frame, Rectangle, StreamInfo
from gpenvideo.kernels.colour import samples_from_rgb
from gpenvideo.kernels.picture import thumbnail
from gpenvideo.matching.tint import power
from gpenvideo.networks import load_detector
from gpenvideo.pipeline import Restored, RestoreOptions, VideoRestorer
from gpenvideo.video.description import hdr_of, side_data
from gpenvideo.video.encoders import hdr_options
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter

SIZE = (400, 304)
UNTOUCHED: dict[str, Any] = {"temporal": False, "guard": False, "gates": False, "grain": "none"}
PARAMETERS = "log-level=none:pools=1:frame-threads=1"
LOSSLESS = {"x265-params": f"{PARAMETERS}:lossless=1", "preset": "ultrafast"}
STATIC = {
    "mastering": {
        "primaries": (
            (Fraction(34000, 50000), Fraction(16000, 50000)),
            (Fraction(13250, 50000), Fraction(34500, 50000)),
            (Fraction(7500, 50000), Fraction(3000, 50000)),
        ),
        "white": (Fraction(15635, 50000), Fraction(16450, 50000)),
        "luminance": (Fraction(1, 10000), Fraction(1000)),
    },
    "light": (1000, 203),
}
TAGS = (
    *("pix_fmt", "color_range", "color_space", "color_transfer", "color_primaries", "chroma_location"),
    *("width", "height"),
)


class Witness(Same):
    """Changes nothing, and remembers what it saw."""

    def __init__(self, size_px: int = 256) -> None:
        super().__init__(size_px)
        self.seen: list[NDArray[np.float32]] = []

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen += list(pixels.numpy())
        return pixels


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector(device="cpu", threshold=KEEP)


def hdr_clip(
    path: Path, kind: str, *, pix_fmt: str = "yuv420p10le", static: bool = True, **more: Any
) -> Path:
    """A lossless HEVC clip of the drifting portrait, as a studio would deliver it."""
    parameters = [LOSSLESS["x265-params"], *(hdr_options("libx265", STATIC) if static else None or [])]
    options = {**LOSSLESS, "x265-params": ":".join(parameters), "chroma_sample_location": "topleft"}
    options |= more.pop("options", {})
    bits = int(pix_fmt[-4:-2])
    made: dict[str, Any] = {"matrix": 9, "primaries": 9, "transfer": TRANSFERS[kind], "full_range": False}
    return write_clip(
        path, codec="libx265", pix_fmt=pix_fmt, size=SIZE, frames=6, options=options,
        picture=graded(kind, SIZE, bits=bits), **made | more,
    )  # fmt: skip


def described(ffprobe: str, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tags of the stream, and the HDR side data of its first picture, by ffprobe."""
    command = [ffprobe, "-v", "error", "-select_streams", "v:0", "-show_streams", "-show_frames"]
    facts = json.loads(subprocess.check_output([*command, "-of", "json", str(path)]))
    kinds = {"Mastering display metadata", "Content light level metadata"}
    found = facts["frames"][0].get("side_data_list", []) or []
    found = found or facts["streams"][0].get("side_data_list", [])
    side = [
        {key: Fraction(value) if "/" in str(value) else value for key, value in item.items()}
        for item in found
        if item["side_data_type"] in kinds
    ]
    side.sort(key=lambda item: str(item["side_data_type"]))
    return {tag: facts["streams"][0].get(tag) for tag in TAGS}, side


def restored(
    source: Path, target: Path, restorer: Any, detector: Any, **encoding: Any
) -> tuple[list[list[Rectangle]], list[str]]:
    """Restore a file without means over time: the masks of each frame, and what the writer told."""
    with VideoReader(source) as reader, VideoWriter(target, reader, **encoding) as writer:
        analysis = Analysis(detector, reader.info)
        video = VideoRestorer(restorer, analysis, reader.info, RestoreOptions(**UNTOUCHED))
        masks = []
        for item in video(reader):
            assert isinstance(item, Restored)
            masks.append(item.masks)
            writer.write(item.frame)
    return masks, writer.warnings


def inside(shape: tuple[int, int], masks: list[Rectangle]) -> NDArray[np.bool_]:
    """Where a plane of a frame of SIZE lies inside masks."""
    across, down = SIZE[0] // shape[1], SIZE[1] // shape[0]
    mark = np.zeros(shape, dtype=bool)
    for x0, y0, x1, y1 in masks:
        mark[y0 // down : -(-y1 // down), x0 // across : -(-x1 // across)] = True
    return mark


X265 = {
    "codec": "libx265",
    "preset": "ultrafast",
    "options": {"x265-params": f"{PARAMETERS}:lossless=1"},
}
WAYS = {"x265-mkv": (".mkv", X265), "x265-mp4": (".mp4", X265), "ffv1-mkv": (".mkv", {"codec": "ffv1"})}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["pq", "hlg"])
def test_hdr_comes_through(tmp_path: Path, ffprobe: str, detector: Any, kind: str, way: str) -> None:
    """Outside the masks bit-exact, inside to a level of 10 bits; tags and metadata as they were."""
    suffix, encoding = WAYS[way]
    source, target = hdr_clip(tmp_path / f"in{suffix}", kind, static=kind == "pq"), tmp_path / f"out{suffix}"
    masks, told = restored(source, target, Same(512), detector, **encoding)
    before, after = decoded_planes(source), decoded_planes(target)
    assert list(after) == list(before)
    errors = []
    for (pts, was), where in zip(before.items(), masks, strict=True):
        assert where
        for number, (one, other) in enumerate(zip(was, after[pts], strict=True)):
            mark = inside(one.shape, where)
            assert np.array_equal(one[~mark], other[~mark])
            if number == 0:
                errors.append(np.abs(one[mark].astype(int) - other[mark].astype(int)).mean())
    assert max(errors) <= 1
    assert described(ffprobe, target) == described(ffprobe, source)
    assert len(described(ffprobe, target)[1]) == (2 if kind == "pq" else 0)
    assert not any("HDR" in sentence for sentence in told)


@pytest.mark.parametrize(
    ("pix_fmt", "bits", "step"),
    [("yuv422p12le", 12, (2, 1)), ("yuv444p16le", 16, (1, 1)), ("yuv420p10le", 10, (2, 2))],
)
@pytest.mark.parametrize("kind", ["pq", "wide"])
def test_no_bit_is_lost_at_any_depth(
    tmp_path: Path, detector: Any, kind: str, pix_fmt: str, bits: int, step: tuple[int, int]
) -> None:
    """Inside the masks the error is far below a step of 8 bits, and the low bits take all values."""
    source = write_clip(
        tmp_path / "in.mkv", pix_fmt=pix_fmt, size=SIZE, frames=2, full_range=True, matrix=9, primaries=9,
        transfer=TRANSFERS[kind], picture=graded(kind, SIZE, bits=bits, step=step, full_range=True),
    )  # fmt: skip
    masks, _ = restored(source, tmp_path / "out.mkv", Same(512), detector, codec="ffv1")
    before, after = decoded_planes(source), decoded_planes(tmp_path / "out.mkv")
    for (pts, was), where in zip(before.items(), masks, strict=True):
        mark = inside(was[0].shape, where)
        one, other = was[0][mark].astype(int), after[pts][0][mark].astype(int)
        assert (one != other).any()  # it went through the restorer
        assert np.abs(one - other).mean() <= 2.0 ** (bits - 10)
        assert np.abs(one - other).max() <= 8 * 2.0 ** (bits - 10)
        steps = 2 ** (bits - 8)
        assert np.bincount(other % steps, minlength=steps).max() < 4 * one.size / steps


def info_of(frame: Frame) -> StreamInfo:
    return StreamInfo(frame.width, frame.height, "yuv420p10le", frame.layout, frame.colour, Fraction(1, 25))


def through(frames: list[Frame], restorer: Any, detector: Any) -> list[Restored]:
    info = info_of(frames[0])
    video = VideoRestorer(restorer, Analysis(detector, info), info, RestoreOptions(**UNTOUCHED))
    return list(video(frames))


@pytest.mark.parametrize("kind", ["pq", "hlg"])
def test_the_network_sees_an_ordinary_face(detector: Any, kind: str) -> None:
    """Not the levels of PQ or HLG: those of sRGB, as if the clip had been graded for it."""
    witness = Witness()
    (item,) = through([portrait_frame(kind, SIZE, white_nits=300)], witness, detector)
    (seen,) = witness.seen
    assert np.abs(seen).max() <= 1
    plain = Witness()
    sdr = portrait_frame("srgb", SIZE)
    through([sdr], plain, detector)
    face = np.s_[:, 64:192, 64:192]
    assert np.abs(seen[face] - plain.seen[0][face]).mean() < 0.04
    levels = replace(item.source, colour=replace(item.source.colour, transfer=2))
    assert np.abs(thumbnail(levels, 400).astype(int) - thumbnail(sdr, 400)).mean() > 12
    assert np.abs(thumbnail(item.source, 400).astype(int) - thumbnail(sdr, 400)).mean() < 4


def best_face(frame: Frame, detector: Any) -> Face:
    return max(detector([thumbnail(frame, 400)])[0], key=lambda face: float(face.score))


def test_faces_are_found_as_in_ordinary_video(detector: Any) -> None:
    """The detector's surety of a graded face is that of the same face in SDR."""
    sdr = best_face(portrait_frame("srgb", SIZE), detector)
    for kind, white_nits in (("pq", 100), ("pq", 400), ("hlg", 203), ("wide", 1)):
        found = best_face(portrait_frame(kind, SIZE, white_nits=white_nits), detector)
        assert found.score > sdr.score - 0.02
        assert np.abs(found.landmarks - sdr.landmarks).max() < 3


@pytest.fixture(scope="module")
def default() -> Any:
    return gpenvideo.load(device="cpu")


@pytest.fixture(scope="module")
def sdr(default: Any, detector: Any) -> Restored:
    return through([portrait_frame("srgb", SIZE)], default, detector)[0]


@pytest.mark.parametrize(("kind", "white_nits"), [("pq", 100), ("pq", 400), ("hlg", 203), ("wide", 1)])
def test_a_face_is_restored_as_in_ordinary_video(
    sdr: Restored, default: Any, detector: Any, kind: str, white_nits: float
) -> None:
    """With the default weights: what they change in SDR they change in HDR, in its light."""
    (hdr,) = through([portrait_frame(kind, SIZE, white_nits=white_nits)], default, detector)
    x0, y0, x1, y1 = sdr.masks[0]
    changes = []
    for item in (sdr, hdr):
        before, after = (
            thumbnail(frame, 400)[y0:y1, x0:x1].mean(axis=2) for frame in (item.source, item.frame)
        )
        changes.append((after - before).ravel())
    assert np.abs(changes[0]).mean() > 1
    assert np.corrcoef(*changes)[0, 1] > 0.8
    assert abs(changes[1].mean()) < 3


def test_colour_counts_as_colour() -> None:
    """The chroma of PQ is a third of ordinary video's; muted film must not be taken for a tint."""

    def root(frame: Frame) -> float:
        return power(frame, (slice(0, frame.height), slice(0, frame.width))) ** 0.5

    plain = root(portrait_frame("srgb", SIZE))
    for kind, white_nits in (("pq", 100), ("pq", 203), ("pq", 400), ("hlg", 203)):
        assert 0.75 < root(portrait_frame(kind, SIZE, white_nits=white_nits)) / plain < 1.25


def test_highlights_and_pure_colours_come_back(detector: Any) -> None:
    """What no SDR has, 4000 cd/m² and BT.2020's own red, is there after a restorer that changes nothing."""
    frame = portrait_frame("pq", SIZE)
    found = best_face(frame, detector)
    x, y = (round(float(v)) for v in found.landmarks[2])
    planes = [np.array(plane) for plane in frame.planes]
    planes[0][y - 12 : y + 4, x - 12 : x + 4] = 64 + 791  # 4000 cd/m², neutral
    red = samples_of_red(frame)
    for plane, level, step in zip(planes, red, (1, 2, 2), strict=True):
        plane[(y + 4) // 2 * 2 // step : (y + 20) // step, (x - 12) // step : (x + 4) // step] = level
    marked = replace(frame, planes=tuple(planes))
    (item,) = through([marked], Same(512), detector)
    for number, plane in enumerate(planes):
        change = np.abs(item.frame.planes[number].astype(int) - plane)
        step = 1 if number == 0 else 2
        for top in (y - 8, y + 9):
            spot = change[top // step : (top + 8) // step, (x - 8) // step : x // step]
            assert spot.max() <= 3


def samples_of_red(frame: Frame) -> list[int]:
    """Levels of a red of 200 cd/m² that BT.709 does not hold."""
    matrix = samples_from_rgb(frame.layout, frame.colour)
    red = 2 * pq(np.array((200.0, 2.0, 2.0))) - 1
    return [round(level) for level in matrix[:, :3] @ red + matrix[:, 3]]


def test_a_siting_that_the_stream_tells_is_the_one_that_is_used(tmp_path: Path) -> None:
    for name, place in {"topleft": (0, 0), "center": (0.5, 0.5), "left": (0, 0.5)}.items():
        path = hdr_clip(tmp_path / f"{name}.mkv", "pq", options={"chroma_sample_location": name})
        with VideoReader(path) as reader:
            assert reader.info.colour.siting == place
            assert reader.info.siting_told
            assert all(frame.colour == reader.info.colour for frame in reader if isinstance(frame, Frame))
    silent = write_clip(tmp_path / "silent.mkv")
    with VideoReader(silent) as reader:
        assert (reader.info.colour.siting, reader.info.siting_told) == ((0, 0.5), False)


def test_metadata_stays_beside_names_and_aspects(tmp_path: Path, ffprobe: str) -> None:
    """In Matroska both come out of the room of one header."""
    source = hdr_clip(tmp_path / "in.mkv", "pq", sample_aspect=Fraction(4, 3))
    with VideoReader(source) as reader:
        reader.stream.metadata["title"] = "The film"
        with VideoWriter(tmp_path / "out.mkv", reader, codec="ffv1") as writer:
            for item in reader:
                writer.write(item)
    assert writer.warnings == []
    command = [ffprobe, "-v", "error", "-show_streams", "-of", "json", str(tmp_path / "out.mkv")]
    (stream,) = json.loads(subprocess.check_output(command))["streams"]
    assert stream["sample_aspect_ratio"] == "4:3"
    assert stream["tags"].get("title") == "The film"
    assert described(ffprobe, tmp_path / "out.mkv") == described(ffprobe, source)


def dynamic(raw: bytes) -> bytes:
    """A raw HEVC stream with a message of HDR10+ (SMPTE ST 2094-40) before each picture."""
    fields = [(1, 2), (400, 27), (0, 1), *[(0x1111, 17)] * 3, (0x222, 17), (0, 4), (5, 10), *[(0, 1)] * 3]
    text = "".join(format(value, f"0{bits}b") for value, bits in fields)
    payload = bytes.fromhex("b5003c00010401") + int(text.ljust(120, "0"), 2).to_bytes(15, "big")
    message = bytes([39 << 1, 1, 4, len(payload)]) + payload + b"\x80"
    message = re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", message)
    start = b"\x00\x00\x00\x01"
    units = re.split(rb"\x00\x00\x00?\x01", raw)[1:]
    return b"".join((start + message if unit[0] >> 1 < 32 else b"") + start + unit for unit in units)


@pytest.mark.parametrize("edited", [False, True])
def test_dynamic_metadata_is_left_out_and_said_so(tmp_path: Path, edited: bool) -> None:
    raw = hdr_clip(tmp_path / "raw.hevc", "pq", format="hevc")
    source = tmp_path / "in.hevc"
    source.write_bytes(dynamic(raw.read_bytes()))
    with (
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "out.mkv", reader, **X265) as writer,
    ):
        assert "DYNAMIC_HDR_PLUS" in side_data(reader.first)
        for item in reader:
            assert isinstance(item, Frame)
            writer.write(item.copy() if edited else item)
    assert sum("HDR10+" in sentence for sentence in writer.warnings) == 1
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert "DYNAMIC_HDR_PLUS" not in side_data(reader.first)
        assert hdr_of(reader.first) == STATIC


def test_what_hdr_does_not_say_is_assumed_as_players_do(tmp_path: Path) -> None:
    """Its matrix and primaries are BT.2020's, its range is limited; each is told in a sentence."""
    path = write_clip(tmp_path / "in.mkv", pix_fmt="yuv420p10le", transfer=16, frames=2)
    with VideoReader(path) as reader:
        colour, assumed = reader.info.colour, " ".join(reader.info.assumed)
    assert (colour.matrix, colour.full_range, colour.transfer) == (9, False, 16)
    assert all(part in assumed for part in ("matrix: BT.2020", "primaries", "limited"))


def test_full_range_stays_full(tmp_path: Path, ffprobe: str, detector: Any) -> None:
    """Of pictures as JPEG has them: samples outside masks, and what the file says of itself."""
    picture = graded("srgb", SIZE, bits=8, full_range=True)
    source = write_clip(
        tmp_path / "in.avi", codec="mjpeg", pix_fmt="yuvj420p", size=SIZE, frames=2, picture=picture
    )
    for name, codec in (("out.mkv", "ffv1"), ("out.mp4", "libx264")):
        masks, _ = restored(source, tmp_path / name, Same(512), detector, codec=codec)
        before, after = decoded_planes(source), decoded_planes(tmp_path / name)
        stream, _ = described(ffprobe, tmp_path / name)
        assert stream["color_range"] == "pc"
        assert stream["chroma_location"] == "center"
        for one, other, where in zip(before.values(), after.values(), masks, strict=True):
            mark = inside(one[0].shape, where)
            if codec == "ffv1":
                assert np.array_equal(one[0][~mark], other[0][~mark])
            assert np.abs(one[0].astype(int) - other[0]).mean() < 3  # as limited range it would be 10


def test_pictures_say_that_they_are_hdr_or_it_is_told(tmp_path: Path) -> None:
    source = hdr_clip(tmp_path / "in.mkv", "pq", static=False)
    for codec, is_told in (("png", False), ("tiff", True), ("exr", True)):
        with VideoReader(source) as reader, VideoWriter(tmp_path / codec, reader, codec=codec) as writer:
            for item in reader:
                writer.write(item)
        assert any("cannot say" in sentence for sentence in writer.warnings) == is_told
    with VideoReader(tmp_path / "png") as reader:
        assert (reader.info.colour.transfer, reader.info.colour.primaries) == (16, 9)
