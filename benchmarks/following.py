"""How faces are followed through clips whose truth is known; see benchmarks.temporal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import invert
from gpenvideo.analysis import Analysed, Analysis, faces_in
from gpenvideo.degradation import Preset, draw
from gpenvideo.evaluate import temporal
from gpenvideo.evaluate.scenes import BAD_CRF, Scene, Subject, decayed, make_scene
from gpenvideo.face import FaceTrack
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.networks import load_embedder, load_finder
from gpenvideo.persons import Identity
from gpenvideo.video.clip import write_clip
from gpenvideo.video.reader import VideoReader

Points = NDArray[np.float64]
Row = dict[str, Any]
Find = Callable[[Iterable[Any]], Iterator[Any]]

PRESETS: tuple[Preset, ...] = ("film", "mild")
CORNERS = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], dtype=np.float64)
NEAR = 0.7  # face widths, from the truth to a face that is taken for it
CUT_LEVELS, SHOT_SIZE = 30, (64, 36)  # luma at a cut of that film changes by 34 levels or more, else below 22


def filmed(kind: str, people: Sequence[Subject], seed: int, preset: Preset, path: Path) -> Scene:
    """A scene, and its bad clip."""
    scene = make_scene(kind, people, seed)
    write_clip(path, decayed(scene, preset, decay_seed(preset, seed)), scene.rate_hz, crf=BAD_CRF)
    return scene


def decay_seed(preset: Preset, number: int) -> int:
    """The seed of that number among those whose film has no weave."""

    def weaves(seed: int) -> bool:
        film = draw(np.random.default_rng([seed, 1]), preset).film
        return film is not None and film.weave_px is not None

    return next(itertools.islice((s for s in itertools.count() if not weaves(s)), number, None))


def found_in(path: Path, find: Callable[[StreamInfo], Find]) -> list[Analysed]:
    with VideoReader(path) as reader:
        return list(find(reader.info)(item for item in reader if isinstance(item, Frame)))


def raw_faces(detector: Detector, info: StreamInfo) -> Find:
    """What is found in each frame by itself, as tools for pictures have it; ids mean nothing."""

    def find(frames: Iterable[Any]) -> Iterator[Any]:
        for frame in frames:
            if not isinstance(frame, Frame):
                yield frame
            else:
                faces = faces_in([frame], detector, info)[0]
                tracks = [FaceTrack(i + 1, face, frame.time_s, 0, 0, 1.0) for i, face in enumerate(faces)]
                yield Analysed(frame, tracks, False)

    return find


# -- tracking


def tracking(people: Sequence[Subject], _: Path, folder: Path, quick: bool) -> list[Row]:
    detector, rows = load_finder(None), list[Row]()
    ways: dict[str, Callable[[StreamInfo], Find]] = {
        "raw": partial(raw_faces, detector),
        "offline": partial(Analysis, detector),
        "live": partial(Analysis, detector, live=True),
    }
    for kind, preset, seed in itertools.product(("hand", "fast", "turn"), PRESETS, range(1 if quick else 3)):
        scene = filmed(kind, people, seed, preset, folder / "bad.mp4")
        truth = np.array([faces[1] for faces in scene.faces])
        found = {way: near(truth, found_in(folder / "bad.mp4", find)) for way, find in ways.items()}
        row: Row = {"scene": kind, "preset": preset, "seed": seed}
        for way, points in found.items():
            row |= {f"{way} {name}": value for name, value in followed(points, truth).items()}
        rows.append(row)
        print(f"tracking: {kind} {preset} {seed}", flush=True)
    groups = [(kind, preset) for kind in ("hand", "fast", "turn") for preset in PRESETS]
    chosen = {f"{k}, {p}": [r for r in rows if (r["scene"], r["preset"]) == (k, p)] for k, p in groups}
    return [tracking_summary(name, part) for name, part in ({"all": rows} | chosen).items()] + rows


def near(truth: Points, found: Sequence[Analysed]) -> Points:
    """(T, 5, 2): of each frame the landmarks of the face nearest to the truth; NaN where there is none."""
    points = np.full(truth.shape, np.nan)
    for i, (true, analysed) in enumerate(zip(truth, found, strict=True)):
        places = [track.face.landmarks.astype(np.float64) for track in analysed.tracks]
        apart = [float(np.linalg.norm((place - true).mean(axis=0))) for place in places]
        if apart and min(apart) < NEAR * width_px(true):
            points[i] = places[int(np.argmin(apart))]
    return points


def followed(points: Points, truth: Points) -> Row:
    unbiased = without_bias(points, truth)
    widths = np.array([width_px(true) for true in truth])
    return {
        "jitter": round(jitter(points, truth), 5),
        "lag frames": round(temporal.lag_frames(points, truth), 3),
        "error": round(float(np.nanmean(np.linalg.norm(points - truth, axis=2).mean(axis=1) / widths)), 4),
        "error at peak velocity": round(temporal.peak_velocity_error(points, truth, widths), 4),
        "beyond bias": round(temporal.peak_velocity_error(unbiased, truth, widths), 4),
        "missed": int(np.isnan(points[:, 0, 0]).sum()),
    }


def corners(points: Points) -> Points:
    """(T, 4, 2): where the corners of the aligned crop are in the frame."""
    places = np.full((len(points), 4, 2), np.nan)
    for i, landmarks in enumerate(points):
        if np.isfinite(landmarks).all():
            frame_from_crop = invert(crop_from_frame(landmarks, template("ffhq", 1)))
            places[i] = CORNERS @ frame_from_crop[:, :2].T + frame_from_crop[:, 2]
    return places


def jitters(points: Points, truth: Points) -> Points:
    """(T,): rms over the corners of the second difference of their error, in eye distances."""
    second = temporal.differences(corners(points) - corners(truth), 2)
    return np.asarray(np.sqrt((second**2).sum(axis=2).mean(axis=1)) / temporal.eye_distances(truth))


def jitter(points: Points, truth: Points) -> float:
    return temporal.rms(jitters(points, truth))


def without_bias(points: Points, truth: Points) -> Points:
    """Without the mean difference of the landmarks in the axes of the true face."""
    axes = [invert(crop_from_frame(true, template("ffhq", 1)))[:, :2] for true in truth]
    apart = [
        np.linalg.solve(axis, (one - true).T).T for axis, one, true in zip(axes, points, truth, strict=True)
    ]
    mean = np.nanmean(apart, axis=0)
    return np.asarray(points - np.array([mean @ axis.T for axis in axes]))


def width_px(landmarks: Points) -> float:
    """Of a face: twice the distance of its eyes."""
    return float(2 * np.linalg.norm(landmarks[1] - landmarks[0]))


def tracking_summary(name: str, rows: Sequence[Row]) -> Row:
    jitter_of = {
        way: temporal.rms([row[f"{way} jitter"] for row in rows]) for way in ("raw", "offline", "live")
    }
    fast = [row for row in rows if row["scene"] == "fast"]
    times = [row["raw jitter"] / row["offline jitter"] for row in rows]
    live_times = [row["raw jitter"] / row["live jitter"] for row in rows]

    def largest(column: str, of: Sequence[Row]) -> float | None:
        return max((abs(row[column]) for row in of if math.isfinite(row[column])), default=None)

    return {
        "clips": name,
        **{f"{way} jitter": round(value, 5) for way, value in jitter_of.items()},
        "raw / offline": round(jitter_of["raw"] / jitter_of["offline"], 2),
        "least": round(min(times), 2),
        "raw / live": round(jitter_of["raw"] / jitter_of["live"], 2),
        "least live": round(min(live_times), 2),
        "most lag offline": largest("offline lag frames", rows),
        "most lag live": largest("live lag frames", rows),
        "fast: error at peak velocity, mean": mean_of(fast, "offline error at peak velocity"),
        "beyond bias, mean": mean_of(fast, "offline beyond bias"),
        "beyond bias, most": largest("offline beyond bias", fast),
    }


def mean_of(rows: Sequence[Row], column: str) -> float | None:
    values = [row[column] for row in rows if row[column] is not None and math.isfinite(row[column])]
    return round(float(np.mean(values)), 4) if values else None


# -- persons


def persons(people: Sequence[Subject], _: Path, folder: Path, quick: bool) -> list[Row]:
    detector, embedder, rows = load_finder(None), load_embedder(), list[Row]()

    def told_apart(info: StreamInfo) -> Find:
        return Identity(embedder, info, guarded=False).told_apart(Analysis(detector, info))

    for kind, seeds in (("crossing", 20), ("leaving", 10), ("occlusion", 10)):
        outcomes = list[Row]()
        for seed in range(1 if quick else seeds):
            preset = PRESETS[seed % 2]
            scene = filmed(kind, people, seed, preset, folder / "bad.mp4")
            found = found_in(folder / "bad.mp4", told_apart)
            outcomes.append({"scene": kind, "seed": seed, "preset": preset} | kept(scene, found))
            print(f"persons: {outcomes[-1]}", flush=True)
        good = sum(row["kept"] for row in outcomes)
        known = type(embedder).__name__ if kind == "leaving" else None
        rows.append(
            {"scene": kind, "cases": len(outcomes), "kept": good, "share": good / len(outcomes), "by": known}
        )
        rows += outcomes
    return sorted(rows, key=len)


def kept(scene: Scene, found: Sequence[Analysed]) -> Row:
    """Whether each person has one id (leaving: one person's number) before and after what happens."""
    event, who = scene.intervals[0], dict[int, dict[bool, list[int]]]()
    for i, (faces, analysed) in enumerate(zip(scene.faces, found, strict=True)):
        if event.start <= i < event.stop:
            continue
        for person, true in faces.items():
            [place] = near(true[None], [analysed])
            track = next(
                (t for t in analysed.tracks if (t.face.landmarks == place.astype(np.float32)).all()), None
            )
            number = track and (track.person if scene.name == "leaving" else track.id)
            if number:
                who.setdefault(person, {}).setdefault(i >= event.stop, []).append(number)
    sides = [[sorted(set(parts.get(after, []))) for after in (False, True)] for parts in who.values()]
    one_each = all(len(before) == 1 and before == after for before, after in sides)
    apart = len({tuple(before) for before, _ in sides}) == len(sides)
    return {
        "kept": one_each and apart and len(sides) == len({p for f in scene.faces for p in f}),
        "ids": str(sides),
    }


# -- cuts


def cuts(people: Sequence[Subject], videos: Path, folder: Path, quick: bool) -> list[Row]:
    rows = list[Row]()
    for seed in range(1 if quick else 20):
        preset = PRESETS[seed % 2]
        scene = filmed("cuts", people, seed, preset, folder / "bad.mp4")
        wrong = {i.kind: [*range(i.start, i.stop + 1)] for i in scene.intervals}
        row: Row = {"clip": f"cuts {seed}", "preset": preset}
        row |= told(set(scene.cuts), shots_of(folder / "bad.mp4"))
        row["false in"] = [kind for kind, where in wrong.items() if set(where) & set(row["false"])]
        row["events"] = len(scene.intervals)
        rows.append(row)
        print(f"cuts: {row}", flush=True)
    film = videos / "cuts_ls_sva_d.264"
    total = {"clip": "synthetic", **counted(rows)}
    real = {"clip": film.name, **told(true_cuts(film), shots_of(film))}
    return [total, {"clip": real["clip"], **counted([real])}, real, *rows]


def shots_of(path: Path) -> set[int]:
    """The first frames of the shots but the first; where the faces are does not matter."""

    def nobody(images: Sequence[Any]) -> list[list[Any]]:
        return [[] for _ in images]

    found = found_in(path, partial(Analysis, nobody, detect_every=1 << 30))
    return {i for i, analysed in enumerate(found) if analysed.starts_shot and i}


def true_cuts(path: Path) -> set[int]:
    """Of a film of many shots, where the picture changes altogether."""
    with VideoReader(path) as reader:
        lumas = [
            cv2.resize(f.planes[0], SHOT_SIZE, interpolation=cv2.INTER_AREA)
            for f in reader
            if isinstance(f, Frame)
        ]
    change = np.abs(np.diff(np.array(lumas, dtype=float), axis=0)).mean(axis=(1, 2))
    return {int(i) + 1 for i in np.flatnonzero(change > CUT_LEVELS)}


def told(truth: set[int], found: set[int]) -> Row:
    return {
        "cuts": len(truth),
        "found": len(truth & found),
        "missed": sorted(truth - found),
        "false": sorted(found - truth),
    }


def counted(rows: Sequence[Row]) -> Row:
    whole, found = (sum(row[name] for row in rows) for name in ("cuts", "found"))
    false = sum(len(row["false"]) for row in rows)
    return {
        "cuts": whole,
        "recall": round(found / whole, 4),
        "precision": round(found / max(1, found + false), 4),
        "events that are none": sum(row.get("events", 0) for row in rows),
    }
