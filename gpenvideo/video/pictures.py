"""Pictures of an image sequence as the place that a video goes to; written beside and renamed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from gpenvideo.errors import OptionError, file_error
from gpenvideo.video.disk import beside
from gpenvideo.video.encoders import Encoder, Setup
from gpenvideo.video.sources import DEFAULT_RATE_HZ

__all__ = ["PictureTarget", "is_pictures"]

PICTURE_CODECS = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".dpx": "dpx", ".exr": "exr"}
PATTERN = re.compile(r"%(0\d+)?d")
NUMBER = "%06d"

Warn = Callable[[str], None]


def is_pictures(path: Path, codec: str | None) -> bool:
    """Whether a target is a sequence of pictures. OptionError: it is one, but does not say how."""
    if PATTERN.search(path.name):
        return path.suffix.lower() in PICTURE_CODECS
    if codec in PICTURE_CODECS.values():
        if path.suffix and not path.is_dir():
            raise OptionError("name pictures by a pattern, such as out_%04d.png, or a folder", path=path)
        return True
    if path.suffix.lower() in PICTURE_CODECS:
        raise OptionError(f"name pictures by a pattern: {path.stem}_%04d{path.suffix}", path=path)
    if path.is_dir() or not path.suffix:
        raise OptionError(
            "give the file a suffix (.mkv, .mp4), or choose --codec png for a folder of pictures", path=path
        )
    return False


class PictureTarget:
    """The files of an image sequence."""

    format = "image2"
    holds_hdr = False

    def __init__(self, path: Path, reader: Any, codec: str | None, start_number: int, warn: Warn) -> None:
        pattern = PATTERN.search(path.name) is not None
        said = PICTURE_CODECS.get(path.suffix.lower()) if pattern else None
        if said is not None and codec is not None and codec != said:
            raise OptionError(f"a pattern of {path.suffix} files holds no {codec}", path=path)
        self.codec = said or codec or "png"
        self.path, self._number = path, start_number
        self._info, self._first = reader.info, reader.first
        suffix = next(suffix for suffix, name in PICTURE_CODECS.items() if name == self.codec)
        self._folder, self._name = (path.parent, path.name) if pattern else (path, NUMBER + suffix)
        self._beside = beside(path.with_name(PATTERN.sub("", path.name)))
        self._context: Any = None
        others = [stream for stream in reader.copied if stream.type != "data"]
        if others:
            warn(f"Pictures are written alone: {len(others)} other streams of the source are left out.")
        try:
            self._beside.mkdir()
        except OSError as error:
            raise file_error(error, path, "write") from error

    def check(self, encoder: Encoder) -> None:
        """Pictures hold what their encoder makes."""

    def open(self, found: Setup, first_s: Fraction, early: Sequence[Any]) -> None:
        self._context = av.CodecContext.create(found.encoder.name, "w")
        found.context(self._context, self._info, self._info.rate_hz or DEFAULT_RATE_HZ)
        found.tag(self._context, self._info, self._first)

    def encode(self, picture: Any, duration: int | None) -> None:
        self._write(self._context.encode(picture))

    def _write(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            (self._beside / PATTERN.sub(self._numbered, self._name, count=1)).write_bytes(bytes(packet))
            self._number += 1

    def _numbered(self, match: re.Match[str]) -> str:
        return match[0] % self._number

    def copy(self, item: Any) -> None:
        """Pictures go without sound."""

    def finish(self) -> None:
        self._write(self._context.encode(None))
        if not self._folder.exists():
            self._beside.replace(self._folder)
            return
        for file in sorted(self._beside.iterdir()):
            file.replace(self._folder / file.name)
        self._beside.rmdir()

    def discard(self) -> None:
        shutil.rmtree(self._beside, ignore_errors=True)
