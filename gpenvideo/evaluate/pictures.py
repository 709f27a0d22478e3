"""The pictures of an evaluation: which lie in a folder, which belong together, and where their faces are.

A picture's name is its path below the folder without the suffix, with "/" between the parts: what pairs a
bad picture with its truth, and what its degradation is drawn for.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpenvideo.errors import FileMissing, OptionError
from gpenvideo.faces.portraits import Portrait, read_table
from gpenvideo.picture import SUFFIXES

__all__ = ["Source", "find_pictures", "in_order", "read_clean", "read_pairs"]

T = TypeVar("T")
R = TypeVar("R")

TABLE = "faces.csv"
INPUTS = ("input", "degraded")
MOST_NAMED = 3  # in a message


@dataclass(frozen=True, slots=True)
class Source:
    """The files of one picture of an evaluation.

    name       see the module
    truth      the good picture
    degraded   the bad one; None: it is made of the truth
    restored   what some tool made of the bad one; None: gpenvideo restores it
    portrait   its row of a faces.csv, or None
    """

    name: str
    truth: Path
    degraded: Path | None = None
    restored: Path | None = None
    portrait: Portrait | None = None

    @property
    def identity(self) -> str:
        """The person, as far as it is known."""
        return self.name if self.portrait is None else self.portrait.identity


def find_pictures(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The pictures below a folder by name, sorted by it.

    Raises FileMissing when there is none, OptionError when two have one name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileMissing("there is no such folder", path=root)
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = path.relative_to(root).with_suffix("").as_posix()
            if name in found:
                raise OptionError(f"{found[name].name} and {path.name} have one name; rename one", path=root)
            found[name] = path
    if not found:
        raise FileMissing(f"no pictures in it ({', '.join(SUFFIXES)})", path=root)
    return dict(sorted(found.items()))


def read_pairs(
    folder: str | os.PathLike[str], landmarks: str | os.PathLike[str] | None = None
) -> list[Source]:
    """Bad pictures and their truth: folder/input (or folder/degraded) and folder/truth.

    The names below the two are the same, the suffixes need not be. With folder/restored, what a tool made of
    them, under the same names, is judged. Truths without a bad picture are left out.

    folder      see above
    landmarks   a faces.csv of the truths; None: the one in folder/truth or folder, if there is one

    Raises FileMissing for a missing folder or table, OptionError for pictures without their counterpart,
    MediaError for a table that cannot be used.
    """
    root = Path(folder)
    inputs = next((root / name for name in INPUTS if (root / name).is_dir()), None)
    if inputs is None or not (root / "truth").is_dir():
        raise FileMissing(
            "pairs lie in two folders of it: input (or degraded), and truth with the same names", path=root
        )
    degraded, truth = find_pictures(inputs), find_pictures(root / "truth")
    _check_all_there(degraded, truth, root / "truth")
    restored: dict[str, Path] = {}
    if (root / "restored").is_dir():
        restored = find_pictures(root / "restored")
        _check_all_there(degraded, restored, root / "restored")
    table = _portraits(landmarks, (root / "truth", root))
    return [
        Source(name, truth[name], path, restored.get(name), table.get(truth[name].resolve()))
        for name, path in degraded.items()
    ]


def read_clean(
    folders: Sequence[str | os.PathLike[str]], landmarks: str | os.PathLike[str] | None = None
) -> list[Source]:
    """Good pictures alone, to be degraded.

    folders     with several, names begin at the folder that holds them all
    landmarks   a faces.csv of them; None: the one in a folder or in the one above it, if there is one

    Raises as `read_pairs`.
    """
    roots = [Path(folder) for folder in folders]
    top = roots[0] if len(roots) == 1 else Path(os.path.commonpath([root.resolve() for root in roots]))
    found: dict[str, Path] = {}
    for root in roots:
        prefix = "" if len(roots) == 1 else root.resolve().relative_to(top).as_posix() + "/"
        found |= {prefix + name: path for name, path in find_pictures(root).items()}
    table = _portraits(landmarks, [place for root in roots for place in (root, root.resolve().parent)])
    return [Source(name, path, portrait=table.get(path.resolve())) for name, path in sorted(found.items())]


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """function(item) for each, computed by `workers` threads, in the order of the items.

    No more than twice as many results as workers are held; what the function raises is raised at its place.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, "gpenvideo-pictures") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _check_all_there(wanted: dict[str, Path], found: dict[str, Path], folder: Path) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        named = ", ".join(missing[:MOST_NAMED]) + (", ..." if len(missing) > MOST_NAMED else "")
        raise OptionError(f"{len(missing)} of {len(wanted)} pictures are not in it: {named}", path=folder)


def _portraits(landmarks: str | os.PathLike[str] | None, places: Sequence[Path]) -> dict[Path, Portrait]:
    """The rows of the tables by the file that each is of."""
    if landmarks is not None:
        tables = [Path(landmarks)]
    else:
        tables = [place / TABLE for place in dict.fromkeys(places) if (place / TABLE).is_file()]
    return {(table.parent / row.file).resolve(): row for table in tables for row in read_table(table)}
