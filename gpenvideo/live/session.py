"""LiveSession: captured frames in, restored frames out, the newest first and none late."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from gpenvideo.analysis import SEARCH_EVERY_S, Analysis
from gpenvideo.errors import OptionError
from gpenvideo.frame import Frame
from gpenvideo.live.latency import Level, Steering, ladder, percentile
from gpenvideo.live.networks import Networks, OwnedDetector, OwnedRestorer, live_networks
from gpenvideo.live.picture import described, mirrored, shrunk, upright
from gpenvideo.live.pushed import Pushed
from gpenvideo.pipeline import Restored, RestoreOptions, VideoRestorer
from gpenvideo.stages import Stages
from gpenvideo.stream import latest
from gpenvideo.video.camera import Captured

__all__ = ["LiveSession", "Networks", "Pushed", "Settings", "Shown", "Stats", "live_networks"]

WINDOW_S = 5.0  # of the past that the numbers are of
OPTIONS = RestoreOptions(grain="none")  # which would take time
GAP_S = 0.5  # without a frame, after which faces are looked for anew
LEAST_LONGEST_PX = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """What a viewer may change while it runs.

    Raises:
        OptionError: a value outside its range.
    """

    strength: float = 1.0
    """How much of the restored face is taken, in [0, 1]."""

    weights: str | None = None
    """The name of one of the session's networks; None is the first."""

    temporal: bool = True
    """Whether the noise of a face is averaged out over time."""

    detect_every_s: float = SEARCH_EVERY_S
    """Seconds from one search for faces to the next; up to 0.25, for those not found for 0.3 s fade."""

    longest_px: int | None = None
    """Larger pictures are made smaller, to this longest side, before anything else; None leaves them."""

    mirror: bool = False
    """Whether left and right are exchanged, as in a mirror."""

    max_latency_s: float | None = None
    """The limit that searches, networks and pictures give way to, see `live.latency`; None is none."""

    enabled: bool = True
    """Whether faces are restored at all."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise OptionError(f"a strength lies in [0, 1], got {self.strength}")
        if not 0.01 <= self.detect_every_s <= 0.25:
            raise OptionError(f"faces are searched for every 0.01 to 0.25 s, got {self.detect_every_s} s")
        if self.longest_px is not None and self.longest_px < LEAST_LONGEST_PX:
            raise OptionError(f"pictures are {LEAST_LONGEST_PX} px or longer, got {self.longest_px}")
        if self.max_latency_s is not None and not 0 < self.max_latency_s <= 60:
            raise OptionError(f"a latency is above 0 and up to 60 s, got {self.max_latency_s} s")


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A frame that is ready to be shown."""

    number: int
    """From 0, of those that were shown."""

    frame: Frame
    source: Frame
    """As it was captured: as `frame`, upright in square pixels, and shrunk and mirrored where asked."""

    captured_s: float
    done_s: float
    """Both by `time.monotonic()`."""

    faces: int
    step: str = ""
    """What was done about the latency with this frame; "" for nothing."""

    @property
    def latency_s(self) -> float:
        return self.done_s - self.captured_s


@dataclass(frozen=True, slots=True)
class Stats:
    """How a session does: of the last seconds, unless it says otherwise."""

    fps: float
    latency_ms: Mapping[str, float]
    """"p50", "p95" and "p99", from capture until it was ready to be shown."""

    frames: int
    """Shown since the start."""

    dropped: int
    """Captured since the start, and not shown because a newer one was there."""

    faces: int
    """In the last frame."""

    size: tuple[int, int]
    """Width and height of the last frame."""

    stages_ms: Mapping[str, float]
    """What each stage takes a frame."""

    network: str
    """What restores, on which device."""

    weights: str
    """Its name."""

    level: int
    """How many steps down the ladder the latency took."""

    steps: tuple[str, ...]
    """The last steps, in words."""


class LiveSession:
    """Restores what a camera gives, the newest frame first.

    A frame that is there while the one before it is restored waits; if another comes, it is dropped and
    counted, so the delay never grows. Faces are followed as in files, but with nothing of the future. A
    stream that begins anew, of another size or after a gap, starts with new tracks.

    Iterate once, in one thread. `settings` may be replaced from any thread, and holds from the next frame on;
    `stats` and `close` may be called from any thread.

    Args:
        captures: a `Camera`, a `Pushed`, or whatever gives `Captured`; it is iterated in a thread of its own,
            and closed in the end.
        networks: see `live_networks`.
        settings: to begin with.

    Raises:
        OptionError: settings that name a network which is not there; also when they are replaced.
    """

    def __init__(
        self, captures: Iterable[Captured], networks: Networks, settings: Settings | None = None
    ) -> None:
        self.networks = networks
        self.settings = settings or Settings()
        self._captures = captures
        self._newest: Any = captures if isinstance(captures, Pushed) else None
        self._closed = False
        self._lock = threading.Lock()
        self._stages = Stages()
        self._run: _Run | None = None
        self._steering: Steering | None = None
        self._steered: tuple[Any, ...] = ()
        self._levels: tuple[Level, ...] = ()
        self._shown = 0
        self._last: Shown | None = None
        self._past: deque[tuple[float, float, Counter[str]]] = deque()
        self._steps: deque[str] = deque(maxlen=8)

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.networks.descending(settings.weights)
        self._settings = settings

    def __iter__(self) -> Iterator[Shown]:
        with self._lock:
            if self._newest is None:
                self._newest = latest(self._captures, name="capture")
            if self._closed:
                self._newest.close()
        with closing(self._newest):
            for captured in self._newest:
                yield self._restored(captured)

    def close(self) -> None:
        """End the iteration, and the capture."""
        with self._lock:
            self._closed = True
        if hasattr(self._captures, "close"):
            self._captures.close()
        if self._newest is not None:
            self._newest.close()

    def stats(self) -> Stats:
        """How it does."""
        now_s, last, run = time.monotonic(), self._last, self._run
        with self._lock:
            past = [entry for entry in self._past if entry[0] > now_s - WINDOW_S]
            steps = tuple(self._steps)
        latencies_s = [latency_s for _, latency_s, _ in past]
        spent: Counter[str] = Counter()
        for _, _, stages in past:
            spent.update(stages)
        span_s = now_s - past[0][0] if past else 0.0
        return Stats(
            fps=(len(past) - 1) / span_s if len(past) > 1 and span_s > 0 else 0.0,
            latency_ms={f"p{p}": 1e3 * percentile(latencies_s, p / 100) for p in (50, 95, 99)},
            frames=self._shown,
            dropped=self._dropped,
            faces=last.faces if last else 0,
            size=(last.frame.width, last.frame.height) if last else (0, 0),
            stages_ms={name: 1e3 * seconds / len(past) for name, seconds in spent.items()},
            network=run.video.network if run else "",
            weights=run.level.weights if run else "",
            level=self._steering.level if self._steering else 0,
            steps=steps,
        )

    @property
    def _dropped(self) -> int:
        here = self._newest.dropped if self._newest is not None else 0
        return int(here + getattr(self._captures, "passed_over", 0))

    def _restored(self, captured: Captured) -> Shown:
        settings, before = self._settings, Counter(self._stages.seconds)
        level = self._level(settings, captured.frame)
        frame = captured.frame if captured.info is None else upright(captured.frame, captured.info)
        frame = frame if level.longest_px is None else shrunk(frame, level.longest_px)
        run = self._run
        if run is None or not run.goes_on_with(frame, captured, level):
            run = self._run = _Run(frame, captured, level, self.networks, self._stages)
        strength = settings.strength if settings.enabled else 0.0
        run.video.options = replace(run.video.options, strength=strength, temporal=settings.temporal)
        restored = run(frame)
        after, source = restored.frame, restored.source
        if settings.mirror:
            untouched = after is source
            source = mirrored(source)
            after = source if untouched else mirrored(after)
        done_s = time.monotonic()
        step = self._steer(done_s, done_s - captured.captured_s)
        shown = Shown(self._shown, after, source, captured.captured_s, done_s, len(restored.tracks), step)
        spent = Counter(self._stages.seconds)
        spent.subtract(before)
        with self._lock:
            self._past.append((done_s, shown.latency_s, spent))
            while self._past[0][0] < done_s - WINDOW_S:
                self._past.popleft()
            self._shown, self._last = self._shown + 1, shown
            self._steps += [step] if step else []
        return shown

    def _level(self, settings: Settings, frame: Frame) -> Level:
        """How the next frame is restored: as wanted, or as the latency allows."""
        source_px = max(frame.width, frame.height)
        limit_s = settings.max_latency_s
        wanted = (settings.detect_every_s, settings.weights, settings.longest_px, limit_s, source_px)
        if wanted != self._steered:
            weights = self.networks.descending(settings.weights)
            self._levels = ladder(settings.detect_every_s, weights, settings.longest_px, source_px)
            self._steering = None if limit_s is None else Steering(limit_s, len(self._levels))
            self._steered = wanted
        return self._levels[self._steering.level if self._steering else 0]

    def _steer(self, now_s: float, latency_s: float) -> str:
        steering = self._steering
        way = steering.update(now_s, latency_s) if steering else 0
        if steering is None or way == 0:
            return ""
        seen = f"95 of 100 frames are within {1e3 * steering.seen_s:.0f} ms"
        if way > 0:
            return f"{seen}, not {1e3 * steering.max_latency_s:.0f} ms: {self._levels[steering.level].told}"
        return f"{seen}: no longer that {self._levels[steering.level + 1].told}"


class _Run:
    """A stretch of frames of one size from one stream, restored one by one with the same networks."""

    def __init__(
        self, frame: Frame, captured: Captured, level: Level, networks: Networks, stages: Stages
    ) -> None:
        self.level = level
        self._info, self._kind = captured.info, _kind(frame)
        self._time_s = -math.inf
        info = described(frame)
        finder = OwnedDetector(networks.detector, networks.lock)
        analysis = Analysis(finder, info, live=True, stages=stages, detect_every_s=level.detect_every_s)
        restorer = OwnedRestorer(networks.restorers[level.weights], networks.lock)
        self.video = VideoRestorer(restorer, analysis, info, OPTIONS, stages, overlap=False)
        self._frames: deque[Frame] = deque()
        self._restored: Iterator[Any] = self.video(iter(self._frames.popleft, None))

    def goes_on_with(self, frame: Frame, captured: Captured, level: Level) -> bool:
        same = captured.info is self._info and _kind(frame) == self._kind and level == self.level
        return same and 0 < frame.time_s - self._time_s <= GAP_S

    def __call__(self, frame: Frame) -> Restored:
        self._time_s = frame.time_s
        self._frames.append(frame)
        restored: Restored = next(self._restored)
        return restored


def _kind(frame: Frame) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.layout, frame.colour
