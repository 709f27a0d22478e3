"""What only time shows: memory that stays flat, a thousand mutants, interrupts at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import write_clip
from forks import Forks
from mutants import write_bases
from portraits import portrait, portrait_clip

MEMORY = """
import resource, sys, torch
from portraits import Same
from gpenvideo.networks import load_detector
from gpenvideo.transcode import Encoding, restore_video
torch.set_num_threads(1)
for source in sys.argv[1:]:
    report = restore_video(
        source, source + ".out.mkv", weights=Same(128), detector=load_detector(device="cpu"),
        encoding=Encoding(codec="libx264", preset="ultrafast", crf=40), report_frames=source + ".jsonl",
    )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(peak_mb, report.written, report.faces, len(report.tracks), report.fps)
"""


def drifting_portrait(path: Path, size: tuple[int, int], frames: int) -> Path:
    """A long clip at a tiny bit rate: a face that drifts over a still pattern, and is gone now and then."""
    width, height = size
    side = height // 2
    face = cv2.cvtColor(portrait(2 * side)[:side, side // 2 : side // 2 + side], cv2.COLOR_RGB2YUV)
    y, x = np.mgrid[0:height, 0:width]
    ground = np.asarray(100 + 30 * np.sin(x / 40) + 30 * np.sin(y / 30), np.uint8)
    with av.open(str(path), "w") as out:
        options = {"preset": "ultrafast", "crf": "30", "threads": "1"}
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            planes = [ground.copy(), *(np.full((height // 2, width // 2), 128, np.uint8) for _ in "uv")]
            if number % 200 < 180:
                left = 2 * (round((width - side) / 4 * (1 + np.sin(number / 50))))
                top = height // 4
                planes[0][top : top + side, left : left + side] = face[..., 0]
                for plane, chroma in zip(planes[1:], (face[::2, ::2, 1], face[::2, ::2, 2]), strict=True):
                    across, down = left // 2, top // 2
                    plane[down : down + chroma.shape[0], across : across + chroma.shape[1]] = chroma
            packed = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, width)
            frame = av.VideoFrame.from_ndarray(packed, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def growth_mb(folder: Path, size: tuple[int, int], *lengths: int) -> float:
    """How far the peak resident size of a process rises from a short clip to a long one after it."""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here}:{here.parent}", "OMP_NUM_THREADS": "1"}
    clips = [drifting_portrait(folder / f"{frames}.mkv", size, frames) for frames in lengths]
    command = [sys.executable, "-c", MEMORY, *map(str, clips)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    peaks = []
    for line, frames in zip(run.stdout.splitlines(), lengths, strict=True):
        peak_mb, written, faces, tracks, fps = map(float, line.split())
        assert written == frames
        assert faces > 0.8 * frames
        assert tracks >= frames // 200
        sys.stderr.write(f"{frames} frames: peak {peak_mb:.1f} MB, {fps:.1f} frames a second\n")
        peaks.append(peak_mb)
    return peaks[-1] - peaks[0]


def test_memory_is_flat(tmp_path: Path) -> None:
    assert growth_mb(tmp_path, (320, 240), 200, 1000) < 25


@pytest.mark.soak
def test_memory_is_flat_over_ten_thousand_frames(tmp_path: Path) -> None:
    assert growth_mb(tmp_path, (1280, 720), 500, 10_000) < 50


@pytest.mark.soak
def test_thousands_of_mutants(tmp_path: Path) -> None:
    bases = tmp_path / "bases"
    bases.mkdir()
    write_bases(bases)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for seed in range(100, 104):
        folder = tmp_path / str(seed)
        folder.mkdir()
        command = [sys.executable, Path(__file__).with_name("mutants.py"), str(seed), "1500", bases, folder]
        run = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
        assert run.returncode == 0, run.stderr[-4000:]
        assert sum(json.loads(run.stdout).values()) == 1500


@pytest.mark.soak
def test_interrupts_at_any_moment(tmp_path: Path) -> None:
    source = portrait_clip(tmp_path / "in.mkv", codec="libx264", frames=60, audio=1)
    other = write_clip(tmp_path / "other.mp4", codec="libx264", frames=200, audio=1)
    (tmp_path / "said").mkdir()
    (tmp_path / "out").mkdir()
    rng, slowest_s = random.Random(5), 0.0
    with Forks(tmp_path / "said") as forks:
        for number in range(60):
            clip, target = (source, "out.mkv") if number % 2 else (other, "out.mp4")
            run = forks.start(["restore", clip, "-o", tmp_path / "out" / target])
            time.sleep(rng.uniform(0.0, 6.0 if number % 2 else 1.5))
            asked = rng.choice((signal.SIGINT, signal.SIGTERM))
            run.send(asked)
            done = run.wait()
            assert done.code in (128 + asked, -asked, 0), done
            if done.code > 0:  # else it came after the run, while Python ended
                assert "Traceback" not in done.err
                slowest_s = max(slowest_s, done.seconds)
            for left in (tmp_path / "out").iterdir():
                assert left.name == target
                with av.open(str(left)) as container:
                    assert sum(1 for _ in container.decode(video=0)) == (60 if number % 2 else 200)
                left.unlink()
    sys.stderr.write(f"slowest stop: {slowest_s:.2f} s\n")
    assert slowest_s < 1.0
