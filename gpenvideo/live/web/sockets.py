"""Sockets: one page's WebSocket, which is its visit: what it asks for, and what it is sent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from gpenvideo.errors import GpenvideoError, OptionError
from gpenvideo.live.session import Networks, Settings
from gpenvideo.live.web import messages
from gpenvideo.live.web.access import Limits
from gpenvideo.live.web.channel import Channel, Viewer
from gpenvideo.live.web.coding import Coded, Coding
from gpenvideo.live.web.visitors import Visitor
from gpenvideo.live.web.webrtc import IceServer, Peer

__all__ = ["House", "Visit"]

log = logging.getLogger(__name__)

STATS_EVERY_S = 1.0
MOST_WAITING = 6  # messages on their way to one page; a slow one gets fewer pictures, not old ones
SLOWEST_S = 10.0  # for one message, after which the page is gone


class House(Protocol):
    """What all visits share."""

    networks: Networks
    settings: Settings
    limits: Limits
    addresses: list[str]
    ice_servers: list[IceServer]
    camera: Channel | None
    takes_visitors: bool

    def visitors(self) -> int: ...
    def entered(self, visit: Visit) -> None: ...
    def left(self, visit: Visit) -> None: ...
    def visits_of(self, channel: Channel) -> list[Visit]: ...
    def refused(self, reason: str) -> None: ...


class Visit:
    """One page, from its WebSocket's begin to its end.

    Args:
        socket: that is open.
        house: what it shares with other visits.
        abort: cuts its connection at once.
    """

    def __init__(self, socket: web.WebSocketResponse, house: House, abort: Callable[[], None]) -> None:
        self.channel: Channel | None = None
        self.via = ""
        """How pictures travel: "webrtc", "vp8", "jpeg", or "" where none do."""
        self.visitor: Visitor | None = None
        self.sent = self.left_out = 0
        """Pictures."""
        self._socket, self._house, self._abort = socket, house, abort
        self._loop = asyncio.get_running_loop()
        self._viewer: Viewer | None = None
        self._peer: Peer | None = None
        self._offers = 0
        self._chosen: Settings | None = None  # by this page, for its own camera
        self._waiting: deque[bytes | dict[str, Any]] = deque()
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the page until it is gone or misbehaves."""
        house = self._house
        sources = ["camera"] if house.camera is not None else []
        sources += ["visitor"] if house.takes_visitors else []
        weights = {name: restorer.size_px for name, restorer in house.networks.restorers.items()}
        ice = [server.told() for server in house.ice_servers]
        self.tell({"type": "hello", "sources": sources, "weights": weights, "ice": ice})
        writer, teller = asyncio.create_task(self._write()), asyncio.create_task(self._tell_stats())
        house.entered(self)
        code, reason = WSCloseCode.OK, ""
        try:
            await self._read()
        except OptionError as error:
            code, reason = WSCloseCode.POLICY_VIOLATION, str(error)
            house.refused("message")
            log.info("a page was sent away: %s", error)
        finally:
            writer.cancel()
            teller.cancel()
            await self._leave()
            house.left(self)
            await asyncio.gather(writer, teller, *self._tasks, return_exceptions=True)
            await self._socket.close(code=code, message=reason[:100].encode())

    def tell(self, message: dict[str, Any]) -> None:
        """Send the page a message, after those before it; one of many frames may be left out."""
        if message["type"] == "frame" and len(self._waiting) >= MOST_WAITING:
            return
        self._waiting.append(message)
        self._woken.set()

    async def say_goodbye(self) -> None:
        """Tell the page that the server stops, and end the visit."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server has stopped")

    async def _read(self) -> None:
        limits, allowance, last_s = self._house.limits, float(self._house.limits.messages_s), time.monotonic()
        async for message in self._socket:
            now_s = time.monotonic()
            allowance = min(limits.messages_s, allowance + (now_s - last_s) * limits.messages_s) - 1
            last_s = now_s
            if allowance < 0:
                raise OptionError(f"more than {limits.messages_s} messages a second")
            if message.type == WSMsgType.BINARY:
                await self._take_picture(message.data)
            elif message.type == WSMsgType.TEXT:
                if len(message.data) > limits.text_bytes:
                    raise OptionError(f"a message has {limits.text_bytes} bytes at most")
                await self._take(*messages.parse(message.data))

    async def _take(self, kind: str, message: dict[str, Any]) -> None:
        viewer = self._viewer
        match kind:
            case "watch":
                await self._watch(messages.watch_of(message))
            case "leave":
                await self._leave()
            case "settings":
                self._set(message)
            case "clock":
                page = messages.number(message.get("page"))
                self.tell({"type": "clock", "page": page, "server": time.monotonic()})
            case "pair" if viewer is not None:
                viewer.pair, viewer.needs_key = messages.typed(message, "pair", bool), True
            case "report" if viewer is not None:
                viewer.report(messages.number(message.get("lost")), time.monotonic())

    async def _watch(self, wanted: messages.Watch) -> None:
        """Begin to send pictures, another way than before where there was one."""
        await self._leave()
        try:
            channel = await self._channel(wanted.source)
            coding: Coding = "jpeg" if wanted.via == "jpeg" else "vp8"
            viewer = Viewer(
                coding,
                wanted.pair,
                deliver=lambda coded: self._in_loop(self._deliver, viewer, coded),
                ended=lambda reason: self._in_loop(self._ended, viewer, reason),
            )
            if wanted.via == "webrtc":
                await self._connect(wanted.sdp, viewer)
        except GpenvideoError as error:
            await self._leave()
            self.tell({"type": "refused", "via": wanted.via, "text": str(error)})
            return
        self.channel, self.via, self._viewer = channel, wanted.via, viewer
        self.tell({"type": "watching", "via": wanted.via, "source": wanted.source} | self._settings())
        channel.join(viewer)

    async def _channel(self, source: str) -> Channel:
        house = self._house
        if source == "camera":
            if house.camera is None:
                raise OptionError("this server has no camera of its own")
            return house.camera
        if not house.takes_visitors:
            raise OptionError("this server takes no visitors' cameras")
        if house.visitors() >= house.limits.sessions:
            house.refused("sessions")
            raise OptionError("as many visitors' cameras as this server bears are in use: try again later")
        self.visitor = Visitor(house.networks, self._chosen or house.settings, house.limits.frame_px)
        return self.visitor.channel

    async def _connect(self, sdp: str, viewer: Viewer) -> None:
        self._offers += 1
        if self._offers > self._house.limits.offers:
            raise OptionError("this page asked for more connections than it may: load it anew")
        visitor = self.visitor
        peer = Peer(
            self._house.addresses,
            self._house.ice_servers,
            needs_key=lambda: setattr(viewer, "needs_key", True),
            received=visitor.take_picture if visitor is not None else None,
            failed=lambda: self._peer_failed(peer),
        )
        self._peer = peer
        self.tell({"type": "answer", "via": "webrtc", "sdp": await peer.answer(sdp)})

    def _peer_failed(self, peer: Peer) -> None:
        if self._peer is peer:  # and the page has not gone another way since
            self._later(self._leave())
            self.tell({"type": "refused", "via": "webrtc", "text": "there is no way for WebRTC"})

    def _set(self, message: dict[str, Any]) -> None:
        channel = self.channel
        if channel is None:
            return
        try:
            settings = channel.session.settings = messages.changed(channel.session.settings, message)
            if self.visitor is not None:
                self._chosen = settings
        except OptionError as error:
            self.tell({"type": "error", "text": str(error)})
        for visit in self._house.visits_of(channel):
            visit.tell({"type": "settings"} | visit._settings())

    def _settings(self) -> dict[str, Any]:
        session = self.channel.session if self.channel else None
        networks = self._house.networks.restorers
        return {"settings": messages.settings_of(session.settings, networks)} if session else {}

    async def _take_picture(self, data: bytes) -> None:
        if len(data) > self._house.limits.frame_bytes:
            raise OptionError(f"a picture has {self._house.limits.frame_bytes} bytes at most")
        if self.visitor is None:
            raise OptionError("no pictures were asked for")
        await asyncio.to_thread(self.visitor.take_message, data)
        self.tell({"type": "taken"})

    def _deliver(self, viewer: Viewer, coded: Coded) -> None:
        if viewer is not self._viewer:  # the page has gone another way since
            return
        if self._peer is not None and self._peer.put(coded):
            self.tell({"type": "frame"} | coded.notice())
        elif self._peer is None and len(self._waiting) < MOST_WAITING:
            self._waiting.append(coded.message())
            self._woken.set()
        else:
            viewer.needs_key = True
            self.left_out += 1
            return
        self.sent += 1

    def _ended(self, viewer: Viewer, reason: str) -> None:
        if viewer is self._viewer:
            self.tell({"type": "ended", "text": reason})
            self._later(self._leave())

    def _leave(self) -> Coroutine[Any, Any, None]:
        """Send no more pictures and take none from now on; what is returned closes what was used for it."""
        peer, self._peer = self._peer, None
        visitor, self.visitor = self.visitor, None
        channel, self.channel = self.channel, None
        viewer, self._viewer = self._viewer, None
        self.via = ""
        if channel is not None and viewer is not None:
            channel.leave(viewer)

        async def closed() -> None:
            if peer is not None:
                await peer.close()
            if visitor is not None:
                await asyncio.to_thread(visitor.close)

        return closed()

    async def _write(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                message = self._waiting.popleft()
                try:
                    async with asyncio.timeout(SLOWEST_S):
                        if isinstance(message, bytes):
                            await self._socket.send_bytes(message)
                        else:
                            await self._socket.send_json(message)
                except (ConnectionError, TimeoutError):
                    self._abort()  # nobody reads: a close would wait for that
                    return

    async def _tell_stats(self) -> None:
        while True:
            await asyncio.sleep(STATS_EVERY_S)
            channel = self.channel
            if channel is None:
                continue
            stats = channel.session.stats()
            told = {name: getattr(stats, name) for name in ("fps", "frames", "dropped", "faces", "size")}
            told |= {"latency": dict(stats.latency_ms), "stages": dict(stats.stages_ms)}
            told |= {"network": stats.network, "level": stats.level, "steps": list(stats.steps)}
            told |= {"skipped": channel.skipped, "left_out": self.left_out, "viewers": channel.viewers}
            self.tell({"type": "stats"} | told)

    def _in_loop(self, call: Callable[..., None], *values: Any) -> None:
        """Call it in the loop, from any thread; a loop that is closed calls nothing any more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *values)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
