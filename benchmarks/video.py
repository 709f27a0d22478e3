"""Whole videos on a CPU, side by side: everything but the network.

    python -m benchmarks.video [--quick] [--rounds 3] [--threads 2]

The clips are of a virtual camera over scikit-image's astronaut, with a little noise, as cameras have. `ours`
is `restore_video` with a network that changes nothing (256 px, FFHQ's template), the default detector at its
default cadence and x264's veryfast; of the clips with one face the largest is restored, so that a mistake of
the detector does not count. `decode + encode` is the same reader and writer, each in its thread, with nothing
between them. `usual style` is benchmarks.usual on the first frames of the same clip. They run in turn; ratios
are taken round by round and are of times a frame. `CPU ms` is the processor time of all threads a frame,
which a machine shared with others changes least. `PSNR` is luma, result to source.
`memory` is the peak of a process that does one run, less what it had once the networks were loaded.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import measure, usual
from gpenvideo import weights
from gpenvideo.degradation.camera import CameraPath, Key, Shake, shoot
from gpenvideo.faces.alignment import template
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Frame
from gpenvideo.gpen.memory import keep_freed_memory
from gpenvideo.networks import load_detector, load_networks
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.report import Report
from gpenvideo.stream import prefetch
from gpenvideo.transcode import Encoding, restore_video
from gpenvideo.video.clip import write_clip
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter

PRESET, RATE_HZ, NOISE_LEVELS = "veryfast", 25, 2.0
OWN = ("shots", "detect", "track", "identity", "crop", "steady", "paste")
PUBLISHED = Path(__file__).parents[1].parent / "shared/data/weights/retinaface_mobilenet0.25_Final.pth"


class Same:
    """A network that changes nothing; the process is set up as it is for the networks that do."""

    max_batch, size_px = 8, 256
    template = template("ffhq", 256)

    def __init__(self) -> None:
        keep_freed_memory()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


class Scene(NamedTuple):
    """What a clip shows."""

    size: tuple[int, int]
    frames: int
    tiles: tuple[int, int]
    """How many heads, down and across; (1, 1) is the whole portrait."""
    path: CameraPath
    select: str
    usual_frames: int


UNSTEADY = Shake(0.003, 0.25)
SCENES = {
    "640x360, one face": Scene(
        (640, 360),
        250,
        (1, 1),
        CameraPath(
            (
                Key(0.2, x=0.5, y=0.4, width=0.95),
                Key(5.0, x=0.45, y=0.3, width=0.6, roll_deg=-3),
                Key(9.5, x=0.46, y=0.3, width=0.55, roll_deg=3),
            ),
            UNSTEADY,
            seed=4,
        ),
        "largest",
        25,
    ),
    "1080p, one face": Scene(
        (1920, 1080),
        100,
        (1, 1),
        CameraPath(
            (Key(0.0, x=0.47, y=0.3, width=0.9), Key(4.0, x=0.45, y=0.28, width=0.8, roll_deg=2)),
            UNSTEADY,
            seed=4,
        ),
        "largest",
        5,
    ),
    "1080p, six faces": Scene(
        (1920, 1080),
        100,
        (2, 3),
        CameraPath((Key(0.0, width=0.98), Key(4.0, width=0.92, roll_deg=1)), UNSTEADY, seed=4),
        "all",
        5,
    ),
}


def film(scene: Scene, path: Path) -> None:
    from skimage.data import astronaut

    picture = np.asarray(astronaut())
    if scene.tiles != (1, 1):
        picture = np.tile(picture[20:270, 110:360], (*scene.tiles, 1))
    rng = np.random.default_rng(0)
    grain = rng.normal(0, NOISE_LEVELS, (8, *scene.size[::-1], 1)).astype(np.float32)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for i, shot in enumerate(shoot(picture, scene.path, scene.size, scene.frames, RATE_HZ)):
            yield np.clip(shot.pixels + grain[i % 8], 0, 255).round().astype(np.uint8)

    write_clip(path, pictures(), RATE_HZ, crf=18, options={"preset": "veryfast"})


def ours(scene: Scene, source: Path, target: Path, network: Any, detector: Detector) -> Report:
    options, encoding = RestoreOptions(select=scene.select), Encoding(preset=PRESET)
    return restore_video(
        source, target, weights=network, detector=detector, options=options, encoding=encoding
    )


def decode_and_encode(source: Path, target: Path) -> None:
    with VideoReader(source) as reader, VideoWriter(target, reader, preset=PRESET) as writer:
        with prefetch(reader, name="decode") as items:
            for item in items:
                writer.write(item)
        writer.finish()


def rows_of(
    name: str, scene: Scene, source: Path, folder: Path, detector: Detector, rounds: int
) -> list[dict[str, Any]]:
    published = PUBLISHED if PUBLISHED.exists() else weights.find("gpenvideo-retinaface-mobile0.25")
    facexlib, reports, spent = usual.retinaface(published), list[Report](), dict[str, list[float]]()
    targets = {case: folder / f"{case}.mp4" for case in ("decode + encode", "ours", "usual style")}

    def counted(case: str, run: Callable[[], object]) -> Callable[[], object]:
        def case_run() -> None:
            start = time.process_time()
            run()
            spent.setdefault(case, []).append(time.process_time() - start)

        return case_run

    def run_usual() -> object:
        return usual.restore(
            source, targets["usual style"], facexlib, lambda pixels: pixels, frames=scene.usual_frames
        )

    runs: dict[str, Callable[[], object]] = {
        "decode + encode": lambda: decode_and_encode(source, targets["decode + encode"]),
        "ours": lambda: reports.append(ours(scene, source, targets["ours"], Same(), detector)),
        "usual style": run_usual,
    }
    cases = {case: counted(case, run) for case, run in runs.items()}
    seconds = measure.interleaved(cases, rounds, at_least_s=0)
    frames = dict.fromkeys(cases, scene.frames) | {"usual style": scene.usual_frames}
    times = {case: [s / frames[case] for s in seconds[case]] for case in cases}
    before, after = measure.peak_memory_mb("benchmarks.video", "--one", name, str(source))
    report = reports[-1]
    faces = report.faces / report.written
    rows = []
    for case in cases:
        median, spread = measure.summary(times[case])
        rows.append(
            {
                "clip": name,
                "case": case,
                "faces a frame": round(faces, 2) if case == "ours" else None,
                "fps": round(1 / median, 1),
                "ms": round(median * 1e3, 2),
                "IQR ms": round(spread * 1e3, 2),
                "CPU ms": round(measure.summary(spent[case][2:])[0] / frames[case] * 1e3, 2),
                "speed / decode + encode": round(measure.ratio(times["decode + encode"], times[case]), 3),
                "speed / usual style": round(measure.ratio(times["usual style"], times[case]), 2),
                "PSNR dB": psnr_db(source, targets[case], scene.usual_frames),
                "memory MB": round(after - before) if case == "ours" else None,
            }
        )
    return [*rows, *profiles(name, "ours", reports[-rounds:])]


def profiles(name: str, case: str, reports: list[Report]) -> list[dict[str, Any]]:
    """Milliseconds a frame of every stage and of every wait: the median of the runs."""

    def ms(values: list[float]) -> float:
        return round(measure.summary(values)[0] * 1e3, 2)

    per_frame = [{k: s / r.written for k, s in {**r.stages_s, **r.waits_s}.items()} for r in reports]
    own = ms([sum(p.get(stage, 0.0) for stage in OWN) for p in per_frame])
    columns = ("decode", *OWN[:-1], "network", "paste", "encode")
    waits = ("decode full", "decode empty", "restore full", "restore empty")
    stages = {f"{c} ms": ms([p.get(c, 0.0) for p in per_frame]) for c in (*columns, *waits)}
    return [{"clip": name, "profile": case, "own ms": own, **stages}]


def psnr_db(source: Path, target: Path, frames: int) -> float:
    """Luma, of the first frames together."""
    with VideoReader(source) as one, VideoReader(target) as other:
        pairs = zip(*((f for f in r if isinstance(f, Frame)) for r in (one, other)), strict=False)
        errors = [
            np.square(a.planes[0].astype(np.float32) - b.planes[0]).mean()
            for a, b in itertools.islice(pairs, frames)
        ]
    return round(float(10 * np.log10(255**2 / np.mean(errors))), 2)


def default_network_row(scene: Scene, source: Path, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The default weights, both networks, on the clip with one small face."""
    network, detector = load_networks(None, None)
    reports = [ours(scene, source, folder / "default.mp4", network, detector) for _ in range(rounds + 1)][1:]
    [row] = profiles("640x360, one face", "default weights", reports)
    return [row | {"fps": round(measure.summary([r.fps for r in reports])[0], 1), "network": repr(network)}]


def one(name: str, source: Path) -> None:
    """One run, and the peak memory before and after it."""
    detector = load_detector(threshold=0.5)
    detector([np.zeros((360, 640, 3), np.uint8)])
    before = measure.peak_memory_of_this_process_mb()
    with tempfile.TemporaryDirectory() as folder:
        ours(SCENES[name], source, Path(folder) / "out.mp4", Same(), detector)
    print(before, measure.peak_memory_of_this_process_mb())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="shorter clips, one round, nothing saved")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(options.one[0], Path(options.one[1]))
    torch.set_num_threads(options.threads)
    rounds = 1 if options.quick else options.rounds
    _, detector = load_networks(Same(), None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, scene) in enumerate(SCENES.items()):
            if options.quick:
                scene = scene._replace(frames=scene.frames // 4, usual_frames=3)
            source = Path(folder) / f"{number}.mp4"
            film(scene, source)
            rows += rows_of(name, scene, source, Path(folder), detector, rounds)
            if number == 0:
                rows += default_network_row(scene, source, Path(folder), rounds)
    for kind in ("case", "profile"):
        print(measure.table([row for row in rows if kind in row]), end="\n\n")
    if not options.quick:
        print(measure.save("video", rows))


if __name__ == "__main__":
    main()
