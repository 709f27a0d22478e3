"""NVDEC: the same pictures as from the CPU, planes that stay on the device, and the CPU wherever it cannot.

`Driver` stands where FFmpeg's decoder stands on a GPU: what it gives lies in NV12 or P010, here on the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import scene_frame, with_noise, write_clip
from portraits import Same, decoded_planes, portrait_clip
from test_device import CPU, film, restorer, strengths  # noqa: F401 - a fixture

from gpenvideo import MediaError, OptionError
from gpenvideo.batch.settings import work_of
from gpenvideo.device import DeviceFaces
from gpenvideo.faces.tracker import KEEP
from gpenvideo.frame import Frame, Layout
from gpenvideo.gpen import GPEN, GPENConfig
from gpenvideo.networks import gpu_of, load_detector
from gpenvideo.restorer import GPENRestorer
from gpenvideo.segmented.work import Work
from gpenvideo.stages import Stages
from gpenvideo.transcode import Decoding, Encoding, restore_video
from gpenvideo.video.description import side_data
from gpenvideo.video.hardware import DECODERS, Hardware
from gpenvideo.video.nvdec import planes_of
from gpenvideo.video.reader import Copied, VideoReader
from gpenvideo.video.treatment import Treatment

FFV1 = Encoding(codec="ffv1")
EIGHT, TEN = Layout("yuv", 8, (2, 2)), Layout("yuv", 10, (2, 2))
SEMI = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
LEAST = (160, 144)  # GPUs take no smaller HEVC
CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": (".mp4", {"codec": "libx264", "b_frames": 3, "gop": 12, "audio": 1, "rotation": 90}),
    "short groups": (".mkv", {"codec": "libx264", "b_frames": 2, "gop": 3}),
    "hevc, 10 bits, HDR": (
        ".mkv",
        {"codec": "libx265", "pix_fmt": "yuv420p10le", "gop": 12, "matrix": 9, "transfer": 16},
    ),
    "full range": (".mkv", {"codec": "libx264", "pix_fmt": "yuvj420p", "full_range": True, "gop": 12}),
    "vp9, varying rate": (
        ".webm",
        {
            "codec": "libvpx-vp9",
            "gop": 12,
            "options": {"deadline": "realtime", "cpu-used": "8"},
            "pts": [i * 40 + 7 * (i % 3) for i in range(40)],
            "time_base": Fraction(1, 1000),
        },
    ),
}


@dataclass
class Driver:
    """What decodes on the GPU; given as `Hardware`'s opener.

    fails_at: the number of a packet, from 0, that it raises at, those of the check included; -1 is the end.
    loses: the number of a packet whose pictures it does not give.
    lag: how many pictures it holds back.
    """

    path: Path
    index: int
    device: torch.device
    fails_at: int | None = None
    loses: int | None = None
    lag: int = 0

    def __post_init__(self) -> None:
        with av.open(str(self.path)) as container:
            self._context: Any = container.streams[self.index].codec_context
        self.name = self._context.name
        self.packets = self.ends = 0
        self._late: list[Any] = []

    def decode(self, packet: Any) -> list[Any]:
        self.ends += packet is None
        if (self.fails_at == -1 and self.ends == 2) or (packet and self.packets == self.fails_at):
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")
        self.packets += packet is not None
        pictures = [p.reformat(format=SEMI[p.format.name], threads=1) for p in self._context.decode(packet)]
        if self.packets != self.loses:
            self._late += pictures
        ready = len(self._late) - self.lag if packet else len(self._late)
        given, self._late = self._late[: max(0, ready)], self._late[max(0, ready) :]
        return given

    def flush_buffers(self) -> None:
        self._late.clear()
        self._context.flush_buffers()


class Other(Driver):
    """Decodes another file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._of_it = av.open(str(self.path)).demux(video=0)

    def decode(self, packet: Any) -> list[Any]:
        return super().decode(packet and next(self._of_it))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder, made = tmp_path_factory.mktemp("clips"), dict[str, Path]()

    def clip(name: str) -> Path:
        if name not in made:
            suffix, how = CLIPS[name]
            place = folder / f"{len(made)}{suffix}"
            made[name] = write_clip(place, **{"size": LEAST, "frames": 40, **how})
        return made[name]

    return clip


def read(path: Path, opener: Any = Driver, **options: Any) -> tuple[VideoReader, list[Any]]:
    """A file through a driver; through software where that is None."""
    hardware = Hardware(CPU, opener=opener) if opener else None
    with VideoReader(path, hardware=hardware, **options) as reader:
        return reader, list(reader)


def same(one: Any, other: Any) -> bool:
    """Whether two items of a reader are the same."""
    if isinstance(one, Copied):
        return bytes(one.packet) == bytes(other.packet) and one.packet.pts == other.packet.pts
    assert (one.pts, one.time_base, one.colour) == (other.pts, other.time_base, other.colour)
    return all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    """The same frames, and the same packets: decoders give pictures sooner or later among these."""
    for kind in (Frame, Copied):
        mine, its = ([item for item in items if isinstance(item, kind)] for items in (ours, theirs))
        assert len(mine) == len(its)
        assert mine or kind is Copied
        for one, other in zip(mine, its, strict=True):
            assert same(one, other)


@pytest.mark.parametrize("size", [(64, 48), (66, 50), (2, 2), (1280, 720)], ids=str)
@pytest.mark.parametrize(("form", "layout"), [("nv12", EIGHT), ("p010le", TEN)], ids=["nv12", "p010"])
@pytest.mark.parametrize("padding", [0, 30])
def test_planes_are_those_of_software_in_memory_of_their_own(
    form: str, layout: Layout, size: tuple[int, int], padding: int
) -> None:
    (width, height), rng = size, np.random.default_rng(1)
    shapes = (height, width), (height // 2, width // 2), (height // 2, width // 2)
    expected = [rng.integers(0, 1 << layout.depth_bits, shape).astype(layout.dtype) for shape in shapes]
    luma = np.zeros((height, width + padding), layout.dtype)
    chroma = np.zeros((height // 2, width + padding), layout.dtype)
    luma[:, :width] = expected[0]
    chroma[:, 0:width:2], chroma[:, 1:width:2] = expected[1:]
    if layout is TEN:  # the low bits of P010 are zeros, by its definition; whatever is there must not show
        luma, chroma = (rng.integers(0, 64, p.shape, np.uint16) | p << 6 for p in (luma, chroma))
    surface = [torch.from_numpy(plane[:, :width]) for plane in (luma, chroma)]
    picture = av.VideoFrame.from_dlpack(surface, format=form)
    planes = planes_of(picture, layout)
    luma[...], chroma[...] = 0, 0  # the surface is used again
    del picture
    for plane, samples in zip(planes, expected, strict=True):
        assert plane.is_contiguous()
        assert np.array_equal(plane.numpy(), samples)
        assert plane.numpy().dtype == samples.dtype


@pytest.mark.parametrize("name", CLIPS)
def test_a_file_is_read_as_by_software(name: str, clips: Callable[[str], Path]) -> None:
    path = clips(name)
    software, ours = read(path, None)
    reader, theirs = read(path)
    assert reader.warnings == software.warnings
    assert (reader.info, reader.codec, reader.counts) == (software.info, software.codec, software.counts)
    assert side_data(reader.first) == side_data(software.first)
    assert_same(theirs, ours)
    frames = [item for item in theirs if isinstance(item, Frame)]
    assert len(frames) == 40
    for frame in frames:
        assert frame.decoded.format.name == software.info.pixel_format  # no surface is kept
        assert frame.on_device is not None
        for plane, there in zip(frame.planes, frame.on_device, strict=True):
            assert np.array_equal(plane, there.numpy())
            assert not np.shares_memory(plane, there.numpy())
    assert all(frame.on_device is None for frame in ours if isinstance(frame, Frame))


PARTS = [{"start_frame": 17, "end_frame": 31}, {"start_s": 1.3}, {"end_s": 0.5}, {"start_frame": 39}]


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_parts_are_those_of_software(name: str, part: dict[str, Any], clips: Callable[[str], Path]) -> None:
    reader, theirs = read(clips(name), **part)
    assert_same(theirs, read(clips(name), None, **part)[1])
    assert not reader.warnings or name != "h264"


@pytest.mark.parametrize("opener", [Driver, partial(Driver, fails_at=16 + 16 + 5)], ids=["works", "fails"])
def test_segments_are_those_of_software(opener: Any, clips: Callable[[str], Path]) -> None:
    path, found = clips("h264"), []
    for hardware in (None, Hardware(CPU, opener=opener)):
        with VideoReader(path, hardware=hardware) as reader:
            pts = [0, 15, 26]
            ticks = [round(number / 25 / reader.info.time_base) for number in pts]
            found.append(list(reader.between(ticks[1], ticks[2])))
    assert len(found[0]) == 11
    assert_same(found[1], found[0])


def test_what_reads_says_what_decodes(clips: Callable[[str], Path]) -> None:
    with VideoReader(clips("h264"), hardware=Hardware(CPU, opener=Driver)) as reader:
        assert (reader.decoder, reader.device) == ("h264 (NVDEC)", CPU)
    with VideoReader(clips("h264")) as reader:
        assert (reader.decoder, reader.device) == ("h264", None)


@pytest.mark.parametrize("at", [17, 18, 25, 33, 48, 55, -1])
@pytest.mark.parametrize("name", CLIPS)
def test_where_it_fails_the_cpu_goes_on(name: str, at: int, clips: Callable[[str], Path]) -> None:
    """Also in the first packets of a run (the check takes 16), and at the end: none is lost or twice."""
    path = clips(name)
    reader, theirs = read(path, partial(Driver, fails_at=at))
    software, ours = read(path, None)
    assert_same(theirs, ours)
    (told,) = [line for line in reader.warnings if line not in software.warnings]
    assert told.startswith("NVDEC failed at ")
    assert told.endswith(
        "(CUDA error: an illegal memory access was encountered): from there on the CPU decodes."
    )
    assert (reader.decoder, reader.counts) == (software.decoder, software.counts)
    frames = [item for item in theirs if isinstance(item, Frame)]
    there = [frame.on_device is not None for frame in frames]
    assert there == sorted(there, reverse=True)
    assert at not in (25, 33, 48) or 0 < sum(there) < at - 15


@pytest.mark.parametrize("at", range(30, 40))
def test_pictures_that_it_holds_back_are_not_lost(at: int, clips: Callable[[str], Path]) -> None:
    path = clips("short groups")
    reader, theirs = read(path, partial(Driver, fails_at=at, lag=9))
    assert len(reader.warnings) > len(read(path, None)[0].warnings)
    assert_same(theirs, read(path, None)[1])


def test_what_the_cpu_cannot_go_on_from_is_an_error(tmp_path: Path) -> None:
    """A raw stream has no timestamps to say which pictures were given; packets are kept for a while only."""
    path = write_clip(tmp_path / "long.mkv", codec="libx264", size=(32, 32), frames=700, gop=2000)
    for at, told in ((590, "from there on the CPU decodes"), (690, "say --decoder software")):
        try:
            said = read(path, partial(Driver, fails_at=16 + at))[0].warnings[-1]
        except MediaError as error:
            said = error.message
        assert told in said
    path = write_clip(tmp_path / "raw.264", codec="libx264", frames=40)
    assert_same(read(path)[1], read(path, None)[1])
    with pytest.raises(MediaError, match="say --decoder software"):
        read(path, partial(Driver, fails_at=30))


def test_damage_is_told_as_by_software(tmp_path: Path, clips: Callable[[str], Path]) -> None:
    damaged = with_noise(clips("h264"), tmp_path / "noise.mp4", [(0.7, 300)])
    software, ours = read(damaged, None)
    reader, theirs = read(damaged)
    assert software.counts.broken_packets + software.counts.broken_frames > 0
    assert [item.pts for item in theirs if isinstance(item, Frame)] == [
        item.pts for item in ours if isinstance(item, Frame)
    ]
    assert reader.counts.frames == software.counts.frames
    assert set(software.warnings) <= set(reader.warnings)


def other(path: Path, levels: int) -> Path:
    """A file of the same pictures, but a square that is some levels lighter, in the sixth."""

    def picture(number: int) -> av.VideoFrame:
        frame = scene_frame("yuv420p", (64, 48), number)
        if number == 5:
            samples = np.ndarray((48, frame.planes[0].line_size), np.uint8, frame.planes[0])
            samples[8:16, 8:16] += np.uint8(levels)
        return frame

    lossless = {"crf": "0"}
    return write_clip(path, codec="libx264", frames=20, picture=picture, options=lossless, gop=4)


def test_a_check_that_fails_is_told_and_the_cpu_decodes(tmp_path: Path) -> None:
    clip, lighter, far = (other(tmp_path / f"{n}.mkv", n) for n in (0, 1, 2))
    frames = read(clip, None)[1]

    def told(opener: Any) -> list[str]:
        reader, found = read(clip, opener)
        if reader.warnings:
            assert_same(found, frames)
            assert all(frame.on_device is None for frame in found)
        return reader.warnings

    assert told(Driver) == []
    begin = "The CPU decodes it, not NVDEC: "
    assert told(lambda _, *more: Other(far, *more)) == [
        f"{begin}samples of picture 5 are 2 levels off the CPU's."
    ]
    assert told(partial(Driver, loses=3)) == [f"{begin}of 16 packets it made 15 pictures, the CPU 16."]
    assert told(partial(Driver, fails_at=3)) == [
        f"{begin}CUDA error: an illegal memory access was encountered."
    ]
    assert told(lambda path, *_: av.open(f"{path}.gone")) == [f"{begin}No such file or directory."]
    nvdec = Hardware(CPU, opener=lambda _, *more: Other(lighter, *more))
    with VideoReader(clip, hardware=nvdec) as reader:
        assert (reader.device, reader.warnings) == (CPU, [])  # a level is what it may be off


def refusals(folder: Path) -> Iterator[tuple[str, Path, dict[str, Any], str]]:
    """What a GPU is not tried with, and why."""
    x264 = write_clip(folder / "a.mkv", codec="libx264", frames=20)
    yield "no GPU", x264, {}, "what restores faces is not on a GPU"
    yield "strict", x264, {"strict": True}, "damage is to be an error, and a GPU does not tell of all"
    treatment = Treatment(None, "hflip", True)
    yield "filtered", x264, {"treatment": treatment}, "its pictures are interlaced, or filtered first"
    woven = {"options": {"x264-params": "tff=1:interlaced=1", "preset": "ultrafast"}}
    path = write_clip(folder / "b.mkv", codec="libx264", frames=20, size=(64, 64), **woven)
    yield "interlaced", path, {}, "its pictures are interlaced, or filtered first"
    path = write_clip(folder / "c.mkv", codec="libx264", pix_fmt="yuv444p", size=(63, 48), frames=4)
    yield "4:4:4", path, {}, "of h264 in yuv444p the CPU's pictures are taken"
    path = write_clip(folder / "d.mkv", codec="mpeg4", frames=4)
    yield "mpeg4", path, {}, "of mpeg4 in yuv420p the CPU's pictures are taken"
    path = write_clip(folder / "e.mkv", codec="libx265", size=(64, 48), frames=20, pix_fmt="yuv420p12le")
    yield "12 bits", path, {}, "of hevc in yuv420p12le the CPU's pictures are taken"
    (folder / "f").mkdir()
    scene_frame("rgb24", (64, 48)).save(str(folder / "f" / "0.png"))
    yield "pictures", folder / "f", {}, "it is a sequence of pictures"


def test_what_it_is_not_tried_with_is_told_to_who_asked(tmp_path: Path) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("it was opened")

    for name, path, options, why in refusals(tmp_path):
        device = None if name == "no GPU" else CPU
        found = []
        for asked in (True, False):
            with VideoReader(path, hardware=Hardware(device, asked, never), **options) as reader:
                assert reader.device is None
                found.append([line for line in reader.warnings if "NVDEC" in line])
        assert found == [[f"The CPU decodes it, not NVDEC: {why}."], []], name


@pytest.mark.parametrize("layout", [EIGHT, TEN], ids=["8 bits", "10 bits"])
@pytest.mark.usefixtures("one_thread")
def test_faces_are_made_of_the_planes_on_the_device(
    machine: Any,
    restorer: GPENRestorer,  # noqa: F811
    layout: Layout,
) -> None:
    """Frames whose planes on the host are wrong show what is read."""
    results = []
    for empty in (False, True):
        faces = DeviceFaces(CPU, Stages(), None, launch=machine)
        for batch in film(restorer, layout):
            if empty:
                batch = [replace(shown, frame=moved(shown.frame)) for shown in batch]
            results.append(faces.begin(batch, strengths)())
    for ours, theirs in zip(results[:3], results[3:], strict=True):
        for (one, where), (there, places) in zip(ours, theirs, strict=True):
            assert where == places
            if where:
                assert one.edited
                assert there.on_device is None
                assert_same([there], [one])


def moved(frame: Frame) -> Frame:
    """Its planes on the device alone."""
    planes = tuple(torch.from_numpy(plane.copy()) for plane in frame.planes)
    return replace(frame, planes=tuple(np.zeros_like(plane) for plane in frame.planes), on_device=planes)


def test_planes_on_the_device_are_never_those_of_another_picture() -> None:
    frame = moved(Frame((np.zeros((2, 2), np.uint8),), Layout("grey", 8), None, 0, Fraction(1)))  # type: ignore[arg-type]
    assert frame.on_device is not None
    assert frame.copy().on_device is None
    assert replace(frame, planes=frame.planes, edited=True).on_device is None


def test_a_gpu_is_that_of_the_restorer() -> None:
    assert gpu_of(Same(64)) is None
    found = gpu_of(None)
    assert (found is not None) == torch.cuda.is_available()

    class There(Same):
        device = torch.device("cuda", 1)

    assert gpu_of(There(64)) == torch.device("cuda", 1)


def test_without_a_gpu_only_who_asks_is_told(tmp_path: Path) -> None:
    source = portrait_clip(tmp_path / "in.mkv", codec="libx264", size=(320, 240), frames=4)
    told, planes = {}, {}
    for decoder in ("auto", "software", "nvdec"):
        target = tmp_path / f"{decoder}.mkv"
        report = restore_video(
            source, target, weights=Same(64, paint=-0.9), decoding=Decoding(decoder=decoder), encoding=FFV1
        )
        told[decoder], planes[decoder] = report.warnings, decoded_planes(target)
        assert report.stream["decoder"] == "h264"
        assert report.options["decode"]["decoder"] == decoder
    assert told["auto"] == told["software"]
    assert told["nvdec"].count("The CPU decodes it, not NVDEC: what restores faces is not on a GPU.") == 1
    assert len(told["nvdec"]) == len(told["auto"]) + 1
    assert json.dumps(told)
    for decoder in ("software", "nvdec"):
        for ours, theirs in zip(planes["auto"].values(), planes[decoder].values(), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_command_line(said: Callable[..., Any], network: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", codec="libx264", frames=3)
    common = (clip, "--weights", network, "--device", "cpu", "--detect-size", "64")
    run = said("restore", *common, "-o", tmp_path / "a.mkv", "--decoder", "nvdec")
    assert run.code == 0
    assert " ".join(run.err.split()).count("The CPU decodes it, not NVDEC: what restores faces is") == 1
    run = said("restore", *common, "-o", tmp_path / "b.mkv")
    assert run.code == 0
    assert "NVDEC" not in run.err
    run = said("restore", *common, "-o", tmp_path / "c.mkv", "--decoder", "cuvid")
    assert run.code == 2
    assert "'cuvid' is no decoder: say auto, software, nvdec" in " ".join(run.err.split())
    assert not (tmp_path / "c.mkv").exists()


def test_batches_take_it_and_their_results_do_not_depend_on_it(network: Path) -> None:
    work = work_of("in.mkv", {"decoder": "nvdec"})
    assert work.decoding.decoder == "nvdec"
    with pytest.raises(OptionError, match="no decoder"):
        work_of("in.mkv", {"decoder": "gpu"})
    works = [Work("in.mkv", str(network), decoding=Decoding(decoder=name)) for name in DECODERS]
    assert len({work.fingerprint() for work in works}) == 1


@pytest.mark.cuda
@pytest.mark.parametrize("name", CLIPS)
def test_on_cuda(name: str, clips: Callable[[str], Path]) -> None:
    """From the beginning, in parts and again: bit for bit what the CPU decodes, here and there."""
    device = torch.device("cuda", torch.cuda.current_device())
    for part in ({}, *PARTS):
        with VideoReader(clips(name), hardware=Hardware(device, asked=True), **part) as reader:
            found = list(reader)
            assert not [line for line in reader.warnings if "NVDEC" in line]
            assert reader.decoder == f"{reader.codec} (NVDEC)"
        software, expected = read(clips(name), None, **part)
        assert reader.info == software.info
        assert_same(found, expected)
        for frame in found:
            if isinstance(frame, Frame):
                assert frame.on_device is not None
                for plane, there in zip(frame.planes, frame.on_device, strict=True):
                    assert there.device == device
                    assert np.array_equal(plane, there.cpu().numpy())


@pytest.mark.cuda
def test_a_video_restored_through_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPEN(GPENConfig(64, 64, (8, 8, 8, 8, 8), style_dim=16, mapping_layers=2)).eval()
    networks = GPENRestorer(model, device="cuda", dtype="fp32"), load_detector(device="cuda", threshold=KEEP)
    source = portrait_clip(tmp_path / "in.mkv", codec="libx264", size=(320, 240), frames=40)
    made = {}
    for decoder in ("software", "nvdec"):
        report = restore_video(
            source,
            tmp_path / f"{decoder}.mkv",
            weights=networks[0],
            detector=networks[1],
            decoding=Decoding(decoder=decoder),
            encoding=FFV1,
        )
        made[decoder] = decoded_planes(tmp_path / f"{decoder}.mkv")
        assert report.stream["decoder"] == ("h264 (NVDEC)" if decoder == "nvdec" else "h264")
        assert report.faces > 30
    for ours, theirs in zip(made["software"].values(), made["nvdec"].values(), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert np.abs(one.astype(int) - other).max() <= 1  # kernels may add in another order
