"""How good and how steady a restored video is: measured frame by frame against the truth, or the source."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from os import PathLike
from pathlib import Path
from typing import SupportsFloat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpenvideo.errors import FileMissing, OptionError, file_error
from gpenvideo.evaluate import plots, region, temporal
from gpenvideo.evaluate.features import IdentityDistance
from gpenvideo.evaluate.lockstep import Analyse, Lockstep, Moment
from gpenvideo.evaluate.trajectories import Trajectories, landmarks_in
from gpenvideo.face import FaceTrack
from gpenvideo.faces import alignment
from gpenvideo.faces.detector import Detector
from gpenvideo.frame import Rectangle
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame
from gpenvideo.picture import Picture, write_picture
from gpenvideo.weights import find

__all__ = ["VIDEOS", "VideoEvaluation", "evaluate_video", "identity_measure"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]
Progress = Callable[[int, int | None], None]
Embed = Callable[[Tensor], Tensor]

VIDEOS = ("input", "per_frame", "restored", "truth")
SPATIAL = ("psnr_db", "ssim", "sharpness")
PAIRED = ("warp_error", "flicker", "vidd")
AGAINST_TRUTH = ("psnr_db", "ssim", "sharpness", "jitter_to_truth", "tlme", "landmark_error", "lag_frames",
                 "peak_velocity_error")  # fmt: skip
IDENTITY, IDENTITY_PX = "ArcFace-IR-SE50", 256
MARGIN = 0.15  # around a face, of its size: for what moves into it


@dataclass(frozen=True, slots=True)
class VideoEvaluation:
    """What `evaluate_video` found."""

    frames: int
    """Of the video that leads."""

    faces: int
    """Measured, each in each frame."""

    reference: str
    """"truth" or, without one, "input"."""

    measures: dict[str, dict[str, float]]
    """By video (see `VIDEOS`) and measure; docs/evaluation.md says what each is."""

    off: dict[str, str]
    """Measures that are not there, and why."""

    warnings: list[str]
    worst_s: tuple[float, float] | None
    """The second in which the restored video's warp error is furthest above the reference's."""

    files: dict[str, Path]
    """"table" (a row a frame), "summary", "plots" and "sheet" (of the worst second)."""


def identity_measure(device: str | torch.device = "cpu") -> tuple[Embed | None, str]:
    """ArcFace's embeddings, or None and why they are not there."""
    try:
        network = IdentityDistance(find(IDENTITY), "ffhq").to(device)
    except FileMissing:
        return None, f"{IDENTITY} is not on this machine: gpenvideo weights pull {IDENTITY}"
    return lambda crops: network.embedding(crops.to(device)), ""


def evaluate_video(
    files: Mapping[str, str | PathLike[str]],
    out: str | PathLike[str],
    detector: Detector,
    analyse: Analyse,
    *,
    leader: str | None = None,
    identity: Embed | None = None,
    progress: Progress | None = None,
) -> VideoEvaluation:
    """Measure a restored video, and say where it is worst.

    The faces are those of the video that leads, and only they are measured. A frame or two of each video are
    in memory. The folder `out` gets frames.csv, summary.json, plots.png and, where there
    are faces, worst_second.png.

    files      "restored", and "truth" or "input" or both; "per_frame" is restored without regard to time
    detector   finds the landmarks
    analyse    see `gpenvideo.evaluate.lockstep.Lockstep`
    leader     whose shots and faces `analyse` finds; None is the truth or, without one, the input
    identity   for VIDD: (N, 3, 256, 256) float32 RGB in [-1, 1], aligned as "ffhq", to (N, D)
    progress   called with (frames done, frames or None)

    Raises OptionError when a video is missing or has another size, FileError, MediaError.
    """
    paths = {name: Path(files[name]) for name in VIDEOS if name in files}
    if "restored" not in paths or not {"truth", "input"} & set(paths):
        raise OptionError("name the restored video, and the truth or the input")
    folder, reference = Path(out), "truth" if "truth" in paths else "input"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, folder, "write") from error
    with Lockstep(paths, leader or reference, analyse) as videos:
        measured = _Measurement(list(paths), reference, videos.size, detector, identity)
        for moment in videos:
            measured.take(moment)
            if progress:
                progress(moment.number + 1, videos.expected)
        warnings = videos.warnings
    columns, sheet = measured.columns(), measured.worst.sheet(list(paths))
    found = {
        "table": folder / "frames.csv",
        "summary": folder / "summary.json",
        "plots": folder / "plots.png",
    }
    write_frames(measured.facts, columns, found["table"])
    write_picture(Picture(plots.over_time(measured.facts, columns)), found["plots"])
    if sheet is not None:
        found["sheet"] = folder / "worst_second.png"
        write_picture(Picture(sheet), found["sheet"])
    if not measured.faces:
        warnings.append(f"{paths[leader or reference]}: no face was found in it, so nothing was measured")
    done = VideoEvaluation(
        frames=len(measured.facts["time_s"]),
        faces=measured.faces,
        reference=reference,
        measures=measured.summary(),
        off={} if reference == "truth" else dict.fromkeys(AGAINST_TRUTH, "it needs the truth"),
        warnings=warnings,
        worst_s=measured.worst.span_s,
        files=found,
    )
    _write_summary(done, paths)
    return done


class _Measurement:
    """Takes moments in their order; holds the pictures of one, and a number a frame and measure."""

    def __init__(
        self,
        names: list[str],
        reference: str,
        size: tuple[int, int],
        detector: Detector,
        identity: Embed | None,
    ) -> None:
        self._names, self._reference, self._size = names, reference, size
        self._detector, self._identity = detector, identity
        self._trajectories = Trajectories(names)
        measures = [*(SPATIAL if reference == "truth" else ()), *PAIRED[: 3 if identity else 2]]
        self._columns: dict[str, dict[str, list[float]]] = {
            name: {measure: [] for measure in measures if name != "truth" or measure not in SPATIAL}
            for name in names
        }
        self.facts: dict[str, list[float]] = {"time_s": [], "starts_shot": [], "faces": []}
        self.faces = 0
        self.worst = plots.WorstSecond()
        self._before: Moment | None = None
        self._embeddings: dict[tuple[str, int], Array] = {}

    def take(self, moment: Moment) -> None:
        """Measure a moment."""
        if "restored" not in moment.pictures:
            moment = replace(moment, tracks=[], pictures={})
        pictures, tracks = moment.pictures, moment.tracks
        self.faces += len(tracks)
        for fact, value in zip(self.facts, (moment.time_s, moment.starts_shot, len(tracks)), strict=True):
            self.facts[fact].append(float(value))
        points = landmarks_in(pictures, tracks, self._detector)
        self._trajectories.add(points, tracks, starts_shot=moment.starts_shot)
        found = _Means()
        if "truth" in pictures:
            for track in tracks:
                self._compare(moment, track, found)
        before = self._before if not moment.starts_shot else None
        for track in tracks:
            old = next((t for t in before.tracks if t.id == track.id), None) if before else None
            if before and old and self._reference in before.pictures:
                self._pair(before, moment, old, track, found)
        if self._identity is not None:
            self._identities(moment, before is not None, found)
        for name, columns in self._columns.items():
            for measure, values in columns.items():
                values.append(found.mean(name, measure))
        self._before = moment
        if tracks:
            excess = found.mean("restored", "warp_error") - found.mean(self._reference, "warp_error")
            self.worst.take(moment, excess)

    def _compare(self, moment: Moment, track: FaceTrack, found: _Means) -> None:
        """What one picture tells, against the truth."""
        place = region.bounds(track.face.landmarks, self._size)
        mask = region.inside(track.face.landmarks, place)
        crops = {name: _cut(picture, place) for name, picture in moment.pictures.items()}
        weight, true = np.count_nonzero(mask), crops.pop("truth")
        energy = region.gradient_energy(true, mask)
        for name, pixels in crops.items():
            found.add(name, "psnr_db", region.psnr_db(pixels, true, mask), weight)
            found.add(name, "ssim", region.ssim(pixels, true, mask), weight)
            sharpness = region.gradient_energy(pixels, mask) / max(energy, 1e-6)
            found.add(name, "sharpness", sharpness, weight)

    def _pair(self, before: Moment, moment: Moment, old: FaceTrack, track: FaceTrack, found: _Means) -> None:
        """What a picture and the one before tell."""
        one, other = (region.bounds(t.face.landmarks, self._size, MARGIN) for t in (old, track))
        place = Rectangle(
            min(one.x0, other.x0), min(one.y0, other.y0), max(one.x1, other.x1), max(one.y1, other.y1)
        )
        if min(place.x1 - place.x0, place.y1 - place.y0) < temporal.LEAST_SIDE_PX:
            return
        mask = region.inside(track.face.landmarks, place)
        pairs = {
            name: (_cut(before.pictures[name], place), _cut(picture, place))
            for name, picture in moment.pictures.items()
            if name in before.pictures
        }
        moved = temporal.motion(*pairs[self._reference])
        rests = temporal.still(*pairs[self._reference], moved) & mask
        for name, (last, now) in pairs.items():
            error = temporal.warp_error(now, last, moved, mask)
            found.add(name, "warp_error", error, np.count_nonzero(moved.known & mask))
            found.add(name, "flicker", temporal.flicker(now, last, rests), np.count_nonzero(rests))

    def _identities(self, moment: Moment, goes_on: bool, found: _Means) -> None:
        assert self._identity is not None
        template = alignment.template("ffhq", IDENTITY_PX)
        keys, crops = [], []
        for name, picture in moment.pictures.items():
            for track in moment.tracks:
                matrix = alignment.crop_from_frame(track.face.landmarks, template)
                keys.append((name, track.id))
                crops.append(crop(as_frame(picture), matrix, IDENTITY_PX))
        embeddings: dict[tuple[str, int], Array] = {}
        if crops:
            with torch.inference_mode():
                batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
                embedded = self._identity(batch).double().cpu().numpy()
            embeddings = dict(zip(keys, embedded, strict=True))
        for (name, number), values in embeddings.items():
            if goes_on and (name, number) in self._embeddings:
                step = temporal.angles(np.stack([self._embeddings[name, number], values]))[1]
                found.add(name, "vidd", float(step), 1)
        self._embeddings = embeddings

    def columns(self) -> dict[str, dict[str, Array]]:
        """By video and measure, (T,) each."""
        moved = self._trajectories.of_frames()
        return {
            name: {measure: np.array(values) for measure, values in self._columns[name].items()} | moved[name]
            for name in self._names
        }

    def summary(self) -> dict[str, dict[str, float]]:
        """By video and measure: the mean over the frames that have it, and its ratio to the reference's."""
        moved = self._trajectories.summary()
        found = {}
        for name in self._names:
            means = {measure: _mean(values) for measure, values in self._columns[name].items()}
            found[name] = means | moved[name]
        for name in self._names:
            if name != self._reference:
                found[name] |= {"warp_ratio": self._ratio(name, "warp_error")}
                found[name] |= {"flicker_ratio": self._ratio(name, "flicker")}
        return found

    def _ratio(self, name: str, measure: str) -> float:
        """To the reference's, over the frames that both have."""
        ours, whole = (np.array(self._columns[n][measure]) for n in (name, self._reference))
        known = np.isfinite(ours) & np.isfinite(whole)
        total = float(whole[known].sum())
        return float(ours[known].sum()) / total if total > 0 else math.nan


class _Means:
    """Weighted means of the faces of a frame, by video and measure."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], tuple[float, float]] = {}

    def add(self, name: str, measure: str, value: float, weight: SupportsFloat) -> None:
        part = float(weight)
        if math.isfinite(value) and part > 0:
            total, weights = self._sums.get((name, measure), (0.0, 0.0))
            self._sums[name, measure] = total + part * value, weights + part

    def mean(self, name: str, measure: str) -> float:
        total, weights = self._sums.get((name, measure), (0.0, 0.0))
        return total / weights if weights else math.nan


def write_frames(
    facts: Mapping[str, Iterable[float]], columns: Mapping[str, Mapping[str, Array]], path: Path
) -> None:
    """Write frames.csv: a row a frame, nothing where there is nothing to measure. Raises FileError."""
    series = {
        f"{name}_{measure}": column for name, found in columns.items() for measure, column in found.items()
    }
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["frame", *facts, *series])
            for number, fact, values in zip(
                count(), zip(*facts.values(), strict=True), zip(*series.values(), strict=True), strict=False
            ):
                cells = ("" if math.isnan(value) else f"{value:.6g}" for value in values)
                writer.writerow([number, *(f"{value:.9g}" for value in fact), *cells])
    except OSError as error:
        raise file_error(error, path, "write") from error


def _write_summary(done: VideoEvaluation, paths: Mapping[str, Path]) -> None:
    path = done.files["summary"]
    value = {"videos": {name: str(file) for name, file in paths.items()}, **as_json(done)}
    try:
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise file_error(error, path, "write") from error


def as_json(done: VideoEvaluation) -> dict[str, object]:
    """Plain values; null where there is nothing to measure."""
    return {
        "reference": done.reference,
        "frames": done.frames,
        "faces": done.faces,
        "measures": {
            name: {measure: value if math.isfinite(value) else None for measure, value in found.items()}
            for name, found in done.measures.items()
        },
        "off": done.off,
        "warnings": done.warnings,
        "worst_s": done.worst_s,
        "files": {name: str(path) for name, path in done.files.items()},
    }


def _cut(picture: Pixels, place: Rectangle) -> Pixels:
    return picture[place.y0 : place.y1, place.x0 : place.x1]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan
