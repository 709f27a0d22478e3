"""The detector's training: labels, scenes, anchors and losses, the loop, and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from gpenvideo.errors import CheckpointError, FileMissing, MediaError, OptionError
from gpenvideo.faces.detector import RetinaFaceDetector, decode, grid_anchors
from gpenvideo.train.detector_data import Scene, Scenes, list_backgrounds
from gpenvideo.train.detector_labels import Label, label_portraits, read_labels, write_labels
from gpenvideo.train.detector_loop import DetectorOptions, export_detector, new_detector, train_detector
from gpenvideo.train.detector_losses import Batch, collate, detector_losses, encode, match
from gpenvideo.train.detector_report import Tally, best_threshold, compare, compare_scenes, tally_faces
from gpenvideo.train.portraits import read_picture, read_portraits

TEACHER = "data/weights/retinaface_mobilenet0.25_Final.pth"
POINTS = np.array([(35, 45), (65, 45), (50, 60), (38, 75), (62, 75)], np.float64)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))  # of the landmarks' dots


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Portraits that are a grey plate with a coloured dot at each landmark, and dark backgrounds."""
    root = tmp_path_factory.mktemp("detector")
    (root / "faces").mkdir()
    (root / "backgrounds").mkdir()
    plate = np.full((400, 400, 3), 90, np.uint8)
    for (x, y), colour in zip(POINTS * 4, COLOURS, strict=True):
        cv2.circle(plate, (int(x), int(y)), 14, colour, -1, cv2.LINE_AA)
    Image.fromarray(plate).save(root / "faces" / "plate.png")
    for number in range(9):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 60, (70, 90, 3), np.uint8)).save(
            root / "backgrounds" / f"{number}.png"
        )
    rows = "\n".join(f"{number}.png" for number in range(9))
    (root / "backgrounds" / "index.csv").write_text(f"file\n{rows}\n")
    return root


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return [Label("plate.png", (100, 100, 300, 360), tuple(tuple(point) for point in (POINTS * 4).tolist()))]


@pytest.fixture
def scenes(folder: Path, labels: list[Label]) -> Scenes:
    return Scenes(folder / "faces", labels, list_backgrounds(folder / "backgrounds")[0], seed=3)


def same(one: Scene, other: Scene) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_labels_come_back_from_their_file(tmp_path: Path, labels: list[Label]) -> None:
    write_labels(labels * 2, tmp_path / "labels.jsonl")
    assert read_labels(tmp_path / "labels.jsonl") == labels * 2
    (tmp_path / "other.jsonl").write_text('{"file": "a.png"}\n')
    with pytest.raises(MediaError, match=r"other\.jsonl"):
        read_labels(tmp_path / "other.jsonl")
    with pytest.raises(FileMissing):
        read_labels(tmp_path / "none.jsonl")


def test_a_teacher_labels_the_portraits_with_one_face(shared: Path, tmp_path: Path) -> None:
    teacher = RetinaFaceDetector(shared / TEACHER, threshold=0.5)
    portraits = read_portraits(shared / "data" / "faces", only_sources=["canada"])[:3]
    found = label_portraits(shared / "data" / "faces", portraits, teacher)
    assert [label.file for label in found] == [portrait.file for portrait in portraits]
    for label, portrait in zip(found, portraits, strict=True):
        points, known = np.array(label.landmarks), np.array(portrait.landmarks)
        eyes = np.linalg.norm(known[0] - known[1])
        assert np.linalg.norm(points - known, axis=1).max() < 0.25 * eyes
        left, top, right, bottom = label.box
        assert left < points[:, 0].min() < points[:, 0].max() < right
        assert top < points[:, 1].min() < points[:, 1].max() < bottom
    face = read_picture(shared / "data" / "faces" / portraits[0].file)
    Image.fromarray(np.concatenate([face, face], axis=1)).save(tmp_path / "two.png")
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "none.png")
    (tmp_path / "faces.csv").write_text(
        "file,identity,source,ffhq_side_px,eye_l_x,eye_l_y,eye_r_x,eye_r_y,nose_x,nose_y,"
        "mouth_l_x,mouth_l_y,mouth_r_x,mouth_r_y\n"
        + "".join(f"{name}.png,{name},a,300,1,1,9,1,5,5,2,8,8,8\n" for name in ("two", "none"))
    )
    assert label_portraits(tmp_path, read_portraits(tmp_path), teacher) == []


def test_every_eighth_background_is_held_out(folder: Path, tmp_path: Path) -> None:
    used, held_out = list_backgrounds(folder / "backgrounds")
    assert [file.name for file in held_out] == ["0.png", "8.png"]
    assert [file.name for file in used] == [f"{number}.png" for number in range(1, 8)]
    with pytest.raises(FileMissing):
        list_backgrounds(tmp_path)


def test_a_scene_depends_on_its_seed_and_key_alone(folder: Path, labels: list[Label], scenes: Scenes) -> None:
    keys = [(step, item, 96) for step in range(3) for item in range(4)]
    alone = [scenes[key] for key in keys]
    loader = DataLoader(scenes, batch_size=None, sampler=keys[::-1], num_workers=2)
    assert all(same(one, other) for one, other in zip(list(loader)[::-1], alone, strict=True))
    for one, other in pairwise(alone):
        assert not np.array_equal(one.picture, other.picture)
    reseeded = Scenes(folder / "faces", labels, scenes.backgrounds, seed=4)
    assert not np.array_equal(reseeded[keys[0]].picture, alone[0].picture)


def test_labels_follow_the_faces_into_the_scenes(folder: Path, labels: list[Label]) -> None:
    scenes = Scenes(
        folder / "faces", labels, list_backgrounds(folder / "backgrounds")[0], seed=0, degraded=False
    )
    right, there, mirrored = 0, 0, 0
    for item in range(60):
        picture, boxes, landmarks, certain = scenes[0, item, 256]
        for box, points in zip(boxes[certain], landmarks[certain], strict=True):
            assert (points >= box[:2] - 1).all()
            assert (points <= box[2:] + 1).all()
            across, down = points[1] - points[0], points[3] - points[0]
            assert across[0] * down[1] - across[1] * down[0] > 0, "left and right are as seen in the picture"
            inside = ((points > 0) & (points < 255)).all(axis=1)
            if box[2] - box[0] < 40 or not inside.all():
                continue
            colours = picture[tuple(np.rint(points[:, ::-1]).astype(int).T)].astype(float)
            hue = (colours > colours.mean(axis=1, keepdims=True)).astype(int)
            expected = (np.array(COLOURS) > 127).astype(int)
            turned = expected[[1, 0, 2, 4, 3]]
            there += 5
            right += int(max((hue == expected).all(1).sum(), (hue == turned).all(1).sum()))
            mirrored += int((hue == turned).all(1).sum() > (hue == expected).all(1).sum())
    assert there > 150
    assert right / there > 0.9  # the rest is behind something
    assert 0 < mirrored < there / 5


def test_scenes_have_the_promised_faces(scenes: Scenes) -> None:
    drawn = [scenes[0, item, 128] for item in range(150)]
    empty = sum(not len(scene.boxes) for scene in drawn) / len(drawn)
    assert 0.07 < empty < 0.25
    boxes = np.concatenate([scene.boxes for scene in drawn])
    widths = boxes[:, 2] - boxes[:, 0]
    assert widths.min() < 20
    assert widths.max() > 90
    assert max(len(scene.boxes) for scene in drawn) >= 4
    for scene in drawn:
        assert scene.picture.shape == (128, 128, 3)
        assert scene.picture.dtype == np.uint8
    grey = sum(bool((np.ptp(scene.picture, axis=2) <= 2).all()) for scene in drawn) / len(drawn)
    assert 0.2 < grey < 0.6


def test_scenes_need_faces_and_backgrounds(folder: Path, labels: list[Label]) -> None:
    with pytest.raises(OptionError):
        Scenes(folder / "faces", labels, [], seed=0)
    with pytest.raises(OptionError):
        Scenes(folder / "faces", [], [folder / "backgrounds" / "0.png"], seed=0)


@given(
    st.lists(st.floats(-300, 300), min_size=10, max_size=10),
    st.floats(-200, 200), st.floats(-200, 200), st.floats(1, 400), st.floats(1, 400),
)  # fmt: skip
def test_codes_decode_to_what_was_encoded(
    points: list[float], left: float, top: float, width: float, height: float
) -> None:
    anchors = grid_anchors(64, 64)
    box = torch.tensor([left, top, left + width, top + height]).expand(len(anchors), 4)
    landmarks = torch.tensor(points).view(1, 5, 2).expand(len(anchors), 5, 2)
    boxes, decoded = decode(*encode(anchors, box, landmarks), anchors)
    torch.testing.assert_close(boxes, box, rtol=0, atol=2e-2)
    torch.testing.assert_close(decoded, landmarks, rtol=0, atol=2e-2)


def plain_overlap(box: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(width, 0) * max(height, 0)
    return float(common / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - common))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_anchors_are_matched_as_the_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchors = grid_anchors(64, 96)
    corners = rng.uniform(0, (70, 40), (2, 3, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(14, 50, (2, 3, 2))], axis=2).astype(np.float32)
    kinds = rng.choice([1, 1, -1, 0], (2, 3))
    target, face = match(anchors, torch.from_numpy(boxes), torch.from_numpy(kinds))
    squares = np.concatenate(
        [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], axis=1
    )
    for i in range(2):
        overlap = np.array([[plain_overlap(square, box) for box in boxes[i]] for square in squares])
        overlap[:, kinds[i] == 0] = -1
        for j in np.flatnonzero(kinds[i] == 1):
            best = int(overlap[:, j].argmax())
            others = [k for k in np.flatnonzero(kinds[i] == 1) if k != j and overlap[:, k].argmax() == best]
            assert target[i, best] == 1
            assert others or face[i, best] == j
            overlap[best] = -2  # settled
        for a in np.flatnonzero(overlap.max(axis=1) > -2):
            best = overlap[a].max()
            if abs(best - 0.35) < 1e-5 or abs(best - 0.3) < 1e-5:
                continue
            if best >= 0.35 and kinds[i][overlap[a].argmax()] == 1:
                assert target[i, a] == 1
                assert face[i, a] == overlap[a].argmax()
            elif best >= 0.3:
                assert target[i, a] == -1
            else:
                assert target[i, a] == 0 or (kinds[i] == -1).any()


def one_face_batch() -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """A 64 px picture with one face; what to say of its anchors for a loss of nothing."""
    box = torch.tensor([[[20.0, 18.0, 44.0, 50.0]]])
    landmarks = torch.tensor([[[[26.0, 28], [38, 28], [32, 35], [27, 42], [37, 42]]]])
    black = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    batch = Batch(black, box, landmarks, torch.ones(1, 1, dtype=torch.int64))
    anchors = grid_anchors(64, 64)
    count = len(anchors)
    codes = encode(anchors, box[0].expand(count, 4), landmarks[0].expand(count, 5, 2))
    return batch, codes[0][None], codes[1][None]


def test_the_losses_are_those_of_the_papers() -> None:
    batch, box_codes, landmark_codes = one_face_batch()
    anchors = grid_anchors(64, 64)
    target = match(anchors, batch.boxes, batch.kinds)[0][0]
    positives = int((target == 1).sum())
    assert positives >= 1
    right = torch.where(target == 1, 20.0, -20.0)
    sure = torch.stack([-right, right], dim=-1)[None]
    assert float(detector_losses(sure, box_codes, landmark_codes, batch)["total"]) < 1e-4
    # Off by 0.1 (within the square part, d^2 / 0.5) and by 3 codes (d - 0.125), in 4 and in 10 coordinates of
    # each matched anchor, of which there count at least 20.
    share = positives / max(20, positives)
    losses = detector_losses(sure, box_codes + 0.1, landmark_codes - 3, batch)
    assert float(losses["box"]) == pytest.approx(share * 4 * 0.02, rel=1e-3)
    assert float(losses["landmark"]) == pytest.approx(share * 10 * 2.875, rel=1e-3)
    assert float(losses["total"]) == pytest.approx(share * (2 * 0.08 + 28.75), rel=1e-3)
    # Undecided everywhere: ln 2 for each matched anchor and for seven others each, but at least 140.
    undecided = torch.zeros_like(sure)
    others = min(int((target == 0).sum()), 7 * max(20, positives))
    expected = np.log(2) * (positives + others) / max(20, positives)
    score = float(detector_losses(undecided, box_codes, landmark_codes, batch)["score"])
    assert score == pytest.approx(expected, rel=1e-4)


def test_a_loss_without_faces_teaches_the_background() -> None:
    batch, box_codes, landmark_codes = one_face_batch()
    empty = replace(batch, kinds=torch.zeros_like(batch.kinds))
    logits = torch.zeros(1, box_codes.shape[1], 2, requires_grad=True)
    losses = detector_losses(logits, box_codes, landmark_codes, empty)
    assert float(losses["box"]) == float(losses["landmark"]) == 0
    losses["total"].backward()
    assert (logits.grad[..., 1] >= 0).all()
    assert (logits.grad[..., 1] > 0).any()


def test_uncertain_faces_teach_nothing() -> None:
    batch, box_codes, _ = one_face_batch()
    doubtful = replace(batch, kinds=-batch.kinds)
    target, _ = match(grid_anchors(64, 64), doubtful.boxes, doubtful.kinds)
    assert not (target == 1).any()
    certain = match(grid_anchors(64, 64), batch.boxes, batch.kinds)[0]
    assert (target[certain == 1] == -1).all()
    assert (target == 0).any()
    assert box_codes.shape[1] == target.shape[1]


def tiny(steps: int, save_every: int = 2, **more: object) -> DetectorOptions:
    options = {"steps": steps, "sizes_px": (64, 96), "pixels_per_step": 3 * 64 * 64, "warmup_steps": 2}
    return DetectorOptions(**(options | {"save_every": save_every, "workers": 0} | more))  # type: ignore[arg-type]


def losses_of(file: Path) -> list[tuple[int, float, float]]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [(row["step"], row["total"], row["lr"]) for row in rows]


def test_a_run_that_was_cut_off_goes_on_to_the_last_bit(scenes: Scenes, tmp_path: Path) -> None:
    list(train_detector(scenes, tmp_path / "whole", tiny(6)))
    list(islice(train_detector(scenes, tmp_path / "cut", tiny(6)), 3))  # one step past its checkpoint
    resumed = list(train_detector(scenes, tmp_path / "cut", tiny(6)))
    assert [stats["step"] for stats in resumed] == [2, 3, 4, 5]
    assert losses_of(tmp_path / "cut" / "stats.jsonl") == losses_of(tmp_path / "whole" / "stats.jsonl")
    states = [torch.load(tmp_path / run / "checkpoint.pth", weights_only=True) for run in ("whole", "cut")]
    for part in ("network", "average"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), name
    assert json.loads((tmp_path / "cut" / "options.json").read_text())["steps"] == 6


def test_a_folder_keeps_to_its_options(scenes: Scenes, tmp_path: Path) -> None:
    list(train_detector(scenes, tmp_path, tiny(2)))
    with pytest.raises(OptionError, match="other options"):
        next(train_detector(scenes, tmp_path, tiny(3)))
    assert list(train_detector(scenes, tmp_path, tiny(2))) == []
    with pytest.raises(OptionError, match="multiples of 32"):
        tiny(2, sizes_px=(100,))
    (tmp_path / "checkpoint.pth").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth"):
        next(train_detector(scenes, tmp_path, tiny(2)))


class OneScene(Dataset[Scene]):
    """The same scene again and again, a little brighter or darker."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def __getitem__(self, key: tuple[int, int, int]) -> Scene:
        gain = np.random.default_rng(key).uniform(0.8, 1.2)
        return self.scene._replace(picture=np.clip(self.scene.picture * gain, 0, 255).astype(np.uint8))


def plate_scene(folder: Path) -> Scene:
    """One plate of 48 px in the middle of 96 px of noise."""
    picture = np.random.default_rng(0).integers(0, 60, (96, 96, 3), np.uint8)
    plate = cv2.resize(read_picture(folder / "faces" / "plate.png"), (60, 60), interpolation=cv2.INTER_AREA)
    picture[20:80, 16:76] = plate
    scale = 60 / 400
    points = (POINTS * 4 + 0.5) * scale - 0.5 + (16, 20)
    box = np.array([[100, 100, 300, 360]]) * scale + (16, 20, 16, 20)
    return Scene(picture, box.astype(np.float32), points[None].astype(np.float32), np.array([True]))


def test_a_network_that_is_trained_on_a_scene_finds_its_face(folder: Path, tmp_path: Path) -> None:
    scene = plate_scene(folder)
    options = tiny(120, save_every=120, sizes_px=(96,), pixels_per_step=2 * 96 * 96, lr=5e-3, ema=0.8)
    stats = list(train_detector(OneScene(scene), tmp_path, options))
    assert stats[-1]["total"] < 0.15 * stats[0]["total"]
    export_detector(tmp_path / "checkpoint.pth", tmp_path / "detector.safetensors")
    assert (tmp_path / "detector.safetensors").stat().st_size < 1_000_000
    detector = RetinaFaceDetector(tmp_path / "detector.safetensors", threshold=0.5)
    tally = compare_scenes(detector, [scene])
    assert (tally.faces, tally.recall(0.5), tally.precision(0.5)) == (1, 1.0, 1.0)
    assert tally.landmark_difference(0.5) < 0.15


def test_what_is_exported_is_the_average(scenes: Scenes, tmp_path: Path) -> None:
    list(train_detector(scenes, tmp_path, tiny(2)))
    export_detector(tmp_path / "checkpoint.pth", tmp_path / "detector.safetensors")
    average = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["average"]
    picture = scenes[9, 9, 96].picture
    ours, exported = (
        RetinaFaceDetector(weights, threshold=0.0)([picture])[0]
        for weights in (average, tmp_path / "detector.safetensors")
    )
    assert len(ours) > 0
    np.testing.assert_allclose(
        [face.score for face in exported[:5]], [face.score for face in ours[:5]], atol=5e-3
    )
    with pytest.raises(CheckpointError, match="checkpoint"):
        export_detector(tmp_path / "options.json", tmp_path / "x.safetensors")
    with pytest.raises(FileMissing):
        export_detector(tmp_path / "none.pth", tmp_path / "x.safetensors")


def test_new_networks_are_drawn_from_their_seed() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (new_detector(seed).state_dict()["fpn.output1.0.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert 400_000 < sum(value.numel() for value in new_detector(0).parameters()) < 450_000


def test_a_batch_has_room_for_the_fullest_scene() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    empty = Scene(picture, *faces_of(), np.zeros(0, bool))
    two = Scene(
        picture,
        np.array([[0, 0, 9, 9], [4, 4, 20, 20]], np.float32),
        np.ones((2, 5, 2), np.float32),
        np.array([True, False]),
    )
    batch = collate([empty, two])
    assert batch.kinds.tolist() == [[0, 0], [1, -1]]
    assert batch.boxes[1, 0].tolist() == [0.5, 0.5, 9.5, 9.5]  # from the picture's corner
    assert collate([empty]).kinds.tolist() == [[0]]


def test_the_learning_rate_rises_and_falls() -> None:
    options = DetectorOptions(steps=100, warmup_steps=10, lr=1.0)
    rates = [options.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert int(np.argmax(rates)) in (8, 9, 10)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3


def faces_of(*boxes: tuple[float, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    size = corners[:, None, 2:] - corners[:, None, :2]
    return corners, (corners[:, None, :2] + POINTS / 100 * size).astype(np.float32)


def test_a_tally_counts_each_face_once() -> None:
    true_boxes, true_points = faces_of((0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 420, 20))
    counts = np.array([True, True, False])
    boxes, points = faces_of((2, 0, 102, 100), (0, 0, 100, 100), (400, 0, 420, 20), (600, 0, 700, 100))
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    tally = tally_faces(boxes, points, scores, true_boxes, true_points, counts)
    assert tally.hits.tolist() == [1, 0, -1, 0]
    assert tally.recall(0.5) == 0.5
    assert tally.precision(0.5) == pytest.approx(1 / 3)
    assert tally.precision(0.85) == 1.0
    assert tally.landmark_difference(0.5) == pytest.approx(2 / 30)  # 2 px off, eyes 30 px apart
    both = tally + tally
    assert (both.faces, both.recall(0.5)) == (4, 0.5)
    assert np.isnan(tally.recall(0.99)) or tally.recall(0.99) == 0
    assert np.isnan(tally.precision(0.99))


def test_a_threshold_is_chosen_where_both_are_high() -> None:
    scores = np.array([0.9, 0.8, 0.6, 0.3], np.float32)
    tally = Tally(3, scores, np.array([1, 1, 1, 0]), np.zeros(4, np.float32))
    assert 0.3 < best_threshold(tally) <= 0.6


def test_a_teacher_agrees_with_itself(shared: Path) -> None:
    teacher = RetinaFaceDetector(shared / TEACHER)
    files = sorted((shared / "data" / "faces" / "canada").glob("*.jpg"))[:2]
    tally = compare(teacher, teacher, [read_picture(file) for file in files])
    assert tally.faces == 2
    assert (tally.recall(0.9), tally.precision(0.9), tally.landmark_difference(0.9)) == (1.0, 1.0, 0.0)
