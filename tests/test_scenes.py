"""The bench of clips with known truth: that what it says is true of the pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.evaluate.acting import eyes_shut, mouth_open
from gpenvideo.evaluate.scenes import (
    Scene,
    Subject,
    astronaut,
    decayed,
    make_scene,
    read_subjects,
    write_scene,
)
from gpenvideo.video.clip import read_clip

PRESETS = ("film", "mild")


@cache
def subjects() -> tuple[Subject, ...]:
    """A person, and the same mirrored: another to whoever counts people."""
    one = astronaut()
    mirrored = one.landmarks * (-1, 1) + (one.picture.shape[1] - 1, 0)
    return one, Subject(np.ascontiguousarray(one.picture[:, ::-1]), mirrored[[1, 0, 2, 4, 3]])


@lru_cache(maxsize=3)  # a hundred megabytes each
def scene(kind: str, seed: int = 0) -> Scene:
    return make_scene(kind, subjects(), seed)


def middles(scene: Scene, person: int) -> NDArray[np.float64]:
    """(N, 2) px: where a face is in each frame; NaN where it is not."""
    nowhere = np.full((5, 2), np.nan)
    return np.array([faces.get(person, nowhere).mean(axis=0) for faces in scene.faces])


def face_width(scene: Scene, person: int = 1) -> float:
    return float(np.mean([2 * np.hypot(*(f[person][1] - f[person][0])) for f in scene.faces if person in f]))


@pytest.mark.parametrize("kind", ["fast", "crossing"])
def test_the_landmarks_are_where_the_face_is(kind: str) -> None:
    """The nose of one frame, found in others by what it looks like."""
    one = scene(kind)
    person, (first, *others) = {"fast": (1, (0, 24, 27, 30)), "crossing": (2, (4, 40, 50, 95))}[kind]
    x, y = np.rint(one.faces[first][person][2]).astype(int)
    nose = one.frames[first][y - 20 : y + 21, x - 20 : x + 21]
    offset = one.faces[first][person][2] - (x, y)
    for i in others:
        scores = cv2.matchTemplate(one.frames[i], nose, cv2.TM_CCOEFF_NORMED)
        found = np.array(cv2.minMaxLoc(scores)[3]) + 20 + offset
        assert np.abs(found - one.faces[i][person][2]).max() < 2, (i, found, one.faces[i][person][2])


def test_the_fast_face_is_fast_and_the_turning_one_turns() -> None:
    one = scene("fast")
    speed = np.linalg.norm(np.diff(middles(one, 1), axis=0), axis=1) * one.rate_hz / face_width(one)
    assert speed.max() > 4
    eyes = np.array([faces[1][1] - faces[1][0] for faces in scene("turn").faces])
    roll_deg = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    assert np.ptp(roll_deg) > 45


def test_a_scene_is_a_function_of_its_seed() -> None:
    one, again, other = scene("turn"), make_scene("turn", subjects()), make_scene("turn", subjects(), 1)
    assert all(np.array_equal(a, b) for a, b in zip(one.frames, again.frames, strict=True))
    assert not np.array_equal(again.frames[0], other.frames[0])


def test_two_people_cross_and_one_is_hidden_on_the_way() -> None:
    one = scene("crossing")
    apart = middles(one, 1)[:, 0] - middles(one, 2)[:, 0]
    (crossing,) = one.intervals
    assert apart[0] < -200
    assert apart[-1] > 200
    hidden = [i for i, who in enumerate(one.hidden) if who]
    assert len(hidden) >= 3
    assert set(hidden) <= set(range(crossing.start, crossing.stop))
    assert set.union(*map(set, one.hidden)) == {1}


def test_a_board_hides_a_face_for_a_while() -> None:
    one = scene("occlusion")
    (behind,) = one.intervals
    assert behind.stop - behind.start >= 4
    x, y = middles(one, 1)[behind.start].astype(int)
    before, during = (one.frames[i][y - 10 : y + 10, x - 10 : x + 10].astype(int) for i in (0, behind.start))
    assert np.abs(before - during).mean() > 20


def test_a_person_leaves_and_comes_back() -> None:
    one = scene("leaving")
    (away,) = one.intervals
    there = ~np.isnan(middles(one, 2)[:, 0])
    assert there.tolist() == [not away.start <= i < away.stop for i in range(len(one.frames))]
    assert (away.stop - away.start) / one.rate_hz > 2
    assert all(1 in faces for faces in one.faces)


def test_the_cuts_are_where_the_picture_changes() -> None:
    one = scene("cuts")
    levels = np.array([frame.mean(axis=2)[::8, ::8] for frame in one.frames])
    change = np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2))
    assert len(one.cuts) >= 6
    assert {"dissolve", "flash", "whip"} >= {i.kind for i in one.intervals}
    flashes = [i for i in one.intervals if i.kind == "flash"]
    dissolves = [i for i in one.intervals if i.kind == "dissolve"]
    assert flashes
    assert dissolves
    assert change[np.array(one.cuts) - 1].min() > 3 * np.median(change)
    for cut in one.cuts:
        assert set(one.faces[cut]) != set(one.faces[cut - 1])
    for flash in flashes:
        assert levels[flash.start].mean() > levels[flash.stop].mean() + 30
    for dissolve in dissolves:
        assert not set(range(dissolve.start, dissolve.stop + 1)) & set(one.cuts)


def test_eyes_shut_and_a_mouth_opens_and_nothing_else_changes() -> None:
    picture, landmarks = astronaut()
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    rows = np.arange(512)[:, None] * np.ones(512)
    for act, nearer in ((eyes_shut, rows < (eyes[1] + mouth[1]) / 2), (mouth_open, rows > eyes[1] + 12)):
        assert np.array_equal(act(picture, landmarks, 0.0), picture)
        change = np.abs(act(picture, landmarks, 1.0).astype(int) - picture).sum(axis=2)
        assert (change[~nearer] == 0).all()
        assert 200 < (change > 30).sum() < 4000
    shut = eyes_shut(picture, landmarks, 1.0)
    for x, y in np.rint(landmarks[:2]).astype(int):
        patch = slice(y - 3, y + 4), slice(x - 3, x + 4)
        assert shut[patch].mean() > picture[patch].mean() + 30  # skin is lighter than a pupil
    x, y = np.rint(mouth).astype(int)
    column = slice(y - 4, y + 12), slice(x - 5, x + 6)
    assert mouth_open(picture, landmarks, 1.0)[column].min() < picture[column].min() - 20


def test_blinks_are_in_their_intervals() -> None:
    one = scene("blink")
    dark = []
    for frame, faces in zip(one.frames, one.faces, strict=True):
        x, y = np.rint(faces[1][0]).astype(int)
        dark.append(frame[y - 5 : y + 6, x - 5 : x + 6].min())
    shut = {i.start + 1 for i in one.intervals}
    still = set(range(len(one.frames))) - {i for b in one.intervals for i in range(b.start, b.stop)}
    assert len(shut) == 5
    assert min(dark[i] for i in shut) > max(dark[i] for i in still)


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_a_decayed_scene_is_bad_as_its_seed_says() -> None:
    one = replace(scene("hand"), frames=scene("hand").frames[:3])
    film = list(decayed(one, "film", 3))
    assert all(np.array_equal(a, b) for a, b in zip(film, decayed(one, "film", 3), strict=True))
    assert not np.array_equal(film[0], next(decayed(one, "film", 4)))
    worse = [np.mean([psnr_db(next(decayed(one, p, s)), one.frames[0]) for s in range(8)]) for p in PRESETS]
    assert 15 < worse[0] < worse[1] - 2


def test_a_written_scene_is_what_was_made(tmp_path: Path) -> None:
    whole = scene("hand")
    one = replace(whole, frames=whole.frames[:10], faces=whole.faces[:10], hidden=whole.hidden[:10])
    paths = write_scene(one, tmp_path / "made", "mild", 2)
    truth = list(read_clip(paths["truth"]))
    assert len(truth) == len(list(read_clip(paths["degraded"]))) == 10
    assert min(psnr_db(a, b) for a, b in zip(truth, one.frames, strict=True)) > 40
    document = json.loads(paths["json"].read_text())
    assert document["intervals"] == [i._asdict() for i in one.intervals]
    assert [len(frame["faces"]) for frame in document["frames"]] == [len(faces) for faces in one.faces]
    assert np.abs(document["frames"][0]["faces"]["1"] - one.faces[0][1]).max() < 1e-3


def test_scenes_that_cannot_be_are_refused(shared: Path) -> None:
    with pytest.raises(OptionError, match="choose one of hand"):
        make_scene("opera", subjects())
    with pytest.raises(OptionError, match="two people"):
        make_scene("hand", subjects()[:1])
    people = read_subjects(shared / "data" / "faces", 3, seed=1)
    assert len({one.picture.tobytes() for one in people}) == 3
    with pytest.raises(OptionError, match="53 people are wanted and 52"):
        read_subjects(shared / "data" / "faces", 53)
