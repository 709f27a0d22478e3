import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.affine import compose, invert
from gpenvideo.errors import FaceError, OptionError
from gpenvideo.faces.alignment import alignment_error, crop_from_frame, similarity, template

Array = NDArray[np.float64]

angles = st.floats(-np.pi, np.pi)
scales = st.floats(0.02, 50)
shifts = st.floats(-5000, 5000)
offsets = st.lists(st.floats(-0.3, 0.3), min_size=10, max_size=10)


def matrix(angle: float, scale: float, x: float, y: float) -> Array:
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([(a, -b, x), (b, a, y)])


matrices = st.builds(matrix, angles, scales, shifts, shifts)


def apply(m: Array, points: Array) -> Array:
    return points @ m[:, :2].T + m[:, 2]


def test_the_published_template_at_every_size(shared: Path) -> None:
    golden = json.loads((shared / "gpen" / "align_golden.json").read_text())
    for size, points in golden["reference_points"].items():
        assert np.allclose(template("gpen", int(size)), points, atol=1e-6)


def test_templates_scale_plainly_and_are_one_face() -> None:
    assert np.allclose(template("gpen", 512)[0], (202.0407, 242.8840), atol=1e-4)
    assert np.allclose(template("ffhq", 1024)[0], (2 * 192.98138, 2 * 239.94708))
    for name in ("gpen", "ffhq"):
        left, right, nose, mouth_left, mouth_right = template(name, 256)  # type: ignore[arg-type]
        assert left[0] < nose[0] < right[0]
        assert left[1] < nose[1] < mouth_left[1]
        assert mouth_left[0] < mouth_right[0]
    with pytest.raises(OptionError, match="gpen and ffhq, got 'arcface'"):
        template("arcface", 512)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="got 0"):
        template("gpen", 0)


def test_the_published_matrices(shared: Path) -> None:
    golden = json.loads((shared / "gpen" / "align_golden.json").read_text())
    for case in golden["cases"]:
        for size, expected in case["crops"].items():
            found = crop_from_frame(case["landmarks"], template("gpen", int(size)))
            published = np.array(expected["tfm"])
            assert np.abs(found - published)[:, 2].max() < 1e-2
            assert np.abs(found - published)[:, :2].max() < 1e-5 * expected["scale"]
            assert np.abs(found - expected["tfm_float64"]).max() < 1e-9
            assert np.abs(invert(found) - expected["tfm_inv"]).max() < 1e-3


@given(matrices)
def test_similarity_recovers_the_matrix_that_moved_the_points(truth: Array) -> None:
    source = template("ffhq", 100)
    found = similarity(source, apply(truth, source))
    assert np.allclose(found, truth, rtol=1e-6, atol=1e-6)


@given(matrices, offsets, st.sampled_from([(1e-3, 0, 0, 0), (0, 1e-3, 0, 0), (0, 0, 0.1, 0), (0, 0, 0, 0.1)]))
def test_no_similarity_near_by_fits_noisy_points_better(
    truth: Array, noise: list[float], step: tuple[float, float, float, float]
) -> None:
    source = template("gpen", 1) + np.array(noise).reshape(5, 2) / 4
    target = apply(truth, template("gpen", 1))
    found = similarity(source, target)

    def cost(m: Array) -> float:
        return float(((apply(m, source) - target) ** 2).sum())

    a, b, x, y = (s * np.linalg.norm(found[:, 0]) for s in step)
    for sign in (1, -1):
        assert cost(found) <= cost(found + sign * np.array([(a, -b, x), (b, a, y)])) * (1 + 1e-9) + 1e-12


@given(matrices)
def test_a_mirrored_face_is_turned_and_never_reflected(truth: Array) -> None:
    mirrored = template("gpen", 100) * (-1, 1)
    assert np.linalg.det(similarity(apply(truth, mirrored), template("gpen", 100))[:, :2]) > 0


@given(matrices, matrices)
def test_inverse_and_product_undo_each_other(crop_from_frame_: Array, frame_from_screen: Array) -> None:
    identity = np.eye(2, 3)
    assert np.allclose(compose(crop_from_frame_, invert(crop_from_frame_)), identity, atol=1e-6)
    crop_from_screen = compose(crop_from_frame_, frame_from_screen)
    back = compose(invert(frame_from_screen), invert(crop_from_frame_))
    assert np.allclose(compose(back, crop_from_screen), identity, atol=1e-4)
    points = template("gpen", 100)
    there = apply(crop_from_frame_, apply(frame_from_screen, points))
    assert np.allclose(apply(crop_from_screen, points), there, atol=1e-6 * np.abs(there).max())


@pytest.mark.parametrize(
    "landmarks",
    [np.full((5, 2), 100.3), np.zeros((5, 2)), np.full((5, 2), np.nan), np.full((5, 2), np.inf)],
)
def test_landmarks_that_are_no_face_are_an_error(landmarks: Array) -> None:
    with pytest.raises(FaceError, match="no similarity fits"):
        crop_from_frame(landmarks, template("gpen", 512))


def test_wrong_shapes_and_flat_matrices_are_an_error() -> None:
    with pytest.raises(OptionError, match=r"\(N, 2\), got \(2, 5\)"):
        crop_from_frame(np.zeros((2, 5)), template("gpen", 512))
    with pytest.raises(OptionError, match="5 and 4 points"):
        similarity(template("gpen", 512), template("gpen", 512)[:4])
    with pytest.raises(OptionError, match="inverse is needed"):
        invert([(1, 2, 3), (2, 4, 6)])


def test_alignment_error_is_a_fraction_of_the_eye_distance() -> None:
    points = template("ffhq", 512)
    right = np.array((0.3 * np.linalg.norm(points[1] - points[0]), 0))
    assert alignment_error(points, points) == 0
    assert np.isclose(alignment_error(points + right, points), 0.3)
    assert np.isclose(alignment_error((points + right) / 2, template("ffhq", 256)), 0.3)
    assert 0.05 < alignment_error(template("gpen", 512), points) < 0.15
