"""How steady and how good restored faces are, and what that costs; see benchmarks.temporal."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import measure
from benchmarks import video as whole_videos
from benchmarks.following import PRESETS, Row, decay_seed, found_in, raw_faces
from gpenvideo.analysis import Analysis
from gpenvideo.degradation import Preset
from gpenvideo.evaluate import region, temporal
from gpenvideo.evaluate.scenes import BAD_CRF, Scene, Subject, decayed, make_scene
from gpenvideo.evaluate.video import evaluate_video
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Rectangle
from gpenvideo.networks import load_networks
from gpenvideo.pipeline import Restored, RestoreOptions, VideoRestorer
from gpenvideo.report import Report
from gpenvideo.restorer import Restorer
from gpenvideo.transcode import Encoding, restore_video
from gpenvideo.video.clip import read_clip, write_clip
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

REAL = (("liveportrait_d10.mp4", 0), ("intel_asl_eat.mkv", 20))
FRAMES = 75  # of a clip
LOSSLESS = Encoding(codec="ffv1")
WAYS = ("raw", "no-temporal", "ships")
EYES, MOUTH = ((0.3, 0.2), (0.55, 0.45))  # half axes of what moves, in eye distances


def steadiness(people: Sequence[Subject], videos: Path, folder: Path, quick: bool) -> list[Row]:
    network, detector = load_networks(None, None)
    rows = list[Row]()
    for name, preset, seed, scene in clips(people, videos, quick):
        place = folder / f"{name}_{preset}_{seed}"
        write_clips(place, scene, preset, seed, network, detector)
        row: Row = {"scene": name, "preset": preset, "seed": seed}
        row |= judged(place, detector)
        places = landmarks(place, scene, detector)
        row |= within(place, scene, places) | in_one_light(place, places)
        rows.append(row)
        print(f"steadiness: {row}", flush=True)
    groups = {"all": rows} | {
        f"{name}, {preset}": [row for row in rows if (row["scene"], row["preset"]) == (name, preset)]
        for name, preset in dict.fromkeys((row["scene"], row["preset"]) for row in rows)
    }
    return [summary(name, part) for name, part in groups.items()] + rows


def clips(people: Sequence[Subject], videos: Path, quick: bool) -> Iterator[tuple[str, Preset, int, Scene]]:
    for seed, name, preset in itertools.product(range(1 if quick else 2), ("hand", "blink", "talk"), PRESETS):
        yield name, preset, seed, first_frames(make_scene(name, people, seed))
    for (file, first), preset in itertools.product(REAL, PRESETS):
        with VideoReader(videos / file) as reader:
            rate_hz = float(reader.info.rate_hz or 25)
        frames = list(itertools.islice(read_clip(videos / file), first, first + FRAMES))
        yield Path(file).stem, preset, 0, Scene(file, rate_hz, frames, [{}] * len(frames), [])


def first_frames(scene: Scene) -> Scene:
    events = tuple(event for event in scene.intervals if event.start < FRAMES)
    frames, faces, hidden = scene.frames[:FRAMES], scene.faces[:FRAMES], scene.hidden[:FRAMES]
    return replace(scene, frames=frames, faces=faces, hidden=hidden, intervals=events)


def write_clips(
    folder: Path, scene: Scene, preset: Preset, seed: int, network: Restorer, detector: Detector
) -> None:
    """truth.mkv, bad.mp4, and what each of WAYS makes of it, without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder / "truth.mkv", scene.frames, scene.rate_hz, codec="ffv1", pixel_format="yuv444p")
    bad = folder / "bad.mp4"
    write_clip(bad, decayed(scene, preset, decay_seed(preset, seed)), scene.rate_hz, crf=BAD_CRF)
    alone = RestoreOptions(temporal=False, grain="none")
    with (
        VideoReader(bad) as reader,
        VideoWriter(folder / "raw.mkv", reader, codec=LOSSLESS.codec) as writer,
    ):
        restorer = VideoRestorer(network, raw_faces(detector, reader.info), reader.info, alone)
        for item in restorer(reader):
            writer.write(item.frame if isinstance(item, Restored) else item)
        writer.finish()
    for way, options in (("no-temporal", alone), ("ships", RestoreOptions(grain="none"))):
        target = folder / f"{way}.mkv"
        restore_video(bad, target, weights=network, detector=detector, options=options, encoding=LOSSLESS)


def judged(folder: Path, detector: Detector) -> Row:
    def measures(**files: str) -> dict[str, dict[str, float]]:
        paths = {name: folder / file for name, file in files.items()}
        out = folder / f"evaluation_{Path(files['restored']).stem}"
        return evaluate_video(paths, out, detector, lambda reader: Analysis(detector, reader.info)).measures

    found = measures(input="bad.mp4", per_frame="raw.mkv", restored="ships.mkv", truth="truth.mkv")
    alone = measures(restored="no-temporal.mkv", truth="truth.mkv")["restored"]
    of = {
        "input": found["input"],
        "raw": found["per_frame"],
        "no-temporal": alone,
        "ships": found["restored"],
    }
    row: Row = {"warp truth": significant(found["truth"]["warp_error"])}
    row |= {f"warp {way}": significant(values["warp_error"]) for way, values in of.items()}
    row["warp ships / truth"] = round(of["ships"]["warp_ratio"], 3)
    for other in ("raw", "no-temporal", "input"):
        row[f"warp ships / {other}"] = round(of["ships"]["warp_error"] / of[other]["warp_error"], 3)
    row |= {f"PSNR {way}": round(values["psnr_db"], 2) for way, values in of.items()}
    row |= {f"sharpness {way}": round(values["sharpness"], 3) for way, values in of.items()}
    for other in ("raw", "no-temporal"):
        row[f"sharpness ships / {other}"] = round(of["ships"]["sharpness"] / of[other]["sharpness"], 3)
    row |= {f"jitter {way}": significant(of[way]["jitter_to_truth"]) for way in WAYS}
    return row


def within(folder: Path, scene: Scene, places: Sequence[Points | None]) -> Row:
    """What of the truth's detail is there in faces, and what there is where eyes blink or a mouth speaks.

    Detail is the regression of the gradients on the truth's: noise is sharp too, and has no part in it.
    """
    moves = {i for event in scene.intervals for i in range(event.start, event.stop)}
    names = (*WAYS, "truth")
    sums = {(part, name): np.zeros(3) for part in ("", "moving: ") for name in names}
    pictures = {name: read_clip(folder / f"{name}.mkv") for name in names}
    for number, (points, *shown) in enumerate(zip(places, *pictures.values(), strict=True)):
        height, width = shown[-1].shape[:2]
        if points is None:
            continue
        parts = {"": region.inside(points, Rectangle(0, 0, width, height))}
        if number in moves:
            parts["moving: "] = moving(scene.name, points, (height, width))
        for (part, mask), (name, picture) in itertools.product(parts.items(), zip(names, shown, strict=True)):
            error = np.mean((picture[mask].astype(float) - shown[-1][mask]) ** 2)
            sums[part, name] += (*gradients(picture, shown[-1], mask), error)
    row: Row = {}
    for part in ("", "moving: "):
        energy, detail, error = ({name: sums[part, name][i] for name in names} for i in range(3))
        row |= {f"{part}detail {way}": ratio(detail[way], energy["truth"]) for way in WAYS}
        for way in WAYS[:2]:
            row[f"{part}detail ships / {way}"] = ratio(detail["ships"], detail[way])
            if part:
                row[f"{part}sharpness ships / {way}"] = ratio(energy["ships"], energy[way])
                row[f"{part}PSNR ships - {way}"] = decibel(error[way], error["ships"])
    return row


def in_one_light(folder: Path, places: Sequence[Points | None]) -> Row:
    """The warp error less what a gain, a tilt of it and an offset explain: a film's flickering light, that
    restoration keeps. The ratio of the sums, to the truth's and to the other ways'."""
    names = (*WAYS, "truth")
    sums, before = dict.fromkeys(names, 0.0), dict[str, Pixels]()
    pictures = {name: read_clip(folder / f"{name}.mkv") for name in names}
    for points, *shown in zip(places, *pictures.values(), strict=True):
        at = dict(zip(names, shown, strict=True))
        if points is not None and before:
            height, width = at["truth"].shape[:2]
            place = region.bounds(points, (width, height), 0.15)
            cut = slice(place.y0, place.y1), slice(place.x0, place.x1)
            moved = temporal.motion(before["truth"][cut], at["truth"][cut])
            mask = moved.known & region.inside(points, place)
            if np.count_nonzero(mask) >= temporal.LEAST_PIXELS:
                for name in names:
                    was = temporal.warped(before[name][cut], moved.flow)
                    sums[name] += light_apart(at[name][cut], was, mask)
        before = at
    return {
        f"one light: warp ships / {other}": ratio(sums["ships"], sums[other])
        for other in ("truth", *WAYS[:2])
    }


def light_apart(picture: Pixels, other: Pixels, mask: NDArray[np.bool_]) -> float:
    """Mean square of what one differs by from another that is brought into its light."""
    now, was = (one[mask].astype(np.float64).ravel() / 255 for one in (picture, other))
    down = np.repeat(np.nonzero(mask)[0] / len(mask), 3)
    terms = np.stack([was, was * down, np.ones_like(was)])
    return float(np.mean((now - np.linalg.solve(terms @ terms.T, terms @ now) @ terms) ** 2))


def landmarks(folder: Path, scene: Scene, detector: Detector) -> list[Points | None]:
    """Of each frame, those of the one face; of a clip without that truth, of the largest found."""
    if any(scene.faces):
        return [faces.get(1) for faces in scene.faces]
    found = found_in(folder / "truth.mkv", partial(Analysis, detector))
    faces = [[track.face for track in analysed.tracks] for analysed in found]
    return [max(one, key=lambda f: f.size_px).landmarks.astype(float) if one else None for one in faces]


def gradients(picture: Pixels, truth: Pixels, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean square of the differences of neighbouring pixels, and mean product with the truth's."""
    energy = product = 0.0
    for axis in (0, 1):
        both = mask[1:] & mask[:-1] if axis == 0 else mask[:, 1:] & mask[:, :-1]
        own, true = (np.diff(one.astype(np.float32), axis=axis)[both] for one in (picture, truth))
        energy, product = energy + float((own**2).mean()), product + float((own * true).mean())
    return energy, product


def ratio(one: float, other: float) -> float | None:
    return round(float(one / other), 3) if other else None


def decibel(one: float, other: float) -> float | None:
    return round(float(10 * np.log10(one / other)), 2) if other else None


def moving(kind: str, landmarks: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    eye = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    centres, axes = (landmarks[:2], EYES) if kind == "blink" else (landmarks[3:].mean(axis=0)[None], MOUTH)
    turn = math.degrees(math.atan2(*(landmarks[1] - landmarks[0])[::-1]))
    mask = np.zeros(shape, np.uint8)
    for x, y in centres:
        cv2.ellipse(mask, ((float(x), float(y)), (2 * axes[0] * eye, 2 * axes[1] * eye), turn), 1, -1)
    return np.asarray(mask, bool)


def summary(name: str, rows: Sequence[Row]) -> Row:
    def mean(column: str) -> float | None:
        values = [row[column] for row in rows if row[column] is not None]
        return float(np.mean(values)) if values else None

    def geometric(column: str) -> float | None:
        values = [row[column] for row in rows if row[column] is not None]
        return round(math.exp(float(np.mean(np.log(values)))), 3) if values else None

    def gain(other: str) -> float:
        return round(float(np.mean([row["PSNR ships"] - row[f"PSNR {other}"] for row in rows])), 2)

    ratios = [f"warp ships / {other}" for other in ("truth", *WAYS[:2])]
    ratios += [f"one light: {ratio}" for ratio in ratios]
    ratios += [f"sharpness ships / {other}" for other in WAYS[:2]]
    kinds = ("detail", "moving: sharpness", "moving: detail")
    moved = [f"{kind} ships / {way}" for kind in kinds for way in WAYS[:2]]
    gains = [f"moving: PSNR ships - {way}" for way in WAYS[:2]]
    return {
        "clips": name,
        "number": len(rows),
        **{column: geometric(column) for column in ratios},
        "PSNR ships - raw": gain("raw"),
        "PSNR ships - no-temporal": gain("no-temporal"),
        **{column: geometric(column) for column in moved},
        **{column: value if (value := mean(column)) is None else round(value, 2) for column in gains},
    }


def significant(value: float) -> float:
    return float(f"{value:.4g}")


# -- cost


def cost(_: Sequence[Subject], __: Path, folder: Path, quick: bool) -> list[Row]:
    """Whole runs of one clip of 10 s, by turns."""
    network, detector = load_networks(None, None)
    name = "640x360, one face"
    scene = whole_videos.SCENES[name]._replace(frames=60 if quick else 250)
    source, reports, spent = folder / "clip.mp4", dict[str, list[Report]](), dict[str, list[float]]()
    whole_videos.film(scene, source)
    ways = {
        "ships": RestoreOptions(),
        "no-temporal": RestoreOptions(temporal=False),
        "no-temporal, no gates, no guard": RestoreOptions(temporal=False, gates=False, guard=False),
    }

    def run(way: str) -> Callable[[], object]:
        def case() -> None:
            start = time.process_time()
            target, encoding = folder / "out.mp4", Encoding(preset=whole_videos.PRESET)
            told = restore_video(
                source, target, weights=network, detector=detector, options=ways[way], encoding=encoding
            )
            reports.setdefault(way, []).append(told)
            spent.setdefault(way, []).append(time.process_time() - start)

        return case

    rounds = 1 if quick else 3
    times = measure.interleaved({way: run(way) for way in ways}, rounds, at_least_s=0)
    rows = list[Row]()
    for way in ways:
        seconds, spread = measure.summary(times[way])
        rows.append(
            {
                "clip": name,
                "case": way,
                "fps": round(scene.frames / seconds, 2),
                "IQR %": round(100 * spread / seconds, 1),
                "CPU ms": round(measure.summary(spent[way][2:])[0] / scene.frames * 1e3, 2),
                "speed / no-temporal": round(measure.ratio(times["no-temporal"], times[way]), 3),
                "CPU / no-temporal": round(measure.ratio(spent[way][2:], spent["no-temporal"][2:]), 3),
            }
        )
    profiles: list[dict[str, Any]] = []
    for way in ways:
        profiles += whole_videos.profiles(name, way, reports[way][-rounds:])
    return rows + profiles
