"""The pictures of docs/temporal.md, from the clips that benchmarks.temporal kept.

python -m benchmarks.temporal --part steadiness --keep DIR
python -m benchmarks.temporal_pictures DIR
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.following import Find, filmed, found_in, jitters, near, raw_faces, without_bias
from benchmarks.steadiness import landmarks
from benchmarks.temporal import DATA, PEOPLE
from gpenvideo.analysis import Analysis
from gpenvideo.evaluate import temporal
from gpenvideo.evaluate.scenes import Scene, make_scene, read_subjects
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.frame import StreamInfo
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame
from gpenvideo.networks import load_finder
from gpenvideo.picture import Picture, write_picture
from gpenvideo.video.clip import read_clip

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

DOCS = Path(__file__).parents[1] / "docs"
CELL_PX, GAP_PX, TEXT_PX = 112, 2, 18
FILES = {"input": "bad.mp4", "per frame": "raw.mkv", "as it ships": "ships.mkv", "truth": "truth.mkv"}
COLOURS = {
    "input": "#9a9a9a",
    "raw": "#e08214",
    "per frame": "#e08214",
    "offline": "#2166ac",
    "as it ships": "#2166ac",
    "live": "#762a83",
    "truth": "#1a9850",
}


class Strip(NamedTuple):
    """Some frames of a clip, side by side."""

    clip: str
    scene: str
    first: int
    step: int = 1


STRIPS = {
    "blink": Strip("blink_film_0", "blink", -2),  # from the start of its first blink
    "talk": Strip("talk_mild_0", "talk", 20),
    "real": Strip("intel_asl_eat_mild_0", "", 2, 2),
}
COLUMNS = 9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="what benchmarks.temporal --keep kept")
    parser.add_argument("--data", type=Path, default=DATA, help="holds faces/")
    options = parser.parse_args()
    people = read_subjects(options.data / "faces", PEOPLE)
    for name, strip in STRIPS.items():
        folder = options.clips / strip.clip
        scene = make_scene(strip.scene, people, 0) if strip.scene else Scene("", 25, [], [{}], [])
        start = strip.first + (scene.intervals[0].start if strip.scene == "blink" else 0)
        numbers = [start + strip.step * i for i in range(COLUMNS)]
        places = landmarks(folder, scene, load_finder(None))
        write_picture(Picture(sheet(folder, numbers, places)), DOCS / f"temporal-{name}.jpg")
    with tempfile.TemporaryDirectory() as place:
        write_picture(Picture(followed(people, Path(place))), DOCS / "temporal-tracking.png")
    write_picture(Picture(steadied(options.clips)), DOCS / "temporal-warp.png")


def sheet(folder: Path, numbers: Sequence[int], places: Sequence[Array | None]) -> Pixels:
    """A frame a column, a video a row; each face where it is in the truth."""
    pitch = CELL_PX + GAP_PX
    out = np.full((len(FILES) * (pitch + TEXT_PX), len(numbers) * pitch, 3), 24, np.uint8)
    points = template("ffhq", CELL_PX)
    for row, (name, file) in enumerate(FILES.items()):
        top = row * (pitch + TEXT_PX)
        cv2.putText(out, name, (4, top + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
        for number, picture in enumerate(read_clip(folder / file)):
            where = places[number] if number in numbers else None
            if where is not None:
                pixels = crop(as_frame(picture), crop_from_frame(where, points), CELL_PX)
                left = numbers.index(number) * pitch
                cell = np.rint((pixels + 1) * 127.5).astype(np.uint8)
                out[top + TEXT_PX : top + TEXT_PX + CELL_PX, left : left + CELL_PX] = cell
    return out


def followed(people: Sequence[Any], folder: Path) -> Pixels:
    """How far the landmarks are from the truth's, and how the crop shakes."""
    detector, clip = load_finder(None), folder / "bad.mp4"
    ways: dict[str, Callable[[StreamInfo], Find]] = {
        "raw": partial(raw_faces, detector),
        "live": partial(Analysis, detector, live=True),
        "offline": partial(Analysis, detector),
    }
    curves: dict[str, dict[str, Array]] = {}
    for kind in ("hand", "fast"):
        scene = filmed(kind, people, 0, "film", clip)
        truth = np.array([faces[1] for faces in scene.faces])
        eyes = temporal.eye_distances(truth)
        errors, shakes = dict[str, Array](), dict[str, Array]()
        for way, find in ways.items():
            points = near(truth, found_in(clip, find))
            apart = np.linalg.norm(without_bias(points, truth) - truth, axis=2).mean(axis=1)
            errors[way], shakes[way] = 100 * apart / eyes, 100 * jitters(points, truth)
        curves[f"{kind}: landmark error,\n% of eye distance"] = errors
        curves[f"{kind}: crop jitter,\n% of eye distance"] = shakes
    return plotted(curves)


def steadied(clips: Path) -> Pixels:
    columns = {
        "input": "input_warp_error",
        "per frame": "per_frame_warp_error",
        "as it ships": "restored_warp_error",
        "truth": "truth_warp_error",
    }
    curves = {}
    for clip in ("blink_film_0", "blink_mild_0", "talk_mild_0"):
        with (clips / clip / "evaluation_ships" / "frames.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        kind, preset, _ = clip.split("_")
        curves[f"{kind}, {preset}:\nwarp error, 10⁻³"] = {
            name: 1e3 * np.array([float(row[column] or "nan") for row in rows])
            for name, column in columns.items()
        }
    return plotted(curves)


def plotted(curves: Mapping[str, Mapping[str, Array]]) -> Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(10, 1.7 * len(curves) + 0.4), dpi=90, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
    for axis, (title, values) in zip(axes, curves.items(), strict=True):
        for name, value in values.items():
            axis.plot(np.arange(len(value)) / 25, value, color=COLOURS[name], linewidth=1.1, label=name)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylabel(title, fontsize=8)
        axis.grid(alpha=0.25)
        axis.margins(x=0.01)
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)
    axes[-1].set_xlabel("seconds")
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


if __name__ == "__main__":
    main()
