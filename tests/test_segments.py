"""Segments: what is joined of them is what one run writes, in every container, to the last tick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import write_clip
from portraits import Same, decoded_planes

from gpenvideo import FileError, FileMissing, MediaError, OptionError, restore_video
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.segmented.parts import Part, PartDone
from gpenvideo.segmented.restoring import Warm, join, restore_part
from gpenvideo.segmented.work import Work
from gpenvideo.tracks.document import Tracks
from gpenvideo.tracks.file import write_tracks
from gpenvideo.tracks.record import source_of
from gpenvideo.transcode import Decoding, Encoding
from gpenvideo.video import disk
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.segments import SegmentWriter, packets

AS_IT_IS = RestoreOptions(strength=0)
SIZE = (64, 64)  # x265 spoils memory below that
VARIABLE = [0, 40, 80, 190, 230, 1000, 1040, 1300, 1301, 1302, 2000, 2040, 2080, 2500, 2540, 2600]
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {  # target's suffix, codec, source
    "mkv": (".mkv", "ffv1", {"audio": 2, "subtitles": ("eng",), "chapters": [(0, 1, "one"), (1, 3, "two")]}),
    "mkv, odd ticks": (
        ".mkv",
        "ffv1",
        {"pts": VARIABLE, "time_base": Fraction(1, 1000), "pix_fmt": "yuv422p10le"},
    ),
    "mkv, attachments": (".mkv", "libx264", {"attachments": {"font.ttf": b"x" * 100}, "cover": True}),
    "mkv, anamorphic": (
        ".mkv",
        "libx264",
        {"sample_aspect": Fraction(16, 15), "matrix": 1, "full_range": False},
    ),
    "mp4": (".mp4", "libx264", {"audio": 1, "metadata": {"title": "été"}, "rotation": 90}),
    "mp4, variable": (".mp4", "libx264", {"pts": VARIABLE, "time_base": Fraction(1, 600)}),
    "mp4, hevc": (".mp4", "libx265", {"audio": 1}),
    "mov": (".mov", "prores_ks", {"pix_fmt": "yuv422p10le", "rate": Fraction(24000, 1001), "audio": 1}),
    "webm": (".webm", "libsvtav1", {}),
    "ts": (".ts", "libx264", {"audio": 1}),
    "avi": (".avi", "libx264", {"audio": 1, "audio_codec": "mp2"}),
    "nut": (".nut", "ffv1", {"audio": 1, "rate": Fraction(30000, 1001)}),
    "before 0": (
        ".mkv",
        "ffv1",
        {
            "pts": [n - 5 for n in range(16)],
            "audio": 1,
            "container_options": {"avoid_negative_ts": "disabled"},
        },
    ),
}


def clip(path: Path, **more: Any) -> Path:
    given = {"codec": "ffv1", "size": SIZE, "frames": 16, "gop": 4, **more}
    return write_clip(path, **given)


def facts(path: Path) -> list[Any]:
    """What a player is told of a file's streams."""
    with av.open(str(path)) as container:
        told: list[Any] = [dict(container.metadata), container.chapters()]
        for stream in container.streams:
            told.append((stream.type, stream.time_base, int(stream.disposition), dict(stream.metadata)))
            if stream.type == "video":
                context = stream.codec_context
                told.append(
                    (context.name, context.format.name, context.width, context.height, context.extradata)
                )
                told.append((stream.sample_aspect_ratio, stream.average_rate, context.codec_tag))
                told.append(
                    (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
                )
        return told


def all_packets(path: Path, lossless: bool) -> dict[int, list[Any]]:
    """Every packet by its stream: its times, and what is in it; of what is encoded with loss, the pts."""
    found: dict[int, list[Any]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                whole = (packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet))
                lines = found.setdefault(packet.stream_index, [])
                lines.append(whole if lossless or packet.stream_index else packet.pts)
    return found if lossless else {**found, 0: sorted(found[0])}


def without_faces(source: Path, folder: Path, decoding: Decoding | None = None) -> tuple[Path, list[int]]:
    """A file of tracks, empty, and the pts of the frames."""
    with (decoding or Decoding()).open(source) as reader:
        shift = round(reader.shift_s / reader.info.time_base)
        pts = [item.pts + shift for item in reader if hasattr(item, "planes")]
        tracks = Tracks(source_of(reader), pts[0], pts[-1], len(pts), (pts[0],), ())
    write_tracks(tracks, folder / "tracks.json")
    return folder / "tracks.json", pts


def in_parts(work: Work, tracks: Path, pts: list[int], cuts: list[int], folder: Path) -> list[PartDone]:
    """Restore a file in parts that begin at these frames."""
    warm = Warm(Same(64))
    starts = [pts[0], *(pts[cut] for cut in cuts)]
    found = []
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        part = Part(index, start, end)
        found.append(restore_part(work, part, tracks, folder / f"{index}.nut", warm))
    return found


@pytest.mark.parametrize("name", CASES)
def test_joined_is_as_written_in_one(name: str, tmp_path: Path) -> None:
    suffix, codec, how = CASES[name]
    source = clip(tmp_path / ("in.mp4" if suffix == ".mp4" else "in.mkv"), **how)
    encoding = Encoding(codec=codec, preset="veryfast" if codec == "libx264" else None)
    tracks, pts = without_faces(source, tmp_path)
    whole, joined = tmp_path / f"whole{suffix}", tmp_path / f"joined{suffix}"
    one = restore_video(source, whole, weights=Same(64), options=AS_IT_IS, encoding=encoding, tracks=tracks)
    work = Work(str(source), options=AS_IT_IS, encoding=encoding, container=suffix)
    done = in_parts(work, tracks, pts, [5, 9], tmp_path)
    told = join(work, done, joined)
    assert facts(joined) == facts(whole)
    assert [part.frames for part in done] == [5, 4, 7]
    lossless = codec == "ffv1"
    one_by_one, together = all_packets(whole, lossless), all_packets(joined, lossless)
    assert together.keys() == one_by_one.keys()
    for index in one_by_one:
        assert together[index] == one_by_one[index], f"stream {index}"
    was, now = decoded_planes(whole), decoded_planes(joined)
    assert list(now) == list(was)
    for before, after in zip(was.values(), now.values(), strict=True):
        assert not lossless or all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert told["encoder"] == one.encoder
    assert told["warnings"] == list(dict.fromkeys(one.warnings))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_part_of_a_file_is_joined_on_its_own_time_line(suffix: str, tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mkv", frames=60, audio=1, subtitles=("eng",), b_frames=2, codec="libx264")
    decoding = Decoding(start=Fraction(1, 2), end=2.0)
    tracks, pts = without_faces(source, tmp_path, decoding)
    encoding = Encoding(codec="ffv1")
    restore_video(
        source,
        tmp_path / f"whole{suffix}",
        weights=Same(64),
        options=AS_IT_IS,
        decoding=decoding,
        encoding=encoding,
        tracks=tracks,
    )
    work = Work(str(source), options=AS_IT_IS, decoding=decoding, encoding=encoding, container=suffix)
    join(work, in_parts(work, tracks, pts, [10, 30], tmp_path), tmp_path / f"joined{suffix}")
    assert facts(tmp_path / f"joined{suffix}") == facts(tmp_path / f"whole{suffix}")
    assert all_packets(tmp_path / f"joined{suffix}", True) == all_packets(tmp_path / f"whole{suffix}", True)


def test_pictures_become_a_film(tmp_path: Path) -> None:
    from clips import write_sequence

    source = write_sequence(tmp_path / "shots", numbers=[1, 2, 3, 5, 6, 7, 8])
    encoding = Encoding(codec="ffv1")
    tracks, pts = without_faces(source, tmp_path)
    restore_video(
        source, tmp_path / "a.mkv", weights=Same(64), options=AS_IT_IS, encoding=encoding, tracks=tracks
    )
    work = Work(str(source), options=AS_IT_IS, encoding=encoding)
    join(work, in_parts(work, tracks, pts, [2, 4], tmp_path), tmp_path / "b.mkv")
    assert all_packets(tmp_path / "b.mkv", True) == all_packets(tmp_path / "a.mkv", True)


def parts_of(tmp_path: Path, **how: Any) -> tuple[Work, list[PartDone]]:
    source = clip(tmp_path / "in.mkv")
    tracks, pts = without_faces(source, tmp_path)
    work = Work(str(source), options=AS_IT_IS, encoding=Encoding(codec="ffv1"), **how)
    return work, in_parts(work, tracks, pts, [5, 9], tmp_path)


def other_extradata(done: PartDone) -> PartDone:
    segment = done.told["segment"] | {"extradata": "00"}
    return replace(done, told=done.told | {"segment": segment})


WRONG: dict[str, tuple[Callable[[list[PartDone]], list[PartDone]], str]] = {
    "one is missing": (lambda done: done[:2], "not the segments of all its parts"),
    "the middle is missing": (lambda done: [done[0], done[2]], "not the segments of all its parts"),
    "none": (lambda done: [], "not the segments of all its parts"),
    "another encoder": (lambda done: [*done[:2], other_extradata(done[2])], "not as ffv1 is set up here"),
    "another analysis": (
        lambda done: [*done[:2], replace(done[2], told=done[2].told | {"tracks": "0"})],
        "different analyses",
    ),
    "fewer frames": (lambda done: [replace(done[0], frames=6), *done[1:]], "do not hold what was restored"),
}


@pytest.mark.parametrize("name", WRONG)
def test_segments_that_do_not_belong_together(name: str, tmp_path: Path) -> None:
    work, done = parts_of(tmp_path)
    change, said = WRONG[name]
    (tmp_path / "out.mkv").write_bytes(b"earlier")
    with pytest.raises(MediaError, match=said):
        join(work, change(done), tmp_path / "out.mkv")
    assert (tmp_path / "out.mkv").read_bytes() == b"earlier"
    assert not list(tmp_path.glob(".*"))


def test_hevc_of_machines_with_other_processors(tmp_path: Path) -> None:
    """x265 says in its headers on which processor it ran."""
    source = clip(tmp_path / "in.mkv")
    tracks, pts = without_faces(source, tmp_path)
    work = Work(str(source), options=AS_IT_IS, encoding=Encoding(codec="libx265"), container=".mp4")
    done = in_parts(work, tracks, pts, [8], tmp_path)
    segment = done[1].told["segment"]
    said = bytes.fromhex(segment["extradata"])
    assert b"cpuid=" in said
    other = said.replace(b"cpuid=", b"cpuid=9")
    done[1] = replace(done[1], told=done[1].told | {"segment": segment | {"extradata": other.hex()}})
    join(work, done, tmp_path / "out.mp4")
    assert len(decoded_planes(tmp_path / "out.mp4")) == 16
    for wrong in (said[:40], said[::-1], b""):
        done[1].told["segment"]["extradata"] = wrong.hex()
        with pytest.raises(MediaError, match="not as libx265 is set up here"):
            join(work, done, tmp_path / "out.mp4")


def test_their_order_is_that_of_the_parts(tmp_path: Path) -> None:
    work, done = parts_of(tmp_path)
    join(work, done[::-1], tmp_path / "out.mkv")
    assert list(decoded_planes(tmp_path / "out.mkv")) == list(decoded_planes(tmp_path / "in.mkv"))


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\0" * 99]
)
def test_a_damaged_segment_is_not_joined(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    work, done = parts_of(tmp_path)
    path = Path(done[1].path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(MediaError):
        join(work, done, tmp_path / "out.mkv")
    path.unlink()
    with pytest.raises(FileMissing):
        join(work, done, tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


def test_another_container_than_the_one_they_were_made_for(tmp_path: Path) -> None:
    work, done = parts_of(tmp_path)
    with pytest.raises(OptionError, match=r"made for a \.mkv file"):
        join(work, done, tmp_path / "out.mp4")
    with VideoReader(work.source) as reader:
        with pytest.raises(OptionError, match="mp4 holds no video of prores_ks"):
            SegmentWriter(tmp_path / "x.nut", reader, ".mp4", codec="prores")
        with pytest.raises(OptionError, match=r"no container for the suffix '\.doc'"):
            SegmentWriter(tmp_path / "x.nut", reader, ".doc")
    assert not (tmp_path / "x.nut").exists()


def test_a_stretch_without_a_frame(tmp_path: Path) -> None:
    """A gap in the stream may be longer than a part."""
    source = clip(tmp_path / "in.mkv", pts=[0, 1, 2, 1000, 1001], time_base=Fraction(1, 25))
    tracks, _ = without_faces(source, tmp_path)
    work = Work(str(source), options=AS_IT_IS, encoding=Encoding(codec="ffv1"))
    done = in_parts(work, tracks, [0, 10000, 20000], [1, 2], tmp_path)
    assert [part.frames for part in done] == [3, 0, 2]
    join(work, done, tmp_path / "out.mkv")
    assert list(decoded_planes(tmp_path / "out.mkv")) == list(decoded_planes(source))


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    work, done = parts_of(tmp_path)
    for name in (".out.part-7fffffff.mkv", ".out.part-1.mkv", ".outer.part-7fffffff.mkv", ".out.part-x.mkv"):
        (tmp_path / name).touch()
    join(work, done, tmp_path / "out.mkv")
    assert sorted(file.name for file in tmp_path.glob(".*")) == [
        ".out.part-1.mkv",
        ".out.part-x.mkv",
        ".outer.part-7fffffff.mkv",
    ]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    work, done = parts_of(tmp_path)
    with pytest.raises(FileError):
        join(work, done, tmp_path / "nowhere" / "out.mkv")
    with pytest.raises(OptionError, match="the output is the input"):
        join(work, done, work.source)


def test_packets_come_in_the_order_of_decoding_with_their_times(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.nut", codec="libx264", frames=24, rate=Fraction(30000, 1001))
    with VideoReader(source) as reader:
        writer = SegmentWriter(tmp_path / "s.nut", reader, ".mp4", codec="libx264", preset="veryfast")
        with writer:
            for item in reader:
                writer.write(item)
        base = reader.info.time_base
        found = list(packets(tmp_path / "s.nut", writer.segment, base))
    pts, dts = [packet.pts for packet in found], [packet.dts for packet in found]
    with VideoReader(source) as reader:
        assert sorted(pts) == [item.pts for item in reader if hasattr(item, "planes")]
    assert pts != sorted(pts)
    assert dts == sorted(set(dts))
    assert all(decoded <= shown for decoded, shown in zip(dts, pts, strict=True))
    assert all(packet.time_base == base for packet in found)


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt"),
    [("ffv1", ".mkv", "yuv420p"), ("libx264", ".mp4", "yuv420p"), ("prores_ks", ".mov", "yuv422p10le")],
)
def test_a_segment_can_be_looked_at(codec: str, container: str, pix_fmt: str, tmp_path: Path) -> None:
    """A player reads it, ProRes too, which FFmpeg does not write into NUT."""
    source = clip(tmp_path / "in.mkv", pix_fmt=pix_fmt)
    with (
        VideoReader(source) as reader,
        SegmentWriter(tmp_path / "s.nut", reader, container, codec=codec) as made,
    ):
        for item in reader:
            made.write(item)
    was, now = decoded_planes(source), decoded_planes(tmp_path / "s.nut")
    assert len(now) == len(was) == 16
    for before, after in zip(was.values(), now.values(), strict=True):
        assert [plane.shape for plane in after] == [plane.shape for plane in before]
        assert codec != "ffv1" or all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_file_gets_its_name_when_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is synced before it is renamed, and the folder after it."""
    calls: list[str] = []
    sync, rename = disk.os.fsync, Path.replace
    monkeypatch.setattr(disk.os, "fsync", lambda file: (calls.append("sync"), sync(file))[1])
    monkeypatch.setattr(Path, "replace", lambda *paths: (calls.append("rename"), rename(*paths))[1])
    (tmp_path / "part").write_bytes(b"x")
    disk.put_in_place(tmp_path / "part", tmp_path / "whole")
    assert calls == ["sync", "rename", "sync"]
    assert (tmp_path / "whole").read_bytes() == b"x"
