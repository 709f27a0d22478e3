from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.degradation import film
from gpenvideo.errors import OptionError
from gpenvideo.faces.shots import CutDetector, difference

Luma = NDArray[np.uint8]
Picture = NDArray[np.float64]


def starts(pictures: list[Luma], look_ahead: int = 3) -> list[int]:
    """Where shots start, the first picture's aside."""
    cuts = CutDetector(look_ahead)
    decided = [decision for picture in pictures for decision in cuts.update(picture)]
    decided += cuts.finish()
    assert len(decided) == len(pictures)
    assert decided[:1] == [True] * bool(pictures)
    return [i for i, starts_shot in enumerate(decided) if starts_shot and i]


def scene(seed: int) -> NDArray[np.float64]:
    """A picture with detail at every scale, as photographs have it: 300 x 800."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 1, (3 * 2**i, 8 * 2**i)), (800, 300), interpolation=cv2.INTER_CUBIC) / 1.6**i
        for i in range(6)
    ]
    picture = sum(layers)
    return 125 + 45 * picture / np.std(picture)


def view(picture: NDArray[np.float64], x: float = 0.0, *, zoom: float = 1.0, seed: int = 0) -> Luma:
    """What a grainy camera sees of it in a small picture; x in widths of the view."""
    move = np.array([(zoom, 0, -zoom * (208 + 384 * x) + 0), (0, zoom, -zoom * 42)])
    move[:, 2] += (1 - zoom) * np.array((192, 108))
    seen = cv2.warpAffine(picture, move, (384, 216), borderMode=cv2.BORDER_REFLECT)
    seen += np.random.default_rng(seed).normal(0, 8, seen.shape)
    small = cv2.resize(np.clip(seen, 0, 255), (64, 36), interpolation=cv2.INTER_AREA)
    return np.round(small).astype(np.uint8)


def shot(seed: int, count: int = 12) -> list[Luma]:
    picture = scene(seed)
    return [view(picture, 0.005 * i, seed=i) for i in range(count)]


def decoded(file: Path) -> list[Luma]:
    with av.open(file) as container:
        return [
            cv2.resize(frame.to_ndarray(format="gray"), (64, 36), interpolation=cv2.INTER_AREA)
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_the_cuts_of_a_film_are_all_found_and_no_others(shared: Path, look_ahead: int) -> None:
    """Two films by turns, in shots of 1 to 14 pictures: what lies between is 40 levels, else below 25."""
    pictures = decoded(shared / "data" / "videos" / "cuts_ls_sva_d.264")
    change = np.abs(np.diff(np.array(pictures, dtype=float), axis=0)).mean(axis=(1, 2))
    assert ((change < 25) | (change > 40)).all()
    truth = np.flatnonzero(change > 40) + 1
    assert len(truth) > 200
    assert starts(pictures, look_ahead) == truth.tolist()


@pytest.mark.parametrize(
    "name",
    ["foreman_cif_compressed.264", "intel_asl_again.mkv", "liveportrait_d10.mp4", "facenetpytorch_video.mp4"],
)
def test_a_clip_of_one_shot_has_no_cut(shared: Path, name: str) -> None:
    assert starts(decoded(shared / "data" / "videos" / name)) == []


@given(st.lists(st.integers(3, 9), min_size=1, max_size=6), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_shots_are_told_apart(lengths: list[int], seed: int) -> None:
    shots = [shot(seed + i, length) for i, length in enumerate(lengths)]
    assert starts([picture for pictures in shots for picture in pictures]) == np.cumsum(lengths)[:-1].tolist()


@pytest.mark.parametrize("speed", [0.02, 0.06, 0.1])
def test_a_pan_is_no_cut(speed: float) -> None:
    for seed in range(5):
        picture = scene(seed)
        assert starts([view(picture, speed * (i - 5), seed=i) for i in range(10)]) == []


def test_zooms_light_and_dissolves_are_no_cuts() -> None:
    one, other = scene(1), scene(2)
    assert starts([view(one, zoom=1.05**i, seed=i) for i in range(12)]) == []
    assert starts([view(one * (0.4 + 0.05 * (i % 7)) + 20, seed=i) for i in range(14)]) == []
    assert starts([view(one * (1 - i / 14) + other * i / 14, seed=i) for i in range(15)]) == []
    assert starts([view(one * 0 + 16, seed=i) for i in range(8)]) == []


@pytest.mark.parametrize("light", [300, -300])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_flash_is_no_cut(light: int, count: int) -> None:
    """White-out or black-out; without look-ahead its start passes for a cut, its end does not."""
    picture = scene(3)
    pictures = [
        view(picture + light * (8 <= i < 8 + count), 0.01 * i if i < 8 else 0.08, seed=i) for i in range(20)
    ]
    assert starts(pictures) == []
    assert starts(pictures, look_ahead=0) == [8]


def test_a_flash_between_two_shots_is_a_cut() -> None:
    flash = [view(scene(1) + 300)]
    assert starts(shot(1) + flash + shot(2))


def test_a_single_picture_of_another_scene_is_two_cuts() -> None:
    assert starts(shot(1) + shot(2, 1) + shot(1)) == [12, 13]


def test_a_decision_waits_for_no_more_than_the_look_ahead() -> None:
    pictures = shot(1, 6) + shot(2, 6)
    cuts = CutDetector(look_ahead=2)
    assert [cuts.update(picture) for picture in pictures[:4]] == [[], [], [True], [False]]
    live = CutDetector(look_ahead=0)
    assert [live.update(picture) for picture in pictures[4:7]] == [[True], [False], [True]]
    assert live.finish() == []


def test_a_difference_is_of_scenes_and_neither_of_light_nor_of_motion() -> None:
    one = view(scene(1))
    assert difference(one, one) == 0
    assert difference(one, (one * 0.5 + 90).astype(np.uint8)) < 0.05
    assert difference(one, view(scene(1), 0.3, seed=1)) < 0.1
    assert difference(one, view(scene(2))) > 0.3


@pytest.mark.parametrize("size", [(1, 1), (36, 20), (64, 36), (13, 100)])
def test_pictures_of_any_size_will_do(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    one, other = (cv2.resize(rng.integers(0, 256, (6, 6), np.uint8), size[::-1]) for _ in range(2))
    one, other = one.reshape(size), other.reshape(size)
    assert starts([one] * 5) == []
    if min(size) > 1:
        assert starts([one] * 5 + [other] * 5) == [5]


def test_pictures_that_do_not_fit_are_refused() -> None:
    cuts = CutDetector()
    cuts.update(np.zeros((36, 64), np.uint8))
    for picture in (np.zeros((36, 63), np.uint8), np.zeros((36, 64), np.float32)):
        with pytest.raises(OptionError, match="one size, got"):
            cuts.update(picture)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="got -1"):
        CutDetector(-1)


class Film:
    """A long film made of shots, with what is a cut and what only looks like one."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.pictures: list[Picture] = []
        self.cuts: list[int] = []
        self.made = dict.fromkeys(("flash", "dissolve", "whip", "zoom", "object"), 0)

    def add(self, number: int) -> None:
        """The next shot, after a cut or a dissolve."""
        rng = self.rng
        kind = rng.choice(["still", "pan", "whip", "zoom", "object"], p=[0.3, 0.15, 0.3, 0.1, 0.15])
        if kind in self.made:
            self.made[kind] += 1
        pictures = self.shot(kind, number, int(rng.integers(12, 18)))
        if kind != "object" and rng.random() < 0.55:
            self.flash(pictures, 4, int(rng.integers(1, 4)))
        dissolve = int(rng.integers(3, 7)) if self.pictures and rng.random() < 0.25 else 0
        if dissolve:
            self.made["dissolve"] += 1
            first = self.pictures[-1]
            pictures[:0] = [
                first * (1 - share) + pictures[0] * share
                for share in np.arange(1, dissolve + 1) / (dissolve + 1)
            ]
        elif self.pictures:
            self.cuts.append(len(self.pictures))
        self.pictures += pictures

    def shot(self, kind: str, number: int, count: int) -> list[Picture]:
        rng, still = self.rng, scene(1000 * self.seed + number)
        time = np.arange(count)
        glide = np.sin(np.pi * np.clip((time - 7) / 5, 0, 1))
        speed = {"pan": 0.03, "whip": rng.uniform(0.1, 0.2) * glide}.get(kind, 0.002)
        x = np.cumsum(rng.choice([-1, 1]) * speed * np.ones(count))
        zoom = 1.03**time if kind == "zoom" else np.ones(count)
        pictures = [seen(still, x[i] - x[-1] / 2, zoom[i], 150 * np.gradient(x)[i]) for i in time]
        if kind == "object":
            board, step = scene(7)[:150, :200], int(rng.integers(15, 30))
            for i, picture in enumerate(pictures):
                left, right = max(0, (i - 2) * step), max(0, (i - 2) * step + 130)
                picture[30:, left:right] = board[: picture.shape[0] - 30, : picture[30:, left:right].shape[1]]
        return pictures

    def flash(self, pictures: list[Picture], start: int, count: int) -> None:
        """White all over, coloured (luma sees it weakly), at one side, or black."""
        self.made["flash"] += 1
        kind = self.rng.choice(["white", "coloured", "side", "black"])
        side = np.linspace(self.rng.choice([0.0, 1.0]), 0.5, 256)
        for i in range(start, start + count):
            gain, light = {
                "white": (0.6, 190),
                "coloured": (1.2, 60),
                "side": (1, 240 * side),
                "black": (0, 0),
            }[kind]
            pictures[i] = np.clip(gain * pictures[i] + light, 0, 255)


def seen(still: Picture, x: float, zoom: float, blur_px: float) -> Picture:
    """144 x 256 of it, blurred along the motion; x in widths of the view."""
    move = np.array([(zoom, 0, 128 - zoom * (400 + 256 * x)), (0, zoom, 72 - zoom * 150)])
    picture = cv2.warpAffine(still, move, (256, 144), borderMode=cv2.BORDER_REFLECT)
    return cv2.blur(picture, (1 + int(abs(blur_px)), 1))


def aged(pictures: list[Picture], seed: int) -> list[Luma]:
    """As small pictures of worn film: grain, scratches, dust, flicker and an unsteady gate."""
    rng = np.random.default_rng(seed)
    small = []
    for picture in pictures:
        image = np.repeat((picture / 255).astype(np.float32).clip(0, 1)[..., None], 3, axis=2)
        image = film.weave(image, *rng.normal(0, 0.3, 2))
        image = film.grain(image, 12, 0.5, rng)
        image = film.dust(film.scratches(image, 0.7, rng), 0.3, rng)
        image = film.flicker(image, np.exp(rng.normal(0, 0.06)), rng.normal(0, 0.05))
        small.append(shrunk(255 * image[..., 0]))
    return small


def shrunk(picture: Picture) -> Luma:
    small = cv2.resize(picture.astype(np.float32), (64, 36), interpolation=cv2.INTER_AREA)
    return np.rint(small).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("worn", [False, True])
def test_cuts_are_told_from_flashes_dissolves_and_fast_pans(worn: bool) -> None:
    movie = Film(seed=5 + worn)
    for number in range(150 if worn else 300):
        movie.add(number)
    pictures = aged(movie.pictures, 1) if worn else [shrunk(picture) for picture in movie.pictures]
    if not worn:
        assert len(movie.cuts) > 200
        assert movie.made["flash"] > 100
        assert min(movie.made["dissolve"], movie.made["whip"]) > 60
    found = set(starts(pictures))
    right = len(found & set(movie.cuts))
    assert right / len(found) >= 0.98, sorted(found - set(movie.cuts))
    assert right / len(movie.cuts) >= 0.98, sorted(set(movie.cuts) - found)


def test_missing_frames_are_no_cut() -> None:
    for seed in range(10):
        picture = scene(seed)
        places = [0.015 * (i + 4 * (i > 6)) for i in range(14)]
        assert starts([view(picture, x - 0.1, seed=i) for i, x in enumerate(places)]) == []
