"""Live sessions: the newest frame restored and none late, whatever the source and the viewers do."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from clips import noise_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from portraits import Same, shot

from gpenvideo.errors import MediaError, OptionError
from gpenvideo.face import Face
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.live.picture import described, mirrored, pixels, shrunk, upright
from gpenvideo.live.session import (
    LiveSession,
    Networks,
    Pushed,
    Settings,
    Shown,
    live_networks,
)
from gpenvideo.networks import load_detector
from gpenvideo.video.camera import Captured
from gpenvideo.video.description import colour_of
from gpenvideo.video.pixels import to_frame

TICKS = Fraction(1, 90000)
SIZE = (320, 240)


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector(device="cpu", threshold=0.5)


@pytest.fixture(scope="module")
def painting(detector: Any) -> Networks:
    """Every face is painted white."""
    return Networks({"white": Same(64, paint=1.0)}, detector)


def frames_of(count: int, size: tuple[int, int] = SIZE, pix_fmt: str = "yuv420p", **more: Any) -> list[Frame]:
    """The drifting portrait, at 30 frames a second."""
    picture = shot(pix_fmt, size, **more)
    made = [picture(number) for number in range(count)]
    return [to_frame(p, colour_of(p, "h264")[0], n * 3000, TICKS) for n, p in enumerate(made)]


def captured(frames: Sequence[Frame], info: StreamInfo | None = None) -> Iterator[Captured]:
    """The frames as fast as they are taken, so that none is dropped."""
    for frame in frames:
        yield Captured(frame, time.monotonic(), info)


class Waiting:
    """A source that gives a frame only when the one before it was shown."""

    def __init__(self, captures: Iterator[Captured]) -> None:
        self.captures, self.wanted = captures, threading.Semaphore(1)

    def __iter__(self) -> Iterator[Captured]:
        for one in self.captures:
            self.wanted.acquire()
            yield one

    def shown_by(self, session: LiveSession) -> Iterator[Shown]:
        for shown in session:
            yield shown
            self.wanted.release()


def all_shown(
    captures: Iterator[Captured],
    networks: Networks,
    settings: Settings | None = None,
    each: Callable[[LiveSession, Shown], object] = lambda *_: None,
) -> list[Shown]:
    source = Waiting(captures)
    session = LiveSession(source, networks, settings)
    done = []
    for shown in source.shown_by(session):
        done.append(shown)
        each(session, shown)
    return done


def is_same(frame: Frame, other: Frame) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(frame.planes, other.planes, strict=True))


def test_faces_are_restored_and_nothing_else(painting: Networks) -> None:
    frames = frames_of(12)
    shown = all_shown(captured(frames), painting)
    assert [one.number for one in shown] == list(range(12))
    assert [one.faces for one in shown] == [1] * 12  # from the first frame on
    for one, frame in zip(shown, frames, strict=True):
        assert one.source is frame
        changed = one.frame.planes[0] != frame.planes[0]
        assert 300 < changed.sum() < 0.2 * changed.size
        rows, columns = np.nonzero(changed)
        assert np.ptp(rows) < 150
        assert np.ptp(columns) < 150
        assert one.frame.planes[0][changed].std() < 0.9 * frame.planes[0][changed].std()  # it is painted
        assert one.captured_s <= one.done_s
        assert one.latency_s == one.done_s - one.captured_s
        assert one.step == ""


@pytest.mark.parametrize("pix_fmt", ["yuyv422", "uyvy422", "nv12", "yuvj422p", "rgb24", "gray"])
def test_whatever_a_webcam_gives_is_restored(painting: Networks, pix_fmt: str) -> None:
    frames = frames_of(3, pix_fmt=pix_fmt)
    for one in all_shown(captured(frames), painting):
        assert one.faces == 1
        assert one.frame.layout == one.source.layout
        changed = one.frame.planes[0] != one.source.planes[0]
        assert 300 < changed.sum() < 0.2 * changed.size


def test_the_newest_wins_and_none_is_late(detector: Any) -> None:
    class Slow(Same):
        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            time.sleep(0.1)  # three frames of the source
            return pixels

    frames = frames_of(40)
    given = []

    def source() -> Iterator[Captured]:
        begun_s = time.monotonic()
        for number, frame in enumerate(frames):
            time.sleep(max(0.0, begun_s + number / 30 - time.monotonic()))
            given.append(number)
            yield Captured(frame, time.monotonic())

    session = LiveSession(source(), Networks({"slow": Slow(64)}, detector))
    shown = list(session)
    stats = session.stats()
    assert stats.frames == len(shown)
    assert stats.frames + stats.dropped == len(given) == 40
    assert stats.dropped > 15
    times = [one.frame.pts for one in shown]
    assert times == sorted(set(times))
    assert shown[-1].source is frames[-1]  # the last one is never dropped
    assert max(one.latency_s for one in shown[3:]) < 0.45  # its own time, and what is left of the one before
    late_s = [one.latency_s for one in shown]
    assert np.mean(late_s[-5:]) < np.mean(late_s[1:6]) + 0.1  # it does not grow
    assert set(stats.latency_ms) == {"p50", "p95", "p99"}
    assert 100 < stats.latency_ms["p50"] <= stats.latency_ms["p95"] <= stats.latency_ms["p99"] < 700
    assert 90 < stats.stages_ms["network"] < 200
    assert 4 < stats.fps < 12


def test_settings_hold_from_the_next_frame_on(painting: Networks) -> None:
    frames = frames_of(10)

    def change(session: LiveSession, shown: Shown) -> None:
        if shown.number == 1:
            session.settings = replace(session.settings, enabled=False)
        if shown.number == 3:
            session.settings = replace(session.settings, enabled=True, strength=0.5)
        if shown.number == 5:
            session.settings = replace(session.settings, strength=1.0, mirror=True)
        if shown.number == 7:
            session.settings = replace(session.settings, mirror=False, longest_px=160)

    shown = all_shown(captured(frames), painting, each=change)
    whole, off, half, turned, small = (shown[at] for at in (1, 3, 5, 7, 9))
    assert whole.faces == half.faces == 1
    assert off.frame is off.source
    assert off.faces == 0
    change_of = [
        np.abs(one.frame.planes[0].astype(int) - one.source.planes[0]).sum() for one in (whole, half)
    ]
    assert 0.3 < change_of[1] / change_of[0] < 0.7
    assert np.array_equal(turned.source.planes[0], frames[7].planes[0][:, ::-1])
    changed = np.nonzero(turned.frame.planes[0] != turned.source.planes[0])[1].mean()
    straight = np.nonzero(whole.frame.planes[0] != whole.source.planes[0])[1].mean()
    assert abs((SIZE[0] - 1 - changed) - straight) < 10
    assert (small.frame.width, small.frame.height) == (160, 120)
    assert small.faces == 1
    assert not is_same(small.frame, small.source)


def test_faces_do_not_fade_between_searches(painting: Networks) -> None:
    """However rarely they may be looked for, and however few frames are shown."""
    every_third = frames_of(60)[::3]
    strong = []
    for one in all_shown(captured(every_third), painting, Settings(detect_every_s=0.2)):
        strong.append(np.abs(one.frame.planes[0].astype(int) - one.source.planes[0]).sum())
    assert min(strong) > 0.7 * max(strong)


def test_settings_that_cannot_be(painting: Networks) -> None:
    for wrong in (
        {"strength": 1.1},
        {"detect_every_s": 0},
        {"detect_every_s": 0.3},
        {"longest_px": 10},
        {"max_latency_s": 0},
        {"max_latency_s": float("nan")},
    ):
        with pytest.raises(OptionError):
            Settings(**wrong)  # type: ignore[arg-type]
    session = LiveSession(Pushed(), painting)
    with pytest.raises(OptionError, match="no network 'black', only white"):
        session.settings = Settings(weights="black")
    assert session.settings.weights is None
    with pytest.raises(OptionError, match="one network or more"):
        Networks({}, painting.detector)


def test_networks_are_changed_while_it_runs(detector: Any) -> None:
    class Noted(Same):
        sizes: ClassVar[list[int]] = []

        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            self.sizes.append(pixels.shape[-1])
            return super().__call__(pixels)

    networks = Networks({"large": Noted(128, paint=1.0), "small": Noted(64, paint=-1.0)}, detector)

    def change(session: LiveSession, shown: Shown) -> None:
        session.settings = Settings(weights="small" if shown.number >= 2 else None)
        assert session.stats().weights == ("large" if shown.number <= 2 else "small")

    shown = all_shown(captured(frames_of(6)), networks, each=change)
    assert Noted.sizes == [128] * 3 + [64] * 3
    assert [one.faces for one in shown] == [1] * 6  # no face was lost over it
    assert not any(is_same(one.frame, one.source) for one in shown)


def test_a_stream_that_begins_anew_has_faces_at_once(detector: Any) -> None:
    searched: list[int] = []

    def noted(pictures: Any) -> list[list[Face]]:
        searched.append(len(searched_at))
        return list(detector(pictures))

    searched_at: list[int] = []
    painting = Networks({"white": Same(64, paint=1.0)}, noted)
    small, large = frames_of(4), frames_of(4, (480, 360))
    one_info, other_info = described(small[0]), described(small[0])
    again = [replace(frame, pts=frame.pts + 12000) for frame in small]
    larger = [replace(frame, pts=frame.pts + 24000) for frame in large]
    late = [replace(frame, pts=frame.pts + 36000 + 90000 * 5) for frame in small]
    back = [replace(frame, pts=frame.pts) for frame in small]  # a clock that was set back
    source = itertools.chain(
        captured(small, one_info),
        captured(again, other_info),
        captured(late, other_info),
        captured(back, other_info),
        captured(larger, other_info),
    )
    seldom = Settings(detect_every_s=0.25)
    shown = all_shown(source, painting, seldom, lambda _, one: searched_at.append(one.number))
    assert [one.faces for one in shown] == [1] * 20
    assert searched == [0, 4, 8, 12, 16]  # in the first frame of each, and in no other
    assert {(one.frame.width, one.frame.height) for one in shown[16:]} == {(480, 360)}
    for one in shown:
        assert not is_same(one.frame, one.source)


def test_cuts_are_followed(painting: Networks) -> None:
    shown = all_shown(captured(frames_of(16, faceless_from=8)), painting)
    assert [one.faces for one in shown] == [1] * 8 + [0] * 8
    assert all(one.frame is one.source for one in shown[8:])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_pictures_lying_on_their_side_stand_upright(painting: Networks, turns: int) -> None:
    size = SIZE if turns == 2 else (240, 320)
    frames = frames_of(3, size, turn=lambda rgb: np.rot90(rgb, turns))
    straight = frames_of(3, size if turns == 2 else (240, 320))
    info = replace(described(frames[0]), rotation_deg=90 * turns)
    shown = all_shown(captured(frames, info), painting)
    for one, frame in zip(shown, straight, strict=True):
        assert (one.frame.width, one.frame.height) == (frame.width, frame.height)
        assert one.faces == 1
        difference = np.abs(one.source.planes[0].astype(int) - frame.planes[0])
        assert difference.mean() < 1.5


def test_oblong_pixels_are_made_square() -> None:
    frame = frames_of(1, (160, 240))[0]
    info = replace(described(frame), sample_aspect=Fraction(2))
    square = upright(frame, info)
    assert (square.width, square.height) == (320, 240)
    assert upright(square, described(square)) is square


@given(
    st.sampled_from(["yuv420p", "yuv422p", "yuv444p", "gbrp", "yuva420p", "yuv420p10le", "gray"]),
    st.integers(17, 90),
    st.integers(17, 90),
    st.integers(16, 128),
)
@settings(max_examples=40, deadline=None)
def test_pictures_of_any_kind_are_turned_and_shrunk(
    pix_fmt: str, width: int, height: int, longest_px: int
) -> None:
    picture = noise_frame(pix_fmt, (width, height))
    frame = to_frame(picture, colour_of(picture, "ffv1")[0], 7, TICKS)
    turned = mirrored(frame)
    assert is_same(mirrored(turned), frame)
    assert np.array_equal(turned.planes[0][:, 0], frame.planes[0][:, -1])
    assert (turned.pts, turned.time_base, turned.layout) == (7, TICKS, frame.layout)
    small = shrunk(frame, longest_px)
    assert max(small.width, small.height) <= max(longest_px + 1, 2)
    assert small is frame or (small.width % 2 == 0 and small.height % 2 == 0)
    assert abs(small.width / small.height - width / height) < 0.3 * width / height + 0.2
    for degrees in (90, 180, 270):
        info = replace(described(frame), rotation_deg=degrees)
        once = upright(frame, info)
        assert (once.width, once.height) == ((width, height) if degrees == 180 else (height, width))
        back = upright(once, replace(described(once), rotation_deg=360 - degrees))
        assert is_same(back, frame)
    assert pixels(frame).shape == (height, width, 3)


def test_sessions_share_networks_in_turn(detector: Any) -> None:
    class Alone(Same):
        inside = most = 0

        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            Alone.inside += 1
            Alone.most = max(Alone.most, Alone.inside)
            time.sleep(0.01)
            Alone.inside -= 1
            return pixels

    networks = Networks({"alone": Alone(64)}, detector)
    frames, counts = frames_of(12), []

    def run() -> None:
        counts.append([one.faces for one in all_shown(captured(frames), networks)])

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counts == [[1] * 12] * 3
    assert Alone.most == 1


def test_an_error_of_the_source_is_the_sessions(painting: Networks) -> None:
    frames = frames_of(2)

    def source() -> Iterator[Captured]:
        yield from captured(frames)
        time.sleep(0.5)
        raise MediaError("the wire was cut")

    session = LiveSession(source(), painting)
    seen = []
    with pytest.raises(MediaError, match="the wire was cut"):
        seen += list(session)
    assert session.stats().frames >= 1


def test_an_error_of_the_network_is_the_sessions_and_the_source_is_closed(detector: Any) -> None:
    class Broken(Same):
        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            raise MediaError("no such luck")

    pushed: Pushed[Captured] = Pushed()
    session = LiveSession(pushed, Networks({"broken": Broken(64)}, detector))
    pushed.push(next(captured(frames_of(1))))
    with pytest.raises(MediaError, match="no such luck"):
        next(iter(session))
    assert pushed.is_over


def test_close_from_another_thread(painting: Networks) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    pushed: Pushed[Captured] = Pushed()
    session = LiveSession(pushed, painting)
    shown: list[Shown] = []
    thread = threading.Thread(target=lambda: shown.extend(session))
    thread.start()
    for one in captured(frames_of(5)):
        pushed.push(one)
        time.sleep(0.05)
    session.close()
    thread.join(3)
    assert not thread.is_alive()
    assert shown
    pushed.push(one)  # too late, and no harm
    assert {thread.ident for thread in threading.enumerate()} <= before
    assert list(LiveSession(pushed, painting)) == []
    session.close()


def test_what_is_pushed_too_fast_is_dropped_and_counted() -> None:
    pushed: Pushed[int] = Pushed()
    for number in range(5):
        pushed.push(number)
    assert pushed.dropped == 4
    assert pushed.take() == 4
    assert pushed.take(0.01) is None
    assert not pushed.is_over
    several: Pushed[int] = Pushed(3)
    for number in range(5):
        several.push(number)
    several.finish()
    several.push(9)
    assert list(several) == [2, 3, 4]
    assert several.is_over
    assert several.dropped == 2
    with pytest.raises(OptionError, match="one item or more"):
        Pushed(0)


def test_pushed_frames_are_restored_by_who_waits_for_them(painting: Networks) -> None:
    pushed: Pushed[Captured] = Pushed()
    session = LiveSession(pushed, painting)
    frames = frames_of(4)

    def push() -> None:
        for one in captured(frames):
            pushed.push(one)
            while pushed.take(0) is not None:  # nobody takes it twice
                pushed.push(one)
                time.sleep(0.005)
        pushed.finish()

    thread = threading.Thread(target=push)
    thread.start()
    shown = list(session)
    thread.join()
    assert shown[-1].source is frames[-1]
    assert [one.number for one in shown] == list(range(len(shown)))


def test_a_limit_is_kept_and_every_step_shown(detector: Any) -> None:
    class Timed(Same):
        takes_s: ClassVar = {128: 0.12, 64: 0.03}

        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            time.sleep(self.takes_s[self.size_px])
            return pixels

    networks = Networks({"large": Timed(128), "small": Timed(64)}, detector)
    frames, stop = frames_of(60), threading.Event()

    def source() -> Iterator[Captured]:
        begun_s = time.monotonic()
        for number in itertools.count():
            if stop.wait(max(0.0, begun_s + number / 30 - time.monotonic())):
                return
            there_and_back = number % 120 if number % 120 < 60 else 119 - number % 120
            yield Captured(replace(frames[there_and_back], pts=number * 3000), time.monotonic())

    session = LiveSession(source(), networks, Settings(max_latency_s=0.12))
    steps: list[tuple[float, str, str]] = []
    begun_s = time.monotonic()
    for shown in session:
        now_s = time.monotonic() - begun_s
        if shown.step:
            steps.append((now_s, shown.step, session.stats().weights))
        if now_s > 7:
            Timed.takes_s = {128: 0.005, 64: 0.005}  # the machine has nothing else to do any more
        if now_s > 7 and session.stats().weights == "large":
            break
        assert now_s < 30
    stop.set()
    session.close()
    down = [step for at_s, step, _ in steps if at_s < 7]
    assert "faces are searched for every 0.2 s" in down[0]
    assert "not 120 ms" in down[0]
    assert any("small restores, 64 px" in step for step in down)
    assert "no longer that small restores" in steps[-1][1]
    assert session.stats().steps[-1] == steps[-1][1]


def test_default_networks_are_there(one_thread: None) -> None:
    networks = live_networks()
    assert list(networks.restorers) == ["default"]
    assert networks.descending(None) == [("default", 256)]
    faces: list[list[Face]] = networks.detector([pixels(frames_of(1)[0])])
    assert len(faces[0]) == 1


def test_networks_are_ordered_by_size(network: Any, detector: Any) -> None:
    networks = Networks({"a": Same(64), "b": Same(256), "c": Same(128)}, detector)
    assert networks.descending("b") == [("b", 256), ("c", 128), ("a", 64)]
    assert networks.descending(None) == [("a", 64)]
    loaded = live_networks([network])
    assert [*loaded.restorers] == ["net"]
