"""Colour for grey faces, faces for holes and for label maps: what networks are shown, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from portraits import portrait
from spandrels import restoreformer, saved

from gpenvideo import OptionError
from gpenvideo.conditional import colorize, face_from_segmentation, inpaint
from gpenvideo.picture import Picture, read_picture, write_picture
from gpenvideo.restorer import GPENRestorer, load
from gpenvideo.still import restore_aligned

pytestmark = pytest.mark.usefixtures("one_thread")

LUMA = np.array((0.299, 0.587, 0.114))


class Tinting:
    """A stand-in for a network that was trained: it notes what it is shown, and tints it."""

    max_batch = 1

    def __init__(self, size_px: int = 64, tint: tuple[float, float, float] = (0.2, -0.1, -0.15)) -> None:
        self.size_px, self.tint = size_px, torch.tensor(tint)[None, :, None, None]
        self.template = np.zeros((5, 2))
        self.shown = torch.empty(0)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape == (1, 3, self.size_px, self.size_px)
        self.shown = pixels
        return (pixels * 0.5 + self.tint).clamp(-1, 1)


@pytest.fixture(scope="module")
def restorer(network: Path) -> GPENRestorer:
    return load(network, device="cpu", dtype="fp32")


def grey_of(image: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(image @ LUMA)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(96, 90), (48, 50)])
def test_colours_are_the_networks_and_luma_is_the_pictures(dtype: Any, shape: tuple[int, int]) -> None:
    """Section 13 of the GPEN notes: of another size, the picture keeps its Y."""
    unit = 1 if dtype == np.uint8 else 257
    image = (portrait(128)[: shape[0], : shape[1]] // 2 + 60).astype(dtype) * unit
    network = Tinting()
    made = colorize(image, network)
    assert (made.shape, made.dtype) == (image.shape, dtype)
    assert np.abs(grey_of(made) - grey_of(image)).max() <= 1.01 * unit
    red, blue = (made[..., channel].astype(float).mean() for channel in (0, 2))
    assert red - blue == pytest.approx((0.2 + 0.15) / 2 * 255 * unit, rel=0.1)
    assert torch.equal(network.shown[:, 0], network.shown[:, 1])  # it is shown grey
    assert torch.equal(network.shown[:, 0], network.shown[:, 2])
    grey = np.rint(grey_of(image)).astype(dtype)
    assert np.abs(colorize(np.dstack([grey] * 3), network).astype(int) - made).max() <= 2 * unit


def test_of_the_networks_own_size_its_picture_is_the_result(restorer: GPENRestorer) -> None:
    image = portrait(64)
    grey = np.dstack([np.rint(grey_of(image)).astype(np.uint8)] * 3)
    assert np.array_equal(colorize(image, restorer), restore_aligned(grey, restorer))


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(40, 80), st.integers(40, 80)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.integers(0, 2**32 - 1),
)
def test_what_is_known_comes_back_as_it_was(
    size: tuple[int, int], hole: tuple[float, float, float, float], seed: int
) -> None:
    width, height = size[0], round(size[0] * (0.85 + 0.3 * (size[1] - 40) / 40))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), dtype=bool)
    (left, right), (top, bottom) = sorted(hole[:2]), sorted(hole[2:])
    mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    network = Tinting()
    made = inpaint(image, mask, network)
    assert np.array_equal(made[~mask], image[~mask])
    other = image.copy()
    other[mask] = 0
    assert np.array_equal(inpaint(other, mask, network), made)  # what is in a hole is not looked at


def test_holes_are_shown_white_and_filled(restorer: GPENRestorer) -> None:
    image = portrait(64) // 2
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:40, 10:50] = True
    network = Tinting()
    inpaint(image, mask, network)
    shown = network.shown[0].permute(1, 2, 0).numpy()
    assert (shown[mask] == 1).all()
    assert (shown[~mask] < 0.01).all()
    holed = image.copy()
    holed[mask] = 255
    expected = restore_aligned(holed, restorer)
    assert np.array_equal(inpaint(image, mask, restorer, whole=True), expected)
    assert np.array_equal(inpaint(image, mask, restorer)[mask], expected[mask])


def test_a_label_map_is_shown_and_read_in_0_to_1() -> None:
    """Sections 9 and 13 of the GPEN notes: this network is not normalised, and sees RGB."""
    labels = np.zeros((64, 64, 3), dtype=np.uint8)
    labels[:32], labels[32:, :32] = (255, 0, 0), (51, 102, 204)
    network = Tinting(tint=(0.0, 0.0, 0.0))
    made = face_from_segmentation(labels, network)
    shown = network.shown[0].permute(1, 2, 0).numpy()
    assert np.allclose(shown, labels / 255, atol=1e-6)
    assert np.abs(made.astype(float) - labels / 2).max() <= 0.51  # what it made is half of it
    assert face_from_segmentation(labels[:60], Tinting(128)).shape == (128, 128, 3)


def test_what_is_no_aligned_face_is_refused() -> None:
    wide = np.zeros((40, 60, 3), dtype=np.uint8)
    for make in (colorize, face_from_segmentation):
        with pytest.raises(OptionError, match="no aligned face, 60x40 px"):
            make(wide, Tinting())
        with pytest.raises(OptionError, match="uint8 or uint16"):
            make(np.zeros((40, 40)), Tinting())
    with pytest.raises(OptionError, match="it is 9x10, the picture 40x40"):
        inpaint(np.zeros((40, 40, 3), np.uint8), np.zeros((10, 9), bool), Tinting())


def test_the_command_line(network: Path, tmp_path: Path, said: Callable[..., Any]) -> None:
    grey, mask = tmp_path / "grey.png", tmp_path / "mask.png"
    alpha = np.full((80, 80), 200, np.uint8)
    write_picture(Picture(np.dstack([portrait(80)[..., 1]] * 3), alpha, grey=True), grey)
    holes = np.zeros((80, 80, 3), np.uint8)
    holes[10:30, 10:30] = 255
    write_picture(Picture(holes, grey=True), mask)
    how = ("--weights", network, "--device", "cpu")
    told = said("colorize", grey, "-o", tmp_path / "colour.png", *how)
    assert told.code == 0, told.err
    made = read_picture(tmp_path / "colour.png")
    assert (made.grey, made.rgb.shape) == (False, (80, 80, 3))
    assert made.alpha is not None
    assert (made.alpha == 200).all()
    assert (made.rgb[..., 0] != made.rgb[..., 2]).any()
    told = said("inpaint", grey, "--mask", mask, "-o", tmp_path / "filled.png", *how)
    assert told.code == 0, told.err
    filled, known = read_picture(tmp_path / "filled.png").rgb, ~holes[..., 0].astype(bool)
    assert np.array_equal(filled[known], read_picture(grey).rgb[known])
    assert not np.array_equal(filled, read_picture(grey).rgb)
    told = said("inpaint", grey, "--mask", mask, "-o", tmp_path / "whole.png", "--whole", *how)
    assert read_picture(tmp_path / "whole.png").rgb.shape == (64, 64, 3)
    told = said("segmentation-to-face", mask, "-o", tmp_path / "face.png", "--json", *how)
    assert (told.code, '"output"' in told.out) == (0, True)
    assert read_picture(tmp_path / "face.png").rgb.shape == (64, 64, 3)
    folder = tmp_path / "many"
    told = said("colorize", tmp_path, "-o", folder, *how)
    assert told.code == 0, told.err
    assert len(list(folder.glob("*.png"))) == 6


def test_the_command_line_refuses(network: Path, tmp_path: Path, said: Callable[..., Any]) -> None:
    face, small = tmp_path / "face.png", tmp_path / "small.png"
    write_picture(Picture(portrait(80)), face)
    write_picture(Picture(np.full((8, 8, 3), 255, np.uint8)), small)
    write_picture(Picture(np.zeros((80, 80, 3), np.uint8)), tmp_path / "black.png")
    foreign = saved(restoreformer(), tmp_path / "net.pth", "params")
    out, how = ("-o", tmp_path / "out.png"), ("--weights", network)
    for told, line in [
        (said("inpaint", face, "--mask", small, *out, *how), "it is 8x8, the picture 80x80"),
        (said("inpaint", face, "--mask", tmp_path / "black.png", *out, *how), "black all over"),
        (said("inpaint", tmp_path, "--mask", small, *out, *how), "no folder"),
        (said("colorize", tmp_path / "none.png", *out, *how), "no such file"),
        (said("colorize", face, *out, "--weights", foreign), "another network"),
        (said("colorize", face, "-o", tmp_path / "out.xyz", *how), "write to one of"),
    ]:
        assert told.code == 2
        assert line in told.err
    assert not (tmp_path / "out.png").exists()
