"""What each technique brings to the network, one after another: speed, memory and quality in every row.

    python -m benchmarks.waterfall [--sizes default 512 ...] [--rounds 7] [--threads 2] [--device cpu]

Sizes are the default weights and published networks with random weights. Each row adds its technique to the
row before. `ms` is a face's share of a call, `PSNR` against the first row over the range of 2; `memory` is
the peak of a process that does only this, less what it had before the network was there (on CUDA of the GPU).
On CUDA `share of floor` is the time that the roofline of an H200 allows at 2048 px in half precision, 1.03 ms
(notes on cost), scaled by multiplications to other sizes, over the time measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks import measure
from benchmarks.model import GMAC, network
from gpenvideo import load
from gpenvideo.gpen import GPEN
from gpenvideo.gpen.fused import FusedGPEN
from gpenvideo.gpen.generator import for_inference
from gpenvideo.gpen.onednn import OneDnnGPEN, has_post_operations
from gpenvideo.restorer import GPENRestorer

FLOOR_MS = 1.03
Run = Callable[[Tensor], Tensor]


def model_of(size: str) -> GPEN:
    if size == "default":
        return load(device="cpu", dtype="fp32").model
    model = network(int(size))
    spread = model(faces(int(size), 1, "cpu")).std()
    for rgb in model.synthesis.to_rgbs:  # restorers clamp: random pictures are brought into the range
        for parameter in rgb.parameters(recurse=False):
            parameter /= 4 * spread
    return model


def builders(size: str, device: str) -> dict[str, tuple[Callable[[], Run], int]]:
    """By technique: what builds it, and how many faces a call takes."""

    def source() -> GPEN:
        return model_of(size).to(device)

    def restorer(batch: int, dtype: str, *, compiled: bool = False) -> Callable[[], Run]:
        return lambda: (
            GPENRestorer(source(), device=device, dtype=dtype, max_batch=batch, compile=compiled).__call__
        )

    half = torch.float16 if device == "cuda" else torch.bfloat16
    found: dict[str, tuple[Callable[[], Run], int]] = {
        "as it is trained": (source, 1),
        "gains folded, styles packed, channels_last": (lambda: for_inference(source()), 1),
        "half precision": (lambda: for_inference(source(), half), 1),
    }
    if device == "cuda":
        found["fused kernels"] = (lambda: FusedGPEN(for_inference(source(), half)), 1)
        found["graphs"] = (restorer(1, "fp16"), 1)
        found |= {f"{batch} faces at once": (restorer(batch, "fp16"), batch) for batch in (2, 4, 8)}
        found["compiled"] = (restorer(8, "fp16", compiled=True), 8)
        return found
    if has_post_operations(half):
        found["styles in the weights, post-operations"] = (
            lambda: OneDnnGPEN(for_inference(source()), half),
            1,
        )
    found["instead, compiled"] = (restorer(1, "bf16", compiled=True), 1)
    return found


def faces(size_px: int, count: int, device: str) -> Tensor:
    torch.manual_seed(1)
    x = F.interpolate(torch.rand(count, 3, 16, 16) * 2 - 1, size=(size_px, size_px), mode="bicubic")
    return x.clamp(-1, 1).to(device)


def rows_of(size: str, device: str, rounds: int) -> list[dict[str, Any]]:
    size_px = 256 if size == "default" else int(size)
    made = {name: (build(), batch) for name, (build, batch) in builders(size, device).items()}
    inputs = {batch: faces(size_px, batch, device) for _, batch in made.values()}
    cases: dict[str, Callable[[], object]] = {
        name: (lambda run=run, x=inputs[batch]: run(x)) for name, (run, batch) in made.items()
    }
    times = measure.interleaved(cases, rounds)
    first = next(iter(made))
    rows = []
    for name, (run, batch) in made.items():
        x = inputs[batch]
        exact = torch.cat([made[first][0](face).float() for face in x.split(1)])
        noise = (run(x).float() - exact).square().mean().sqrt().clamp_min(1e-9)
        median, spread = measure.summary([seconds / batch for seconds in times[name]])
        before, after = measure.peak_memory_mb(
            "benchmarks.waterfall", "--one", size, name, "--device", device
        )
        share = FLOOR_MS * GMAC[size_px] / GMAC[2048] / (median * 1e3) if size != "default" else 0.0
        rows.append(
            {
                "network": size,
                "with": name,
                "ms": round(median * 1e3, 2),
                "IQR ms": round(spread * 1e3, 2),
                "speed / first": round(measure.ratio([s * batch for s in times[first]], times[name]), 2),
                "PSNR dB": round(float(20 * torch.log10(2 / noise)), 1),
                "memory MB": round(after - before),
                **({"share of floor": round(share, 3)} if device == "cuda" and share else {}),
            }
        )
        print(measure.table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def one(size: str, name: str, device: str) -> None:
    """Build and run one case alone, and print the peak memory before and after, MB."""
    before = 0.0 if device == "cuda" else measure.peak_memory_of_this_process_mb()
    build, batch = builders(size, device)[name]
    run, x = build(), faces(256 if size == "default" else int(size), batch, device)
    for _ in range(3):
        run(x)
    on_device = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else None
    print(before, measure.peak_memory_of_this_process_mb() if on_device is None else on_device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", nargs="+", default=["default", "512"], choices=["default", *map(str, GMAC)]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        if options.one:
            return one(*options.one, options.device)
        rows = [row for size in options.sizes for row in rows_of(size, options.device, options.rounds)]
    name = "waterfall" if options.device == "cpu" else "waterfall_cuda"
    print(measure.table(rows), measure.save(name, rows), sep="\n\n")


if __name__ == "__main__":
    main()
