"""Pictures of an evaluation over time: curves of the measures, and the worst second frame by frame."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.evaluate.lockstep import Moment
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame

__all__ = ["WorstSecond", "over_time"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]


class Panel(NamedTuple):
    """A diagram: of which measure, the title and the unit of its axis, whether that is logarithmic."""

    measure: str
    title: str
    factor: float = 1.0
    logarithmic: bool = False


PANELS = (
    Panel("warp_error", "warp error, 10⁻³", 1e3, True),
    Panel("flicker", "flicker, 10⁻³", 1e3, True),
    Panel("landmark_error", "landmark error,\n% of eye distance", 100),
    Panel("jitter", "landmark jitter,\n% of eye distance", 100),
    Panel("psnr_db", "PSNR, dB"),
    Panel("sharpness", "sharpness"),
)
COLOURS = {"input": "#9a9a9a", "per_frame": "#e08214", "restored": "#2166ac", "truth": "#1a9850"}
NAMES = {"per_frame": "restored per frame"}
SIZE_INCHES, DPI = (11.0, 1.75), 100  # of a panel
NEAR = 50  # times the least value: so near the greatest, powers of ten would be too few marks
MOST_POINTS = 600  # of a curve: of more, neighbours are averaged

CELL_PX, GAP_PX, LINE_PX = 128, 2, 18
MOST_CELLS = 25  # a row
REACH = 0.62  # of the face's size, from its middle to the edge of a cell
SPAN_S, NEARLY = 1.0, 0.9
DARK, LIGHT = 24, 235


def over_time(facts: Mapping[str, Sequence[float]], columns: Mapping[str, Mapping[str, Array]]) -> Pixels:
    """The measures over time, (H, W, 3) uint8 RGB: a panel a measure, a curve a video, cuts dashed.

    facts     "time_s" and "starts_shot", (T,) each
    columns   by video and measure, (T,) each; a measure that no video has gets no panel
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if _curves(columns, panel)] or [PANELS[0]]
    width, height = SIZE_INCHES
    figure = Figure(figsize=(width, height * len(panels) + 0.6), dpi=DPI, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    time_s = np.asarray(facts["time_s"], float)
    cuts = [t for t, cut in zip(time_s, facts["starts_shot"], strict=True) if cut and t > 0]
    axes: Any = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, time_s, _curves(columns, panel), cuts)
    names = [name for name in COLOURS if name in columns]
    handles = [_line(name) for name in names]
    axes[0].legend(
        handles, [NAMES.get(name, name) for name in names], loc="lower left", bbox_to_anchor=(0, 1),
        ncols=len(names), frameon=False, borderaxespad=0.2,
    )  # fmt: skip
    axes[-1].set_xlabel("seconds" + (" (dashed: cuts)" if cuts else ""))
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _curves(columns: Mapping[str, Mapping[str, Array]], panel: Panel) -> dict[str, Array]:
    return {
        name: columns[name][panel.measure] * panel.factor
        for name in COLOURS
        if name in columns and np.isfinite(columns[name].get(panel.measure, np.array([math.nan]))).any()
    }


def _draw(axis: Any, panel: Panel, time_s: Array, curves: Mapping[str, Array], cuts: Iterable[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for name, values in curves.items():
        x, y = _thinned(time_s, values)
        axis.plot(x, y, color=COLOURS[name], linewidth=1.1, marker=".", markersize=2.5)
    for cut in cuts:
        axis.axvline(cut, color="black", linewidth=0.7, linestyle=(0, (4, 4)))
    positive = np.concatenate([values[values > 0] for values in curves.values()] or [np.empty(0)])
    if panel.logarithmic and positive.size:
        near = positive.max() < NEAR * positive.min()
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if near else (1.0,)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel(panel.title, fontsize=9)
    axis.grid(alpha=0.25)
    axis.margins(x=0.01)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _line(name: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=COLOURS[name], linewidth=1.6)


def _thinned(time_s: Array, values: Array) -> tuple[Array, Array]:
    """At most so many points: the means of what is known in equal spans."""
    step = -(-len(values) // MOST_POINTS)
    if step <= 1:
        return time_s, values
    starts = np.arange(0, len(values), step)
    known = np.isfinite(values)
    counts = np.add.reduceat(known.astype(float), starts)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return time_s[starts], sums / np.where(counts > 0, counts, np.nan)


class _Column(NamedTuple):
    time_s: float
    excess: float
    cells: dict[str, Pixels]


class WorstSecond:
    """Watches the largest face of each moment, and keeps the second that is worst; some 25 MB at most."""

    def __init__(self) -> None:
        self._last: deque[_Column] = deque()
        self._worst: list[_Column] = []
        self._score = -math.inf

    def take(self, moment: Moment, excess: float) -> None:
        """Take in a moment with faces, and how much worse than the reference it is (NaN: not known)."""
        face = max((track.face for track in moment.tracks), key=lambda face: face.size_px)
        scale = CELL_PX / (2 * REACH * face.size_px)
        shift = (CELL_PX - 1) / 2 - scale * face.box.reshape(2, 2).mean(axis=0)
        matrix = np.array([(scale, 0, shift[0]), (0, scale, shift[1])])
        cells = {
            name: np.rint((crop(as_frame(picture), matrix, CELL_PX) + 1) * 127.5).astype(np.uint8)
            for name, picture in moment.pictures.items()
        }
        self._last.append(_Column(moment.time_s, excess, cells))
        while self._last[0].time_s <= moment.time_s - SPAN_S + 1e-6:
            self._last.popleft()
        known = [column.excess for column in self._last if math.isfinite(column.excess)]
        whole = self._last[-1].time_s - self._last[0].time_s >= NEARLY * SPAN_S
        score = float(np.mean(known)) if known and whole else -math.inf
        if score > self._score:
            self._score, self._worst = score, list(self._last)

    @property
    def span_s(self) -> tuple[float, float] | None:
        """When it is; of a video that never shows a face for a second, its last faces."""
        columns = self._worst or list(self._last)
        return (columns[0].time_s, columns[-1].time_s) if columns else None

    def sheet(self, names: Sequence[str]) -> Pixels | None:
        """A frame a column and a video a row, (H, W, 3) uint8 RGB; None where there was no face."""
        columns = self._worst or list(self._last)
        if not columns:
            return None
        step = -(-len(columns) // MOST_CELLS)
        columns = columns[::step]
        pitch = CELL_PX + GAP_PX
        size = (LINE_PX + len(names) * (pitch + LINE_PX), GAP_PX + len(columns) * pitch)
        sheet = np.full((*size, 3), DARK, np.uint8)
        for number, column in enumerate(columns):
            left = GAP_PX + number * pitch
            _write(sheet, f"{column.time_s:.2f} s", left, LINE_PX - 5)
            for row, name in enumerate(names):
                top = LINE_PX + row * (pitch + LINE_PX) + LINE_PX
                if name in column.cells:
                    sheet[top : top + CELL_PX, left : left + CELL_PX] = column.cells[name]
        for row, name in enumerate(names):
            _write(sheet, NAMES.get(name, name), GAP_PX, LINE_PX + row * (pitch + LINE_PX) + LINE_PX - 5)
        return sheet


def _write(sheet: Pixels, text: str, left: int, bottom: int) -> None:
    cv2.putText(sheet, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (LIGHT,) * 3, 1, cv2.LINE_AA)
