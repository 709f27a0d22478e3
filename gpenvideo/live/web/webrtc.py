"""WebRTC: coded pictures out to one page, and its camera in, between this host's address and the page alone.

Browsers and aioice both leave loopback addresses out of what they offer. The browser need not offer one: it
sends its checks to whatever address the answer names, from a socket that reaches it, and what it sends from
is learned from the first check. So the answer names exactly the addresses that the server was told to listen
on, loopback or not, and nothing is ever sent to an address that only an offer named.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from gpenvideo.errors import OptionError
from gpenvideo.live.web.coding import TICKS_HZ, Coded

__all__ = ["IceServer", "Peer", "ice_server"]

log = logging.getLogger(__name__)

CONNECT_S = 10.0  # until it has to be connected
MOST_WAITING = 4  # pictures on their way to one page


class IceServer(NamedTuple):
    """A STUN or TURN server."""

    url: str
    username: str | None = None
    credential: str | None = None

    def told(self) -> dict[str, str]:
        """As a page is told it, an RTCIceServer."""
        member = {"urls": self.url, "username": self.username, "credential": self.credential}
        return {name: value for name, value in member.items() if value is not None}


def ice_server(text: str) -> IceServer:
    """A server as people write it: stun:host:port, or turn:user:password@host:port.

    OptionError: neither.
    """
    match = re.fullmatch(r"(stuns?|turns?):(?:([^:@]+):([^@]+)@)?([^@/\s]+)", text)
    if match is None or (match[1].startswith("turn") == (match[2] is None)):
        raise OptionError("a server for ICE is stun:host:port or turn:user:password@host:port")
    return IceServer(f"{match[1]}:{match[4]}", match[2], match[3])


class Peer:
    """One connection of WebRTC with a page; it is used in one event loop.

    Args:
        addresses: the only ones of this machine that it uses.
        ice_servers: STUN and TURN servers; none are used unless they are named here.
        needs_key: called when the page lost pictures and needs one that can be decoded by itself.
        received: takes each av.VideoFrame of the page's camera; None asks for none.
        failed: called when there is no connection, or no longer.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        ice_servers: Sequence[IceServer],
        *,
        needs_key: Callable[[], None],
        received: Callable[[Any], None] | None,
        failed: Callable[[], None],
    ) -> None:
        self._addresses, self._relayed = list(addresses), bool(ice_servers)
        servers = [RTCIceServer(*server) for server in ice_servers]
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._track = _CodedTrack()
        self._received, self._failed, self._needs_key = received, failed, needs_key
        self._tasks: list[asyncio.Task[None]] = []
        self._connection.on("connectionstatechange", self._changed)
        self._connection.on("track", self._arrived)

    async def answer(self, offer: str) -> str:
        """The answer to a page's offer, both as SDP.

        OptionError: an offer that is none, or of something else than one video.
        """
        try:
            return await self._answer(offer)
        except OptionError:
            raise
        except Exception as error:  # aiortc has no error of its own for an offer that is none
            raise OptionError(f"this offer of WebRTC cannot be answered ({type(error).__name__})") from error

    async def _answer(self, offer: str) -> str:
        lines = offer.splitlines()
        if sum(line.startswith("m=") for line in lines) != 1 or "\nm=video" not in offer:
            raise OptionError("an offer of WebRTC is of one video")
        connection = self._connection
        sender = connection.addTrack(self._track)
        # What a page asks for that lost pictures.
        sender._send_keyframe = self._needs_key  # type: ignore[method-assign]
        codecs = [c for c in RTCRtpSender.getCapabilities("video").codecs if c.mimeType != "video/H264"]
        connection.getTransceivers()[0].setCodecPreferences(codecs)
        kept = [line for line in lines if not self._is_left_out(line)]
        await connection.setRemoteDescription(RTCSessionDescription("\r\n".join(kept) + "\r\n", "offer"))
        self._bind()
        await connection.setLocalDescription(await connection.createAnswer())
        self._tasks.append(asyncio.create_task(self._watch()))
        return str(connection.localDescription.sdp)

    def put(self, coded: Coded) -> bool:
        """Send a picture; False where it was left out, since too many wait."""
        return self._track.put(coded)

    async def close(self) -> None:
        """End the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._track.stop()
        await self._connection.close()

    def _is_left_out(self, line: str) -> bool:
        """Whether a line of an offer names where to send to.

        The page's own checks say that. With a relay, its address must be known beforehand; a name of mDNS is
        never looked up.
        """
        if line.startswith("a=end-of-candidates"):
            return True
        return line.startswith("a=candidate") and (not self._relayed or ".local " in line)

    def _bind(self) -> None:
        """Let ICE listen on the server's own addresses alone."""
        ice = self._connection.getTransceivers()[0].receiver.transport.transport._connection
        gather = ice.get_component_candidates

        async def of_these(component: int, addresses: list[str], timeout: int = 5) -> Any:
            return await gather(component=component, addresses=self._addresses, timeout=timeout)

        ice.get_component_candidates = of_these  # type: ignore[method-assign]

    async def _watch(self) -> None:
        await asyncio.sleep(CONNECT_S)
        if self._connection.connectionState != "connected":
            self._failed()

    def _changed(self) -> None:
        if self._connection.connectionState in ("failed", "closed"):
            self._failed()

    def _arrived(self, track: Any) -> None:
        if self._received is not None and track.kind == "video":
            self._tasks.append(asyncio.create_task(self._receive(track)))

    async def _receive(self, track: Any) -> None:
        assert self._received is not None
        while True:
            try:
                picture = await track.recv()
            except MediaStreamError:
                return
            self._received(picture)


class _CodedTrack(MediaStreamTrack):
    """Pictures that are coded already, the newest ones."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._pictures: deque[Coded] = deque()
        self._changed = asyncio.Event()

    def put(self, coded: Coded) -> bool:
        if len(self._pictures) >= MOST_WAITING and not coded.key:
            return False
        if coded.key:
            self._pictures.clear()
        self._pictures.append(coded)
        self._changed.set()
        return True

    def stop(self) -> None:
        super().stop()
        self._changed.set()

    async def recv(self) -> Any:
        while not self._pictures:
            if self.readyState != "live":
                raise MediaStreamError
            self._changed.clear()
            await self._changed.wait()
        coded = self._pictures.popleft()
        packet = av.Packet(coded.data)
        packet.pts, packet.time_base = coded.ticks, Fraction(1, TICKS_HZ)
        return packet
