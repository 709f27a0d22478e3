"""Steady faces: noise is averaged out over time, what changes is not; where a run began does not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from portraits import Same, portrait
from steadying import CHEEK, EYE, MOUTH, RATE_HZ, error, face, moved, noisy, shut

import gpenvideo
from gpenvideo.analysis import Analysed
from gpenvideo.crops import through
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.alignment import template
from gpenvideo.frame import Colour, Frame, Layout, StreamInfo
from gpenvideo.pipeline import RestoreOptions, VideoRestorer
from gpenvideo.steady import PERIOD_S, WARM_UP_S, Steady

Pixels = NDArray[np.float32]


def steadied(crops: Iterable[Pixels], *, start_s: Fraction | int = 0, rate_hz: int = RATE_HZ) -> list[Pixels]:
    steady = Steady()
    return [steady(1, start_s + Fraction(i, rate_hz), crop).pixels.copy() for i, crop in enumerate(crops)]


@pytest.mark.parametrize("levels", [2, 6, 15])
def test_noise_is_averaged_out(levels: float) -> None:
    truths = [face()] * 25
    crops = noisy(truths, levels)
    results = steadied(crops)
    assert np.array_equal(results[0], crops[0])
    assert error(results[10:], truths[10:]) < 0.5 * error(crops[10:], truths[10:])
    assert error(results[11:], results[10:-1]) < 0.2 * error(crops[11:], crops[10:-1])


def test_the_default_network_comes_nearer_to_the_truth_and_is_steadier(one_thread: None) -> None:
    restorer = gpenvideo.load(device="cpu", dtype="fp32")
    truths = [face()] * 12
    crops = noisy(truths, 12)
    alone, together = through(restorer, crops[8:]), through(restorer, steadied(crops)[8:])
    assert error(together, truths[8:]) < 0.9 * error(alone, truths[8:])
    assert error(together[1:], together[:-1]) < 0.3 * error(alone[1:], alone[:-1])


@pytest.mark.parametrize("place", [EYE, MOUTH])
@pytest.mark.parametrize("levels", [1.5, 8])
def test_what_changes_is_not_smeared(place: tuple[slice, slice], levels: float) -> None:
    """A lid that falls for three frames is as it is in the crops, in each of them and after."""
    truths = [face()] * 12 + [shut(face(), place)] * 3 + [face()] * 3
    crops = noisy(truths, levels)
    results = steadied(crops)
    for i in range(12, 18):
        change = error([truths[i]], [truths[11]], place) or error([truths[i]], [truths[12]], place)
        left = error([results[i]], [truths[i]], place)
        assert left < error([crops[i]], [truths[i]], place) + 0.06 * change
    assert error(results[12:15], truths[12:15], CHEEK) < 0.6 * error(crops[12:15], truths[12:15], CHEEK)


def test_a_face_that_drifts_in_its_crop_is_followed_and_stays_sharp() -> None:
    truths = [moved(face(), 0.35 * i, -0.2 * i, 0.1 * i) for i in range(20)]
    crops = noisy(truths, 4)
    results = steadied(crops)
    plain = [np.mean(crops[i - 5 : i + 1], axis=0) for i in range(10, 20)]
    assert error(results[10:], truths[10:]) < 0.7 * error(crops[10:], truths[10:])
    assert error(results[10:], truths[10:]) < 0.7 * error(plain, truths[10:])

    def gradients(pixels: Pixels) -> float:
        return float(np.mean(np.diff(cv2.GaussianBlur(pixels, (0, 0), 1.0)[24:232, 24:232], axis=1) ** 2))

    assert gradients(results[-1]) > 0.95 * gradients(truths[-1])


def test_blobs_of_colour_are_noise() -> None:
    """As codecs leave them: squares of chroma, others in each frame."""
    random = np.random.default_rng(2)
    truths = [face()] * 25
    crops = []
    for crop in noisy(truths, 2):
        chroma = 12 / 127.5 * random.laplace(size=(16, 16, 3)).astype(np.float32)
        chroma -= (chroma @ np.float32((0.2126, 0.7152, 0.0722)))[..., None]
        crops.append(crop + np.kron(chroma, np.ones((16, 16, 1), np.float32)))
    results = steadied(crops)
    assert error(results[10:], truths[10:]) < 0.5 * error(crops[10:], truths[10:])


def test_colour_that_changes_and_stays_is_no_noise() -> None:
    """A lamp goes red, as bright as before: within two frames faces are in its light."""
    tint = np.float32((0.1, -0.03, 0.002))
    truths = [face() * np.float32(0.8)] * 12 + [face() * np.float32(0.8) + tint] * 6
    results = steadied(noisy(truths, 4))
    assert error(results[13:], truths[13:]) < 0.3 * error([truths[0]], [truths[-1]])


def test_a_face_that_turns_in_its_crop_is_not_left_behind() -> None:
    """Its middle moves and its edges do not: nothing that an affine motion explains."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, 256, dtype=np.float32)] * 2)
    across, down = np.meshgrid(*[np.arange(256, dtype=np.float32)] * 2)
    bulge = np.float32(1.2) * np.exp(-4 * (x * x + y * y))
    truths = [
        cv2.remap(face(), across - i * bulge, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        for i in range(20)
    ]
    crops = noisy(truths, 4)
    results, middle = steadied(crops), (slice(84, 172), slice(84, 172))
    assert error(results[10:], truths[10:], middle) < 1.0 * error(crops[10:], truths[10:], middle)


def test_the_light_is_that_of_the_new_crop() -> None:
    gains = 1 + 0.15 * np.sin(2.1 * np.arange(20))
    truths = [np.asarray((face() + 1) * gain - 1, dtype=np.float32) * np.float32(0.8) for gain in gains]
    results = steadied(noisy(truths, 5))
    for result, truth in zip(results[5:], truths[5:], strict=True):
        assert abs(float(np.mean(result - truth))) < 1 / 127.5
    assert error(results[5:], truths[5:]) < 0.6 * error(noisy(truths, 5)[5:], truths[5:])


@pytest.mark.parametrize("rate_hz", [12, 25, 50])
def test_memory_is_of_seconds_not_of_frames(rate_hz: int) -> None:
    """A faint patch appears: within a seventh of a second it is there to 1 - 1/e, at any frame rate."""
    with_patch = face().copy()
    with_patch[CHEEK] += np.float32(1.5 / 127.5)
    results = steadied([face()] * (rate_hz + 1) + [with_patch] * rate_hz, rate_hz=rate_hz)
    after = results[rate_hz + round(rate_hz / 7)]
    there = np.mean((after - face())[CHEEK]) / (1.5 / 127.5)
    assert 0.5 < there < 0.8


@pytest.mark.parametrize("rate_hz", [24, 30])
def test_a_run_may_begin_at_the_warm_up(rate_hz: int) -> None:
    """From the next period on it gives what a run gives that began earlier; and nobody sees where that is."""
    early_s, late_s = PERIOD_S - 2, PERIOD_S - WARM_UP_S
    crops = noisy([face()] * (3 * rate_hz), 8)
    long = steadied(crops, start_s=early_s, rate_hz=rate_hz)
    begin = (late_s - early_s) * rate_hz
    short = steadied(crops[begin:], start_s=late_s, rate_hz=rate_hz)
    anchor = (PERIOD_S - early_s) * rate_hz
    assert not np.array_equal(long[begin], short[0])
    for i in range(anchor, len(crops)):
        assert np.array_equal(long[i], short[i - begin])
    steps = [error([a], [b]) for a, b in zip(long[begin:], long[begin + 1 :], strict=False)]
    assert steps[anchor - begin - 1] < 1.3 * np.median(steps)


def test_what_was_away_starts_anew() -> None:
    steady = Steady()
    first, second = noisy([face()] * 2, 8)
    steady(1, Fraction(0), first)
    steady(2, Fraction(2), first)
    assert np.array_equal(steady(1, Fraction(2), second).pixels, second)
    assert not np.array_equal(steady(2, Fraction(51, 25), second).pixels, second)
    steady.cut()
    assert np.array_equal(steady(2, Fraction(52, 25), second).pixels, second)


SIZE = 128
LAYOUT, COLOUR = Layout("yuv", 8, (2, 2)), Colour(6, False)
INFO = StreamInfo(SIZE, SIZE, "yuv420p", LAYOUT, COLOUR, Fraction(1, RATE_HZ), Fraction(RATE_HZ))


def frames(count: int) -> list[Frame]:
    random = np.random.default_rng(3)
    luma = cv2.resize(portrait(512)[51:174, 164:287, 1], (SIZE, SIZE)).astype(np.float32)
    chroma = np.full((SIZE // 2, SIZE // 2), 128, np.uint8)
    return [
        Frame(
            (np.clip(luma + random.normal(0, 8, luma.shape), 16, 235).astype(np.uint8), chroma, chroma),
            LAYOUT,
            COLOUR,
            i,
            Fraction(1, RATE_HZ),
        )
        for i in range(count)
    ]


def tracked(shots: Sequence[int] = (0,)) -> Callable[[Iterable[Any]], Iterator[Analysed]]:
    """Two people who stand still, through all shots."""
    points, box = template("ffhq", SIZE).astype(np.float32), np.array((10, 10, 118, 118), np.float32)
    faces = [Face(box, points + np.float32(2 * i), 0.9) for i in (0, 1)]

    def analysis(items: Iterable[Any]) -> Iterator[Analysed]:
        for frame in items:
            tracks = [FaceTrack(i + 1, face, frame.time_s, 1.0, 0.0, 1.0) for i, face in enumerate(faces)]
            yield Analysed(frame, tracks[: 1 + frame.pts % 3], frame.pts in shots)

    return analysis


class Sharper(Same):
    """Changes each pixel by itself, so that what comes out tells what went in."""

    def __init__(self, max_batch: int) -> None:
        super().__init__(64)
        self.max_batch = max_batch

    def __call__(self, pixels: Any) -> Any:
        return (1.5 * pixels).clamp(-1, 1)


def planes_of(
    clip: Sequence[Frame], *, max_batch: int = 8, temporal: bool = True, shots: Sequence[int] = (0,)
) -> list[NDArray[np.uint8]]:
    options = RestoreOptions(gates=False, temporal=temporal)
    video = VideoRestorer(Sharper(max_batch), tracked(shots), INFO, options)
    return [restored.frame.planes[0] for restored in video(clip)]


def test_batches_do_not_matter() -> None:
    clip = frames(11)
    results = [planes_of(clip, max_batch=size) for size in (1, 2, 8)]
    for others in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_without_it_each_frame_is_restored_by_itself() -> None:
    clip = frames(7)
    alone = [planes_of([frame])[0] for frame in clip]
    off, on = planes_of(clip, temporal=False), planes_of(clip)
    assert all(np.array_equal(a, b) for a, b in zip(off, alone, strict=True))
    assert not np.array_equal(on[6], alone[6])


def test_nothing_crosses_a_cut() -> None:
    clip = frames(8)
    results = planes_of(clip, shots=(0, 5))
    assert np.array_equal(results[5], planes_of(clip[5:6])[0])
    for a, b in zip(results[5:], planes_of(clip[5:]), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("rate_hz", [60, 240])
def test_means_do_not_grow_grainy_at_high_rates(rate_hz: int) -> None:
    """What sharpens a mean each time it is carried over must not add up."""
    truths = [face()] * (3 * rate_hz)
    crops = noisy(truths[:40], 6)
    results = steadied([crops[i % 40] for i in range(len(truths))], rate_hz=rate_hz)
    assert error(results[-20:], truths[-20:]) < 0.5 * error(crops[-20:], truths[-20:])
