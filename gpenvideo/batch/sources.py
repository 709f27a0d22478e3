"""Sources: the files that folders, patterns and lists stand for, and where the result of each goes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpenvideo.batch.storage import find, inside, is_url, name_of, stamp
from gpenvideo.errors import FileMissing, GpenvideoError, OptionError, file_error
from gpenvideo.video.options import Decoding

__all__ = ["JOURNAL", "SUFFIXES", "Found", "find_sources", "is_changed", "is_whole", "stamp_of"]

SUFFIXES = {
    *(".mkv", ".mp4", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts"),
    *(".mxf", ".nut", ".flv", ".f4v", ".wmv", ".asf", ".vob", ".ogv", ".ogm", ".dv", ".3gp", ".3g2", ".y4m"),
    *(".264", ".h264", ".265", ".h265", ".hevc", ".divx", ".rm", ".rmvb", ".gif", ".qt"),
}
"""Of the files of a folder that are taken for videos; a file that is named is taken whatever its name is."""

JOURNAL = ".gpenvideo"
"""The folder in that of the results where segments lie until they are joined."""

PATTERN = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Found:
    """A source, and its place in the tree of results."""

    source: str
    """A path or a URL."""

    base: str
    """The folder whose tree is mirrored; settings are looked for from there down."""

    relative: str
    """Of the result, below the folder that results go to."""

    @property
    def id(self) -> str:
        """Of its job: the same for the same result."""
        return hashlib.sha256(self.relative.encode("utf-8", "surrogateescape")).hexdigest()[:10]


def find_sources(
    given: Sequence[str], output: str, *, recursive: bool = False, suffix: str | None = None
) -> list[Found]:
    """The videos that are meant, in the order they are given, each once.

    Args:
        given: files; folders, whose videos (see `SUFFIXES`) are taken; patterns of `*`, `?`, `[...]`, `**`;
            URLs; "@list", a file of such names from its folder on, one a line or with NUL after each. What
            lies below a list's folder keeps its place there.
        output: the folder or URL that results go to. What lies in it is no source.
        recursive: folders in folders as well.
        suffix: of all results (".mkv"); None keeps each source's.

    Raises:
        FileMissing, FileError: a folder or a list that cannot be read, a pattern that nothing matches. A file
            that is not there is a source like others: it fails when it is read.
        OptionError: two sources with one place for their results, a result in the place of its source.
    """
    taken: dict[str, Found] = {}
    for name, home in _listed(given):
        for source, base, relative in _meant(name, output, recursive):
            if home is not None and home in Path(source).parents:
                base, relative = str(home), str(Path(source).relative_to(home))
            place = relative if suffix is None else os.path.splitext(relative)[0] + suffix
            found = Found(source, base, place)
            other = taken.setdefault(place, found)
            if other.source != source:
                raise OptionError(
                    f"{other.source!r} and {source!r} would both become {inside(output, place)!r}: "
                    "give the folder that both are in with --recursive, or a list that lies in it"
                )
            if not is_url(source) and not is_url(output) and _same(source, inside(output, place)):
                raise OptionError("its result would replace it: choose another --out", path=source)
    return list(taken.values())


def _listed(given: Iterable[str]) -> Iterator[tuple[str, Path | None]]:
    """The names, lists opened, and the folder of the list that each was in.

    Paths are absolute, for workers and later runs begin elsewhere.
    """
    for name in given:
        if not name.startswith("@") or os.path.exists(name):
            yield _absolute(name), None
            continue
        path = Path(os.path.abspath(name[1:]))
        try:
            data = path.read_bytes()
        except OSError as error:
            raise file_error(error, path, "read") from error
        end = b"\0" if b"\0" in data else b"\n"
        for line in data.removeprefix(b"\xef\xbb\xbf").split(end):
            entry = os.fsdecode(line.removesuffix(b"\r") if end == b"\n" else line)
            if entry and not (entry.startswith("#") and not (path.parent / entry).exists()):
                yield _absolute(entry if is_url(entry) else path.parent / entry), path.parent


def _absolute(name: str | Path) -> str:
    return str(name) if is_url(name) else os.path.abspath(name)


def _meant(name: str, output: str, recursive: bool) -> Iterator[tuple[str, str, str]]:
    """(source, base, path below the base) of what one name means."""
    if is_url(name):
        head = re.split(PATTERN, name)[0]
        base = name if name.endswith("/") or head == name else head.rpartition("/")[0]
        urls = find(name)
        if urls == [name]:
            yield name, name.rpartition("/")[0], name_of(name)
            return
        for url in urls:
            relative = url.removeprefix(base).lstrip("/")
            if _is_video(relative) and (recursive or "/" not in relative or head != name):
                yield url, base, relative
        return
    path = Path(name)
    if path.is_dir() and path.suffix.lower() not in SUFFIXES:
        for file in _videos(path, output, recursive):
            yield str(file), str(path), str(file.relative_to(path))
    elif PATTERN.search(name) and not os.path.lexists(name):
        yield from _matching(path, output)
    else:
        yield str(path), str(path.parent), path.name


def _videos(folder: Path, output: str, recursive: bool) -> Iterator[Path]:
    """The videos of a folder by name; those of folders in it after them."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise file_error(error, folder, "read") from error
    yield from (folder / name for name in names if _is_video(name))  # folders so called too: they will tell
    for name in names if recursive else ():
        inner = folder / name
        if _is_video(name) or not inner.is_dir() or inner.is_symlink() or _same(str(inner), output):
            continue
        if os.access(inner, os.R_OK | os.X_OK):
            yield from _videos(inner, output, recursive)
        else:
            yield inner  # fails as a file does


def _matching(pattern: Path, output: str) -> Iterator[tuple[str, str, str]]:
    parts = pattern.parts
    first = next(place for place, part in enumerate(parts) if PATTERN.search(part))
    base = Path(*parts[:first])
    met = False
    for file in sorted(base.glob(str(Path(*parts[first:])))):
        hidden = any(part.startswith(".") for part in file.relative_to(base).parts)
        if hidden or not file.is_file() or _is_below(file, output):
            continue
        met = True
        yield str(file), str(base), str(file.relative_to(base))
    if not met:
        raise FileMissing("no file matches the pattern", path=pattern)


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_below(file: Path, output: str) -> bool:
    return not is_url(output) and Path(output).resolve() in file.resolve().parents


def _same(one: str, other: str) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
    except OSError:
        return False


def stamp_of(source: str) -> str | None:
    """What is another whenever a file is: its size, times and place on the disk; None where it is not there.

    No program can set all of them, so that a file of the same stamp need not be hashed again.
    """
    if is_url(source):
        with suppress(GpenvideoError):
            return stamp(source)
        return None
    try:
        told = os.stat(source)
    except OSError:
        return None
    return f"{told.st_size}-{told.st_mtime_ns} {told.st_ctime_ns}-{told.st_ino}"


def is_changed(before: str | None, after: str | None) -> bool:
    """Whether two stamps are of other contents for certain: to copy or to move a file changes stamps too."""
    return (before or "").partition(" ")[0] != (after or "").partition(" ")[0]


def is_whole(source: str) -> bool:
    """Whether a file opens as a video: one that is being copied or recorded often does not yet."""
    try:
        Decoding(deinterlace="off").open(source).close()
    except GpenvideoError:
        return False
    return True
