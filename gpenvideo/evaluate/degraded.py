"""Degraded sets: good pictures made bad, each by a draw of its own.

What happens to a picture is a function of (seed, name, preset, colour) and its pixels: of nothing else, so
neither the other pictures of a set, their order nor the number of workers change a byte.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.degradation import Degradation, Film, Preset, degrade, draw
from gpenvideo.errors import FileMissing, GpenvideoError, OptionError, file_error
from gpenvideo.evaluate.pictures import find_pictures, in_order
from gpenvideo.picture import Picture, as_uint8, check_suffix, read_picture, write_picture

__all__ = ["PARAMETERS", "Decay", "Task", "as_cell", "check_size", "degrade_files", "plan", "resized"]

Pixels = NDArray[np.uint8]

DEGRADATION_FIELDS = tuple(field.name for field in fields(Degradation) if field.name != "film")
FILM_FIELDS = tuple(field.name for field in fields(Film))
PARAMETERS = (*DEGRADATION_FIELDS, *(f"film_{name}" for name in FILM_FIELDS))
"""The columns that say what was done to a picture."""

LEAST_SIDE_PX = 16


@dataclass(frozen=True, slots=True)
class Decay:
    """How good pictures are made bad.

    seed     of everything random
    preset   see `gpenvideo.degradation.draw`
    colour   False leaves out what changes the tone: gamma and contrast, the film's flicker

    Raises OptionError for a negative seed or an unknown preset.
    """

    seed: int
    preset: Preset = "base"
    colour: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise OptionError(f"a seed is 0 or more, got {self.seed}")
        draw(np.random.default_rng(0), self.preset)

    def __call__(self, picture: Pixels, name: str) -> tuple[Pixels, dict[str, object]]:
        """The degraded picture and its `PARAMETERS`; those of operations that are off are None.

        picture   (H, W, 3) uint8 RGB; not changed
        name      see `gpenvideo.evaluate.pictures`
        """
        words = np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4")
        rng = np.random.default_rng([self.seed, *words.tolist()])
        drawn = draw(rng, self.preset, colour=self.colour)
        values: dict[str, object] = {field: getattr(drawn, field) for field in DEGRADATION_FIELDS}
        values |= {f"film_{field}": getattr(drawn.film, field, None) for field in FILM_FIELDS}
        return degrade(picture, drawn, rng), values


@dataclass(frozen=True, slots=True)
class Task:
    """One picture of a set that is to be made: its name, its file, and where the bad one goes."""

    name: str
    source: Path
    target: Path


def plan(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> tuple[list[Task], Path]:
    """What `degrade_files` is to do, and where its table goes.

    A picture becomes the file `output` (with its table beside it) or, where that is a folder, a PNG in it; a
    folder becomes a tree of PNGs of the same names in the folder `output`, with degradation.csv.

    Raises FileMissing, OptionError; so when a source would be replaced or `output` lies among the sources.
    """
    source, output = Path(source), Path(output)
    if source.is_dir():
        if output.is_file():
            raise OptionError("it is a file; name a folder for the degraded pictures", path=output)
        if output.resolve().is_relative_to(source.resolve()):
            raise OptionError("it lies among the sources; name a folder outside of them", path=output)
        tasks = [Task(name, path, output / f"{name}.png") for name, path in find_pictures(source).items()]
        table = output / "degradation.csv"
    elif source.is_file():
        target = output / f"{source.stem}.png" if output.is_dir() else output
        check_suffix(target)
        tasks, table = [Task(source.stem, source, target)], target.with_suffix(".csv")
    else:
        raise FileMissing("no such file or folder", path=source)
    sources = {task.source.resolve() for task in tasks}
    for task in tasks:
        if task.target.resolve() in sources:
            raise OptionError("it would replace a source; name another place", path=task.target)
    return tasks, table


def degrade_files(
    tasks: Sequence[Task], table: Path, decay: Decay, *, size_px: int | None = None, workers: int = 1
) -> Iterator[GpenvideoError | None]:
    """Degrade each picture and write the table of what was drawn; yields once a picture: None, or its error.

    tasks, table   from `plan`
    size_px        longer side that the pictures are brought to first
    workers        threads

    Raises OptionError for a size that cannot be used, FileError when the table cannot be written.
    """
    if size_px is not None:
        check_size(size_px)

    def work(task: Task) -> dict[str, object] | GpenvideoError:
        try:
            picture = read_picture(task.source)
            good = as_uint8(picture.rgb)
            bad, values = decay(good if size_px is None else resized(good, size_px), task.name)
            try:
                task.target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise file_error(error, task.target.parent, "write") from error
            write_picture(Picture(bad, icc_profile=picture.icc_profile), task.target)
        except GpenvideoError as error:
            return error
        return {"name": task.name, "preset": decay.preset, "seed": decay.seed} | values

    rows: list[dict[str, object]] = []
    for done in in_order(work, tasks, workers):
        if isinstance(done, dict):
            rows.append(done)
        yield done if isinstance(done, GpenvideoError) else None
    try:
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("name", "preset", "seed", *PARAMETERS))
            writer.writeheader()
            writer.writerows({key: as_cell(value) for key, value in row.items()} for row in rows)
    except OSError as error:
        raise file_error(error, table, "write") from error


def as_cell(value: object) -> object:
    """A parameter as a CSV has it: six digits, nothing for None, spaces between the parts of a vector."""
    if isinstance(value, tuple):
        return " ".join(str(as_cell(part)) for part in value)
    return f"{value:.6g}" if isinstance(value, float) else value


def check_size(size_px: int) -> None:
    """OptionError for a side that nothing can be measured on."""
    if size_px < LEAST_SIDE_PX:
        raise OptionError(f"a picture is {LEAST_SIDE_PX} px wide or more, got {size_px}")


def resized(picture: Pixels, size_px: int) -> Pixels:
    """(H, W, 3) uint8 with the longer side brought to `size_px`: by areas to shrink, cubic to enlarge."""
    factor = size_px / max(picture.shape[:2])
    if factor == 1:
        return picture
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
