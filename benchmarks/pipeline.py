"""Whole videos with a network, from file to file: frames a second by the wall, and where the time goes.

    python -m benchmarks.pipeline [--seconds 60] [--rounds 1] [--threads 2] [--weights FILE] [--device cuda]

On a CPU: 640x360 with one face and with three, the default weights, x264's veryfast. On CUDA: 1080p with one
face, GPEN-2048 with random weights (or `--weights`), to x264's veryfast, decoded by the CPU and by NVDEC.
`fps` is frames over the seconds that the whole call took, `reported` what the report says. `without temporal`
is the same with every picture restored by itself. Frames are numbered in bars at the bottom and read back:
`order` says whether none is lost, doubled or out of order. `PSNR` is luma, result to source; `memory` the
most of the process so far.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import measure
from benchmarks.video import PRESET, RATE_HZ, UNSTEADY, psnr_db
from gpenvideo import load
from gpenvideo.degradation.camera import CameraPath, Key, shoot
from gpenvideo.faces.tracker import KEEP
from gpenvideo.networks import load_detector
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.report import Report
from gpenvideo.transcode import Decoding, Encoding, restore_video
from gpenvideo.video.clip import read_clip, write_clip

BITS, BAR_PX = 12, 8
CLIPS = {"640x360, one face": ((640, 360), 1), "640x360, three faces": ((640, 360), 3)}
ON_CUDA = {"1080p, one face": ((1920, 1080), 1)}
CASES = {"as it ships": (True, "software"), "without temporal": (False, "software")}  # temporal, decoder
CASES_ON_CUDA = CASES | {"decoded by NVDEC": (True, "nvdec")}


def numbered(pixels: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """With its number in white and black squares along the lower edge."""
    side = pixels.shape[1] // BITS
    for bit in range(BITS):
        pixels[-BAR_PX:, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
    return pixels


def number_of(pixels: NDArray[np.uint8]) -> int:
    side = pixels.shape[1] // BITS
    levels = pixels[-BAR_PX:, : side * BITS].reshape(BAR_PX, BITS, side, 3).mean(axis=(0, 2, 3))
    return sum(1 << bit for bit in range(BITS) if levels[bit] > 127)


def film(path: Path, size: tuple[int, int], faces: int, frames: int) -> None:
    """A camera over one portrait, or over several side by side."""
    from skimage.data import astronaut

    picture = np.asarray(astronaut())
    if faces > 1:
        picture = np.tile(picture[20:270, 110:360], (1, faces, 1))
    place = {"x": 0.45, "y": 0.3, "width": 0.65} if faces == 1 else {"x": 0.5, "y": 0.5, "width": 0.9}
    keys = [
        Key(3.0 * i, **place | {"width": place["width"] - 0.08 * (i % 2)}, roll_deg=2 * (i % 2))
        for i in range(frames // RATE_HZ // 3 + 2)
    ]
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 2.0, (8, *size[::-1], 1)).astype(np.float32)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for i, shot in enumerate(
            shoot(picture, CameraPath(tuple(keys), UNSTEADY, seed=4), size, frames, RATE_HZ)
        ):
            noisy = np.clip(shot.pixels + grain[i % 8], 0, 255).round().astype(np.uint8)
            yield numbered(noisy, i)

    write_clip(path, pictures(), RATE_HZ, crf=18, options={"preset": "veryfast"})


def in_order(path: Path, frames: int) -> str:
    found = [number_of(np.array(pixels)) for pixels in read_clip(path)]
    return "kept" if found == [i % (1 << BITS) for i in range(frames)] else "BROKEN"


def restore(
    source: Path, target: Path, faces: int, restorer: Any, detector: Any, temporal: bool, decoder: str
) -> tuple[Report, float]:
    how: dict[str, Any] = {"options": RestoreOptions(max_faces=faces, temporal=temporal)}
    how |= {"decoding": Decoding(decoder=decoder), "encoding": Encoding(preset=PRESET)}
    start = time.perf_counter()
    report = restore_video(source, target, weights=restorer, detector=detector, **how)
    return report, time.perf_counter() - start


def rows_of(
    name: str, source: Path, folder: Path, faces: int, networks: Any, rounds: int, cases: Any
) -> list[dict[str, Any]]:
    rows = []
    target = folder / "restored.mp4"
    for _ in range(rounds):
        for case, how in cases.items():
            report, seconds = restore(source, target, faces, *networks, *how)
            frames = report.written
            rows.append(
                {
                    "clip": name,
                    "case": case,
                    "network": report.network,
                    "decoder": report.stream["decoder"],
                    "frames": frames,
                    "faces a frame": round(report.faces / frames, 2),
                    "fps": round(frames / seconds, 1),
                    "reported": round(report.fps, 1),
                    **{f"{stage} ms": round(s / frames * 1e3, 2) for stage, s in report.stages_s.items()},
                    "order": in_order(target, frames),
                    "PSNR dB": psnr_db(source, target, 25),
                    "memory MB": round(measure.peak_memory_of_this_process_mb()),
                }
            )
            print(rows[-1], flush=True)
    return rows


def published(device: str) -> Any:
    """GPEN-2048 with random weights: its pictures mean nothing, its cost is the published network's."""
    from benchmarks.model import network
    from gpenvideo.restorer import GPENRestorer

    restorer = GPENRestorer(network(2048), device=device)
    restorer.warm_up()
    return restorer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--weights")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    on_cuda = options.device == "cuda"
    if on_cuda and options.weights is None:
        restorer = published("cuda")
    else:
        restorer = load(options.weights, device=options.device)
    networks = restorer, load_detector(device=options.device, dtype="auto", threshold=KEEP)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (size, faces) in (ON_CUDA if on_cuda else CLIPS).items():
            source = Path(folder) / "source.mp4"
            film(source, size, faces, options.seconds * RATE_HZ)
            cases = CASES_ON_CUDA if on_cuda else CASES
            rows += rows_of(name, source, Path(folder), faces, networks, options.rounds, cases)
    name = "pipeline_cuda" if on_cuda else "pipeline"
    print(measure.table(rows), measure.save(name, rows), sep="\n\n")


if __name__ == "__main__":
    main()
