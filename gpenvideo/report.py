"""Reports: what was done to a video, for people's records and for programs."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from gpenvideo.errors import file_error
from gpenvideo.frame import Rectangle
from gpenvideo.pipeline import Restored
from gpenvideo.place import beside

__all__ = ["FrameReport", "Report", "Track", "versions"]


@dataclass
class Track:
    """One face, from where it appears to where it is gone."""

    id: int
    first_s: float
    last_s: float
    frames: int = 0
    person: int = 0
    """The same number is the same person; 0 is nobody known."""


@dataclass
class Report:
    """What `restore_video` did."""

    source: str
    target: str
    network: str
    """The restorer, its precision and device."""

    options: dict[str, Any]
    versions: dict[str, str] = field(default_factory=lambda: versions())
    stream: dict[str, Any] = field(default_factory=dict)
    """The source's video stream, as it was read."""

    encoder: dict[str, Any] = field(default_factory=dict)
    frames: dict[str, int | None] = field(default_factory=dict)
    """"in" (as the container says, or None), "decoded", "written", and the reader's other counts."""

    faces_per_frame: dict[int, int] = field(default_factory=dict)
    """How many frames had 0, 1, 2, ... restored faces."""

    tracks: list[Track] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)
    """"embedder": by what people are told apart; "guard": the tracks whose strength it lowered with the least
    factor of each, or why there was none."""

    matching: dict[str, float] = field(default_factory=dict)
    """What the pictures with restored faces were: how many "frames", how many of them "monochrome" (black and
    white, or tinted), and their mean "grain", a standard deviation in levels of 8 bits."""

    shots_s: list[float] = field(default_factory=list)
    """When each shot begins, seconds."""

    metrics: dict[str, Any] = field(default_factory=dict)
    """How steady source and result are, see `gpenvideo.evaluate.run.RunMetrics`; empty unless asked for."""

    stages_s: dict[str, float] = field(default_factory=dict)
    """Seconds of work by stage."""

    waits_s: dict[str, float] = field(default_factory=dict)
    """Seconds that a thread waited for a place behind it ("full"), and the next one for an item ("empty")."""

    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    fps: float = 0.0

    def count(self, restored: Restored) -> None:
        """Take a restored frame into account."""
        time_s = restored.frame.time_s
        if restored.starts_shot:
            self.shots_s.append(time_s)
        if found := restored.found:
            self.match({"frames": 1, "monochrome": found.colour < 0.5, "grain": found.grain})
        faces = len(restored.tracks)
        self.faces_per_frame[faces] = self.faces_per_frame.get(faces, 0) + 1
        known = {track.id: track for track in self.tracks}
        for face in restored.tracks:
            if face.id not in known:
                known[face.id] = Track(face.id, time_s, time_s)
                self.tracks.append(known[face.id])
            known[face.id].last_s = time_s
            known[face.id].frames += 1
            known[face.id].person = face.person or known[face.id].person

    def match(self, further: dict[str, float]) -> None:
        """Take what further pictures were into account, see `matching`."""
        before = self.matching or {"frames": 0, "monochrome": 0, "grain": 0.0}
        frames = before["frames"] + further["frames"]
        grain = (before["grain"] * before["frames"] + further["grain"] * further["frames"]) / frames
        monochrome = before["monochrome"] + further["monochrome"]
        self.matching = {"frames": frames, "monochrome": monochrome, "grain": round(grain, 3)}

    @property
    def written(self) -> int:
        """Frames so far."""
        return sum(self.faces_per_frame.values())

    @property
    def faces(self) -> int:
        """Faces restored so far, each in each frame."""
        return sum(faces * frames for faces, frames in self.faces_per_frame.items())

    def as_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=2, default=str)


def versions() -> dict[str, str]:
    """Of gpenvideo and of what it stands on."""
    names = ("gpenvideo", "torch", "av", "numpy", "opencv-python", "facexlib")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


class FrameReport:
    """One JSON line a written frame, streamed: {"pts": source ticks, "masks": [[x0, y0, x1, y1], ...]}.

    Masks are luma samples of the frame as it is encoded, half-open; every sample of a face lies in one. The
    file gets its name with `finish`; leaving the context before that removes it.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._beside = beside(self.path)
        try:
            self._file = self._beside.open("w")
        except OSError as error:
            raise file_error(error, path, "write") from error

    def write(self, pts: int, masks: list[Rectangle]) -> None:
        """Add a frame."""
        try:
            self._file.write(json.dumps({"pts": pts, "masks": masks}) + "\n")
        except OSError as error:
            raise file_error(error, self.path, "write") from error

    def finish(self) -> None:
        """Close the file and give it its name."""
        try:
            self._file.close()
            self._beside.replace(self.path)
        except OSError as error:
            raise file_error(error, self.path, "write") from error

    def __enter__(self) -> FrameReport:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._beside.unlink(missing_ok=True)
