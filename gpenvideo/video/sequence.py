"""Image sequences as a source: a folder of pictures, or a printf pattern such as shot_%04d.png."""

from __future__ import annotations

import contextlib
import itertools
import re
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import av

from gpenvideo.errors import FileMissing, MediaError, file_error

__all__ = ["SUFFIXES", "Still", "decode_still", "find_pictures", "is_sequence", "missing_numbers"]

SUFFIXES = (
    *(".dpx", ".tif", ".tiff", ".png", ".exr", ".jpg", ".jpeg", ".bmp", ".webp"),
    *(".jp2", ".j2k", ".ppm", ".pgm", ".pnm", ".tga", ".sgi", ".cin", ".hdr"),
)
PATTERN = re.compile(r"%0?(\d*)d")


class Still(NamedTuple):
    """One picture of a sequence."""

    number: int
    """As its name says, or its place in the folder where names hold no numbers."""

    path: Path


def is_sequence(path: str | PathLike[str]) -> bool:
    """Whether a path names many pictures: a folder, or a pattern that is no file itself."""
    path = Path(path)
    return path.is_dir() or (PATTERN.search(path.name) is not None and not path.exists())


def find_pictures(path: str | PathLike[str]) -> list[Still]:
    """The pictures of a folder or of a pattern, in the order of their numbers.

    A folder's pictures are those of its commonest suffix; files that begin with a dot do not count.

    Raises FileMissing, FileError when it cannot be read, MediaError when there is no picture.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise file_error(error, folder, "read") from error
    found = _of_folder(folder, names) if path.is_dir() else _of_pattern(path, names)
    if not found and path.is_dir():
        raise MediaError(f"the folder holds no pictures ({', '.join(SUFFIXES[:6])}, ...)", path=path)
    if not found:
        raise FileMissing("no file matches the pattern", path=path)
    return found


def _of_pattern(path: Path, names: list[str]) -> list[Still]:
    before, digits, after = PATTERN.split(path.name, maxsplit=1)
    width = rf"\d{{{digits},}}" if digits else r"\d+"
    matcher = re.compile(f"{re.escape(before)}({width}){re.escape(after)}", re.ASCII)
    found = [
        Still(int(match[1]), path.parent / name)
        for name in names
        if (match := matcher.fullmatch(name)) and len(match[1]) <= max(12, int(digits or 0))
    ]
    return sorted(found)


def _of_folder(folder: Path, names: list[str]) -> list[Still]:
    suffixes = [Path(name).suffix.lower() for name in names]
    counts = {suffix: suffixes.count(suffix) for suffix in SUFFIXES}
    suffix = max(counts, key=lambda s: counts[s])
    chosen = [name for name in names if name.lower().endswith(suffix)]
    parts = [re.fullmatch(r"(.*?)(\d{1,12})", Path(name).stem, re.ASCII | re.DOTALL) for name in chosen]
    heads = {part[1] if part else None for part in parts}
    numbers = [int(part[2]) for part in parts if part]
    if None not in heads and len(heads) == 1 and len(set(numbers)) == len(chosen):
        return sorted(Still(number, folder / name) for number, name in zip(numbers, chosen, strict=True))

    def natural(name: str) -> list[tuple[bool, int, str]]:
        return [(part.isdigit(), int(part or 0) if part.isdigit() else 0, part)
                for part in re.split(r"([0-9]+)", name)]  # fmt: skip

    return [Still(place, folder / name) for place, name in enumerate(sorted(chosen, key=natural))]


def missing_numbers(pictures: list[Still]) -> list[range]:
    """The gaps in the numbering, as half-open ranges."""
    numbers = [picture.number for picture in pictures]
    return [range(a + 1, b) for a, b in itertools.pairwise(numbers) if b > a + 1]


def decode_still(path: Path) -> tuple[Any, str]:
    """The av.VideoFrame of one picture file and its codec's name.

    Raises FileError when it cannot be read, MediaError when it is no picture or a damaged one.
    """
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise file_error(error, path, "read") from error
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")
        with contextlib.closing(container):
            for stream in container.streams.video[:1]:
                context: Any = stream.codec_context
                for packet in container.demux(stream) if context is not None else ():
                    for picture in context.decode(packet if packet.size else None):
                        return picture, str(context.name)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError("it is no picture, or a damaged one", path=path) from error
    raise MediaError("it is no picture, or a damaged one", path=path)
