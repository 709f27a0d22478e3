"""Clips from plain pictures: what is written is what a player shows, and when it shows it."""

from __future__ import annotations

import json
import os
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from gpenvideo.errors import FileError, FileMissing, MediaError, OptionError
from gpenvideo.video.clip import read_clip, write_clip

COLOURS = np.array([(200, 30, 40), (20, 180, 60), (30, 40, 210), (128, 128, 128), (250, 240, 10)], np.uint8)


def plain(height: int = 64, width: int = 96) -> list[NDArray[np.uint8]]:
    return [np.broadcast_to(colour, (height, width, 3)) for colour in COLOURS]


@pytest.mark.parametrize(
    ("pixel_format", "codec", "height", "name"),
    [
        ("yuv420p", "libx264", 64, "a.mp4"),
        ("yuv444p", "libx264", 64, "a.mkv"),
        ("yuv420p10le", "libx264", 720, "a.mov"),
        ("bgr0", "ffv1", 64, "a.mkv"),
    ],
)
def test_colours_come_back(
    pixel_format: str, codec: str, height: int, name: str, tmp_path: Path, ffprobe: str
) -> None:
    crf = None if codec == "ffv1" else 1
    write_clip(tmp_path / name, plain(height), 25, codec=codec, crf=crf, pixel_format=pixel_format)
    shown = list(read_clip(tmp_path / name))
    assert len(shown) == len(COLOURS)
    for pixels, colour in zip(shown, COLOURS, strict=True):
        assert np.abs(pixels[10:-10, 10:-10].astype(int) - colour).max() <= (0 if codec == "ffv1" else 3)
    command = [ffprobe, "-v", "error", "-show_streams", "-of", "json", str(tmp_path / name)]
    probed = subprocess.run(command, capture_output=True, check=True).stdout
    stream = json.loads(probed)["streams"][0]
    matrix = "gbr" if codec == "ffv1" else "bt709" if height >= 720 else "smpte170m"
    assert (stream["pix_fmt"], stream["color_space"]) == (pixel_format, matrix)
    assert stream["color_range"] == ("pc" if codec == "ffv1" else "tv")


@pytest.mark.parametrize("rate_hz", [25, 23.976, Fraction(30000, 1001), 7.5])
@pytest.mark.parametrize("channels", [1, 2])
def test_rate_duration_and_sound_come_back(rate_hz: float | Fraction, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    time_s = np.arange(3 * 48000) / 48000
    sound = np.sin(2 * np.pi * 440 * time_s).astype(np.float32) / 2
    frames = plain() * 6
    write_clip(path, frames, rate_hz, sound=sound if channels == 1 else np.stack([sound, -sound], axis=1))
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert float(video.average_rate) == pytest.approx(float(rate_hz), rel=1e-4)
        assert audio.channels == channels
        times = [picture.time for picture in container.decode(video)]
        assert times == pytest.approx([i / float(rate_hz) for i in range(30)], abs=1e-3)
        container.seek(0)
        heard = np.concatenate([block.to_ndarray() for block in container.decode(audio)], axis=1)
    duration_s = min(3.0, 30 / float(rate_hz))
    assert heard.shape[1] / 48000 == pytest.approx(duration_s, abs=0.03)
    spectrum = np.abs(np.fft.rfft(heard[0, :48000]))
    assert np.argmax(spectrum) == 440
    assert np.abs(heard[0, 2000:40000] - sound[2000:40000]).max() < 0.05  # in time with the pictures
    if channels == 2:
        assert np.corrcoef(heard[0, :48000], heard[1, :48000])[0, 1] < -0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": []}, "one frame or more"),
        ({"frames": [np.zeros((64, 64, 3), np.uint8), np.zeros((64, 32, 3), np.uint8)]}, "one size"),
        ({"frames": [np.zeros((64, 64), np.uint8)]}, "uint8 RGB"),
        ({"frames": [np.zeros((33, 33, 3), np.uint8)]}, "settings"),
        ({"codec": "nothing"}, "nothing"),
        ({"codec": "aac"}, "no pictures"),
        ({"pixel_format": "nothing"}, "nothing"),
        ({"options": {"crf": "abc"}}, "settings"),
        ({"sound": np.zeros((10, 3), np.float32)}, "sound is"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"an earlier one")
    arguments: dict[str, object] = {"frames": plain(), "rate_hz": 25} | changes
    with pytest.raises(OptionError, match=message) as caught:
        write_clip(path, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["clip.mp4"]
    assert path.read_bytes() == b"an earlier one"


def test_an_error_of_the_frames_is_the_callers_own(tmp_path: Path) -> None:
    def broken() -> object:
        yield from plain()
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        write_clip(tmp_path / "clip.mp4", broken(), 25)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_files_that_are_not_clips(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        write_clip(tmp_path / "no folder" / "clip.mp4", plain(), 25)
    with pytest.raises(FileMissing):
        next(read_clip(tmp_path / "nothing.mp4"))
    with pytest.raises(FileError):
        next(read_clip(tmp_path))
    (tmp_path / "text.mp4").write_text("no video" * 100)
    with pytest.raises(MediaError):
        next(read_clip(tmp_path / "text.mp4"))
