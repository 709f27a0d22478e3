"""How faces move from frame to frame, in pictures whose motion is known."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from portraits import portrait

from gpenvideo.affine import compose, invert
from gpenvideo.faces.motion import Points, Similarity, as_points, fit, motion

SIZE = (640, 480)
WHOLE = np.array([(1.0, 0, 0), (0, 1, 0)])
LANDMARKS = np.array([(202.5, 100.5), (245.6, 103.0), (224, 127), (202.5, 139.5), (244.5, 141)])

numbers = st.complex_numbers(max_magnitude=500, allow_nan=False, allow_infinity=False)


def view(turn_deg: float = 0, scale: float = 1.6, x: float = -60, y: float = 40) -> NDArray[np.float64]:
    """Frame from portrait."""
    angle = np.radians(turn_deg)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([(cos, -sin, x), (sin, cos, y)])


def seen(frame_from_portrait: NDArray[np.float64], noise: float = 0, seed: int = 0) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(portrait(512), cv2.COLOR_RGB2GRAY)
    frame = cv2.warpAffine(
        grey, frame_from_portrait, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    noisy = frame + np.random.default_rng(seed).normal(0, noise, frame.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def landmarks(frame_from_portrait: NDArray[np.float64]) -> Points:
    return as_points(LANDMARKS @ frame_from_portrait[:, :2].T + frame_from_portrait[:, 2])


@pytest.mark.parametrize(
    "after",
    [view(x=-57.3, y=41.6), view(turn_deg=2.5, x=-50), view(scale=1.64, x=-68, y=36), view(x=-44, y=52)],
    ids=["shift", "turn", "growth", "far"],
)
@pytest.mark.parametrize("noise", [0, 12])
def test_a_face_that_moves_is_followed(after: NDArray[np.float64], noise: float) -> None:
    before = view()
    found = motion(seen(before, noise, 1), seen(after, noise, 2), landmarks(before), WHOLE)
    assert found is not None
    assert np.abs(found(landmarks(before)) - landmarks(after)).max() < (0.6 if noise else 0.3)


@pytest.mark.parametrize("depth", [10, 12, 16])
def test_more_bits_show_the_same_motion(depth: int) -> None:
    before, after = view(), view(x=-57.3, y=41.6)
    deep = [seen(at).astype(np.uint16) << (depth - 8) for at in (before, after)]
    found = motion(deep[0], deep[1], landmarks(before), WHOLE, depth)
    expected = motion(seen(before), seen(after), landmarks(before), WHOLE)
    assert found is not None
    assert expected is not None
    assert np.abs(found(landmarks(before)) - expected(landmarks(before))).max() < 0.1


def test_the_coded_picture_may_lie_on_its_side_and_be_narrow() -> None:
    """Turned by 90 degrees, and in pixels of twice their height's width."""
    upright_from_coded = np.array([(0.0, -1, 479), (2.0, 0, 0.5)])
    before, after = view(scale=1.2, x=0, y=100), view(scale=1.22, turn_deg=1, x=4, y=103)
    coded = [
        cv2.warpAffine(
            cv2.cvtColor(portrait(512), cv2.COLOR_RGB2GRAY),
            compose(invert(upright_from_coded), at),
            (360, 480),
            flags=cv2.INTER_AREA,
        )
        for at in (before, after)
    ]
    found = motion(coded[0], coded[1], landmarks(before), upright_from_coded)
    assert found is not None
    assert np.abs(found(landmarks(before)) - landmarks(after)).max() < 0.5


def test_what_is_far_is_found_where_it_is_guessed() -> None:
    before, after = view(x=-100), view(x=60, y=20)
    found = motion(seen(before), seen(after), landmarks(before), WHOLE, expected=Similarity(1.0, 150 - 15j))
    assert found is not None
    assert np.abs(found(landmarks(before)) - landmarks(after)).max() < 0.3


def test_noise_does_not_move_what_rests() -> None:
    away = []
    for seed in range(12):
        found = motion(seen(view(), 8, seed), seen(view(), 8, seed + 100), landmarks(view()), WHOLE)
        assert found is not None
        away.append(np.abs(found(landmarks(view())) - landmarks(view())).max())
    assert np.median(away) < 0.02


def test_nobody_knows_how_a_flat_or_a_covered_face_moved() -> None:
    before = seen(view())
    grey = np.full_like(before, 128)
    assert motion(grey, grey, landmarks(view()), WHOLE) is None
    noise = np.random.default_rng(0).integers(0, 255, before.shape, dtype=np.uint8)
    assert motion(before, noise, landmarks(view()), WHOLE) is None
    assert motion(before, before, landmarks(view()) + 2000, WHOLE) is None
    assert motion(before, before, landmarks(view()), WHOLE, expected=Similarity(1.0, 5000)) is None
    assert motion(before, before, np.full(5, 100 + 100j), WHOLE) is None


@given(numbers, numbers, st.lists(numbers, min_size=3, max_size=9, unique=True))
def test_a_similarity_is_fitted_undone_and_composed(
    factor: complex, shift: complex, points: list[complex]
) -> None:
    source = np.array(points)
    moved = Similarity(factor, shift)
    if abs(factor) < 0.01 or np.abs(source - source.mean()).max() < 0.1:
        return
    found = fit(source, moved(source))
    assert found is not None
    close = 1e-6 * (1 + abs(shift) + abs(factor) * np.abs(source).max())
    assert np.allclose(found(source), moved(source), atol=close)
    assert np.allclose(
        moved.back(moved(source)), source, atol=1e-6 * (1 + np.abs(source).max() + abs(shift)) / abs(factor)
    )
    twice = moved.after(moved)
    assert np.allclose(twice(source), moved(moved(source)), rtol=1e-9, atol=1e-6)


def test_points_of_one_place_fit_nothing() -> None:
    assert fit(np.full(4, 3 + 4j), np.arange(4) + 0j) is None
