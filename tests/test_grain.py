"""Grain: restored faces get the noise of their picture, as strong and as fine, and new in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from portraits import portrait

from gpenvideo.errors import OptionError
from gpenvideo.faces.alignment import template
from gpenvideo.faces.mask import rounded
from gpenvideo.frame import Colour, Frame, Layout, Rectangle
from gpenvideo.matching.finishing import Finishing
from gpenvideo.matching.grain import share_of
from gpenvideo.matching.noise import noise, seen
from gpenvideo.matching.place import Place

HEIGHT, WIDTH, FACE_PX = 360, 480, 200
FACE = Rectangle(140, 80, 140 + FACE_PX, 80 + FACE_PX)
CROP_PX = 256
MASK = rounded(CROP_PX, template("ffhq", CROP_PX))
SCALE = CROP_PX / FACE_PX
CROP_FROM_FRAME = np.array([(SCALE, 0, -FACE.x0 * SCALE), (0, SCALE, -FACE.y0 * SCALE)])

Pixels = NDArray[np.float32]


class Stock(NamedTuple):
    """A film, as its grain."""

    sigma: float
    width_px: float
    by_level: bool = False


STOCKS = {"35mm": Stock(4, 0.25), "16mm": Stock(8, 0.7), "8mm": Stock(14, 1.3, by_level=True)}


class Shot(NamedTuple):
    """A frame of a film, whose truth is known, with a face that was restored without grain."""

    source: Frame
    result: Frame
    place: Place
    truth: Pixels
    """The source without its grain, levels of 8 bits."""

    clean: Pixels
    """The result without the source's grain."""


def grain_of(stock: Stock, random: np.random.Generator, truth: Pixels) -> Pixels:
    white = random.standard_normal(truth.shape).astype(np.float32)
    grain = cv2.GaussianBlur(white, (0, 0), stock.width_px)
    grain *= stock.sigma / grain.std()
    return grain * (0.35 + 0.65 * np.sin(np.pi * truth / 255)) if stock.by_level else grain


def shot(
    stock: Stock, number: int, bits: int = 8, strength: float = 1.0, model: str = "yuv", left: float = 0.0
) -> Shot:
    """left: of the grain, as white noise, that the restored face still has."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    truth = 120 + 45 * np.sin(x / 90) * np.cos(y / 70) + 20 * np.sin(x / 37 + y / 53)
    unit = 2 ** (bits - 8)
    place = Place.of(7, FACE, MASK, CROP_FROM_FRAME, strength, bits)
    weights = np.zeros_like(truth)
    weights[place.window] = place.weights
    levels = truth + grain_of(stock, random, truth)
    noisy = truth + 5 + left * stock.sigma * random.standard_normal(truth.shape).astype(np.float32)
    face = (1 - weights) * levels + weights * noisy
    face[weights == 0] = levels[weights == 0]
    frames = [_frame(part, bits, model, number) for part in (levels * unit, face * unit)]
    return Shot(frames[0], frames[1].copy(), place, truth, truth + 5 * weights)


def _frame(samples: Pixels, bits: int, model: Any, number: int) -> Frame:
    layout = Layout(model, bits, (2, 2) if model == "yuv" else (1, 1))
    luma = np.clip(np.rint(samples), 0, 2**bits - 1).astype(layout.dtype)
    grey = np.full((HEIGHT // 2, WIDTH // 2), 2 ** (bits - 1), layout.dtype)
    planes = {"yuv": (luma, grey, grey), "rgb": (luma,) * 3, "grey": (luma,)}[model]
    return Frame(planes, layout, Colour(1, False), number, Fraction(1, 25))


def finished(given: Shot, track: int = 7, **options: Any) -> Frame:
    frame = given.result.copy()
    Finishing(**options)(frame, given.source, [given.place._replace(track=track)], Fraction(frame.pts, 25))
    return frame


def levels(frame: Frame) -> Pixels:
    return frame.planes[0].astype(np.float32) / 2.0 ** (frame.layout.depth_bits - 8)


def texture(noise: Pixels, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Standard deviation, and what neighbours have in common, across and down."""
    power = (noise[where] ** 2).mean()
    across = (noise[:, 1:] * noise[:, :-1])[where[:, 1:] & where[:, :-1]].mean()
    down = (noise[1:] * noise[:-1])[where[1:] & where[:-1]].mean()
    return np.array([np.sqrt(power), across / power, down / power])


def everywhere(given: Shot) -> Iterator[NDArray[np.bool_]]:
    """The face, and where it goes over into its picture."""
    weights = np.zeros((HEIGHT, WIDTH), np.float32)
    weights[given.place.window] = given.place.weights
    highest = weights.max()
    yield weights > 0.95 * highest
    yield (weights > 0.15 * highest) & (weights < 0.85 * highest)


@pytest.mark.parametrize("stock", STOCKS)
@pytest.mark.parametrize(
    "how",
    [{}, {"bits": 10}, {"strength": 0.5}, {"left": 0.4}, {"model": "rgb"}, {"model": "grey", "bits": 16}],
)
def test_a_face_has_the_grain_of_its_surroundings(stock: str, how: dict[str, Any]) -> None:
    inside, around = [], []
    for number in range(4):
        given = shot(STOCKS[stock], number, **how)
        after = levels(finished(given)) - given.clean
        for where in everywhere(given):
            inside.append(texture(after, where))
            around.append(texture(levels(given.source) - given.truth, where))
    for ours, theirs in zip(
        *(np.reshape(part, (4, 2, 3)).mean(axis=0) for part in (inside, around)), strict=True
    ):
        assert ours[0] == pytest.approx(theirs[0], rel=0.2)
        assert ours[1:] == pytest.approx(theirs[1:], rel=0.2, abs=0.06)


@pytest.mark.parametrize("stock", STOCKS)
def test_every_frame_has_its_own(stock: str) -> None:
    added = []
    for number in range(12):
        given = shot(STOCKS[stock], number)
        within = next(everywhere(given))
        added.append((levels(finished(given)) - levels(given.result))[within])
    pairs = [np.corrcoef(one, other)[0, 1] for one, other in pairwise(added)]
    assert abs(np.mean(pairs)) < 0.05
    assert np.abs(pairs).max() < 0.15


def test_it_is_the_moment_and_the_track_that_tell_which() -> None:
    given = shot(STOCKS["16mm"], 3)
    first, again, other = finished(given), finished(given), finished(given, track=8)
    assert np.array_equal(first.planes[0], again.planes[0])
    differing = (first.planes[0] != other.planes[0])[next(everywhere(given))]
    assert differing.mean() > 0.5


def test_nothing_else_is_touched() -> None:
    given = shot(STOCKS["8mm"], 0)
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[given.place.window] = given.place.weights == 0
    after = finished(given)
    assert np.array_equal(after.planes[0][outside], given.source.planes[0][outside])
    assert not np.array_equal(after.planes[0], given.result.planes[0])
    for plane in (1, 2):  # without noise there
        assert np.array_equal(after.planes[plane], given.source.planes[plane])


@pytest.mark.parametrize("grain", ["none", 0, "0"])
def test_none_is_none(grain: Any) -> None:
    given = shot(STOCKS["8mm"], 0)
    assert np.array_equal(finished(given, grain=grain).planes[0], given.result.planes[0])


def test_a_share_is_less() -> None:
    given = shot(STOCKS["8mm"], 0)
    where = next(everywhere(given))
    none, half, whole = (
        texture(levels(finished(given, grain=grain)) - given.clean, where)[0]
        for grain in ("none", 0.5, "match")
    )
    assert none < 1
    assert half == pytest.approx(whole / 2, rel=0.05)


@pytest.mark.parametrize("sigma", [0, 0.7])
def test_clean_pictures_stay_clean(sigma: float) -> None:
    given = shot(Stock(sigma, 0.5) if sigma else Stock(1e-6, 0.5), 0)
    assert np.array_equal(finished(given).planes[0], given.result.planes[0])


def test_a_face_that_has_the_grain_gets_no_more() -> None:
    given = shot(STOCKS["16mm"], 0)
    unrestored = given._replace(result=given.source.copy())
    change = levels(finished(unrestored)) - levels(given.source)
    assert change.std() < 0.1 * STOCKS["16mm"].sigma


def test_colour_grain_goes_into_chroma_too() -> None:
    given, random = shot(STOCKS["16mm"], 0), np.random.default_rng(5)
    y, x = np.mgrid[: HEIGHT // 2, : WIDTH // 2]
    coloured = 128 + 30 * np.sin(x / 50) * np.sin(y / 40), 128 + 30 * np.cos(x / 30) * np.sin(y / 50)
    chroma = [np.rint(part + random.normal(0, 5, part.shape)).astype(np.uint8) for part in coloured]
    small = cv2.resize(given.place.weights, (FACE_PX // 2, FACE_PX // 2), interpolation=cv2.INTER_AREA)
    window = slice(FACE.y0 // 2, FACE.y1 // 2), slice(FACE.x0 // 2, FACE.x1 // 2)
    source = Frame((given.source.planes[0], *chroma), *_rest(given.source))
    result = source.copy()
    for plane, truth in zip(result.planes[1:], coloured, strict=True):
        plane[window] = np.rint(small * truth[window] + (1 - small) * plane[window])
    result.planes[0][...] = given.result.planes[0]
    before = result.copy()
    Finishing()(result, source, [given.place], Fraction(0))
    core = small > 0.95
    for plane, was, truth in zip(result.planes[1:], before.planes[1:], coloured, strict=True):
        assert (was[window] - truth[window])[core].std() < 1
        assert (plane[window] - truth[window])[core].std() == pytest.approx(5, rel=0.2)


def _rest(frame: Frame) -> tuple[Any, ...]:
    return frame.layout, frame.colour, frame.pts, frame.time_base


@pytest.mark.parametrize("stock", STOCKS)
def test_noise_is_told_from_a_face_and_its_hair(stock: str) -> None:
    picture = cv2.cvtColor(portrait(700), cv2.COLOR_RGB2GRAY)[40:290, 180:470].astype(np.float32)
    clean = cv2.GaussianBlur(picture, (0, 0), 1.5)
    flat = STOCKS[stock]._replace(by_level=False)
    grained = 40 + 0.7 * clean + grain_of(flat, np.random.default_rng(0), clean)
    blocks = seen(grained, grained, np.ones_like(grained))
    assert blocks is not None
    found = noise(blocks)
    assert np.median(found.sigmas) == pytest.approx(flat.sigma, rel=0.2)
    assert found.width_px == pytest.approx((flat.width_px,) * 2, abs=0.25)


@pytest.mark.parametrize("side", [1, 7, 23, 24, 40])
def test_pictures_may_be_small(side: int) -> None:
    random = np.random.default_rng(0)
    planes = tuple(random.integers(0, 255, (side, side), np.uint8) for _ in range(3))
    source = Frame(planes, Layout("yuv", 8), Colour(1, False), 0, Fraction(1, 25))
    result = source.copy()
    place = Place(0, (slice(0, side), slice(0, side)), np.ones((side, side), np.float32))
    found = Finishing(match_sharpness=True)(result, source, [place], Fraction(-1, 25))
    assert np.isfinite(found.grain)


@drawn(
    st.integers(40, 130),
    st.integers(40, 130),
    st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 1)]),
    st.sampled_from(["yuv", "rgb", "grey"]),
    st.sampled_from([8, 10, 16]),
    st.data(),
)
@settings(max_examples=25, deadline=None)
def test_wherever_a_face_lies_only_it_is_touched(
    width: int, height: int, step: tuple[int, int], model: Any, bits: int, data: st.DataObject
) -> None:
    layout = Layout(model, bits, step if model == "yuv" else (1, 1))
    random = np.random.default_rng(width)
    sizes = [(height, width)] + [(-(-height // layout.step[1]), -(-width // layout.step[0]))] * 2
    planes = tuple(random.integers(0, 2**bits, size).astype(layout.dtype) for size in sizes[: layout.planes])
    source = Frame(planes, layout, Colour(1, False), 0, Fraction(1, 25))
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width))
    place = Place(1, (slice(y0, y1), slice(x0, x1)), np.ones((y1 - y0, x1 - x0), np.float32))
    result = source.copy()
    result.planes[0][place.window] = 2 ** (bits - 1)
    Finishing(match_sharpness=True)(result, source, [place], Fraction(1))
    for number, (before, after) in enumerate(zip(source.planes, result.planes, strict=True)):
        across, down = layout.step if number else (1, 1)
        outside = np.ones(before.shape, bool)
        outside[y0 // down : -(-y1 // down), x0 // across : -(-x1 // across)] = False
        assert np.array_equal(before[outside], after[outside])


@pytest.mark.parametrize("given", ["much", "", "nan", 1.5, -0.1])
def test_what_is_no_share_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="match, none or a share"):
        share_of(given)
