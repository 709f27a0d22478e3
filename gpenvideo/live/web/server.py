"""WebServer: the page of live video, for those who bring the token."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from aiohttp import web

from gpenvideo.errors import OptionError
from gpenvideo.live.session import LiveSession, Networks, Settings, Shown
from gpenvideo.live.web.access import Access, Limits, addresses_of, is_loopback, new_token
from gpenvideo.live.web.certificates import self_made, tls_context
from gpenvideo.live.web.channel import Channel
from gpenvideo.live.web.metrics import CONTENT_TYPE, Counts, exposition
from gpenvideo.live.web.sockets import Visit
from gpenvideo.live.web.webrtc import ice_server

__all__ = ["WebOptions", "WebServer"]

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MOST_ON_THE_WAY = 128 << 10  # bytes
SILENT_S = 20.0  # that a connection may say nothing
HEARTBEAT_S = 10.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob: mediastream:; connect-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Where the page is served, and to whom.

    Raises:
        OptionError: another host than loopback without a token; a certificate without its key.
    """

    host: str = "127.0.0.1"
    port: int = 8780
    """0 is any that is free."""

    token: str | None = None
    """None makes one; it is asked for unless `insecure`."""

    insecure: bool = False
    """Whether everybody who can reach the server is let in."""

    certificate: str | PathLike[str] | None = None
    key: str | PathLike[str] | None = None
    """PEM files. Without them another host than loopback gets a certificate that is made on the spot."""

    plain: bool = False
    """Whether there is no TLS at all: behind a proxy that has it."""

    visitors: bool = True
    """Whether pages may send their own camera."""

    origins: tuple[str, ...] = ()
    """Of pages that may connect beside the server's own, of a proxy: "https://live.example.org"."""

    ice_servers: tuple[str, ...] = ()
    """STUN and TURN servers, see `webrtc.ice_server`; none are asked unless they are named."""

    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not (self.token or self.insecure):
            raise OptionError(
                f"{self.host} is open to other machines: give a --token, or --insecure to let everybody in"
            )
        if (self.certificate is None) != (self.key is None):
            raise OptionError("a certificate and its key are given together")
        if not 0 <= self.port <= 65535:
            raise OptionError(f"a port is 0 to 65535, got {self.port}")


class WebServer:
    """Serves the page in a thread of its own, from `start` to `close`.

    Args:
        networks: for visitors' cameras, and to choose from.
        settings: that a visitor begins with.
        session: of the server's own camera; its frames are handed to `show`. None is visitors alone.
        options: see there.

    Raises:
        OptionError: a host or a server for ICE that is none, damaged certificates; nothing to show.
        FileMissing: certificates that are not there.
    """

    def __init__(
        self,
        networks: Networks,
        settings: Settings | None = None,
        session: LiveSession | None = None,
        options: WebOptions | None = None,
    ) -> None:
        self.options = options or WebOptions()
        if session is None and not self.options.visitors:
            raise OptionError("a page shows this server's camera, or its visitors': there is neither")
        self.networks, self.settings = networks, settings or Settings()
        self.limits = self.options.limits
        self.ice_servers = [ice_server(text) for text in self.options.ice_servers]
        self.takes_visitors = self.options.visitors
        self.addresses = addresses_of(self.options.host)
        self.token = None if self.options.insecure else self.options.token or new_token()
        self.fingerprint: str | None = None
        """SHA-256 of a certificate that was made on the spot."""
        self._tls = self._context()
        self.camera: Channel | None = None
        self._session = session
        self._visits: list[Visit] = []
        self._sent = self._left_out = 0  # by visits that are over
        self._refused: Counter[str] = Counter()
        self._access: Access | None = None
        self._files = {f"/{file.name}": file for file in PAGE.iterdir() if file.suffix in KINDS}
        self._open = 0  # WebSockets, those on their way to be a visit too
        self._stop: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self.port = self.options.port

    @property
    def url(self) -> str:
        """What a person opens; the token is in it, so it is for whoever may come in."""
        host = self.options.host
        if host in ("0.0.0.0", "::"):
            host = next((one for one in self.addresses if not is_loopback(one)), "127.0.0.1")
        host = f"[{host}]" if ":" in host else host
        token = "" if self.token is None else f"?token={quote(self.token, safe='')}"
        return f"{self._scheme}://{host}:{self.port}/{token}"

    def start(self) -> str:
        """Begin to listen; what is returned is the `url`.

        OptionError: the port is taken, or may not be used.
        """
        ready, failed = threading.Event(), []

        def run() -> None:
            try:
                asyncio.run(self._serve(ready.set))
            except BaseException as error:
                if ready.is_set():
                    raise
                failed.append(error)
                ready.set()

        if self._session is not None:
            self.camera = Channel(self._session)
        self._thread = threading.Thread(target=run, name="gpenvideo-web", daemon=True)
        self._thread.start()
        ready.wait()
        for error in failed:
            self.close()
            if not isinstance(error, OSError):
                raise error
            where = f"{self.options.host}:{self.options.port}"
            raise OptionError(f"cannot listen on {where}: {error.strerror or error}") from error
        return self.url

    def show(self, shown: Shown) -> None:
        """Show a frame of the server's camera; it returns at once."""
        if self.camera is not None:
            self.camera.show(shown)

    def close(self) -> None:
        """Tell all pages, end all sessions of visitors, and wait for it."""
        if self.camera is not None:
            self.camera.close("the server has stopped")
        if self._thread is not None:
            self._stop()
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def visitors(self) -> int:
        return sum(visit.visitor is not None for visit in self._visits)

    def entered(self, visit: Visit) -> None:
        self._visits.append(visit)
        log.info("a page was opened, %d are open", len(self._visits))

    def left(self, visit: Visit) -> None:
        self._visits.remove(visit)
        self._sent, self._left_out = self._sent + visit.sent, self._left_out + visit.left_out
        log.info("a page was closed, %d are open", len(self._visits))

    def visits_of(self, channel: Channel) -> list[Visit]:
        return [visit for visit in self._visits if visit.channel is channel]

    def refused(self, reason: str) -> None:
        self._refused[reason] += 1

    @property
    def _scheme(self) -> str:
        return "https" if self._tls is not None else "http"

    def _context(self) -> ssl.SSLContext | None:
        options = self.options
        if options.plain:
            return None
        if options.certificate is not None and options.key is not None:
            return tls_context(options.certificate, options.key)
        if is_loopback(options.host):
            return None
        made = self_made([*self.addresses, options.host, "localhost"])
        self.fingerprint = made.fingerprint
        return made.context()

    async def _serve(self, ready: Callable[[], None]) -> None:
        loop, stopped, options = asyncio.get_running_loop(), asyncio.Event(), self.options
        app = web.Application(middlewares=[self._guard], client_max_size=self.limits.text_bytes)
        app.router.add_get("/", self._page)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/live", self._live)
        app.router.add_get("/{name}", self._file)
        app.on_response_prepare.append(_add_headers)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=SILENT_S, shutdown_timeout=2.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, options.host, options.port, ssl_context=self._tls).start()
            self.port = runner.addresses[0][1]
            self._access = Access(options.host, self.port, self._scheme, self.token, options.origins)
            self._stop = lambda: _wake(loop, stopped.set)
            ready()
            await stopped.wait()
            for visit in list(self._visits):
                await visit.say_goodbye()
        finally:
            await _closed(runner)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Let nobody in who asks for another host, or has no token."""
        access = self._access
        if access is None or not access.is_host(request.host):
            return self._refuse("host", 421, "This is not that host.")
        if request.path == "/healthz":
            return await _handled(handler, request)
        if not access.is_known(request.query, request.headers, request.cookies):
            return self._refuse(
                "token", 401, "Open the whole address that gpenvideo printed, with its token."
            )
        return await _handled(handler, request)

    def _refuse(self, reason: str, status: int, text: str) -> web.Response:
        self.refused(reason)
        return web.Response(status=status, text=text + "\n")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if "token" not in request.query:
            return self._sent_file("/index.html")
        response = web.Response(status=303, headers={"Location": "/"})  # out of the address, and of history
        access = self._access
        if access is not None and access.token is not None:
            secure = self._tls is not None
            response.set_cookie(
                access.cookie_name, access.cookie, httponly=True, samesite="Lax", secure=secure, path="/"
            )
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._sent_file(request.path)

    def _sent_file(self, path: str) -> web.Response:
        file = self._files.get(path)  # of those there were at the start, and of no others
        if file is None:
            return self._refuse("path", 404, "There is no such page.")
        return web.Response(body=file.read_bytes(), content_type=KINDS[file.suffix], charset="utf-8")

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        visits = self._visits
        counts = Counts(
            visits=len(visits),
            ways=Counter(visit.via for visit in visits),
            sent=self._sent + sum(visit.sent for visit in visits),
            left_out=self._left_out + sum(visit.left_out for visit in visits),
            refused=self._refused,
        )
        sessions = [("camera", self.camera.session.stats())] if self.camera is not None else []
        own = [visit.visitor for visit in visits if visit.visitor is not None]
        sessions += [(f"visitor-{i}", one.channel.session.stats()) for i, one in enumerate(own, 1)]
        return web.Response(
            body=exposition(counts, sessions).encode(), headers={"Content-Type": CONTENT_TYPE}
        )

    async def _live(self, request: web.Request) -> web.StreamResponse:
        access = self._access
        if access is None or not access.is_origin(request.headers.get("Origin"), request.host):
            return self._refuse("origin", 403, "This page comes from somewhere else.")
        if self._open >= self.limits.visits:
            return self._refuse(
                "visits", 503, "As many pages as this server bears are open: try again later."
            )
        page = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=self.limits.frame_bytes, compress=False, timeout=2.0
        )
        if not page.can_prepare(request):
            return self._refuse("path", 400, "This is for a WebSocket.")
        self._open += 1
        try:
            await page.prepare(request)
            transport = request.transport
            if transport is not None:
                _hurry(transport)
                await Visit(page, self, transport.abort).run()
        finally:
            self._open -= 1
        return page


async def _closed(runner: web.AppRunner) -> None:
    """End all connections, also those of TLS whose other end would have to agree first."""
    connections = runner.server.connections if runner.server is not None else []
    transports = [connection.transport for connection in connections]
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0.05)  # for the loop to let go of their sockets


def _hurry(transport: asyncio.Transport) -> None:
    """Let little wait between this server and a page: a slow one sees fewer pictures, not old ones."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_ON_THE_WAY)
    transport.set_write_buffer_limits(MOST_ON_THE_WAY)


async def _handled(handler: Any, request: web.Request) -> web.StreamResponse:
    response: web.StreamResponse = await handler(request)
    return response


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    with contextlib.suppress(KeyError):
        del response.headers["Server"]  # nobody's business


def _wake(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
