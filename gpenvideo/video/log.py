"""What is met while reading: counts, and damage told once a kind, with its number and its first moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpenvideo.errors import MediaError

__all__ = ["Counts", "ReadingLog"]


@dataclass
class Counts:
    """What was met while reading."""

    packets: int = 0
    """Of the restored stream; files of an image sequence."""

    decoded: int = 0
    """Pictures the decoder gave, those before the part included."""

    frames: int = 0
    """Pictures handed out."""

    broken_packets: int = 0
    """Packets or files that could not be decoded: left out."""

    broken_frames: int = 0
    """Pictures that the decoder marks as damaged: kept."""

    refitted_frames: int = 0
    """Pictures of another size or pixel format than the first."""

    stamped_frames: int = 0
    """Pictures whose timestamp was missing, or not after the one before."""

    read_errors: int = 0
    """Places where the container could not be read on without a break."""

    missing_pictures: int = 0
    """Numbers of an image sequence without a file."""

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass
class ReadingLog:
    """The counts and the sentences of one reading."""

    path: Path
    strict: bool = False
    counts: Counts = field(default_factory=Counts)
    notes: list[str] = field(default_factory=list)
    _met: dict[str, tuple[int, str, str]] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Something to know that is no damage."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def damage(self, kind: str, detail: str = "", time_s: float | None = None) -> None:
        """Damage of a kind ("Packets that could not be decoded: left out"); MediaError when strict."""
        if self.strict:
            what = kind.split(":")[0].lower() + (f" ({detail})" if detail else "")
            raise MediaError(f"it is damaged: {what}", path=self.path, time_s=time_s)
        self.remark(kind, time_s, detail)

    def remark(self, kind: str, time_s: float | None = None, detail: str = "") -> None:
        """Something that happens more than once and is told once, with its number; never an error."""
        new = (0, "" if time_s is None else f"at {time_s:.3f} s", detail)
        count, when, detail = self._met.get(kind, new)
        self._met[kind] = (count + 1, when, detail)

    @property
    def warnings(self) -> list[str]:
        """The sentences so far: the notes, then one a kind of damage."""
        lines = list(self.notes)
        for kind, (count, when, detail) in self._met.items():
            first = ", ".join(part for part in (when, detail) if part)
            lines.append(f"{kind}: {count}{f', first {first}' if first else ''}.")
        return lines
