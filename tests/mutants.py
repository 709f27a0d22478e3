"""Damaged copies of small clips, restored one after the other in a process of its own.

    python tests/mutants.py SEED COUNT BASES FOLDER

makes copy after copy of the clips BASES/base.*, each damaged in another way, restores it in FOLDER, and
prints as JSON how many were restored, refused and so on. What is neither a whole result nor a clean refusal
is left in the folder, its traceback goes to stderr, and the exit code is 1; a copy that takes longer than a
minute ends the process.
"""

from __future__ import annotations

import faulthandler
import json
import random
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from clips import write_clip
from portraits import Same

from gpenvideo.errors import MediaError, OptionError
from gpenvideo.face import Face
from gpenvideo.transcode import Encoding, restore_video

LIMIT_S = 60
LANDMARKS = [(20, 16), (40, 16), (30, 24), (22, 32), (38, 32)]


class Everywhere:
    """A detector that finds one face in every picture, always at the same place."""

    def __call__(self, pictures: Sequence[Any]) -> list[list[Face]]:
        return [[Face(box=(12, 4, 48, 44), landmarks=LANDMARKS, score=0.99)] for _ in pictures]


def write_bases(folder: Path) -> None:
    """Small clips of the containers and codecs that archives and phones are full of."""
    common: dict[str, Any] = {"gop": 6, "frames": 16}
    write_clip(folder / "base.mp4", codec="libx264", b_frames=2, audio=1, **common)
    write_clip(folder / "base.mkv", codec="ffv1", subtitles=["eng"], audio=1, frames=6)
    write_clip(folder / "base.avi", codec="mpeg4", b_frames=2, **common)
    write_clip(folder / "base.gif", codec="gif", pix_fmt="rgb8", frames=8)
    write_clip(folder / "base.ts", codec="mpeg2video", audio=1, audio_codec="mp2", **common)
    write_clip(folder / "base.264", codec="libx264", **common)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A copy with a few damages: an end cut off, bytes changed, taken out, doubled, or put elsewhere."""
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        place, length = rng.randrange(max(1, len(mutant))), rng.choice((1, 4, 40, 400))
        piece = mutant[place : place + length]
        match rng.randrange(7):
            case 0:
                del mutant[max(1, place) :]
            case 1:
                mutant[place : place + 1] = bytes([rng.randrange(256)])
            case 2:
                mutant[place : place + length] = rng.randbytes(len(piece))
            case 3:
                mutant[place : place + length] = bytes(len(piece))
            case 4:
                del mutant[place : place + length]
            case 5:
                mutant[place:place] = piece
            case 6:
                elsewhere = rng.randrange(max(1, len(mutant)))
                mutant[elsewhere : elsewhere + len(piece)] = piece
    return bytes(mutant)


def restored(source: Path, target: Path) -> str:
    """Restore one copy; what came of it. ValueError: neither a whole result nor a clean refusal."""
    try:
        report = restore_video(
            source,
            target,
            weights=Same(32, paint=0.5),
            detector=Everywhere(),
            encoding=Encoding(codec="ffv1"),
        )
    except (MediaError, OptionError) as error:
        kind = type(error).__name__
        check(not target.exists(), "a result is left")
        check("\n" not in str(error) and str(source.parent) in str(error), "the message is not clear")
    else:
        with av.open(str(target)) as container:
            check(sum(1 for _ in container.decode(video=0)) == report.written > 0, "frames are lost")
        target.unlink()
        kind = "with warnings" if report.warnings else "whole"
    check(not list(target.parent.glob(".*")), "something hidden is left")
    check(not [t for t in threading.enumerate() if t.name.startswith("gpenvideo")], "a thread is left")
    return kind


def check(good: bool, otherwise: str) -> None:
    if not good:
        raise ValueError(otherwise)


def main(seed: int, count: int, bases: Path, folder: Path) -> int:
    rng, results = random.Random(seed), Counter[str]()
    clips = [(path.suffix, path.read_bytes()) for path in sorted(bases.glob("base.*"))]
    for number in range(count):
        suffix, data = clips[number % len(clips)]
        source = folder / f"mutant-{seed}-{number}{suffix}"
        source.write_bytes(mutated(data, rng))
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        try:
            results[restored(source, folder / "out.mkv")] += 1
            source.unlink()
        except Exception:
            results["wrong"] += 1
            sys.stderr.write(f"{source}\n")
            traceback.print_exc()
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(json.dumps(results) + "\n")
    return 1 if results["wrong"] else 0


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])))
