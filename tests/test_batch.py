"""Many files: good ones are done whatever the bad ones are, what is done is not done again, all is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import truncated, write_clip
from portraits import decoded_planes, portrait_clip

from gpenvideo.batch.driver import BatchOptions
from gpenvideo.batch.film import Film
from gpenvideo.batch.local import InProcess, Processes
from gpenvideo.batch.run import Summary, run_batch
from gpenvideo.batch.sources import find_sources
from gpenvideo.batch.store import Store
from gpenvideo.batch.tasks import Task
from gpenvideo.errors import DeviceError, MediaError, OptionError
from gpenvideo.transcode import restore_video
from gpenvideo.video.options import Encoding

Told = Callable[..., Any]  # see the fixture `said`

ODD_NAMES = (
    "-dash.mkv",
    "Ünïcode 映画.mkv",
    "new\nline.mkv",
    " spaces  .mkv",
    "100%d [a]*?.mkv",
    "'\"$(x).mkv",
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def flags(network: Path) -> list[str]:
    return ["--weights", str(network), "--codec", "ffv1", "--detect-size", "160", "--workers", "0"]


def clip(path: Path, seed: int, **how: Any) -> Path:
    """A small clip like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(
        path, **{"codec": "ffv1", "size": (48, 32), "frames": 3, "metadata": {"title": str(seed)}} | how
    )


def run(given: list[Path], out: Path, network: Path, **how: Any) -> Summary:
    settings = {"weights": str(network), "codec": "ffv1", "detect-size": 160} | how.pop("settings", {})
    executor = how.pop("executor", None) or InProcess()
    return run_batch(given, out, settings=settings, executor=executor, **how)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# A hundred files


def write_broken(folder: Path) -> dict[str, str]:
    """Files that cannot be restored, each for a reason of its own: name to some words of it."""
    folder.mkdir()
    (folder / "empty.mkv").touch()
    (folder / "text.txt").write_text("This is no film.\n" * 99)
    (folder / "folder.mov").mkdir()
    os.mkfifo(folder / "pipe.mkv")
    (folder / "loop.mkv").symlink_to("loop.mkv")
    (folder / "away.mkv").symlink_to("nowhere.mkv")
    truncated(clip(folder / "cut.mp4", 1, codec="libx264", frames=40), folder / "cut.mp4", 0.5)
    write_clip(folder / "sound.mka", videos=0, frames=30, audio=1).rename(folder / "sound.mkv")
    data = clip(folder / "codec.mkv", 2).read_bytes()
    (folder / "codec.mkv").write_bytes(data.replace(b"FFV1", b"QQQQ").replace(b"V_FFV1", b"V_QQQQ"))
    clip(folder / "name.mkv", 4).rename(folder / "name.xyz")
    without_pictures(clip(folder / "black.mkv", 3, codec="libx264"))
    own = {
        "stream.mkv": ("video-stream = 3", "there is no 3"),
        "late.mkv": ("start = 99", "it is over before that start"),
        "ends.mkv": ("end = 0", "the end must lie after the start"),
        "detector.mkv": ('detector = "none.pth"', "none.pth"),
    }
    for name, (setting, _) in own.items():
        clip(folder / name[:4] / name, len(name), codec="libx264", size=(64, 48))
        (folder / name[:4] / "gpenvideo.toml").write_text(setting)
    return {name: words for name, (_, words) in own.items()} | {
        "empty.mkv": "it is empty",
        "text.txt": "it is a text",
        "folder.mov": "it is a folder",
        "pipe.mkv": "pipe",
        "loop.mkv": "symbolic links",
        "away.mkv": "no such file",
        "cut.mp4": "damaged",
        "sound.mkv": "no video stream, only: audio",
        "name.xyz": "no container for the suffix '.xyz'",
        "codec.mkv": "codec that FFmpeg cannot decode",
        "black.mkv": "no picture of it could be decoded",
    }


def same_pictures(one: Path, other: Path) -> bool:
    """Whether all samples of all frames are the same, and their times."""
    ours, theirs = decoded_planes(one), decoded_planes(other)
    return list(ours) == list(theirs) and all(
        np.array_equal(a, b) for pts in ours for a, b in zip(ours[pts], theirs[pts], strict=True)
    )


def test_a_hundred_files(network: Path, flags: list[str], tmp_path: Path, said: Told) -> None:
    """15 broken, 4 that are the same as others, odd names: 85 done, each broken one with its reason."""
    films, broken = tmp_path / "films", tmp_path / "broken"
    words = write_broken(broken)
    for number in range(75):
        clip(films / f"{number % 7}" / f"film {number}.mkv", number)
    for number, name in enumerate(ODD_NAMES):
        clip(films / "odd" / name, 100 + number)
    for number in range(4):
        (films / "again").mkdir(exist_ok=True)
        shutil.copy(films / f"{number}" / f"film {number}.mkv", films / "again" / f"{number}.mkv")
    given = [films, broken, broken / "text.txt", broken / "name.xyz"]
    done = said("batch", *given, "--out", tmp_path / "out", "--recursive", "--json", *flags)
    assert done.code == 1, done.err
    told = lines(done.out)
    assert told[-1] | {"files": 100, "done": 85, "failed": 15, "copied": 4, "skipped": 0} == told[-1]

    report = lines((tmp_path / "out" / "report.jsonl").read_text())
    failed = {Path(line["source"]).name: line["reason"] for line in report if line["state"] == "failed"}
    assert failed.keys() == words.keys()
    assert all(words[name] in reason for name, reason in failed.items())
    assert len(set(failed.values())) == 15
    assert not any("\n" in reason for reason in failed.values())
    whole = [line for line in report if line["state"] == "done"]
    assert {str(Path(line["source"]).relative_to(films)) for line in whole} == {
        str(path.relative_to(films)) for path in films.rglob("*.mkv")
    }
    for line in whole:
        place = tmp_path / "out" / Path(line["source"]).relative_to(films)
        assert Path(line["target"]) == place
        assert place.is_file()
    for number in range(4):
        again = tmp_path / "out" / "again" / f"{number}.mkv"
        assert again.read_bytes() == (tmp_path / "out" / f"{number}" / f"film {number}.mkv").read_bytes()

    again = said("batch", *given, "--out", tmp_path / "out", "--recursive", *flags)
    assert again.code == 1
    assert "100 files: 85 done (85 of them before), 15 failed" in again.out


def test_a_result_is_that_of_restore(network: Path, tmp_path: Path) -> None:
    source = portrait_clip(tmp_path / "old.mkv", size=(160, 120), frames=8, audio=1)
    (film,) = run([source], tmp_path / "out", network, options=BatchOptions(verify=True)).films
    assert (film.state, film.reason) == ("done", None)
    restore_video(
        source,
        tmp_path / "one.mkv",
        weights=network,
        options=film.work.options,
        encoding=Encoding(codec="ffv1"),
    )
    assert same_pictures(tmp_path / "out" / "old.mkv", tmp_path / "one.mkv")
    assert not same_pictures(tmp_path / "out" / "old.mkv", source)


def without_pictures(path: Path) -> None:
    """Make all packets of a file be of zeros."""
    with av.open(str(path)) as source:
        packets = [(bytes(len(bytes(p))), p.pts, p.dts) for p in source.demux(video=0) if p.size]
        stream = source.streams.video[0]
        with av.open(str(path.with_name("made.mkv")), "w") as out:
            made = out.add_stream_from_template(stream)
            for data, pts, dts in packets:
                packet = av.Packet(data)
                packet.stream, packet.pts, packet.dts = made, pts, dts
                packet.time_base = stream.time_base
                out.mux(packet)
    path.with_name("made.mkv").replace(path)


# What is done is not done again


def states(summary: Summary) -> dict[str, str]:
    return {Path(film.work.source).name: f"{film.state}{' before' * film.skipped}" for film in summary.films}


def test_only_what_changed_is_done_again(network: Path, tmp_path: Path) -> None:
    for number in range(3):
        clip(tmp_path / "in" / f"{number}.mkv", number)
    given, out = [tmp_path / "in"], tmp_path / "out"
    assert set(states(run(given, out, network)).values()) == {"done"}
    assert set(states(run(given, out, network)).values()) == {"done before"}
    clip(tmp_path / "in" / "0.mkv", 99)
    (out / "1.mkv").unlink()
    shutil.copy(tmp_path / "in" / "2.mkv", tmp_path / "touched.mkv")  # another file of the same content
    (tmp_path / "touched.mkv").replace(tmp_path / "in" / "2.mkv")
    assert states(run(given, out, network)) == {"0.mkv": "done", "1.mkv": "done", "2.mkv": "done before"}
    assert set(states(run(given, out, network, settings={"strength": 0.5})).values()) == {"done"}
    other = tmp_path / "other.pth"
    other.write_bytes(network.read_bytes())
    half = {"strength": 0.5}
    assert set(states(run(given, out, other, settings=half)).values()) == {"done before"}
    other.write_bytes(network.read_bytes() + b"another")
    assert "done before" not in states(run(given, out, other, settings=half)).values()


def test_files_that_failed_are_tried_again_when_asked(network: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.mkv").write_bytes(b"no film")
    given, out = [tmp_path / "in"], tmp_path / "out"
    attempts = []
    for retry in (False, False, True):
        summary = run(given, out, network, options=BatchOptions(retry_failed=retry))
        (film,) = summary.failed
        attempts.append((film.skipped, lines(Path(summary.report).read_text())[0]["attempts"]))
    assert attempts == [(False, 1), (True, 1), (False, 2)]
    clip(tmp_path / "in" / "bad.mkv", 1)
    assert states(run(given, out, network)) == {"bad.mkv": "done"}


def test_a_copy_of_a_file_that_failed_fails(network: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.mkv").write_bytes(b"no film")
    a, b = run([tmp_path / "in"], tmp_path / "out", network).failed
    assert a.reason == "it is no video that FFmpeg can read, or a damaged one"
    assert a.reason in (b.reason or "")
    assert "a.mkv" in (b.reason or "")


def test_segments_of_an_earlier_run_are_used(network: Path, tmp_path: Path) -> None:
    """The second run finds one segment whole, one damaged and one not begun."""
    source = clip(tmp_path / "a.mkv", 1, frames=25, rate=1, codec="libx264")
    whole = run([source], tmp_path / "whole", network, options=BatchOptions(segment_s=5))
    assert len(whole.films[0].parts) == 3

    class Stopping(InProcess):
        """Ends as a process does that is killed, after some tasks."""

        left = 4  # hash, analysis and two segments

        def submit(self, task: Task) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            super().submit(task)

    with pytest.raises(KeyboardInterrupt):
        run([source], tmp_path / "out", network, options=BatchOptions(segment_s=5), executor=Stopping())
    segments = sorted((tmp_path / "out" / ".gpenvideo").rglob("*.nut"))
    assert len(segments) == 2
    segments[1].write_bytes(segments[1].read_bytes()[:-9])
    (film,) = run([source], tmp_path / "out", network, options=BatchOptions(segment_s=5)).films
    assert (film.state, film.reused, len(film.parts)) == ("done", 1, 3)
    assert same_pictures(tmp_path / "out" / "a.mkv", tmp_path / "whole" / "a.mkv")
    assert not (tmp_path / "out" / ".gpenvideo").exists()


# How it goes on


def test_on_error_stop(network: Path, tmp_path: Path) -> None:
    for number in range(3):
        clip(tmp_path / "in" / f"{number}.mkv", number)
    (tmp_path / "in" / "0.mkv").write_bytes(b"no film")
    given, out = [tmp_path / "in"], tmp_path / "out"
    stopped = run(given, out, network, options=BatchOptions(stop_on_error=True))
    assert states(stopped) == {"0.mkv": "failed", "1.mkv": "queued", "2.mkv": "queued"}
    assert states(run(given, out, network)) == {"0.mkv": "failed before", "1.mkv": "done", "2.mkv": "done"}


@pytest.mark.parametrize("delete", [False, True])
def test_delete_partial(delete: bool, network: Path, tmp_path: Path) -> None:
    """The file's place is taken by a folder, which is found when all its segments are done."""
    source = clip(tmp_path / "a.mkv", 1)
    (tmp_path / "out" / "a.mkv").mkdir(parents=True)
    (film,) = run([source], tmp_path / "out", network, options=BatchOptions(delete_partial=delete)).failed
    assert "folder" in (film.reason or "") or "directory" in (film.reason or "")
    assert list((tmp_path / "out").rglob("*.nut")) == [] if delete else len(film.done) == 1
    (tmp_path / "out" / "a.mkv").rmdir()
    again = run([source], tmp_path / "out", network, options=BatchOptions(retry_failed=True))
    assert states(again) == {"a.mkv": "done"}
    assert again.films[0].reused == (0 if delete else 1)


def test_exec_done(network: Path, tmp_path: Path) -> None:
    name = "$(touch x) 'a'.mkv"
    clip(tmp_path / "in" / name, 1)
    (tmp_path / "in" / "b.mkv").write_bytes(b"no film")
    told = tmp_path / "told"
    program = "import sys; open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(3)"
    command = f'{sys.executable} -c "{program}" {told} {{}}'
    for _ in range(2):
        summary = run([tmp_path / "in"], tmp_path / "out", network, exec_done=command)
        assert told.read_text() == str(tmp_path / "out" / name)
    with pytest.raises(OptionError, match="is not there: 'no-such-program'"):
        run([tmp_path / "in"], tmp_path / "out", network, exec_done="no-such-program {}")
    (tmp_path / "out" / name).unlink()
    summary = run([tmp_path / "in"], tmp_path / "out", network, exec_done=command)
    assert any("ended with code 3" in warning for warning in summary.warnings)


def test_settings_of_folders(network: Path, tmp_path: Path, flags: list[str], said: Told) -> None:
    """The nearest file wins, key by key; the command line wins over all."""
    for place in ("a.mkv", "in/b.mkv", "in/deep/c.mkv"):
        clip(tmp_path / "films" / place, hash(place) % 1000)
    (tmp_path / "gpenvideo.toml").write_text("strength = 0.1")  # above what is given
    (tmp_path / "films" / "gpenvideo.toml").write_text("strength = 0.5\ndetect-every = 2\ngates = false")
    (tmp_path / "films" / "in" / "deep" / "gpenvideo.toml").write_text('strength = 1\nselect = "largest"')
    given = tmp_path / "films"
    done = said("batch", given, "--recursive", "--out", tmp_path / "out", *flags, "--gates")
    assert done.code == 0, done.err
    found = {}
    for job in lines(said("jobs", "export", "--out", tmp_path / "out").out):
        chosen = job["report"]["options"]
        restore = chosen["restore"]
        found[Path(job["source"]).name] = (
            restore["strength"], restore["select"], restore["gates"], restore["detect_every"]
        )  # fmt: skip
    assert found == {
        "a.mkv": (0.5, "all", True, 2),
        "b.mkv": (0.5, "all", True, 2),
        "c.mkv": (1, "largest", True, 2),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strenght = 0.5", "no setting 'strenght': did you mean strength?"),
        ("strength = 2", "a strength lies in [0, 1], got 2"),
        ("strength = true", "strength is a number, got True"),
        ("strength = ", "it is no TOML: Invalid value"),
        ("rate = 0.0.1", "it is no TOML"),
        ('rate = "fast"', "a rate is written"),
        ("reference = [1]", "reference is a text or a list of texts"),
    ],
)
def test_settings_that_cannot_be_used(
    text: str, words: str, flags: list[str], tmp_path: Path, said: Told
) -> None:
    clip(tmp_path / "films" / "a.mkv", 1)
    (tmp_path / "films" / "gpenvideo.toml").write_text(text)
    done = said("batch", tmp_path / "films", "--out", tmp_path / "out", *flags)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert str(tmp_path / "films" / "gpenvideo.toml") in done.err
    assert words in done.err
    assert not (tmp_path / "out").exists()


# Workers


def test_workers_do_what_one_process_does(network: Path, tmp_path: Path) -> None:
    for number in range(3):
        portrait_clip(tmp_path / f"{number}.mkv", size=(64, 48), frames=4, metadata={"title": str(number)})
    given = [tmp_path / f"{number}.mkv" for number in range(3)]
    run(given, tmp_path / "one", network)
    summary = run(given, tmp_path / "two", network, executor=Processes(2))
    assert set(states(summary).values()) == {"done"}, summary.failed
    for number in range(3):
        assert same_pictures(tmp_path / "one" / f"{number}.mkv", tmp_path / "two" / f"{number}.mkv")


def test_a_file_that_kills_its_workers_fails_alone(network: Path, tmp_path: Path) -> None:
    clip(tmp_path / "in" / "0.mkv", 0, frames=900)
    clip(tmp_path / "in" / "1.mkv", 1)
    first = find_sources([str(tmp_path / "in")], str(tmp_path / "out"))[0].id
    executor, killed, over = Processes(1), [], threading.Event()

    def kill() -> None:
        """Ends the worker whenever it is at the first file."""
        while not over.wait(0.002):
            for worker in list(executor._workers):
                pid = worker.process.pid
                if worker.ready and worker.task and worker.task.job_id == first and pid not in killed:
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        summary = run([tmp_path / "in"], tmp_path / "out", network, executor=executor)
    finally:
        over.set()
        killer.join()
    assert states(summary) == {"0.mkv": "failed", "1.mkv": "done"}
    assert len(killed) == 3
    assert f"worker {killed[-1]} was ended by signal 9" in (summary.failed[0].reason or "")


def test_workers_that_do_not_start_end_the_batch(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is no fault of any file: none is marked as failed."""
    (tmp_path / "broken" / "torch").mkdir(parents=True)
    (tmp_path / "broken" / "torch" / "__init__.py").write_text("import os\nos._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "broken"), *sys.path])
    with pytest.raises(DeviceError, match="no worker starts on this machine: the last ended with code 7"):
        run([clip(tmp_path / "a.mkv", 0)], tmp_path / "out", network, executor=Processes(1))
    with Store.open(tmp_path / "out", writing=False) as store:
        assert [job.state for job in store.jobs()] == ["queued"]


# Verification


def test_verify_finds_what_is_wrong(network: Path, tmp_path: Path) -> None:
    """A sample, a frame, a packet of sound: whatever differs in a result is told."""
    from gpenvideo.batch.verify import verify
    from gpenvideo.segmented.parts import parts
    from gpenvideo.segmented.restoring import analyse, join, restore_part
    from gpenvideo.segmented.work import Work

    source = write_clip(tmp_path / "a.mkv", frames=30, rate=10, audio=1, size=(48, 32), subtitles=["eng"])
    work = Work(str(source), str(network), encoding=Encoding(codec="ffv1"))
    tracks = analyse(work, tmp_path / "tracks.json")
    done = [
        restore_part(work, p, tmp_path / "tracks.json", tmp_path / f"{p.index}.nut") for p in parts(tracks, 1)
    ]
    target = tmp_path / "out.mkv"
    join(work, done, target)
    facts = verify(work, done, target)
    assert facts["frames"] == 30
    assert facts["streams"].keys() == {"audio 0", "subtitle 0"}
    assert facts["not_compared"] == []

    def remade(change: Callable[[int, Any], bytes | None], late: int = 0) -> Path:
        """The result with packets changed, left out (None) or of another time."""
        made = tmp_path / "remade.mkv"
        with av.open(str(target)) as old, av.open(str(made), "w") as new:
            streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
            for number, packet in enumerate(p for p in old.demux() if p.size):
                data = change(number, packet)
                if data is not None:
                    other = av.Packet(data)
                    other.stream, other.time_base = streams[packet.stream_index], packet.time_base
                    other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
                    if packet.stream_index == 0 and packet.pts > 1000:
                        other.pts, other.dts = packet.pts + late, packet.dts + late
                    other.is_keyframe = packet.is_keyframe
                    new.mux(other)
        return made

    def video(number: int, packet: Any) -> bool:
        return packet.stream_index == 0 and packet.pts == 1000

    assert verify(work, done, remade(lambda n, p: bytes(p)))["frames"] == 30
    sample = next(bytes(p) for p in av.open(str(target)).demux(video=0) if p.pts == 1500)
    for change, late, words in (
        (lambda n, p: sample if video(n, p) else bytes(p), 0, "frame 10 is not the restored one"),
        (lambda n, p: None if p.stream_index == 0 and p.pts > 2800 else bytes(p), 0, "fewer frames"),
        (lambda n, p: bytes(p), 7, "frame 11 is"),
        (lambda n, p: None if p.stream_index == 1 and p.pts > 2000 else bytes(p), 0, "audio 0 has"),
        (lambda n, p: bytes(p)[::-1] if p.stream_index == 2 else bytes(p), 0, "packet 0 of subtitle 0"),
    ):
        with pytest.raises(MediaError, match=words):
            verify(work, done, remade(change, late))


def test_verify_finds_nothing_wrong_where_nothing_is(network: Path, tmp_path: Path) -> None:
    """Containers that pack, count and round in ways of their own; parts; variable rates."""
    folder, how = tmp_path / "in", {"codec": "libx264", "size": (64, 48), "frames": 40}
    (folder / "part").mkdir(parents=True)
    write_clip(folder / "b.mp4", b_frames=2, audio=2, chapters=[(0, 0.5, "x")], **how)
    write_clip(folder / "m.mov", b_frames=2, audio=1, audio_codec="pcm_s16le", subtitles=["eng"], **how)
    write_clip(folder / "t.ts", b_frames=2, audio=1, audio_codec="mp2", **how)
    write_clip(folder / "a.avi", audio=1, audio_codec="mp2", **how)
    write_clip(folder / "two.mkv", videos=2, audio=1, cover=True, subtitles=["eng", "deu"], **how)
    times = {"pts": [0, 40, 90, 91, 200, 1000, 1010, 1300], "time_base": Fraction(1, 1000)}
    write_clip(folder / "part" / "v.mkv", audio=1, **how | times)
    (folder / "part" / "gpenvideo.toml").write_text("start = 0.3\nend = 1.1")
    for suffix in (None, ".mkv"):
        options, settings = BatchOptions(verify=True, segment_s=1), {"codec": "libx264"}
        how = {"recursive": True, "suffix": suffix, "options": options, "settings": settings}
        summary = run([folder], tmp_path / f"out{suffix}", network, **how)
        assert set(states(summary).values()) == {"done"}, [film.reason for film in summary.failed]
        reports = [job["report"]["verified"] for job in lines(Path(summary.report).read_text())]
        assert [report["frames"] for report in reports] == [40, 40, 40, 40, 40, 2]
        assert [",".join(report["streams"]) for report in reports] == [
            "audio 0",
            "audio 0,audio 1",
            "audio 0" if suffix else "audio 0,subtitle 0",
            "audio 0",
            "video 0,audio 0,subtitle 0,subtitle 1",
            "audio 0",
        ]
        assert reports[2]["not_compared"] == (["subtitle 0 (mov_text)"] if suffix else [])


# Watching


def test_watch_waits_until_a_file_is_whole(network: Path, tmp_path: Path) -> None:
    """One that is there, one that is being written, one that never becomes a film; then Ctrl-C."""
    folder, out = tmp_path / "in", tmp_path / "out"
    clip(folder / "there.mkv", 1)
    slow = clip(tmp_path / "slow.mkv", 2, frames=40).read_bytes()
    command = [sys.executable, "-m", "gpenvideo", "batch", folder, "--out", out, "--watch", "--workers", "0"]
    command += ["--weights", network, "--codec", "ffv1", "--detect-size", "160"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        end = time.monotonic() + 90
        with (folder / "slow.mkv").open("wb") as file:
            step = len(slow) // 8
            for place in range(0, len(slow), step):
                file.write(slow[place : place + step])
                file.flush()
                time.sleep(0.7)
        while not (out / "slow.mkv").exists() and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        text, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert errors == "stopped\n"
    assert sorted(line.split(": ")[1] for line in text.splitlines()) == [
        "3 frames, 0 faces",
        "40 frames, 0 faces",
    ]
    assert len(decoded_planes(out / "slow.mkv")) == 40


def test_watch_goes_on(network: Path, tmp_path: Path) -> None:
    """A film that is replaced is done again; what never opens, or has bad settings, fails; new films come."""
    folder, told = tmp_path / "in", []
    clip(folder / "a.mkv", 1)
    (folder / "broken.mkv").write_bytes(b"no film")

    def finished(film: Film) -> None:
        name = Path(film.work.source).name
        told.append((name, film.state))
        if told.count(("a.mkv", "done")) == 1 and name == "a.mkv":
            clip(tmp_path / "other.mkv", 2, frames=5).replace(folder / "a.mkv")
            clip(folder / "new" / "b.mkv", 3)
            (folder / "new" / "gpenvideo.toml").write_text("no-such = 1")
        if len(told) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([folder], tmp_path / "out", network, recursive=True, watch_s=0.02, finished=finished)
    expected = [("a.mkv", "done"), ("a.mkv", "done"), ("b.mkv", "failed"), ("broken.mkv", "failed")]
    assert sorted(told) == expected
    assert len(decoded_planes(tmp_path / "out" / "a.mkv")) == 5


# Jobs


def test_jobs(flags: list[str], tmp_path: Path, said: Told) -> None:
    for number in range(3):
        clip(tmp_path / "in" / f"{number}.mkv", number)
    (tmp_path / "in" / "2.mkv").write_bytes(b"no film")
    out = ["--out", tmp_path / "out"]
    missing = said("jobs", "list", *out)
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "no batch was ever run" in missing.err
    again = ["batch", tmp_path / "in", *out, *flags, "--json"]
    assert said(*again).code == 1

    def listed(*more: str) -> dict[str, str]:
        jobs = lines(said("jobs", "list", *out, "--json", *more).out)
        return {Path(job["source"]).name: job["state"] for job in jobs}

    ids = {Path(j["source"]).name: j["id"] for j in lines(said("jobs", "export", *out).out)}
    assert listed() == {"0.mkv": "done", "1.mkv": "done", "2.mkv": "failed"}
    assert listed("--state", "failed") == {"2.mkv": "failed"}
    table = said("jobs", "list", *out).out
    assert all(id in table for id in ids.values())
    shown = json.loads(said("jobs", "show", ids["2.mkv"][:6], *out).out)
    assert shown["reason"].startswith("it is no video")
    assert said("jobs", "show", "zzz", *out).err.startswith("gpenvideo: there is no job 'zzz'")

    assert said("jobs", "cancel", ids["0.mkv"], *out).code == 2  # it is done
    assert said("jobs", "cancel", ids["2.mkv"], *out).code == 0
    assert lines(said(*again).out)[-1]["cancelled"] == 1
    assert listed()["2.mkv"] == "cancelled"
    clip(tmp_path / "in" / "2.mkv", 2)
    assert said("jobs", "retry", ids["2.mkv"], ids["0.mkv"], *out).code == 0
    assert listed() == {"0.mkv": "queued", "1.mkv": "done", "2.mkv": "queued"}
    told = lines(said(*again).out)[-1]
    assert (told["done"], told["skipped"]) == (3, 1)
    assert said("jobs", "retry", *out).code == 2
    assert said("jobs", "export", tmp_path / "jobs.jsonl", *out).code == 0
    assert len(lines((tmp_path / "jobs.jsonl").read_text())) == 3


def test_the_command_line_says_what_is_missing(tmp_path: Path, said: Told) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (["batch", tmp_path / "empty", "--out", tmp_path / "out"], "there are no videos"),
        (["batch", tmp_path / "*.mkv", "--out", tmp_path / "out"], "no file matches the pattern"),
        (["batch", "@none.txt", "--out", tmp_path / "out"], "none.txt: cannot read it"),
        (["batch", tmp_path / "empty", "--out", tmp_path / "out", "--suffix", "mkv"], "a suffix is written"),
    ):
        done = said(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
        assert words in done.err


def test_the_example(tmp_path: Path) -> None:
    (tmp_path / "films" / "deep").mkdir(parents=True)
    portrait_clip(tmp_path / "films" / "deep" / "a.mkv", frames=3, size=(96, 72))
    (tmp_path / "films" / "b.mkv").write_bytes(b"no film")
    example = Path(__file__).parents[1] / "examples" / "restore_archive.py"
    command = [sys.executable, example, tmp_path / "films", tmp_path / "restored"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"done: {tmp_path / 'restored' / 'deep' / 'a.mkv'}\n" in done.stdout
    assert "b.mkv (it is no video" in done.stdout
    assert "2 films in" in done.stdout
