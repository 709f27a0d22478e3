"""The restored stream as it is written: times, samples, tags, encoders, and what is refused."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import noise_frame, write_clip, write_sequence

from gpenvideo.errors import FileError, MediaError, OptionError
from gpenvideo.frame import Colour, Frame, Layout, StreamInfo
from gpenvideo.video.conversion import conversion
from gpenvideo.video.description import colour_of, hdr_of, side_data
from gpenvideo.video.encoders import hdr_options, setup
from gpenvideo.video.pixels import pixel_format, planes_of, to_frame
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter, _with_side_data

FAST = {"preset": "ultrafast", "options": {"threads": "1"}}
UNTIMED = {"avoid_negative_ts": "disabled"}


def transcode(source: Path, target: Path, *, edit: bool = False, **settings: Any) -> VideoWriter:
    with VideoReader(source) as reader, VideoWriter(target, reader, **settings) as writer:
        for item in reader:
            writer.write(item.copy() if edit and isinstance(item, Frame) else item)
    return writer


def judged(ffprobe: str, path: Path, *show: str) -> dict[str, Any]:
    command = [ffprobe, "-v", "error", *show, "-of", "json", str(path)]
    return dict(json.loads(subprocess.check_output(command)))


def shown(ffprobe: str, path: Path) -> tuple[Fraction, list[int]]:
    """The time base and the presentation ticks of the pictures, as ffprobe decodes them."""
    facts = judged(ffprobe, path, "-select_streams", "v:0", "-show_frames", "-show_streams")
    return Fraction(facts["streams"][0]["time_base"]), [frame["pts"] for frame in facts["frames"]]


def frames(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return [item for item in reader if isinstance(item, Frame)]


def samples(found: list[Frame]) -> list[bytes]:
    return [b"".join(plane.tobytes() for plane in frame.planes) for frame in found]


# Times


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("time_base", ["1/25", "1/12800", "1/15360", "1/90000", "1/1200000"])
def test_ticks_are_the_sources_in_mp4(tmp_path: Path, ffprobe: str, container: str, time_base: str) -> None:
    base = Fraction(time_base)
    ticks = [7 + round(i * Fraction(1, 25) / base) for i in range(9)]
    source = write_clip(tmp_path / "in.nut", time_base=base, pts=ticks)
    transcode(source, tmp_path / f"out.{container}", preset="veryfast")
    with VideoReader(source) as reader:
        base = reader.info.time_base  # NUT refines it
        wanted = [item.pts for item in reader if isinstance(item, Frame)]
    assert shown(ffprobe, tmp_path / f"out.{container}") == (base, wanted)


def test_a_time_base_of_1001_30000_gives_the_same_moments(tmp_path: Path, ffprobe: str) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", rate=Fraction(30000, 1001), b_frames=2)
    transcode(source, tmp_path / "out.mp4", preset="veryfast")
    base, ticks = shown(ffprobe, tmp_path / "out.mp4")
    assert [tick * base for tick in ticks] == [i * Fraction(1001, 30000) for i in range(12)]


@pytest.mark.parametrize("container", ["mp4", "mkv", "nut"])
@pytest.mark.parametrize("start", [0, 1, 90_000 * 100 + 7])
def test_variable_rates_stay_variable(tmp_path: Path, ffprobe: str, container: str, start: int) -> None:
    ticks = [start + tick for tick in (0, 3000, 3100, 9000, 9003, 20000, 29999, 90000)]
    source = write_clip(
        tmp_path / "in.nut", time_base=Fraction(1, 90000), pts=ticks, container_options=UNTIMED
    )
    transcode(source, tmp_path / f"out.{container}", preset="veryfast")
    base, found = shown(ffprobe, tmp_path / f"out.{container}")
    if container == "mkv":
        assert base == Fraction(1, 1000)
        assert found == [int(tick / 90 + 0.5) for tick in ticks]
    else:
        assert [tick * base for tick in found] == [tick * Fraction(1, 90000) for tick in ticks]


def test_b_frames_do_not_move_the_pictures_against_the_sound(tmp_path: Path, ffprobe: str) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", b_frames=2, audio=1, frames=30)
    for container in ("mp4", "mkv", "mov"):
        target = tmp_path / f"out.{container}"
        transcode(source, target, preset="medium")
        packets = judged(ffprobe, target, "-show_packets")["packets"]
        video = [packet for packet in packets if packet["codec_type"] == "video"]
        assert any(int(p["pts"]) != int(p["dts"]) for p in video if "dts" in p), "no B-frames: no test"
        assert min(float(packet["pts_time"]) for packet in video) == 0
        sound = [float(packet["pts_time"]) for packet in packets if packet["codec_type"] == "audio"]
        assert sound[0] == pytest.approx(-1024 / 48000, abs=0.001)


def test_pictures_before_0_shift_everything_alike(tmp_path: Path, ffprobe: str) -> None:
    source = write_clip(
        tmp_path / "in.mkv", codec="ffv1", time_base=Fraction(1, 1000), pts=range(-400, 400, 40), audio=1,
        audio_codec="pcm_s16le", audio_s=0.5, container_options=UNTIMED,
    )  # fmt: skip
    with VideoReader(source) as reader:
        items = list(reader)
    video = next(item.pts * item.time_base for item in items if isinstance(item, Frame))
    sound = next(item.packet.pts * item.packet.time_base for item in items if not isinstance(item, Frame))
    assert video < 0
    for container in ("mkv", "mp4"):
        target = tmp_path / f"out.{container}"
        writer = transcode(source, target, **FAST)
        assert any("later" in warning for warning in writer.warnings)
        packets = judged(ffprobe, target, "-show_packets")["packets"]
        first = {kind: next(float(p["pts_time"]) for p in packets if p["codec_type"] == kind)
                 for kind in ("video", "audio")}  # fmt: skip
        assert first["video"] >= 0
        assert first["audio"] - first["video"] == pytest.approx(float(sound - video), abs=0.001)


def test_the_last_picture_keeps_its_duration(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", frames=10)
    transcode(source, tmp_path / "out.mp4", **FAST)
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        assert after.streams.video[0].duration == before.streams.video[0].duration
        assert after.streams.video[0].average_rate == 25


# Samples

KEPT = [
    *("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv440p", "yuvj420p", "yuv420p10le", "gbrp"),
    *("yuv422p10le", "yuv444p12le", "yuv444p16le", "gray", "gray12le", "gray16le", "gbrp10le", "gbrp16le"),
    *("yuva420p", "yuva444p10le", "gbrap12le", "bgra", "yuv420p9le"),
]


@pytest.mark.parametrize("edit", [False, True], ids=["passed", "edited"])
@pytest.mark.parametrize("name", KEPT)
def test_ffv1_keeps_every_sample(tmp_path: Path, name: str, edit: bool) -> None:
    """The source is FFV1 too, and raw video for the formats that FFV1 does not take."""
    full = name.startswith("yuvj")
    taken = name in [form.name for form in av.Codec("ffv1", "w").video_formats or ()]
    source = write_clip(
        tmp_path / "in.nut", codec="ffv1" if taken else "rawvideo", pix_fmt=name, size=(53, 47), frames=2,
        full_range=True if full else None,
    )  # fmt: skip
    transcode(source, tmp_path / "out.mkv", codec="ffv1", edit=edit)
    before, after = frames(source), frames(tmp_path / "out.mkv")
    assert samples(before) == samples(after)
    assert [frame.layout for frame in before] == [frame.layout for frame in after]
    assert after[0].colour.full_range == before[0].colour.full_range
    if before[0].alpha is not None:
        assert np.array_equal(before[0].alpha, after[0].alpha)


@pytest.mark.parametrize(("name", "planar"), [("nv12", "yuv420p"), ("p010le", "yuv420p10le")])
def test_nv12_and_p010_are_only_laid_out_otherwise(tmp_path: Path, name: str, planar: str) -> None:
    source = write_clip(tmp_path / "in.mkv", pix_fmt=planar, size=(53, 47), frames=1)
    picture = noise_frame(name, (53, 47))
    with VideoReader(source) as reader:
        frame = to_frame(picture, reader.info.colour, 0, reader.info.time_base)
        with VideoWriter(tmp_path / "out.mkv", reader, codec="ffv1") as writer:
            writer.write(frame)
    assert (writer.pixel_format, writer.warnings) == (planar, [])
    assert samples([frame]) == samples(frames(tmp_path / "out.mkv"))


def test_x264_at_crf_0_is_lossless_also_for_odd_sizes(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", size=(53, 47), frames=2)
    writer = transcode(source, tmp_path / "out.mp4", crf=0, preset="ultrafast")
    assert writer.pixel_format == "yuv444p"
    assert any("repeated from 4:2:0 to 4:4:4" in warning for warning in writer.warnings)
    for before, after in zip(frames(source), frames(tmp_path / "out.mp4"), strict=True):
        assert (after.width, after.height) == (53, 47)
        assert np.array_equal(before.planes[0], after.planes[0])
        assert np.array_equal(before.planes[1], after.planes[1][::2, ::2])


def test_an_odd_size_in_420_on_request_is_padded_and_told(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", size=(53, 47), frames=2)
    writer = transcode(source, tmp_path / "out.mp4", crf=0, preset="ultrafast", pixel_format="yuv420p")
    assert any("53x47 is padded to 54x48" in warning for warning in writer.warnings)
    after = frames(tmp_path / "out.mp4")[0]
    assert np.array_equal(after.planes[0][:47, :53], frames(source)[0].planes[0])
    assert np.array_equal(after.planes[0][:, 53], after.planes[0][:, 52])


@pytest.mark.parametrize(
    ("name", "codec", "wanted", "words"),
    [
        ("yuv411p", "libx264", "yuv422p", "repeated from 4:1:1 to 4:2:2"),
        ("yuv422p", "libsvtav1", "yuv420p", "filtered from 4:2:2 to 4:2:0"),
        ("gbrp", "libsvtav1", "yuv420p", "RGB is converted to 4:2:0"),
        ("gbrp", "libx264", "bgr0", "few players"),
        ("gray", "libsvtav1", "yuv420p", "neutral chroma"),
        ("gray16le", "libx265", "gray12le", "16 bits are dithered to 12"),
        ("yuv420p9le", "libx264", "yuv420p10le", "9 bits lie in the high bits of 10"),
        ("yuv420p", "prores_ks", "yuv422p10le", "8 bits lie in the high bits of 10"),
        ("yuva420p", "libx264", "yuv420p", ""),
    ],
)
def test_what_an_encoder_does_not_take_is_brought_near_and_told(
    name: str, codec: str, wanted: str, words: str
) -> None:
    frame = noise_frame(name, (64, 64))
    known = pixel_format(name)
    info = StreamInfo(64, 64, name, known.layout, colour_of(frame, "")[0], Fraction(1, 25))
    found = setup(codec, info)
    assert found.conversion.name == wanted
    assert words in " ".join(found.notes)
    assert bool(words) == bool(found.notes)


def test_depth_chroma_and_neutral_grey_are_recoverable() -> None:
    rng = np.random.default_rng(1)
    luma = rng.integers(0, 512, (6, 8), np.uint16)
    chroma = rng.integers(0, 512, (6, 2), np.uint16)
    colour = Colour(6, False)
    frame = Frame((luma, chroma, chroma), Layout("yuv", 9, (4, 1)), colour, 0, Fraction(1))
    way = conversion(frame.layout, colour, (8, 6), ["yuv422p10le"])
    picture = way(frame)
    y, u = (np.frombuffer(plane, "<u2").reshape(6, -1) for plane in picture.planes[:2])
    assert np.array_equal(y[:, :8] >> 1, luma)
    assert np.array_equal(u[:, :4:2] >> 1, chroma)
    grey = Frame((luma[:, :6].astype(np.uint8),), Layout("grey", 8), colour, 0, Fraction(1))
    picture = conversion(grey.layout, colour, (6, 6), ["yuv420p"])(grey)
    assert np.array_equal(np.frombuffer(picture.planes[0], "u1").reshape(6, -1)[:, :6], grey.planes[0])
    assert set(np.frombuffer(picture.planes[2], "u1").reshape(3, -1)[:, :3].ravel()) == {128}


def test_frames_of_another_size_that_was_told(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", size=(32, 24), frames=2)
    with (
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "out.mkv", reader, codec="ffv1", size=(64, 24)) as writer,
    ):
        for item in reader:
            assert isinstance(item, Frame)
            wide = tuple(np.concatenate([plane, plane], axis=1) for plane in item.planes)
            writer.write(replace(item, planes=wide, edited=True))
    assert writer.facts | {"options": {}} == {
        **{"encoder": "ffv1", "options": {}, "pixel_format": "yuv420p"},
        **{"width": 64, "height": 24, "container": "matroska"},
    }
    after = frames(tmp_path / "out.mkv")[1].planes[0]
    assert np.array_equal(after[:, :32], after[:, 32:])


def test_the_decoders_frame_is_as_it_was_after_encoding(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", b_frames=2, frames=12)
    with VideoReader(source) as reader, VideoWriter(tmp_path / "out.mkv", reader, **FAST) as writer:
        for item in reader:
            assert isinstance(item, Frame)
            before = samples([item]), item.decoded.pts, item.decoded.pict_type
            writer.write(item)
            assert (samples([item]), item.decoded.pts, item.decoded.pict_type) == before


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    """Of FFV1: now and then libx264, with its assembly, does not even with one thread."""
    source = write_clip(tmp_path / "in.mp4", codec="libx264", frames=10)
    for name in ("a.nut", "b.nut"):
        transcode(source, tmp_path / name, codec="ffv1")
    assert (tmp_path / "a.nut").read_bytes() == (tmp_path / "b.nut").read_bytes()


def test_side_data_travels_with_other_samples(tmp_path: Path) -> None:
    """Of any kind: x264's own user data stands for captions, which PyAV cannot make."""
    source = write_clip(tmp_path / "in.mp4", codec="libx264", size=(54, 46), frames=1)
    with VideoReader(source) as reader:
        decoded = reader.first
    assert "SEI_UNREGISTERED" in side_data(decoded)
    picture = noise_frame("yuv420p", (54, 46), 5)
    picture.pts, picture.time_base = 7, Fraction(1, 25)
    carried = _with_side_data(picture, decoded)
    assert side_data(carried) == side_data(decoded)
    assert [p.tobytes() for p in planes_of(carried)[0]] == [p.tobytes() for p in planes_of(picture)[0]]
    assert (carried.pts, carried.time_base) == (7, Fraction(1, 25))


# Tags


@pytest.mark.parametrize("container", ["mkv", "mp4"])
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_tags_and_rotation_reach_the_file(
    tmp_path: Path, ffprobe: str, container: str, rotation: int
) -> None:
    source = write_clip(
        tmp_path / "in.mp4", codec="libx264", matrix=9, primaries=9, transfer=16, full_range=rotation == 90,
        sample_aspect=Fraction(64, 45), rotation=rotation, frames=3,
    )  # fmt: skip
    show = ("-show_streams",)
    before = judged(ffprobe, source, *show)["streams"][0]
    target = tmp_path / f"out.{container}"
    transcode(source, target, **FAST)
    after = judged(ffprobe, target, *show)["streams"][0]
    for tag in ("color_range", "color_space", "color_primaries", "color_transfer", "sample_aspect_ratio"):
        assert after[tag] == before[tag], tag
    assert after["side_data_list"][0]["rotation"] == before["side_data_list"][0]["rotation"]


def test_a_mirrored_picture_stays_mirrored(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", rotation=90, mirrored=True, frames=2)
    transcode(source, tmp_path / "out.mkv", **FAST)
    with VideoReader(source) as before, VideoReader(tmp_path / "out.mkv") as after:
        assert after.info.mirrored
        assert (after.info.rotation_deg, after.info.mirrored) == (
            before.info.rotation_deg,
            before.info.mirrored,
        )


def test_what_the_source_does_not_say_is_not_said(tmp_path: Path, ffprobe: str) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", frames=3)
    transcode(source, tmp_path / "out.mp4", **FAST)
    found = judged(ffprobe, tmp_path / "out.mp4", "-show_streams")["streams"][0]
    assert not {"color_space", "color_primaries", "color_transfer", "color_range"} & set(found)


@pytest.mark.parametrize(("name", "aspect"), [("ffv1", "16:15"), ("ffv1", "32:27"), ("libsvtav1", "64:45")])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_the_sample_aspect_is_in_the_container(
    tmp_path: Path, ffprobe: str, name: str, aspect: str, container: str
) -> None:
    source = write_clip(
        tmp_path / "in.mp4", codec="libx264", sample_aspect=Fraction(*map(int, aspect.split(":"))), frames=3,
        size=(720, 480) if name == "ffv1" else (90, 64),
    )  # fmt: skip
    writer = transcode(source, tmp_path / f"out.{container}", codec=name, edit=True)
    found = judged(ffprobe, tmp_path / f"out.{container}", "-show_streams", "-show_frames")
    assert found["streams"][0]["sample_aspect_ratio"] == aspect
    assert writer.warnings == []
    assert len(found["frames"]) == 3


MASTERING = {
    "mastering": {
        "primaries": (
            (Fraction(34, 50), Fraction(16, 50)),
            (Fraction(53, 200), Fraction(69, 100)),
            (Fraction(3, 20), Fraction(3, 50)),
        ),
        "white": (Fraction(3127, 10000), Fraction(329, 1000)),
        "luminance": (Fraction(1, 200), Fraction(1000)),
    },
    "light": (1000, 400),
}


@pytest.mark.parametrize("pictures", [1, 2, 3])
@pytest.mark.parametrize("codec", ["libx265", "libx264"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_videos_of_few_pictures(tmp_path: Path, codec: str, container: str, pictures: int) -> None:
    """x265 gives the decoding times of fewer than three out of memory that it never wrote."""
    source = write_clip(tmp_path / "in.mkv", codec="ffv1", size=(160, 128), frames=pictures)
    target = tmp_path / f"out.{container}"
    transcode(source, target, codec=codec)
    with av.open(str(target)) as made:
        packets = [packet for packet in made.demux(video=0) if packet.size]
    assert len(packets) == len(frames(target)) == pictures
    assert min(packet.pts for packet in packets) == 0
    assert all(packet.dts is None or abs(packet.pts - packet.dts) <= 10_000 for packet in packets)


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1", "libx264"])
def test_hdr_metadata_is_carried(tmp_path: Path, codec: str) -> None:
    options = {"x265-params": ":".join(["log-level=none", *(hdr_options("libx265", MASTERING) or [])])}
    source = write_clip(
        tmp_path / "in.mp4", codec="libx265", pix_fmt="yuv420p10le", size=(160, 128), options=options,
        frames=4, matrix=9, primaries=9, transfer=16,
    )  # fmt: skip
    with VideoReader(source) as reader:
        wanted = hdr_of(reader.first)
    assert wanted == MASTERING
    transcode(source, tmp_path / "out.mkv", codec=codec)
    with VideoReader(tmp_path / "out.mkv") as reader:
        found = hdr_of(reader.first)
    assert found["light"] == wanted["light"]
    assert np.allclose(
        np.array(found["mastering"]["primaries"], float),
        np.array(wanted["mastering"]["primaries"], float),
        atol=1e-4,
    )
    assert np.allclose(np.array(found["mastering"]["luminance"], float), (0.005, 1000), rtol=1e-2)
    lost = transcode(source, tmp_path / "lost.nut", codec="ffv1")
    assert any("HDR" in warning for warning in lost.warnings)


# Files


def test_nothing_is_there_before_the_end_and_an_earlier_file_stays(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264")
    target = tmp_path / "sub" / "out.mp4"
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    with VideoReader(source) as reader, VideoWriter(target, reader, **FAST) as writer:
        for item in reader:
            writer.write(item)
            assert target.read_bytes() == b"earlier"
    assert frames(target)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("container", ["mp4", "mkv", "nut"])
def test_an_exception_removes_what_was_written(tmp_path: Path, container: str) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", audio=1)
    target = tmp_path / "sub" / f"out.{container}"
    target.parent.mkdir()

    def interrupted() -> None:
        with VideoReader(source) as reader, VideoWriter(target, reader, **FAST) as writer:
            for item in reader:
                writer.write(item)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(target.parent.iterdir()) == []


def test_a_writer_without_frames_writes_nothing(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264")
    with VideoReader(source) as reader:
        writer = VideoWriter(tmp_path / "out.mp4", reader)
        with pytest.raises(MediaError, match="no frame"):
            writer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("out.xyz", {}, "no container"),
        ("out", {}, "suffix"),
        ("out.mp4", {"codec": "nonsense"}, "no codec 'nonsense'"),
        ("out.mp4", {"codec": "prores"}, "mp4 holds no video of prores_ks"),
        ("out.webm", {"codec": "libx264"}, "webm holds no video of libx264: choose libsvtav1"),
        ("out.mp4", {"preset": "warp"}, "no preset 'warp'"),
        ("out.mp4", {"crf": 99}, "0 to 51"),
        ("out.mkv", {"codec": "ffv1", "crf": 1}, "no quality"),
        ("out.mp4", {"pixel_format": "yuv999p"}, "no pixel format"),
        ("out.mp4", {"pixel_format": "pal8"}, "takes no pal8"),
        ("out.png", {}, "out_%04d.png"),
        ("out_%04d.png", {"codec": "tiff"}, "no tiff"),
        ("in.mp4", {}, "the output is the input"),
        ("link.mp4", {}, "the output is the input"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    tmp_path: Path, name: str, settings: dict[str, Any], words: str
) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", frames=2)
    (tmp_path / "link.mp4").symlink_to(source)
    content = source.read_bytes()
    with VideoReader(source) as reader, pytest.raises(OptionError, match=words) as caught:
        VideoWriter(tmp_path / name, reader, **settings)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "link.mp4"]
    assert source.read_bytes() == content


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", codec="libx264", frames=2)
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "missing" / "out.mp4", tmp_path / "file" / "out.mp4"):
        with VideoReader(source) as reader, pytest.raises(FileError, match="cannot write"):
            VideoWriter(target, reader)


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
from gpenvideo.errors import FileError
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter
try:
    with VideoReader(sys.argv[1]) as reader, VideoWriter(sys.argv[2], reader, codec=sys.argv[3]) as writer:
        for item in reader:
            writer.write(item)
except FileError as error:
    print(error)
"""


@pytest.mark.parametrize(("name", "codec"), [("o.mkv", "ffv1"), ("o.mp4", "libx264"), ("o_%d.png", "png")])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, name: str, codec: str) -> None:
    """A limit on the size of files stands for the full disk: the same error, and nobody has to be root."""
    source = write_clip(tmp_path / "in.mkv", size=(160, 120), frames=6)
    (tmp_path / "sub").mkdir()
    command = [sys.executable, "-c", FULL_DISK, str(source), str(tmp_path / "sub" / name), codec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "cannot write it: file too large" in done.stdout
    assert list((tmp_path / "sub").iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=2)
    with VideoReader(source) as reader:
        writer = VideoWriter(tmp_path / "out.mkv", reader)
        grey = Frame((np.zeros((4, 4), np.uint8),), Layout("grey", 8), reader.info.colour, 0, Fraction(1))
        with pytest.raises(MediaError, match="4x4"):
            writer.write(grey)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


# Pictures


@pytest.mark.parametrize(
    ("suffix", "pix_fmt"),
    [(".png", "rgb24"), (".png", "rgb48be"), (".png", "gray"), (".png", "rgba"), (".tiff", "rgb48le"),
     (".tiff", "gray16le"), (".dpx", "gbrp10le"), (".dpx", "rgb48le")],
)  # fmt: skip
def test_pictures_become_the_same_pictures(tmp_path: Path, suffix: str, pix_fmt: str) -> None:
    source = write_sequence(tmp_path / "in", suffix=suffix, pix_fmt=pix_fmt, numbers=range(3))
    writer = transcode(source, tmp_path / f"out_%03d{suffix}", start_number=10)
    assert writer.warnings == []
    names = [f"out_{number:03}{suffix}" for number in (10, 11, 12)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", *names]
    assert samples(frames(source)) == samples(frames(tmp_path / f"out_%03d{suffix}"))
    transcode(source, tmp_path / "folder", codec=writer.encoder)
    assert samples(frames(tmp_path / "folder")) == samples(frames(source))


def test_a_video_becomes_pictures_and_back(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", pix_fmt="bgr0", frames=3, audio=1)
    writer = transcode(source, tmp_path / "%04d.png")
    assert any("other streams" in warning for warning in writer.warnings)
    assert samples(frames(tmp_path / "%04d.png")) == samples(frames(source))
    transcode(tmp_path / "%04d.png", tmp_path / "back.mkv", codec="ffv1")
    assert samples(frames(tmp_path / "back.mkv")) == samples(frames(source))


def test_exr_keeps_sixteen_bit_pictures_nearly(tmp_path: Path) -> None:
    source = write_sequence(tmp_path / "in", suffix=".png", pix_fmt="rgb48be", numbers=range(1))
    transcode(source, tmp_path / "out_%d.exr")
    before, after = frames(source)[0], frames(tmp_path / "out_%d.exr")[0]
    for a, b in zip(before.planes, after.planes, strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() < 64
