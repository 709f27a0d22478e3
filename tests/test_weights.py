"""Weights by name: the manifest, the search order, and downloads from a real server that misbehaves."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpenvideo import weights
from gpenvideo.errors import DownloadError, FileError, FileMissing, OptionError
from gpenvideo.weights import Weights

PAYLOAD = random.Random(1).randbytes(700_001)
WRONG = random.Random(2).randbytes(len(PAYLOAD))
HALF = 4 * weights.CHUNK_BYTES  # a whole number of chunks, so that none of it is fetched again
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()

Reply = Callable[[BaseHTTPRequestHandler, int], None]


def whole(content: bytes, *, ranges: bool = True, cut: bool = False, length: bool = True) -> Reply:
    """A mirror that serves `content`; with `cut` it hangs up after HALF bytes of it."""

    def reply(handler: BaseHTTPRequestHandler, start: int) -> None:
        if not ranges:
            start = 0
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if length:
            handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : start + HALF if cut else None])

    return reply


def status(code: int) -> Reply:
    return lambda handler, start: handler.send_error(code)


class Mirrors(ThreadingHTTPServer):
    """One server, many mirrors: each path answers with its replies in turn, the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: dict[str, list[Reply]] = {}
        self.seen: list[tuple[str, str | None]] = []

    def add(self, path: str, *replies: Reply) -> str:
        self.replies[path] = list(replies)
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Mirrors

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.seen.append((self.path, wanted))
        replies = self.server.replies[self.path]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        reply(self, int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Mirrors() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def entry(*urls: str, **changes: object) -> Weights:
    values = {
        "name": "tiny",
        "file": "tiny.pth",
        "licence": "MIT",
        "non_commercial": False,
        "kind": "restorer",
        "layout": "gpen",
        "template": "gpen",
        "advice": "For tests.",
        "urls": urls,
        "sha256": DIGEST,
        "bytes": len(PAYLOAD),
    }
    return Weights(**(values | changes))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Downloads


def test_a_download_lands_in_the_cache_and_reports_its_progress(mirrors: Mirrors, cache: Path) -> None:
    steps: list[tuple[int, int]] = []
    tiny = entry(mirrors.add("/good", whole(PAYLOAD)))
    assert weights.located(tiny) is None
    path = weights.pull(tiny, progress=lambda done, total: steps.append((done, total)))
    assert path == cache / "tiny.pth" == weights.located(tiny)
    assert path.read_bytes() == PAYLOAD
    assert names_in(cache) == ["tiny.pth"]
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1] == (len(PAYLOAD), len(PAYLOAD))
    assert len(steps) > 1


def test_a_second_pull_asks_no_server(mirrors: Mirrors, tmp_path: Path) -> None:
    tiny = entry(mirrors.add("/good", whole(PAYLOAD)))
    first = weights.pull(tiny, folder=tmp_path / "mine")
    assert (
        weights.pull(tiny, folder=tmp_path / "mine", offline=True) == first == tmp_path / "mine" / "tiny.pth"
    )
    assert len(mirrors.seen) == 1


def test_a_file_with_the_wrong_hash_never_gets_the_name(mirrors: Mirrors, cache: Path) -> None:
    tiny = entry(mirrors.add("/evil", whole(WRONG)))
    with pytest.raises(DownloadError, match=DIGEST) as caught:
        weights.pull(tiny)
    assert hashlib.sha256(WRONG).hexdigest() in str(caught.value)
    assert names_in(cache) == ["tiny.pth.bad"]
    with pytest.raises(FileMissing):
        weights.find("tiny")
    assert len(mirrors.seen) == 1


def test_after_a_wrong_file_the_next_mirror_is_asked_from_the_start(mirrors: Mirrors) -> None:
    tiny = entry(mirrors.add("/evil", whole(WRONG)), mirrors.add("/good", whole(PAYLOAD)))
    assert weights.pull(tiny).read_bytes() == PAYLOAD
    assert mirrors.seen == [("/evil", None), ("/good", None)]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (whole(b"<html>Sign in first</html>"), "26 bytes, expected 700001"),
        (whole(PAYLOAD + b"!", length=False), "more than the 700001 bytes"),
        (whole(PAYLOAD[:-1], length=False, ranges=False), "ended after 700000 of 700001 bytes"),
    ],
)
def test_a_file_of_the_wrong_size_is_refused(mirrors: Mirrors, cache: Path, reply: Reply, said: str) -> None:
    with pytest.raises(DownloadError, match=said):
        weights.pull(entry(mirrors.add("/odd", reply)))
    assert not (cache / "tiny.pth").exists()


def test_a_cut_download_resumes_where_it_stopped(mirrors: Mirrors, cache: Path) -> None:
    tiny = entry(mirrors.add("/cut", whole(PAYLOAD, cut=True), whole(PAYLOAD)))
    assert weights.pull(tiny).read_bytes() == PAYLOAD
    assert mirrors.seen == [("/cut", None), ("/cut", f"bytes={HALF}-")]
    assert names_in(cache) == ["tiny.pth"]


def test_a_cut_download_starts_again_where_the_server_has_no_ranges(mirrors: Mirrors) -> None:
    replies = whole(PAYLOAD, cut=True, ranges=False), whole(PAYLOAD, ranges=False)
    tiny = entry(mirrors.add("/cut", *replies))
    assert weights.pull(tiny).read_bytes() == PAYLOAD
    assert mirrors.seen == [("/cut", None), ("/cut", f"bytes={HALF}-")]


def test_a_mirror_that_hangs_up_twice_leaves_its_part_for_the_next_one(mirrors: Mirrors) -> None:
    cut = whole(PAYLOAD, cut=True)
    tiny = entry(mirrors.add("/cut", cut), mirrors.add("/good", whole(PAYLOAD)))
    assert weights.pull(tiny).read_bytes() == PAYLOAD
    assert mirrors.seen == [
        ("/cut", None),
        ("/cut", f"bytes={HALF}-"),
        ("/good", f"bytes={2 * HALF}-"),
    ]


def test_a_failed_pull_leaves_its_part_for_the_next_pull(mirrors: Mirrors, cache: Path) -> None:
    url = mirrors.add("/cut", *[whole(PAYLOAD, cut=True)] * 2, whole(PAYLOAD))
    with pytest.raises(DownloadError, match=f"cut after {2 * HALF} of {len(PAYLOAD)} bytes"):
        weights.pull(entry(url))
    assert names_in(cache) == ["tiny.pth.part"]
    assert weights.pull(entry(url)).read_bytes() == PAYLOAD
    assert mirrors.seen[-1] == ("/cut", f"bytes={2 * HALF}-")


def test_a_part_that_is_whole_already_needs_no_server(mirrors: Mirrors, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.pth.part").write_bytes(PAYLOAD)
    assert weights.pull(entry(mirrors.add("/good", whole(PAYLOAD)))).read_bytes() == PAYLOAD
    assert mirrors.seen == []


@pytest.mark.parametrize("stale", [WRONG[:HALF], WRONG, WRONG + b"!"], ids=["shorter", "whole", "longer"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_part_of_another_file_is_thrown_away(
    mirrors: Mirrors, cache: Path, stale: bytes, ranges: bool
) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.pth.part").write_bytes(stale)
    assert weights.pull(entry(mirrors.add("/good", whole(PAYLOAD, ranges=ranges)))).read_bytes() == PAYLOAD
    assert names_in(cache) == ["tiny.pth"]


def test_a_missing_file_sends_to_the_next_mirror(mirrors: Mirrors) -> None:
    tiny = entry(mirrors.add("/gone", status(404)), mirrors.add("/good", whole(PAYLOAD)))
    assert weights.pull(tiny).read_bytes() == PAYLOAD
    assert [path for path, _ in mirrors.seen] == ["/gone", "/good"]


def test_a_dead_mirror_sends_to_the_next_one(mirrors: Mirrors) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as closed:
        dead = f"http://127.0.0.1:{closed.server_port}/dead"
    assert weights.pull(entry(dead, mirrors.add("/good", whole(PAYLOAD)))).read_bytes() == PAYLOAD


def test_a_silent_mirror_sends_to_the_next_one(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "READ_TIMEOUT_S", 0.2)
    over = threading.Event()
    waited: list[bool] = []

    def wait(handler: BaseHTTPRequestHandler, start: int) -> None:
        waited.append(over.wait(10))

    tiny = entry(mirrors.add("/silent", wait), mirrors.add("/good", whole(PAYLOAD)))
    assert weights.pull(tiny).read_bytes() == PAYLOAD
    assert waited == [], "the silent mirror gave up before the client did"
    over.set()
    assert [path for path, _ in mirrors.seen] == ["/silent", "/good"]


def test_when_all_mirrors_fail_one_line_says_how_each_did(mirrors: Mirrors) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as closed:
        dead = f"http://127.0.0.1:{closed.server_port}/dead"
    gone, evil = mirrors.add("/gone", status(404)), mirrors.add("/evil", whole(WRONG))
    with pytest.raises(DownloadError) as caught:
        weights.pull(entry(gone, dead, evil))
    line = str(caught.value)
    assert f"{gone}: HTTP 404 Not Found; {dead}: no connection; {evil}: wrong content" in line
    assert "\n" not in line


def test_offline_downloads_nothing(mirrors: Mirrors, cache: Path) -> None:
    with pytest.raises(DownloadError, match="offline") as caught:
        weights.pull(entry(mirrors.add("/good", whole(PAYLOAD))), offline=True)
    assert "\n" not in str(caught.value)
    assert mirrors.seen == []
    assert not cache.exists()


def test_an_entry_without_a_checksum_is_never_downloaded() -> None:
    page = "https://example.org/by-hand"
    with pytest.raises(DownloadError, match=page):
        weights.pull(entry(sha256="", bytes=0, page=page))


def test_a_damaged_file_in_the_way_is_reported_and_left_alone(mirrors: Mirrors, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.pth").write_bytes(WRONG)
    with pytest.raises(DownloadError, match="delete it and run `gpenvideo weights pull tiny`"):
        weights.pull(entry(mirrors.add("/good", whole(PAYLOAD))))
    assert (cache / "tiny.pth").read_bytes() == WRONG
    assert mirrors.seen == []


def test_a_folder_that_cannot_be_written_is_a_file_error(mirrors: Mirrors, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(FileError, match="cannot write it") as caught:
        weights.pull(entry(mirrors.add("/good", whole(PAYLOAD))), folder=tmp_path / "file" / "weights")
    assert caught.value.path == str(tmp_path / "file" / "weights")
    assert mirrors.seen == []


def test_a_part_that_cannot_be_written_is_a_file_error(mirrors: Mirrors, cache: Path) -> None:
    (cache / "tiny.pth.part").mkdir(parents=True)
    with pytest.raises(FileError, match="cannot write it"):
        weights.pull(entry(mirrors.add("/good", whole(PAYLOAD))))


# Verification


def test_verify_says_what_it_found_and_what_it_expected(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    path.write_bytes(PAYLOAD)
    tiny = entry("https://example.org/tiny.pth")
    weights.verify(path, tiny)
    path.write_bytes(WRONG)
    with pytest.raises(DownloadError, match=f"{weights.sha256(path)}, expected {DIGEST}"):
        weights.verify(path, tiny)
    path.write_bytes(PAYLOAD[:-1])
    with pytest.raises(DownloadError, match="it has 700000 bytes, expected 700001"):
        weights.verify(path, tiny)
    with pytest.raises(DownloadError, match="no published checksum"):
        weights.verify(path, entry(sha256="", bytes=0, page="somewhere"))
    with pytest.raises(FileMissing):
        weights.verify(tmp_path / "absent.pth", tiny)


def test_the_manifest_describes_the_detector_the_developers_hold(shared: Path) -> None:
    detector = weights.read_manifest()["RetinaFace-mobilenet0.25"]
    weights.verify(shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth", detector)


# The search


def copy_of_module(folder: Path, bundled: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """gpenvideo.weights as if it ran from another checkout, or installed: `bundled` is what ships with it."""
    (folder / "gpenvideo").mkdir(parents=True)
    source = folder / "gpenvideo" / "weights.py"
    shutil.copy(weights.__file__, source)
    (folder / bundled).mkdir(parents=True)
    (folder / bundled / "bundled.pth").write_bytes(PAYLOAD)
    (folder / bundled / "manifest.toml").write_text(
        '[[weights]]\nname = "bundled"\nfile = "bundled.pth"\nlicence = "MIT"\nnon_commercial = false\n'
        'kind = "restorer"\nlayout = "v2"\ntemplate = "ffhq"\nadvice = "The default."\nshipped = true\n'
        f'sha256 = "{DIGEST}"\nbytes = {len(PAYLOAD)}\n'
    )
    spec = importlib.util.spec_from_file_location("weights_elsewhere", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("bundled", ["weights", "gpenvideo/_weights"], ids=["checkout", "wheel"])
def test_what_ships_is_found_before_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, bundled: str
) -> None:
    elsewhere = copy_of_module(tmp_path / "elsewhere", bundled, monkeypatch)
    ships = tmp_path / "elsewhere" / bundled
    assert elsewhere.bundled_dir() == ships
    cache.mkdir(parents=True)
    for name in ("bundled.pth", "mine.pth"):
        (cache / name).write_bytes(b"in the cache")
    for name in ("bundled", "bundled.pth"):
        assert elsewhere.find(name) == ships / "bundled.pth"
    assert elsewhere.find("mine") == cache / "mine.pth"
    (ships / "bundled.pth").unlink()
    assert elsewhere.find("bundled") == cache / "bundled.pth"


def test_what_ships_is_verified_and_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = copy_of_module(tmp_path / "elsewhere", "weights", monkeypatch)
    default = elsewhere.read_manifest()["bundled"]
    path = elsewhere.pull(default, offline=True)
    assert path == tmp_path / "elsewhere" / "weights" / "bundled.pth"
    path.write_bytes(WRONG)
    with pytest.raises(DownloadError, match="reinstall gpenvideo"):
        elsewhere.pull(default)
    path.unlink()
    with pytest.raises(FileMissing, match="ships with gpenvideo and is gone"):
        elsewhere.pull(default)


def test_a_path_that_exists_comes_first(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    (cache / "GPEN-BFR-512.pth").write_bytes(b"cache")
    monkeypatch.chdir(tmp_path)
    assert weights.find("GPEN-BFR-512") == cache / "GPEN-BFR-512.pth"
    Path("GPEN-BFR-512.pth").write_bytes(b"here")
    assert weights.find("GPEN-BFR-512.pth") == Path("GPEN-BFR-512.pth")
    assert weights.find(tmp_path / "GPEN-BFR-512.pth") == tmp_path / "GPEN-BFR-512.pth"


def test_a_name_finds_the_published_file_then_a_converted_one(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "RetinaFace-R50.safetensors").write_bytes(b"converted")
    assert weights.find("RetinaFace-R50") == cache / "RetinaFace-R50.safetensors"
    (cache / "detection_Resnet50_Final.pth").write_bytes(b"published")
    for name in ("RetinaFace-R50", "RetinaFace-R50.pth", "detection_Resnet50_Final"):
        assert weights.find(name) == cache / "detection_Resnet50_Final.pth"
    assert weights.find("RetinaFace-R50.safetensors") == cache / "RetinaFace-R50.safetensors"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("GPEN-BFR-512", "GPEN-BFR-512"), ("GPEN-BFR-2048.pth", "GPEN-BFR-2048"), ("nonsense", "NAME")],
)
def test_a_name_that_is_nowhere_says_how_to_get_it(name: str, wanted: str) -> None:
    with pytest.raises(FileMissing, match=f"gpenvideo weights pull {wanted}`") as caught:
        weights.find(name)
    assert all(known in str(caught.value) for known in weights.read_manifest())


@pytest.mark.parametrize("name", ["../outside.pth", "sub/outside", "", ".", "tiny.pth.bad", "x" * 5000])
def test_a_name_does_not_lead_out_of_the_folders(cache: Path, name: str) -> None:
    (cache / "sub").mkdir(parents=True)
    for path in (cache.parent / "outside.pth", cache / "sub" / "outside.pth", cache / "tiny.pth.bad"):
        path.write_bytes(b"not for loading")
    with pytest.raises(FileError):
        weights.find(name)


def test_the_cache_is_the_users_unless_the_environment_names_another(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert weights.cache_dir() == cache
    monkeypatch.delenv("GPENVIDEO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert weights.cache_dir().is_relative_to(tmp_path)
    assert weights.cache_dir().parts[-2:] == ("gpenvideo", "weights")


# The manifest

GOOD: dict[str, object] = {
    "name": "tiny",
    "file": "tiny.pth",
    "licence": "MIT",
    "non_commercial": False,
    "kind": "restorer",
    "layout": "gpen",
    "template": "gpen",
    "advice": "For tests.",
    "urls": ["https://example.org/tiny.pth"],
    "sha256": "0" * 64,
    "bytes": 1,
}


def toml_table(values: dict[str, object]) -> str:
    lines = (f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None)
    return "\n".join(["[[weights]]", *lines, ""])


def test_every_shipped_entry_can_be_had_somehow() -> None:
    entries = weights.read_manifest()
    assert list(entries) == [each.name for each in entries.values()]
    assert {"GPEN-BFR-256", "GPEN-BFR-512", "GPEN-BFR-1024", "GPEN-BFR-2048"} <= entries.keys()
    for each in entries.values():
        assert each.shipped or each.urls or each.page
        assert each.licence
        assert each.advice.endswith(".")
        if each.sha256:
            assert re.fullmatch("[0-9a-f]{64}", each.sha256)
            assert each.bytes > 0
        else:
            assert not each.urls
        if each.shipped:
            path = weights.bundled_dir() / each.file
            weights.verify(path, each)


def test_published_gpen_weights_are_marked_non_commercial() -> None:
    published = [each for each in weights.read_manifest().values() if each.name.startswith("GPEN-")]
    assert published
    assert all(each.non_commercial and "non-commercial" in each.licence for each in published)


def test_a_manifest_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    tables = [GOOD | {"name": name, "file": f"{name}.pth"} for name in ("zebra", "ant")]
    path.write_text("".join(map(toml_table, tables)))
    assert list(weights.read_manifest(path)) == ["zebra", "ant"]
    assert weights.read_manifest(path)["ant"].urls == ("https://example.org/tiny.pth",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": None}, "'name' is missing"),
        ({"name": "two words"}, "name must be"),
        ({"file": "../tiny.pth"}, "plain file name"),
        ({"file": "tiny.exe"}, "file must end in"),
        ({"sha265": "0" * 64}, "unknown key 'sha265'"),
        ({"sha256": "0" * 63}, "64 lower-case hex"),
        ({"sha256": "A" * 64}, "64 lower-case hex"),
        ({"sha256": None}, "sha256 and bytes go together"),
        ({"sha256": None, "bytes": None}, "urls and shipped files need a sha256"),
        ({"bytes": None}, "sha256 and bytes go together"),
        ({"bytes": "1"}, "'bytes' has the wrong type"),
        ({"bytes": True}, "'bytes' has the wrong type"),
        ({"bytes": -1}, "positive"),
        ({"non_commercial": "no"}, "'non_commercial' has the wrong type"),
        ({"urls": "https://example.org"}, "'urls' has the wrong type"),
        ({"urls": [1]}, "'urls' has the wrong type"),
        ({"urls": ["ftp://example.org/tiny.pth"]}, "http"),
        ({"urls": None}, "needs urls, a page, or shipped"),
        ({"shipped": True}, "a shipped file has no urls"),
        ({"kind": "teapot"}, "kind must be"),
        ({"layout": "v3"}, "layout must be"),
        ({"template": None}, "template must be"),
        ({"template": "dlib"}, "template must be"),
        ({"kind": "parser", "layout": "parsenet"}, "for restorers only"),
        ({"licence": ""}, "licence is empty"),
        ({"advice": ""}, "advice is empty"),
    ],
)
def test_a_malformed_entry_is_refused_with_its_place(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(toml_table(GOOD | {"name": "first", "file": "first.pth"}) + toml_table(GOOD | changes))
    with pytest.raises(OptionError, match=said) as caught:
        weights.read_manifest(path)
    assert str(caught.value).startswith(f"{path}: table 2: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[weights]",
        "weights = 3",
        "weights = [3]",
        toml_table(GOOD) * 2,
        "title = 1\n" + toml_table(GOOD),
    ],
    ids=["empty", "not TOML", "no tables", "a number", "twice", "more than weights"],
)
def test_a_malformed_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(text)
    with pytest.raises(OptionError):
        weights.read_manifest(path)


def test_a_manifest_that_is_not_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    with pytest.raises(FileMissing):
        weights.read_manifest(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError):
        weights.read_manifest(path)


@given(
    key=st.sampled_from(sorted(GOOD)),
    value=st.none() | st.booleans() | st.integers(-9, 9) | st.text() | st.lists(st.text(), max_size=2),
)
def test_no_value_gets_past_the_check_of_a_manifest(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "property.toml"
    path.write_text(toml_table(GOOD | {key: value}))
    try:
        (read,) = weights.read_manifest(path).values()
    except OptionError:
        return
    assert type(getattr(read, key)) is type(getattr(entry("https://example.org"), key))
    assert Path(read.file).name == read.file
    assert re.fullmatch("[0-9a-f]{64}", read.sha256) or not read.urls


def test_the_import_is_light() -> None:
    heavy = "torch", "cv2", "av", "facexlib", "requests", "pooch", "numpy"
    code = f"import sys, gpenvideo.weights; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
