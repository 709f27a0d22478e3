"""What a person may ask of a file that is read, and of one that is written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from gpenvideo.errors import OptionError
from gpenvideo.video.deinterlacing import check_deinterlace, chosen_way
from gpenvideo.video.fields import Fields, fields_of
from gpenvideo.video.hardware import DECODERS, Hardware
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.timing import parse_time
from gpenvideo.video.treatment import Treatment

if TYPE_CHECKING:
    import torch

__all__ = ["Decoding", "Encoding"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """Which part of a file is read, by what, how strictly, and what is done to its pictures first.

    Raises:
        OptionError: deinterlacing, a prefilter or a decoder that there is not.
    """

    start: float | Fraction | int | None = None
    """Seconds (float, Fraction) or a frame number (int)."""

    end: float | Fraction | int | None = None
    """The same; not included."""

    video_stream: int | None = None
    """Among the video streams, from 0; None is the first."""

    rate_hz: Fraction | None = None
    """Frames a second of image sequences and raw streams."""

    strict: bool = False
    """Whether damage in the source is an error; else it is passed over and reported."""

    deinterlace: str = "auto"
    """"auto" makes whole pictures of combed ones (bwdif, a picture of two fields; film at 3:2 as `ivtc`) and
    leaves others as they are; "off" leaves all; "bwdif", "w3fdif" and "yadif" take all for combed, and make a
    picture of each field as "bwdif:field"."""

    ivtc: bool = False
    """Whether the source is taken for film at 3:2: four pictures of five, each whole."""

    prefilter: str | None = None
    """A graph of FFmpeg's filters: faces are found in its pictures and cut out of them."""

    prefilter_output: bool = False
    """Whether its pictures are what is restored, too; else that is the source's."""

    decoder: str = "software"
    """"software" is FFmpeg's on the CPU. "nvdec" is a GPU's, where the networks are on it, it can decode the
    source and a check finds the same pictures; a sentence says why it is not taken. "auto" is the same, and
    silent where no GPU was to be expected."""

    def __post_init__(self) -> None:
        check_deinterlace(self.deinterlace, self.ivtc)
        Treatment(None, self.prefilter, self.prefilter_output)  # checks it
        if self.decoder not in DECODERS:
            raise OptionError(f"{self.decoder!r} is no decoder: say {', '.join(DECODERS)}")

    @classmethod
    def parsed(
        cls,
        start: str | None = None,
        end: str | None = None,
        video_stream: int | None = None,
        rate: str | None = None,
        strict: bool = False,
        **treatment: Any,
    ) -> Self:
        """Of moments and a rate as people write them. OptionError: they cannot be read."""
        try:
            rate_hz = None if rate is None else Fraction(rate)
        except (ValueError, ZeroDivisionError):
            raise OptionError(f"a rate is written 25, 23.976 or 24000/1001, not {rate!r}") from None
        moments = [None if text is None else parse_time(text) for text in (start, end)]
        return cls(moments[0], moments[1], video_stream, rate_hz, strict, **treatment)

    def open(
        self, path: str | PathLike[str], *, restores: bool = False, device: torch.device | None = None
    ) -> VideoReader:
        """A reader of this part of a file.

        Args:
            path: see `VideoReader`.
            restores: whether faces are to be restored in it.
            device: the GPU that the networks are on; None: on none.

        OptionError: they are, and its pictures are combed and are to stay so. Else see `VideoReader`.
        """
        hardware = Hardware(device, asked=self.decoder == "nvdec")
        decodes = self.decoder == "nvdec" or (self.decoder == "auto" and device is not None)
        limits: dict[str, Any] = {}
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment is not None:
                limits[f"{name}_frame" if isinstance(moment, int) else f"{name}_s"] = moment
        return VideoReader(
            path,
            stream=self.video_stream,
            rate_hz=self.rate_hz,
            strict=self.strict,
            treatment=self._treatment(path, restores),
            hardware=hardware if decodes else None,
            **limits,
        )

    def _treatment(self, path: str | PathLike[str], restores: bool) -> Treatment:
        looks = self.deinterlace != "off" or self.ivtc or restores
        found = fields_of(path, self.video_stream) if looks else Fields()
        way, note = chosen_way(self.deinterlace, self.ivtc, found)
        if restores and way is None and found.is_combed and not self.prefilter_output:
            raise OptionError(
                "its pictures are combed, and faces cannot be restored in combs: leave --deinterlace at "
                "auto, or choose bwdif",
                path=path,
            )
        notes = [note] if note else []
        if self.prefilter is not None:
            use = "taken for the picture" if self.prefilter_output else "looked at, and not written"
            notes.append(f"The pictures of the prefilter {self.prefilter!r} are {use}.")
        return Treatment(way, self.prefilter, self.prefilter_output, tuple(notes))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a result is written; see `gpenvideo.video.writer.VideoWriter`."""

    codec: str | None = None
    """None is libx264 where the container holds it."""

    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
