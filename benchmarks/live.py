"""Live video on this machine: frames a second, and the latency from capture to the frame that is handed over.

    python -m benchmarks.live [--quick] [--threads 2] [--browser chromium] [--seconds 20]

A virtual camera moves over scikit-image's astronaut, 640 x 480 at 30 frames a second, as H.264; `Camera`
plays it at its own pace, and decodes it on the same cores. Latency is from when a frame was due to when the
session handed it to whoever shows it. The first two seconds are left out. `CPU ms` is the processor time of
all threads a shown frame.

`overload` is a network that takes three times as long as a frame lasts: latency is also given for the first
and the last third of the time, for it must not grow. `limit` is a network of 512 px and random weights, with
the default one to fall back on and a limit of 80 ms: the steps that were taken are printed.

With `--browser` the same session is watched on its page in a headless browser on the same cores: each frame
has its number as squares at its lower left, which are read where the page presents it.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import measure
from gpenvideo.degradation.camera import CameraPath, Key, Shake, shoot
from gpenvideo.frame import Frame
from gpenvideo.gpen import GPEN, GPENConfig
from gpenvideo.live.latency import percentile
from gpenvideo.live.networks import Networks, live_networks
from gpenvideo.live.session import LiveSession, Settings, Shown
from gpenvideo.restorer import GPENRestorer, Restorer
from gpenvideo.video.camera import Camera
from gpenvideo.video.clip import write_clip

SIZE, RATE_HZ, SECONDS = (640, 480), 30, 8
CELL_PX, BITS = 16, 8  # a white and a black square, then those of the number
WARM_UP_S = 2.0
OVERLOAD = 3
LIMIT_S = 0.08
PATH = CameraPath(
    (
        Key(0.0, x=0.44, y=0.2, width=0.5),
        Key(4.0, x=0.43, y=0.21, width=0.55, roll_deg=-3),
        Key(8.0, x=0.44, y=0.2, width=0.5),
    ),
    Shake(0.003, 0.25),
    seed=4,
)
WATCH = """(seconds) => new Promise((resolve) => {
  const video = document.getElementById('received'), seen = [];
  const pen = new OffscreenCanvas(64 * 16, 16).getContext('2d', { willReadFrequently: true });
  const untilMs = performance.now() + 1000 * seconds;
  const look = (_, { expectedDisplayTime }) => {
    pen.drawImage(video, 0, video.videoHeight - 16, 160, 16, 0, 0, 160, 16);
    const at = (k) => pen.getImageData((k + .5) * 16, 8, 1, 1).data[1] > 127;
    let number = 0;
    for (let k = 0; k < 8; k++) number += at(k + 2) << k;
    const nowMs = Math.max(expectedDisplayTime, performance.now());
    if (at(0) && !at(1)) seen.push([number, (performance.timeOrigin + nowMs) / 1000]);
    if (performance.now() < untilMs) video.requestVideoFrameCallback(look);
    else resolve(seen);
  };
  video.requestVideoFrameCallback(look);
})"""


def numbered_clip(path: Path) -> Path:
    """The virtual camera's film, each frame with its number."""
    from skimage.data import astronaut

    noise = np.random.default_rng(1)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        shots = shoot(np.asarray(astronaut()), PATH, SIZE, SECONDS * RATE_HZ, RATE_HZ)
        for number, shot in enumerate(shots):
            picture = shot.pixels + noise.normal(0, 2, shot.pixels.shape)
            picture = np.rint(picture.clip(0, 255)).astype(np.uint8)
            for place, white in enumerate([1, 0, *(number >> bit & 1 for bit in range(BITS))]):
                picture[-CELL_PX:, place * CELL_PX : (place + 1) * CELL_PX] = 255 * white
            yield picture

    write_clip(path, pictures(), RATE_HZ, crf=20)
    return path


def number_of(frame: Frame) -> int:
    row = frame.planes[0][-CELL_PX // 2, : (2 + BITS) * CELL_PX]
    light = row[CELL_PX // 2 :: CELL_PX] > 127
    return sum(1 << bit for bit in range(BITS) if light[2 + bit])


class Slowed:
    """A network that takes `least_s`."""

    def __init__(self, network: Restorer, least_s: float) -> None:
        self._network, self._least_s = network, least_s
        self.size_px, self.template, self.max_batch = network.size_px, network.template, network.max_batch

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        begun_s = time.perf_counter()
        restored = self._network(pixels)
        time.sleep(max(0.0, self._least_s - (time.perf_counter() - begun_s)))
        return restored


def watched(
    source: Path, networks: Networks, settings: Settings, seconds: float
) -> tuple[list[Shown], LiveSession, float]:
    """What a session shows in some seconds, without the first ones, and the processor time of that."""
    with Camera(source, loop=True) as camera:
        session, shown, cpu_s = LiveSession(camera, networks, settings), list[Shown](), 0.0
        begun_s = time.monotonic()
        for one in session:
            if one.done_s - begun_s > WARM_UP_S + seconds:
                break
            if one.done_s - begun_s > WARM_UP_S:
                cpu_s = cpu_s or time.process_time()
                shown.append(one)
        return shown, session, time.process_time() - cpu_s


def row_of(case: str, shown: list[Shown], session: LiveSession, cpu_s: float) -> dict[str, Any]:
    seconds = shown[-1].done_s - shown[0].done_s
    latencies_s = [one.latency_s for one in shown]
    third = len(shown) // 3
    stats = session.stats()
    return {
        "case": case,
        "fps": round((len(shown) - 1) / seconds, 2),
        **_percentiles(latencies_s),
        "max_ms": round(1e3 * max(latencies_s), 1),
        "p95_first_third_ms": round(1e3 * percentile(latencies_s[:third], 0.95), 1),
        "p95_last_third_ms": round(1e3 * percentile(latencies_s[-third:], 0.95), 1),
        "cpu_ms": round(1e3 * cpu_s / len(shown), 1),
        "shown": stats.frames,
        "dropped": stats.dropped,
        "with_a_face": round(float(np.mean([one.faces == 1 for one in shown])), 3),
        "stages_ms": {name: round(ms, 2) for name, ms in stats.stages_ms.items()},
        "steps": list(stats.steps),
    }


def _percentiles(latencies_s: list[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(1e3 * percentile(latencies_s, p / 100), 1) for p in (50, 95, 99)}


def browser_row(source: Path, networks: Networks, chromium: str, seconds: float) -> dict[str, Any]:
    """Capture to presented, on the page."""
    from playwright.sync_api import sync_playwright

    captured: dict[int, list[float]] = {}
    with (
        served(source, networks, captured) as (url, session),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("body[data-state=live]", timeout=60_000)
        page.wait_for_timeout(3000)
        way = page.inner_text("#way")
        seen = page.evaluate(WATCH, seconds)
        stats = session.stats()
    ahead_s = time.time() - time.monotonic()
    latencies_s = []
    for number, presented_s in seen:
        before = [at_s for at_s in captured.get(number, []) if at_s + ahead_s < presented_s]
        latencies_s += [presented_s - ahead_s - max(before)] if before else []
    spanned_s = seen[-1][1] - seen[0][1]
    return {
        "case": f"presented in the browser, {way}",
        "fps": round((len(seen) - 1) / spanned_s, 2),
        **_percentiles(latencies_s),
        "session_fps": round(stats.fps, 2),
        "session_p95_ms": round(stats.latency_ms["p95"], 1),
    }


@contextmanager
def served(
    source: Path, networks: Networks, captured: dict[int, list[float]]
) -> Iterator[tuple[str, LiveSession]]:
    """The page of a session; when each number was captured is noted."""
    from gpenvideo.live.web.server import WebOptions, WebServer

    session = LiveSession(Camera(source, loop=True), networks)
    with WebServer(networks, Settings(), session, WebOptions(port=0)) as server:

        def run() -> None:
            for shown in session:
                captured.setdefault(number_of(shown.source), []).append(shown.captured_s)
                server.show(shown)

        thread = threading.Thread(target=run)
        thread.start()
        yield server.url, session
        session.close()
        thread.join()


def large_and_default(networks: Networks) -> Networks:
    """A network of 512 px before the default one."""
    torch.manual_seed(0)
    config = GPENConfig(512, 512, (256, 256, 256, 256, 128, 64, 32, 16), style_dim=128, mapping_layers=4)
    return Networks({"512 px": GPENRestorer(GPEN(config)), **networks.restorers}, networks.detector)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds each, nothing saved")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--browser", help="the path of a Chromium")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = 5.0 if options.quick else options.seconds
    networks = live_networks()
    (default,) = networks.restorers.values()
    slow = Networks({"slow": Slowed(default, OVERLOAD / RATE_HZ)}, networks.detector)
    cases: dict[str, Callable[[], tuple[Networks, Settings]]] = {
        "default weights, 640x480, one face": lambda: (networks, Settings()),
        f"overload: the network takes {OVERLOAD} frames": lambda: (slow, Settings()),
        "limit of 80 ms, 512 px": lambda: (large_and_default(networks), Settings(max_latency_s=LIMIT_S)),
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = numbered_clip(Path(folder) / "face.mp4")
        for case, make in cases.items():
            rows.append(row_of(case, *watched(source, *make(), seconds)))
        if options.browser:
            rows.append(browser_row(source, networks, options.browser, seconds))
    keys = (
        "case",
        "fps",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "max_ms",
        "cpu_ms",
        "shown",
        "dropped",
        "with_a_face",
    )
    print(measure.table([{key: row.get(key) for key in keys} for row in rows]), end="\n\n")
    for row, key in itertools.product(rows, ("stages_ms", "steps")):
        if row.get(key):
            print(f"{row['case']}: {row[key]}")
    if not options.quick:
        print(measure.save("live", rows))


if __name__ == "__main__":
    main()
