"""Landmarks looked at again: views, the network that sees them, how it is taught, and what it is worth."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo import CheckpointError, OptionError
from gpenvideo.face import Face
from gpenvideo.faces.detector import Images
from gpenvideo.faces.landmarks import MIRRORED, SIZE_PX, TEMPLATE, LandmarkNetwork, RefinedDetector, view_of
from gpenvideo.networks import load_detector
from gpenvideo.train.detector_labels import Label
from gpenvideo.train.landmark_data import Views
from gpenvideo.train.landmark_loop import LandmarkOptions, export_landmarks, train_landmarks

Points = NDArray[np.float64]


def spotted(landmarks: Points, size: tuple[int, int], radius_px: float) -> NDArray[np.uint8]:
    """A dark picture with a soft bright spot at each landmark."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((height, width))
    for px, py in landmarks:
        picture += 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius_px**2))
    return np.repeat(np.rint(picture.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=2)


def centre(view: NDArray[np.uint8]) -> Points:
    """Where the light of a view is."""
    y, x = np.mgrid[: len(view), : len(view)]
    light = view[..., 0].astype(float)
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 9), st.floats(-180, 180), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_view_shows_landmarks_where_the_template_has_them(
    scale: float, turn_deg: float, right: float, down: float
) -> None:
    """Whatever the size and the turn of the face; large ones are shrunk by means, which moves nothing."""
    turn = np.deg2rad(turn_deg)
    linear = scale * np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    landmarks = (TEMPLATE - TEMPLATE.mean(axis=0)) @ linear.T
    side = round(75 * scale) + 8
    landmarks += (side / 2 + right, side / 2 + 3 + down)
    for number, expected in enumerate(TEMPLATE):
        picture = spotted(landmarks[number : number + 1], (side + 5, side), 1.8 * scale)
        view, matrix = view_of(picture, landmarks)
        assert view.shape == (SIZE_PX, SIZE_PX, 3)
        np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-6)
        assert np.abs(centre(view) - expected).max() < 0.1


def test_a_view_reaches_over_the_edge() -> None:
    landmarks = TEMPLATE * 4 - 120
    view, _ = view_of(np.full((90, 130, 3), 77, np.uint8), landmarks)
    assert (view == 77).all()
    tiny, _ = view_of(np.full((3, 2, 3), 9, np.uint8), TEMPLATE * 8)
    assert (tiny == 9).all()


@pytest.fixture
def portraits(tmp_path: Path) -> tuple[Path, list[Label]]:
    """Two portraits with spots for landmarks."""
    labels = []
    for number in range(2):
        landmarks = TEMPLATE * (2.5 + 3 * number) + 30
        side = round(landmarks.max() + 60)
        picture = spotted(landmarks, (side, side), 4 + 5 * number) // 2 + 60
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture[..., ::-1])
        points = tuple(map(tuple, landmarks.tolist()))
        labels.append(Label(f"{number}.png", (0.0, 0.0, float(side), float(side)), points))
    return tmp_path, labels


def test_views_to_train_on_say_where_landmarks_are(portraits: tuple[Path, list[Label]]) -> None:
    views = Views(*portraits, seed=3)
    near, moved = 0, []
    for item in range(60):
        pixels, moves = views[0, item]
        assert (pixels.shape, pixels.dtype, moves.dtype) == ((64, 64, 3), np.uint8, np.float32)
        moved.append(moves)
        again = Views(*portraits, seed=3)[0, item] if item < 3 else (pixels, moves)
        assert np.array_equal(again[0], pixels)
        levels = pixels.astype(float).sum(axis=2)
        spots = [
            cv2.getRectSubPix(levels.astype(np.float32), (1, 1), tuple(map(float, point)))[0, 0]
            for point in TEMPLATE + moves
        ]
        near += np.mean(spots) > levels.mean() + 0.5 * levels.std()
    assert near >= 48  # others are occluded, or too bad to show a spot
    assert 1.0 < np.std(moved) < 5.0  # as wrong as a detector's landmarks, and now and then worse
    with pytest.raises(OptionError, match="labelled portraits"):
        Views(portraits[0], [], seed=0)


def run(folder: Path, views: Views, steps: int, **options: object) -> list[dict[str, float]]:
    made = LandmarkOptions(
        steps=40,
        batch=16,
        width=4,
        lr=4e-3,
        warmup_steps=1,
        save_every=5,
        workers=0,
        **options,  # type: ignore[arg-type]
    )
    return list(islice(train_landmarks(views, folder, made), steps))


def test_a_run_learns_and_goes_on_where_it_was_ended(
    portraits: tuple[Path, list[Label]], tmp_path: Path, one_thread: None
) -> None:
    views = Views(*portraits, seed=0)
    whole = run(tmp_path / "whole", views, 40)
    learned = [np.mean([stats["total"] for stats in part]) for part in (whole[:10], whole[-10:])]
    assert learned[1] < 0.85 * learned[0]
    run(tmp_path / "parts", views, 23)  # three steps more than were kept
    rest = run(tmp_path / "parts", views, 40)
    assert [stats["total"] for stats in rest] == [stats["total"] for stats in whole[20:]]
    lines = (tmp_path / "parts" / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(40))
    with pytest.raises(OptionError, match="other options"):
        run(tmp_path / "parts", views, 1, seed=1)
    export_landmarks(tmp_path / "whole" / "checkpoint.pth", tmp_path / "net.safetensors")
    network = LandmarkNetwork.of(tmp_path / "net.safetensors")
    pixels, _ = views[100, 0]
    with torch.inference_mode():
        told = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
    assert told.shape == (1, 5, 2)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not the weights of a landmark network"):
        LandmarkNetwork.of({"fpn.weight": torch.zeros(3)})
    state = LandmarkNetwork(4).state_dict()
    del state["head.bias"]
    with pytest.raises(CheckpointError, match="another network"):
        LandmarkNetwork.of(state)


class Rough:
    """Finds the same faces in every picture."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def __call__(self, images: Images) -> list[list[Face]]:
        return [list(self.faces) for _ in images]


def test_a_face_is_refined_alone_and_its_box_stays() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    weights = LandmarkNetwork(4).state_dict()
    faces = [
        Face(np.array([0, 0, 9, 9], np.float32), (TEMPLATE * scale + 5).astype(np.float32), 0.9)
        for scale in (1.0, 2.0, 3.0)
    ]
    point = Face(faces[0].box, np.full((5, 2), 7, np.float32), 0.5)  # no face has its eyes in one place
    image = rng.integers(0, 256, (220, 230, 3), dtype=np.uint8)
    together = RefinedDetector(Rough(*faces, point), weights)([image, image[:100]])
    assert [len(found) for found in together] == [4, 4]
    for face, refined in zip(faces, together[0], strict=False):
        assert np.array_equal(refined.box, face.box)
        assert refined.score == face.score
        assert not np.allclose(refined.landmarks, face.landmarks, atol=0.01)
        (alone,) = RefinedDetector(Rough(face), weights)([image])[0]
        assert np.array_equal(alone.landmarks, refined.landmarks)
    assert np.array_equal(together[0][3].landmarks, point.landmarks)


def test_the_default_landmarks_of_a_mirrored_picture_are_mirrored() -> None:
    from skimage.data import astronaut

    picture = np.ascontiguousarray(np.asarray(astronaut())[:300, 100:400])
    detector = load_detector(device="cpu")
    straight = detector([picture])[0][0].landmarks
    mirrored = detector([np.ascontiguousarray(picture[:, ::-1])])[0][0].landmarks[list(MIRRORED)]
    mirrored[:, 0] = picture.shape[1] - 1 - mirrored[:, 0]
    eyes_px = np.linalg.norm(straight[1] - straight[0])
    assert np.linalg.norm(straight - mirrored, axis=1).mean() < 0.03 * eyes_px
