"""Which network a face goes through, where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import write_clip
from portraits import Same

import gpenvideo
from gpenvideo.analysis import Analysed
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.alignment import template
from gpenvideo.frame import Colour, Frame, Layout, StreamInfo
from gpenvideo.kernels.picture import as_frame
from gpenvideo.pipeline import RestoreOptions, VideoRestorer

INFO = StreamInfo(400, 300, "gbrp", Layout("rgb", 8), Colour(0, True, (0, 0)), Fraction(1))


class Counting(Same):
    """Paints every face in a colour of its own, and counts."""

    def __init__(self, size_px: int, paint: float) -> None:
        super().__init__(size_px, paint)
        self.faces = 0

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        self.faces += len(pixels)
        return super().__call__(pixels)


def track(number: int, crop_px: float, time_s: float = 0.0) -> FaceTrack:
    """A face whose crop in FFHQ's template is so wide."""
    points = (template("ffhq", 512) - 256) * crop_px / 512 + (200, 150)
    box = [points[:, 0].min(), points[:, 1].min(), points[:, 0].max(), points[:, 1].max()]
    return FaceTrack(number, Face(box, points, 0.9), time_s, time_s, 0.0, 1.0)


def film(frames: Iterable[tuple[list[FaceTrack], bool]]) -> Callable[[Any], Iterator[Analysed]]:
    grey = np.full((300, 400, 3), 128, dtype=np.uint8)

    def analysis(_: Any) -> Iterator[Analysed]:
        for second, (tracks, cut) in enumerate(frames):
            frame: Frame = replace(as_frame(grey), pts=second, time_base=Fraction(1))
            yield Analysed(frame, [replace(t, time_s=float(second)) for t in tracks], cut)

    return analysis


def counts(frames: Iterable[tuple[list[FaceTrack], bool]], **others: Any) -> list[int]:
    small, middle, large = Counting(64, -0.5), Counting(128, 0.0), Counting(256, 0.5)
    options = RestoreOptions(gates=False)
    video = VideoRestorer(large, film(frames), INFO, options, further=[small, middle], **others)
    assert len(list(video([]))) == len(list(frames))
    return [small.faces, middle.faces, large.faces]


@pytest.mark.parametrize(
    ("crop_px", "expected"),
    [(40, [1, 0, 0]), (79, [1, 0, 0]), (81, [0, 1, 0]), (159, [0, 1, 0]), (161, [0, 0, 1]), (390, [0, 0, 1])],
)
def test_a_face_goes_through_the_smallest_network_that_holds_it(crop_px: float, expected: list[int]) -> None:
    assert counts([([track(1, crop_px)], True)]) == expected


def test_a_face_keeps_its_network_until_a_cut_or_a_tenth_second() -> None:
    growing = [([track(1, 61 + 10 * second)], second in (0, 5)) for second in range(13)]
    # 61 px at 0 s, 111 px at the cut, 161 px at 10 s
    assert counts(growing) == [5, 5, 3]


def test_a_track_with_a_network_of_its_own_keeps_it() -> None:
    own = Counting(64, 0.9)
    assert counts([([track(1, 300), track(2, 70)], True)], others={1: own}) == [1, 0, 0]
    assert own.faces == 1


def test_several_weights_from_file_to_file(
    network: Path, tmp_path: Path, said: Callable[..., tuple[int, str, str]]
) -> None:
    clip = write_clip(tmp_path / "in.mkv", size=(64, 48), frames=3)
    options = RestoreOptions(further_weights=(str(network),))
    report = gpenvideo.restore_video(clip, tmp_path / "out.mkv", options=options)
    assert "64 px: crops up to 80 px, 256 px: wider ones" in report.network
    code, _, err = said(
        "restore", clip, "-o", tmp_path / "b.mkv", "--weights", network, "--weights", tmp_path / "none.pth"
    )
    assert code == 2
    assert "none.pth" in err
    code, _, err = said("restore", tmp_path / "a.png", "--weights", network, "--weights", network)
    assert code == 2
    assert "one network" in err
