"""The pictures of docs/gallery.md, made anew of a public-domain portrait (NASA), by what ships.

python -m benchmarks.gallery [--out docs] [--only materials]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from benchmarks.materials import STOCKS, Pixels, gpenvideo, make, whole, write
from gpenvideo.picture import Picture, write_picture
from gpenvideo.video.clip import read_clip

SECONDS, MOMENT = 1.2, 0.5
FACE = slice(30, 270), slice(120, 360)
LABEL_PX = 22


def at(path: Path, share: float = MOMENT) -> Pixels:
    """A picture of a clip, some way through it."""
    pictures = list(read_clip(path))
    return pictures[round(share * (len(pictures) - 1))]


def face(path: Path) -> Pixels:
    return at(path)[FACE]


def labelled(picture: Pixels, text: str) -> Pixels:
    """A picture with a line above it."""
    line = np.full((LABEL_PX, picture.shape[1], 3), 245, np.uint8)
    cv2.putText(line, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([line, picture])


def sheet(rows: Sequence[Sequence[tuple[str, Pixels]]]) -> Pixels:
    return np.vstack([np.hstack([labelled(picture, text) for text, picture in row]) for row in rows])


def restored(source: Path, name: str, *options: str) -> Path:
    target = source.with_name(f"{source.stem}.{name}.mkv")
    gpenvideo("restore", source, "-o", target, "--codec", "ffv1", *options)
    return target


def materials(folder: Path) -> Pixels:
    rows = []
    for name in STOCKS:
        files = make(name, folder, SECONDS)
        result = restored(files["input"], "restored", "--material", name)
        rows.append(
            [(name, face(files["input"])), ("restored", face(result)), ("truth", face(files["truth"]))]
        )
    return sheet(rows)


def grain(folder: Path) -> Pixels:
    source = make("film-16mm", folder, SECONDS)["input"]
    ways = {
        "grain none": ("--grain", "none"),
        "grain match": ("--grain", "match"),
        "match, and sharpness": ("--grain", "match", "--match-sharpness"),
    }
    results = [(text, face(restored(source, text.replace(" ", "-"), *way))) for text, way in ways.items()]
    return sheet([[("16 mm", face(source)), *results]])


def strength(folder: Path) -> Pixels:
    source = make("webcam", folder, SECONDS)["input"]
    results = [(f"strength {s}", face(restored(source, s, "--strength", s))) for s in ("0.4", "0.7", "1")]
    return sheet([[("webcam", face(source)), *results]])


def side(folder: Path) -> Pixels:
    source = make("film-8mm", folder, SECONDS)["input"]
    return at(restored(source, "side", "--compare", "side", "--material", "film-8mm"))


def tint(folder: Path) -> Pixels:
    files = make("film-16mm", folder, SECONDS)
    rows = []
    for name, gains in {"black and white": (1.0, 1.0, 1.0), "sepia": (1.07, 0.95, 0.78)}.items():
        toned = folder / f"{name.split()[0]}.mkv"
        pictures = [
            np.clip((p @ (0.299, 0.587, 0.114))[..., None] * gains, 0, 255).astype(np.uint8)
            for p in read_clip(files["input"])
        ]
        write(toned, whole(pictures), Fraction(24), "ffv1")
        rows.append(
            [
                (name, face(toned)),
                ("color keep", face(restored(toned, "keep"))),
                ("color allow", face(restored(toned, "allow", "--color", "allow"))),
            ]
        )
    return sheet(rows)


SHEETS: dict[str, Callable[[Path], Pixels]] = {
    "materials": materials,
    "grain": grain,
    "strength": strength,
    "side": side,
    "tint": tint,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--only", choices=SHEETS, action="append")
    options = parser.parse_args()
    for name in options.only or SHEETS:
        with tempfile.TemporaryDirectory() as folder:
            picture = SHEETS[name](Path(folder))
        target = options.out / f"gallery-{name}.jpg"
        write_picture(Picture(picture), target)
        print(f"{target}: {picture.shape[1]}x{picture.shape[0]}")


if __name__ == "__main__":
    main()
