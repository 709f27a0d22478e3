"""Work: all that the result of one file depends on, as one value that can be sent anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from gpenvideo import weights
from gpenvideo.errors import FileMissing, file_error
from gpenvideo.faces.identity import ARCFACE
from gpenvideo.networks import NetworkOptions, detector_files
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.restorer import default_file
from gpenvideo.tracks.file import read_tracks
from gpenvideo.video.options import Decoding, Encoding

__all__ = ["Work", "hash_of"]

OF_THE_MACHINE = ("device", "compile", "decoder")  # of the options: how it is computed, and not what


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done to one file. It can be pickled, compared, and told by its `fingerprint`."""

    source: str
    weights: str | None = None
    """A path or a name of the manifest; None is the default restorer. The same for the detector."""

    detector: str | None = None
    networks: NetworkOptions = field(default_factory=NetworkOptions)
    options: RestoreOptions = field(default_factory=RestoreOptions)
    decoding: Decoding = field(default_factory=Decoding)
    encoding: Encoding = field(default_factory=Encoding)
    container: str = ".mkv"
    """The suffix of the target: what it holds decides about the encoder."""

    tracks: str | None = None
    """A file of tracks that were found before; None finds them."""

    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of all that the result depends on but the source.

        Options, this version of gpenvideo, and what is in the files of weights, reference pictures and
        tracks; not their names, and not the device.

        Raises:
            FileError, FileMissing: one of those files cannot be read. OptionError: the tracks.
        """
        networks, decoding = (
            {name: value for name, value in asdict(options).items() if name not in OF_THE_MACHINE}
            for options in (self.networks, self.decoding)
        )
        facts: dict[str, Any] = {
            "version": version("gpenvideo"),
            "networks": networks,
            "options": asdict(self.options)
            | {
                "reference": [hash_of(path) for path in self.options.reference],
                "further_weights": [],
                "background": self.options.background and hash_of(weights.find(self.options.background)),
            },
            "decoding": {name: repr(value) for name, value in decoding.items()},
            "encoding": asdict(self.encoding),
            "container": self.container,
            "files": [hash_of(path) for path in self._files()],
            "tracks": self.tracks and hash_of(self.tracks),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _files(self) -> Iterator[Path]:
        """Of the networks that are used; where one is not there, another does its work or none."""
        yield default_file() if self.weights is None else weights.find(self.weights)
        yield from map(weights.find, self.options.further_weights)
        if self.tracks is None or self.options.reference:
            yield from detector_files(self.detector)
        with contextlib.suppress(FileMissing):
            yield weights.find(ARCFACE)
        tracks = () if self.tracks is None else read_tracks(self.tracks).tracks
        for name in sorted({track.weights for track in tracks if track.weights and not track.skip}):
            yield weights.find(name)


def hash_of(path: str | PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal digits. FileError: it cannot be read."""
    try:
        facts = Path(path).stat()
        return _hash(Path(path), facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise file_error(error, path, "read") from error


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, changed_ns: int) -> str:
    """A file that did not change since is not read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
