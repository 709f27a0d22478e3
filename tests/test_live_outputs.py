"""Where live frames go: files that are whole whenever they are cut off, servers that come and go, screens."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from senders import frame_of, number_of, scene

from gpenvideo.errors import DeviceError, FileError, MediaError, OptionError
from gpenvideo.frame import Frame
from gpenvideo.live.encoded import Encoded
from gpenvideo.live.outputs import Paced, Showing, VirtualCamera
from gpenvideo.live.session import Shown
from gpenvideo.live.window import Window
from gpenvideo.video.camera import Camera
from gpenvideo.video.description import colour_of
from gpenvideo.video.pixels import to_frame

TICKS = Fraction(1, 90000)


def shown(number: int, size: tuple[int, int] = (160, 120), pix_fmt: str = "yuv420p") -> Shown:
    frame = frame_of(number, size, pix_fmt)
    return Shown(number, frame, frame, time.monotonic(), time.monotonic(), 0)


def pictures_in(path: Path | str) -> list[tuple[float, Frame]]:
    with av.open(str(path)) as container:
        return [
            (float(p.time or 0), to_frame(p, colour_of(p, "h264")[0], p.pts or 0, TICKS))
            for p in container.decode(video=0)
        ]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".flv", ".mov"])
def test_a_file_has_the_frames_and_their_times(tmp_path: Path, suffix: str) -> None:
    out = Encoded(tmp_path / f"out{suffix}")
    numbers = [0, 1, 2, 5, 6, 20, 21]  # others were dropped, as live
    for number in numbers:
        out.write(shown(number))
    out.close()
    found = pictures_in(tmp_path / f"out{suffix}")
    assert [number_of(frame) for _, frame in found] == numbers
    times_s = np.array([time_s for time_s, _ in found])
    assert times_s - times_s[0] == pytest.approx(np.array(numbers) / 30, abs=2e-3)
    assert times_s[0] < 0.01 or suffix == ".ts"
    before = shown(6).frame.planes[0].astype(int)
    after = next(frame for _, frame in found if number_of(frame) == 6).planes[0]
    assert np.abs(before - after).mean() < 3


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_what_was_recorded_is_there_when_all_is_killed(tmp_path: Path, suffix: str) -> None:
    program = (
        "import sys, time\nsys.path.insert(0, sys.argv[2])\nfrom types import SimpleNamespace\n"
        "from senders import frame_of\nfrom gpenvideo.live.encoded import Encoded\n"
        "out = Encoded(sys.argv[1])\n"
        "for number in range(300):\n    out.write(SimpleNamespace(frame=frame_of(number)))\n"
        "print('so far', flush=True)\ntime.sleep(60)\n"
    )
    target = tmp_path / f"out{suffix}"
    command = [sys.executable, "-c", program, str(target), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"so far\n"
        run.kill()
    found = pictures_in(target)
    assert len(found) > 100
    assert [number_of(frame) for _, frame in found] == list(range(len(found)))


def test_frames_of_another_size_or_kind_are_fitted_into_the_first(tmp_path: Path) -> None:
    out = Encoded(tmp_path / "out.mkv")
    for number, (size, pix_fmt) in enumerate(
        [((160, 120), "yuv420p"), ((80, 120), "yuv420p"), ((160, 120), "yuyv422"), ((320, 240), "rgb24")]
    ):
        out.write(shown(number, size, pix_fmt))
    out.close()
    found = [frame for _, frame in pictures_in(tmp_path / "out.mkv")]
    assert [(frame.width, frame.height) for frame in found] == [(160, 120)] * 4
    assert found[1].planes[0][:, :30].mean() < 25  # bars beside it
    like = shown(3).frame.planes[0].astype(int)[20:]
    assert np.abs(found[3].planes[0][20:] - like).mean() < 12


@pytest.mark.parametrize("pix_fmt", ["yuyv422", "yuvj420p", "yuv420p10le", "gray", "bgr24"])
def test_whatever_a_camera_gives_becomes_what_players_show(tmp_path: Path, pix_fmt: str) -> None:
    out = Encoded(tmp_path / "out.mp4")
    for number in range(3):
        out.write(shown(number, (161, 121), pix_fmt))
    out.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt.removeprefix("yuvj").removeprefix("yuv") == "420p"
        assert (stream.width, stream.height) == (162, 122)
        assert sum(1 for _ in container.decode(stream)) == 3


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("out.avi", OptionError, ".mkv, .mp4"),
        ("out", OptionError, ".mkv, .mp4"),
        ("gopher://127.0.0.1/x", OptionError, "rtmp"),
        ("nowhere/out.mkv", FileError, "cannot write"),
        (".", OptionError, ".mkv"),
    ],
)
def test_targets_that_cannot_be(tmp_path: Path, target: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Encoded(target if "://" in target else tmp_path / target)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    out = Encoded(tmp_path / "out.mkv")
    (tmp_path / "out.mkv").symlink_to("/dev/full")
    with pytest.raises(FileError, match="no space left"):
        _write(out, 400)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Receiver:
    """Takes what is sent to a URL, in a thread."""

    def __init__(self, url: str, **options: str) -> None:
        self.frames: list[Frame] = []
        self.url, self.options = url, options
        self.enough = threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            with av.open(self.url, options=self.options, timeout=10) as container:
                for picture in container.decode(video=0):
                    self.frames.append(to_frame(picture, colour_of(picture, "h264")[0], 0, TICKS))
                    if self.enough.is_set():
                        return
        except av.FFmpegError as error:
            self.error = error


def sent_until(out: Encoded, holds: Any, numbers: Iterator[int], seconds: float = 15) -> None:
    """Write frames at their pace until something is so."""
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, (out.trouble, out.failures)
        out.write(shown(next(numbers)))
        time.sleep(1 / 60)


@pytest.mark.parametrize("scheme", ["rtmp", "tcp", "udp"])
def test_a_server_gets_the_frames(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}{'/live/face' if scheme == 'rtmp' else ''}"
    listening = {"tcp": "?listen=1", "udp": ""}.get(scheme, "")
    options = {"listen": "1"} if scheme == "rtmp" else {"analyzeduration": "200000"}
    receiver = Receiver(url + listening, **options)
    time.sleep(0.3)
    out, numbers = Encoded(url), itertools.count()
    sent_until(out, lambda: len(receiver.frames) > 20, numbers)
    assert out.trouble == ""
    assert out.failures == 0
    receiver.enough.set()
    sent_until(out, lambda: not receiver.thread.is_alive(), numbers)
    out.close()
    got = [number_of(frame) for frame in receiver.frames]
    assert got[-10:] == list(range(got[-10], got[-10] + 10))


def test_a_server_that_is_lost_is_found_again() -> None:
    url = f"rtmp://127.0.0.1:{free_port()}/live/face"
    out, numbers = Encoded(url), itertools.count()
    sent_until(out, lambda: out.failures == 1, numbers)  # nobody is there yet, which ends nothing
    assert "refused" in out.trouble
    first = Receiver(url, listen="1")
    sent_until(out, lambda: len(first.frames) > 5 and not out.trouble, numbers)
    first.enough.set()
    sent_until(out, lambda: out.failures >= 2, numbers)
    first.thread.join(5)
    again = Receiver(url, listen="1")
    sent_until(out, lambda: len(again.frames) > 5 and not out.trouble, numbers)
    again.enough.set()
    again.thread.join(5)
    out.close()


def test_a_server_that_says_nothing_holds_up_nobody() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        out = Encoded(f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/face")
        begun_s = time.monotonic()
        with Paced(out) as paced:
            for number in range(20):
                paced.push(shown(number))
            assert time.monotonic() - begun_s < 1.5
        assert time.monotonic() - begun_s < 12
        assert out.failures == 1


def test_the_key_of_a_stream_is_not_told() -> None:
    assert (
        str(Encoded("rtmp://me:pass@live.example.org:1935/app/secret-key")) == "rtmp://live.example.org:1935"
    )
    assert str(Encoded("/tmp/face.mkv")) == "/tmp/face.mkv"


def test_srt_is_told_where_it_is_not_built_in() -> None:
    out = Encoded("srt://127.0.0.1:9")
    sent_until(out, lambda: out.failures == 1, itertools.count())
    assert "protocol not found" in out.trouble or "connection" in out.trouble
    out.close()


class Kept:
    """An output that keeps what it gets, slowly."""

    def __init__(self, takes_s: float = 0.0, error: Exception | None = None) -> None:
        self.numbers: list[int] = []
        self.takes_s, self.error = takes_s, error
        self.closed_in: str | None = None

    def write(self, one: Shown) -> None:
        time.sleep(self.takes_s)
        if self.error and one.number >= 2:
            raise self.error
        self.numbers.append(one.number)

    def close(self) -> None:
        self.closed_in = threading.current_thread().name


def test_a_slow_output_gets_the_newest() -> None:
    slow, quick = Kept(0.05), Kept()
    with Paced(slow) as one, Paced(quick, 16) as other:
        for number in range(40):
            one.push(shown(number))
            other.push(shown(number))
            time.sleep(0.01)
    assert quick.numbers == list(range(40))
    assert slow.numbers[-1] == 39
    assert 5 < len(slow.numbers) < 25
    assert one.written == len(slow.numbers)
    assert one.written + one.dropped == 40
    assert slow.closed_in not in (None, threading.main_thread().name)


def test_an_outputs_error_is_told() -> None:
    broken = Kept(error=FileError("the disk is full"))
    paced = Paced(broken)
    with pytest.raises(FileError, match="the disk is full"):
        _push(paced, 100)
    paced.close()
    assert broken.closed_in is not None


def test_what_a_session_shows_goes_to_everyone_and_ends() -> None:
    before = {thread.ident for thread in threading.enumerate()}
    seen: list[int] = []
    showing = Showing((shown(number) for number in range(5)), [lambda one: seen.append(one.number)])
    last = None
    while not showing.is_over:
        last = showing.take(0.1) or last
    showing.join()
    assert seen == list(range(5))
    assert last is not None
    assert last.number == 4
    assert {thread.ident for thread in threading.enumerate()} <= before


def test_what_a_session_raises_is_raised() -> None:
    def failing() -> Iterator[Shown]:
        yield shown(0)
        raise MediaError("it broke")

    showing = Showing(failing())
    with pytest.raises(MediaError, match="it broke"):
        _take_all(showing)


def test_a_window_takes_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform != "linux":
        pytest.skip("only Linux says so in its environment")
    with pytest.raises(DeviceError, match="--web"):
        Window()
    monkeypatch.setenv("DISPLAY", ":98765")
    window = Window()
    with pytest.raises(DeviceError, match="no window could be opened"):
        _write(window, 500)
    window.close()


@pytest.fixture
def display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A virtual screen of 400 x 300, and the file that its pixels are in."""
    if shutil.which("Xvfb") is None:
        if os.environ.get("GPENVIDEO_REQUIRE_TOOLS") == "1":
            pytest.fail("Xvfb is not installed (Debian package xvfb)")
        pytest.skip("Xvfb is not installed (Debian package xvfb)")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "400x300x24", "-fbdir", str(tmp_path)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, pass_fds=[writing], **quiet) as server:
        os.close(writing)
        with os.fdopen(reading) as said:
            monkeypatch.setenv("DISPLAY", f":{said.readline().strip()}")
        yield tmp_path / "Xvfb_screen0"
        server.terminate()


def test_a_window_shows_what_it_is_given_and_can_be_closed(display: Path) -> None:
    frame = shown(0, (200, 100)).frame
    planes = (
        np.full((100, 200), 81, np.uint8),
        *(np.full((50, 100), level, np.uint8) for level in (90, 240)),
    )
    red = replace(shown(0), frame=replace(frame, planes=planes, decoded=None))
    window, end_s = Window(), time.monotonic() + 60
    while True:
        assert time.monotonic() < end_s, "no red was seen"
        window.write(red)
        data = np.frombuffer(display.read_bytes()[-400 * 300 * 4 :], np.uint8).reshape(300, 400, 4)
        if ((data[..., 2] > 240) & (data[..., :2].max(axis=2) < 15)).sum() > 5000:
            break
        time.sleep(0.05)
    assert not window.is_closed
    window.close()
    assert window.is_closed
    window.write(red)  # nothing happens


def test_a_virtual_camera_without_its_driver_is_told() -> None:
    pytest.importorskip("pyvirtualcam")
    if list(Path("/dev").glob("video*")):
        pytest.skip("there may be one here")
    camera = VirtualCamera()
    with pytest.raises(DeviceError, match="no virtual camera could be opened"):
        camera.write(shown(0))
    camera.close()


def test_a_virtual_camera_gets_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a backend of pyvirtualcam's own kind, which takes the place of the driver."""
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    sent: list[Any] = []

    class Backend(pyvirtualcam.camera.Backend):  # type: ignore[misc]
        def __init__(self, *, width: int, height: int, fourcc: int, **_: Any) -> None:
            self.size, self.fourcc = (width, height), fourcc

        def close(self) -> None:
            sent.append("closed")

        def send(self, frame: Any) -> None:
            sent.append(np.array(frame).reshape(self.size[1], self.size[0], 3))

        def device(self) -> str:
            return "test"

        def native_fourcc(self) -> int:
            return self.fourcc

    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"test": Backend})
    camera = VirtualCamera()
    for number, size in ((0, (160, 120)), (1, (80, 60))):
        camera.write(shown(number, size))
    camera.close()
    first, second, closed = sent
    assert closed == "closed"
    assert second.shape == first.shape == (120, 160, 3)
    wanted = scene(0).to_ndarray(format="rgb24")
    assert np.abs(first[20:].astype(int) - wanted[20:]).mean() < 4
    small = cv2.resize(scene(1, (80, 60)).to_ndarray(format="rgb24"), (160, 120))
    assert np.abs(second[40:].astype(int) - small[40:]).mean() < 10  # fitted into the first one's size


def _write(out: Any, count: int) -> None:
    for number in range(count):
        out.write(shown(number))
        time.sleep(0.01)


def _push(paced: Paced, count: int) -> None:
    for number in range(count):
        paced.push(shown(number))
        time.sleep(0.01)


def _take_all(showing: Showing) -> None:
    while not showing.is_over:
        showing.take(0.1)


@pytest.mark.parametrize(
    ("scheme", "listening"),
    [("rtsp", {"rtsp_flags": "listen", "listen_timeout": "15"}), ("rtmp", {"listen": "1"})],
)
def test_what_is_sent_comes_in_at_a_camera(scheme: str, listening: dict[str, str]) -> None:
    """One gpenvideo sends to another, over the protocols of network cameras and of broadcasting."""
    url = f"{scheme}://127.0.0.1:{free_port()}/live/face"
    came: list[int] = []
    enough = threading.Event()

    def receive() -> None:
        with Camera(url, options=listening, timeout_s=15) as camera:
            for captured in camera:
                came.append(number_of(captured.frame))
                if enough.is_set():
                    return

    receiving = threading.Thread(target=receive, daemon=True)
    receiving.start()
    time.sleep(0.3)
    out, numbers = Encoded(url), itertools.count()
    sent_until(out, lambda: len(came) > 20, numbers)
    enough.set()
    sent_until(out, lambda: not receiving.is_alive(), numbers)
    out.close()
    assert came[-10:] == list(range(came[-10], came[-10] + 10))
