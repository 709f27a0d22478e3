"""The contact sheet of an evaluation: some pictures, each as it was, restored and true, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.evaluate.degraded import resized

__all__ = ["Entry", "choose", "draw"]

Pixels = NDArray[np.uint8]

EXTREMES_SHARE = 1 / 6  # of the sheet for the worst, and as much for the best
COLUMNS, MOST_SIDE_PX, GAP_PX, TEXT_PX = 3, 256, 12, 20
TITLES = ("input", "restored", "truth")
DARK, LIGHT = 24, 235


@dataclass(frozen=True)
class Entry:
    """Three pictures (S, S, 3) uint8 RGB of one face, and a line about them in ASCII."""

    degraded: Pixels
    restored: Pixels
    truth: Pixels
    label: str


def choose(rows: Sequence[tuple[str, str, float]], count: int) -> list[tuple[str, str]]:
    """Which pictures to show: the worst, the best, and others spread evenly over the set.

    rows    (name, identity, how good it is); an identity is shown once as long as there are others
    count   how many to show

    Returns (name, "worst", "best" or "") each: the worst, then some in the order of `rows`, then the best.
    """
    count = min(count, len(rows))
    extremes = int(count * EXTREMES_SHARE)
    ranked = sorted(range(len(rows)), key=lambda i: rows[i][2])
    people: set[str] = set()
    free = set(range(len(rows)))

    def take(candidates: Sequence[int]) -> int:
        index = next((i for i in candidates if i in free and rows[i][1] not in people), None)
        index = next(i for i in candidates if i in free) if index is None else index
        free.remove(index)
        people.add(rows[index][1])
        return index

    worst = [take(ranked) for _ in range(extremes)]
    best = [take(ranked[::-1]) for _ in range(extremes)]
    places = np.linspace(0, len(rows) - 1, count - 2 * extremes)
    spread = sorted(take(sorted(free, key=lambda i: abs(i - place))) for place in places)
    return [
        (rows[i][0], mark)
        for group, mark in ((worst, "worst"), (spread, ""), (best[::-1], "best"))
        for i in group
    ]


def draw(entries: Iterable[Entry]) -> Pixels:
    """The sheet, (H, W, 3) uint8 RGB: three entries a row, faces at most 256 px wide.

    Raises OptionError without an entry.
    """
    cells = [_cell(entry) for entry in entries]
    if not cells:
        raise OptionError("a sheet shows one picture or more")
    columns = min(COLUMNS, len(cells))
    height, width = cells[0].shape[:2]
    lines = -(-len(cells) // columns)
    size = TEXT_PX + lines * (height + GAP_PX), columns * (width + GAP_PX) + GAP_PX
    sheet = np.full((*size, 3), DARK, np.uint8)
    for column in range(columns):
        for number, title in enumerate(TITLES):
            _write(sheet[:TEXT_PX], title, GAP_PX + column * (width + GAP_PX) + number * width // 3)
    for number, cell in enumerate(cells):
        line, column = divmod(number, columns)
        top, left = TEXT_PX + line * (height + GAP_PX), GAP_PX + column * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def _cell(entry: Entry) -> Pixels:
    """The three pictures over a line of text."""
    side = min(MOST_SIDE_PX, len(entry.truth))
    faces = np.hstack([resized(face, side) for face in (entry.degraded, entry.restored, entry.truth)])
    strip = np.full((TEXT_PX, faces.shape[1], 3), DARK, np.uint8)
    _write(strip, entry.label, 0)
    return np.vstack([faces, strip])


def _write(strip: Pixels, text: str, left: int) -> None:
    place = (left, len(strip) - 6)
    cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (LIGHT,) * 3, 1, cv2.LINE_AA)
