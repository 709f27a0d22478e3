"""Storage: places that are paths or URLs (s3://, gs://, ...) alike.

A place is a string. One with a scheme is a URL, which fsspec opens; file:// is a path by another name.
Nothing is decoded or encoded over a network: what lies behind a URL is fetched to this machine, and what was
made here is put to its place when it is whole, then read back and compared by its hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any

from gpenvideo.errors import DependencyError, FileError, GpenvideoError, OptionError, file_error
from gpenvideo.place import beside
from gpenvideo.video.disk import put_in_place

__all__ = [
    "as_place",
    "digest",
    "exists",
    "fetch",
    "find",
    "inside",
    "is_url",
    "name_of",
    "put",
    "remove",
    "stamp",
    "told",
]

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # two letters at least: C:/ is a path
WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}  # to make one would make a bucket
PACKAGES = {"s3": "gpenvideo[s3]", "s3a": "gpenvideo[s3]", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


def as_place(place: str | PathLike[str]) -> str:
    """A path or a URL as it is used here: file:// is the path in it, as it stands (as fsspec has it)."""
    place = fspath(place)
    if not place.lower().startswith("file://"):
        return place
    path = place[len("file://") :]
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path


def is_url(place: str | PathLike[str]) -> bool:
    """Whether a place has a scheme that is not file://."""
    return SCHEME.match(as_place(place)) is not None


def name_of(place: str) -> str:
    """The last part of a place."""
    return place.rstrip("/").rpartition("/")[2] if is_url(place) else Path(place).name


def inside(folder: str, *names: str) -> str:
    """A place below another."""
    return "/".join([folder.rstrip("/"), *names]) if is_url(folder) else str(Path(as_place(folder), *names))


def exists(place: str) -> bool:
    """Whether a file or a folder is there.

    Raises:
        FileError: it cannot be told. OptionError, DependencyError: a URL that nothing here can open.
    """
    with told(place, "read"):
        if not is_url(place):
            return Path(as_place(place)).exists()
        files, path = _opened(place)
        return bool(files.exists(path))


def find(place: str) -> list[str]:
    """The files of a URL, sorted: itself, or all below a folder, or what a pattern of * and ? meets.

    Raises:
        FileMissing: there is none. FileError: it cannot be read. OptionError, DependencyError: see `exists`.
    """
    with told(place, "read"):
        files, path = _opened(place)
        scheme = place[: place.index("://") + 3]
        if files.isfile(path):
            return [place]
        found = files.find(path) or files.glob(path)
        found = [name for name in found if files.isfile(name)]
        if not found:
            raise FileNotFoundError(place)
        return [scheme + name.removeprefix(scheme) for name in sorted(found)]


def stamp(place: str) -> str:
    """What changes when a file does: its size and time, or what its store says of it. It reads no content.

    Raises:
        FileMissing, FileError, OptionError, DependencyError: see `find`.
    """
    with told(place, "read"):
        if is_url(place):
            files, path = _opened(place)
            return str(files.ukey(path))
        facts = os.stat(as_place(place))
        return f"{facts.st_size}-{facts.st_mtime_ns}"


def digest(place: str) -> str:
    """SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        FileMissing, FileError, OptionError, DependencyError: see `find`.
    """
    with told(place, "read"), _reading(place) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def fetch(place: str, folder: Path) -> Path:
    """A file of this machine with the content of a place: the place itself, or a copy in `folder`.

    Raises:
        FileMissing, FileError, OptionError, DependencyError: see `find`; nothing half fetched has the name.
    """
    if not is_url(place):
        return Path(as_place(place))
    file = folder / name_of(place)
    part = beside(file)
    try:
        with told(place, "read"):
            files, path = _opened(place)
            files.get_file(path, str(part))
            if part.stat().st_size != files.size(path):
                raise FileError("it came short: try again", path=place)
            part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def put(file: Path, place: str) -> str:
    """Bring a file that is whole to its place, in the place of what is there; the folder of a path is there.

    Returns:
        The SHA-256 of what lies there now, read back, which is the file's.

    Raises:
        FileError: it cannot be written, or what lies there is not what was sent.
        OptionError, DependencyError: see `find`.
    """
    sent = digest(str(file))
    with told(place, "write"):
        if is_url(place):
            _upload(file, place)
        else:
            _copy(file, Path(as_place(place)))
    if digest(place) != sent:
        raise FileError("it was damaged on its way there: try again", path=place)
    return sent


def remove(place: str) -> None:
    """Remove a file, or a folder and all in it, if it is there.

    Raises:
        FileError: it cannot be removed. OptionError, DependencyError: see `find`.
    """
    with told(place, "remove"):
        if is_url(place):
            files, path = _opened(place)
            for name in files.find(path):  # rm would take names for patterns
                files.rm_file(name)
        elif Path(as_place(place)).is_dir():
            shutil.rmtree(as_place(place))
        else:
            Path(as_place(place)).unlink(missing_ok=True)


def _upload(file: Path, place: str) -> None:
    files, path = _opened(place)
    if place[: place.index("://")].lower() not in WITHOUT_FOLDERS:
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
    files.put_file(str(file), path)


def _copy(file: Path, path: Path) -> None:
    part = beside(path)
    try:
        shutil.copyfile(file, part)
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _reading(place: str) -> Iterator[IO[bytes]]:
    if not is_url(place):
        with open(as_place(place), "rb") as file:
            yield file
        return
    files, path = _opened(place)
    with files.open(path, "rb", cache_type="readahead") as file:
        yield file


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, no listing remembered, for others write there too; and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise DependencyError("URLs take fsspec: pip install 'gpenvideo[cluster]'", path=url) from None
    scheme = url[: url.index("://")].lower()
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        how = f"pip install '{package}'" if package else str(error)
        raise DependencyError(
            f"{scheme}:// takes a package that is not installed: {how}", path=url
        ) from error
    except ValueError as error:
        raise OptionError(f"there is no {scheme}://: give a path, or a URL like s3://", path=url) from error
    files.invalidate_cache()
    return files, path


@contextmanager
def told(place: str, doing: str) -> Iterator[None]:
    """Whatever goes wrong while `doing` ("read", "write") something to a place, as one line of ours."""
    try:
        yield
    except GpenvideoError:
        raise
    except OSError as error:
        raise file_error(error, place, doing) from error
    except Exception as error:  # each store has errors of its own: no credentials, no network, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"cannot {doing} it: {reason}", path=place) from error
