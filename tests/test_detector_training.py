"""The detector's training: labels, scenes, anchors and losses, the loop, and the report."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from gpenvideo.errors import CheckpointError, FileMissing, MediaError, OptionError
from gpenvideo.faces.detector import RetinaFaceDetector
from gpenvideo.faces.portraits import read_picture, read_portraits
from gpenvideo.train.detector_data import Scene, Scenes, list_backgrounds
from gpenvideo.train.detector_labels import Label, label_portraits, read_labels, write_labels
from gpenvideo.train.detector_loop import DetectorOptions, export_detector, new_detector, train_detector
from gpenvideo.train.detector_report import compare_scenes

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
        picture, boxes, landmarks, certain, clean = scenes[0, item, 256]
        assert np.array_equal(picture, clean), "not degraded"
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


def test_a_scene_is_degraded_after_it_is_composed(folder: Path, labels: list[Label], scenes: Scenes) -> None:
    plain = Scenes(folder / "faces", labels, scenes.backgrounds, seed=3, degraded=False)
    changed = 0
    for item in range(40):
        scene, composed = scenes[1, item, 96], plain[1, item, 96]
        assert np.array_equal(scene.clean, composed.picture)
        assert np.array_equal(scene.boxes, composed.boxes)
        changed += int(not np.array_equal(scene.picture, scene.clean))
    assert 10 < changed < 38


def test_scenes_need_faces_and_backgrounds(folder: Path, labels: list[Label]) -> None:
    with pytest.raises(OptionError):
        Scenes(folder / "faces", labels, [], seed=0)
    with pytest.raises(OptionError):
        Scenes(folder / "faces", [], [folder / "backgrounds" / "0.png"], seed=0)


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
    return Scene(picture, box.astype(np.float32), points[None].astype(np.float32), np.array([True]), picture)


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
    export_detector(tmp_path / "checkpoint.pth", tmp_path / "detector.safetensors", score_shift=0.7)
    shifted = RetinaFaceDetector(tmp_path / "detector.safetensors", threshold=0.0)([picture])[0]
    odds = [np.array([face.score / (1 - face.score) for face in faces[:5]]) for faces in (ours, shifted)]
    np.testing.assert_allclose(np.log(odds[1]) - np.log(odds[0]), 0.7, atol=0.03)
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


def test_the_learning_rate_rises_and_falls() -> None:
    options = DetectorOptions(steps=100, warmup_steps=10, lr=1.0)
    rates = [options.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert int(np.argmax(rates)) in (8, 9, 10)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3
