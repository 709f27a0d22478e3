import json
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gpenvideo.errors import CheckpointError, FileMissing, OptionError
from gpenvideo.faces.alignment import crop_from_frame, similarity, template
from gpenvideo.faces.detector import RetinaFaceDetector
from gpenvideo.faces.mask import Parser, feather, parsed, rounded, soften


def test_the_published_softening(shared: Path) -> None:
    golden = json.loads((shared / "gpen" / "align_golden.json").read_text())["mask_feather"]
    ones = feather(512)
    assert np.abs(ones[256, :64] - golden["all_ones_row256_x0_63"]).max() < 1 / 255
    assert np.abs(np.diag(ones)[:64] - golden["all_ones_diagonal_0_63"]).max() < 1 / 255
    half = np.zeros((512, 512), dtype=np.float32)
    half[:, 256:] = 1
    assert np.abs(soften(half)[256, 224:288] - golden["right_half_ones_row256_x224_287"]).max() < 1 / 255


@pytest.mark.parametrize("size_px", [64, 128, 256, 1024])
def test_the_soft_edge_scales_with_the_crop(size_px: int) -> None:
    at_512 = np.interp((np.arange(size_px) + 0.5) / size_px, (np.arange(512) + 0.5) / 512, feather(512)[256])
    assert np.abs(feather(size_px)[size_px // 2] - at_512).max() < 4 / size_px


TEMPLATES: list[Literal["ffhq", "gpen"]] = ["ffhq", "gpen"]


def ellipse(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, N) points spread evenly over the ellipse in a box (x0, y0, x1, y1)."""
    turn, far = np.meshgrid(np.linspace(0, 2 * np.pi, 90), np.sqrt(np.linspace(0.005, 1, 40)))
    x, y = (box[:2, None] + box[2:, None]) / 2 + (box[2:, None] - box[:2, None]) / 2 * np.stack(
        [(far * np.cos(turn)).ravel(), (far * np.sin(turn)).ravel()]
    )
    return np.stack([x, y])


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("size_px", [64, 250, 512])
def test_the_mask_without_a_parser_covers_the_face_and_ends_before_the_border(
    size_px: int, name: Literal["ffhq", "gpen"]
) -> None:
    landmarks = template(name, size_px)
    mask = rounded(size_px, landmarks)
    assert mask.dtype == np.float32
    assert mask.shape == (size_px, size_px)
    x, y = np.rint(landmarks).astype(int).T
    assert (mask[y, x] == 1).all()
    assert max(edge.max() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) < 0.02
    assert np.abs(np.diff(mask, axis=0)).max() < 16 / size_px
    assert np.abs(np.diff(mask, axis=1)).max() < 16 / size_px


def test_both_templates_cover_the_same_part_of_a_face() -> None:
    ffhq, gpen = (rounded(512, template(name, 512)) for name in TEMPLATES)
    gpen_from_ffhq = similarity(template("ffhq", 512), template("gpen", 512))
    moved = cv2.warpAffine(gpen, gpen_from_ffhq, (512, 512), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    assert np.abs(moved - ffhq).max() < 0.02


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("turn_deg", [0, 30])
def test_the_mask_covers_real_faces_and_not_much_more(
    shared: Path, name: Literal["ffhq", "gpen"], turn_deg: float
) -> None:
    """In the picture, its rectangle is at most three times the box that RetinaFace finds."""
    detector = RetinaFaceDetector(
        shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth", max_side_px=320
    )
    mask = rounded(256, template(name, 256))
    rows = (shared / "data" / "faces" / "faces.csv").read_text().splitlines()[1:]
    measured = 0
    for row in rows[::200]:
        picture = cv2.imread(str(shared / "data" / "faces" / row.split(",")[0]))
        assert picture is not None
        shrink = 320 / max(picture.shape[:2])
        turn = cv2.getRotationMatrix2D((picture.shape[1] / 2, picture.shape[0] / 2), turn_deg, shrink)
        turn[:, 2] += np.array((320, 320)) / 2 - np.array(picture.shape[1::-1]) / 2
        turned = np.asarray(cv2.warpAffine(picture, turn, (320, 320)), dtype=np.uint8)[..., ::-1]
        for face in detector([np.ascontiguousarray(turned)])[0][:1]:
            matrix = crop_from_frame(face.landmarks, template(name, 256))
            matrix[:, 2] -= matrix[:, :2] @ (320, 320)  # beside the picture too
            on_picture = cv2.warpAffine(
                mask, matrix, (960, 960), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
            ys, xs = np.nonzero(on_picture > 0.5 / 255)
            box = np.asarray(face.box, dtype=float)
            area = (np.ptp(xs) + 1) * (np.ptp(ys) + 1)
            assert area <= 3 * (box[2] - box[0]) * (box[3] - box[1]), row
            x, y = np.rint(ellipse(box)).astype(int) + 320
            assert (on_picture[y, x] > 0.01).mean() > 0.93, row
            measured += 1
    assert measured >= 10


def test_background_hat_and_cloth_are_not_the_face() -> None:
    labels = np.full((512, 512), 13, dtype=np.uint8)  # hair
    labels[:, :256] = np.repeat([0, 14, 18, 0], 128)[:, None]
    mask = parsed(labels)
    assert mask[:, :230].max() < 1e-3
    assert mask[256, 300] > 0.999
    assert np.array_equal(mask[:, 300:], feather(512)[:, 300:])


def test_labels_and_masks_of_another_kind_are_refused() -> None:
    with pytest.raises(OptionError, match="below 19"):
        parsed(np.full((64, 64), 255, dtype=np.uint8))
    with pytest.raises(OptionError, match="float64"):
        soften(np.ones((64, 64)))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"\(64, 32\)"):
        soften(np.ones((64, 32), dtype=np.float32))


@pytest.fixture(scope="module")
def parsing_state() -> dict[str, torch.Tensor]:
    from facexlib.parsing.parsenet import ParseNet

    return dict(ParseNet(in_size=512, out_size=512, parsing_ch=19).state_dict())


def test_a_parser_reads_its_weights_from_a_file(
    parsing_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Weights whose last bias makes the network see hair everywhere."""
    bias = torch.zeros(19)
    bias[13] = 1e4
    torch.save({**parsing_state, "out_mask_conv.conv2d.bias": bias}, tmp_path / "parsing.pth")
    parser = Parser(tmp_path / "parsing.pth")
    crop = np.random.default_rng(0).uniform(-1, 1, (128, 128, 3)).astype(np.float32)
    mask = parser(crop)
    assert mask.shape == (128, 128)
    assert mask.dtype == np.float32
    assert np.abs(mask - feather(128)).max() < 0.02


def test_a_parser_without_its_weights_says_so(parsing_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"none\.pth"):
        Parser(tmp_path / "none.pth")
    (tmp_path / "damaged.pth").write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match=r"damaged\.pth: damaged"):
        Parser(tmp_path / "damaged.pth")
    del parsing_state["encoder.0.conv2d.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing \['encoder\.0\.conv2d\.weight'\]"):
        Parser(parsing_state)
