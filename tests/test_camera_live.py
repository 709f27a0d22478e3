"""Cameras and streams: frames as they come, with the moment, while their source stalls, dies and returns."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import write_clip
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from portraits import decoded_planes, portrait_clip
from senders import Sender, into_pipe, number_of, numbered, options_of, scene

from gpenvideo.errors import FileError, FileMissing, MediaError, OptionError
from gpenvideo.video.camera import Camera, Captured
from gpenvideo.video.devices import Mode, cameras, device_address, modes_in
from gpenvideo.video.wire import TICKS_HZ, LiveClock


def taken(camera: Camera, count: int) -> list[Captured]:
    return list(itertools.islice(camera, count))


def plane_of(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """The luma of a planar picture."""
    plane = picture.planes[0]
    return np.ndarray((plane.height, plane.width), np.uint8, plane, 0, (plane.line_size, 1))


def threads_of(name: str = "") -> set[int | None]:
    return {thread.ident for thread in threading.enumerate() if name in thread.name}


def sockets_open() -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(link).startswith("socket:")
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("kind", "most_s"),
    [
        pytest.param({}, 0.15, id="h264 in mpegts over tcp"),  # which is held back by two frames on the way
        pytest.param({"http": True}, 0.15, id="over http"),
        pytest.param(
            {"codec": "mjpeg", "format": "mpjpeg", "http": True, "pix_fmt": "yuvj420p"},
            0.06,
            id="mjpeg over http, as from network cameras",
        ),
    ],
)
def test_a_stream_comes_as_it_is_sent(kind: dict[str, object], most_s: float) -> None:
    with Sender(**kind) as sender, Camera(sender.url) as camera:  # type: ignore[arg-type]
        assert (camera.info.width, camera.info.height) == (160, 120)
        frames = taken(camera, 40)
        late_s = [time.monotonic() - sender.sent_s[number_of(frame.frame)] for frame in frames[-1:]]
        numbers = [number_of(frame.frame) for frame in frames]
        sent = sorted(sender.sent_s)  # a sender that is busy leaves some out
        assert numbers[-20:] == sent[sent.index(numbers[-20]) :][:20]
        times_s = np.array([float(frame.frame.time_s) for frame in frames])
        assert (np.diff(times_s) > 0).all()
        timed = "format" not in kind  # mpjpeg has no timestamps
        wanted_s = np.diff(numbers)[-19:] / 30
        assert np.diff(times_s)[-19:] == pytest.approx(wanted_s, abs=5e-3 if timed else 30e-3)
        assert all(frame.captured_s <= time.monotonic() for frame in frames)
        on_the_way_s = [f.captured_s - sender.sent_s[number_of(f.frame)] for f in frames[-20:]]
        assert np.median(on_the_way_s) < most_s
        assert late_s[0] < 0.5
        assert camera.state == "ended"


@pytest.mark.parametrize(
    ("codec", "format", "pix_fmt"),
    [("rawvideo", "rawvideo", "yuyv422"), ("mjpeg", "mjpeg", "yuvj422p")],
)
def test_what_a_webcam_gives(codec: str, format: str, pix_fmt: str) -> None:
    """The formats of v4l2, through a pipe: where there is no camera, all but the driver is the same."""
    pictures = [scene(number, (64, 48)).reformat(format=pix_fmt) for number in range(6)]
    reading, thread = into_pipe(iter(pictures), codec, format)
    asked = options_of((64, 48), 30, pix_fmt) if codec == "rawvideo" else {}
    with Camera(f"pipe:{reading}", format=format, options=asked) as camera:
        frames = taken(camera, 100)
    os.close(reading)
    thread.join()
    assert len(frames) == 6  # it ends with the pipe, and no one tries to open it again
    assert frames[0].frame.layout.step == (2, 1)
    for frame, picture in zip(frames, pictures, strict=True):
        luma = picture.to_ndarray()[..., 0] if codec == "rawvideo" else plane_of(picture)
        difference = np.abs(frame.frame.planes[0].astype(int) - luma)
        assert difference.max() <= (0 if codec == "rawvideo" else 40)
        assert difference.mean() <= (0 if codec == "rawvideo" else 3)
    assert np.diff([frame.frame.pts for frame in frames]).min() > 0


def test_udp(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.ts", codec="libx264", size=(64, 48), frames=400, rate=50, gop=10)
    with av.open(str(clip)) as source:
        port = 20000 + os.getpid() % 20000
        stop = threading.Event()

        def send() -> None:
            with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as out:
                stream = out.add_stream_from_template(source.streams.video[0])
                begun_s = time.monotonic()
                for packet in source.demux(video=0):
                    if packet.dts is None or stop.wait(
                        max(0.0, begun_s + float(packet.dts * packet.time_base) - time.monotonic() - 1.4)
                    ):
                        return
                    packet.stream = stream
                    out.mux(packet)

        sending = threading.Thread(target=send)
        sending.start()
        try:
            with Camera(f"udp://127.0.0.1:{port}", timeout_s=10) as camera:
                frames = taken(camera, 20)
        finally:
            stop.set()
            sending.join()
    assert len(frames) == 20
    assert frames[0].frame.width == 64


def test_a_file_at_its_own_pace_again_and_again(tmp_path: Path) -> None:
    source = portrait_clip(tmp_path / "clip.mkv", size=(64, 48), frames=5, rate=25)
    before = [planes[0] for planes in decoded_planes(source).values()]
    with Camera(source, loop=True) as camera:
        begun_s = time.monotonic()
        assert camera.state == "live"
        frames = taken(camera, 12)
        took_s = time.monotonic() - begun_s
    assert 11 / 25 * 0.8 < took_s < 11 / 25 + 1.0
    assert camera.reconnects == 2
    for number, frame in enumerate(frames):
        assert np.array_equal(frame.frame.planes[0], before[number % 5])
    assert np.diff([frame.frame.pts for frame in frames]).min() > 0
    assert frames[0].info is frames[4].info
    assert frames[4].info is not frames[5].info  # whoever follows faces begins anew
    with Camera(source) as once:
        assert len(list(once)) == 5
        assert once.state == "ended"


def test_a_source_that_stalls_dies_and_returns() -> None:
    before = threads_of(), sockets_open()
    with Sender() as sender:
        camera = Camera(sender.url, timeout_s=0.6)
        frames: list[Captured] = []
        thread = threading.Thread(target=lambda: frames.extend(camera))
        thread.start()
        _until(lambda: len(frames) > 10)
        assert camera.state == "live"

        sender.stalled.set()  # the connection stays, nothing comes
        _until(lambda: camera.state == "waiting", 5)
        sender.stalled.clear()
        _until(lambda: camera.state == "live" and camera.reconnects >= 1, 5)

        sender.die()
        _until(lambda: camera.state == "waiting", 5)
        count = len(frames)
        sender.live_again()
        _until(lambda: len(frames) > count + 10, 8)
        assert camera.state == "live"
        assert camera.reconnects >= 2
        assert len({id(frame.info) for frame in frames}) == camera.reconnects + 1
        newest = frames[-1]
        assert newest.captured_s - sender.sent_s[number_of(newest.frame)] < 0.5
        assert np.diff([frame.frame.pts for frame in frames]).min() > 0
        moments_s = [frame.captured_s - frame.frame.time_s for frame in frames]
        assert max(moments_s) - min(moments_s) < 0.7  # the frames' times stay those of the clock on the wall
        camera.close()
        thread.join(3)
        assert not thread.is_alive()
    assert threads_of() <= before[0]
    assert sockets_open() == before[1]


def test_close_ends_what_waits() -> None:
    with Sender() as sender:
        camera = Camera(sender.url, timeout_s=1.0)
        thread = threading.Thread(target=lambda: list(camera))
        thread.start()
        sender.die()
        _until(lambda: camera.state == "waiting", 5)  # it is connected to again and again, in vain
        begun_s = time.monotonic()
        camera.close()
        thread.join(3)
        assert not thread.is_alive()
        assert time.monotonic() - begun_s < 1.5
        camera.close()
        assert camera.state == "ended"


@pytest.mark.parametrize(
    ("kind", "seconds", "most_s"),
    [
        pytest.param(
            {"codec": "mjpeg", "format": "mpjpeg", "pix_fmt": "yuvj420p"}, 3, 0.7, id="without timestamps"
        ),
        pytest.param(
            {"codec": "mjpeg", "format": "matroska", "pix_fmt": "yuvj420p"}, 4, 1.2, id="with timestamps"
        ),
        pytest.param({}, 5.5, 2.3, id="from key frame to key frame"),
    ],
)
def test_what_queues_up_is_passed_over(kind: dict[str, object], seconds: float, most_s: float) -> None:
    """A decoder that is too slow for the stream: what is shown stays new."""

    class Slow:
        """A camera whose pictures take 60 ms each to decode, at 30 a second."""

        def __init__(self, camera: Camera) -> None:
            self.camera = camera

        def __iter__(self) -> Iterator[Captured]:
            for captured in self.camera:
                time.sleep(0.06)
                yield captured

    with Sender(http=True, **kind) as sender, Camera(sender.url) as camera:  # type: ignore[arg-type]
        late_s = []
        begun_s = time.monotonic()
        for captured in Slow(camera):
            late_s.append(time.monotonic() - sender.sent_s[number_of(captured.frame)])
            if time.monotonic() > begun_s + seconds:
                break
        assert camera.passed_over > 10
    assert max(late_s) < most_s  # nearly half of the time, if all were decoded
    assert len(late_s) > 20


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("tcp://127.0.0.1:9", FileError, "connection refused"),
        ("nowhere://127.0.0.1", FileError, "cannot open nowhere:// addresses"),
        ("/dev/video99", FileMissing, "no camera"),
        ("99", FileMissing, "cameras: "),
        ("rtsp://someone:secret@127.0.0.1:9/live", FileError, "connection refused"),
    ],
)
def test_what_cannot_be_opened(source: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        Camera(source, timeout_s=1.0)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_silence_at_first_is_an_error() -> None:
    with Sender() as sender:
        sender.stalled.set()
        begun_s = time.monotonic()
        with pytest.raises(FileError, match=r"nothing came from it in 0\.5 s"):
            Camera(sender.url, timeout_s=0.5)
        assert time.monotonic() - begun_s < 3


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="only a file can be played in a loop"):
        Camera("tcp://127.0.0.1:9", loop=True)
    with pytest.raises(OptionError, match="time-out"):
        Camera("tcp://127.0.0.1:9", timeout_s=0)
    (tmp_path / "text.mkv").write_text("no video")
    with pytest.raises(MediaError):
        Camera(tmp_path / "text.mkv")


arrivals = st.lists(st.tuples(st.floats(-0.5, 5), st.floats(0, 2), st.booleans()), min_size=1, max_size=60)


@given(arrivals)
def test_times_rise_whatever_comes(steps: list[tuple[float, float, bool]]) -> None:
    clock, source_s, came_s, last = LiveClock(100.0), 7.0, 100.0, -1
    for source_step_s, came_step_s, has_time in steps:
        source_s, came_s = source_s + source_step_s, came_s + came_step_s
        given_s = source_s if has_time else None
        clock.arrive(given_s, came_s)
        tick = clock.tick(given_s, came_s)
        assert tick > last
        assert tick <= max((came_s - 100.0) * TICKS_HZ + 1, last + 1)  # none is of the future
        assert clock.lag_s >= 0
        last = tick


@given(st.lists(st.floats(0, 0.3), min_size=2, max_size=100), st.floats(-1000, 1000))
def test_jitter_on_the_way_is_no_jitter_of_the_times(jitter_s: list[float], apart_s: float) -> None:
    clock = LiveClock(0.0)
    clock.arrive(apart_s - 1, -1.0)  # one that came at once
    clock.tick(apart_s - 1, -1.0)
    came_s, times_s = 0.0, []
    for number, late_s in enumerate(jitter_s):
        source_s = apart_s + number / 30
        came_s = max(came_s, number / 30 + late_s)
        clock.arrive(source_s, came_s)
        times_s.append(clock.tick(source_s, came_s) / TICKS_HZ)
    assert np.allclose(np.diff(times_s), 1 / 30, atol=2e-3)


def test_a_source_that_paused_is_not_late() -> None:
    clock = LiveClock(0.0)
    for number in range(30):
        clock.arrive(number / 30, number / 30)
    for number in range(30, 60):  # its clock stood still for 3 s
        clock.arrive(number / 30, number / 30 + 3)
        assert clock.lag_s == pytest.approx(0, abs=1e-3)
    assert clock.tick(59 / 30, 59 / 30 + 3) == pytest.approx((59 / 30 + 3) * TICKS_HZ, abs=200)


def test_a_source_that_is_read_too_slowly_is_late() -> None:
    clock = LiveClock(0.0)
    for number in range(60):
        clock.arrive(number / 30, number / 30 * 1.5)
    assert clock.lag_s == pytest.approx(59 / 30 * 0.5, rel=0.05)


V4L2 = [
    "Raw       :     yuyv422 :           YUYV 4:2:2 : 640x480 320x240",
    "Compressed:       mjpeg :          Motion-JPEG : 1920x1080 640x480",
    "Compressed: Unsupported :                H.265 : 640x480",
    "Raw       :     yuv420p :     Planar YUV 4:2:0 : {32-2592, 2}x{32-1944, 2}",
    "Raw       :     yuv420p :     Planar YUV 4:2:0 : Emulated : 640x360",
    "ioctl(VIDIOC_G_INPUT): Inappropriate ioctl for device",
]
AVFOUNDATION = [
    "Selected video size (1x1) is not supported by the device.",
    "Supported modes:",
    "  640x480@[1.000000 30.000030]fps",
    "  1280x720@[1.000000 60.000240]fps",
]
DSHOW = [
    'DirectShow video device options (from video devices)',
    '  pixel_format=yuyv422  min s=640x480 fps=5 max s=640x480 fps=30',
    '  vcodec=mjpeg  min s=1280x720 fps=5 max s=1280x720 fps=30 (pc, bt470bg/bt709/unknown, center)',
    '  vcodec=mjpeg  min s=1280x720 fps=5 max s=1280x720 fps=30',
]  # fmt: skip


def test_what_cameras_offer() -> None:
    assert modes_in("v4l2", V4L2) == (
        Mode("yuyv422", 640, 480),
        Mode("yuyv422", 320, 240),
        Mode("mjpeg", 1920, 1080),
        Mode("mjpeg", 640, 480),
        Mode("yuv420p", 2592, 1944),
        Mode("yuv420p", 640, 360),
    )
    assert modes_in("avfoundation", AVFOUNDATION) == (
        Mode("", 640, 480, 30.00003),
        Mode("", 1280, 720, 60.00024),
    )
    assert modes_in("dshow", DSHOW) == (Mode("yuyv422", 640, 480, 30), Mode("mjpeg", 1280, 720, 30))


@given(st.lists(st.text(max_size=80), max_size=5), st.sampled_from(["v4l2", "avfoundation", "dshow"]))
def test_other_words_of_a_driver_are_no_modes(lines: list[str], form: str) -> None:
    assert all(mode.width >= 0 for mode in modes_in(form, lines))


@pytest.mark.skipif(sys.platform != "linux", reason="v4l2 is Linux's")
def test_cameras_of_this_machine() -> None:
    found = cameras()
    assert len(found) == len({device.address for device in found})
    if not list(Path("/dev").glob("video*")):
        assert found == []
        return
    for device in found:
        assert device_address(str(device.number)) == (device.address, "v4l2")
    with Camera(found[0].address) as camera:
        assert len(taken(camera, 5)) == 5


def test_a_pipe_from_another_program() -> None:
    """`ffmpeg ... | gpenvideo live --url pipe:0`: the same through standard input of another process."""
    program = (
        "import itertools, sys\nfrom gpenvideo.video.camera import Camera\n"
        "options = {'video_size': '32x16', 'framerate': '30', 'pixel_format': 'yuyv422'}\n"
        "with Camera('pipe:0', format='rawvideo', options=options) as camera:\n"
        "    print(sum(1 for _ in camera), camera.info.pixel_format)\n"
    )
    data = bytes(range(256)) * 4 * 7  # seven pictures of 32 x 16 x 2 bytes
    run = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"7 yuyv422\n", b"")


def test_numbers_are_read_as_they_were_put() -> None:
    picture = numbered(scene)
    for number in (0, 1, 777, 65535):
        frame = picture(number)
        luma = np.array(frame.to_ndarray()[:120, :160])
        from gpenvideo.frame import Colour, Frame, Layout

        grey = Frame((luma,), Layout("grey", 8), Colour(6, False), 0, Fraction(1))
        assert number_of(grey) == number


def _until(holds: object, seconds: float = 10.0) -> None:
    """Wait until something is so; fail if it takes longer."""
    assert callable(holds)
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, "it took too long"
        time.sleep(0.01)
