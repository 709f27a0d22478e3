"""Live for a while: the source stalls, dies and returns, and nothing piles up."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

NORMAL_S = 0.15  # above the usual latency: it is back to normal


def run(seconds: float, troubles: int, default_networks: bool) -> dict[str, Any]:
    """Watch a face for a while; what is told is for the test in another process."""
    import torch
    from portraits import Same, shot
    from senders import Sender, number_of, numbered

    from gpenvideo.live.session import LiveSession, Networks, live_networks
    from gpenvideo.video.camera import Camera

    torch.set_num_threads(1)
    networks = live_networks()
    if not default_networks:
        networks = Networks({"paint": Same(64, paint=0.5)}, networks.detector)
    picture = numbered(lambda number: pictures[number % len(pictures)])
    pictures = [shot("yuv420p", (320, 240))(number) for number in [*range(60), *range(59, 0, -1)]]
    told: dict[str, Any] = {"recovered_s": [], "faces": 0}
    before = (_threads(), _descriptors())
    with Sender(picture, rate_hz=25) as sender:
        camera = Camera(sender.url, timeout_s=1.5)
        session = LiveSession(camera, networks)
        latencies: deque[tuple[float, float]] = deque(maxlen=100_000)

        def watch() -> None:
            for shown in session:
                now_s = time.monotonic()
                latencies.append((now_s, now_s - sender.sent_s.get(number_of(shown.source), 0)))
                told["faces"] += shown.faces

        watching = threading.Thread(target=watch)
        watching.start()
        _sleep_until(lambda: len(latencies) > 50)
        told |= {"usual_s": [], "memory_mb": [], "inside": []}
        each_s = seconds / troubles
        for number in range(troubles):
            begun_s = time.monotonic()
            usual_s = statistics.median(late_s for _, late_s in list(latencies)[-50:])
            told["usual_s"].append(usual_s)
            _trouble(sender, number)
            told["recovered_s"].append(_recovered_s(latencies, usual_s))
            time.sleep(max(0.0, begun_s + each_s - time.monotonic()))
            gc.collect()
            told["memory_mb"].append(_memory_mb())
            told["inside"].append((_threads(), _descriptors()))
        told["frames"], told["reconnects"] = len(latencies), camera.reconnects
        session.close()
        watching.join(10)
        told["ended"] = not watching.is_alive()
    _sleep_until(lambda: (_threads(), _descriptors()) == before, 5)
    told["before"], told["after"] = before, (_threads(), _descriptors())
    return told


def _trouble(sender: Any, number: int) -> None:
    """A short stall, a long one after which it is connected to anew, or a death; then all is well again."""
    kind = number % 3
    if kind == 2:
        sender.die()
        time.sleep(2.0)
        sender.live_again()
        return
    sender.stalled.set()
    time.sleep((0.8, 2.5)[kind])
    sender.stalled.clear()


def _recovered_s(latencies: deque[tuple[float, float]], usual_s: float) -> float:
    """How long until frames come, and as quickly as usual; 60 for never."""
    begun_s = time.monotonic()
    while time.monotonic() < begun_s + 60:
        late_s = [late_s for at_s, late_s in list(latencies)[-10:] if at_s > begun_s]
        if len(late_s) >= 5 and statistics.median(late_s[-5:]) < usual_s + NORMAL_S:
            return time.monotonic() - begun_s
        time.sleep(0.01)
    return 60.0


def _sleep_until(holds: Any, seconds: float = 60) -> None:
    end_s = time.monotonic() + seconds
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.02)


def _threads() -> int:
    return threading.active_count()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0]) / 1024


def soaked(seconds: float, troubles: int, *, default_networks: bool) -> dict[str, Any]:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here}:{here.parent}", "OMP_NUM_THREADS": "1"}
    program = (
        "import json, test_live_soak\n"
        f"print(json.dumps(test_live_soak.run({seconds}, {troubles}, {default_networks})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    sys.stderr.write(f"{told}\n")
    assert told["ended"]
    assert max(told["recovered_s"]) < 2.0
    assert told["after"] == told["before"]
    assert max(threads for threads, _ in told["inside"]) <= told["inside"][0][0] + 1
    assert told["faces"] > 0.9 * told["frames"]
    assert told["reconnects"] >= 2
    return told


def test_a_source_that_comes_and_goes() -> None:
    told = soaked(20, 5, default_networks=False)
    assert told["memory_mb"][-1] - told["memory_mb"][0] < 30


@pytest.mark.soak
def test_ten_minutes_of_a_source_that_comes_and_goes() -> None:
    told = soaked(600, 6, default_networks=True)
    assert told["memory_mb"][-1] - told["memory_mb"][0] < 30
