"""Trajectories: where the landmarks of each face are in each of some videos, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpenvideo.evaluate import temporal
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.detector import Detector
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame

__all__ = ["Trajectories", "landmarks_in"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]
Points = Mapping[str, Mapping[int, NDArray[np.float64]]]

SEEN_PX = 192  # side of what a detector looks for a face's landmarks in
REACH = 0.95  # of the face's size, from its middle to the edge of that
NEAR = 0.5  # sizes: another face is further off


def landmarks_in(
    pictures: Mapping[str, Pixels], tracks: Sequence[FaceTrack], detector: Detector
) -> dict[str, dict[int, Array]]:
    """The landmarks of each track in each picture of one moment, (5, 2) px; none where the face is not found.

    All are looked for in the same way: in a crop around where the track is, of one size for all faces.
    """
    places = [(name, track) for name in pictures for track in tracks]
    frames = {name: as_frame(picture) for name, picture in pictures.items()}
    seen = []
    for name, track in places:
        pixels = crop(frames[name], _around(track.face), SEEN_PX)
        seen.append(np.rint((pixels + 1) * 127.5).astype(np.uint8))
    found: dict[str, dict[int, Array]] = {name: {} for name in pictures}
    for (name, track), faces in zip(places, detector(seen) if seen else [], strict=True):
        (scale, _, left), (_, _, top) = _around(track.face).tolist()
        candidates = [(face.landmarks.astype(np.float64) - (left, top)) / scale for face in faces]
        apart = [float(np.linalg.norm(points - track.face.landmarks, axis=1).mean()) for points in candidates]
        if apart and min(apart) < NEAR * track.face.size_px:
            found[name][track.id] = candidates[int(np.argmin(apart))]
    return found


def _around(face: Face) -> Array:
    """(2, 3): from px of a picture to those of the crop around a face."""
    scale = (SEEN_PX - 1) / (2 * REACH * face.size_px)
    middle = face.box.reshape(2, 2).mean(axis=0, dtype=np.float64)
    shift = (SEEN_PX - 1) / 2 - scale * middle
    return np.array([(scale, 0, shift[0]), (0, scale, shift[1])])


@dataclass
class _Track:
    first: int
    """The number of its first frame."""

    points: dict[str, list[Array]]
    """By video: (5, 2) a frame from the first on, NaN where it was not found."""

    widths_px: list[float] = field(default_factory=list)
    starts: list[bool] = field(default_factory=list)


class Trajectories:
    """Collects landmarks moment by moment, then measures how they move.

    Args:
        names: of the videos; "truth" and "input" are what the others are measured against, where they are.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._tracks: dict[int, _Track] = {}
        self._frames = 0

    def add(self, points: Points, tracks: Sequence[FaceTrack], *, starts_shot: bool) -> None:
        """Take in a moment: what `landmarks_in` found, and the tracks it was asked for."""
        for track in tracks:
            known = self._tracks.setdefault(
                track.id, _Track(self._frames, {name: [] for name in self._names})
            )
            gap = self._frames - known.first - len(known.widths_px)
            for name in self._names:
                here = points.get(name, {}).get(track.id)
                known.points[name] += [np.full((5, 2), np.nan)] * gap
                known.points[name].append(np.full((5, 2), np.nan) if here is None else here)
            known.widths_px += [np.nan] * gap + [track.face.width_px]
            known.starts += [False] * gap + [starts_shot]
        self._frames += 1

    def of_frames(self) -> dict[str, dict[str, Array]]:
        """By video and measure, (T,) each: the rms over the faces of a frame."""
        found: dict[str, dict[str, Array]] = {}
        for name in self._names:
            parts: dict[str, list[tuple[int, Array]]] = {}
            for track in self._tracks.values():
                for measure, values in self._of_track(track, name).items():
                    parts.setdefault(measure, []).append((track.first, values))
            found[name] = {measure: self._over_faces(values) for measure, values in parts.items()}
        return found

    def summary(self) -> dict[str, dict[str, float]]:
        """By video and measure, over all frames; NaN where there is nothing to measure."""
        frames = self.of_frames()
        found: dict[str, dict[str, float]] = {}
        for name in self._names:
            found[name] = {
                measure: temporal.rms(values) if measure.startswith("jitter") else _mean(values)
                for measure, values in frames[name].items()
            }
            if "truth" in self._names and name != "truth":
                found[name] |= self._delays(name)
        return found

    def _of_track(self, track: _Track, name: str) -> dict[str, Array]:
        points, starts = np.array(track.points[name]), np.array(track.starts)
        found = {"jitter": temporal.jitters(points, starts=starts)}
        for other in ("truth", "input"):
            if other in self._names and name not in ("truth", other):
                reference = np.array(track.points[other])
                found[f"jitter_to_{other}"] = temporal.jitters(points, reference, starts)
        if "truth" in self._names and name != "truth":
            true = np.array(track.points["truth"])
            found["tlme"] = temporal.motion_errors(points, true, starts)
            found["landmark_error"] = np.linalg.norm(points - true, axis=2).mean(
                axis=1
            ) / temporal.eye_distances(true)
        return found

    def _over_faces(self, parts: Sequence[tuple[int, Array]]) -> Array:
        squares, counts = np.zeros(self._frames), np.zeros(self._frames)
        for first, values in parts:
            here = slice(first, first + len(values))
            known = np.isfinite(values)
            squares[here] += np.where(known, values, 0) ** 2
            counts[here] += known
        return np.sqrt(squares / np.where(counts > 0, counts, np.nan))

    def _delays(self, name: str) -> dict[str, float]:
        """The mean over the tracks, each as long as it is seen."""
        lags, peaks, lengths = [], [], []
        for track in self._tracks.values():
            points, true = np.array(track.points[name]), np.array(track.points["truth"])
            starts = np.array(track.starts)
            lags.append(temporal.lag_frames(points, true, starts))
            peaks.append(temporal.peak_velocity_error(points, true, np.array(track.widths_px), starts))
            lengths.append(len(points))
        return {
            "lag_frames": _mean(np.array(lags), np.array(lengths)),
            "peak_velocity_error": _mean(np.array(peaks), np.array(lengths)),
        }


def _mean(values: Array, weights: NDArray[np.int_] | None = None) -> float:
    """Of what is known; NaN of nothing."""
    known = np.isfinite(values)
    if not known.any():
        return float("nan")
    return float(np.average(values[known], weights=None if weights is None else weights[known]))
