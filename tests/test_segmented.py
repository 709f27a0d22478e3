"""A film restored in segments is the film restored in one run, wherever it is divided and whoever does it."""

from __future__ import annotations

import json
import math
import multiprocessing
import pickle
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from av import VideoFrame
from clips import scene_frame, with_noise, write_clip
from films import CUTS, FRAMES, RATE_HZ, SIZE, assert_same, film_frame, write_film
from hypothesis import given, settings
from hypothesis import strategies as st
from portraits import Same, decoded_planes, portrait

from gpenvideo import (
    FileError,
    FileMissing,
    MediaError,
    NetworkOptions,
    OptionError,
    analyse_video,
    read_tracks,
    restore_video,
    write_tracks,
)
from gpenvideo.faces.tracker import KEEP
from gpenvideo.gpen import GPEN, GPENConfig, checkpoint
from gpenvideo.networks import load_detector
from gpenvideo.persons import GUARD_EVERY_S
from gpenvideo.picture import Picture, write_picture
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.segmented import restoring
from gpenvideo.segmented.parts import ANCHOR_EVERY_S, PartDone, parts
from gpenvideo.segmented.restoring import MEANS_S, PERIOD_AND_MEANS_S, Warm, analyse, join, restore_part
from gpenvideo.segmented.resumable import restore_resumable
from gpenvideo.segmented.work import Work
from gpenvideo.steady import PERIOD_S, WARM_UP_S
from gpenvideo.tracks.document import Source, Tracks
from gpenvideo.tracks.pictures import Seen
from gpenvideo.transcode import Decoding, Encoding, Progress
from gpenvideo.video.reader import VideoReader

FFV1 = Encoding(codec="ffv1")
CPU = NetworkOptions(device="cpu")


class OfItsBatch(Same):
    """A restorer whose faces show in how large a batch, and at which place in it, they were."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        axis = torch.linspace(-1, 1, self.size_px)
        waves = [torch.sin((4 + len(pixels)) * axis + place) for place in range(len(pixels))]
        return (pixels + 0.3 * torch.stack(waves)[:, None, None]).clamp(-1, 1)


class Coloured(Same):
    """A restorer that paints spots."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        waves = torch.sin(torch.linspace(0, 40, self.size_px))
        spots = waves * waves[:, None] * torch.tensor([0.3, -0.1, -0.3])[:, None, None]
        return (pixels + spots).clamp(-1, 1)


class Faces:
    """An embedder that knows people, and doubts what was made of them, by its last bits more or less."""

    size_px, same, is_identity = 16, 0.4, True
    template = Same(16).template

    def __call__(self, pixels: Any) -> Any:
        likeness = 0.12 + 0.26 * (1e4 * np.abs(pixels[0] - pixels[-1]).mean(dtype=np.float64) % 1)
        return np.array([(1, 0), (likeness, math.sqrt(1 - likeness**2))])[: len(pixels)]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mkv")


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector(device="cpu", threshold=KEEP)


@pytest.fixture(scope="module")
def restorer() -> Any:
    return OfItsBatch(96)


@pytest.fixture(scope="module")
def whole(film: Path, detector: Any, restorer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The film restored in one run, and its report."""
    target = tmp_path_factory.mktemp("whole") / "film.mkv"
    report = restore_video(film, target, weights=restorer, detector=detector, encoding=FFV1)
    return target, report


def in_segments(work: Work, segment_s: float, folder: Path, warm: Warm) -> tuple[Path, dict[str, Any], int]:
    """The film restored part by part and joined; its report; how many parts there were."""
    tracks = analyse(work, folder / "tracks.json", warm)
    done = [
        restore_part(work, part, folder / "tracks.json", folder / f"{part.index}.nut", warm)
        for part in parts(tracks, segment_s)
    ]
    return folder / "joined.mkv", join(work, done, folder / "joined.mkv"), len(done)


@pytest.mark.parametrize(("segment_s", "count"), [(5, 5), (12, 3), (25, 2)])
def test_segments_make_what_one_run_makes(
    segment_s: float, count: int, film: Path, whole: Any, detector: Any, restorer: Any, tmp_path: Path
) -> None:
    work = Work(str(film), encoding=FFV1)
    joined, told, made = in_segments(work, segment_s, tmp_path, Warm(restorer, detector))
    assert made == count
    target, report = whole
    assert report.faces_per_frame == {1: FRAMES - 20, 0: 20}
    assert_same(target, joined)
    expected = json.loads(report.as_json())
    for name in (
        "faces_per_frame",
        "tracks",
        "shots_s",
        "encoder",
        "stream",
        "options",
        "network",
        "warnings",
    ):
        assert told[name] == expected[name], name
    assert told["frames"]["written"] == FRAMES
    assert told["identity"] == expected["identity"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_with_a_real_network(
    dtype: str, film: Path, network: Path, detector: Any, tmp_path: Path, one_thread: None
) -> None:
    how = replace(CPU, dtype=dtype)
    one = tmp_path / "one.mkv"
    restore_video(film, one, weights=network, detector=detector, networks=how, encoding=FFV1)
    work = Work(str(film), weights=str(network), networks=how, encoding=FFV1)
    joined, _, _ = in_segments(work, 10, tmp_path, Warm(finder=detector))
    assert_same(one, joined)


@pytest.mark.soak
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_with_the_default_weights(dtype: str, film: Path, tmp_path: Path, one_thread: None) -> None:
    how = replace(CPU, dtype=dtype)
    restore_video(film, tmp_path / "one.mkv", networks=how, encoding=FFV1)
    for segment_s in (5, 12, 25):
        work = Work(str(film), networks=how, encoding=FFV1)
        joined, _, _ = in_segments(work, segment_s, tmp_path, Warm())
        assert_same(tmp_path / "one.mkv", joined)


@pytest.mark.parametrize("temporal", [True, False])
def test_of_a_part_of_the_film(
    temporal: bool, film: Path, detector: Any, restorer: Any, tmp_path: Path
) -> None:
    options, decoding = (
        RestoreOptions(temporal=temporal, strength=0.7),
        Decoding(start=Fraction(33, 10), end=38.5),
    )
    one = tmp_path / "one.mkv"
    restore_video(
        film, one, weights=restorer, detector=detector, options=options, decoding=decoding, encoding=FFV1
    )
    work = Work(str(film), options=options, decoding=decoding, encoding=FFV1)
    joined, _, count = in_segments(work, 6, tmp_path, Warm(restorer, detector))
    assert count == 4
    assert_same(one, joined)


@pytest.mark.parametrize("how", ["reference", "person", "tracks", "tracks and reference"])
def test_of_whom_or_what_is_wanted(
    how: str, film: Path, detector: Any, restorer: Any, tmp_path: Path
) -> None:
    """Who is who is found while a run goes on; parts know it from the analysis, and from then on."""
    write_picture(Picture(portrait(512)), tmp_path / "her.png")
    options = RestoreOptions(select="person:1") if how == "person" else RestoreOptions()
    if "reference" in how:
        options = RestoreOptions(reference=(str(tmp_path / "her.png"),))
    tracks: Path | None = None
    if "tracks" in how:
        tracks = tmp_path / "edited.json"
        found = analyse_video(film, detector=detector).edited(1, strength=0.5)
        write_tracks(found.edited(2, skip=how == "tracks"), tracks)
    one = tmp_path / "one.mkv"
    detects = None if tracks else detector
    report = restore_video(
        film, one, weights=restorer, detector=detects, options=options, tracks=tracks, encoding=FFV1
    )
    assert 0 < report.faces < FRAMES - 20 or how == "tracks and reference"
    work = Work(str(film), options=options, encoding=FFV1, tracks=tracks and str(tracks))
    joined, told, _ = in_segments(work, 10, tmp_path, Warm(restorer, detector))
    assert told["faces_per_frame"] == {str(n): frames for n, frames in report.faces_per_frame.items()}
    assert_same(one, joined)


ODD: dict[str, dict[str, Any]] = {  # files that give other pictures to who begins in their middle
    "key frames are not where they are looked for": {"suffix": ".mpg", "codec": "mpeg1video", "gop": 12},
    "there are no key frames": {
        "suffix": ".mkv",
        "codec": "libx264",
        "gop": 250,
        "options": {"x264-params": "scenecut=0:intra-refresh=1:ref=4"},
    },
}


def odd_clip(name: str, folder: Path, damaged: bool) -> Path:
    how = dict(ODD[name])
    path = folder / f"odd{how.pop('suffix')}"
    write_clip(path, size=(64, 48), frames=600, b_frames=2, picture=smooth, **how)
    return with_noise(path, path.with_stem("damaged"), [(0.35, 30), (0.6, 30)]) if damaged else path


def smooth(number: int) -> Any:
    return scene_frame("yuv420p", (64, 48), number)


@pytest.mark.parametrize(
    ("name", "damaged", "ahead_s"),
    [(name, damaged, (0, None) if damaged else (0, 10, None)) for name in ODD for damaged in (False, True)],
)
def test_files_that_have_to_be_decoded_from_further_off(
    name: str, damaged: bool, ahead_s: Any, detector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "AHEAD_S", ahead_s)
    source = odd_clip(name, tmp_path, damaged)
    options = RestoreOptions(strength=0)
    one = tmp_path / "one.mkv"
    restore_video(source, one, weights=Same(64), detector=detector, options=options, encoding=FFV1)
    joined, _, count = in_segments(
        Work(str(source), options=options, encoding=FFV1), 5, tmp_path, Warm(Same(64), detector)
    )
    assert count >= 3
    assert_same(one, joined)
    starts = [part.start_pts for part in parts(read_tracks(tmp_path / "tracks.json"), 5)]
    assert any(seen(source, pts, 0) != seen(source, pts, None) for pts in starts), "or nothing was tried"


def seen(source: Path, start_pts: int, ahead_s: int | None) -> list[Any]:
    with VideoReader(source) as reader:
        return [(frame.pts, frame.planes[0].tobytes()) for frame in reader.between(start_pts, None, ahead_s)]


def test_a_file_that_was_changed_since_its_analysis(film: Path, detector: Any, tmp_path: Path) -> None:
    work, place = Work(str(film), encoding=FFV1), tmp_path / "tracks.json"
    warm = Warm(Same(64), detector)
    tracks = analyse(work, place, warm)
    part = parts(tracks, 10)[1]
    assert sum(seen.frames for seen in tracks.pictures) == FRAMES
    write_tracks(replace(tracks, pictures=tracks.pictures[:12] + tracks.pictures[13:]), place)
    with pytest.raises(
        MediaError, match=r"other pictures than when it was analysed: has it been changed\? \(at 12"
    ):
        restore_part(work, part, place, tmp_path / "a.nut", warm)
    assert not (tmp_path / "a.nut").exists()
    changed = [seen._replace(crc32=1) if seen.pts == 12000 else seen for seen in tracks.pictures]
    write_tracks(replace(tracks, pictures=tuple(changed)), place)
    done = restore_part(work, part, place, tmp_path / "a.nut", warm)
    assert (
        "Damaged pictures are decoded otherwise each time, in 1 seconds of it."
        in done.told["report"]["warnings"]
    )
    write_tracks(replace(tracks, pictures=()), place)  # as from `gpenvideo tracks`
    assert restore_part(work, part, place, tmp_path / "b.nut", warm).frames == done.frames


@pytest.mark.parametrize("wrong", ["[1]", "[[1, 2]]", '[[1, 2, "3"]]', "{}", "[[1, 2, 3.5]]", "null"])
def test_pictures_that_are_none(wrong: str, film: Path, tmp_path: Path) -> None:
    tracks = Tracks(SOURCE, 0, 10, 1, (0,), (), (Seen(0, 1, 2),))
    write_tracks(tracks, tmp_path / "tracks.json")
    assert read_tracks(tmp_path / "tracks.json").pictures == tracks.pictures
    text = (tmp_path / "tracks.json").read_text()
    (tmp_path / "tracks.json").write_text(text.replace("[[0, 1, 2]]", wrong))
    with pytest.raises(OptionError, match="pictures is to be"):
        read_tracks(tmp_path / "tracks.json")


def test_the_guard_is_the_same(film: Path, detector: Any, restorer: Any, tmp_path: Path) -> None:
    """It compares what was made of means that are older than a part, and glides from one slot to the next."""
    made = {}
    for segment_s in (5, 1000):
        folder = tmp_path / str(segment_s)
        folder.mkdir()
        warm = Warm(restorer, detector, Faces())
        joined, told, count = in_segments(Work(str(film), encoding=FFV1), segment_s, folder, warm)
        made[count] = joined, told["identity"]["guard"]
    assert made.keys() == {1, 5}
    assert made[1][1].keys() == {"1", "2"}
    assert made[5][1] == made[1][1]
    assert all(0 < least < 1 for least in made[1][1].values())
    assert_same(made[1][0], made[5][0])


def muted(number: int) -> Any:
    """The film with so little colour left that it may as well be a tint."""
    planes = film_frame(number).to_ndarray().astype(float)
    planes[SIZE[1] :] = np.rint(128 + 0.16 * (planes[SIZE[1] :] - 128))
    return VideoFrame.from_ndarray(planes.astype(np.uint8), format="yuv420p")


def test_of_muted_colour(detector: Any, tmp_path: Path) -> None:
    """A part of the restored chroma is kept, which follows the film slowly, from wherever a run begins."""
    source, one, allowed = (tmp_path / f"{name}.mkv" for name in ("in", "one", "allowed"))
    write_clip(source, codec="ffv1", gop=12, size=SIZE, frames=CUTS[0], rate=RATE_HZ, picture=muted)
    common: dict[str, Any] = {"weights": Coloured(96), "detector": detector, "encoding": FFV1}
    restore_video(source, one, **common)
    restore_video(source, allowed, options=RestoreOptions(color="allow"), **common)
    warm = Warm(Coloured(96), detector)
    joined, _, count = in_segments(Work(str(source), encoding=FFV1), 5, tmp_path, warm)
    assert count == 3
    assert_same(one, joined)
    was, kept, all_of_it = (decoded_planes(path) for path in (source, one, allowed))
    shares = [
        np.abs(kept[pts][1].astype(int) - planes[1]).sum()
        / np.abs(all_of_it[pts][1].astype(int) - planes[1]).sum()
        for pts, planes in was.items()
    ]
    assert 0.2 < np.quantile(shares, 0.1) < np.quantile(shares, 0.9) < 0.95


def nearer(number: int) -> Any:
    """The portrait, coming nearer for 40 s."""
    side = 304 + 2 * number
    x, y = round(0.44 * side) - 80, max(0, round(0.22 * side) - 60)
    noise = np.random.default_rng(number).normal(0, 4, (120, 160, 3))
    rgb = np.clip(portrait(side)[y : y + 120, x : x + 160] + noise, 0, 255).astype(np.uint8)
    return VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p", threads=1)


def test_of_several_networks(detector: Any, tmp_path: Path, one_thread: None) -> None:
    """A face goes through the one of its size, which is chosen anew as a period begins."""
    network, larger = tmp_path / "128.pth", tmp_path / "256.pth"
    for file, widths in ((network, (8,) * 6), (larger, (8,) * 7)):
        size_px = int(file.stem)
        checkpoint.save(GPEN(GPENConfig(size_px, size_px, widths, style_dim=16, mapping_layers=2)), file)
    source = write_clip(tmp_path / "in.mkv", size=(160, 120), frames=120, rate=3, picture=nearer)
    options = RestoreOptions(further_weights=(str(larger),))
    one = tmp_path / "one.mkv"
    common: dict[str, Any] = {"options": options, "networks": CPU, "encoding": FFV1}
    restore_video(source, one, weights=network, detector=detector, **common)
    work = Work(str(source), weights=str(network), **common)
    warm = Warm(finder=detector)
    joined, told, _ = in_segments(work, 10, tmp_path, warm)
    assert told["faces_per_frame"] == {"1": 120}
    assert "128 px to 128 px" in told["network"]
    assert "256 px to 256 px" in told["network"]
    assert_same(one, joined)


def test_warm_up_is_that_of_what_it_is_for() -> None:
    assert (ANCHOR_EVERY_S, MEANS_S) == (PERIOD_S, WARM_UP_S)
    assert PERIOD_AND_MEANS_S == PERIOD_S + WARM_UP_S >= 2 * GUARD_EVERY_S
    assert PERIOD_S % GUARD_EVERY_S == 0


def test_an_analysis_is_that_of_the_film(film: Path, detector: Any, tmp_path: Path) -> None:
    seen: list[Progress] = []
    found = analyse(Work(str(film)), tmp_path / "tracks.json", Warm(finder=detector), seen.append)
    expected = analyse_video(film, detector=detector)
    assert repr(found) == repr(expected) == repr(read_tracks(tmp_path / "tracks.json"))
    for one, other in zip(found.tracks, expected.tracks, strict=True):
        assert np.array_equal(one.faces, other.faces)
    assert [done.frames for done in seen] == list(range(FRAMES + 1))
    assert list(found.shots) == [n * 1000 // RATE_HZ for n in (0, *CUTS)]


def test_what_is_wrong_with_the_encoding_shows_before_the_analysis(film: Path, tmp_path: Path) -> None:
    work = Work(str(film), encoding=Encoding(codec="prores"), container=".mp4")
    with pytest.raises(OptionError, match="mp4 holds no video of prores_ks"):
        analyse(work, tmp_path / "tracks.json", progress=lambda _: pytest.fail("it was analysed"))
    with pytest.raises(OptionError, match=r"called \.json"):
        analyse(Work(str(film)), tmp_path / "tracks.txt", progress=lambda _: pytest.fail("it was analysed"))
    assert not list(tmp_path.iterdir())


def _elsewhere(task: bytes) -> PartDone:
    torch.set_num_threads(1)
    done: PartDone = restore_part(*pickle.loads(task))
    return done


def test_another_process_makes_the_same_segment(
    film: Path, network: Path, detector: Any, tmp_path: Path, one_thread: None
) -> None:
    work = Work(str(film), weights=str(network), networks=CPU, encoding=FFV1)
    tracks = analyse(work, tmp_path / "tracks.json", Warm(finder=detector))
    part = parts(tracks, 10)[1]
    here = restore_part(work, part, tmp_path / "tracks.json", tmp_path / "here.nut")
    task = pickle.dumps((work, part, tmp_path / "tracks.json", tmp_path / "there.nut"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_elsewhere, (task,))
    assert (there.sha256, there.frames, there.faces) == (here.sha256, here.frames, here.faces)
    assert there.told["segment"] == here.told["segment"]
    assert json.loads(json.dumps(there.told)) == there.told


SOURCE = Source("film.mkv", 1, 0, (160, 120), Fraction(1, 1000), None)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_parts_are_the_whole_and_begin_at_anchors(data: st.DataObject) -> None:
    base = data.draw(
        st.sampled_from([Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 5)])
    )
    first = data.draw(st.integers(-(10**5), 10**5))
    last = first + data.draw(st.integers(0, int(200 / base)))
    shots = sorted(data.draw(st.sets(st.integers(first, last), max_size=20)))
    segment_s = data.draw(st.floats(0.1, 300))
    tracks = Tracks(replace(SOURCE, time_base=base), first, last, 1, tuple(shots), ())
    found = parts(tracks, segment_s)
    assert found == parts(tracks, segment_s)
    assert [part.index for part in found] == list(range(len(found)))
    assert (found[0].start_pts, found[-1].end_pts) == (first, None)
    ends_s = (math.floor(pts * base / PERIOD_S) for pts in (first, last))
    anchors = {math.ceil(k * PERIOD_S / base) for k in range(next(ends_s), next(ends_s) + 1)} | set(shots)
    for part, following in pairwise(found):
        assert part.end_pts == following.start_pts
        assert following.start_pts in anchors
        length_s = (following.start_pts - part.start_pts) * base
        assert length_s >= segment_s
        earlier = [
            pts for pts in anchors if pts > part.start_pts and (pts - part.start_pts) * base >= segment_s
        ]
        assert min(earlier) == following.start_pts
    assert all(part.start_pts <= last for part in found)


@pytest.mark.parametrize("segment_s", [0, -1, math.nan, math.inf])
def test_lengths_that_are_none(segment_s: float) -> None:
    with pytest.raises(OptionError, match="takes some seconds"):
        parts(Tracks(SOURCE, 0, 10, 1, (0,), ()), segment_s)


def test_work_is_told_by_what_its_result_depends_on(network: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved.pth", tmp_path / "other.pth"
    moved.write_bytes(network.read_bytes())
    other.write_bytes(network.read_bytes() + b"\0")
    work = Work("film.mkv", weights=str(network))
    assert pickle.loads(pickle.dumps(work)) == work
    same = [
        replace(work, source="moved.mkv"),
        replace(work, weights=str(moved)),
        replace(work, networks=NetworkOptions(device="cuda", compile=True)),
    ]
    write_picture(Picture(portrait(64)), tmp_path / "her.png")
    others = [
        Work("film.mkv"),
        replace(work, weights=str(other)),
        replace(work, networks=NetworkOptions(dtype="fp32")),
        replace(work, options=RestoreOptions(strength=0.5)),
        replace(work, options=RestoreOptions(temporal=False)),
        replace(work, options=RestoreOptions(further_weights=(str(other),))),
        replace(work, options=RestoreOptions(reference=(str(tmp_path / "her.png"),))),
        replace(work, decoding=Decoding(start=1)),
        replace(work, decoding=Decoding(start=1.0)),
        replace(work, encoding=FFV1),
        replace(work, container=".mp4"),
    ]
    assert {item.fingerprint() for item in same} == {work.fingerprint()}
    assert len({item.fingerprint() for item in [work, *others]}) == 1 + len(others)
    with pytest.raises(FileMissing):
        replace(work, weights=str(tmp_path / "none.pth")).fingerprint()


def test_a_resumable_run_is_that_run_and_leaves_nothing(
    film: Path, network: Path, tmp_path: Path, said: Any, one_thread: None
) -> None:
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    common = ("restore", film, "--weights", network, "--device", "cpu", "--codec", "ffv1")
    assert said(*common, "-o", one).code == 0
    told = said(*common, "-o", other, "--resumable", "--report", tmp_path / "report.json")
    assert told.code == 0, told.err
    assert f"{FRAMES} frames, {FRAMES - 20} faces of 2 tracks" in told.out
    assert_same(one, other)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["target"] == str(other)
    assert {file.name for file in tmp_path.iterdir()} == {"one.mkv", "other.mkv", "report.json"}


def test_what_a_resumable_run_does_not_take(film: Path, tmp_path: Path, said: Any) -> None:
    common = ("restore", film, "-o", tmp_path / "out.mkv", "--resumable")
    for option in (("--compare", "side"), ("--metrics",), ("--tracks-out", tmp_path / "t.json")):
        told = said(*common, *option)
        assert (told.code, told.err.count("\n")) == (2, 1)
        assert f"--resumable does not go with {option[0]}" in told.err
    told = said("restore", film, "-o", tmp_path / "out_%04d.png", "--resumable")
    assert told.code == 2
    assert "pictures are not resumable" in told.err
    told = said("restore", film, "-o", film, "--resumable")
    assert "the output is the input" in told.err
    assert not list(tmp_path.iterdir())


class Stopped(Exception):  # noqa: N818 - reads as what it says
    """A run was ended by its caller."""


def stopping_at(frames: int, seen: list[Progress] | None = None) -> Any:
    def tell(done: Progress) -> None:
        if seen is not None:
            seen.append(done)
        if done.frames == frames and "Restorer" in done.network:
            raise Stopped

    return tell


def test_a_run_is_taken_up_or_begun_anew(film: Path, network: Path, tmp_path: Path, one_thread: None) -> None:
    common: dict[str, Any] = {"weights": network, "networks": CPU, "encoding": FFV1, "segment_s": 10}
    target, journal = tmp_path / "out.mkv", tmp_path / "journal"
    with pytest.raises(Stopped):
        restore_resumable(film, target, journal_dir=journal, progress=stopping_at(120), **common)
    kept = {file.name: file.stat().st_mtime_ns for file in journal.glob("*.nut")}
    assert sorted(kept) == ["00000.nut", "00001.nut"]
    lines = (journal / "journal.jsonl").read_bytes()
    (journal / "journal.jsonl").write_bytes(lines + b'{"done": {"ind')  # as a power cut leaves it
    seen: list[Progress] = []
    with pytest.raises(Stopped):
        restore_resumable(film, target, journal_dir=journal, progress=stopping_at(200, seen), **common)
    assert seen[0].frames == 100
    assert {done.total for done in seen} == {FRAMES}
    now = {file.name: file.stat().st_mtime_ns for file in journal.glob("*.nut")}
    assert now.items() > kept.items()
    seen = []
    with pytest.raises(Stopped):  # other options: nothing of it is taken
        restore_resumable(
            film,
            target,
            journal_dir=journal,
            progress=stopping_at(60, seen),
            options=RestoreOptions(strength=0.5),
            **common,
        )
    assert min(done.frames for done in seen if "Restorer" in done.network) == 0
    assert sorted(file.name for file in journal.glob("*.nut")) == ["00000.nut"]


def test_damaged_segments_are_made_anew(film: Path, network: Path, tmp_path: Path, one_thread: None) -> None:
    common: dict[str, Any] = {"weights": network, "networks": CPU, "encoding": FFV1, "segment_s": 10}
    restore_resumable(film, tmp_path / "one.mkv", **common)
    target = tmp_path / "out.mkv"
    with pytest.raises(Stopped):
        restore_resumable(film, target, progress=stopping_at(120), **common)
    folder = tmp_path / ".out.mkv.segments"
    data = bytearray((folder / "00000.nut").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "00000.nut").write_bytes(data)
    restore_resumable(film, target, **common)
    assert_same(tmp_path / "one.mkv", target)
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="limits files as POSIX does")
@pytest.mark.parametrize(("most_bytes", "kept"), [(400_000, 0), (900_000, 5)])
def test_where_there_is_no_room(
    most_bytes: int, kept: int, film: Path, network: Path, tmp_path: Path, one_thread: None
) -> None:
    """For a segment, or for the result: one clear line, and what is done stays done."""
    import resource

    common: dict[str, Any] = {"weights": network, "networks": CPU, "encoding": FFV1, "segment_s": 10}
    target = tmp_path / "out.mkv"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        with pytest.raises(FileError) as caught:
            restore_resumable(film, target, **common)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert not list(tmp_path.rglob(".*part*"))
    assert len(list((tmp_path / ".out.mkv.segments").glob("*.nut"))) == kept
    seen: list[Progress] = []
    restore_resumable(film, target, progress=seen.append, **common)
    assert bool(seen) == (kept < 5)
    assert decoded_planes(target).keys() == decoded_planes(film).keys()


def test_a_journal_does_not_empty_the_folder_of_somebody(film: Path, network: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear diary")
    with pytest.raises(FileError, match=r"it is to hold a journal, and there is 'notes\.txt' in it"):
        restore_resumable(film, tmp_path / "out.mkv", weights=network, journal_dir=tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "dear diary"
    with pytest.raises(FileError, match="cannot write it"):
        restore_resumable(film, tmp_path / "nowhere" / "out.mkv", weights=network)


def test_two_runs_for_one_target(film: Path, network: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"

    def again(_: Progress) -> None:
        with pytest.raises(FileError, match=r"another run \(process \d+\) works on .*out\.mkv"):
            restore_resumable(film, target, weights=network, networks=CPU)
        raise Stopped

    with pytest.raises(Stopped):
        restore_resumable(film, target, weights=network, networks=CPU, progress=again)
