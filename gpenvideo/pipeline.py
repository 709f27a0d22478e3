"""The pipeline: frames in, restored frames out; no threads, no files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from gpenvideo.affine import Matrix, compose
from gpenvideo.analysis import Analysed
from gpenvideo.crops import Aligned, Crop, Shown
from gpenvideo.device import DeviceFaces, common_device, disagreement
from gpenvideo.errors import FaceError, OptionError
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.alignment import crop_from_frame
from gpenvideo.faces.gates import gate
from gpenvideo.faces.mask import rounded
from gpenvideo.faces.tracker import select
from gpenvideo.frame import Colour, Frame, Rectangle, StreamInfo
from gpenvideo.host import HostFaces
from gpenvideo.kernels.light import is_foreign, named
from gpenvideo.matching.finishing import Finishing, Found
from gpenvideo.matching.place import Place
from gpenvideo.matching.tint import Tint
from gpenvideo.persons import Guard
from gpenvideo.restorer import GPENRestorer, Restorer
from gpenvideo.stages import Stages
from gpenvideo.steady import PERIOD_S, WARM_UP_S, Steady
from gpenvideo.upscaling import SCALES, Upscaler

__all__ = ["RestoreOptions", "Restored", "VideoRestorer"]

T = TypeVar("T")

LEAST_PX, MOST_PICTURES = 4.0, 4.0  # how wide a face's crop may be: px, and sides of the picture
ROOM = 1.25  # how much wider than a network's crop a face's may be for that network to do
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
    """"all", "largest", "2" (the third from the left), "id:3" (a track) or "person:3"."""

    min_face_px: float = 0.0
    """The least width of a face's box, px of the upright picture."""

    max_faces: int | None = None
    """The most faces a frame, the largest ones."""

    detect_size_px: int = 640
    """Longest side of the picture the detector sees."""

    detect_every: int | None = None
    """Frames from one search for faces to the next; None is every 0.12 s."""

    gates: bool = True
    """Whether profiles and tiny faces are restored less, see `gpenvideo.faces.gates.gate`."""

    temporal: bool = True
    """Whether the noise of a face is averaged out over time, see `gpenvideo.steady`."""

    reference: tuple[str, ...] = ()
    """Pictures of the persons to be restored, a face each; none is everybody."""

    further_weights: tuple[str, ...] = ()
    """Paths or names of networks besides that of the run: a face then goes through the smallest one that its
    crop is not much wider than, the same from one cut or tenth second to the next."""

    guard: bool = True
    """Whether a restored face that is not the same person any more is shown less; takes ArcFace's weights."""

    color: str = "keep"
    """"keep": faces of black-and-white and tinted pictures keep their chroma. "allow": they need not."""

    grain: float | str = "match"
    """The noise of the picture that faces take on: "match", "none", or a share of it, in [0, 1]."""

    match_sharpness: bool = False
    """Whether faces become nearly as soft as their picture, see `gpenvideo.matching.sharpness`."""

    upscale: int = 1
    """How many times as wide and high the whole picture becomes, before faces are written upon it: 1 to 4."""

    background: str | None = None
    """The path or name of a super-resolution network that does so; None interpolates."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise OptionError(f"a strength lies in [0, 1], got {self.strength}")
        if self.upscale not in (1, *SCALES):
            raise OptionError(f"pictures are made 2, 3 or 4 times as large, not {self.upscale}")
        self.finishing  # noqa: B018 - checks them
        select([], self.select, min_face_px=self.min_face_px, max_faces=self.max_faces)  # checks them

    @property
    def finishing(self) -> Finishing:
        """What faces take on of their picture."""
        return Finishing(self.color, self.grain, self.match_sharpness)


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A restored frame, and where it was written."""

    frame: Frame
    source: Frame
    """The frame as it was decoded, at its own size; `frame` itself where nothing was written."""

    tracks: list[FaceTrack]
    """The faces that were restored, px of the upright picture in square pixels."""

    masks: list[Rectangle]
    """Every sample of `frame` that a face was written to lies in one of them; one for each of `tracks`."""

    starts_shot: bool
    found: Found | None = None
    """What the picture is around the faces; None without any."""


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    analysed: Analysed
    tracks: list[FaceTrack]


Finished = tuple[Frame, list[Rectangle], Found | None]
Begun = tuple[list[Any], Callable[[], Iterable[Finished]]]


class VideoRestorer:
    """Restores the faces of one video stream.

    Args:
        restorer: what `gpenvideo.load` gives.
        analysis: finds the faces: an `Analysis`, or the `Given` of a document.
        info: of the stream; its rotation, mirroring and sample aspect enter the alignment.
        options: which faces, and how much.
        stages: where the seconds are counted.
        others: the restorers of the tracks (by id) that have one of their own.
        further: restorers to choose from besides `restorer`, by the size of a face: see `RestoreOptions`.
        guard: lowers the strength where a restored face is not the same person any more.
        upscaler: makes every picture larger, before faces are written upon it.
        shift_s: what the reader takes off the source's times, exactly.
        overlap: whether a batch of frames is prepared while the one before is in the networks: more a second,
            and each later by a batch.
    """

    def __init__(
        self,
        restorer: Restorer,
        analysis: Callable[[Iterable[Any]], Iterator[Any]],
        info: StreamInfo,
        options: RestoreOptions | None = None,
        stages: Stages | None = None,
        *,
        others: Mapping[int, Restorer] | None = None,
        further: Sequence[Restorer] = (),
        guard: Guard | None = None,
        upscaler: Upscaler | None = None,
        shift_s: Fraction = Fraction(0),
        overlap: bool = True,
    ) -> None:
        self._overlap = overlap
        self.options = options or RestoreOptions()
        self._finishing, self._tint = self.options.finishing, Tint()
        self.stages = stages or Stages()
        self._others = others or {}
        self._restorers = sorted((restorer, *further), key=lambda restorer: restorer.size_px)
        self._routes: dict[int, Restorer] = {}  # by track, until a shot or a period begins
        self._analysis, self._guard = analysis, guard
        self._upright_from_coded = info.upright_from_coded
        self._most_px = MOST_PICTURES * max(info.upright_size)
        self._shift_s, self._upscaler = shift_s, upscaler
        steady = Steady() if self.options.temporal else None
        everyone = [*self._restorers, *self._others.values()]
        self._faces = _faces_of(everyone, self.stages, steady, info.colour, overlap)
        self._period: int | None = None
        self._batched: int | None = None  # the period of the last frame
        self._previous: set[int] = set()  # the tracks restored in the frame before; none as a period begins

    @property
    def network(self) -> str:
        """What restores, on which device; of several networks also which faces go through which."""
        names = "; ".join(dict.fromkeys(map(repr, (*self._restorers, *self._others.values()))))
        limits = [
            f"{each.size_px} px: crops up to {ROOM * each.size_px:g} px" for each in self._restorers[:-1]
        ]
        rule = f" ({', '.join(limits)}, {self._restorers[-1].size_px} px: wider ones)" if limits else ""
        return names + rule

    @property
    def announced(self) -> list[str]:
        """What is done to whole pictures, a sentence each."""
        return [self._upscaler.told] if self._upscaler else []

    def warm_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Run the networks whose first calls would take long: `GPENRestorer.warm_up`."""
        for restorer in dict.fromkeys((*self._restorers, *self._others.values())):
            if isinstance(restorer, GPENRestorer) and restorer.starts_slowly:
                restorer.warm_up(progress)

    def __call__(self, items: Iterable[Frame | T]) -> Iterator[Restored | T]:
        """Restore a stream; items that are no frames (packets of other streams) keep their place in it."""
        begun: Begun | None = None
        try:
            for batch in self._batches(items):
                before, begun = begun, self._begun(batch)
                if before:
                    yield from self._finished(before)
                if not self._overlap:
                    yield from self._finished(begun)
                    begun = None
            if begun:
                yield from self._finished(begun)
        finally:
            self._faces.end()

    def _batches(self, items: Iterable[Any]) -> Iterator[list[Any]]:
        """What goes through the networks in one call: until there are faces enough, or frames."""
        batch: list[Any] = []
        faces = frames = 0
        for item in self._analysis(items):
            if not isinstance(item, Analysed):
                batch.append(item)
            else:
                if self._begins_anew(item):  # so that batches are the same wherever a run began
                    yield batch
                    batch, faces, frames = [], 0, 0
                    self._routes.clear()
                chosen = self._chosen(item)
                batch.append(_Chosen(item, chosen))
                faces, frames = faces + len(chosen), frames + 1
            if not faces or faces >= self._most or frames >= FRAMES_A_BATCH:
                yield batch
                batch, faces, frames = [], 0, 0
        yield batch

    @property
    def _most(self) -> int:
        """Faces that a batch may have."""
        return max(restorer.max_batch for restorer in self._restorers)

    def _restorer_of(self, track: FaceTrack) -> Restorer:
        if track.id in self._others or len(self._restorers) == 1:
            return self._others.get(track.id, self._restorers[0])
        if track.id not in self._routes:
            largest = self._restorers[-1]
            fitting = (each for each in self._restorers if _side_px(track.face, each) <= ROOM * each.size_px)
            self._routes[track.id] = next(fitting, largest)
        return self._routes[track.id]

    def _begins_anew(self, analysed: Analysed) -> bool:
        """Whether a shot or a period begins."""
        before, self._batched = self._batched, math.floor(self._time_s(analysed.frame) / PERIOD_S)
        return analysed.starts_shot or before != self._batched

    def _time_s(self, frame: Frame) -> Fraction:
        return frame.pts * frame.time_base + self._shift_s

    def _chosen(self, analysed: Analysed) -> list[FaceTrack]:
        options = self.options
        if options.strength == 0:
            return []
        # a run that begins with its warm-up goes on alike
        period = math.floor((self._time_s(analysed.frame) + WARM_UP_S) / PERIOD_S)
        if analysed.starts_shot or period != self._period:
            self._period, self._previous = period, set()
        chosen = select(
            analysed.tracks,
            options.select,
            min_face_px=options.min_face_px,
            max_faces=options.max_faces,
            previous=self._previous,
        )
        self._previous = {track.id for track in chosen}
        return [track for track in chosen if self._is_shown(track)]

    def _is_shown(self, track: FaceTrack) -> bool:
        """Whether a face can be aligned, in a crop of some pixels and some pictures, and passes the gates."""
        try:
            side_px = _side_px(track.face, self._restorer_of(track))
        except FaceError:
            return False
        fits = LEAST_PX <= side_px <= self._most_px
        return fits and (not self.options.gates or gate(track.face) > 0)

    def _begun(self, batch: list[Any]) -> Begun:
        """The faces of some frames on their way through the networks, all in one call of each."""
        shown = [self._shown(entry) for entry in batch if isinstance(entry, _Chosen)]
        strengths: list[float] = []  # of the faces, in their order

        def strength(*of_face: Any) -> float:
            strengths.append(self._strength(*of_face))
            return strengths[-1]

        paste = self._faces.begin(shown, strength)
        return batch, lambda: self._matched(shown, paste(), strengths)

    def _matched(
        self, shown: Sequence[Shown], pasted: Sequence[tuple[Frame, list[Rectangle]]], strengths: list[float]
    ) -> Iterator[Finished]:
        """The frames with their faces as if these had been there always."""
        strength_of = iter(strengths)
        for item, (frame, masks) in zip(shown, pasted, strict=True):
            found = None
            if item.starts_shot:
                self._tint.cut()
            if item.faces:
                with self.stages("match"):
                    places = [
                        _place(item, face, mask, next(strength_of))
                        for face, mask in zip(item.faces, masks, strict=True)
                    ]
                    found = self._finishing(frame, item.target, places, item.time_s, self._tint)
            yield frame, masks, found

    def _finished(self, begun: Begun) -> Iterator[Any]:
        batch, finish = begun
        done = iter(finish())
        for entry in batch:
            if not isinstance(entry, _Chosen):
                yield entry
                continue
            analysed, (frame, masks, found) = entry.analysed, next(done)
            yield Restored(frame, analysed.frame, entry.tracks, masks, analysed.starts_shot, found)

    def _shown(self, chosen: _Chosen) -> Shown:
        faces, frame = [], chosen.analysed.frame
        for track in chosen.tracks:
            restorer = self._restorer_of(track)
            crop_from_upright = crop_from_frame(track.face.landmarks, restorer.template)
            faces.append(Aligned(track, restorer, compose(crop_from_upright, self._upright_from_coded)))
        canvas = None if frame.filtered is None else frame
        if self._upscaler:
            with self.stages("upscale"):
                canvas = self._upscaler(frame)
        return Shown(frame.view, faces, self._time_s(frame), chosen.analysed.starts_shot, canvas)

    def _strength(self, track: FaceTrack, pair: Callable[[], tuple[Crop, Crop]], template: Matrix) -> float:
        strength = self.options.strength * track.opacity
        if self.options.gates:
            strength *= gate(track.face)
        if self._guard:
            with self.stages("identity"):
                strength *= self._guard(track, pair, template)
        return strength


def _side_px(face: Face, restorer: Restorer) -> float:
    """How wide a restorer's crop of a face is, px of the upright picture. FaceError: it cannot be aligned."""
    crop_from_upright = crop_from_frame(face.landmarks, restorer.template)
    return restorer.size_px / math.hypot(*crop_from_upright[:, 0])


def _place(shown: Shown, face: Aligned, written: Rectangle, strength: float) -> Place:
    """Where a restored face lies in its frame."""
    restorer, matrix = face.restorer, shown.onto_target(face.crop_from_frame)
    mask = rounded(restorer.size_px, restorer.template)
    return Place.of(face.track.id, written, mask, matrix, strength, shown.target.layout.depth_bits)


def _faces_of(
    restorers: Sequence[Restorer], stages: Stages, steady: Steady | None, colour: Colour, overlap: bool
) -> HostFaces | DeviceFaces:
    """What restores faces: on the GPU of all restorers where its kernels pass a check, else on the host."""
    device = common_device(restorers)
    if device is None:
        return HostFaces(stages, steady, overlap=overlap)
    problem = f"this is {named(colour)} video" if is_foreign(colour) else disagreement(device)
    if problem is None:
        return DeviceFaces(device, stages, steady)
    warnings.warn(
        f"faces are cut out and pasted by the CPU, which is slower: {problem}", RuntimeWarning, stacklevel=3
    )
    return HostFaces(stages, steady, overlap=overlap)
