"""Videos that cannot be used, and damaged ones that can: what is said, what is kept, what is left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import truncated, with_noise, write_clip
from forks import Forks
from mutants import Everywhere, write_bases
from portraits import Same, portrait_clip

from gpenvideo import GpenvideoError, MediaError
from gpenvideo.report import Report
from gpenvideo.transcode import Decoding, Encoding, restore_video

FFV1 = Encoding(codec="ffv1")
NO_NETWORK = ["--weights", "no-such-weights.pth"]  # their own error shows that all else was checked before
QUICK = ["--preset", "ultrafast", "--detect-size", "160"]

Told = Callable[..., Any]  # see the fixture `said`


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as those of pytest may not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def forks(open_folder: Path) -> Iterator[Forks]:
    (open_folder / "said").mkdir()
    (open_folder / "said").chmod(0o777)
    with Forks(open_folder / "said") as forks:
        yield forks


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "in.mkv", codec="libx264", frames=10, audio=1)


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, hidden files too."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def check_refused(done: Any, words: str) -> None:
    """One clear line, exit code 2, no thread."""
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("gpenvideo: ")
    assert done.err.count("\n") == 1
    assert words in done.err
    assert not [t for t in threading.enumerate() if t.name.startswith("gpenvideo")]


# Sources that cannot be used


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        for start in range(0, 48000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text("no picture")
    return path


def bytes_in(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


NOISE = random.Random(3).randbytes(30000)
SOURCES: list[tuple[str, Callable[[Path], Path], list[str], str]] = [
    ("sound alone", lambda f: sound(f / "a.mp4"), [], "no video stream, only: audio"),
    ("noise", lambda f: bytes_in(f / "a.mp4", NOISE), [], "no video that FFmpeg can read"),
    ("noise as mkv", lambda f: bytes_in(f / "a.mkv", NOISE), [], "no video that FFmpeg can read"),
    ("noise in a raw stream", lambda f: bytes_in(f / "a.264", NOISE), [], "a.264: "),
    ("empty", lambda f: bytes_in(f / "a.mp4", b""), [], "it is empty"),
    ("missing", lambda f: f / "a.mp4", [], "no such file or folder"),
    ("a missing pattern", lambda f: f / "a_%04d.png", [], "no file matches"),
    ("a folder without pictures", lambda f: folder_of(f / "a", "b.txt"), [], "no pictures"),
    ("such a sequence", lambda f: folder_of(f / "a", "b.txt"), ["--rate", "25"], "no pictures"),
    ("pictures that are none", lambda f: folder_of(f / "a", "b1.png"), ["--rate", "25"], "no picture of it"),
]


@pytest.mark.parametrize(("make", "options", "words"), [s[1:] for s in SOURCES], ids=[s[0] for s in SOURCES])
def test_a_source_that_cannot_be_used(
    make: Callable[[Path], Path], options: list[str], words: str, tmp_path: Path, said: Told
) -> None:
    source = make(tmp_path)
    before = tree(tmp_path)
    for command in (["restore", source, *options, *NO_NETWORK], ["info", source]):
        if command[0] == "info" and words.startswith("no video stream"):
            continue  # which it tells
        done = said(*command)
        check_refused(done, words)
        assert str(source) in done.err
    assert tree(tmp_path) == before


# Options and targets that cannot be used

OPTIONS: list[tuple[str, str]] = [
    ("-o TMP/gone/a.mkv", "no such file or folder"),
    ("-o TMP/in.mkv", "the output is the input"),
    ("-o TMP/link.mkv", "the output is the input"),
    ("-o TMP/hard.mkv", "the output is the input"),
    ("-o TMP", "the output is the input"),  # a folder gets the source's name
    ("-o TMP/a.xyz", "no container for the suffix '.xyz'"),
    ("-o TMP/a", "give the file a suffix"),
    ("-o TMP/a.png", "name pictures by a pattern: a_%04d.png"),
    ("-o TMP/a.mkv --codec h666", "no codec 'h666' here: choose of libx264"),
    ("-o TMP/a.mp4 --codec dpx", "name pictures by a pattern"),
    ("-o TMP/a.webm --codec libx264", "webm holds no video of libx264: choose libsvtav1"),
    ("-o TMP/a.mkv --preset warp", "no preset 'warp': ultrafast"),
    ("-o TMP/a.mkv --pix-fmt yuv999", "'yuv999' is no pixel format"),
    ("-o TMP/a.mkv --pix-fmt xyz12le", "takes no xyz12le; it takes"),
    ("-o TMP/a.mkv --crf 99", "the crf of libx264 is 0 to 51"),
    ("-o TMP/a.mkv --codec ffv1 --crf 9", "no quality to set"),
    ("-o TMP/a.mkv --start soon", "a moment is written 62.5"),
    ("-o TMP/a.mkv --end 0:61", "a moment is written 62.5"),
    ("-o TMP/a.mkv --start 60", "over before that start: it lasts 0.4"),
    ("-o TMP/a.mkv --start 99f", "no frame 99"),
    ("-o TMP/a.mkv --start 0.3 --end 0.1", "the end must lie after the start"),
    ("-o TMP/a.mkv --video-stream 2", "1 video stream, counted from 0: there is no 2"),
    ("-o TMP/a.mkv --rate fast", "a rate is written 25"),
    ("-o TMP/a.mkv --rate 1/0", "a rate is written 25"),
    ("-o TMP/a.mkv --select best", "faces are chosen by all, largest"),
    ("-o TMP/a.mkv --select id:x", "faces are chosen by all, largest"),
    ("-o TMP/a.mkv --compare both", "side and wipe, not 'both'"),
    ("-o TMP/a.png --preview later", "a moment is written 62.5"),
    ("-o TMP/a.png --preview 60", "over before that start"),
    ("-o TMP/a.mkv --preview 0.1", "write to one of .png"),
    ("-o TMP/gone/a.png --preview 0.1", "no such file or folder"),
    ("-o TMP/a.mkv --aligned", "--aligned is for pictures"),
    ("-o TMP/a.mkv --report TMP/gone/r.json", "no such file or folder"),
    ("-o TMP/a.mkv --report TMP", "it is a folder"),
    ("-o TMP/a.mkv --report TMP/in.mkv", "a report would replace it"),
    ("-o TMP/a.mkv --report-frames TMP/link.mkv", "a report would replace it"),
    ("-o TMP/a.mkv --report TMP/a.mkv", "a report would replace it"),
    ("-o TMP/a.mkv --report TMP/r --report-frames TMP/r", "a report would replace it"),
    ("-o TMP/a.mkv", "no such weights file"),  # all else was right
]


@pytest.mark.parametrize(("options", "words"), OPTIONS, ids=[o[0] for o in OPTIONS])
def test_an_option_that_cannot_be_used(
    options: str, words: str, tmp_path: Path, clip: Path, said: Told
) -> None:
    (tmp_path / "link.mkv").symlink_to(clip)
    (tmp_path / "hard.mkv").hardlink_to(clip)
    before = tree(tmp_path)
    check_refused(said("restore", clip, *options.replace("TMP", str(tmp_path)).split(), *NO_NETWORK), words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("options", [["--strength", "2"], ["--crf", "x"], ["--no-such-option"]])
def test_an_option_that_is_none(options: list[str], tmp_path: Path, clip: Path, said: Told) -> None:
    done = said("restore", clip, *options, *NO_NETWORK)
    assert done.code == 2
    assert options[0] in done.err
    assert list(tmp_path.iterdir()) == [clip]


def test_without_permission(forks: Forks, open_folder: Path) -> None:
    """As a user who may neither read the one file nor write beside the other."""
    folder = open_folder / "closed"
    folder.mkdir()
    clip = write_clip(folder / "in.mkv", codec="libx264", frames=10)
    secret = write_clip(folder / "secret.mkv", codec="libx264", frames=10)
    secret.chmod(0)
    if os.geteuid() == 0:
        settings = {"uid": 65534}
    else:
        settings = {}
        folder.chmod(0o555)
    before = None if settings else sorted(folder.iterdir())
    done = forks.run("restore", secret, "-o", open_folder / "a.mkv", *NO_NETWORK, **settings)
    check_refused(done, "secret.mkv: cannot read it: permission denied")
    done = forks.run("restore", clip, *NO_NETWORK, **settings)
    check_refused(done, "in.restored.mkv: cannot write it: permission denied")
    assert before is None or sorted(folder.iterdir()) == before
    assert {path.name for path in folder.iterdir()} == {"in.mkv", "secret.mkv"}
    folder.chmod(0o777)
    secret.chmod(0o666)


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out_%04d.png"])
def test_a_disk_that_is_full(target: str, forks: Forks, tmp_path: Path) -> None:
    """A real full disk where one can be mounted, else a limit to the size of files."""
    source = write_clip(tmp_path / "in.mkv", size=(320, 240), frames=25)  # noise: 2 MB as H.264
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    settings, words = ({}, "no space left on device") if mounted else ({"file_bytes": 1 << 16}, "too large")
    try:
        done = forks.run("restore", source, "-o", disk / target, "--strength", "0", **settings)
        assert done.code == 2, done
        network, line = done.err.splitlines()
        assert "GPENRestorer" in network
        assert f"cannot write it: {words}" in line or f"cannot write it: file {words}" in line
        assert list(disk.iterdir()) == []
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


# Damaged sources that can be used


def restored(source: Path, **decoding: Any) -> Report:
    """Restored beside it; the result is whole, and nothing else is left."""
    target = source.with_name("out.mkv")
    before = {path for path in source.parent.iterdir() if path != target}
    report = restore_video(
        source,
        target,
        weights=Same(32, paint=0.5),
        detector=Everywhere(),
        encoding=FFV1,
        decoding=Decoding(**decoding),
    )
    assert set(source.parent.iterdir()) - {target} == before
    with av.open(str(target)) as container:
        assert sum(1 for _ in container.decode(video=0)) == report.written
    return report


def check_strict(source: Path) -> None:
    """Refused, and the result of an earlier run stays."""
    before = tree(source.parent)
    with pytest.raises(MediaError, match="it is damaged: ") as caught:
        restored(source, strict=True)
    assert caught.value.path == str(source)
    assert tree(source.parent) == before
    assert not [t for t in threading.enumerate() if t.name.startswith("gpenvideo")]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_file_that_ends_in_the_middle(name: str, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    whole = write_clip(
        tmp_path / f"whole_{name}", codec="libx264", frames=75, gop=25, audio=1, container_options=options
    )
    cut = truncated(whole, tmp_path / name, 0.6)
    report = restored(cut)
    assert 35 <= report.written <= 55
    if name != "a.ts":  # which does not say how long it is
        assert any("before its time" in line for line in report.warnings)
        check_strict(cut)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert sum(packet.size > 0 for packet in container.demux(audio=0)) > 40  # of 1024 samples each


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "ffv1"), ("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video")]
)
def test_broken_packets_in_the_middle(name: str, codec: str, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / f"whole_{name}", codec=codec, frames=50, gop=5, size=(160, 120))
    bad = with_noise(whole, tmp_path / name, [(0.5, 600), (0.6, 100)])
    report = restored(bad)
    assert 35 <= report.written <= 50
    check_strict(bad)
    damage = ("could not be decoded", "Damaged pictures", "Breaks in the file", "does not have")
    assert any(kind in line for line in report.warnings for kind in damage)


@pytest.mark.parametrize("suffix", [".264", ".ts"])
def test_the_size_changes_on_the_way(suffix: str, tmp_path: Path) -> None:
    sizes = [(96, 64), (64, 96), (96, 64)]
    parts = [
        write_clip(tmp_path / f"{i}{suffix}", codec="libx264", size=size, frames=6, gop=6)
        for i, size in enumerate(sizes)
    ]
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    report = restored(joined)
    assert 16 <= report.written <= 18
    assert 5 <= (report.frames["refitted_frames"] or 0) <= 6
    assert any("another size" in line for line in report.warnings)
    check_strict(joined)


def test_broken_sound(tmp_path: Path) -> None:
    """Copied as it is where it is copied; where it is converted, silence stands for what is broken."""
    whole = write_clip(tmp_path / "whole.mkv", codec="libx264", frames=50, audio=1)
    with av.open(str(whole)) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size][20:30]
    data = bytearray(whole.read_bytes())
    for place in places:
        data[place + 20 : place + 60] = random.Random(place).randbytes(40)
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(data)
    report = restored(bad)
    assert report.written == 50
    with av.open(str(bad)) as a, av.open(str(tmp_path / "out.mkv")) as b:
        was, now = ([bytes(p) for p in c.demux(audio=0) if p.size] for c in (a, b))
    assert was == now


def test_failing_sound_of_the_wild(shared: Path, tmp_path: Path) -> None:
    """Sound packets at the end of this file cannot be decoded."""
    source = tmp_path / "a.mp4"
    source.symlink_to(shared / "data" / "videos" / "failing_audio.mp4")
    report = restored(source, end=Fraction(2))
    with av.open(str(source)) as container:
        rate = float(container.streams.video[0].average_rate or 0)
    assert abs(report.written - 2 * rate) <= 1


def test_sound_that_lacks_its_configuration(tmp_path: Path) -> None:
    """AAC whose description is lost cannot go into Matroska: the pictures do."""
    whole = write_clip(tmp_path / "whole.mp4", codec="libx264", frames=10, audio=1)
    data = whole.read_bytes()
    assert data.count(b"esds") == 1
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data.replace(b"esds", b"esd\0"))
    report = restored(bad)
    assert report.written == 10
    assert any("audio" in line for line in report.warnings)


@pytest.mark.parametrize("strict", [False, True])
def test_damage_on_the_command_line(strict: bool, tmp_path: Path, said: Told) -> None:
    whole = write_clip(
        tmp_path / "w.mp4", codec="libx264", frames=100, gop=10, container_options={"movflags": "faststart"}
    )
    cut = truncated(whole, tmp_path / "a.mp4", 0.6)
    arguments = ["restore", cut, "-o", tmp_path / "b.mp4", "--report", tmp_path / "r.json", *QUICK]
    done = said(*arguments, *["--strict"] * strict)
    if strict:
        assert done.code == 2
        assert done.err.splitlines()[-1].startswith(f"gpenvideo: {cut}: it is damaged: ")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "w.mp4"]
        return
    assert done.code == 0
    assert any(line.startswith("warning: Ends of the file before") for line in done.err.splitlines())
    told = json.loads((tmp_path / "r.json").read_text())["warnings"]
    assert any("before its time" in line for line in told)
    done = said(*arguments, "--json")
    assert done.code == 0
    assert json.loads(done.out.splitlines()[-1])["warnings"] == told


# Small ones


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 1)], ids=str)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "gray", "gbrp10le", "yuv444p10le"])
def test_the_smallest_pictures_are_valid(size: tuple[int, int], pix_fmt: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.nut", size=size, pix_fmt=pix_fmt, frames=3)
    assert restored(source).written == 3


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1)], ids=str)
def test_a_few_pixels_on_the_command_line(size: tuple[int, int], tmp_path: Path, said: Told) -> None:
    source = write_clip(tmp_path / "a.nut", codec="rawvideo", size=size, frames=2)
    done = said("restore", source, "-o", tmp_path / "b.mp4", *QUICK)
    assert done.code == 0, done.err
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(list(container.decode(video=0))) == 2


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.264", "a.gif"])
def test_a_few_frames(frames: int, name: str, tmp_path: Path) -> None:
    codec, pix_fmt = ("gif", "rgb8") if name == "a.gif" else ("libx264", "yuv420p")
    source = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, frames=frames)
    assert restored(source).written == frames


# Mutants


def test_mutants_are_restored_or_refused(tmp_path: Path) -> None:
    bases = tmp_path / "bases"
    bases.mkdir()
    write_bases(bases)
    command = [sys.executable, Path(__file__).with_name("mutants.py"), "20", "204", bases, tmp_path]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, env=environment)
    assert run.returncode == 0, run.stderr[-4000:]
    results = json.loads(run.stdout)
    assert sum(results.values()) == 204
    assert min(results[kind] for kind in ("whole", "with warnings", "MediaError")) > 10


# Interrupts


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait_clip(tmp_path_factory.mktemp("long") / "in.mkv", codec="libx264", frames=250)


def check_stopped(done: Any, folder: Path, signal_number: int) -> None:
    assert done.code == 128 + signal_number, done
    assert done.seconds < 1.0
    assert done.err.splitlines()[-1] == "stopped"
    assert "Traceback" not in done.err
    assert {path.name for path in folder.iterdir()} == {"out.mkv"}
    assert (folder / "out.mkv").read_text() == "an earlier result"


def started(forks: Forks, source: Path, folder: Path, progress_lines: int) -> Any:
    """A run over an earlier result that has come so far."""
    (folder / "out.mkv").write_text("an earlier result")
    arguments = ["--json", "--report", folder / "r.json", "--report-frames", folder / "f.jsonl"]
    run = forks.start(["restore", source, "-o", folder / "out.mkv", *arguments])
    end = time.monotonic() + 60
    while run.out.count("\n") < progress_lines and time.monotonic() < end:
        time.sleep(0.01)
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle(number: int, forks: Forks, long_clip: Path, tmp_path: Path) -> None:
    run = started(forks, long_clip, tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 3  # the earlier result, and two that are being written
    run.send(number)
    check_stopped(run.wait(), tmp_path, number)


def test_ctrl_c_twice(forks: Forks, long_clip: Path, tmp_path: Path) -> None:
    run = started(forks, long_clip, tmp_path, 2)
    run.send(signal.SIGINT)
    time.sleep(0.03)
    os.kill(run.pid, signal.SIGINT)
    check_stopped(run.wait(), tmp_path, signal.SIGINT)


def test_ctrl_c_while_it_starts(forks: Forks, long_clip: Path, tmp_path: Path) -> None:
    """Before the first frame: networks are loaded, the first faces are searched for."""
    for wait_s in (0.15, 0.3):
        run = started(forks, long_clip, tmp_path, 0)
        time.sleep(wait_s)
        run.send(signal.SIGINT)
        check_stopped(run.wait(), tmp_path, signal.SIGINT)


def test_ctrl_c_near_the_end(forks: Forks, tmp_path: Path) -> None:
    """Whenever it comes, the result is whole or what it was."""
    source = write_clip(tmp_path / "in.mkv", codec="libx264", frames=50)
    arguments = ["restore", source, "-o", tmp_path / "out.mkv", "--json", *QUICK]
    run = forks.start(arguments)
    while '"done"' not in run.out:
        time.sleep(0.005)
    whole_s = time.monotonic() - run.since
    assert run.wait().code == 0
    result = (tmp_path / "out.mkv").stat().st_size
    codes = []
    for share in (0.5, 0.7, 0.8, 0.9, 0.95):
        (tmp_path / "out.mkv").write_text("an earlier result")
        run = forks.start(arguments)
        time.sleep(share * whole_s)
        run.send(signal.SIGINT)
        done = run.wait()
        codes.append(done.code)
        assert done.code in (130, 0, -signal.SIGINT), done  # the others after the run, while Python ends
        assert done.code != 130 or (done.seconds < 1.0 and "Traceback" not in done.err)
        assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mkv"}
        size = (tmp_path / "out.mkv").stat().st_size
        assert size in (result, len("an earlier result"))
    assert 130 in codes


def test_ctrl_c_while_torch_is_imported(long_clip: Path, tmp_path: Path) -> None:
    """The command as a person runs it, from its own beginning."""
    command = [sys.executable, "-m", "gpenvideo", "restore", str(long_clip), "-o", str(tmp_path / "o.mkv")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{run.pid}/maps")
    end = time.monotonic() + 60
    while "libtorch_python" not in maps.read_text() and time.monotonic() < end:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    since = time.monotonic()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert time.monotonic() - since < 5  # a library that is being loaded is loaded to its end
    assert (out, err) == ("", "stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_an_error_on_the_way_waits_for_its_threads(tmp_path: Path) -> None:
    """A failure while a network works leaves no thread behind, however long the network takes."""

    class Slow(Same):
        def __call__(self, pixels: Any) -> Any:
            time.sleep(0.8)
            return super().__call__(pixels)

    source = write_clip(tmp_path / "in.mkv", codec="libx264", frames=40)

    def fail(progress: Any) -> None:
        if progress.frames:
            raise GpenvideoError("enough")

    with pytest.raises(GpenvideoError, match="enough"):
        restore_video(source, tmp_path / "out.mkv", weights=Slow(32), detector=Everywhere(), progress=fail)
    assert not [t for t in threading.enumerate() if t.name.startswith("gpenvideo")]
    assert list(tmp_path.iterdir()) == [source]
