"""Materials: what `--material` gains and costs, on clips of known truth that are worn as each of them is.

    python -m benchmarks.materials [--quick] [--keep DIR] [--material NAME]

A public-domain portrait (scikit-image's astronaut) is filmed by a virtual camera, and the truth made bad as
the material does it:

film-16mm  24 pictures a second, soft, grain, a few scratches and dust, light that flickers; x264 at crf 20
film-8mm   18 a second, softer, coarser and more of all
vhs        50 fields a second, top first; few columns of luma, far fewer of chroma, noise; x264, interlaced
dvd        film at 24 in the fields of 29.97 (3:2 pulldown), soft, MPEG-2 at quantiser 8
webcam     30 a second, soft, noisy, JPEG, x264 at crf 30

Each clip is restored with no material named, and with it; the default weights do both. Measured is the face
(`gpenvideo evaluate video`) against the truth at the moments that both have.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import measure
from gpenvideo.cli import main as main_of_gpenvideo
from gpenvideo.degradation import Degradation, degrade
from gpenvideo.degradation.camera import CameraPath, Key, Shake, shoot
from gpenvideo.degradation.film import Film
from gpenvideo.evaluate.staging import astronaut
from gpenvideo.video.filters import FilterGraph

Pixels = NDArray[np.uint8]
SIZE, SECONDS = (480, 360), 4.0
CAMERA = CameraPath(
    (
        Key(0.2, x=0.47, y=0.36, width=0.82),
        Key(2.0, x=0.44, y=0.31, width=0.66, roll_deg=-2.0),
        Key(3.8, x=0.46, y=0.30, width=0.72, roll_deg=2.0),
    ),
    Shake(shift=0.003, roll_deg=0.25),
    seed=7,
)
MEASURES = {
    "psnr_db": "PSNR",
    "ssim": "SSIM",
    "sharpness": "sharpness",
    "warp_ratio": "warp error / truth",
    "flicker_ratio": "flicker / truth",
    "jitter_to_truth": "jitter",
    "landmark_error": "landmark error",
}
PULLDOWN = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))  # top and bottom field of each five, by film frame


@dataclass(frozen=True)
class Stock:
    """What a material is made of."""

    rate_hz: Fraction
    """Of moments."""

    wear: Callable[[Pixels, np.random.Generator], Pixels]
    """What happens to each moment."""

    codec: str
    options: dict[str, str]
    pictures: Callable[[Sequence[Pixels]], Iterator[av.VideoFrame]]
    picture_hz: Fraction


def worn(soft: Degradation, flicker: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    """Film: the same everywhere, but for the light."""

    def wear(picture: Pixels, rng: np.random.Generator) -> Pixels:
        film = replace(soft.film or Film(), flicker_gain=math.exp(rng.normal(0, flicker)))
        return degrade(picture, replace(soft, film=film), rng)

    return wear


def taped(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A home recorder: 240 lines of luma, 40 of chroma, noise that runs along the lines."""
    ycc = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    ycc[..., 0] = cv2.GaussianBlur(ycc[..., 0], (0, 0), 1.4, sigmaY=0.5)
    ycc[..., 1:] = np.roll(cv2.GaussianBlur(ycc[..., 1:], (0, 0), 5.0, sigmaY=1.0), 2, axis=1)
    noise = cv2.GaussianBlur(rng.normal(0, 1, ycc.shape).astype(np.float32), (0, 0), 0.9, sigmaY=0.1)
    ycc += noise / noise.std() * (6.0, 5.0, 5.0)
    return np.asarray(cv2.cvtColor(np.clip(ycc, 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB))


def seen(soft: Degradation) -> Callable[[Pixels, np.random.Generator], Pixels]:
    return lambda picture, rng: degrade(picture, soft, rng)


def whole(moments: Sequence[Pixels]) -> Iterator[av.VideoFrame]:
    return map(as_yuv, moments)


def interlaced(moments: Sequence[Pixels]) -> Iterator[av.VideoFrame]:
    pairs = zip(moments[::2], moments[1::2], strict=False)
    return fielded(weave(as_yuv(top[::2]), as_yuv(bottom[1::2])) for top, bottom in pairs)


def telecined(moments: Sequence[Pixels]) -> Iterator[av.VideoFrame]:
    fields = [
        (moments[four + top], moments[four + bottom])
        for four in range(0, len(moments) - 3, 4)
        for top, bottom in PULLDOWN
    ]
    return fielded(weave(as_yuv(top[::2]), as_yuv(bottom[1::2])) for top, bottom in fields)


FILM_HZ, DISC_HZ = Fraction(24000, 1001), Fraction(30000, 1001)
X264 = {"preset": "medium", "threads": "2"}
STOCKS = {
    "film-16mm": Stock(
        Fraction(24),
        worn(
            Degradation(
                blur_sigma_px=0.8,
                down_scale=1.6,
                up_filter="bicubic",
                film=Film(grain_levels=9, grain_size_px=0.7, scratches_per_100px=0.05, dust_per_1000px=0.015),
            ),
            0.015,
        ),
        "libx264",
        X264 | {"crf": "20"},
        whole,
        Fraction(24),
    ),
    "film-8mm": Stock(
        Fraction(18),
        worn(
            Degradation(
                blur_sigma_px=1.2,
                down_scale=2.6,
                up_filter="bicubic",
                film=Film(grain_levels=14, grain_size_px=0.8, scratches_per_100px=0.15, dust_per_1000px=0.05),
            ),
            0.04,
        ),
        "libx264",
        X264 | {"crf": "20"},
        whole,
        Fraction(18),
    ),
    "vhs": Stock(
        Fraction(50), taped, "libx264", X264 | {"crf": "20", "x264-params": "tff=1"}, interlaced, Fraction(25)
    ),
    "dvd": Stock(
        FILM_HZ,
        seen(Degradation(blur_sigma_px=0.9, down_scale=1.4, up_filter="bilinear")),
        "mpeg2video",
        {"flags": "+ildct+ilme+qscale", "global_quality": str(8 * 118), "g": "12"},
        telecined,
        DISC_HZ,
    ),
    "webcam": Stock(
        Fraction(30),
        seen(
            Degradation(
                blur_sigma_px=1.0, down_scale=1.6, up_filter="bilinear", noise_levels=9.0, jpeg_quality=55
            )
        ),
        "libx264",
        X264 | {"crf": "30"},
        whole,
        Fraction(30),
    ),
}


def as_yuv(rgb: Pixels) -> av.VideoFrame:
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return picture.reformat(format="yuv420p", threads=1, dst_colorspace=6, dst_color_range=1)


def weave(top: av.VideoFrame, bottom: av.VideoFrame) -> av.VideoFrame:
    """A picture of two fields."""
    woven = av.VideoFrame(top.width, top.height + bottom.height, "yuv420p")
    for into, *fields in zip(woven.planes, top.planes, bottom.planes, strict=True):
        rows = np.ndarray((into.height, into.line_size), np.uint8, into)
        for parity, field in enumerate(fields):
            given = np.ndarray((field.height, field.line_size), np.uint8, field)
            rows[parity::2, : field.width] = given[:, : field.width]
    return woven


def fielded(pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same pictures, said to be of two fields, the top one first."""
    graph = FilterGraph("setfield=tff")
    for number, picture in enumerate(pictures):
        picture.pts, picture.time_base = number, Fraction(1, 25)
        yield from graph(picture)
    yield from graph.finish()


def write(path: Path, pictures: Iterator[av.VideoFrame], rate: Fraction, codec: str, **options: str) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = stream.time_base = 1 / rate
        for tag in ("colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, tag, 6)
        stream.codec_context.color_range = 1
        for number, picture in enumerate(pictures):
            picture.pts, picture.time_base = number, 1 / rate
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def make(name: str, folder: Path, seconds: float = SECONDS) -> dict[str, Path]:
    """The truth and the worn clip of a material, in a folder."""
    stock, rng = STOCKS[name], np.random.default_rng(0)
    count = round(seconds * stock.rate_hz)
    truth = [shot.pixels for shot in shoot(astronaut().picture, CAMERA, SIZE, count, float(stock.rate_hz))]
    good = write(folder / f"{name}.truth.mkv", whole(truth), stock.rate_hz, "ffv1")
    bad = [stock.wear(picture, rng) for picture in truth]
    worse = folder / f"{name}.mkv"
    write(worse, stock.pictures(bad), stock.picture_hz, stock.codec, **stock.options)
    return {"truth": good, "input": worse}


def gpenvideo(*arguments: str | Path) -> None:
    """As a person says it."""
    before, sys.argv = sys.argv, ["gpenvideo", *map(str, arguments)]
    try:
        main_of_gpenvideo()
    except SystemExit as stopped:
        if stopped.code:
            raise RuntimeError(f"{' '.join(sys.argv)}: exit code {stopped.code}") from None
    finally:
        sys.argv = before


def row(name: str, label: str, files: dict[str, Path], *options: str) -> dict[str, Any]:
    """A clip restored with some options, and judged."""
    result = files["input"].with_suffix(f".{label.replace(' ', '_')}.mkv")
    begun_s = time.monotonic()
    gpenvideo("restore", files["input"], "-o", result, "--codec", "ffv1", *options)
    seconds = time.monotonic() - begun_s
    found = judged(files | {"restored": result}, result.with_suffix(""))
    return {"material": name, "how": label} | found | {"s": round(seconds, 1)}


def judged(files: dict[str, Path], folder: Path) -> dict[str, float | None]:
    given = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    with redirect_stdout(io.StringIO()):
        gpenvideo("evaluate", "video", *given, "-o", folder)
    measures = json.loads((folder / "summary.json").read_text())["measures"]
    rows = {of: measures.get(of, {}) for of in ("restored", "input")}
    found = {name: rows["restored"].get(name) for name in MEASURES}
    return {"PSNR in": _rounded(rows["input"].get("psnr_db"))} | {
        MEASURES[name]: _rounded(value) for name, value in found.items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a second of each, nothing saved")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--keep", type=Path, help="a folder for the clips")
    parser.add_argument("--material", choices=STOCKS, help="this one alone")
    parser.add_argument("--also", action="append", default=[], help="options to compare besides, in one word")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        for name in [options.material] if options.material else STOCKS:
            files = make(name, folder, 1.0 if options.quick else SECONDS)
            rows.append(row(name, "none", files))
            rows.append(row(name, name, files, "--material", name))
            rows += [row(name, each.strip("- "), files, *shlex.split(each)) for each in options.also]
    print(measure.table(rows))
    if not options.quick and not options.material:
        print(measure.save("materials", rows))


if __name__ == "__main__":
    main()
