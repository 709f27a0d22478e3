"""Examples: the truth, the bad picture and what was made of it, as crops of one size, one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpenvideo.affine import compose
from gpenvideo.crops import through
from gpenvideo.degradation import greyscale
from gpenvideo.errors import FaceError, GpenvideoError, MediaError, OptionError
from gpenvideo.evaluate.degraded import Decay, check_size, resized
from gpenvideo.evaluate.pictures import Source, in_order
from gpenvideo.face import Face
from gpenvideo.faces import portraits
from gpenvideo.faces.alignment import crop_from_frame
from gpenvideo.faces.detector import Detector
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame
from gpenvideo.picture import as_uint8, read_picture
from gpenvideo.restorer import Restorer

__all__ = ["Alignment", "Example", "examples", "prepare"]

Pixels = NDArray[np.uint8]

AT_ONCE = 4  # pictures through the network
NO_COLOUR_LEVELS = 2  # channels that differ by no more say nothing of colour


@dataclass(frozen=True)
class Example:
    """One picture of an evaluation: (S, S, 3) uint8 RGB each.

    restored     None where nothing has restored it yet
    parameters   what was drawn for its degradation; empty where the bad picture was given
    """

    source: Source
    truth: Pixels
    degraded: Pixels
    restored: Pixels | None = None
    parameters: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Alignment:
    """How pictures become crops.

    size_px    their side
    template   (5, 2) where the landmarks are to lie, px of the crop; None: the pictures are aligned faces
    detector   finds the face of a picture (the largest) whose landmarks are not known

    Raises OptionError for a size that cannot be used.
    """

    size_px: int
    template: NDArray[np.float64] | None
    detector: Detector | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        check_size(self.size_px)

    def landmarks(self, source: Source, truth: Pixels) -> NDArray[np.floating]:
        """(5, 2) px of the truth. Raises FaceError where there is no face."""
        if source.portrait is not None and source.portrait.landmarks is not None:
            return np.asarray(source.portrait.landmarks)
        if self.detector is None:
            raise OptionError("its landmarks are not known: name a detector", path=source.truth)
        with self._turn:  # a detector is no place for two threads
            faces = self.detector([truth])[0]
        if not faces:
            raise FaceError("no face was found in it; if it is all face, say --aligned", path=source.truth)
        return np.asarray(max(faces, key=_size).landmarks)


def prepare(source: Source, alignment: Alignment, decay: Decay | None) -> Example:
    """The crops of a picture, with nothing restored but what a tool did.

    A bad picture without colour is compared with the truth in greyscale: no restorer can know the colours.
    A bad or restored picture of another size than the truth is taken to show the same, larger or smaller.

    Raises MediaError, FileError, FaceError: no picture, no aligned face, no face.
    """
    labelled = source.portrait is not None  # landmarks are those of the picture as stored
    pictures = {"truth": _read(source.truth, as_stored=labelled)}
    if source.degraded is not None:
        pictures["degraded"] = _read(source.degraded, as_stored=labelled)
    if source.restored is not None:
        pictures["restored"] = _read(source.restored, as_stored=labelled)
    crops = _squares(source, pictures, alignment) if alignment.template is None else None
    if crops is None:
        crops = _aligned(source, pictures, alignment)
    parameters: dict[str, object] = {}
    if decay is not None and source.degraded is None:
        crops["degraded"], parameters = decay(crops["truth"], source.name)
    if int(np.ptp(crops["degraded"], axis=2).max()) <= NO_COLOUR_LEVELS:
        crops["truth"] = np.rint(greyscale(crops["truth"].astype(np.float32))).astype(np.uint8)
    return Example(source, crops["truth"], crops["degraded"], crops.get("restored"), parameters)


def examples(
    sources: Iterable[Source],
    alignment: Alignment,
    *,
    decay: Decay | None = None,
    restorer: Restorer | None = None,
    workers: int = 1,
) -> Iterator[Example | GpenvideoError]:
    """Each picture, restored; or why it cannot be used. A few are in memory at a time.

    decay      makes the bad pictures where the sources have none
    restorer   restores what no tool has restored
    workers    threads that read, align and degrade
    """

    def work(source: Source) -> Example | GpenvideoError:
        try:
            return prepare(source, alignment, decay)
        except (FaceError, MediaError) as error:
            return error

    ready = in_order(work, sources, workers)
    while some := list(islice(ready, AT_ONCE)):
        bad = [one for one in some if isinstance(one, Example) and one.restored is None]
        restored = {} if restorer is None else dict(zip(map(id, bad), _restored(bad, restorer), strict=True))
        for one in some:
            if isinstance(one, Example) and id(one) in restored:
                yield replace(one, restored=restored[id(one)])
            else:
                yield one


def _restored(bad: Sequence[Example], restorer: Restorer) -> list[Pixels]:
    inputs = [resized(one.degraded, restorer.size_px).astype(np.float32) / 127.5 - 1 for one in bad]
    outputs = (np.rint((pixels + 1) * 127.5).astype(np.uint8) for pixels in through(restorer, inputs))
    return [resized(output, len(one.degraded)) for output, one in zip(outputs, bad, strict=True)]


def _read(path: Path, *, as_stored: bool) -> Pixels:
    return portraits.read_picture(path) if as_stored else as_uint8(read_picture(path).rgb)


def _squares(source: Source, pictures: dict[str, Pixels], alignment: Alignment) -> dict[str, Pixels]:
    for name, pixels in pictures.items():
        if pixels.shape[0] != pixels.shape[1]:
            path = getattr(source, name)
            raise MediaError(
                f"it is {pixels.shape[1]}x{pixels.shape[0]}: aligned faces are square", path=path
            )
    return {name: resized(pixels, alignment.size_px) for name, pixels in pictures.items()}


def _aligned(source: Source, pictures: dict[str, Pixels], alignment: Alignment) -> dict[str, Pixels]:
    assert alignment.template is not None
    truth = pictures["truth"]
    crop_from_truth = crop_from_frame(alignment.landmarks(source, truth), alignment.template)
    crops = {}
    for name, pixels in pictures.items():
        scale = np.array(truth.shape[1::-1]) / pixels.shape[1::-1]
        truth_from_picture = np.column_stack([np.diag(scale), (scale - 1) / 2])  # centres on whole numbers
        face = crop(as_frame(pixels), compose(crop_from_truth, truth_from_picture), alignment.size_px)
        crops[name] = np.rint((face + 1) * 127.5).astype(np.uint8)
    return crops


def _size(face: Face) -> float:
    return face.size_px
