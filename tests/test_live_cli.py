"""`gpenvideo live`: what it shows, writes and says, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from portraits import portrait_clip
from senders import Sender

from gpenvideo.cli.live import latency_of
from gpenvideo.errors import OptionError

Run = Callable[..., Any]

KEYS = {
    *("time_s", "state", "reconnects", "fps", "latency_ms", "frames", "dropped", "faces", "size"),
    *("stages_ms", "weights", "network", "level", "steps", "outputs"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face for a second."""
    return portrait_clip(tmp_path_factory.mktemp("live") / "face.mkv", size=(160, 120), frames=25)


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_file_into_files_with_lines_for_programs(
    said: Run, clip: Path, network: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / "a.mkv", tmp_path / "b.mp4"]
    done = said(
        *("live", "--file", clip, "--loop", "--frames", 40, "--json", "--weights", network),
        *("--out", outs[0], "--out", outs[1], "--max-latency", "500ms", "--mirror", "--strength", 0.8),
    )
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert len(lines) >= 2  # 40 frames are more than a second
    for line in lines:
        assert set(line) - {"done"} == KEYS
    last = lines[-1]
    assert last["done"] is True
    assert (last["frames"], last["faces"], last["size"]) == (40, 1, [160, 120])
    assert last["weights"] == "net"
    assert last["latency_ms"]["p50"] <= last["latency_ms"]["p95"] <= last["latency_ms"]["p99"]
    for out in outs:
        told = last["outputs"][str(out)]
        assert frames_in(out) == told["written"] == 40 - told["dropped"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_panel_for_people(said: Run, clip: Path, network: Path, tmp_path: Path) -> None:
    done = said("live", "--file", clip, "--weights", network, "--out", tmp_path / "a.mkv")
    assert done.code == 0, done.err
    for words in ("frames a second", "p95", "faces", "stages", "network", "a.mkv", "written"):
        assert words in done.out
    assert frames_in(tmp_path / "a.mkv") > 5  # it ends with the file


def test_a_stream_that_dies_and_returns_goes_on(network: Path) -> None:
    with (
        Sender() as sender,
        running("--url", sender.url, "--json", "--timeout", "1", "--weights", network) as run,
    ):
        states = _lines(run)
        next(line for line in states if line["state"] == "live")
        sender.die()
        next(line for line in states if line["state"] == "waiting")
        sender.live_again()
        back = next(line for line in states if line["state"] == "live" and line["reconnects"] == 1)
        assert back["frames"] > 5
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 130


def test_interrupted_it_ends_at_once_and_the_recording_is_whole(
    clip: Path, network: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.mp4"
    with running("--file", clip, "--loop", "--json", "--weights", network, "--out", out) as run:
        lines = _lines(run)
        next(line for line in lines if line["frames"] > 10)
        begun_s = time.monotonic()
        run.send_signal(signal.SIGINT)
        last = list(lines)[-1]
        assert run.wait(10) == 130
        assert time.monotonic() - begun_s < 3
        assert run.stderr is not None
        assert run.stderr.read() == "stopped\n"
    assert last["done"]
    assert frames_in(out) == last["outputs"][str(out)]["written"]


def test_interrupted_while_the_source_is_silent(network: Path) -> None:
    with (
        Sender() as sender,
        running("--url", sender.url, "--json", "--timeout", "60", "--weights", network) as run,
    ):
        lines = _lines(run)
        next(line for line in lines if line["state"] == "live")
        sender.stalled.set()
        next(line for line in lines if line["state"] == "waiting")
        begun_s = time.monotonic()
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 143
        assert time.monotonic() - begun_s < 3


def test_a_page_of_the_servers_camera(clip: Path, network: Path) -> None:
    pytest.importorskip("aiohttp")
    options = ("--web", "--port", "0", "--json", "--weights", network)
    with running("--file", clip, "--loop", *options) as run:
        assert run.stderr is not None
        said = run.stderr.readline()
        assert said.startswith("open http://127.0.0.1:")
        place, _, token = said.removeprefix("open http://").strip().partition("/?token=")
        assert len(token) > 15
        with closing(http.client.HTTPConnection(place, timeout=5)) as connection:
            connection.request("GET", "/")
            refused = connection.getresponse()
            assert refused.status in (401, 403)
            refused.read()
            connection.request("GET", f"/?token={token}")
            answer = connection.getresponse()
            answer.read()
            connection.request("GET", "/", headers={"Cookie": answer.getheader("Set-Cookie", "")})
            page = connection.getresponse()
            assert page.status == 200
            assert b"<html" in page.read().lower()
        next(line for line in _lines(run) if line["frames"] > 5)
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 130


def test_cameras_are_listed(said: Run) -> None:
    done = said("live", "--list")
    assert done.code == 0
    if not list(Path("/dev").glob("video*")):
        assert done.out == "no camera was found\n"
    as_json = said("live", "--list", "--json")
    assert all(set(json.loads(line)) >= {"number", "name", "modes"} for line in as_json.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--camera", "0", "--url", "tcp://127.0.0.1:9"], "one source at a time"),
        (["--file", "nowhere.mkv"], "it is no file"),
        (["--url", "tcp://127.0.0.1:9", "--json"], "connection refused"),
        (["--camera", "98", "--json"], "it is no camera"),
        (["--url", "tcp://127.0.0.1:9", "--loop", "--json"], "only a file can be played in a loop"),
        (["--size", "640"], "a size is written 640x480"),
        (["--input-option", "listen"], "NAME=VALUE"),
        (["--max-latency", "150"], "150ms or 0.15s"),
        (["--out", "face.avi"], "choose of .mkv"),
        (["--stream", "gopher://there"], "choose of rtmp"),
        (["--longest", "3", "--json"], "64 px or longer"),
        (["--web", "--host", "0.0.0.0"], "--token"),
        (["--weights", "nobody-has-these", "--json"], "nobody-has-these"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(said: Run, arguments: list[str], words: str) -> None:
    done = said("live", *arguments)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_file_is_not_written_while_it_is_read(said: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mkv").symlink_to(clip)
    before = clip.read_bytes()
    for outs in (["--out", clip], ["--out", tmp_path / "link.mkv"], ["--out", "a.mkv", "--out", "./a.mkv"]):
        done = said("live", "--file", clip, *outs)
        assert done.code == 2
        assert "choose another name" in done.err
    assert clip.read_bytes() == before


def test_without_a_display_it_says_where_else(said: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux says so in its environment")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    done = said("live", "--file", clip)
    assert done.code == 2
    assert "--web" in done.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("150ms", 0.15), ("0.15s", 0.15), ("2 s", 2), (" 80.5 ms ", 0.0805)]
)
def test_latencies(text: str, seconds: float) -> None:
    assert latency_of(text) == pytest.approx(seconds)


@given(st.text(max_size=12))
def test_another_text_is_no_latency(text: str) -> None:
    if not re.search(r"[1-9]\d*\s*(ms|s)\s*$|\.\d*[1-9]", text):
        with pytest.raises(OptionError, match="150ms"):
            latency_of(text)


@contextmanager
def running(*arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """`gpenvideo live` in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "gpenvideo", "live", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as run:
        try:
            yield run
        finally:
            run.kill()


def _lines(run: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert run.stdout is not None
    return (json.loads(line) for line in run.stdout)
