"""Persons: tracks told apart by who they are, one person's alone, and a guard against a stranger's face.

    identity = Identity(embedder, info)
    analysis = identity.told_apart(Analysis(detector, info))
    analysis = identity.wanted_only(analysis, ["person.jpg"], detector)

Each step looks at faces at fixed times of the stream: a run that begins elsewhere looks at the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import Matrix, compose, invert
from gpenvideo.analysis import Analysed
from gpenvideo.errors import FaceError
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.alignment import crop_from_frame
from gpenvideo.faces.detector import Detector
from gpenvideo.faces.gates import FRONTAL_DEG, LARGE_PX, yaw_deg
from gpenvideo.faces.identity import ARCFACE, Embedder, Embedding, People, guarded_strength
from gpenvideo.faces.tracker import START
from gpenvideo.frame import Frame, StreamInfo
from gpenvideo.kernels.crop import crop_as_seen
from gpenvideo.kernels.picture import as_frame
from gpenvideo.kernels.warp import resample
from gpenvideo.picture import as_uint8, read_picture
from gpenvideo.stages import Stages

__all__ = ["Analysing", "Guard", "Identity"]

Analysing = Callable[[Iterable[Any]], Iterator[Any]]
Crop = NDArray[np.float32]

SIGHT_EVERY_S = 1.0
COMES_IN_S, NEAR_EDGE = 1.0, 0.2  # a new face that near the left or right, in widths of it, is seen in part
SIGHTINGS_A_TRACK = 4
GUARD_EVERY_S = 2.0


class Identity:
    """Who is who in one run.

    Args:
        embedder: sees a face.
        info: of the stream.
        shift_s: what the reader takes off the source's times.
        stages: where the seconds are counted, as "identity".
        guarded: whether a guard is wanted; there is one if the embedder knows people.
    """

    def __init__(
        self,
        embedder: Embedder,
        info: StreamInfo,
        *,
        shift_s: float = 0.0,
        stages: Stages | None = None,
        guarded: bool = True,
    ) -> None:
        self.embedder = embedder
        self.guard = Guard(embedder, shift_s=shift_s) if guarded and embedder.is_identity else None
        self._guarded = guarded
        self.people = People(embedder.same)
        self.warnings: list[str] = []
        self._info, self._shift_s, self.stages = info, shift_s, stages or Stages()
        self._looks: dict[int, tuple[int, int]] = {}  # of a track: how many, and in which second the last

    def _known(self, path: str | PathLike[str], detector: Detector) -> int:
        picture = as_uint8(read_picture(path).rgb)
        faces = [face for face in detector([picture])[0] if face.score >= START]
        if not faces:
            raise FaceError("no face is found in it: a reference shows one face, clearly", path=path)
        if len(faces) > 1:
            self.warnings.append(f"{path}: of its {len(faces)} faces the largest is the reference")
        face = max(faces, key=lambda face: face.size_px)
        return self.people.know(self._seen(as_frame(picture), face, np.eye(2, 3)))

    def told_apart(self, analysis: Analysing) -> Analysing:
        """An analysis whose tracks say which person they are.

        A track is told where it is first seen clearly: not turned away, not tiny, no other face in front, and
        not in its first second at the left or right edge, where people come in.
        From then on it says so; before, its person is 0. It is looked at four times, a second apart.
        """
        return lambda items: map(self._told, analysis(items))

    def wanted_only(
        self, analysis: Analysing, references: Iterable[str | PathLike[str]], detector: Detector
    ) -> Analysing:
        """An analysis that was `told_apart`, with the tracks of some persons alone.

        Args:
            analysis: not started yet.
            references: pictures of the persons: of several faces in one, the largest.
            detector: finds those.

        Raises:
            FaceError: there is no face. FileError, MediaError: see `gpenvideo.picture.read_picture`.
        """
        self.warn_of_looks()
        wanted = {self._known(path, detector) for path in references}

        def kept(item: Any) -> Any:
            if not isinstance(item, Analysed):
                return item
            return replace(item, tracks=[track for track in item.tracks if track.person in wanted])

        return lambda items: map(kept, analysis(items))

    def _told(self, item: Any) -> Any:
        if not isinstance(item, Analysed):
            return item
        with self.stages("identity"):
            second = _slot(item.frame.time_s + self._shift_s, SIGHT_EVERY_S)
            sightings = {}
            for track in item.tracks:
                looks, last = self._looks.get(track.id, (0, None))
                wanted = last != second and (looks < SIGHTINGS_A_TRACK or not self.people.of(track.id))
                if wanted and _is_clear(track, item.tracks, self._info.upright_size[0]):
                    self._looks[track.id] = (looks + 1, second)
                    upright_from_frame = self._info.upright_from_coded
                    sightings[track.id] = self._seen(item.frame.view, track.face, upright_from_frame)
            self.people.meet(sightings, {track.id for track in item.tracks})
            tracks = [replace(track, person=self.people.of(track.id)) for track in item.tracks]
        return replace(item, tracks=tracks)

    def _seen(self, frame: Frame, face: Face, upright_from_frame: Matrix) -> Embedding:
        matrix = compose(crop_from_frame(face.landmarks, self.embedder.template), upright_from_frame)
        (embedding,) = self.embedder(crop_as_seen(frame, matrix, self.embedder.size_px)[None])
        return np.asarray(embedding)

    @property
    def facts(self) -> dict[str, Any]:
        """For a report: by what people are told apart, and whose strength the guard lowered how far."""
        if self.guard:
            guard: Any = {id: round(least, 3) for id, least in self.guard.lowest.items() if least < 1}
        elif self._guarded:
            guard = f"off: {ARCFACE} is not on this machine: gpenvideo weights pull {ARCFACE}"
        else:
            guard = "off"
        return {"embedder": repr(self.embedder), "persons": len(self.people), "guard": guard}

    def warn_of_looks(self) -> None:
        """Persons matter in this run: say so where they are only told apart by looks."""
        if not self.embedder.is_identity:
            self.warnings.append(
                f"persons are told apart by looks, not by an embedding: gpenvideo weights pull {ARCFACE}"
            )


class Guard:
    """Lowers the strength of a restored face that is not the person of its input any more.

    Every two seconds of the stream a track's face is compared with what was made of it. After a comparison
    the factor glides from that of the one before to its own, so that it depends on the last two alone.

    Args:
        embedder: one that knows people.
        shift_s: what the reader takes off the source's times.
    """

    def __init__(self, embedder: Embedder, *, shift_s: float = 0.0) -> None:
        self.lowest: dict[int, float] = {}
        """By track: the least factor so far."""

        self._embedder, self._shift_s = embedder, shift_s
        self._factors: dict[int, tuple[int, float, float]] = {}  # by track: the slot, the factors around it

    def __call__(self, track: FaceTrack, pair: Callable[[], tuple[Crop, Crop]], template_px: Matrix) -> float:
        """The factor of the strength, in [0, 1].

        Args:
            track: of the frame; frames come in the order of the stream.
            pair: is called when the face is compared, and gives its crop, (S, S, 3) float32 RGB in [-1, 1],
                and what was made of it, (S', S', 3).
            template_px: (5, 2), where the crop has the landmarks.
        """
        time_s = track.time_s + self._shift_s
        slot = _slot(time_s, GUARD_EVERY_S)
        known, _, after = self._factors.get(track.id, (slot - 2, 1.0, 1.0))
        if known != slot:
            factor = guarded_strength(self.likeness(*pair(), template_px))
            self._factors[track.id] = (slot, after if known == slot - 1 else factor, factor)
        _, before, after = self._factors[track.id]
        share = min(1.0, max(0.0, time_s / GUARD_EVERY_S - slot))
        factor = before + (after - before) * share
        self.lowest[track.id] = min(factor, self.lowest.get(track.id, 1.0))
        return factor

    def likeness(self, original: Crop, restored: Crop, template_px: Matrix) -> float:
        """The product of the two embeddings, in [-1, 1]."""
        side = self._embedder.size_px
        seen_from_crop = crop_from_frame(template_px, self._embedder.template)
        seen = []
        for pixels in (original, restored):
            larger = len(pixels) / len(original)
            crop_from_pixels = np.array([(1, 0, (1 - larger) / 2), (0, 1, (1 - larger) / 2)]) / larger
            pixels_from_seen = invert(compose(seen_from_crop, crop_from_pixels))
            seen.append(resample(pixels, pixels_from_seen, (side, side), cv2.BORDER_REPLICATE)[..., :3])
        one, other = self._embedder(np.stack(seen))
        return float(one @ other)


def _slot(time_s: float, every_s: float) -> int:
    return math.floor(time_s / every_s + 1e-6)


def _is_clear(track: FaceTrack, tracks: Sequence[FaceTrack], width_px: int) -> bool:
    """Whether a face is found, large, turned to the camera, clear of the others and not just coming in."""
    face = track.face
    if track.missed_s != 0 or face.width_px < LARGE_PX or abs(yaw_deg(face.landmarks)) > FRONTAL_DEG:
        return False
    left, top, right, bottom = face.box
    to_edge_px = min(left, width_px - 1 - right)
    if track.age_s < COMES_IN_S and to_edge_px < NEAR_EDGE * face.width_px:
        return False
    for other in tracks:
        x, y = other.face.landmarks.T
        if other is not track and ((x > left) & (x < right) & (y > top) & (y < bottom)).any():
            return False
    return True
