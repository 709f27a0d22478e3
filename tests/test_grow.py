"""A grown network begins as the small one, enlarged, and goes on from there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.func import functional_call

from gpenvideo.errors import OptionError
from gpenvideo.gpen import GPEN, GPENConfig, channel_table, checkpoint, ops
from gpenvideo.train.grow import faded, fixed_at, grow, grown_config, halved, reduced
from gpenvideo.train.loop import train
from gpenvideo.train.losses import LossWeights
from gpenvideo.train.options import TrainOptions, network_values
from gpenvideo.train.state import TrainState

pytestmark = pytest.mark.usefixtures("one_thread")

Kind = Literal["strided", "resnet"]
BOTH = pytest.mark.parametrize("kind", ["strided", "resnet"])
TOLERANCE = 1e-5  # of pictures that span 2


def small(kind: Kind) -> GPEN:
    """A network of 64 px with weights in every layer, as after training."""
    shape: dict[str, Any] = {"encoder_width": 8, "encoder_blocks": (1, 1, 1)} if kind == "resnet" else {}
    config = GPENConfig(
        64, 64, channel_table(64, 2, 1 / 16), style_dim=32, mapping_layers=2, encoder=kind,
        residual=kind == "resnet", **shape,
    )  # fmt: skip
    model = GPEN(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("skip_gain"):
            parameter.fill_(0.5)
        elif "modulation" not in name and name.endswith(("bias", *(f"rgbs.{i}.weight" for i in range(5)))):
            parameter.normal_(std=0.3)
    return model


@BOTH
def test_before_any_step_the_grown_picture_reduced_is_the_small_one(kind: Kind) -> None:
    model = small(kind)
    large = grow(model, grown_config(model.config)).eval()
    assert large.config.output_size_px == 128
    assert large.config.channels == (*model.config.channels, 16)
    picture = torch.rand(2, 3, *[large.config.input_size_px] * 2) * 2 - 1
    known = halved(picture) if kind == "strided" else picture
    with torch.no_grad():
        begun = functional_call(large, faded(large, 0.0), (picture,))
        expected = model(known)
        whole = large(picture)
    assert begun.shape == (2, 3, 128, 128)
    assert expected.std() > 0.2
    off = (reduced(begun) - expected)[:, :, 1:-1, 1:-1].abs().max()
    assert off < TOLERANCE
    assert (whole - begun).std() > 0.01  # what will be faded in is there


@BOTH
def test_fading_in_ends_in_the_network_itself(kind: Kind) -> None:
    model = small(kind)
    large = grow(model, grown_config(model.config)).eval()
    picture = torch.rand(1, 3, *[large.config.input_size_px] * 2) * 2 - 1
    with torch.no_grad():
        begun, half, whole = (functional_call(large, faded(large, a), (picture,)) for a in (0.0, 0.5, 1.0))
        torch.testing.assert_close(half, (begun + whole) / 2, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(whole, large(picture), rtol=0, atol=0)
        torch.testing.assert_close(fixed_at(large, 0.5)(picture), half, rtol=1e-4, atol=1e-5)


def test_reducing_undoes_both_ways_of_enlarging() -> None:
    picture = torch.rand(1, 3, 16, 16)
    inside = (..., slice(1, -1), slice(1, -1))
    by_network = reduced(ops.upsample_rgb(picture))
    torch.testing.assert_close(by_network[inside], picture[inside], rtol=0, atol=1e-6)
    bilinear = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(reduced(bilinear), picture, rtol=0, atol=1e-6)


@BOTH
def test_old_weights_are_kept_and_new_layers_copy_the_level_below(kind: Kind) -> None:
    model = small(kind)
    large = grow(model, grown_config(model.config))
    old, new = model.state_dict(), large.state_dict()
    for name in ("synthesis.convs.3.weight", "synthesis.to_rgbs.4.weight", "mapper.layers.0.weight"):
        assert torch.equal(old[name], new[name])
    moved = ("encoder.stages.2", "encoder.stages.3") if kind == "strided" else ("encoder.stem",) * 2
    assert torch.equal(old[f"{moved[0]}.weight"], new[f"{moved[1]}.weight"])
    above, below = new["synthesis.convs.10.weight"], old["synthesis.convs.8.weight"]
    assert torch.equal(above[:, :16], below[:16, :16])  # features
    assert torch.equal(above[:, 16:], below[:16, 32:48])  # encoder skips
    assert torch.equal(new["synthesis.to_rgbs.5.bias"], old["synthesis.to_rgbs.4.bias"])


def test_a_network_that_cannot_be_grown_is_said_so() -> None:
    narrow = GPENConfig(64, 64, (8, 8, 8, 8, 8), style_dim=8, mapping_layers=1)
    with pytest.raises(OptionError, match="4 channels"):
        grown_config(narrow)
    with pytest.raises(OptionError, match="as large as its output"):
        grown_config(dataclasses.replace(narrow, input_size_px=32))
    model = small("strided")
    other = dataclasses.replace(grown_config(model.config), style_dim=16)
    with pytest.raises(OptionError, match="grows to twice its size"):
        grow(model, other)


@BOTH
def test_a_run_fades_in_what_was_grown(kind: Kind, tmp_path: Path) -> None:
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 255, (8, 8, 3), np.uint8)
        (tmp_path / "faces").mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((128, 128)).save(tmp_path / "faces" / f"{index}.png")
    model = small(kind)
    checkpoint.save(model, tmp_path / "small.pth")
    run = TrainOptions(
        data=str(tmp_path / "faces"),
        out=str(tmp_path / "out"),
        cache=str(tmp_path / "cache"),
        grow_from=str(tmp_path / "small.pth"),
        fade_steps=4,
        norm_group=0,
        batch=2,
        steps=2,
        sample_every=2,
        sample_pictures=1,
        validate_every=0,
        threads=1,
        weights=LossWeights(perceptual=0, identity=0, lpips=0, face=0),
        **network_values(grown_config(model.config)),
    )
    assert [run.faded_in(step) for step in (0, 2, 4, 9)] == [0.0, 0.5, 1.0, 1.0]
    begun = TrainState.begin(run).averaged
    half = checkpoint.load(train(run))
    (tmp_path / "small.pth").unlink()  # what goes on needs it no more
    state = TrainState.begin(run, tmp_path / "out" / "state.pt")
    picture = torch.rand(1, 3, *[half.config.input_size_px] * 2) * 2 - 1
    with torch.no_grad():
        exported, averaged = half(picture), fixed_at(state.averaged, 0.5)(picture)
        torch.testing.assert_close(exported, averaged, rtol=1e-4, atol=1e-4)
        assert (fixed_at(begun, 0.5)(picture) - exported).abs().mean() > 1e-5  # it has learned
    finished = checkpoint.load(train(dataclasses.replace(run, steps=4)))
    assert finished.config.output_size_px == 128
