"""VideoReader: every frame at its own time, all that travels beside it, and what damage does."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import noise_frame, scene_frame, truncated, with_noise, write_clip, write_sequence
from hypothesis import given
from hypothesis import strategies as st

from gpenvideo.errors import FileError, FileMissing, MediaError, OptionError
from gpenvideo.frame import CENTRED, LEFT, Frame
from gpenvideo.video.description import hdr_of, orientation_of
from gpenvideo.video.probe import probe
from gpenvideo.video.reader import Copied, VideoReader, parse_time
from gpenvideo.video.timing import Clock, steady_rate


def frames_of(path: Path, **options: Any) -> list[Frame]:
    with VideoReader(path, **options) as reader:
        return [item for item in reader if isinstance(item, Frame)]


def judged_pts(ffprobe: str, path: Path, stream: int) -> list[int | None]:
    command = [ffprobe, "-v", "error", "-select_streams", str(stream), "-of", "json"]
    command += ["-show_entries", "frame=best_effort_timestamp", str(path)]
    frames = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["frames"]
    return [frame.get("best_effort_timestamp") for frame in frames]


def test_the_shared_clips_are_read_whole_at_their_times(shared: Path, ffprobe: str) -> None:
    clips = sorted((shared / "data" / "videos").iterdir())
    assert len(clips) > 20
    for path in clips:
        with VideoReader(path) as reader:
            pts = [item.pts for item in reader if isinstance(item, Frame)]
            judged = judged_pts(ffprobe, path, reader.stream.index)
        assert len(pts) == len(judged), path.name
        if judged[0] is not None:
            assert pts == judged, path.name
        else:
            assert pts == list(range(len(pts)))
            assert "no timestamps" in reader.warnings[0]
        assert reader.counts.frames == reader.counts.decoded == len(pts)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("edit.mp4", {"codec": "libx264", "b_frames": 3}),
        ("reorder.mkv", {"codec": "libx264", "b_frames": 2}),
        ("stream.ts", {"codec": "mpeg2video", "b_frames": 2}),
        ("vfr.mkv", {"pts": [3, 5, 6, 20, 21, 50], "time_base": Fraction(1, 100)}),
        ("vfr.nut", {"pts": [0, 1, 7, 8, 30], "time_base": Fraction(1, 30000)}),
        ("late.mp4", {"codec": "libx264", "pts": range(250, 262), "time_base": Fraction(1, 25)}),
        (
            "negative.mkv",
            {"pts": [-7, -3, 0, 5], "container_options": {"avoid_negative_ts": "disabled"}},
        ),
    ],
)
def test_timestamps_are_the_files(tmp_path: Path, ffprobe: str, name: str, options: dict[str, Any]) -> None:
    path = write_clip(tmp_path / name, **options)
    pts = [frame.pts for frame in frames_of(path)]
    assert pts == judged_pts(ffprobe, path, 0)
    assert ("negative" in name) == (pts[0] < 0)
    assert len(pts) == len(options.get("pts", range(12)))


def test_times_of_a_file_with_decoding_times_only_are_steady(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "old.avi", codec="mpeg4", b_frames=2, frames=20)
    with VideoReader(path) as reader:
        pts = [frame.pts for frame in reader if isinstance(frame, Frame)]
    assert np.diff(pts).tolist() == [1] * 19


def test_frames_hold_what_the_decoder_gave_also_after_the_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", pix_fmt="yuv422p10le", size=(53, 31), frames=30)
    frames = frames_of(path)
    gc.collect()
    for number, frame in enumerate(frames):
        truth = noise_frame("yuv422p10le", (53, 31), number)
        luma = np.frombuffer(truth.planes[0], np.uint16).reshape(31, -1)[:, :53]
        np.testing.assert_array_equal(frame.planes[0], luma)
        assert frame.planes[1].shape == (31, 27)
        assert not frame.edited
    with pytest.raises(ValueError, match="read-only"):
        frames[0].planes[0][0, 0] = 1


def test_packets_beside_it_are_those_of_the_file(tmp_path: Path) -> None:
    options: dict[str, Any] = {"audio": 2, "subtitles": ["eng", "deu"], "videos": 2, "cover": True}
    for name, codec in (("a.mkv", "ffv1"), ("a.mp4", "libx264")):
        path = write_clip(
            tmp_path / name, codec=codec, frames=50, chapters=[(0, 1, "one"), (1, 2, "two")],
            attachments={"font.ttf": b"abc"} if name == "a.mkv" else None, **options,
        )  # fmt: skip
        with av.open(str(path)) as container:
            wanted: dict[int, list[tuple[int | None, bytes]]] = {}
            for packet in container.demux():
                if packet.size:
                    wanted.setdefault(packet.stream_index, []).append((packet.pts, bytes(packet)))
        found: dict[int, list[tuple[int | None, bytes]]] = {}
        with VideoReader(path) as reader:
            for item in reader:
                if isinstance(item, Copied):
                    assert item.stream in reader.copied
                    found.setdefault(item.stream.index, []).append((item.packet.pts, bytes(item.packet)))
            kinds = sorted(stream.type for stream in reader.copied)
        del wanted[0]
        assert found == wanted
        extra = ["attachment"] if name == "a.mkv" else []  # an mp4's text of chapters is no stream of its own
        assert kinds == [*extra, "audio", "audio", "subtitle", "subtitle", "video", "video"]


def test_the_video_stream_is_chosen(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "two.mp4", codec="libx264", videos=2, cover=True)
    with VideoReader(path, stream=1) as reader:
        assert reader.stream.index == 1
        assert [stream.index for stream in reader.copied] == [0, 2]
    with pytest.raises(OptionError, match="2 video streams"):
        VideoReader(path, stream=2)


def test_a_raw_stream_gets_times_from_its_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "raw.264", codec="libx264", b_frames=2, rate=50)
    for rate, expected in ((None, 50), (Fraction(24000, 1001), Fraction(24000, 1001))):
        with VideoReader(path, rate_hz=rate) as reader:
            times = [frame.pts * frame.time_base for frame in reader if isinstance(frame, Frame)]
        assert times == [number / Fraction(expected) for number in range(12)]
        assert reader.info.rate_hz == expected
        assert any("no timestamps" in line for line in reader.warnings)
    with VideoReader(path, start_frame=3, end_frame=5) as reader:
        assert [frame.pts for frame in reader if isinstance(frame, Frame)] == [0, 1]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("start", "end"), [(0.4, 1.2), (0, 0.2), (1.88, None), (None, 0.4)])
def test_a_part_in_seconds(tmp_path: Path, suffix: str, start: float | None, end: float | None) -> None:
    path = write_clip(tmp_path / f"a{suffix}", codec="libx264", b_frames=2, frames=50, gop=20, audio=1)
    whole = frames_of(path)
    first, last = round((start or 0) * 25), 50 if end is None else round(end * 25)
    with VideoReader(path, start_s=start, end_s=end) as reader:
        items = list(reader)
    frames = [item for item in items if isinstance(item, Frame)]
    assert len(frames) == last - first
    assert abs(reader.expected_frames - len(frames)) <= 1
    for frame, same in zip(frames, whole[first:last], strict=True):
        np.testing.assert_array_equal(frame.planes[0], same.planes[0])
        shift = round(reader.shift_s / frame.time_base)
        assert frame.pts == same.pts - shift
    if start is not None:
        assert abs(frames[0].time_s) < 0.0015
    sound = [float(i.packet.pts * i.packet.time_base) for i in items if isinstance(i, Copied)]
    length = (last - first) / 25
    assert min(sound) > -0.002 or start is None
    assert abs(max(sound) - length) < 0.08


def test_a_part_by_numbers_of_a_variable_rate(tmp_path: Path) -> None:
    ticks = [0, 40, 50, 300, 310, 1000, 1100, 1500]
    path = write_clip(tmp_path / "a.mkv", pts=ticks, time_base=Fraction(1, 1000))
    part = frames_of(path, start_frame=3, end_frame=6)
    assert [frame.pts for frame in part] == [0, 10, 700]
    np.testing.assert_array_equal(part[0].planes[0], frames_of(path)[3].planes[0])
    assert [frame.pts for frame in frames_of(path, start_frame=6, end_frame=99)] == [0, 400]
    with pytest.raises(MediaError, match="no frame 8"):
        VideoReader(path, start_frame=8)


def test_subtitles_and_further_video_of_a_part(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", codec="libx264", frames=100, gop=30, videos=2, subtitles=["eng"])
    found: dict[str, list[Any]] = {"video": [], "subtitle": []}
    with VideoReader(path, start_s=1.3, end_s=2.6) as reader:
        for item in reader:
            if isinstance(item, Copied):
                found[item.stream.type].append(item.packet)
    assert [(p.pts, p.duration, bytes(p)[:6]) for p in found["subtitle"]] == [
        (0, 200, b"line 1"),  # from 1.0 to 1.5 s: it is on the screen at 1.3
        (700, 500, b"line 2"),
    ]
    assert found["video"][0].is_keyframe
    assert found["video"][0].pts == 1100  # the key frame at 2.4 s
    assert found["video"][-1].pts < 1300


def test_parts_that_cannot_be(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv")
    for options in (
        {"start_s": 2.0, "end_s": 1.0},
        {"start_s": -1.0},
        {"start_s": 1.0, "start_frame": 3},
        {"end_frame": 0},
        {"start_s": float("nan")},
        {"rate_hz": 0},
    ):
        with pytest.raises(OptionError):
            VideoReader(path, **options)
    with pytest.raises(MediaError, match=r"it lasts 0\.48"):
        VideoReader(path, start_s=100)


@given(st.integers(0, 10**6), st.integers(0, 59), st.decimals(0, 59, places=3, allow_nan=False))
def test_times_are_read_as_people_write_them(hours: int, minutes: int, seconds: Any) -> None:
    exact = Fraction(seconds)
    assert parse_time(f"{seconds}") == exact
    assert parse_time(f"{minutes}:{seconds}") == 60 * minutes + exact
    assert parse_time(f" {hours}:{minutes:02}:{seconds:06}") == 3600 * hours + 60 * minutes + exact
    number = parse_time(f"{hours}f")
    assert isinstance(number, int)
    assert number == hours


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(OptionError):
        assert parse_time(text) >= 0


@pytest.mark.parametrize("text", ["", "f", "-1", "1:60", "1:61:00", "1.5f", "inf", "1e3", "1:", ":5", "٣"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(OptionError, match="a moment is written"):
        parse_time(text)


def test_a_clock_rises() -> None:
    clock = Clock(10)
    given = [
        (None, None),
        (5, 5),
        (None, None),
        (30, 30),
        (30, 30),
        (12, 12),
        (60, 60),
        (None, 70),
        (None, 3),
    ]
    assert [clock.tick(pts, dts, 10) for pts, dts in given] == [0, 5, 15, 30, 31, 32, 60, 70, 80]
    assert (clock.invented, clock.bent) == (4, 2)


def test_a_rate_is_steady_or_none() -> None:
    ntsc = Fraction(30000, 1001)
    assert steady_rate(Fraction(2997, 100), ntsc) == ntsc
    assert steady_rate(Fraction(25), Fraction(50)) == 25  # fields
    assert steady_rate(Fraction(17), Fraction(120)) is None
    assert steady_rate(None, Fraction(90000)) is None
    assert steady_rate(Fraction(24), None) == 24


def test_colour_is_read_or_assumed_and_told(tmp_path: Path) -> None:
    tagged = write_clip(
        tmp_path / "t.mkv", matrix=9, primaries=9, transfer=16, full_range=True, pix_fmt="yuv420p10le"
    )
    info = VideoReader(tagged).info
    assert (info.colour.matrix, info.colour.primaries, info.colour.transfer) == (9, 9, 16)
    assert info.colour.full_range
    assert info.assumed == ()
    for size, matrix in (((64, 48), 6), ((64, 720), 1)):
        info = VideoReader(write_clip(tmp_path / f"{matrix}.mkv", size=size, frames=1)).info
        assert info.colour.matrix == matrix
        assert not info.colour.full_range
        assert len(info.assumed) == 2
    info = VideoReader(write_clip(tmp_path / "rgb.mkv", pix_fmt="bgra")).info
    assert (info.colour.matrix, info.colour.full_range, info.colour.siting) == (0, True, (0, 0))
    assert info.assumed == ()


def test_siting_is_that_of_the_codec(tmp_path: Path) -> None:
    sitings = [
        ("a.mp4", "libx264", "yuv420p", LEFT),
        ("b.mp4", "libx264", "yuv422p", (0, 0)),
        ("c.avi", "mjpeg", "yuvj420p", CENTRED),
        ("d.avi", "mjpeg", "yuvj444p", (0, 0)),
        ("e.mpg", "mpeg1video", "yuv420p", CENTRED),
        ("f.nut", "ffv1", "yuv411p", (0, 0)),
    ]
    for name, codec, pix_fmt, siting in sitings:
        path = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, frames=2)
        assert VideoReader(path).info.colour.siting == siting, name


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_orientation_is_as_players_show_it(
    tmp_path: Path, ffprobe: str, rotation: int, mirrored: bool
) -> None:
    path = write_clip(
        tmp_path / "turned.mp4", codec="libx264", frames=1, size=(64, 48), rotation=rotation,
        mirrored=mirrored, options={"crf": "1"}, picture=lambda i: corner_frame(),
    )  # fmt: skip
    info = VideoReader(path).info
    command = [str(Path(ffprobe).with_name("ffmpeg")), "-v", "error", "-i", str(path), "-f", "rawvideo"]
    shown = subprocess.run([*command, "-pix_fmt", "gray", "-"], capture_output=True, check=True).stdout
    width, height = info.upright_size
    upright = np.frombuffer(shown, np.uint8).reshape(height, width)
    y, x = np.argwhere(upright > 128).mean(axis=0)
    expected = info.upright_from_coded @ (7.5, 3.5, 1)
    np.testing.assert_allclose((x, y), expected, atol=0.6)


def corner_frame() -> av.VideoFrame:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:8, :16] = 255
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p", threads=1)


def test_sample_aspect_and_size(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "pal.mp4", codec="libx264", size=(72, 58), sample_aspect=Fraction(16, 15))
    info = VideoReader(path).info
    assert info.sample_aspect == Fraction(16, 15)
    assert info.upright_size == (77, 58)


def test_alpha_travels(tmp_path: Path) -> None:
    for name, codec, pix_fmt in (
        ("a.nut", "ffv1", "yuva420p"),
        ("b.nut", "png", "rgba"),
        ("c.nut", "png", "ya8"),
    ):
        path = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, frames=2)
        frame = frames_of(path)[1]
        assert frame.alpha is not None
        assert frame.alpha.std() > 50


# Damage


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_truncated_file_gives_what_it_has(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_clip(
        tmp_path / name, codec="libx264", frames=100, gop=12, size=(160, 120), container_options=options
    )
    cut = truncated(path, tmp_path / f"cut_{name}", 0.5)
    with VideoReader(cut) as reader:
        count = sum(isinstance(item, Frame) for item in reader)
    assert 35 < count < 65
    assert any("before its time" in line for line in reader.warnings)
    with pytest.raises(MediaError), VideoReader(cut, strict=True) as reader:
        list(reader)
    with VideoReader(path, strict=True) as reader:
        list(reader)
    assert reader.warnings == []


def test_noise_in_the_middle_is_passed_over_and_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.nut", codec="ffv1", frames=30, size=(160, 120))
    bad = with_noise(path, tmp_path / "bad.nut", [(0.5, 3000), (0.7, 200)])
    with VideoReader(bad) as reader:
        frames = [item for item in reader if isinstance(item, Frame)]
    assert 20 <= len(frames) <= 30
    assert len(frames) < 30 or reader.counts.broken_frames
    assert reader.warnings
    last = noise_frame("yuv420p", (160, 120), 29)
    np.testing.assert_array_equal(
        frames[-1].planes[0], np.frombuffer(last.planes[0], np.uint8).reshape(120, -1)[:, :160]
    )
    with (
        pytest.raises(MediaError, match=r"damaged.*at \d") as caught,
        VideoReader(bad, strict=True) as reader,
    ):
        list(reader)
    assert caught.value.path == str(bad)
    assert caught.value.time_s is not None


def test_another_size_on_the_way_is_scaled_and_told(tmp_path: Path) -> None:
    raws = []
    for number, size in enumerate(((96, 64), (48, 32), (64, 96), (96, 64))):
        raws.append(write_clip(tmp_path / f"{number}.264", codec="libx264", size=size, frames=5).read_bytes())
    path = tmp_path / "joined.264"
    path.write_bytes(b"".join(raws))
    with VideoReader(path) as reader:
        frames = [item for item in reader if isinstance(item, Frame)]
    assert len(frames) == 20
    assert {(frame.width, frame.height) for frame in frames} == {(96, 64)}
    assert reader.counts.refitted_frames == 10
    assert any("another size" in line and ": 10" in line for line in reader.warnings)
    small = np.abs(frames[5].planes[0].astype(int) - frames[0].planes[0]).mean()
    assert small < 12  # the same scene, larger
    tall = frames[10].planes[0]
    assert (tall[:, :20] == 16).all()
    assert (tall[:, 76:] == 16).all()
    assert tall[:, 40:56].std() > 10
    with pytest.raises(MediaError, match="another size"), VideoReader(path, strict=True) as reader:
        list(reader)


def test_what_cannot_be_read_says_why_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(random.Random(0).randbytes(20000))
    (tmp_path / "text.txt").write_text("hello\n" * 100)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.mkv")
    with av.open(str(tmp_path / "sound.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        out.mux(stream.encode(sound))
    cases: list[tuple[str, type[Exception], str]] = [
        ("nothing.mp4", FileMissing, "no such file"),
        ("empty.mp4", MediaError, "empty"),
        ("noise.mp4", MediaError, "no video"),
        ("text.txt", MediaError, "no video"),
        ("folder", MediaError, "no pictures"),
        ("no_%03d.png", FileMissing, "no file matches"),
        ("gone/no_%03d.png", FileMissing, "no such file"),
        ("pipe.mkv", FileError, "a pipe"),
        ("sound.wav", MediaError, "only: audio"),
    ]
    for name, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            VideoReader(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv")
    path.chmod(0)
    with pytest.raises(FileError, match="permission denied"):
        VideoReader(path)


FUZZ = """
import random, sys
from pathlib import Path
from gpenvideo.errors import GpenvideoError
from gpenvideo.video.reader import VideoReader
rng, folder, results = random.Random(11), Path(sys.argv[1]), {}
for round_ in range(10):
    for base in sorted(folder.glob("base.*")):
        data = bytearray(base.read_bytes())
        if round_ % 3 == 0:
            data = data[: rng.randrange(1, len(data))]
        for _ in range(rng.randint(1, 10)):
            place = rng.randrange(len(data))
            data[place : place + rng.randint(1, 60)] = rng.randbytes(rng.randint(0, 60))
        path = folder / f"mutant{base.suffix}"
        path.write_bytes(data)
        try:
            with VideoReader(path) as reader:
                last = None
                for item in reader:
                    if hasattr(item, "planes"):
                        assert last is None or item.pts > last
                        last = item.pts
                        int(item.planes[0][-1, -1])
            kind = "read"
        except GpenvideoError as error:
            assert "\\n" not in str(error)
            kind = type(error).__name__
        results[kind] = results.get(kind, 0) + 1
print(results)
"""


def test_mutants_never_crash_or_hang(tmp_path: Path) -> None:
    write_clip(tmp_path / "base.mp4", codec="libx264", b_frames=2, gop=10, frames=30, audio=1)
    write_clip(
        tmp_path / "base.mkv", codec="libx264", b_frames=2, gop=10, frames=30, audio=1, subtitles=["eng"]
    )
    write_clip(tmp_path / "base.avi", codec="mpeg4", b_frames=2, gop=10, frames=30)
    write_clip(tmp_path / "base.ts", codec="mpeg2video", gop=10, frames=30, audio=1, audio_codec="mp2")
    write_clip(tmp_path / "base.nut", frames=10)
    write_clip(tmp_path / "base.gif", codec="gif", pix_fmt="rgb8", frames=10)
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", FUZZ, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "'read'" in run.stdout
    assert "'MediaError'" in run.stdout


def test_close_ends_an_iteration_in_another_thread(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", codec="libx264", frames=300, audio=1)
    reader = VideoReader(path)
    started, held = threading.Event(), []

    def read() -> None:
        for item in reader:
            held.append(item)
            started.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert started.wait(10)
    reader.close()
    thread.join(10)
    assert not thread.is_alive()
    kept = [item for item in held if isinstance(item, Frame)]
    assert all(frame.planes[0].max() > 0 for frame in kept)


# Image sequences


@pytest.mark.parametrize(
    ("suffix", "pix_fmt", "depth"),
    [
        (".png", "rgb24", 8),
        (".png", "rgba64be", 16),
        (".png", "gray16be", 16),
        (".tif", "rgb48le", 16),
        (".tiff", "gray", 8),
        (".dpx", "gbrp10le", 10),
        (".dpx", "gbrp12le", 12),
        (".jpg", "yuvj422p", 8),
    ],
)
def test_pictures_of_a_folder_in_their_depth(tmp_path: Path, suffix: str, pix_fmt: str, depth: int) -> None:
    folder = write_sequence(tmp_path / "shot", suffix=suffix, pix_fmt=pix_fmt, numbers=range(8, 12))
    with VideoReader(folder, rate_hz=24) as reader:
        frames = [item for item in reader if isinstance(item, Frame)]
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    assert reader.info.layout.depth_bits == depth
    assert reader.info.time_base == Fraction(1, 24)
    assert reader.info.frames == reader.expected_frames == 4
    assert reader.warnings == []
    assert reader.container is None
    if suffix == ".png" and depth == 8:
        truth = noise_frame(pix_fmt, (32, 24), 9).to_ndarray()
        for plane, channel in zip(frames[1].planes, (1, 2, 0), strict=True):
            np.testing.assert_array_equal(plane, truth[..., channel])


def test_linear_floats_are_read_with_a_curve_and_told(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "exr", suffix=".exr", pix_fmt="gbrpf32le", numbers=[1])
    with VideoReader(folder, rate_hz=24) as reader:
        assert reader.info.layout.depth_bits == 16
        assert reader.info.colour.transfer == 13
        assert any("16 bits" in line and "sRGB" in line for line in reader.warnings)


def test_a_pattern_with_a_gap_keeps_time(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, numbers=[7, 8, 11, 12], name="shot_%04d")
    (folder / "shot_0012.png").write_bytes(b"no picture")
    pattern = folder / "shot_%04d.png"
    with VideoReader(pattern) as reader:
        frames = [item for item in reader if isinstance(item, Frame)]
    assert [frame.pts for frame in frames] == [0, 1, 4]
    warnings = " ".join(reader.warnings)
    assert "24 frames a second are assumed" in warnings
    assert "9 to 10" in warnings
    assert "shot_0012.png" in warnings
    assert reader.counts.missing_pictures == 2
    with VideoReader(pattern, start_frame=1, rate_hz=24) as reader:
        assert [frame.pts for frame in reader if isinstance(frame, Frame)] == [0, 3]
    with pytest.raises(MediaError, match="9 to 10"):
        VideoReader(pattern, strict=True)


def test_pictures_without_numbers_are_sorted_as_people_do(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, numbers=[1, 2, 10], name="take%da", pix_fmt="gray")
    frames = frames_of(folder, rate_hz=10)
    assert [frame.pts for frame in frames] == [0, 1, 2]
    truth = np.frombuffer(noise_frame("gray", (32, 24), 10).planes[0], np.uint8).reshape(24, -1)[:, :32]
    np.testing.assert_array_equal(frames[2].planes[0], truth)


# Facts


def test_the_facts_of_a_file(tmp_path: Path, shared: Path) -> None:
    path = write_clip(
        tmp_path / "a.mkv", codec="libx264", audio=1, subtitles=["eng"], chapters=[(0, 0.2, "one")],
        attachments={"font.ttf": b"abc"}, cover=True, metadata={"title": "T"}, full_range=True, matrix=1,
    )  # fmt: skip
    facts = probe(path)
    json.dumps(facts)
    assert facts["container"].startswith("matroska")
    assert facts["chapters"] == [{"start_s": 0.0, "end_s": 0.2, "title": "one"}]
    kinds = [stream["kind"] for stream in facts["streams"]]
    assert kinds == ["video", "audio", "subtitle", "attachment", "cover"]
    video = facts["streams"][0]
    assert video["size_px"] == [64, 48]
    assert video["rate_hz"] == "25"
    assert video["colour"] == {"matrix": 1, "primaries": 2, "transfer": 2, "range": "full"}
    assert facts["streams"][2]["language"] == "eng"
    facts = probe(shared / "data" / "videos" / "torchcodec_nasa_13013.mp4")
    assert [stream["kind"] for stream in facts["streams"]] == ["video", "audio", "subtitle"] * 2
    assert probe(write_sequence(tmp_path / "seq"))["streams"][0]["pixel_format"] == "rgb24"


def test_hdr_metadata_is_read(tmp_path: Path) -> None:
    master = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    parameters = f"log-level=none:pools=1:hdr10=1:repeat-headers=1:master-display={master}:max-cll=1000,400"
    path = write_clip(
        tmp_path / "hdr.mp4", codec="libx265", pix_fmt="yuv420p10le", frames=6, matrix=9, primaries=9,
        transfer=16, picture=lambda i: scene_frame("yuv420p10le", (64, 48), i),
        options={"x265-params": parameters},
    )  # fmt: skip
    with VideoReader(path) as reader:
        hdr = hdr_of(reader.first)
        assert orientation_of(reader.first) == (0, False)
    assert hdr["light"] == (1000, 400)
    assert hdr["mastering"]["luminance"] == (Fraction(5, 1000), 1000)
    assert hdr["mastering"]["white"] == (Fraction(15635, 50000), Fraction(16450, 50000))
