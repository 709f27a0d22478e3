"""The pipeline: frames in, restored frames out; no threads, no files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from gpenvideo.affine import compose
from gpenvideo.analysis import Analysed, Analysis
from gpenvideo.crops import paste_of, through
from gpenvideo.errors import OptionError
from gpenvideo.face import FaceTrack
from gpenvideo.faces.alignment import crop_from_frame
from gpenvideo.faces.detector import Detector
from gpenvideo.faces.tracker import select
from gpenvideo.frame import Frame, Rectangle, StreamInfo
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.paste import paste
from gpenvideo.restorer import Restorer
from gpenvideo.stages import Stages

__all__ = ["RestoreOptions", "Restored", "VideoRestorer"]

T = TypeVar("T")

FRAMES_A_BATCH = 8  # the most that wait for a batch of faces to fill


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Which faces are restored, and how much.

    Raises:
        OptionError: a value outside its range.
    """

    strength: float = 1.0
    """How much of the restored face is taken, in [0, 1]."""

    select: str = "all"
    """"all", "largest", "2" (the third from the left) or "id:3" (a track)."""

    min_face_px: float = 0.0
    """The least width of a face's box, px of the upright picture."""

    max_faces: int | None = None
    """The most faces a frame, the largest ones."""

    detect_size_px: int = 640
    """Longest side of the picture the detector sees."""

    detect_every: int | None = None
    """Frames from one search for faces to the next; None is every 0.12 s."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise OptionError(f"a strength lies in [0, 1], got {self.strength}")
        select([], self.select, min_face_px=self.min_face_px, max_faces=self.max_faces)  # checks them


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A restored frame, and where it was written."""

    frame: Frame
    source: Frame
    """The frame as it was decoded; `frame` itself where nothing was written."""

    tracks: list[FaceTrack]
    """The faces that were restored, px of the upright picture in square pixels."""

    masks: list[Rectangle]
    """Every sample that was written lies in one of them; one for each of `tracks`."""

    starts_shot: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    analysed: Analysed
    tracks: list[FaceTrack]


class VideoRestorer:
    """Restores the faces of one video stream.

    Args:
        restorer: what `gpenvideo.load` gives.
        detector: finds the faces.
        info: of the stream; its rotation, mirroring and sample aspect enter the alignment.
        options: which faces, and how much.
        stages: where the seconds are counted.
    """

    def __init__(
        self,
        restorer: Restorer,
        detector: Detector,
        info: StreamInfo,
        options: RestoreOptions | None = None,
        stages: Stages | None = None,
    ) -> None:
        self.options = options or RestoreOptions()
        self.stages = stages or Stages()
        self._restorer = restorer
        self._upright_from_coded = info.upright_from_coded
        self._previous: set[int] = set()  # the tracks restored in the frame before
        self._analysis = Analysis(
            detector,
            info,
            detect_size_px=self.options.detect_size_px,
            detect_every=self.options.detect_every,
            stages=self.stages,
        )

    def __call__(self, items: Iterable[Frame | T]) -> Iterator[Restored | T]:
        """Restore a stream; items that are no frames (packets of other streams) keep their place in it."""
        batch: list[Any] = []
        faces = frames = 0
        for item in self._analysis(items):
            if not isinstance(item, Analysed):
                batch.append(item)
            else:
                chosen = self._chosen(item)
                batch.append(_Chosen(item, chosen))
                faces, frames = faces + len(chosen), frames + 1
            if not faces or faces >= self._restorer.max_batch or frames >= FRAMES_A_BATCH:
                yield from self._restored(batch)
                batch, faces, frames = [], 0, 0
        yield from self._restored(batch)

    def _chosen(self, analysed: Analysed) -> list[FaceTrack]:
        options = self.options
        if options.strength == 0:
            return []
        chosen = select(
            analysed.tracks,
            options.select,
            min_face_px=options.min_face_px,
            max_faces=options.max_faces,
            previous=() if analysed.starts_shot else self._previous,
        )
        self._previous = {track.id for track in chosen}
        return chosen

    def _restored(self, batch: list[Any]) -> Iterator[Any]:
        """Restore the faces of some frames, all in one call of the network."""
        chosen = [
            (entry.analysed.frame, track)
            for entry in batch
            if isinstance(entry, _Chosen)
            for track in entry.tracks
        ]
        template, size = self._restorer.template, self._restorer.size_px
        matrices = [
            compose(crop_from_frame(track.face.landmarks, template), self._upright_from_coded)
            for _, track in chosen
        ]
        with self.stages("crop"):
            crops = [crop(frame, matrix, size) for (frame, _), matrix in zip(chosen, matrices, strict=True)]
        with self.stages("network"):
            faces = iter(zip(through(self._restorer, crops), crops, matrices, strict=True))
        for entry in batch:
            if not isinstance(entry, _Chosen):
                yield entry
                continue
            analysed, tracks = entry.analysed, entry.tracks
            frame, masks = analysed.frame, []
            if tracks:
                with self.stages("paste"):
                    frame = frame.copy()
                    strengths = [self.options.strength * track.opacity for track in tracks]
                    masks = paste(frame, [paste_of(*next(faces), template, s) for s in strengths])
            yield Restored(frame, analysed.frame, tracks, masks, analysed.starts_shot)
