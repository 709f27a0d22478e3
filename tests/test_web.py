"""The server of the page: who is let in, what is refused, and that it goes on whatever is thrown at it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gpenvideo.errors import FileMissing, OptionError
from gpenvideo.kernels.picture import as_frame
from gpenvideo.live.networks import Networks, live_networks
from gpenvideo.live.session import LiveSession, Settings, Shown
from gpenvideo.live.web import messages, server
from gpenvideo.live.web.access import Access, Limits, addresses_of, new_token
from gpenvideo.live.web.certificates import self_made, tls_context
from gpenvideo.live.web.channel import Channel, Viewer
from gpenvideo.live.web.coding import Coded, Coder
from gpenvideo.live.web.server import WebOptions, WebServer
from gpenvideo.live.web.webrtc import ice_server
from gpenvideo.video.camera import Camera

TOKEN = "a-token-for-tests"
SMALL = (160, 120)


@pytest.fixture(scope="module")
def networks(network: Path) -> Networks:
    return live_networks([network])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures without faces, for a camera that costs nothing."""
    file = tmp_path_factory.mktemp("web") / "clip.y4m"
    width, height = SMALL
    with file.open("wb") as out:
        out.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(30):
            luma = np.add.outer(np.arange(height), np.arange(width) + 4 * number).astype(np.uint8)
            out.write(b"FRAME\n" + luma.tobytes() + bytes([128]) * (width * height // 2))
    return file


@pytest.fixture
def web(networks: Networks, clip: Path) -> Iterator[WebServer]:
    """A server that shows a camera of its own and takes visitors'."""
    session = LiveSession(Camera(clip, loop=True), networks)
    limits = Limits(visits=4, sessions=1, offers=3)
    with WebServer(networks, Settings(), session, WebOptions(port=0, token=TOKEN, limits=limits)) as server:

        def run() -> None:
            for shown in session:
                server.show(shown)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server
        session.close()
        thread.join(10)
        assert not thread.is_alive()


@asynccontextmanager
async def client(web: WebServer) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who brings the token as a bearer, and says where the page came from."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": f"http://127.0.0.1:{web.port}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{web.port}", headers=headers) as session:
        yield session


async def status(web: WebServer, path: str, **headers: str) -> int:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{web.port}") as session,
        session.get(path, headers=headers, allow_redirects=False) as answer,
    ):
        await answer.read()
        return answer.status


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str, within_s: float = 10) -> dict[str, Any]:
    """The next message of a kind."""
    async with asyncio.timeout(within_s):
        while True:
            message = await socket.receive()
            if message.type == aiohttp.WSMsgType.TEXT and json.loads(message.data)["type"] == kind:
                return dict(json.loads(message.data))
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message


async def pictures(socket: aiohttp.ClientWebSocketResponse, number: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(15):
        while len(found) < number:
            message = await socket.receive()
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
            found += [message.data] if message.type == aiohttp.WSMsgType.BINARY else []
    return found


async def closing_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """With which code the server ends it."""
    async with asyncio.timeout(10):
        async for _ in socket:
            pass
    return socket.close_code


def raw(web: WebServer, request: bytes) -> bytes:
    """What comes back for some bytes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", web.port), 5) as connection, suppress(OSError):
        connection.sendall(request)
        connection.settimeout(0.5)  # after which it waits for more
        while part := connection.recv(65536):
            answer += part
    return answer


def test_nobody_comes_in_without_the_token(web: WebServer) -> None:
    for path in ("/", "/main.js", "/index.html", "/metrics", "/live", "/nothing"):
        assert asyncio.run(status(web, path)) == 401
        assert asyncio.run(status(web, f"{path}?token=another-token-of-mine")) == 401
        assert asyncio.run(status(web, path, Authorization="Bearer nothing")) == 401
        assert asyncio.run(status(web, path, Cookie=f"gpenvideo-{web.port}={TOKEN}")) == 401
    assert asyncio.run(status(web, "/healthz")) == 200


def test_the_token_becomes_a_cookie_and_leaves_the_address(web: WebServer) -> None:
    async def visit() -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            async with session.get(web.url, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/")
                cookie = answer.headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Lax" in cookie
                assert TOKEN not in cookie
            async with session.get(f"http://127.0.0.1:{web.port}/") as answer:
                assert answer.status == 200
                assert "<canvas" in await answer.text()

    asyncio.run(visit())


def test_every_answer_says_what_a_page_may_do(web: WebServer) -> None:
    async def look() -> None:
        async with client(web) as session:
            for path in ("/", "/main.js", "/style.css", "/icon.svg", "/healthz", "/metrics", "/no.js"):
                async with session.get(path) as answer:
                    policy = answer.headers["Content-Security-Policy"]
                    assert "default-src 'none'" in policy
                    assert "unsafe" not in policy
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Referrer-Policy"] == "no-referrer"
                    assert "Server" not in answer.headers
            async with session.get("/main.js") as answer:
                assert answer.content_type == "text/javascript"

    asyncio.run(look())


def test_another_host_or_origin_is_refused(web: WebServer) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    own = f"http://127.0.0.1:{web.port}"
    assert asyncio.run(status(web, "/", **bearer)) == 200
    assert asyncio.run(status(web, "/", Host="evil.example", **bearer)) == 421
    assert asyncio.run(status(web, "/healthz", Host="192.0.2.7", **bearer)) == 421
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{web.port}", own.replace("127", "128")):
        assert asyncio.run(status(web, "/live", Origin=origin, **bearer)) == 403
    assert asyncio.run(status(web, "/live", **bearer)) == 403  # a browser says its origin
    assert asyncio.run(status(web, "/live", Origin=own, **bearer)) == 400  # no WebSocket


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "/%2e%2e%2fserver.py",
        "/..\\server.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/main.js/../../server.py",
        "/main.js%00.css",
        "/page/main.js",
        "/.git/config",
        "/__init__.py",
    ],
)
def test_paths_lead_nowhere_else(web: WebServer, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    answer = raw(web, request.encode())
    assert re.match(rb"HTTP/1.1 (400|404) ", answer), answer[:80]
    assert b"root:" not in answer
    assert b"class WebServer" not in answer


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"A" * 100_000, b"\r\n" * 50]
)
def test_what_is_no_http_is_refused(web: WebServer, junk: bytes) -> None:
    raw(web, junk)
    assert asyncio.run(status(web, "/healthz")) == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"type": "nothing"}',
        '{"type": 1}',
        '{"type": "watch"}',
        '{"type": "watch", "source": "roof", "via": "jpeg", "pair": true}',
        '{"type": "watch", "source": "camera", "via": "carrier", "pair": true}',
        '{"type": "watch", "source": ["camera"], "via": "jpeg", "pair": true}',
        '{"type": "clock"}',
        '{"type": "clock", "page": NaN}',
        '{"type": "clock", "page": 1' + "0" * 400 + "}",
        '{"type": "clock", "page": 1' + "0" * 5000 + "}",
        "[" * 20_000,
    ],
)
def test_a_malformed_message_ends_the_visit(web: WebServer, text: str) -> None:
    async def visit() -> None:
        async with client(web) as session, session.ws_connect("/live") as page:
            await page.send_str(text)
            assert await closing_code(page) == 1008
            assert web.visitors() == 0
        assert await status(web, "/healthz") == 200

    asyncio.run(visit())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(messages.CHANGEABLE) | st.text(), inner)
        ),
    ),
    st.sampled_from(messages.KINDS),
)
def test_any_json_is_taken_or_refused(value: Any, kind: str) -> None:
    message = {"type": kind, "page": value} | (value if isinstance(value, dict) else {})
    with suppress(OptionError):
        _, parsed = messages.parse(json.dumps(message))
        assert 0 <= messages.changed(Settings(), parsed).strength <= 1
        assert messages.watch_of(parsed).via in ("webrtc", "vp8", "jpeg")


def test_an_offer_that_is_too_large_or_none_is_refused(web: WebServer) -> None:
    watch = {"type": "watch", "source": "camera", "via": "webrtc", "pair": True}

    async def visit() -> None:
        async with client(web) as session:
            async with session.ws_connect("/live") as page:
                await page.send_json(watch | {"sdp": "v=0\r\n" + "a=x\r\n" * 20_000})
                assert await closing_code(page) == 1008
            async with session.ws_connect("/live") as page:
                for sdp in (
                    "",
                    "v=0\r\nm=video 9 X 1\r\n",
                    "v=0\r\n" + 40 * "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
                ):
                    await page.send_json(watch | {"sdp": sdp})
                    assert "offer" in (await until(page, "refused"))["text"]
                await page.send_json(watch)
                assert "load it anew" in (await until(page, "refused"))["text"]
                await page.send_json(watch | {"via": "jpeg"})
                assert len(await pictures(page, 3)) == 3

    asyncio.run(visit())


def test_of_a_hundred_pages_as_many_as_it_bears_come_in(web: WebServer) -> None:
    async def one(session: aiohttp.ClientSession, leave: asyncio.Event) -> int:
        try:
            async with session.ws_connect("/live") as page:
                await until(page, "hello")
                await leave.wait()
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    async def crowd() -> None:
        leave = asyncio.Event()
        async with client(web) as session:
            tasks = [asyncio.create_task(one(session, leave)) for _ in range(100)]
            async with asyncio.timeout(10):
                while sum(task.done() for task in tasks) < 96:
                    await asyncio.sleep(0.02)
            assert await status(web, "/healthz") == 200
            leave.set()
            assert sorted(await asyncio.gather(*tasks)) == [101] * 4 + [503] * 96
        async with client(web) as session, session.ws_connect("/live") as page:
            assert (await until(page, "hello"))["sources"] == ["camera", "visitor"]

    asyncio.run(crowd())


def test_silent_connections_are_ended_and_stop_nobody(
    monkeypatch: pytest.MonkeyPatch, networks: Networks
) -> None:
    monkeypatch.setattr(server, "SILENT_S", 0.5)
    with WebServer(networks, options=WebOptions(port=0, token=TOKEN)) as web:
        silent = [socket.create_connection(("127.0.0.1", web.port), 5) for _ in range(100)]
        assert asyncio.run(status(web, "/healthz")) == 200
        for connection in silent:
            with connection:
                assert connection.recv(1) == b"", "it is still open"


def test_a_slow_page_gets_fewer_pictures_and_the_others_all(web: WebServer) -> None:
    async def visit() -> None:
        watch = {"type": "watch", "source": "camera", "via": "jpeg", "pair": True}
        async with client(web) as session:
            connector = aiohttp.TCPConnector(socket_factory=small_buffer)
            async with aiohttp.ClientSession(connector=connector, headers=session.headers) as slow:
                asleep = await slow.ws_connect(f"http://127.0.0.1:{web.port}/live", max_msg_size=0)
                await asleep.send_json(watch)
                asleep._response.connection.transport.pause_reading()  # type: ignore[union-attr]
                async with session.ws_connect("/live") as page:
                    await page.send_json(watch)
                    numbers = [struct.unpack_from("<I", one, 6)[0] for one in await pictures(page, 40)]
                    assert numbers == sorted(set(numbers))
                    assert numbers[-1] - numbers[0] < 80
                    left_out = 0.0
                    async with asyncio.timeout(20):
                        while not left_out:
                            await pictures(page, 10)
                            async with session.get("/metrics") as answer:
                                left_out = metric(await answer.text(), "pictures_left_out_total")
                asleep._response.connection.transport.abort()  # type: ignore[union-attr]

    asyncio.run(visit())


def small_buffer(address: Any) -> socket.socket:
    """A socket whose owner takes little at a time."""
    made = socket.socket(address[0], address[1])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


def metric(text: str, name: str) -> float:
    (value,) = re.findall(rf"^gpenvideo_{name} (\S+)$", text, re.MULTILINE)
    return float(value)


def jpeg(size: tuple[int, int], grey: bool = False) -> bytes:
    data = io.BytesIO()
    Image.new("L" if grey else "RGB", size, 90).save(data, "JPEG", quality=50)
    return data.getvalue()


def test_visitors_pictures_come_back_and_are_limited(web: WebServer) -> None:
    watch = {"type": "watch", "source": "visitor", "via": "jpeg", "pair": False}
    stamp = struct.pack("<d", time.monotonic())

    async def visit() -> None:
        async with client(web) as session, session.ws_connect("/live") as page:
            await page.send_json(watch)
            await until(page, "watching")
            async with session.ws_connect("/live") as second:
                await second.send_json(watch)
                assert "in use" in (await until(second, "refused"))["text"]
            await page.send_bytes(struct.pack("<d", time.monotonic()) + jpeg((320, 240)))
            (picture,) = await pictures(page, 1)
            assert Image.open(io.BytesIO(picture[22:])).size == (320, 240)
        for bad in (
            b"",
            stamp,
            stamp + b"GIF89a",
            stamp + jpeg((64, 64))[:200],
            stamp + jpeg((64, 64), True),
        ):
            async with client(web) as session, session.ws_connect("/live") as page:
                await page.send_json(watch)
                await until(page, "watching")
                await page.send_bytes(bad)
                assert await closing_code(page) == 1008
        assert web.visitors() == 0

    asyncio.run(visit())


def test_pictures_that_are_too_large_are_not_even_decoded(web: WebServer) -> None:
    small = jpeg((64, 64))
    size = small.index(b"\xff\xc0") + 5
    huge = small[:size] + b"\xff\xff\xff\xff" + small[size + 4 :]
    hidden = small[: size - 5] + small[size - 5 : size + 14] + huge[size - 5 :]  # behind a size that would do
    large = bytes(web.limits.frame_bytes + 9)

    async def visit() -> None:
        for data, codes in [(huge, {1008}), (hidden, {1008}), (large, {1009, 1006})]:
            async with client(web) as session, session.ws_connect("/live", max_msg_size=0) as page:
                await page.send_json({"type": "watch", "source": "visitor", "via": "jpeg", "pair": False})
                await until(page, "watching")
                start_s = time.monotonic()
                await page.send_bytes(struct.pack("<d", 0) + data)
                assert await closing_code(page) in codes  # 1006: it is closed while this is still sent
                assert time.monotonic() - start_s < 2
            async with client(web) as session, session.ws_connect("/live") as page:
                await page.send_bytes(data[:100])  # none were asked for
                assert await closing_code(page) == 1008

    asyncio.run(visit())


def test_more_messages_than_a_page_has_to_say_end_it(web: WebServer) -> None:
    async def visit() -> None:
        async with client(web) as session, session.ws_connect("/live") as page:
            for _ in range(4 * web.limits.messages_s):
                await page.send_json({"type": "leave"})
            assert await closing_code(page) == 1008

    asyncio.run(visit())


def test_settings_reach_the_session_and_every_page(web: WebServer) -> None:
    async def visit() -> None:
        watch = {"type": "watch", "source": "camera", "via": "jpeg", "pair": True}
        async with (
            client(web) as session,
            session.ws_connect("/live") as one,
            session.ws_connect("/live") as two,
        ):
            for page in (one, two):
                await page.send_json(watch)
                assert (await until(page, "watching"))["settings"]["strength"] == 1
            await one.send_json({"type": "settings", "strength": 0.25, "mirror": True})
            for page in (one, two):
                told = (await until(page, "settings"))["settings"]
                assert (told["strength"], told["mirror"], told["enabled"]) == (0.25, True, True)
            for bad in ({"strength": 7}, {"strength": True}, {"mirror": 1}, {"weights": "none of that name"}):
                await one.send_json({"type": "settings"} | bad)
                await until(one, "error")
                assert (await until(one, "settings"))["settings"] == told
            assert web.camera is not None
            assert web.camera.session.settings == Settings(strength=0.25, mirror=True, weights=None)

    asyncio.run(visit())


def test_metrics_are_as_prometheus_reads_them(web: WebServer) -> None:
    async def visit() -> str:
        async with client(web) as session, session.ws_connect("/live") as page:
            await page.send_json({"type": "watch", "source": "camera", "via": "jpeg", "pair": True})
            await pictures(page, 5)
            async with session.get("/metrics") as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                return await answer.text()

    asyncio.run(status(web, "/"))  # is refused
    text = asyncio.run(visit())
    line = re.compile(r'gpenvideo_[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? -?\d+(\.\d+)?(e-?\d+)?')
    for entry in text.splitlines():
        assert entry.startswith(("# HELP gpenvideo_", "# TYPE gpenvideo_")) or line.fullmatch(entry), entry
    assert metric(text, "pages") == 1
    assert metric(text, 'pages_watching{via="jpeg"}'.replace("{", r"\{").replace("}", r"\}")) == 1
    assert metric(text, r'frames_total\{session="camera"\}') >= 5
    assert metric(text, r'refused_total\{reason="token"\}') == 1
    assert 0 < metric(text, r'latency_seconds\{session="camera",quantile="0.5"\}') < 5


def test_logs_say_nothing_that_lets_anybody_in(web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "gpenvideo")
    password = "abcdefghijklmnopqrstuvwx"
    sdp = f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:abcd\r\na=ice-pwd:{password}\r\n"

    async def visit() -> None:
        async with client(web) as session, session.ws_connect("/live") as page:
            await page.send_json(
                {"type": "watch", "source": "camera", "via": "webrtc", "pair": True, "sdp": sdp}
            )
            await until(page, "refused")
            await page.send_str("{")
            await closing_code(page)

    asyncio.run(visit())
    asyncio.run(status(web, f"/?token={TOKEN}"))
    asyncio.run(status(web, f"/?token={TOKEN}x"))
    assert "a page was opened" in caplog.text
    cookie = Access("127.0.0.1", web.port, "http", TOKEN).cookie
    for secret in (TOKEN, cookie, password):
        assert secret not in caplog.text


def test_other_machines_are_let_in_on_purpose_only(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--token"):
        WebOptions(host="0.0.0.0")
    with pytest.raises(OptionError, match="together"):
        WebOptions(certificate=tmp_path / "certificate.pem")
    with (
        pytest.raises(OptionError, match="12 characters"),
        WebServer(networks, options=WebOptions(token="short")),
    ):
        pass
    with pytest.raises(OptionError, match="neither"):
        WebServer(networks, options=WebOptions(visitors=False))
    with pytest.raises(OptionError, match="no host"):
        WebServer(networks, options=WebOptions(host="nowhere.invalid", token=TOKEN))
    open_to_all = WebServer(networks, options=WebOptions(host="0.0.0.0", port=0, token=TOKEN))
    assert open_to_all.fingerprint is not None
    assert open_to_all.url.startswith("https://")
    assert "127.0.0.1" in open_to_all.addresses


def test_tls_with_a_certificate_made_on_the_spot(networks: Networks, tmp_path: Path) -> None:
    made = self_made(["127.0.0.1", "localhost", "127.0.0.1"])
    assert re.fullmatch("([0-9A-F]{2}:){31}[0-9A-F]{2}", made.fingerprint)
    assert "PRIVATE" not in repr(made)
    certificate, key, other = tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "other.pem"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made._key)
    other.write_bytes(self_made(["127.0.0.1"])._key)
    with pytest.raises(OptionError, match="does not belong"):
        tls_context(certificate, other)
    with pytest.raises(FileMissing):
        tls_context(certificate, tmp_path / "none.pem")
    options = WebOptions(port=0, token=TOKEN, certificate=certificate, key=key)
    with WebServer(networks, options=options) as web:
        assert web.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cadata=made.certificate.decode())
        with (
            socket.create_connection(("127.0.0.1", web.port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(f"GET /?token={TOKEN} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert b"Secure" in secure.recv(4096)
            assert secure.version() in ("TLSv1.2", "TLSv1.3")


def test_a_taken_port_is_told(web: WebServer, networks: Networks) -> None:
    with (
        pytest.raises(OptionError, match=f"cannot listen on 127.0.0.1:{web.port}"),
        WebServer(networks, options=WebOptions(port=web.port, token=TOKEN)),
    ):
        pass


def test_nothing_is_left_when_it_is_closed(networks: Networks) -> None:
    before = {thread.name for thread in threading.enumerate()}

    async def visit(web: WebServer) -> int | None:
        async with client(web) as session, session.ws_connect("/live") as page:
            await page.send_json({"type": "watch", "source": "visitor", "via": "jpeg", "pair": True})
            await until(page, "watching")
            closing = asyncio.create_task(asyncio.to_thread(web.close))
            code = await closing_code(page)
            await closing
            return code

    with WebServer(networks, options=WebOptions(port=0, token=TOKEN)) as web:
        assert asyncio.run(visit(web)) == 1001
    left = {thread.name for thread in threading.enumerate() if thread.name.startswith("gpenvideo")}
    assert left <= before


def test_names_and_origins_that_are_the_servers_own() -> None:
    at_home = Access("127.0.0.1", 8780, "http", None)
    assert at_home.is_host("localhost:8780")
    assert at_home.is_host("[::1]:8780")
    assert not at_home.is_host("192.168.0.7:8780")
    assert not at_home.is_host("rebinding.example:8780")
    assert not at_home.is_host("")
    proxied = Access("127.0.0.1", 8780, "http", None, ("https://live.example.org",))
    assert proxied.is_host("live.example.org")
    assert proxied.is_origin("https://live.example.org", "127.0.0.1:8780")
    assert not proxied.is_origin("http://live.example.org", "127.0.0.1:8780")
    abroad = Access("0.0.0.0", 8780, "https", TOKEN)
    assert abroad.is_host("192.168.0.7:8780")
    assert not abroad.is_host("rebinding.example")
    with pytest.raises(OptionError, match="an origin"):
        Access("127.0.0.1", 8780, "http", None, ("live.example.org",))
    assert len({new_token() for _ in range(9)}) == 9
    assert addresses_of("127.0.0.1") == ["127.0.0.1"]
    assert at_home.is_known({}, {}, {})
    assert not abroad.is_known({"token": "\udcff"}, {}, {})


def test_servers_for_ice_are_as_people_write_them() -> None:
    assert ice_server("stun:stun.example.org:3478").told() == {"urls": "stun:stun.example.org:3478"}
    relay = {"urls": "turn:relay.example.org?transport=tcp", "username": "me", "credential": "a:b"}
    assert ice_server("turn:me:a:b@relay.example.org?transport=tcp").told() == relay
    for text in ("", "stun:", "relay.example.org", "turn:relay.example.org", "stun:me:a@host", "http://host"):
        with pytest.raises(OptionError, match="turn:user:password@host"):
            ice_server(text)


def shown(number: int, value: int = 90) -> Shown:
    rng = np.random.default_rng(number)
    source = np.full((90, 121, 3), value, np.uint8) + rng.integers(0, 20, (90, 121, 1), np.uint8)
    result = 255 - source
    return Shown(number, as_frame(result), as_frame(source), 1.0, 1.0 + number / 30, 0)


def test_pairs_are_coded_source_above_result() -> None:
    coder, decoder = Coder("vp8", True), av.CodecContext.create("vp8", "r")
    ticks = set()
    for number in range(6):
        coded = coder(shown(number), key=number == 3)
        assert coded is not None
        assert coded.key == (number in (0, 3))
        assert coded.size == (120, 90)
        ticks.add(coded.ticks)
        (picture,) = decoder.decode(av.Packet(coded.data))
        rgb = picture.to_ndarray(format="rgb24").astype(int)
        assert rgb.shape == (180, 120, 3)
        assert abs(rgb[:88].mean() - 99) < 4
        assert abs(rgb[92:].mean() - 156) < 4
    assert len(ticks) == 6
    still = Coder("jpeg", False)(shown(1))
    assert still is not None
    assert np.asarray(Image.open(io.BytesIO(still.data))).mean() == pytest.approx(156, abs=4)


def test_a_viewer_who_comes_later_begins_with_a_whole_picture(networks: Networks) -> None:
    session = LiveSession([], networks)
    channel = Channel(session)
    first, second, ended = [], [], []

    def viewer(taken: list[Coded]) -> Viewer:
        return Viewer("vp8", True, taken.append, ended.append)

    def show(number: int) -> None:
        wanted = len(first) + 1
        channel.show(shown(number))
        until_s = time.monotonic() + 5
        while len(first) < wanted and time.monotonic() < until_s:
            time.sleep(0.005)

    channel.join(viewer(first))
    for number in range(3):
        show(number)
    channel.join(viewer(second))
    time.sleep(1.0)  # whole pictures are not made more often
    show(3)
    show(4)
    channel.close("it is over")
    assert [one.key for one in first] == [True, False, False, True, False]
    assert [one.number for one in second] == [3, 4]
    assert second[0] is first[3], "it is coded once for all"
    assert ended == ["it is over"] * 2
    channel.join(viewer([]))
    assert len(ended) == 3


def test_less_is_sent_where_packets_are_lost() -> None:
    viewer = Viewer("vp8", True, lambda coded: None, lambda reason: None)
    for now_s in range(10, 100, 5):
        viewer.report(0.2, now_s)
    assert viewer.share == pytest.approx(0.15)
    viewer.report(0.02, 200)
    assert viewer.share == pytest.approx(0.15)
    for now_s in range(300, 400, 5):
        viewer.report(0.0, now_s)
    assert viewer.share == 1
