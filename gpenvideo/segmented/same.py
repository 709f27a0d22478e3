"""Whether a part of a run sees the pictures that the analysis saw."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gpenvideo.errors import MediaError
from gpenvideo.frame import Frame
from gpenvideo.tracks.document import Tracks
from gpenvideo.tracks.pictures import Pictures, Seen

__all__ = ["OtherPictures", "Same"]


class OtherPictures(Exception):  # noqa: N818 - reads as what it says
    """A file gives other pictures than it gave to the analysis; what is to be told where it always does."""

    def __init__(self, told: MediaError) -> None:
        super().__init__(told)
        self.told = told


class Same:
    """Compares the pictures of a part with those that were taken down, as they pass.

    Args:
        path: of the file.
        tracks: of the analysis; one that took no pictures down is not compared.
        start_pts, end_pts: from where to where.
        strict: other samples are an error too, not only other pictures.
    """

    def __init__(
        self, path: str, tracks: Tracks, start_pts: int, end_pts: int | None, *, strict: bool
    ) -> None:
        self._path, self._source, self._shots = path, tracks.source, frozenset(tracks.shots)
        self._expected = deque(
            seen
            for seen in tracks.pictures
            if start_pts <= seen.pts and (end_pts is None or seen.pts < end_pts)
        )
        self._compared, self._strict = bool(tracks.pictures), strict
        self._others = 0

    def __call__(self, frames: Iterator[Frame], shift: int) -> Iterator[Frame]:
        """The same frames; `shift` is what was taken off their pts. OtherPictures."""
        pictures = Pictures(self._source.time_base)
        for frame in frames:
            pts = frame.pts + shift
            if self._compared:
                self._compare(pictures.take(pts, frame, starts_shot=pts in self._shots))
            yield frame
        self._compare(pictures.finish())
        if self._expected:
            self._compare(Seen(self._expected[0].pts, 0, 0))

    def _compare(self, seen: Seen | None) -> None:
        if seen is None:
            return
        expected = self._expected.popleft() if self._expected else None
        if seen == expected:
            return
        if self._strict or expected is None or seen[:2] != expected[:2]:
            time_s = float(seen.pts * self._source.time_base)
            line = "it gives other pictures than when it was analysed: has it been changed?"
            raise OtherPictures(MediaError(line, path=self._path, time_s=time_s))
        self._others += 1

    @property
    def warnings(self) -> list[str]:
        """What is to be said, a sentence each."""
        if not self._others:
            return []
        return [f"Damaged pictures are decoded otherwise each time, in {self._others} seconds of it."]
