import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gpenvideo.errors import CheckpointError, FileMissing, OptionError
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


@pytest.mark.parametrize("size_px", [64, 250, 512])
def test_the_mask_without_a_parser_is_whole_inside_and_ends_before_the_border(size_px: int) -> None:
    mask = rounded(size_px)
    assert mask.dtype == np.float32
    assert mask.shape == (size_px, size_px)
    middle = slice(size_px // 4, size_px - size_px // 4)
    assert (mask[middle, middle] == 1).all()
    assert mask[0].max() < 0.02
    assert mask[0, 0] == 0
    assert np.array_equal(mask, mask[::-1])
    assert np.array_equal(mask, mask.T)
    steps = np.diff(mask[size_px // 2, : size_px // 2])
    assert (steps >= 0).all()
    assert steps.max() < 16 / size_px


def test_the_rounded_mask_is_half_where_the_published_margin_ends() -> None:
    row = rounded(512)[256]
    assert np.abs(row[[25, 26]] - 0.5).max() < 0.03
    assert rounded(512)[40, 40] == 0
    assert feather(512)[40, 40] > 0.9


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
