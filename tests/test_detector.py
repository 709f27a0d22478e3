import csv
import pickle
import random
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from gpenvideo.errors import CheckpointError, FileMissing, OptionError
from gpenvideo.faces.detector import (
    LEVELS,
    MEAN_BGR,
    PICTURES_A_RUN,
    RetinaFaceDetector,
    decode,
    grid_anchors,
    network_input,
)

Picture = NDArray[np.uint8]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def random_state() -> State:
    """Random weights of facexlib's own mobilenet0.25, with batch norms that have seen some noise."""
    from facexlib.detection.retinaface import RetinaFace

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        network = RetinaFace("mobile0.25", device="cpu").train()
        for _ in range(30):
            network(60 * torch.randn(4, 3, 64, 64))
    return dict(network.state_dict())


@pytest.fixture(scope="module")
def detector(shared: Path) -> RetinaFaceDetector:
    return RetinaFaceDetector(shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth")


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[tuple[Picture, NDArray[np.float64]]]:
    """Four pictures of each source with their five landmarks."""
    folder = shared / "data" / "faces"
    rows = list(csv.DictReader((folder / "faces.csv").read_text().splitlines()))
    chosen = random.Random(7)
    by_source: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    points = ("eye_l", "eye_r", "nose", "mouth_l", "mouth_r")
    return [
        (
            np.asarray(Image.open(folder / row["file"]).convert("RGB")),
            np.array([(float(row[f"{point}_x"]), float(row[f"{point}_y"])) for point in points]),
        )
        for source in by_source.values()
        for row in chosen.sample(source, 4)
    ]


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_photographed_faces_are_found_where_they_are(
    detector: RetinaFaceDetector, photographs: list[tuple[Picture, NDArray[np.float64]]]
) -> None:
    errors = []
    for (_, truth), faces in zip(photographs, detector([p for p, _ in photographs]), strict=True):
        eyes = np.linalg.norm(truth[1] - truth[0])
        off = [np.linalg.norm(face.landmarks - truth, axis=1) / eyes for face in faces]
        errors.extend(best for best in sorted(off, key=np.mean)[:1] if best.mean() < 0.5)
    assert len(photographs) >= 40
    assert len(errors) >= 0.9 * len(photographs)
    assert np.median(np.concatenate(errors)) < 0.06


def test_pictures_without_faces_raise_few_false_alarms(shared: Path, detector: RetinaFaceDetector) -> None:
    folder = shared / "data" / "backgrounds"
    rows = random.Random(7).sample(list(csv.DictReader((folder / "index.csv").read_text().splitlines())), 60)
    found = [detector([np.asarray(Image.open(folder / row["file"]).convert("RGB"))])[0] for row in rows]
    assert sum(map(len, found)) <= 1


def test_pixels_are_counted_from_the_centre_of_the_first_one(
    detector: RetinaFaceDetector, photographs: list[tuple[Picture, NDArray[np.float64]]]
) -> None:
    """A mirrored picture's face is the picture's face mirrored, without half a pixel between them."""
    framed = np.full((2 * len(photographs), 192, 192, 3), 120, dtype=np.uint8)
    for i, frame in enumerate(framed):
        picture = photographs[i // 2][0]
        factor = (64, 160)[i % 2] / max(picture.shape)
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        frame[9 : 9 + small.shape[0], 13 : 13 + small.shape[1]] = small
    shifts = [
        float((straight[0].landmarks[:, 0] + mirrored[0].landmarks[[1, 0, 2, 4, 3], 0] - 191).mean()) / 2
        for straight, mirrored in zip(detector(framed), detector(framed[:, :, ::-1]), strict=True)
        if straight and mirrored
    ]
    assert len(shifts) > 60
    assert abs(np.mean(shifts)) < 0.25


def test_a_face_is_where_it_is_at_any_size_and_beside_other_pictures(detector: RetinaFaceDetector) -> None:
    skimage = pytest.importorskip("skimage.data")
    picture = skimage.astronaut()
    large = cv2.resize(picture, (1536, 1536), interpolation=cv2.INTER_CUBIC)
    grey = np.repeat(picture[..., 1:2], 3, axis=2)
    turned = np.rot90(picture)
    alone, *_ = detector([picture])
    together = detector([picture, large, grey, noise(1, 1), turned, picture])
    assert [len(faces) for faces in (alone, *together[:4])] == [1, 1, 1, 1, 0]
    face = alone[0]
    eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
    left, top, right, bottom = face.box
    assert 170 < left < 200 < 250 < right < 290
    assert 40 < top < 90 < 160 < bottom < 200
    assert ((face.landmarks > (left, top)) & (face.landmarks < (right, bottom))).all()
    for again in (together[0][0], together[5][0]):
        assert np.abs(again.landmarks - face.landmarks).max() < 0.01
    assert np.abs((together[1][0].landmarks + 0.5) / 3 - 0.5 - face.landmarks).max() < 0.15 * eyes
    assert np.abs(together[2][0].landmarks - face.landmarks).max() < 0.1 * eyes


def test_a_pictures_faces_do_not_depend_on_the_others_of_its_run(random_state: State) -> None:
    pictures = [noise(64, 96, seed) for seed in range(2 * PICTURES_A_RUN + 3)]
    for dtype in (torch.float32, torch.bfloat16):
        detector = RetinaFaceDetector(random_state, threshold=0, dtype=dtype)
        together = detector(pictures)
        assert [len(detector([p])[0]) for p in pictures[:3]] == [len(faces) for faces in together[:3]]
        for i in (0, 7, len(pictures) - 1):
            alone = detector([pictures[i]])[0]
            for face, again in zip(alone[:3], together[i][:3], strict=True):
                assert np.abs(face.landmarks - again.landmarks).max() < 1e-2
                assert np.abs(face.box - again.box).max() < 1e-2


def test_half_the_precision_moves_landmarks_by_less_than_a_hundredth(
    shared: Path, detector: RetinaFaceDetector, photographs: list[tuple[Picture, NDArray[np.float64]]]
) -> None:
    weights = shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth"
    fast = RetinaFaceDetector(weights, dtype=torch.bfloat16)
    pictures = [picture for picture, _ in photographs[::2]]
    shifts = []
    for exact, found in zip(detector(pictures), fast(pictures), strict=True):
        assert bool(exact) == bool(found)
        for face, again in zip(exact[:1], found[:1], strict=True):
            eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
            shifts.append(np.linalg.norm(face.landmarks - again.landmarks, axis=1).mean() / eyes)
    assert len(shifts) >= 20
    assert np.median(shifts) < 0.01


def test_the_networks_input_is_bgr_about_its_means() -> None:
    picture = noise(5, 7)
    seen = network_input(torch.from_numpy(picture[None]))
    assert seen.shape == (1, 3, 5, 7)
    expected = picture[..., ::-1].astype(np.float32) - np.array(MEAN_BGR, dtype=np.float32)
    assert np.array_equal(seen[0].permute(1, 2, 0).numpy(), expected)


def test_random_weights_load_and_run(random_state: State, tmp_path: Path) -> None:
    plain, parallel, safe = (tmp_path / name for name in ("plain.pth", "parallel.pth", "safe.safetensors"))
    torch.save(random_state, plain)
    torch.save({f"module.{name}": value for name, value in random_state.items()}, parallel)
    save_file({name: value.contiguous() for name, value in random_state.items()}, safe)
    pictures = [noise(70, 101), noise(40, 33, 1), noise(70, 101, 2)]
    found = [RetinaFaceDetector(w, threshold=0)(pictures) for w in (plain, parallel, safe, random_state)]
    scores = [face.score for face in found[0][0]]
    assert len(scores) > 5
    assert scores == sorted(scores, reverse=True)
    for other in found[1:]:
        assert repr(other) == repr(found[0])
    assert "mobilenet0.25 on cpu" in repr(RetinaFaceDetector(plain))


def test_the_network_is_facexlibs(random_state: State) -> None:
    """Raw outputs, with batch norms folded, against facexlib's own class; pixels against its decoding."""
    from facexlib.detection.retinaface import RetinaFace as Reference
    from facexlib.detection.retinaface_utils import PriorBox
    from facexlib.detection.retinaface_utils import decode as decode_boxes
    from facexlib.detection.retinaface_utils import decode_landm as decode_landmarks

    reference = Reference("mobile0.25", device="cpu")
    reference.load_state_dict(random_state)
    pictures = torch.randn(2, 3, 75, 98, generator=torch.Generator().manual_seed(1)) * 60
    with torch.inference_mode():
        box_codes, scores, landmark_codes = reference(pictures)
        logits, boxes, landmarks = RetinaFaceDetector(random_state).network(pictures)
    assert torch.allclose(boxes, box_codes, atol=1e-4)
    assert torch.allclose(logits.softmax(-1), scores, atol=1e-4)
    assert torch.allclose(landmarks, landmark_codes, atol=1e-4)
    priors = PriorBox(reference.cfg, image_size=(75, 98)).forward()
    size = torch.tensor((98.0, 75.0))
    ours = decode(box_codes[0], landmark_codes[0], grid_anchors(75, 98))
    theirs = decode_boxes(box_codes[0], priors, (0.1, 0.2)) * size.repeat(2)
    assert torch.allclose(ours[0], theirs, atol=1e-2, rtol=1e-4)
    theirs = decode_landmarks(landmark_codes[0], priors, (0.1, 0.2)) * size.repeat(5)
    assert torch.allclose(ours[1].flatten(1), theirs, atol=1e-2, rtol=1e-4)


def test_a_picture_goes_in_as_facexlib_sends_it(random_state: State) -> None:
    from facexlib.detection.retinaface import RetinaFace as Reference

    reference = Reference("mobile0.25", device="cpu")
    reference.load_state_dict(random_state)
    picture = noise(90, 120)
    with torch.inference_mode():
        best = reference.detect_faces(picture[..., ::-1], conf_threshold=0)[0]
    face = RetinaFaceDetector(random_state, threshold=0)([picture])[0][0]
    assert abs(face.score - best[4]) < 1e-4
    assert np.abs(face.box + 0.5 - best[:4]).max() < 0.05
    assert np.abs(face.landmarks.ravel() + 0.5 - best[5:]).max() < 0.05


def test_the_weights_say_which_body_they_are_of() -> None:
    from facexlib.detection.retinaface import RetinaFace as Reference

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision", category=UserWarning)
        reference = Reference("resnet50", device="cpu")
    detector = RetinaFaceDetector(reference.state_dict(), threshold=0.0)
    assert "resnet50" in repr(detector)
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 60
    with torch.inference_mode():
        expected, found = reference(picture)[0], detector.network(picture)[1]
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def test_anchors_and_decoding_are_exact() -> None:
    anchors = grid_anchors(33, 64)
    assert len(anchors) == 2 * (5 * 8 + 3 * 4 + 2 * 2)
    assert anchors[:3].tolist() == [[4, 4, 16], [4, 4, 32], [12, 4, 16]]
    assert anchors[2 * 8].tolist() == [4, 12, 16]
    assert anchors[-1].tolist() == [48, 48, 512]
    assert {stride for stride, _ in LEVELS} == {8, 16, 32}
    codes = torch.tensor([[0.0, 0, 0, 0], [5, -10, 5 * np.log(2), 5 * np.log(0.5)]], dtype=torch.float32)
    points = torch.tensor([[0.0] * 10, [10, 0, 0, 10, 1, 1, -10, 0, 0, -10]])
    boxes, landmarks = decode(codes, points, torch.tensor([(100.0, 60, 32), (100, 60, 20)]))
    assert torch.allclose(boxes, torch.tensor([(84.0, 44, 116, 76), (90, 35, 130, 45)]))
    expected = torch.tensor([(120.0, 60), (100, 80), (102, 62), (80, 60), (100, 40)])
    assert torch.equal(landmarks[0], torch.tensor((100.0, 60)).repeat(5, 1))
    assert torch.allclose(landmarks[1], expected)


def test_pictures_that_are_too_small_or_none_have_no_faces(random_state: State) -> None:
    detector = RetinaFaceDetector(random_state, threshold=0)
    assert detector([]) == []
    assert detector([noise(1, 1), noise(15, 400), np.zeros((0, 0, 3), np.uint8)]) == [[], [], []]
    assert len(detector([noise(16, 2000)])) == 1
    for picture in (noise(32, 32)[..., 0], noise(32, 32).astype(np.float32)):
        with pytest.raises(OptionError, match=r"\(H, W, 3\) uint8 RGB, got"):
            detector([picture])  # type: ignore[list-item]


def test_options_out_of_range_are_refused(random_state: State) -> None:
    with pytest.raises(OptionError, match=r"got 1\.5"):
        RetinaFaceDetector(random_state, threshold=1.5)
    with pytest.raises(OptionError, match="16 or more, got 8"):
        RetinaFaceDetector(random_state, max_side_px=8)
    with pytest.raises(OptionError, match=r"torch\.float16"):
        RetinaFaceDetector(random_state, dtype=torch.float16)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_files_that_are_not_the_weights_say_so(
    random_state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileMissing, match=r"none\.pth: cannot read it"):
        RetinaFaceDetector(tmp_path / "none.pth")
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    torch.save(random_state, good)
    for content in (b"", b"no weights", good.read_bytes()[:-5000], pickle.dumps(Evil())):
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.pth: damaged, or not network weights"):
            RetinaFaceDetector(bad)
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="damaged"):
        RetinaFaceDetector(tmp_path / "bad.safetensors")
    assert "executed" not in capsys.readouterr().out


def test_weights_of_another_network_are_refused(random_state: State) -> None:
    with pytest.raises(CheckpointError, match="not the weights of a RetinaFace"):
        RetinaFaceDetector({"conv.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="names and tensors"):
        RetinaFaceDetector({"state_dict": random_state})  # type: ignore[dict-item]
    fewer = {name: value for name, value in random_state.items() if name != "ssh2.conv3X3.0.weight"}
    with pytest.raises(CheckpointError, match=r"1 missing \['ssh2\.conv3X3\.0\.weight'\], 0 unexpected"):
        RetinaFaceDetector(fewer)
    with pytest.raises(CheckpointError, match=r"1 unexpected \['extra'\]"):
        RetinaFaceDetector({**random_state, "extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="do not fit"):
        RetinaFaceDetector({**random_state, "BboxHead.0.conv1x1.bias": torch.zeros(7)})
