"""One forward pass of the published networks on a CPU, side by side.

    python -m benchmarks.model [--sizes 256 512] [--rounds 9] [--threads 2]

Rows: a naive transcription of the formulas (one weight a sample, zero insertion), ONNX Runtime on our own
exported graph, ours eager and ours compiled, in fp32 and bf16. `share of ceiling` is the rate of the
network's convolutions (counts of the notes on cost: 8.562 GMAC at 256, 137.045 at 512) over the rate of one
large channels_last convolution in the same precision, measured in the same round. `PSNR` is against ours in
fp32, eager, over the range of 2. `memory` is the peak resident memory of a process that does only this, less
what it had before the network was built.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks import measure
from benchmarks.naive import NaiveGPEN
from gpenvideo.gpen import GPEN, GPENConfig, channel_table, checkpoint, published
from gpenvideo.restorer import GPENRestorer

WIDTHS = {256: (1, 0.5), 512: (2, 1.0), 1024: (2, 1.0), 2048: (2, 1.0)}
GMAC = {256: 8.562, 512: 137.045, 1024: 171.119, 2048: 205.445}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Run = Callable[[Tensor], Tensor]


def network(size: int) -> GPEN:
    torch.manual_seed(0)
    model = GPEN(GPENConfig(size, size, channel_table(size, *WIDTHS[size]))).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("skip_gain"):
            parameter.data.fill_(0.5)
    return model.requires_grad_(False)


def ours(model: GPEN, precision: str, *, compiled: bool) -> Run:
    return GPENRestorer(model, device="cpu", dtype=precision, compile=compiled, max_batch=1)._run


def naive(model: GPEN, precision: str) -> Run:
    config = model.config
    plain = NaiveGPEN(config.channels).eval()
    plain.load_state_dict(published.to_published(model.state_dict(), config))
    plain = plain.to(DTYPES[precision])
    return lambda x: plain(x.to(DTYPES[precision])).float()


def onnx_runtime(model: GPEN, threads: int) -> Run:
    import onnxruntime

    from gpenvideo.gpen.generator import for_inference

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.zeros(1, 3, model.config.input_size_px, model.config.input_size_px)
        file = Path(folder) / "net.onnx"
        torch.onnx.export(for_inference(model), (x,), file, dynamo=True, input_names=["x"], verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def builders(size: int, precision: str, threads: int) -> dict[str, Callable[[], Run]]:
    cases = {
        "naive": lambda: naive(network(size), precision),
        "ours, eager": lambda: ours(network(size), precision, compiled=False),
        "ours, compiled": lambda: ours(network(size), precision, compiled=True),
    }
    if precision == "fp32":  # its CPU provider has no bf16 convolutions
        cases["ONNX Runtime"] = lambda: onnx_runtime(network(size), threads)
    return cases


def ceiling(precision: str) -> tuple[Callable[[], object], float]:
    """A large channels_last convolution, and its operations."""
    channels, side = 256, 128
    x = torch.randn(1, channels, side, side).to(DTYPES[precision])
    w = torch.randn(channels, channels, 3, 3).to(DTYPES[precision]) * 0.02
    x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
    return lambda: F.conv2d(x, w, padding=1), 2.0 * 9 * channels**2 * side**2


def rows_of(size: int, precision: str, rounds: int, threads: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    x = F.interpolate(torch.rand(1, 3, 16, 16) * 2 - 1, size=(size, size), mode="bicubic").clamp(-1, 1)
    exact = ours(network(size), "fp32", compiled=False)(x)
    runs, starts = {}, {}
    for name, build in builders(size, precision, threads).items():
        run = build()
        start = time.perf_counter()
        run(x)
        starts[name], runs[name] = time.perf_counter() - start, run
    convolution, operations = ceiling(precision)
    cases: dict[str, Callable[[], object]] = {"ceiling": convolution}
    cases |= {name: (lambda run=run: run(x)) for name, run in runs.items()}
    times = measure.interleaved(cases, rounds)
    rows = []
    for name, run in runs.items():
        median, spread = measure.summary(times[name])
        share = measure.ratio(times["ceiling"], times[name]) * 2e9 * GMAC[size] / operations
        noise = (run(x) - exact).square().mean().sqrt().clamp_min(1e-9)
        before, after = measure.peak_memory_mb("benchmarks.model", "--one", str(size), precision, name)
        rows.append(
            {
                "size": size,
                "precision": precision,
                "implementation": name,
                "ms": round(median * 1e3, 1),
                "IQR ms": round(spread * 1e3, 1),
                "time / ours eager": round(measure.ratio(times[name], times["ours, eager"]), 3),
                "share of ceiling": round(share, 3),
                "PSNR dB": round(float(20 * torch.log10(2 / noise)), 1),
                "memory MB": round(after - before),
                "first call s": round(starts[name], 2),
            }
        )
        print(measure.table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def one(size: int, precision: str, name: str, threads: int) -> None:
    """Build and run one case alone, and print the peak memory before and after."""
    before = measure.peak_memory_of_this_process_mb()
    run, x = builders(size, precision, threads)[name](), torch.zeros(1, 3, size, size)
    for _ in range(3):
        run(x)
    print(before, measure.peak_memory_of_this_process_mb())


def load_row(size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.pth"
        checkpoint.save(network(size), file)
        start = time.perf_counter()
        checkpoint.load(file)
        seconds = time.perf_counter() - start
        before, after = measure.peak_memory_mb("benchmarks.model", "--load", str(file))
        file_mb = file.stat().st_size / 1e6
    return {
        "size": size,
        "load s": round(seconds, 2),
        "file MB": round(file_mb),
        "peak memory / file": round((after - before) / file_mb, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], choices=list(WIDTHS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        if options.one:
            size, precision, name = options.one
            return one(int(size), precision, name, options.threads)
        if options.load:
            before = measure.peak_memory_of_this_process_mb()
            checkpoint.load(options.load)
            return print(before, measure.peak_memory_of_this_process_mb())
        rows = [
            row
            for size in options.sizes
            for precision in DTYPES
            for row in rows_of(size, precision, options.rounds, options.threads)
        ]
        loads = [load_row(size) for size in WIDTHS]
    print(measure.table(rows), measure.table(loads), measure.save("model", rows + loads), sep="\n\n")


if __name__ == "__main__":
    main()
