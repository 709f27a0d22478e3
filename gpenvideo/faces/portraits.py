"""Portraits: pictures of one face each, as faces.csv or an FFHQ tree lists them, and reading one of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gpenvideo.errors import FileMissing, MediaError, OptionError, file_error

__all__ = ["Portrait", "read_picture", "read_portraits", "read_table"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
POINTS = ("eye_l", "eye_r", "nose", "mouth_l", "mouth_r")


@dataclass(frozen=True, slots=True)
class Portrait:
    """One picture of one face: a row of faces.csv, or a file of an FFHQ tree.

    file        relative to the folder
    identity    the person; the file's own name where nothing says it
    source      the collection it belongs to; the top folder where nothing says it
    side_px     side of the FFHQ crop in the picture's pixels
    landmarks   ((x, y), ...) five points in the order of `gpenvideo.face.LANDMARKS`, px; None: the picture is
                an FFHQ crop itself
    """

    file: str
    identity: str
    source: str
    side_px: float
    landmarks: tuple[tuple[float, float], ...] | None


def read_portraits(
    folder: str | os.PathLike[str],
    *,
    exclude_sources: Sequence[str] = (),
    only_sources: Sequence[str] = (),
    min_side_px: float = 0,
) -> list[Portrait]:
    """The pictures of a folder that are wanted, in the order of faces.csv, else sorted by name.

    folder           holds faces.csv (columns file, identity, source, ffhq_side_px and eye_l_x ... mouth_r_y),
                     or is a tree of square pictures that are FFHQ crops
    exclude_sources  patterns ("london_*"); a picture whose source fits one is left out
    only_sources     patterns; when there are any, a source must fit one
    min_side_px      leaves out faces that are smaller

    Raises FileMissing for a missing folder, MediaError for a csv or picture that cannot be used, OptionError
    when a pattern fits no source (a slip there would train on what was held out) or nothing is left.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileMissing("there is no such folder of faces", path=root)
    table = root / "faces.csv"
    portraits = read_table(table) if table.is_file() else _read_tree(root)
    sources = {one.source for one in portraits}
    for pattern in (*exclude_sources, *only_sources):
        if not any(fnmatchcase(source, pattern) for source in sources):
            raise OptionError(
                f"no source fits {pattern!r}; there are {', '.join(sorted(sources)) or 'none'}", path=root
            )

    def wanted(one: Portrait) -> bool:
        excluded = any(fnmatchcase(one.source, pattern) for pattern in exclude_sources)
        included = not only_sources or any(fnmatchcase(one.source, pattern) for pattern in only_sources)
        return included and not excluded and one.side_px >= min_side_px

    chosen = [one for one in portraits if wanted(one)]
    if not chosen:
        raise OptionError("no picture is left: the folder is empty or the options leave all out", path=root)
    return chosen


def read_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) uint8 RGB, as stored (no rotation by metadata): landmarks refer to that.

    Raises FileMissing or FileError when it cannot be read, MediaError when it is no picture or damaged.
    """
    with _opened(Path(path)) as image:
        try:
            return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise MediaError(f"the picture is damaged: {error}", path=path) from error


def read_table(table: Path) -> list[Portrait]:
    """The rows of a faces.csv; its files are relative to the folder it lies in.

    Raises FileMissing or FileError when it cannot be read, MediaError when a column or a number is missing.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise file_error(error, table, "read") from error
    columns = [(f"{point}_x", f"{point}_y") for point in POINTS]
    try:
        return [
            Portrait(
                file=row["file"],
                identity=row["identity"],
                source=row["source"],
                side_px=float(row["ffhq_side_px"]),
                landmarks=tuple((float(row[x]), float(row[y])) for x, y in columns),
            )
            for row in rows
        ]
    except KeyError as error:
        raise MediaError(f"it has no column {error}; add it", path=table) from error
    except (TypeError, ValueError) as error:
        raise MediaError(f"a row of it cannot be read: {error}", path=table) from error


def _read_tree(root: Path) -> list[Portrait]:
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    portraits = []
    for path in found:
        with _opened(path) as image:
            width, height = image.size
        if width != height:
            raise MediaError(
                f"it is {width}x{height}; without a faces.csv, pictures are square FFHQ crops", path=path
            )
        name = path.relative_to(root)
        source = name.parts[0] if len(name.parts) > 1 else ""
        portraits.append(Portrait(name.as_posix(), path.stem, source, float(width), None))
    return portraits


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        raise MediaError("it is not a picture that can be read", path=path) from error
    except OSError as error:
        raise file_error(error, path, "read") from error
