"""What a detector is trained towards: anchors, the losses of labels, and those of a teacher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gpenvideo.errors import CheckpointError
from gpenvideo.faces.detector import RetinaFace, decode, grid_anchors, network_input
from gpenvideo.train.detector_data import Scene
from gpenvideo.train.detector_distillation import distillation_losses, hidden
from gpenvideo.train.detector_loop import DetectorOptions, new_detector, train_detector
from gpenvideo.train.detector_losses import Batch, collate, detector_losses, encode, match

pytestmark = pytest.mark.usefixtures("one_thread")


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
    batch = Batch(black, box, landmarks, torch.ones(1, 1, dtype=torch.int64), black)
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


def test_a_batch_has_room_for_the_fullest_scene() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    none = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, bool)
    empty = Scene(picture, *none, picture)
    two = Scene(
        picture,
        np.array([[0, 0, 9, 9], [4, 4, 20, 20]], np.float32),
        np.ones((2, 5, 2), np.float32),
        np.array([True, False]),
        picture + 1,
    )
    batch = collate([empty, two])
    assert batch.kinds.tolist() == [[0, 0], [1, -1]]
    assert batch.boxes[1, 0].tolist() == [0.5, 0.5, 9.5, 9.5]  # from the picture's corner
    assert batch.clean.float().mean((1, 2, 3)).tolist() == [0, 1]
    assert collate([empty]).kinds.tolist() == [[0]]


class Dots(Dataset[Scene]):
    """Noise with a bright dot, which is an uncertain face in every second scene; degraded: darker."""

    def __getitem__(self, key: tuple[int, int, int]) -> Scene:
        step, item, side = key
        rng = np.random.default_rng(key)
        clean = rng.integers(0, 90, (side, side, 3), np.uint8)
        left, top = rng.integers(0, side - 24, 2)
        clean[top : top + 24, left : left + 24] += 120
        box = np.array([[left, top, left + 24, top + 24]], np.float32) - 0.5
        landmarks = box[:, None, :2] + np.linspace(4, 20, 10, dtype=np.float32).reshape(1, 5, 2)
        return Scene(clean // 2, box, landmarks, np.array([(step + item) % 2 == 0]), clean)


def dots(count: int = 4, side: int = 64) -> Batch:
    return collate([Dots()[0, item, side] for item in range(count)])


@pytest.fixture(scope="module")
def teacher() -> RetinaFace:
    """A random network whose batch norms have seen pictures, so that these are not all one to it."""
    network = new_detector(11)
    with torch.no_grad():
        for step in range(30):
            network(network_input(collate([Dots()[step, item, 64] for item in range(2)]).clean))
    return network.eval()


def test_a_student_that_says_what_its_teacher_says_has_nothing_to_learn(teacher: RetinaFace) -> None:
    batch = dots()
    with torch.no_grad():
        said = teacher(network_input(batch.clean))
    losses = distillation_losses(*said, batch, teacher)
    assert all(abs(float(value)) < 1e-6 for value in losses.values())
    with torch.no_grad():
        of_the_degraded = teacher(network_input(batch.pictures))
    assert float(distillation_losses(*of_the_degraded, batch, teacher)["total"]) > 0.01


def test_the_losses_of_a_teacher_are_those_of_the_definition(teacher: RetinaFace) -> None:
    batch = dots()
    with torch.no_grad():
        student = new_detector(12).train()(network_input(batch.pictures))
        said = teacher(network_input(batch.clean))
    anchors = grid_anchors(64, 64)
    chances, wanted = (
        (o[0].double().exp() / o[0].double().exp().sum(-1, keepdim=True)) for o in (student, said)
    )
    expected = dict.fromkeys(("score", "box", "landmark"), 0.0)
    for side in (16, 32, 64, 128, 256, 512):
        count, terms = 0.0, dict.fromkeys(expected, 0.0)
        for n in range(4):
            left, top, right, bottom = batch.boxes[n, 0].tolist()
            for a in np.flatnonzero(anchors[:, 2] == side):
                x, y = anchors[a, :2].tolist()
                if left <= x <= right and top <= y <= bottom and batch.kinds[n, 0] == -1:
                    continue
                p, q = wanted[n, a].numpy(), chances[n, a].numpy()
                count += p[1]
                terms["score"] += float((p * np.log(p / q)).sum())
                for name, which in (("box", 1), ("landmark", 2)):
                    off = np.abs((student[which][n, a] - said[which][n, a]).numpy())
                    smooth = np.where(off < 0.25, off**2 / 0.5, off - 0.125).sum()
                    terms[name] += float(smooth) * p[1] if p[1] > 0.05 else 0.0
        for name, value in terms.items():
            expected[name] += value / max(20, count) / 6
    losses = distillation_losses(*student, batch, teacher)
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-3), name
    total = expected["score"] + 2 * expected["box"] + expected["landmark"]
    assert float(losses["total"]) == pytest.approx(total, rel=1e-3)


def test_nothing_is_learnt_of_faces_too_degraded_to_be_seen(teacher: RetinaFace) -> None:
    batch = dots()
    upon = hidden(grid_anchors(64, 64), batch)
    assert upon.any(1).tolist() == [False, True, False, True]
    with torch.no_grad():
        outputs = new_detector(12).train()(network_input(batch.pictures))
    leaves = [output.clone().requires_grad_() for output in outputs]
    distillation_losses(*leaves, batch, teacher)["total"].backward()
    for leaf in leaves:
        assert (leaf.grad[upon] == 0).all()
        assert (leaf.grad[~upon] != 0).any()


def run(out: Path, teacher: RetinaFace, **more: object) -> Iterator[dict[str, float]]:
    options = {"sizes_px": (64,), "pixels_per_step": 4 * 64 * 64, "warmup_steps": 2, "workers": 0}
    start_from = more.pop("start_from", None)
    return train_detector(
        Dots(),
        out,
        DetectorOptions(**(options | more)),
        teacher=teacher,
        start_from=start_from,  # type: ignore[arg-type]
    )


def test_a_student_comes_to_say_what_its_teacher_says(teacher: RetinaFace, tmp_path: Path) -> None:
    stats = list(run(tmp_path, teacher, steps=60, save_every=60, lr=5e-3, ema=0.8, norm_steps=40))
    totals = [one["total"] for one in stats]
    assert np.mean(totals[-5:]) < 0.5 * np.mean(totals[:5])
    average = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["average"]
    batch = collate([Dots()[999, item, 64] for item in range(4)])
    student, untaught = new_detector(0), new_detector(0)
    student.load_state_dict(average)
    with torch.no_grad():
        off = [
            float(distillation_losses(*network(network_input(batch.pictures)), batch, teacher)["total"])
            for network in (student.eval(), untaught.train())
        ]
    assert off[0] < 0.6 * off[1]


def test_norms_stay_as_they_are_from_the_step_on_that_was_asked_for(
    teacher: RetinaFace, tmp_path: Path
) -> None:
    list(run(tmp_path / "whole", teacher, steps=6, save_every=3, norm_steps=3))
    list(islice(run(tmp_path / "cut", teacher, steps=6, save_every=3, norm_steps=3), 3))
    at_three = torch.load(tmp_path / "cut" / "checkpoint.pth", weights_only=True)
    list(run(tmp_path / "cut", teacher, steps=6, save_every=3, norm_steps=3))
    whole, cut = (
        torch.load(tmp_path / name / "checkpoint.pth", weights_only=True) for name in ("whole", "cut")
    )
    for name, value in whole["network"].items():
        assert torch.equal(value, cut["network"][name]), name
        if "running" in name:
            assert torch.equal(value, at_three["average"][name]), name
    assert json.loads((tmp_path / "cut" / "options.json").read_text())["norm_steps"] == 3


def test_a_run_starts_from_the_weights_it_is_given(teacher: RetinaFace, tmp_path: Path) -> None:
    state = teacher.state_dict()
    list(run(tmp_path, teacher, steps=1, save_every=1, lr=0.0, norm_steps=0, start_from=state))
    after = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["network"]
    assert all(torch.equal(value, after[name]) for name, value in state.items())
    state = {name: value for name, value in state.items() if "ssh1" not in name}
    with pytest.raises(CheckpointError, match="missing"):
        next(run(tmp_path / "other", teacher, steps=1, start_from=state))
