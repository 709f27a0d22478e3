"""What travels beside the restored stream: copies, conversions, chapters, tags, attachments, covers."""

from __future__ import annotations

import hashlib
import json
import queue
import subprocess
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import PNG_1X1, scene_frame, write_clip

from gpenvideo.frame import Frame
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter

FAST = {"preset": "ultrafast", "options": {"threads": "1"}}


def transcode(source: Path, target: Path, **settings: Any) -> VideoWriter:
    with VideoReader(source) as reader, VideoWriter(target, reader, **settings) as writer:
        for item in reader:
            writer.write(item)
    return writer


def judged(ffprobe: str, path: Path) -> dict[str, Any]:
    """What ffprobe says of streams, chapters, the file, and every packet with the hash of its payload."""
    show = ("-show_streams", "-show_chapters", "-show_format", "-show_packets", "-show_data_hash", "md5")
    return dict(
        json.loads(subprocess.check_output([ffprobe, "-v", "error", *show, "-of", "json", str(path)]))
    )


def packets(facts: dict[str, Any], index: int) -> list[dict[str, Any]]:
    return [packet for packet in facts["packets"] if packet["stream_index"] == index]


def hashes(facts: dict[str, Any], index: int) -> list[str]:
    return [packet["data_hash"] for packet in packets(facts, index)]


def times(facts: dict[str, Any], index: int) -> list[float]:
    return [float(packet["pts_time"]) for packet in packets(facts, index)]


def codecs(facts: dict[str, Any]) -> list[str]:
    return [stream.get("codec_name", "") for stream in facts["streams"]]


def texts(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        found = [bytes(packet) for packet in container.demux(stream) if packet.size > 2]
        mov = stream.codec_context.name == "mov_text"
    return [(text[2 : 2 + int.from_bytes(text[:2], "big")] if mov else text).decode() for text in found]


# The file with two of everything


def nasa(shared: Path) -> Path:
    return shared / "data" / "videos" / "torchcodec_nasa_13013.mp4"


def test_two_of_everything_into_mp4(shared: Path, tmp_path: Path, ffprobe: str) -> None:
    writer = transcode(nasa(shared), tmp_path / "out.mp4", **FAST)
    assert writer.warnings == []
    before, after = judged(ffprobe, nasa(shared)), judged(ffprobe, tmp_path / "out.mp4")
    assert codecs(after) == codecs(before)
    for index in (1, 2, 3, 4, 5):
        assert hashes(after, index) == hashes(before, index)
        for what in ("pts", "dts", "duration"):
            assert [p.get(what) for p in packets(after, index)] == [
                p.get(what) for p in packets(before, index)
            ]
    assert sorted(packet["pts"] for packet in packets(after, 0)) == sorted(
        p["pts"] for p in packets(before, 0)
    )
    for a, b in zip(after["streams"], before["streams"], strict=True):
        assert a["time_base"] == b["time_base"]
        assert a["disposition"] == b["disposition"]
        assert a["tags"]["language"] == b["tags"]["language"]
        assert float(a["duration"]) == pytest.approx(float(b["duration"]), abs=0.001)


def test_two_of_everything_into_matroska(shared: Path, tmp_path: Path, ffprobe: str) -> None:
    writer = transcode(nasa(shared), tmp_path / "out.mkv", **FAST)
    assert [warning[:30] for warning in writer.warnings] == [
        "Stream 2 (subtitle, mov_text, ",
        "Stream 5 (subtitle, mov_text, ",
    ]
    before, after = judged(ffprobe, nasa(shared)), judged(ffprobe, tmp_path / "out.mkv")
    assert codecs(after) == ["h264", "aac", "subrip", "h264", "aac", "subrip"]
    assert hashes(after, 1) == hashes(before, 1)
    assert hashes(after, 4) == hashes(before, 4)
    assert len(packets(after, 3)) == len(packets(before, 3))
    for index in (0, 1, 4):
        assert np.allclose(sorted(times(after, index)), sorted(times(before, index)), atol=0.0005001)
    assert texts(tmp_path / "out.mkv")[0].startswith("NAR: This is the optical and science segment")
    assert float(after["format"]["duration"]) == pytest.approx(16.57, abs=0.041)


def test_a_chosen_video_stream_is_restored_and_the_first_is_copied(
    shared: Path, tmp_path: Path, ffprobe: str
) -> None:
    with (
        VideoReader(nasa(shared), stream=1) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, **FAST) as writer,
    ):
        for item in reader:
            writer.write(item)
    before, after = judged(ffprobe, nasa(shared)), judged(ffprobe, tmp_path / "out.mp4")
    assert hashes(after, 0) == hashes(before, 0)
    assert sorted(p["pts"] for p in packets(after, 3)) == sorted(p["pts"] for p in packets(before, 3))
    assert writer.frames_written == 390


# What goes where


@pytest.mark.parametrize("pair", ["mkv mkv", "mkv mp4", "mp4 mkv", "mp4 mp4", "mp4 mov"])
def test_packets_chapters_tags_and_dispositions(tmp_path: Path, ffprobe: str, pair: str) -> None:
    of, to = pair.split()
    source = write_clip(
        tmp_path / f"in.{of}", codec="libx264", b_frames=2, videos=2, audio=2, frames=60, subtitles=("fra",),
        chapters=((0, 1, "One"), (1, 2.4, "Two")), metadata={"title": "A film", "artist": "Somebody"},
    )  # fmt: skip
    target = tmp_path / f"out.{to}"
    writer = transcode(source, target, **FAST)
    before, after = judged(ffprobe, source), judged(ffprobe, target)
    count = 5
    for index in (2, 3) if of != to else (1, 2, 3):
        assert hashes(after, index) == hashes(before, index), index
    for index in range(4):
        found, wanted = sorted(times(after, index)), sorted(times(before, index))
        assert np.allclose(found, wanted, atol=0.0011), index
    assert [float(c["end_time"]) for c in after["chapters"]] == pytest.approx([1, 2.4], abs=0.002)
    assert [chapter["tags"]["title"] for chapter in after["chapters"]] == ["One", "Two"]
    tags = {key.lower(): value for key, value in after["format"]["tags"].items()}
    assert (tags["title"], tags["artist"]) == ("A film", "Somebody")
    assert [_roles(s) for s in after["streams"][:count]] == [_roles(s) for s in before["streams"][:count]]
    assert after["streams"][4]["tags"]["language"] == "fra"
    assert texts(target) == ["line 0 of 4", "line 1 of 4"]
    assert len(writer.warnings) == (0 if of == to or to == "mov" else 1)


def _roles(stream: dict[str, Any]) -> set[str]:
    """Dispositions, but "default": an mp4 without a default track gets one of each kind."""
    return {name for name, on in stream["disposition"].items() if on and name != "default"}


def test_attachments_and_covers(tmp_path: Path, ffprobe: str) -> None:
    font = bytes(range(256)) * 3
    source = write_clip(tmp_path / "in.mkv", codec="libx264", attachments={"font.ttf": font}, cover=True)
    assert transcode(source, tmp_path / "out.mkv", **FAST).warnings == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        attachment = next(stream for stream in container.streams if stream.type == "attachment")
        assert (attachment.name, attachment.data) == ("font.ttf", font)
        cover = next(stream for stream in container.streams.video if stream.disposition & 1024)
        assert bytes(next(container.demux(cover))) == PNG_1X1
    writer = transcode(source, tmp_path / "out.mp4", **FAST)
    assert writer.warnings == ["Attachment 'font.ttf' is left out: mp4 holds none."]
    back = transcode(tmp_path / "out.mp4", tmp_path / "back.mkv", **FAST)
    assert back.warnings == []
    for name in ("out.mp4", "back.mkv"):
        facts = judged(ffprobe, tmp_path / name)
        stream = next(stream for stream in facts["streams"] if stream["disposition"]["attached_pic"])
        digest = hashlib.md5(PNG_1X1).hexdigest()
        assert hashes(facts, stream["index"]) == [f"MD5:{digest}"]
    gone = transcode(source, tmp_path / "out.nut", **FAST)
    assert sum("left out" in warning for warning in gone.warnings) == 2


def test_a_time_code_track_becomes_the_time_code_again(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mov", codec="libx264", metadata={"timecode": "01:02:03:04"})
    with av.open(str(source)) as container:
        assert any(stream.type == "data" for stream in container.streams)
    for name, key in (("out.mov", "timecode"), ("out.mp4", "timecode"), ("out.mkv", "TIMECODE")):
        assert transcode(source, tmp_path / name, **FAST).warnings == []
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].metadata[key] == "01:02:03:04"


# Conversions


def test_sound_that_the_container_cannot_hold_becomes_aac_in_step(tmp_path: Path, ffprobe: str) -> None:
    source = write_clip(tmp_path / "in.mkv", codec="libx264", audio=1, audio_codec="libopus", frames=50)
    writer = transcode(source, tmp_path / "out.mov", **FAST)
    assert writer.warnings == ["Stream 1 (audio, opus) becomes aac: mov cannot hold it."]
    facts = judged(ffprobe, tmp_path / "out.mov")
    assert codecs(facts) == ["h264", "aac"]
    heard = [_sound(source), _sound(tmp_path / "out.mov")]
    assert abs(len(heard[0]) - len(heard[1])) < 2048
    likeness = [
        np.corrcoef(heard[0][20_000:60_000], heard[1][20_000 + lag : 60_000 + lag])[0, 1]
        for lag in range(-48, 49)  # a tick of Matroska is 48 samples
    ]
    assert max(likeness) > 0.999


def _sound(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(N,) float32 samples from time 0 on, at 48 kHz."""
    with av.open(str(path)) as container:
        wave = np.zeros(48_000 * 6, np.float32)
        end = 0
        for frame in container.decode(audio=0):
            mono = frame.to_ndarray().astype(np.float32).mean(axis=0)
            start = round(float(frame.pts * frame.time_base) * 48_000)
            skip = max(0, -start)
            wave[start + skip : start + len(mono)] = mono[skip:]
            end = start + len(mono)
    return wave[:end]


def test_sound_of_an_avi_that_only_counts_its_channels_is_copied_into_mp4(tmp_path: Path) -> None:
    """An AVI says how many channels there are, not which; mp4 has to, and else fails when all is done."""
    source = tmp_path / "in.avi"
    with av.open(str(source), "w") as out:
        video, audio = out.add_stream("mjpeg", rate=25), out.add_stream("pcm_s16le", 48000, layout="stereo")
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        sound = av.AudioFrame.from_ndarray(np.ones((1, 19200), np.int16), format="s16", layout="stereo")
        sound.sample_rate, sound.pts = 48000, 0
        for number in range(5):
            out.mux(video.encode(scene_frame("yuvj420p", (64, 48), number)))
        out.mux([*video.encode(None), *audio.encode(sound), *audio.encode(None)])
    writer = transcode(source, tmp_path / "out.mp4", **FAST)
    assert not [warning for warning in writer.warnings if "audio" in warning]
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        assert before.streams.audio[0].layout.name == "2 channels"
        assert after.streams.audio[0].layout.name == "stereo"
        sounds = [b"".join(map(bytes, container.demux(audio=0))) for container in (before, after)]
    assert sounds[0] == sounds[1]


def test_a_gap_in_converted_sound_becomes_silence(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", codec="libx264", audio=1, audio_codec="libopus", frames=50)
    with VideoReader(source) as reader, VideoWriter(tmp_path / "out.mov", reader, **FAST) as writer:
        for item in reader:
            if isinstance(item, Frame) or not 0.5 < item.packet.pts * item.packet.time_base < 1:
                writer.write(item)
    wave = _sound(tmp_path / "out.mov")
    assert len(wave) / 48_000 == pytest.approx(2, abs=0.1)
    assert np.abs(wave[27_000:45_000]).max() < 0.01
    assert np.abs(wave[55_000:80_000]).max() > 0.1


def test_styles_of_subtitles_survive_where_both_know_them(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "plain.mkv", codec="libx264", frames=80)
    styled = tmp_path / "in.mkv"
    with av.open(str(source)) as inner, av.open(str(styled), "w") as out:
        stream = inner.streams.video[0]
        video, text = out.add_stream_from_template(stream), out.add_mux_stream("subrip")
        text.time_base = Fraction(1, 1000)
        for packet in inner.demux(stream):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        for second, line in enumerate(("Hello <i>wörld</i>", "two\r\nlines")):
            packet = av.Packet(line.encode())
            packet.stream, packet.time_base, packet.duration = text, Fraction(1, 1000), 700
            packet.pts = packet.dts = 1000 * second + 100
            out.mux(packet)
    transcode(styled, tmp_path / "out.mp4", **FAST)
    assert texts(tmp_path / "out.mp4") == ["Hello wörld", "two\nlines"]
    transcode(tmp_path / "out.mp4", tmp_path / "back.mkv", **FAST)
    assert texts(tmp_path / "back.mkv") == ["Hello <i>wörld</i>", "two\nlines"]
    with av.open(str(tmp_path / "back.mkv")) as container:
        packets = [p for p in container.demux(container.streams.subtitles[0]) if p.size]
        assert [(p.pts, p.duration) for p in packets] == [(100, 700), (1100, 700)]


def test_left_out_streams_are_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", codec="libx264", subtitles=("eng",), frames=30)
    writer = transcode(source, tmp_path / "out.avi", **FAST)
    assert "Stream 1 (subtitle, srt, eng) is left out: avi cannot hold it." in writer.warnings


# Times


def test_an_edit_list_and_negative_decoding_times_are_kept(tmp_path: Path, ffprobe: str) -> None:
    """A start of 1.5 s becomes an empty edit, B-frames a media time; both have to come through."""
    ticks = [19200 + 512 * i for i in range(30)]
    source = write_clip(
        tmp_path / "in.mp4", codec="libx264", b_frames=2, time_base=Fraction(1, 12800), pts=ticks, audio=1,
        videos=2,
    )  # fmt: skip
    before = judged(ffprobe, source)
    assert before["streams"][0]["start_pts"] == 19200
    transcode(source, tmp_path / "out.mp4", preset="medium")
    after = judged(ffprobe, tmp_path / "out.mp4")
    assert sorted(p["pts"] for p in packets(after, 0)) == ticks
    for index in (1, 2):
        assert [p["pts"] for p in packets(after, index)] == [p["pts"] for p in packets(before, index)]
        assert [p["dts"] for p in packets(after, index)] == [p["dts"] for p in packets(before, index)]
    transcode(source, tmp_path / "out.mkv", preset="medium")
    times_ms = [round(time * 1000) for time in sorted(times(judged(ffprobe, tmp_path / "out.mkv"), 0))]
    assert times_ms == [1500 + 40 * i for i in range(30)]


def test_a_trimmed_source_begins_at_0_with_its_chapters(tmp_path: Path, ffprobe: str) -> None:
    source = write_clip(
        tmp_path / "in.mp4",
        codec="libx264",
        audio=1,
        frames=100,
        chapters=((0, 1, "One"), (1, 4, "Two")),
        gop=10,
    )
    with (
        VideoReader(source, start_s=2) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, **FAST) as writer,
    ):
        for item in reader:
            writer.write(item)
    facts = judged(ffprobe, tmp_path / "out.mp4")
    assert times(facts, 0)[0] == 0
    assert [(c["tags"]["title"], float(c["start_time"])) for c in facts["chapters"]] == [("Two", 0)]


def test_reading_and_writing_in_two_threads(tmp_path: Path) -> None:
    """The decode thread owns the input, the encode thread the output and decoders of converted streams."""
    source = write_clip(
        tmp_path / "in.mkv", codec="libx264", audio=2, audio_codec="libopus", subtitles=("eng",), frames=100
    )
    items: queue.Queue[Any] = queue.Queue(maxsize=8)
    with VideoReader(source) as reader, VideoWriter(tmp_path / "out.mov", reader, **FAST) as writer:

        def read() -> None:
            for item in reader:
                items.put(item)
            reader.close()
            items.put(None)

        thread = threading.Thread(target=read)
        thread.start()
        for item in iter(items.get, None):
            writer.write(item)
        thread.join()
    assert writer.frames_written == 100
    assert len(_sound(tmp_path / "out.mov")) / 48_000 == pytest.approx(4, abs=0.05)
