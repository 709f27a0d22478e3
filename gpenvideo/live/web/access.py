"""Access: who may use the page, and how much of it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gpenvideo.errors import OptionError

__all__ = ["Access", "Limits", "addresses_of", "is_loopback", "new_token"]

LEAST_TOKEN = 12  # characters of a token that somebody chose


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears; what is over it is refused, and those before go on.

    Raises:
        OptionError: a number below 1.
    """

    visits: int = 12
    """Open pages."""

    sessions: int = 2
    """Visitors whose own camera is restored."""

    text_bytes: int = 32 << 10
    """Of a message of JSON; an offer of WebRTC is 6 to 8 KiB."""

    frame_bytes: int = 2 << 20
    """Of a picture that a visitor's page sends."""

    frame_px: int = 1920 * 1088
    """Of a visitor's picture, width times height."""

    offers: int = 8
    """Connections of WebRTC that one page may ask for, one after the other."""

    messages_s: int = 120
    """Messages a second from one page."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise OptionError(f"a limit of {name} is 1 or more, got {getattr(self, name)}")


class Access:
    """Checks requests: the host they ask for, the token, and where the page came from.

    Args:
        host: what is listened on.
        port: the same.
        scheme: "http" or "https".
        token: None asks for none.
        origins: of pages that may connect beside the server's own, like "https://live.example.org" of a
            reverse proxy; their hosts are answered too.

    Raises:
        OptionError: a token that is short, an origin that is none.
    """

    def __init__(
        self, host: str, port: int, scheme: str, token: str | None, origins: tuple[str, ...] = ()
    ) -> None:
        if token is not None and len(token) < LEAST_TOKEN:
            raise OptionError(f"a token has {LEAST_TOKEN} characters or more: leave it out, one is made")
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or f"{parts.scheme}://{parts.netloc}" != origin:
                raise OptionError(f"an origin is like https://live.example.org, got {origin!r}")
        self.token = token
        self.cookie_name = f"gpenvideo-{port}"
        self._scheme, self._host = scheme, host
        self._origins = frozenset(origins)
        self._names = {host.lower(), "localhost", socket.gethostname().lower()}
        self._names |= {urlsplit(origin).hostname or "" for origin in origins}

    @property
    def cookie(self) -> str:
        """What a browser that brought the token keeps in its place."""
        return hmac.new((self.token or "").encode(), b"gpenvideo page", hashlib.sha256).hexdigest()

    def is_host(self, host: str) -> bool:
        """Whether a request's Host is this server: an address, or a name it knows itself by.

        Another name is somebody's who made it point here.
        """
        name = urlsplit(f"//{host}").hostname or ""
        if is_loopback(self._host) and not is_loopback(name) and name not in self._names:
            return False
        return name in self._names or name.removesuffix(".local") in self._names or _is_address(name)

    def is_origin(self, origin: str | None, host: str) -> bool:
        """Whether a page's origin is this server, asked for as `host`; a browser always says it."""
        return origin is not None and (origin in self._origins or origin == f"{self._scheme}://{host}")

    def is_known(
        self, query: Mapping[str, str], headers: Mapping[str, str], cookies: Mapping[str, str]
    ) -> bool:
        """Whether a request brings the token: in its address, as a bearer, or as the cookie."""
        if self.token is None:
            return True
        given = query.get("token") or headers.get("Authorization", "").removeprefix("Bearer ")
        return _same(given, self.token) or _same(cookies.get(self.cookie_name, ""), self.cookie)


def new_token() -> str:
    """128 random bits, fit for an address."""
    return secrets.token_urlsafe(16)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def addresses_of(host: str) -> list[str]:
    """The addresses that a host to listen on stands for: of 0.0.0.0 and :: all of this machine.

    Raises:
        OptionError: a name that stands for none.
    """
    if host in ("0.0.0.0", "::"):
        import ifaddr

        found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
        v4 = [ip for ip in found if isinstance(ip, str)]
        v6 = [ip[0] for ip in found if not isinstance(ip, str) and ip[2] == 0]  # link-local ones need a zone
        return [*v4, *(v6 if host == "::" else [])]
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise OptionError(f"there is no host {host!r} to listen on") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
