"""Tint: colour portraits keep their restored chroma, tinted ones the source's, and the share is steady."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portraits import portrait, scenery
from tones import TONES, pale, toned

from gpenvideo.affine import invert
from gpenvideo.degradation import degrade, draw
from gpenvideo.evaluate.scenes import Scene, decayed
from gpenvideo.evaluate.staging import RATE_HZ, SIZE, Subject, Take, alone, astronaut, film
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.faces.mask import rounded
from gpenvideo.faces.portraits import read_picture, read_portraits
from gpenvideo.frame import CENTRED, Colour, Frame, Layout, Rectangle
from gpenvideo.kernels.picture import as_frame
from gpenvideo.matching.place import Place, Window, surroundings
from gpenvideo.matching.tint import Tint, colourfulness, power
from gpenvideo.means import PERIOD_S, WARM_UP_S
from gpenvideo.video.clip import write_clip
from gpenvideo.video.reader import VideoReader

SEED = 5000  # of degradations that nothing was tuned on
SOURCES = ("london_*", "canada", "congress_cse151a", "faker_cc0")
ON_WALLS = "042", "096", "082", "008", "103", "018"  # people before a light wall, of chroma that is muted


def whole(frame: Frame) -> Window:
    return slice(0, frame.height), slice(0, frame.width)


def of_picture(rgb: Any) -> float:
    frame = as_frame(np.ascontiguousarray(rgb))
    return colourfulness(power(frame, whole(frame)))


def place_of(landmarks: Any) -> Place:
    """Where a restored face is written."""
    side, matrix = 128, crop_from_frame(np.asarray(landmarks), template("ffhq", 128))
    mask = rounded(side, template("ffhq", side))
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    corners = np.array(list(itertools.product(columns[[0, -1]], rows[[0, -1]])))
    frame_from_crop = invert(matrix)
    x, y = frame_from_crop[:, :2] @ corners.T + frame_from_crop[:, 2:]
    box = [max(0, math.floor(x.min())), max(0, math.floor(y.min()))]
    box += [min(SIZE[0], math.ceil(x.max())), min(SIZE[1], math.ceil(y.max()))]
    return Place.of(1, Rectangle(*box), mask, matrix, 1.0, 8)


def take_of(subject: Subject, seconds: float, seed: int, width_px: float | None = None) -> Take:
    rng = np.random.default_rng([SEED, seed])
    x, y, width_px = rng.uniform(0.35, 0.65), rng.uniform(0.45, 0.55), width_px or rng.uniform(70, 150)
    return film([alone(subject, [(0, x, y, width_px, 0), (2, x + 0.02, y, 1.1 * width_px, 1)], rng)], seconds)


def shares(frames: Iterable[Frame], take: Take) -> list[float]:
    tint = Tint()
    found = [
        tint(frame, [place_of(faces[1])], Fraction(i, RATE_HZ))[0]
        for i, (frame, faces) in enumerate(zip(frames, take.faces, strict=True))
    ]
    return found


def encoded(pictures: Iterable[Any], path: Path) -> list[Frame]:
    write_clip(path, pictures, RATE_HZ, crf=23, options={"preset": "veryfast", "threads": "1"})
    with VideoReader(path) as reader:
        return [replace(item, pts=i) for i, item in enumerate(reader) if isinstance(item, Frame)]


@pytest.fixture(scope="module")
def people(shared: Path) -> list[Subject]:
    """People of all kinds, with those whose pictures have the least colour; and Eileen Collins."""
    folder = shared / "data" / "faces"
    found = read_portraits(folder, only_sources=SOURCES)
    chosen = [one for one in found if one.source == "london_neutral" and one.identity[-3:] in ON_WALLS]
    for source in sorted({one.source for one in found}):
        of_source = [one for one in found if one.source == source]
        chosen += [of_source[i] for i in np.random.default_rng(SEED).permutation(len(of_source))[:4]]
    subjects = [astronaut()]
    for one in chosen:
        picture, scale = read_picture(folder / one.file), 1.0
        if max(picture.shape) > 500:
            scale = 500 / max(picture.shape)
            picture = np.asarray(
                cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        subjects.append(Subject(picture, (np.array(one.landmarks) + 0.5) * scale - 0.5))
    return subjects


@pytest.mark.parametrize("preset", [None, "mild", "film"])
def test_portraits_in_colour_are_in_colour(preset: Any, people: list[Subject], tmp_path: Path) -> None:
    found = []
    for seed, subject in enumerate(people):
        take = take_of(subject, 0.08, seed)
        scene = Scene("", RATE_HZ, take.frames, take.faces, take.hidden)
        bad = decayed(scene, preset, SEED + seed) if preset else take.frames
        found += shares(encoded(bad, tmp_path / "in.mkv"), take)
    assert min(found) > 0.9


@pytest.mark.parametrize("preset", [None, "mild"])
def test_tinted_portraits_are_not(preset: Any, people: list[Subject], tmp_path: Path) -> None:
    found = []
    for seed, subject in enumerate(people):
        tone = TONES[seed % len(TONES)]
        take = take_of(subject._replace(picture=toned(subject.picture, tone)), 0.08, seed)
        scene = Scene("", RATE_HZ, take.frames, take.faces, take.hidden)
        bad = decayed(scene, preset, SEED + seed) if preset else take.frames
        found += shares(encoded(bad, tmp_path / "in.mkv"), take)
    assert max(found) < 0.1


@pytest.mark.parametrize("streaks", [False, True])
def test_nor_are_old_films_with_noise_in_their_chroma(
    streaks: bool, people: list[Subject], tmp_path: Path
) -> None:
    """The film's wear is under the tint, and chroma has noise, or the streaks of a tape, on top."""
    found = []
    for seed, subject in enumerate(people):
        take, rng = take_of(subject, 0.08, seed), np.random.default_rng([SEED, seed])
        scene = Scene("", RATE_HZ, take.frames, take.faces, take.hidden)
        size, levels, bad = (6.0, 1.2) if streaks else (rng.uniform(0.5, 2),) * 2, rng.uniform(2, 6), []
        for picture in decayed(scene, "film", SEED + seed):
            ycc = cv2.cvtColor(toned(picture, TONES[seed % len(TONES)]), cv2.COLOR_RGB2YCrCb)
            white = rng.standard_normal((*SIZE[::-1], 2)).astype(np.float32)
            noise = cv2.GaussianBlur(white, (0, 0), sigmaX=size[0], sigmaY=size[1])
            noisy = ycc[..., 1:] + noise * (levels / noise.std())
            ycc[..., 1:] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            bad.append(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB))
        found += shares(encoded(bad, tmp_path / "in.mkv"), take)
    assert max(found) < 0.1


@pytest.mark.parametrize("tinted", [False, True])
def test_small_faces(tinted: bool, people: list[Subject], tmp_path: Path) -> None:
    """Their chroma is some 15 samples wide, each of which is blurred into the next."""
    found = []
    for seed, subject in enumerate(people):
        tone = TONES[seed % len(TONES)]
        shown = subject._replace(picture=toned(subject.picture, tone)) if tinted else subject
        take = take_of(shown, 0.04, seed, width_px=32)
        found += shares(encoded(take.frames, tmp_path / "in.mkv"), take)
    assert max(found) < 0.1 if tinted else min(found) > 0.9


@pytest.mark.parametrize(("colour", "preset"), [(1.0, "film"), (1.0, "mild"), (0.3, "film"), (0.0, "film")])
def test_in_a_noisy_clip_the_share_is_steady(
    colour: float, preset: Any, people: list[Subject], tmp_path: Path
) -> None:
    """Of somebody before a light wall, in all of the colour, in a part of it, and in none."""
    take = take_of(people[1], 1.2, 1)
    pictures = [pale(picture, colour) for picture in take.frames]
    scene = Scene("", RATE_HZ, pictures, take.faces, take.hidden)
    found = shares(encoded(decayed(scene, preset, SEED), tmp_path / "in.mkv"), take)
    assert np.abs(np.diff(found)).max() < 0.02
    if colour in (0, 1):
        assert abs(np.array(found) - colour).max() < 0.1


def test_pictures_by_presets_alone(people: list[Subject]) -> None:
    """Whole pictures, as stills are: RGB, degraded by more than a film of these days has."""
    for seed, subject in enumerate(people[::3]):
        rng = np.random.default_rng([SEED, seed])
        how = replace(draw(rng, "mild", colour=False), motion_length_px=None)
        matrix = crop_from_frame(subject.landmarks, template("ffhq", 512))
        crop = cv2.warpAffine(subject.picture, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
        for picture, least, most in ((crop, 0.9, 1.0), (toned(crop, "sepia"), 0.0, 0.1)):
            assert least <= of_picture(degrade(np.asarray(picture, np.uint8), how, rng)) <= most


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(-2, 5), min_size=2, max_size=200), st.integers(0, 2**31), st.sampled_from([12, 25, 60])
)
def test_it_moves_by_no_more_than_half_a_second(powers: list[float], seed: int, rate_hz: int) -> None:
    """Whatever the pictures; in the second before a period ends, what takes over comes on top."""
    np.random.default_rng(seed).shuffle(powers)
    tint = Tint()
    found = [
        tint.share(1, Fraction(i, rate_hz), power)
        for i, power in enumerate(powers[: (PERIOD_S - WARM_UP_S) * rate_hz])
    ]
    assert np.abs(np.diff(found)).max() <= 0.5 / rate_hz + 2e-6
    assert 0 <= min(found) <= max(found) <= 1


def test_it_does_not_matter_where_a_run_begins_and_periods_end_without_a_step() -> None:
    rng = np.random.default_rng(SEED)
    powers = 0.55 + 0.3 * rng.standard_normal(25 * 25)
    times = [Fraction(i, 25) for i in range(len(powers))]
    one = Tint()
    found = [one.share(1, at, power) for power, at in zip(powers, times, strict=True)]
    assert np.abs(np.diff(found)).max() < 0.04
    for period in (1, 2):
        late, begin = Tint(), 25 * (period * PERIOD_S - WARM_UP_S)
        again = [late.share(1, at, power) for power, at in zip(powers[begin:], times[begin:], strict=True)]
        assert again[25 * WARM_UP_S :] == found[begin + 25 * WARM_UP_S :]
        assert again[:10] != found[begin : begin + 10]


def test_a_cut_is_a_new_beginning() -> None:
    grey, colour = (as_frame(toned(portrait(256), "grey")), as_frame(portrait(256)))
    place = Place(1, (slice(20, 100), slice(70, 150)), np.ones((80, 80), np.float32))
    tint = Tint()
    assert [tint(grey, [place], Fraction(i, 25))[0] for i in range(3)] == [0, 0, 0]
    assert 0 < tint(colour, [place], Fraction(3, 25))[0] < 0.02
    tint.cut()
    assert tint(colour, [place], Fraction(4, 25)) == [1]


@pytest.mark.parametrize("colour", [1.0, 0.4])
def test_pale_colour_is_colour(colour: float) -> None:
    for rgb in (portrait(320)[:240], scenery(320, 240)):
        assert of_picture(pale(rgb, colour)) == 1


@pytest.mark.parametrize("tone", TONES)
def test_a_sign_in_the_corner_is_not_the_face(tone: str) -> None:
    rgb = toned(portrait(432)[9:249, 52:372], tone).copy()
    rgb[10:25, 280:310] = (220, 20, 30)
    frame = as_frame(rgb)
    around = surroundings((slice(20, 150), slice(78, 196)), frame)
    assert colourfulness(power(frame, around)) == 0


def test_it_rises_without_a_step() -> None:
    around = slice(0, 182), slice(46, 226)
    found = [
        colourfulness(power(as_frame(pale(portrait(432)[9:249, 52:372], share)), around))
        for share in np.linspace(0, 0.5, 81)
    ]
    assert found[0] == 0
    assert found[-1] == 1
    assert np.all(np.diff(found) >= 0)
    assert np.diff(found).max() < 0.35


def test_the_depth_and_the_layout_do_not_matter() -> None:
    frame = as_frame(portrait(320))
    deep = as_frame(portrait(320).astype(np.uint16) * 257)
    assert power(deep, whole(deep)) == pytest.approx(power(frame, whole(frame)), rel=0.02)
    grey = Frame((frame.planes[0],), Layout("grey", 8), Colour(1, True, CENTRED), 0, Fraction(1))
    assert power(grey, whole(grey)) == 0


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (2, 40), (40, 1), (5, 5)])
def test_faces_of_a_few_pixels(size: tuple[int, int]) -> None:
    frame = as_frame(portrait(64))
    found = power(frame, (slice(0, size[1]), slice(0, size[0])))
    assert math.isfinite(found)
