"""Network files by name: the manifest, where files lie, download, verification.

The manifest is weights/manifest.toml. Files lie in `bundled_dir()`, where the networks that this project
trained itself ship, or in `cache_dir()`, where downloads go. Nothing is downloaded unless `pull` is called,
and nothing gets its name on disk before its size and sha256 match the manifest.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from gpenvideo.errors import DownloadError, FileError, FileMissing, OptionError, file_error

if TYPE_CHECKING:
    from requests import Session

__all__ = [
    "Weights",
    "bundled_dir",
    "cache_dir",
    "find",
    "located",
    "pull",
    "read_manifest",
    "sha256",
    "verify",
]

KINDS = ("restorer", "detector", "landmarks", "parser", "features")
LAYOUTS = ("gpen", "v2")
TEMPLATES = ("gpen", "ffhq")
SUFFIXES = (".safetensors", ".pth", ".pt", ".onnx")

CHUNK_BYTES = 1 << 16  # at most this much of a cut download is fetched again
CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 60.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One entry of the manifest.

    name: what a person types. file: the name on disk. licence: SPDX or words; non_commercial: it forbids
    commercial use. kind: one of KINDS. layout: for a restorer one of LAYOUTS (gpen = as published), else the
    network's name. template: the alignment a restorer wants, one of TEMPLATES; "" for other kinds.
    size_px: side of the square input, 0 where it means nothing. advice: when to take it, one sentence.
    landmarks: for a detector the entry whose network refines its landmarks; "" for none.
    urls: mirrors, tried in order. sha256 (lower-case hex) and bytes: "" and 0 where unknown, and then `pull`
    refuses. page: where a person finds the file by hand. shipped: it lies in `bundled_dir()` already.

    Raises OptionError when the fields do not fit together.
    """

    name: str
    file: str
    licence: str
    non_commercial: bool
    kind: str
    layout: str
    advice: str
    urls: tuple[str, ...] = ()
    sha256: str = ""
    bytes: int = 0
    page: str = ""
    template: str = ""
    size_px: int = 0
    landmarks: str = ""
    shipped: bool = False

    def __post_init__(self) -> None:
        restorer = self.kind == "restorer"
        for wrong, why in (
            (not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", self.name), "name must be letters, digits and . _ + -"),
            (not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", self.file), "file must be a plain file name"),
            (Path(self.file).suffix not in SUFFIXES, f"file must end in one of {', '.join(SUFFIXES)}"),
            (not self.licence, "licence is empty"),
            (not self.advice, "advice is empty"),
            (self.kind not in KINDS, f"kind must be one of {', '.join(KINDS)}"),
            (not self.layout, "layout is empty"),
            (restorer and self.layout not in LAYOUTS, f"layout must be one of {', '.join(LAYOUTS)}"),
            (restorer and self.template not in TEMPLATES, f"template must be one of {', '.join(TEMPLATES)}"),
            (not restorer and self.template, "template is for restorers only"),
            (self.kind != "detector" and self.landmarks, "landmarks is for detectors only"),
            (not re.fullmatch(r"([0-9a-f]{64})?", self.sha256), "sha256 must be 64 lower-case hex digits"),
            (self.bytes < 0 or self.size_px < 0, "bytes and size_px must be positive"),
            (bool(self.sha256) != bool(self.bytes), "sha256 and bytes go together"),
            (not all(re.match(r"https?://.", url) for url in self.urls), "urls must be http or https"),
            ((self.urls or self.shipped) and not self.sha256, "urls and shipped files need a sha256"),
            (self.shipped and self.urls, "a shipped file has no urls"),
            (not (self.shipped or self.urls or self.page), "needs urls, a page, or shipped = true"),
        ):
            if wrong:
                raise OptionError(f"weights entry {self.name!r}: {why}")


def bundled_dir() -> Path:
    """The folder that ships: weights/ of a checkout, gpenvideo/_weights of an installed wheel."""
    installed = Path(__file__).resolve().parent / "_weights"
    return installed if installed.is_dir() else installed.parents[1] / "weights"


def cache_dir() -> Path:
    """The folder of downloads: weights/ in $GPENVIDEO_CACHE, else in the user's cache folder."""
    if chosen := os.environ.get("GPENVIDEO_CACHE"):
        return Path(chosen).expanduser() / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("gpenvideo", appauthor=False) / "weights"


def read_manifest(path: str | PathLike[str] | None = None) -> dict[str, Weights]:
    """The entries of a manifest by name, in the file's order; without a path, of the one that ships.

    Raises FileMissing or FileError when it cannot be read, OptionError when it is malformed.
    """
    path = bundled_dir() / "manifest.toml" if path is None else Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise file_error(error, path, "read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"not a TOML file: {error}", path=path) from error
    tables = document.get("weights")
    if document.keys() != {"weights"} or not isinstance(tables, list):
        raise OptionError("a weights manifest has [[weights]] tables and nothing else", path=path)
    entries: dict[str, Weights] = {}
    for number, table in enumerate(tables, start=1):
        try:
            entry = _entry(table)
        except OptionError as error:
            raise OptionError(f"table {number}: {error.message}", path=path) from error
        if entry.name in entries or entry.file in {other.file for other in entries.values()}:
            raise OptionError(f"table {number}: {entry.name!r} or its file is listed twice", path=path)
        entries[entry.name] = entry
    return entries


def find(name_or_path: str | PathLike[str]) -> Path:
    """The file of a network: a path that exists, else a name in `bundled_dir()`, then in `cache_dir()`.

    A name is one of the manifest or of any file in the two folders, with or without its extension; without
    one, the manifest's own file comes first, then the extensions in the order of SUFFIXES.
    Raises FileMissing with the names that are known, FileError for a folder. Nothing is downloaded or
    verified.
    """
    name = os.fspath(name_or_path)
    if os.path.isfile(name):
        return Path(name)
    if os.path.isdir(name):
        raise FileError("it is a folder; name a weights file", path=name)
    known = read_manifest()
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    stem = name.removesuffix(suffix)
    entry = known.get(stem)
    candidates = [stem + ending for ending in ([suffix] if suffix else SUFFIXES)]
    if entry is not None and entry.file.endswith(suffix):
        candidates.insert(0, entry.file)
    if os.path.basename(name) == name:
        for folder in (bundled_dir(), cache_dir()):
            for candidate in candidates:
                if os.path.isfile(folder / candidate):
                    return folder / candidate
    wanted = "NAME" if entry is None else entry.name
    raise FileMissing(
        f"no such weights file or name; run `gpenvideo weights pull {wanted}` "
        f"(known names: {', '.join(known)})",
        path=name,
    )


def located(entry: Weights) -> Path | None:
    """Where the entry's file lies on this machine (`bundled_dir()` before `cache_dir()`), or None."""
    paths = (folder / entry.file for folder in (bundled_dir(), cache_dir()))
    return next((path for path in paths if os.path.isfile(path)), None)


def sha256(path: str | PathLike[str]) -> str:
    """The SHA-256 of a file's content, 64 lower-case hex digits. Raises FileMissing or FileError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise file_error(error, path, "read") from error


def verify(path: str | PathLike[str], entry: Weights) -> None:
    """Raise DownloadError unless the file is, byte for byte, the one the manifest describes.

    Raises FileMissing or FileError when it cannot be read.
    """
    if not entry.sha256:
        raise DownloadError(f"{entry.name} has no published checksum to verify it against", path=path)
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise file_error(error, path, "read") from error
    if size != entry.bytes:
        found = f"it has {size} bytes, expected {entry.bytes}"
    elif (actual := sha256(path)) != entry.sha256:
        found = f"its sha256 is {actual}, expected {entry.sha256}"
    else:
        return
    cure = (
        "reinstall gpenvideo" if entry.shipped else f"delete it and run `gpenvideo weights pull {entry.name}`"
    )
    raise DownloadError(f"not the manifest's {entry.name}: {found}; {cure}", path=path)


def pull(
    entry: Weights,
    *,
    folder: str | PathLike[str] | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The entry's file, verified; downloaded into `folder` (default `cache_dir()`) unless it is there.

    The download goes to NAME.part, which a later call resumes. A file of the right size with a wrong hash is
    kept as NAME.bad. `progress(done_bytes, total_bytes)` is called after each chunk.
    Raises DownloadError when every mirror failed (the message says how), offline, for an entry without a
    checksum, and when a file that is there already does not match; FileError when the folder cannot be
    written; FileMissing when a shipped file is gone.
    """
    target = (cache_dir() if folder is None else Path(folder)) / entry.file
    if folder is None or entry.shipped:
        present = located(entry)
    else:
        present = target if os.path.isfile(target) else None
    if present is not None:
        if entry.sha256:
            verify(present, entry)
        return present
    if entry.shipped:
        raise FileMissing(
            "it ships with gpenvideo and is gone: reinstall gpenvideo", path=bundled_dir() / entry.file
        )
    if not entry.urls:
        raise DownloadError(
            f"{entry.name} has no verified download: fetch it yourself from {entry.page}, then pass the path "
            f"of the file or save it as {target}"
        )
    if offline:
        raise DownloadError(
            f"{entry.name} is not on this machine, and offline forbids its download: pull it online first"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, target.parent, "write") from error
    _download(entry, target, progress)
    return target


def _entry(table: object) -> Weights:
    """One table of the manifest as Weights; OptionError names the key that is wrong."""
    if not isinstance(table, Mapping):
        raise OptionError("not a table")
    types = get_type_hints(Weights)
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    if unknown := values.keys() - types.keys():
        raise OptionError(f"unknown key {min(unknown)!r}")
    required = {field.name for field in fields(Weights) if field.default is MISSING}
    if missing := required - values.keys():
        raise OptionError(f"the key {min(missing)!r} is missing")
    for key, value in values.items():
        if key == "urls":
            fits = isinstance(value, tuple) and all(isinstance(url, str) for url in value)
        else:
            fits = type(value) is types[key]  # not isinstance: to Python, true is also an integer
        if not fits:
            raise OptionError(f"the value of {key!r} has the wrong type")
    return Weights(**values)


def _download(entry: Weights, target: Path, progress: Progress | None) -> None:
    """Fetch `target` from the first mirror that delivers; DownloadError says what each one did."""
    import requests

    part = target.with_name(target.name + ".part")
    said = []
    with requests.Session() as session:
        for url in entry.urls:
            try:
                _fetch(session, url, part, entry, progress)
            except (DownloadError, requests.RequestException) as error:
                said.append(f"{url}: {_reason(error)}")
                continue
            _rename(part, target)
            return
    raise DownloadError(
        f"{entry.name} could not be downloaded: {'; '.join(said)}. Try again, or save it as {target}"
    )


def _fetch(session: Session, url: str, part: Path, entry: Weights, progress: Progress | None) -> None:
    """Leave the verified file in `part`, with one more try after a cut or a resume that went wrong."""
    for last in (False, True):
        resumed = part.is_file()
        cut = _receive(session, url, part, entry.bytes, progress)
        if cut is None:
            actual = sha256(part)
            if actual == entry.sha256:
                return
            if resumed and not last:
                part.unlink()  # the beginning may be another mirror's wrong file: once more from nothing
                continue
            bad = part.with_suffix(".bad")
            _rename(part, bad)
            raise DownloadError(
                f"wrong content: sha256 {actual}, expected {entry.sha256} (kept as {bad.name})"
            )
        if last:
            raise DownloadError(cut)


def _receive(
    session: Session, url: str, part: Path, total_bytes: int, progress: Progress | None
) -> str | None:
    """Bring `part` to `total_bytes` with one request; None when it is whole, else what went wrong on the way.

    A mirror that is not worth a second try raises DownloadError or requests.RequestException.
    """
    import requests

    done = part.stat().st_size if part.is_file() else 0
    if done == total_bytes:
        return None
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if done and response.status_code in (206, 416) and not continues:
            part.unlink()
            return "it cannot resume where the last download stopped"
        response.raise_for_status()
        if response.status_code != 206:
            done = 0
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and done + int(length) != total_bytes:
            raise DownloadError(f"wrong file: {done + int(length)} bytes, expected {total_bytes}")
        try:
            with part.open("ab" if done else "wb") as file:
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    if done > total_bytes:
                        raise DownloadError(f"wrong file: more than the {total_bytes} bytes expected")
                    if progress is not None:
                        progress(done, total_bytes)
        except DownloadError:
            raise
        except requests.RequestException:
            return f"the connection was cut after {done} of {total_bytes} bytes"
        except OSError as error:
            raise file_error(error, part, "write") from error
    return None if done == total_bytes else f"it ended after {done} of {total_bytes} bytes"


def _reason(error: Exception) -> str:
    """What a mirror did wrong, in a few words: requests' own messages are paragraphs."""
    import requests

    match error:
        case DownloadError():
            return error.message
        case requests.HTTPError(response=response) if response is not None:
            return f"HTTP {response.status_code} {response.reason}".rstrip()
        case requests.Timeout():
            return "no answer in time"
        case requests.exceptions.SSLError():
            return "no secure connection"
        case requests.ConnectionError():
            return "no connection"
    return " ".join(str(error).split())


def _rename(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        raise file_error(error, target, "write") from error
