"""The page in a real browser: Debian's Chromium, headless, whose camera plays a clip of a face.

Each frame of the clip carries its number as black and white squares at its lower left, which come back with
the restored video: they say which frame of the clip a returned picture is to be compared with.
"""

from __future__ import annotations

import base64
import gc
import io
import ipaddress
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gpenvideo.live.networks import Networks, live_networks
from gpenvideo.live.session import LiveSession, Settings
from gpenvideo.live.web.access import addresses_of, is_loopback
from gpenvideo.live.web.server import WebOptions, WebServer
from gpenvideo.video.camera import Camera

WIDTH, HEIGHT, RATE_HZ, FRAMES = 640, 480, 15, 90
CELL, BITS = 16, 8  # px of a square; a white and a black one stand before those of the number
TOKEN = "a token for tests"
READ = """
  const CELL = 16, BITS = 8;
  window.numberIn = (pen, y) => {
    const light = (k) => pen.getImageData((k + .5) * CELL, y - CELL / 2, 1, 1).data[1] > 127;
    if (!light(0) || light(1)) return null;
    let number = 0;
    for (let k = 0; k < BITS; k++) number += light(k + 2) << k;
    return number;
  };
  window.nextFrame = () => new Promise((resolve) => {
    const video = document.getElementById('received');
    video.requestVideoFrameCallback(() => {
      const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
      const pen = canvas.getContext('2d', { willReadFrequently: true });
      pen.drawImage(video, 0, 0);
      const size = [canvas.width, canvas.height];
      resolve({ canvas, pen, size, numbers: [numberIn(pen, size[1] / 2), numberIn(pen, size[1])] });
    });
  });
  window.asPng = async (canvas) => {
    let text = '';
    for (const byte of new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())) {
      text += String.fromCharCode(byte);
    }
    return btoa(text);
  };
  window.changeIn = ({ pen, size }, [x, y, width, height]) => {
    const before = pen.getImageData(x, y, width, height).data;
    const after = pen.getImageData(x, y + size[1] / 2, width, height).data;
    return before.reduce((sum, value, i) => sum + Math.abs(value - after[i]), 0) / (3 * width * height);
  };
  window.msUntil = async (act, box, is) => {
    const startMs = performance.now();
    act();
    for (;;) {
      const frame = await nextFrame();
      if (is(changeIn(frame, box), frame.numbers[1])) return performance.now() - startMs;
    }
  };
  window.shownFrames = (wanted) => new Promise((resolve) => {
    const canvas = document.getElementById('picture'), seen = [];
    const copy = new OffscreenCanvas(canvas.width, canvas.height);
    const pen = copy.getContext('2d', { willReadFrequently: true });
    document.addEventListener('shown', ({ detail }) => {
      pen.drawImage(canvas, 0, 0);
      seen.push({ ...detail, strip: numberIn(pen, canvas.height) });
      if (detail.number !== null && seen.filter((one) => one.number !== null).length >= wanted) resolve(seen);
    });
  });
"""


@pytest.fixture(scope="module")
def clip() -> list[NDArray[np.uint8]]:
    """A face that moves and is out of focus: (480, 640, 3) uint8 RGB each, numbered."""
    from skimage.data import astronaut

    scale, frames = 1.9, []
    for number in range(FRAMES):
        turn = 2 * np.pi * number / FRAMES
        x, y = 320 - 222 * scale + 16 * np.sin(turn), 235 - 118 * scale + 9 * np.sin(2 * turn)
        place = np.array([[scale, 0, x], [0, scale, y]])
        sharp = cv2.warpAffine(astronaut(), place, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        small = cv2.resize(sharp, (WIDTH // 5, HEIGHT // 5), interpolation=cv2.INTER_AREA)
        frame = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for k, white in enumerate([1, 0, *(number >> bit & 1 for bit in range(BITS))]):
            frame[-CELL:, k * CELL : (k + 1) * CELL] = 255 * white
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def y4m(clip: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as Chromium's camera plays it, again and again."""
    file = tmp_path_factory.mktemp("clip") / "clip.y4m"
    with file.open("wb") as out:
        out.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{RATE_HZ}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in clip:
            out.write(b"FRAME\n" + i420(frame).to_ndarray().tobytes())
    return file


@pytest.fixture(scope="module")
def networks() -> Networks:
    """The networks that ship."""
    return live_networks()


@pytest.fixture(scope="module")
def browser(chromium: str, y4m: Path) -> Iterator[Browser]:
    """Chromium as it is, but for its camera."""
    with sync_playwright() as playwright, started(playwright.chromium, chromium, y4m) as browser:
        yield browser


@contextmanager
def started(kind: Any, chromium: str, y4m: Path, *more: str) -> Iterator[Browser]:
    fake = [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={y4m}",
        "--use-fake-ui-for-media-stream",
    ]
    browser = kind.launch(
        executable_path=chromium, args=["--no-sandbox", *fake, *more], chromium_sandbox=False
    )
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with opened(browser) as page:
        yield page


@contextmanager
def opened(browser: Browser, script: str = "", expected: str = "^$", **options: Any) -> Iterator[Page]:
    """A page that must not complain: of its own errors, or of what the security policy forbids."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 760}} | options))
    page, complaints = context.new_page(), []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(READ + script)
    yield page
    context.close()
    assert [text for text in complaints if not re.search(expected, text)] == []


@pytest.fixture
def visited(networks: Networks) -> Iterator[WebServer]:
    """A server for visitors' cameras."""
    with WebServer(networks, options=WebOptions(port=0, token=TOKEN)) as server:
        yield server


@pytest.fixture
def watched(networks: Networks, y4m: Path) -> Iterator[WebServer]:
    """A server whose own camera plays the clip."""
    with serving(y4m, networks) as server:
        yield server


@contextmanager
def serving(y4m: Path, networks: Networks) -> Iterator[WebServer]:
    session = LiveSession(Camera(y4m, loop=True), networks)
    with WebServer(networks, Settings(), session, WebOptions(port=0, token=TOKEN)) as server:

        def run() -> None:
            for shown in session:
                server.show(shown)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server
        session.close()
        thread.join(10)
        assert not thread.is_alive()


def i420(frame: NDArray[np.uint8]) -> Any:
    picture = av.VideoFrame.from_ndarray(frame, "rgb24")
    return picture.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")


def live(page: Page, way: str | re.Pattern[str] = "WebRTC", within_s: float = 30) -> None:
    """Wait until pictures come, and come that way."""
    expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=1000 * within_s)
    expect(page.locator("#way")).to_have_text(way, timeout=1000 * within_s)


def pairs(page: Page, number: int) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Some returned frames: their number in the clip, the source as it was restored from, the result."""
    script = "async () => { const f = await nextFrame(); return [f.size, f.numbers, await asPng(f.canvas)] }"
    for _ in range(number):
        (width, height), (above, below), png = page.evaluate(script)
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))
        assert (width, height) == (WIDTH, 2 * HEIGHT)
        assert above == below is not None, "source and result are not the same frame"
        yield below, picture[:HEIGHT], picture[HEIGHT:]


def psnr_db(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2)))


@pytest.fixture(scope="module")
def regions(clip: list[NDArray[np.uint8]], networks: Networks) -> Callable[[int], tuple[Any, Any]]:
    """Of a frame by number: slices of the middle of the face, and a mask of all that is far from it."""

    def found(number: int) -> tuple[Any, Any]:
        (face,) = networks.detector([clip[number]])[0][:1]
        x0, y0, x1, y1 = face.box
        far = np.ones((HEIGHT, WIDTH), bool)
        wide, high = x1 - x0, y1 - y0
        far[max(0, int(y0 - high)) : int(y1 + high), max(0, int(x0 - wide)) : int(x1 + wide)] = False
        rows = slice(int(y0 + 0.2 * high), int(y1 - 0.2 * high))
        return (rows, slice(int(x0 + 0.2 * wide), int(x1 - 0.2 * wide))), far

    return found


def compare(page: Page, clip: list[NDArray[np.uint8]], regions: Callable[[int], tuple[Any, Any]]) -> None:
    """Returned frames are those of the clip but for codec noise, and restored where the face is."""
    seen = set()
    for number, before, after in pairs(page, 4):
        face, far = regions(number)
        assert psnr_db(before[far], clip[number][far]) > 30, "the source is another frame, or badly coded"
        assert psnr_db(after[far], clip[number][far]) > 30, "the result differs outside the face"
        noise_db, change_db = psnr_db(after[far], before[far]), psnr_db(after[face], before[face])
        assert noise_db > 36, "outside the face there is more than codec noise"
        assert change_db < min(36, noise_db - 4), "the face is not restored"
        seen.add(number)
    assert len(seen) > 1, "it stands still"


def test_a_visitors_camera_comes_back_restored_over_webrtc(
    page: Page, visited: WebServer, clip: list[NDArray[np.uint8]], regions: Callable[[int], tuple[Any, Any]]
) -> None:
    page.goto(visited.url)
    assert TOKEN not in page.url, "the token is out of the address, and of the history"
    page.click("#start")
    live(page)
    page.wait_for_timeout(3000)  # until the browser's own encoder believes that the way is wide
    compare(page, clip, regions)
    expect(page.locator("#latency")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator("#fps")).to_have_text(re.compile(r"^\d+$"))


def test_sockets_are_on_the_bound_address_alone(page: Page, visited: WebServer) -> None:
    page.goto(visited.url)
    page.click("#start")
    live(page)
    assert sockets_of_this_process() == {("udp", "127.0.0.1"), ("tcp", "127.0.0.1")}


def test_another_address_has_tls_and_its_sockets_there(browser: Browser, networks: Networks) -> None:
    own = [address for address in addresses_of("0.0.0.0") if not is_loopback(address)]
    if not own:
        pytest.skip("this machine has no address but loopback")
    options = WebOptions(host=own[0], port=0, token=TOKEN)
    with WebServer(networks, options=options) as server, opened(browser, ignore_https_errors=True) as page:
        assert server.url.startswith(f"https://{own[0]}:")
        page.goto(server.url)
        page.click("#start")
        live(page)
        assert sockets_of_this_process() == {("udp", own[0]), ("tcp", own[0])}
    gc.collect()
    assert sockets_of_this_process() == set()


def test_the_servers_camera_comes_any_way(
    page: Page, watched: WebServer, clip: list[NDArray[np.uint8]], regions: Callable[[int], tuple[Any, Any]]
) -> None:
    page.goto(watched.url)
    live(page)
    compare(page, clip, regions)
    page.keyboard.press("d")
    for choice, way in [("vp8", "WebSocket · video"), ("jpeg", "WebSocket · pictures"), ("webrtc", "WebRTC")]:
        page.select_option("#force", choice)
        live(page, way)
        shown = page.evaluate("shownFrames(4)")
        assert len({frame["number"] for frame in shown} - {None}) > 1, "frames are not told apart"
        assert all(frame["strip"] is not None for frame in shown), "the picture is damaged"
        assert all(frame["pair"] and frame["size"] == [WIDTH, HEIGHT] for frame in shown)
        expect(page.locator("#d-shown")).to_have_text(re.compile(r"^\d{1,4} · \d{1,4} · \d{1,4} ms$"))


@pytest.mark.parametrize(
    ("missing", "way"),
    [
        ("delete window.RTCPeerConnection;", "WebSocket · video"),
        ("delete window.RTCPeerConnection; delete window.VideoDecoder;", "WebSocket · pictures"),
    ],
)
def test_an_older_browser_gets_pictures_over_the_websocket(
    browser: Browser, visited: WebServer, missing: str, way: str
) -> None:
    with opened(browser, missing) as page:
        page.goto(visited.url)
        page.click("#start")
        live(page, way)
        strips = [frame["strip"] for frame in page.evaluate("shownFrames(4)")]
        assert set(strips) <= set(range(FRAMES))
        assert len(set(strips)) > 1, "it stands still"


def test_where_no_udp_gets_through_the_websocket_does(
    chromium: str, y4m: Path, visited: WebServer, browser: Browser
) -> None:
    no_udp = "--webrtc-ip-handling-policy=disable_non_proxied_udp"
    with started(browser.browser_type, chromium, y4m, no_udp) as other, opened(other) as page:
        page.goto(visited.url)
        page.click("#start")
        live(page, "WebSocket · video")


def test_controls_act_within_a_second(
    page: Page, watched: WebServer, regions: Callable[[int], tuple[Any, Any]]
) -> None:
    page.goto(watched.url)
    live(page)
    page.wait_for_timeout(1000)
    (rows, columns), _ = regions(0)
    box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
    on = page.evaluate("async (box) => changeIn(await nextFrame(), box)", box)
    click = "document.getElementById('{}').click()"
    slide = "((it) => {{ it.value = {}; it.dispatchEvent(new Event('input')) }})(window.strength)"
    acts = [
        (click.format("enabled"), f"change < {on / 2}"),
        (click.format("enabled"), f"change > {on * 0.8}"),
        (slide.format(0), f"change < {on / 2}"),
        (slide.format(100), f"change > {on * 0.8}"),
        (click.format("mirror"), "number === null"),
        (click.format("mirror"), "number !== null"),
    ]
    took_ms: dict[str, float] = {}  # the lesser of two: the machine may be busy
    for act, until in 2 * acts:
        ms = page.evaluate(f"(box) => msUntil(() => {act}, box, (change, number) => {until})", box)
        took_ms[act + until] = min(ms, took_ms.get(act + until, ms))
    assert max(took_ms.values()) < 1000, took_ms


def test_the_network_is_chosen_in_the_page(page: Page, y4m: Path, network: Path, networks: Networks) -> None:
    (name, shipped), (other, small) = *networks.restorers.items(), *live_networks([network]).restorers.items()
    both = Networks({name: shipped, other: small}, networks.detector)
    with serving(y4m, both) as server:
        page.goto(server.url)
        live(page)
        assert page.locator("#weights option").all_inner_texts() == [f"{name} · 256", "net · 64"]
        page.select_option("#weights", other)
        page.keyboard.press("d")
        expect(page.locator("#d-network")).to_have_text(re.compile("^64 px"))


def test_server_and_visitor_take_turns(page: Page, watched: WebServer) -> None:
    page.goto(watched.url)
    live(page)
    page.select_option("#source", "visitor")
    expect(page.locator("body")).to_have_attribute("data-state", "asking")
    page.click("#other")
    live(page)
    assert watched.visitors() == 0
    page.select_option("#source", "visitor")
    page.click("#start")
    live(page)
    assert watched.visitors() == 1
    page.select_option("#source", "camera")
    live(page)
    page.wait_for_timeout(500)
    assert watched.visitors() == 0


def test_snapshot_and_recording_open(page: Page, watched: WebServer, tmp_path: Path) -> None:
    page.goto(watched.url)
    live(page)
    with page.expect_download() as download:
        page.keyboard.press("s")
    file = tmp_path / download.value.suggested_filename
    assert re.fullmatch(r"gpenvideo-\d{4}-\d\d-\d\d-\d{6}\.png", file.name)
    download.value.save_as(file)
    with Image.open(file) as picture:
        assert picture.size == (WIDTH, HEIGHT)
        assert np.asarray(picture.convert("L")).std() > 20, "the snapshot is blank"

    page.click("#record")
    expect(page.locator("body")).to_have_class(re.compile("recording"))
    page.wait_for_timeout(2500)
    with page.expect_download() as download:
        page.click("#record")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    with av.open(str(file)) as container:
        pictures = [picture.to_ndarray(format="gray") for picture in container.decode(video=0)]
    assert len(pictures) > 1
    assert pictures[0].shape == (HEIGHT, WIDTH)
    assert not np.array_equal(pictures[0], pictures[-1]), "the recording stands still"


def test_the_split_is_dragged_and_moved_by_keys(page: Page, watched: WebServer) -> None:
    page.goto(watched.url)
    live(page)
    handle = page.locator("#handle")
    expect(handle).to_be_visible()
    box = handle.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 22, box["y"] + 22)
    page.mouse.down()
    page.mouse.move(400, 300, steps=4)
    page.mouse.up()
    dragged = int(handle.get_attribute("aria-valuenow") or 0)
    assert 20 < dragged < 35
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", str(dragged + 2))
    page.keyboard.press("End")
    expect(handle).to_have_attribute("aria-valuenow", "100")
    page.keyboard.press("c")
    expect(page.locator("#compare")).to_have_attribute("aria-pressed", "false")
    shown = page.evaluate("shownFrames(12)")
    assert not shown[-1]["pair"], "the source is sent though nobody sees it"
    assert all(frame["size"] == [WIDTH, HEIGHT] and frame["strip"] is not None for frame in shown)


def test_everything_is_reached_by_keys_and_has_a_name(page: Page, watched: WebServer) -> None:
    page.goto(watched.url)
    live(page)
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        expect(page.locator("body")).not_to_have_class(re.compile("idle"))
    wanted = "handle enabled strength compare temporal mirror snapshot record full details-button help-button"
    assert set(wanted.split()) <= set(reached)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, [role=slider]')]
             .filter((one) => !one.closest('[hidden]'))
             .filter((one) => !(one.textContent.trim() || one.title || one.ariaLabel || one.labels?.length))
             .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Space")
    page.evaluate("document.activeElement.blur()")


def test_controls_fade_and_come_back(page: Page, watched: WebServer) -> None:
    page.goto(watched.url)
    live(page)
    page.mouse.move(640, 200)
    expect(page.locator("body")).to_have_class(re.compile("idle"), timeout=8000)
    page.wait_for_timeout(700)
    assert page.locator("#dock").evaluate("(dock) => Number(getComputedStyle(dock).opacity)") < 0.05
    page.mouse.move(660, 210)
    expect(page.locator("body")).not_to_have_class(re.compile("idle"))


def test_a_phone_shows_all_of_it(browser: Browser, watched: WebServer) -> None:
    phone = {"width": 390, "height": 844}
    with opened(browser, viewport=phone, has_touch=True, is_mobile=True, device_scale_factor=2) as page:
        page.goto(watched.url)
        live(page)
        page.tap("#details-button")
        expect(page.locator("#details")).to_be_visible()
        page.tap("#details-close")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for name in ("enabled", "strength", "compare", "temporal", "mirror", "snapshot", "record", "full"):
            box = page.locator(f"#{name}").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
            assert box["y"] + box["height"] <= 844
            assert box["height"] >= 44, f"{name} is too small for a finger"


def test_pages_that_are_gone_leave_nothing(browser: Browser, visited: WebServer) -> None:
    def left() -> tuple[int, int, int]:
        threads = [one for one in threading.enumerate() if one.name.startswith("gpenvideo")]
        udp = [kind for kind, _ in sockets_of_this_process() if kind == "udp"]
        return visited.visitors(), len(threads), len(udp)

    for _ in range(3):
        with opened(browser) as page:
            page.goto(visited.url)
            page.click("#start")
            live(page)
            assert left()[0] == 1
            page.reload()
            page.click("#start")
            live(page)
    until_s = time.monotonic() + 10
    while left() != (0, 1, 0) and time.monotonic() < until_s:
        time.sleep(0.1)
    assert left() == (0, 1, 0), "a visitor's session, thread or socket is left"


def test_the_page_comes_back_when_the_server_does(browser: Browser, networks: Networks) -> None:
    with opened(browser, expected="ERR_CONNECTION_REFUSED") as page:
        with WebServer(networks, options=WebOptions(port=0, token=TOKEN)) as server:
            page.goto(server.url)
            expect(page.locator("#start")).to_be_visible()
        expect(page.locator("#notice-title")).to_have_text("Connecting again", timeout=10_000)
        with WebServer(networks, options=WebOptions(port=server.port, token=TOKEN)):
            expect(page.locator("#start")).to_be_visible(timeout=15_000)


def sockets_of_this_process() -> set[tuple[str, str]]:
    """Kind ("udp", "tcp") and local address of each socket, as `ss` would show them."""
    inodes = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            inodes.add(link.readlink().name.removeprefix("socket:[").removesuffix("]"))
    found = set()
    for kind in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path("/proc/net", kind).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] not in inodes:
                continue
            words = bytes.fromhex(fields[1].split(":")[0])
            address = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
            found.add((kind[:3], str(ipaddress.ip_address(address))))
    return found
