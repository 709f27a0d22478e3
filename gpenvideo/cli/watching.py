"""What `gpenvideo live` does: a session run and shown, with a panel for people and lines for programs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gpenvideo.cli.console import err, out, print_json, say
from gpenvideo.live.encoded import Encoded
from gpenvideo.live.outputs import Paced, Showing, VirtualCamera
from gpenvideo.live.session import LiveSession, Settings, live_networks
from gpenvideo.live.window import Window
from gpenvideo.networks import NetworkOptions
from gpenvideo.video.camera import Camera
from gpenvideo.video.devices import cameras

__all__ = ["list_cameras", "watch"]

Options = dict[str, Any]

TOLD_EVERY_S = {"json": 1.0, "panel": 0.25}
FRAMES_FOR_A_FILE = 16  # that may wait to be encoded


def list_cameras(as_json: bool) -> None:
    """Tell which cameras there are, and what each one offers."""
    found = cameras()
    if as_json:
        for device in found:
            print_json(asdict(device))
        return
    if not found:
        say("no camera was found")
    for device in found:
        say(f"{device.number}: {device.name} ({device.address})")
        for mode in device.modes:
            rate = f", up to {mode.rate_hz:g} a second" if mode.rate_hz else ""
            say(f"   {mode.width}x{mode.height} {mode.format}{rate}")


def watch(
    source: tuple[str, Options] | None,
    weights: Options,
    networks: Options,
    settings: Options,
    page: Options | None,
    *,
    targets: Sequence[str],
    virtual_camera: bool,
    window: bool,
    frames: int | None,
    as_json: bool,
) -> None:
    """Run a session until its source ends, its window is closed, or somebody interrupts it."""
    chosen = Settings(**settings)
    outputs: list[Any] = [Encoded(target) for target in targets]
    outputs += [VirtualCamera()] if virtual_camera else []
    screen = Window() if window and source else None
    with ExitStack() as stack:
        loaded = live_networks(options=NetworkOptions(**networks), **weights)
        camera = stack.enter_context(Camera(source[0], **source[1])) if source else None
        session = LiveSession(camera, loaded, chosen) if camera is not None else None
        server = _served(stack, page, loaded, chosen, session) if page is not None else None
        if camera is None or session is None:
            threading.Event().wait()  # until somebody interrupts it
            return
        paced: list[Paced] = []
        told = Told(camera, session, paced)
        if as_json:  # when the outputs are closed and all is written
            stack.callback(lambda: print_json({"done": True, **told.line()}))
        paced += [stack.enter_context(Paced(one, FRAMES_FOR_A_FILE)) for one in outputs]
        paced += [stack.enter_context(Paced(screen))] if screen else []
        pushes = [*(one.push for one in paced), *([server.show] if server else [])]
        showing = Showing(itertools.islice(session, frames), pushes)
        with Panel(told, as_json) as panel:
            _follow(showing, screen, told, panel)
        session.close()
        showing.join()


def _served(
    stack: ExitStack, page: Options, networks: Any, settings: Settings, session: LiveSession | None
) -> Any:
    from gpenvideo.live.web.server import WebOptions, WebServer

    server = WebServer(networks, settings, session, WebOptions(**page))
    stack.enter_context(server)
    err.print(f"open {server.url}", markup=False, highlight=False)
    if server.fingerprint:
        err.print(f"its certificate was made just now, SHA-256 {server.fingerprint}", highlight=False)
    return server


def _follow(showing: Showing, window: Window | None, told: Told, panel: Panel) -> None:
    """Tell what is shown, until it is over or its window is closed."""
    while not (showing.is_over or (window is not None and window.is_closed)):
        showing.take(panel.every_s)
        panel.tell()
    panel.tell(at_once=True)


class Told:
    """What is told of a session."""

    def __init__(self, camera: Camera, session: LiveSession, outputs: Sequence[Paced]) -> None:
        self.camera, self.session, self.outputs = camera, session, outputs
        self._begun_s = time.monotonic()

    def line(self) -> dict[str, Any]:
        """For a program."""
        stats = self.session.stats()
        return {
            "time_s": round(time.monotonic() - self._begun_s, 3),
            "state": self.camera.state,
            "reconnects": self.camera.reconnects,
            "fps": round(stats.fps, 2),
            "latency_ms": {name: round(ms, 1) for name, ms in stats.latency_ms.items()},
            "frames": stats.frames,
            "dropped": stats.dropped,
            "faces": stats.faces,
            "size": list(stats.size),
            "stages_ms": {name: round(ms, 2) for name, ms in stats.stages_ms.items()},
            "weights": stats.weights,
            "network": stats.network,
            "level": stats.level,
            "steps": list(stats.steps),
            "outputs": {
                str(one.output): {
                    "written": one.written,
                    "dropped": one.dropped,
                    "trouble": getattr(one.output, "trouble", ""),
                }
                for one in self.outputs
            },
        }

    def picture(self) -> RenderableType:
        """For a person."""
        stats, camera = self.session.stats(), self.camera
        state = {"live": "green", "waiting": "yellow", "ended": "red"}[camera.state]
        again = f", connected again {camera.reconnects} times" if camera.reconnects else ""
        width, height = stats.size
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        table.add_row("source", Text.assemble((camera.state, state), f" {width}x{height}{again}"))
        table.add_row("rate", f"{stats.fps:.1f} frames a second, {stats.dropped} dropped of {_all(stats)}")
        percentiles = ", ".join(f"{name} {ms:.0f} ms" for name, ms in stats.latency_ms.items())
        table.add_row("latency", percentiles)
        table.add_row("faces", f"{stats.faces}")
        stages = sorted(stats.stages_ms.items(), key=lambda one: -one[1])
        table.add_row("stages", ", ".join(f"{name} {ms:.1f}" for name, ms in stages) + " ms a frame")
        table.add_row("network", Text(f"{stats.weights}: {stats.network}"))
        for one in self.outputs:
            trouble = getattr(one.output, "trouble", "")
            table.add_row(
                "output", Text(f"{one.output}: {one.written} written, {one.dropped} dropped {trouble}")
            )
        return Group(table, *(Text(step, style="yellow") for step in stats.steps[-3:]))


def _all(stats: Any) -> int:
    return int(stats.frames + stats.dropped)


class Panel:
    """Tells what is told, every now and then: in place on a terminal, or as lines of JSON."""

    def __init__(self, told: Told, as_json: bool) -> None:
        self.every_s = TOLD_EVERY_S["json" if as_json else "panel"]
        self._told = told
        self._next_s = time.monotonic() + self.every_s
        self._live = None if as_json else Live(console=out, auto_refresh=False)

    def tell(self, at_once: bool = False) -> None:
        """Tell it if it is time."""
        now_s = time.monotonic()
        if now_s < self._next_s and not at_once:
            return
        self._next_s = max(self._next_s + self.every_s, now_s)
        if self._live is not None:
            self._live.update(self._told.picture(), refresh=True)
        elif not at_once:
            print_json(self._told.line())

    def __enter__(self) -> Panel:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
