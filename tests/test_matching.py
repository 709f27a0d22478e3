"""Matching: tint and sharpness of restored faces are those of their pictures; whole runs of films."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from av import VideoFrame
from clips import write_clip
from films import assert_same, write_film
from numpy.typing import NDArray
from portraits import Same, decoded_planes, portrait
from tones import toned

from gpenvideo import OptionError, RestoreOptions, load_detector, restore_video
from gpenvideo.batch.settings import work_of
from gpenvideo.matching.finishing import Finishing
from gpenvideo.matching.noise import Noise
from gpenvideo.matching.place import Place, set_apart
from gpenvideo.matching.sharpness import SHARPER, edge_width_px, softening
from gpenvideo.segmented.parts import parts
from gpenvideo.segmented.restoring import Warm, analyse, join, restore_part
from gpenvideo.segmented.work import Work
from gpenvideo.transcode import Encoding

FFV1 = Encoding(codec="ffv1")
SIZE = (320, 240)
CLEAN = Noise(np.array([128.0]), np.array([0.0]), (0.0, 0.0), np.array([1.0, 0.0, 0.0]))

Pixels = NDArray[Any]


class Rouge(Same):
    """A restorer that paints spots on cheeks, and takes noise away."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        axis = torch.sin(torch.linspace(0, 40, self.size_px))
        spots = (axis * axis[:, None]) * torch.tensor([0.3, -0.1, -0.3])[:, None, None]
        smooth = F.avg_pool2d(pixels, 5, stride=1, padding=2, count_include_pad=False)
        return (smooth + spots + 0.1).clamp(-1, 1)


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector(device="cpu")


def scene(number: int) -> Pixels:
    side = round(1.35 * SIZE[0])
    x, y = round(0.12 * side) + number, round(0.02 * side)
    return portrait(side)[y : y + SIZE[1], x : x + SIZE[0]]


def clip_of(
    path: Path, tone: str, pix_fmt: str = "yuv420p", frames: int = 4, chroma: float = 0.0, clean: bool = False
) -> Path:
    """chroma: standard deviation of its noise, which a tape has: streaks. clean: without the photo's."""

    def picture(number: int) -> VideoFrame:
        rgb = np.ascontiguousarray(toned(scene(number), tone) if tone else scene(number))
        if clean:
            rgb = np.asarray(cv2.bilateralFilter(rgb, 9, 25, 3))
        frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt, threads=1)
        if not chroma:
            return frame
        planes = frame.to_ndarray()
        height, random = SIZE[1], np.random.default_rng(number)
        white = random.standard_normal((height // 2, SIZE[0])).astype(np.float32)
        streaks = cv2.GaussianBlur(white, (0, 0), sigmaX=3, sigmaY=0.6)
        noisy = planes[height:].reshape(streaks.shape) + streaks * (chroma / streaks.std())
        planes[height:] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8).reshape(planes[height:].shape)
        return VideoFrame.from_ndarray(planes, format=pix_fmt)

    return write_clip(path, codec="ffv1", pix_fmt=pix_fmt, size=SIZE, frames=frames, picture=picture)


@pytest.mark.parametrize(("tone", "chroma"), [("grey", 0), ("grey", 5), ("sepia", 0), ("sepia", 3)])
def test_a_film_without_colour_keeps_its_chroma(
    tone: str, chroma: float, detector: Any, tmp_path: Path
) -> None:
    clip, target = clip_of(tmp_path / "in.mkv", tone, chroma=chroma), tmp_path / "out.mkv"
    report = restore_video(clip, target, weights=Rouge(128), detector=detector, encoding=FFV1)
    assert report.matching["monochrome"] == report.matching["frames"] == 4
    was, now = decoded_planes(clip), decoded_planes(target)
    for pts, planes in was.items():
        assert not np.array_equal(planes[0], now[pts][0])
        for before, after in zip(planes[1:], now[pts][1:], strict=True):
            assert np.array_equal(before, after)


def test_sepia_keeps_its_hue_as_rgb(detector: Any, tmp_path: Path) -> None:
    clip, target = clip_of(tmp_path / "in.mkv", "sepia", "gbrp10le"), tmp_path / "out.mkv"
    restore_video(clip, target, weights=Rouge(128), detector=detector, encoding=FFV1)
    was, now = decoded_planes(clip), decoded_planes(target)
    for pts, before in was.items():
        one, other = (hue_deg(planes) for planes in (before, now[pts]))
        changed = before[0] != now[pts][0]
        assert changed.sum() > 1000
        assert np.abs((one - other + 180) % 360 - 180)[changed].max() < 1


def hue_deg(planes: list[Pixels]) -> Pixels:
    green, blue, red = (plane.astype(float) for plane in planes)
    return np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))


def test_colour_is_allowed_and_film_in_colour_has_it(detector: Any, tmp_path: Path) -> None:
    def changed(tone: str, **options: Any) -> bool:
        clip, target = clip_of(tmp_path / "in.mkv", tone, chroma=1), tmp_path / "out.mkv"
        given = RestoreOptions(**options)
        restore_video(clip, target, weights=Rouge(128), detector=detector, encoding=FFV1, options=given)
        was, now = decoded_planes(clip), decoded_planes(target)
        return any(not np.array_equal(was[pts][1], now[pts][1]) for pts in was)

    assert not changed("grey")
    assert changed("grey", color="allow")
    assert changed("")


def test_faces_that_overlap_share_no_sample() -> None:
    one = Place(0, (slice(0, 6), slice(0, 6)), np.full((6, 6), 0.5, np.float32))
    other = Place(1, (slice(3, 9), slice(3, 9)), np.full((6, 6), 0.75, np.float32))
    set_apart([one, other])
    assert not one.weights[3:, 3:].any()
    assert (one.weights > 0).sum() == 27
    assert (other.weights > 0).all()


def edges(width_px: float, shape: tuple[int, int] = (240, 240)) -> NDArray[np.float32]:
    """Squares, blurred."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    squares = 60 + 120 * ((x // 40 + y // 40) % 2)
    picture = squares.astype(np.float32)
    return cv2.GaussianBlur(picture, (0, 0), width_px) if width_px else picture


@pytest.mark.parametrize("width_px", [1.5, 2.0, 3.0])
def test_how_soft_a_picture_is_shows_in_its_edges(width_px: float) -> None:
    picture = edges(width_px)
    assert edge_width_px(picture, np.ones_like(picture), CLEAN) == pytest.approx(width_px, rel=0.15)


def weights() -> NDArray[np.float32]:
    y, x = np.mgrid[:240, :240]
    return np.clip(1.6 - np.hypot(x - 120, y - 120) / 60, 0, 1).astype(np.float32)


def test_a_sharp_face_in_a_soft_picture_is_softened_and_never_sharpened() -> None:
    cover, soft, sharp = weights(), edges(3), edges(0.5)
    core = cover > 0.9
    composed = (1 - cover) * soft + cover * sharp
    change = softening(soft, composed, cover, CLEAN)
    assert not change[cover == 0].any()
    was, now = (edge_width_px(part, core, CLEAN) for part in (composed, composed + change))
    assert was < 1
    assert now == pytest.approx(3 / SHARPER, rel=0.3)
    composed = (1 - cover) * sharp + cover * soft
    assert np.abs(softening(sharp, composed, cover, CLEAN)).max() < 0.1


def test_a_flat_picture_makes_no_face_soft() -> None:
    cover, flat = weights(), np.full((240, 240), 90, np.float32)
    composed = (1 - cover) * flat + cover * edges(0.5)
    change = softening(flat, composed, cover, CLEAN)
    assert np.isfinite(change).all()


def test_segments_have_the_grain_of_one_run(detector: Any, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", frames=80)
    options = RestoreOptions(match_sharpness=True)
    restorer, target = Rouge(96), tmp_path / "one.mkv"
    report = restore_video(film, target, weights=restorer, detector=detector, encoding=FFV1, options=options)
    assert report.matching["grain"] > 1.5
    work, warm, tracks = (
        Work(str(film), options=options, encoding=FFV1),
        Warm(restorer, detector),
        "tracks.json",
    )
    found = analyse(work, tmp_path / tracks, warm)
    done = [
        restore_part(work, part, tmp_path / tracks, tmp_path / f"{part.index}.nut", warm)
        for part in parts(found, 5)
    ]
    assert len(done) > 1
    told = join(work, done, tmp_path / "joined.mkv")
    assert_same(target, tmp_path / "joined.mkv")
    assert told["matching"]["frames"] == report.matching["frames"]
    assert told["matching"]["grain"] == pytest.approx(report.matching["grain"], abs=0.01)


def test_nothing_asked_is_nothing_done(detector: Any, tmp_path: Path) -> None:
    """On a clean film in colour all of it, or none, is the same."""
    clip, targets = (
        clip_of(tmp_path / "in.mkv", "", clean=True),
        [tmp_path / "one.mkv", tmp_path / "other.mkv"],
    )
    none = RestoreOptions(grain="none", color="allow")
    for target, options in zip(targets, (none, RestoreOptions()), strict=True):
        restore_video(clip, target, weights=Rouge(128), detector=detector, encoding=FFV1, options=options)
    assert_same(*targets)


def test_settings_and_options_are_checked(said: Any, tmp_path: Path) -> None:
    work = work_of("a.mkv", {"grain": 0.5, "color": "allow", "match-sharpness": True})
    assert work.options == replace(RestoreOptions(), grain=0.5, color="allow", match_sharpness=True)
    assert Finishing(grain="0.5") != Finishing(grain="match")
    with pytest.raises(OptionError, match="keep or allow"):
        RestoreOptions(color="sepia")
    clip = clip_of(tmp_path / "in.mkv", "grey", frames=1)
    for option, value in (("--grain", "2"), ("--grain", "some"), ("--color", "sepia")):
        told = said("restore", clip, option, value)
        assert told.code == 2
        assert value in told.err


def test_the_command_line_says_what_is_wanted(said: Any, network: Path, tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mkv", "grey", frames=2)
    report = tmp_path / "report.json"
    options = (
        "--grain",
        "0.25",
        "--color",
        "allow",
        "--match-sharpness",
        "--report",
        report,
        "--device",
        "cpu",
    )
    told = said("restore", clip, "-o", tmp_path / "out.mkv", "--weights", network, *options)
    assert told.code == 0, told.err
    assert '"grain": "0.25"' in report.read_text()
    assert '"match_sharpness": true' in report.read_text()
