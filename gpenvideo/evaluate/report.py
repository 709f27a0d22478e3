"""What an evaluation found: a row a picture, the means, and the sheet of some of the pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpenvideo.errors import GpenvideoError, OptionError, file_error
from gpenvideo.evaluate import image, sheet
from gpenvideo.evaluate.degraded import PARAMETERS, Decay, as_cell
from gpenvideo.evaluate.examples import AT_ONCE, Alignment, Example, Pixels, examples
from gpenvideo.evaluate.pictures import Source
from gpenvideo.face import Face
from gpenvideo.faces.detector import Detector
from gpenvideo.picture import Picture, write_picture
from gpenvideo.restorer import Restorer

__all__ = ["MEASURES", "Evaluation", "Judges", "Row", "evaluate", "judge"]

Measure = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int], None]

PIXEL_MEASURES: dict[str, Measure] = {
    "psnr_db": image.psnr_db,
    "ssim": image.ssim,
    "sharpness": image.sharpness,
    "correlation": image.gradient_correlation,
}
MEASURES = (*PIXEL_MEASURES, "lpips", "identity", "landmark_error", "found")
"""Columns of the table, once of the restored picture and once ("input_...") of the bad one."""


@dataclass(frozen=True)
class Judges:
    """The measures that need more than pixels.

    features   by name: measure(pictures, truth) is (N,); see `gpenvideo.evaluate.features`
    detector   finds the landmarks, in the truth as in the picture; None: no landmark error
    device     where pictures are measured
    """

    features: Mapping[str, Measure] = field(default_factory=dict)
    detector: Detector | None = None
    device: str | torch.device = "cpu"


@dataclass(frozen=True)
class Row:
    """One picture: its measures by column, NaN where there is none, and how it was degraded."""

    name: str
    identity: str
    measures: dict[str, float]
    parameters: dict[str, object]

    @property
    def gain_db(self) -> float:
        """PSNR won over the bad picture."""
        return self.measures["psnr_db"] - self.measures["input_psnr_db"]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    rows: list[Row]
    failures: list[GpenvideoError]
    """Pictures that could not be judged, and why."""

    table: Path
    sheet: Path | None

    def means(self) -> dict[str, dict[str, float]]:
        """ "input" and "restored": the mean of each measure over the pictures that have it, if any has.

        "found" is the share of the pictures with a face found in the truth in which one is found here too.
        """
        sides: dict[str, dict[str, float]] = {}
        for side, prefix in (("input", "input_"), ("restored", "")):
            columns = {name: [row.measures[prefix + name] for row in self.rows] for name in MEASURES}
            sides[side] = {name: _mean(values) for name, values in columns.items() if _known(values)}
        return sides


def judge(some: Sequence[Example], judges: Judges) -> list[Row]:
    """Measure a few examples of one size; each has its restored picture."""
    measures: list[dict[str, float]] = [{} for _ in some]
    truth = _tensor([one.truth for one in some], judges.device)
    true_faces = _faces([one.truth for one in some], judges.detector)
    for prefix, pictures in (
        ("input_", [one.degraded for one in some]),
        ("", [_restored(one) for one in some]),
    ):
        x = _tensor(pictures, judges.device)
        with torch.inference_mode():
            for name, measure in {**PIXEL_MEASURES, **judges.features}.items():
                for row, value in zip(measures, measure(x, truth).tolist(), strict=True):
                    row[prefix + name] = value
        for row, face, true in zip(measures, _faces(pictures, judges.detector), true_faces, strict=True):
            row[prefix + "landmark_error"] = (
                math.nan
                if face is None or true is None
                else image.landmark_error(face.landmarks, true.landmarks)
            )
            row[prefix + "found"] = math.nan if true is None else float(face is not None)
    everything = [side + name for side in ("input_", "") for name in MEASURES]
    return [
        Row(
            one.source.name,
            one.source.identity,
            {name: row.get(name, math.nan) for name in everything},
            one.parameters,
        )
        for one, row in zip(some, measures, strict=True)
    ]


def evaluate(
    sources: Sequence[Source],
    out: str | PathLike[str],
    alignment: Alignment,
    judges: Judges,
    *,
    decay: Decay | None = None,
    restorer: Restorer | None = None,
    shown: int = 24,
    workers: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Restore pictures whose truth is known and say how good they are.

    A few pictures are in memory at a time. The folder `out` gets pictures.csv and, unless `shown` is 0,
    sheet.png: so many pictures, each as it was, restored and true, the worst and the best by the PSNR won.

    sources             from `gpenvideo.evaluate.pictures`
    decay               makes the bad pictures of sources that have none
    restorer            restores what no tool has restored; None where a tool has restored everything
    workers             threads that read, align and degrade
    progress            called with (done, total)

    Raises OptionError when something is missing to judge by, FileError when `out` cannot be written. Pictures
    that cannot be judged are in the result's `failures`.
    """
    if decay is None and any(one.degraded is None for one in sources):
        raise OptionError("good pictures alone are no test: say how to degrade them")
    if restorer is None and any(one.restored is None for one in sources):
        raise OptionError("nothing restored these pictures: name a restorer")
    folder, tell = Path(out), progress or (lambda done, total: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, folder, "write") from error
    found: list[Row] = []
    failures: list[GpenvideoError] = []
    stream = examples(sources, alignment, decay=decay, restorer=restorer, workers=workers)
    while some := list(islice(stream, AT_ONCE)):
        failures += [one for one in some if isinstance(one, GpenvideoError)]
        if usable := [one for one in some if isinstance(one, Example)]:
            found += judge(usable, judges)
        tell(len(found) + len(failures), len(sources))
    table = folder / "pictures.csv"
    write_rows(found, table)
    picture = None
    if shown and found:
        picture = folder / "sheet.png"
        again = {"decay": decay, "restorer": restorer, "workers": workers}
        write_picture(Picture(_sheet(sources, found, shown, alignment, again)), picture)
    return Evaluation(found, failures, table, picture)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write pictures.csv: a row a picture, nothing where a measure is missing. Raises FileError."""
    names = ["name", "identity", *(prefix + name for prefix in ("input_", "") for name in MEASURES)]
    degraded_here = any(row.parameters for row in rows)
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*names, *(PARAMETERS if degraded_here else ())])
            for row in rows:
                numbers = (row.measures[name] for name in names[2:])
                parameters = (
                    as_cell(row.parameters.get(name)) for name in (PARAMETERS if degraded_here else ())
                )
                writer.writerow(
                    [
                        row.name,
                        row.identity,
                        *("" if math.isnan(n) else f"{n:.6g}" for n in numbers),
                        *parameters,
                    ]
                )
    except OSError as error:
        raise file_error(error, path, "write") from error


def _sheet(
    sources: Sequence[Source], rows: Sequence[Row], shown: int, alignment: Alignment, again: dict[str, Any]
) -> Pixels:
    """Some of the pictures, made once more: all of them would not fit into memory."""
    chosen = sheet.choose([(row.name, row.identity, row.gain_db) for row in rows], shown)
    files, found = {one.name: one for one in sources}, {row.name: row for row in rows}
    stream = examples([files[name] for name, _ in chosen], alignment, **again)
    return sheet.draw(
        sheet.Entry(one.degraded, _restored(one), one.truth, _label(found[name], mark))
        for one, (name, mark) in zip(stream, chosen, strict=True)
        if isinstance(one, Example)
    )


def _label(row: Row, mark: str) -> str:
    before, after = row.measures["input_psnr_db"], row.measures["psnr_db"]
    return f"{mark + ': ' if mark else ''}{row.name}  {before:.1f} to {after:.1f} dB"


def _restored(one: Example) -> Pixels:
    if one.restored is None:
        raise OptionError("nothing restored this picture", path=one.source.truth)
    return one.restored


def _tensor(pictures: Sequence[Pixels], device: str | torch.device) -> Tensor:
    """(N, 3, S, S) float32 in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _faces(pictures: Sequence[Pixels], detector: Detector | None) -> list[Face | None]:
    """The face of each crop: the one that fills most of it."""
    if detector is None:
        return [None] * len(pictures)
    return [max(faces, key=lambda face: face.size_px, default=None) for faces in detector(pictures)]


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(_known(values)))
