"""Crop and paste of one face: on the host, and on a CUDA device where there is one.

    python -m benchmarks.kernels [--rounds 9] [--threads 1]

A face 400 px wide in 1080p (8 bits 4:2:0), and one of 150 px in 640x360, for networks of 256 to 2048 px.
`bytes` is what has to be read and written at least (the crop once, restored face, crop and mask once, the
mask's part of the planes); `GB/s` that over the time. `error` is the device's planes against the host's,
levels of 255.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks import measure
from gpenvideo.crops import paste_of
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.faces.mask import rounded
from gpenvideo.frame import Colour, Frame, Layout
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.cuda import crop_batch, paste_batch
from gpenvideo.kernels.device import DeviceMask, DevicePaste, DevicePlanes
from gpenvideo.kernels.paste import paste

PICTURES = {"1080p, 400 px": ((1920, 1080), 400.0), "640x360, 150 px": ((640, 360), 150.0)}
SIZES = (256, 512, 1024, 2048)


def picture(size: tuple[int, int]) -> Frame:
    rng = np.random.default_rng(0)
    width, height = size
    noise = [cv2.GaussianBlur(rng.uniform(0, 255, s).astype(np.float32), (0, 0), 3) for s in
             ((height, width), (height // 2, width // 2), (height // 2, width // 2))]  # fmt: skip
    planes = tuple(cv2.normalize(part, None, 16, 235, cv2.NORM_MINMAX).astype(np.uint8) for part in noise)
    return Frame(planes, Layout("yuv", 8, (2, 2)), Colour(1, False), 0, Fraction(1, 25))


def rows_of(name: str, size_px: int, rounds: int) -> list[dict[str, Any]]:
    size, width_px = PICTURES[name]
    frame, wanted = picture(size), template("ffhq", 512)
    landmarks = (wanted - wanted.mean(axis=0)) * (width_px / 300) + np.array(size) / 2
    points = template("ffhq", size_px)
    matrix = crop_from_frame(np.float32(landmarks), points)
    original = crop(frame, matrix, size_px)
    restored = np.ascontiguousarray(original[::-1])
    pasted = frame.copy()

    def paste_on_host() -> object:
        return paste(pasted, [paste_of(restored, original, matrix, points, 1.0)])

    cases: dict[str, Callable[[], object]] = {
        "crop, host": lambda: crop(frame, matrix, size_px),
        "paste, host": paste_on_host,
    }
    there = None
    if torch.cuda.is_available():
        there = DevicePlanes.of(frame, "cuda")
        out = torch.empty(1, 3, size_px, size_px, dtype=torch.float16, device="cuda").contiguous(
            memory_format=torch.channels_last
        )
        face = torch.from_numpy(restored).permute(2, 0, 1).to("cuda", torch.float16)
        mask = DeviceMask.of(rounded(size_px, points), "cuda")
        crop_batch([there], [matrix], out)
        given = [[DevicePaste(face, out[0].clone(), mask, matrix)]]
        cases["crop, device"] = lambda: crop_batch([there], [matrix], out)
        cases["paste, device"] = lambda: paste_batch([there], given)
    times = measure.interleaved(cases, rounds)
    inside = width_px**2 * 3
    least = {"crop": size_px**2 * 6 + inside, "paste": size_px**2 * (6 + 6 + 4) + 2 * inside}
    rows = []
    for case, seconds in times.items():
        median, spread = measure.summary(seconds)
        bytes_ = least[case.split(",")[0]]
        rows.append(
            {
                "picture": name,
                "network px": size_px,
                "kernel": case,
                "ms": round(median * 1e3, 3),
                "IQR ms": round(spread * 1e3, 3),
                "bytes": round(bytes_),
                "GB/s": round(bytes_ / median / 1e9, 1),
                "error": error(frame, there, paste_on_host, pasted) if case == "paste, device" else None,
            }
        )
    return rows


def error(
    frame: Frame, there: DevicePlanes | None, paste_on_host: Callable[[], object], pasted: Frame
) -> float | None:
    """The largest difference after one paste into the same picture; the device has pasted many times over."""
    if there is None:
        return None
    for ours, before in zip(pasted.planes, frame.planes, strict=True):
        ours[...] = before
    for _ in range(64):  # what is pasted over and over converges
        paste_on_host()
    pairs = zip(there.planes, pasted.planes, strict=True)
    return float(max(np.abs(plane.cpu().numpy().astype(int) - ours).max() for plane, ours in pairs))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    rows = [row for name in PICTURES for size in SIZES for row in rows_of(name, size, options.rounds)]
    place = "kernels_cuda" if torch.cuda.is_available() else "kernels"
    print(measure.table(rows), measure.save(place, rows), sep="\n\n")


if __name__ == "__main__":
    main()
