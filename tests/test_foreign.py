"""Networks that are no GPEN: faces through GFPGAN, RestoreFormer and CodeFormer, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrels import codeformer, compact, esrgan, gfpgan, realesrgan_x2plus, restoreformer, saved

import gpenvideo
from gpenvideo import CheckpointError, DependencyError, OptionError
from gpenvideo.faces.alignment import template
from gpenvideo.foreign import ForeignRestorer, SuperResolution, read_network
from gpenvideo.networks import NetworkOptions, load_background, load_restorer

pytestmark = pytest.mark.usefixtures("one_thread")

FACES = {
    "GFPGAN": (gfpgan, "params_ema", {"return_rgb": False, "randomize_noise": False}),
    "RestoreFormer": (restoreformer, "params", {}),
    "CodeFormer": (codeformer, "params_ema", {}),
}


@pytest.fixture(scope="module", params=FACES)
def face_network(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    build, key, _ = FACES[request.param]
    path = saved(build(), tmp_path_factory.mktemp("net") / f"{request.param}.pth", key, half=True)
    yield request.param, path
    path.unlink()


@pytest.fixture(scope="module")
def restorer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(restoreformer(), tmp_path_factory.mktemp("net") / "RestoreFormer.pth", "params")


@pytest.fixture(scope="module")
def sr_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(compact(), tmp_path_factory.mktemp("net") / "compact.pth", "params")


def test_a_face_network_is_known_by_its_file(face_network: tuple[str, Path]) -> None:
    """It takes and gives what the network itself does, [-1, 1], and draws no noise of its own."""
    name, path = face_network
    build, _, how = FACES[name]
    restorer = gpenvideo.load(path, device="cpu")
    assert isinstance(restorer, ForeignRestorer)
    assert name in repr(restorer)
    assert (restorer.size_px, restorer.dtype, str(restorer.device)) == (512, torch.float32, "cpu")
    face = torch.rand(1, 3, 512, 512) * 2 - 1
    made = restorer(face)
    assert made.dtype == torch.float32
    assert made.std() > 0.05
    if name != "CodeFormer":  # which is slow
        model = build().half().float()
        with torch.inference_mode():
            expected = model(face, **how)[0].clamp(-1, 1)
        assert torch.allclose(made, expected, atol=1e-4)


def test_faces_are_aligned_as_facexlib_does(restorer_file: Path) -> None:
    """facexlib's `face_template` at 512 px."""
    expected = [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
    restorer = gpenvideo.load(restorer_file, device="cpu")
    assert np.allclose(restorer.template, expected)
    restorer = load_restorer(restorer_file, NetworkOptions("cpu", template="gpen"))
    assert np.allclose(restorer.template, template("gpen", 512))


def test_what_becomes_of_a_face_does_not_depend_on_its_company(restorer_file: Path) -> None:
    restorer = gpenvideo.load(restorer_file, device="cpu", max_batch=2)
    faces = torch.rand(3, 3, 512, 512) * 2 - 1
    together = restorer(faces)
    assert torch.equal(together[1:2], restorer(faces[1:2]))
    assert restorer(faces[:0]).shape == (0, 3, 512, 512)
    with pytest.raises(OptionError, match="512"):
        restorer(torch.zeros(1, 3, 256, 256))


def test_the_ways_in_which_weights_are_wrapped(tmp_path: Path) -> None:
    model = compact()
    expected = model.state_dict()["body.0.weight"]
    files = [
        saved(model, tmp_path / f"{key}.pth", key) for key in ("params", "params_ema", "state_dict", None)
    ]
    torch.save({"model": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "several.pth")
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    for file in [*files, tmp_path / "several.pth", tmp_path / "net.safetensors"]:
        network = read_network(file)
        assert network.scale == 2
        assert torch.equal(network.model.state_dict()["body.0.weight"], expected)


def test_real_esrgan_by_the_names_it_came_with(tmp_path: Path) -> None:
    model, state = realesrgan_x2plus()
    torch.save({"params_ema": state}, tmp_path / "RealESRGAN_x2plus.pth")
    network = load_background(tmp_path / "RealESRGAN_x2plus.pth", "cpu")
    assert (network.scale, network.side_px(65)) == (2, 68)
    tiles = torch.rand(1, 3, 68, 68)
    with torch.inference_mode():
        assert torch.allclose(network(tiles), model(tiles).clamp(0, 1), atol=1e-5)


def test_networks_in_each_others_place_are_refused(
    restorer_file: Path, sr_file: Path, network: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"compact.pth: RealESRGAN Compact .*--background, with --upscale"):
        gpenvideo.load(sr_file)
    with pytest.raises(OptionError, match=r"RestoreFormer restores faces.*--weights"):
        load_background(restorer_file)
    for gpen in (network, Path(gpenvideo.__file__).parents[1] / "weights" / "gpenvideo-face-256.pth"):
        with pytest.raises(CheckpointError, match=r"it is a GPEN.*--weights"):
            load_background(gpen)
    with pytest.raises(OptionError, match="makes no picture larger"):
        load_background(saved(esrgan(1), tmp_path / "denoiser.pth"))
    with pytest.raises(OptionError, match="only GPEN networks are compiled"):
        gpenvideo.load(restorer_file, compile=True)


def test_what_nobody_knows_is_refused_with_what_was_found(tmp_path: Path, sr_file: Path) -> None:
    torch.save({"some.weight": torch.ones(3)}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd.pth: .*a GPEN has.*some.weight.*spandrel does not"):
        gpenvideo.load(tmp_path / "odd.pth")
    state = torch.load(sr_file)["params"]
    state["body.0.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=r"nan.pth: body.0.weight holds NaN"):
        load_background(tmp_path / "nan.pth")
    state["body.0.weight"] = torch.ones(8, 3, 5, 5)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other.pth: .*spandrel cannot build it"):
        load_background(tmp_path / "other.pth")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_could_run_code_does_not(tmp_path: Path) -> None:
    torch.save({"params_ema": compact().state_dict(), "more": Trap(tmp_path / "ran")}, tmp_path / "trap.pth")
    for load in (gpenvideo.load, load_background, read_network):
        with pytest.raises(CheckpointError, match="refused"):
            load(tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


def test_without_spandrel_a_line_says_what_to_install(
    sr_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    markers = ("position_emb", "idx_pred_layer.1.weight")
    torch.save({"params_ema": dict.fromkeys(markers, torch.ones(1))}, tmp_path / "codeformer.pth")
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)
    with pytest.raises(DependencyError, match=r"CodeFormer.*non-commercial.*gpenvideo\[codeformer\]"):
        gpenvideo.load(tmp_path / "codeformer.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(DependencyError, match=r"pip install 'gpenvideo\[models\]'"):
        load_background(sr_file)


def test_a_precision_that_a_network_does_not_do_is_not_taken(restorer_file: Path, sr_file: Path) -> None:
    with pytest.warns(RuntimeWarning, match="RestoreFormer does not do fp16: float32 it is"):
        restorer = gpenvideo.load(restorer_file, device="cpu", dtype="fp16")
    assert restorer.dtype == torch.float32
    with pytest.raises(OptionError, match="no precision"):
        load_background(sr_file, dtype="fp8")
    tiles = torch.rand(1, 3, 32, 32)
    exact, reduced = load_background(sr_file, "cpu"), load_background(sr_file, "cpu", "bf16")
    assert "bf16" in repr(reduced)
    assert (exact(tiles) - reduced(tiles)).abs().max() < 0.02


def test_what_overflows_is_done_again_in_float32(tmp_path: Path) -> None:
    """A network whose first layer goes beyond fp16 where a picture is white, and nowhere else."""
    model: Any = compact(plain=True)
    with torch.no_grad():
        model.body[0].weight[0, 0, 1, 1:] = torch.tensor((40_000.0, 28_000.0))
        model.body[2].weight[0, 0, 1, 1] = model.body[4].weight[0, 0, 1, 1] = 0.01
        model.body[6].weight[:4, 0, 1, 1] = -0.5 / 6.8
    network = SuperResolution(read_network(saved(model, tmp_path / "net.pth")), device="cpu", dtype="fp16")
    assert "fp16" in repr(network)
    white = network(torch.ones(1, 3, 16, 16))
    assert torch.allclose(white[:, 0, :, 4:-4], torch.tensor(0.5), atol=1e-4)
    assert torch.allclose(white[:, 1:], torch.tensor(1.0))


def test_the_command_line_tells_what_a_file_is(
    sr_file: Path, restorer_file: Path, tmp_path: Path, said: Callable[..., Any]
) -> None:
    assert "RealESRGAN Compact" in said("weights", "info", sr_file).out
    assert "super-resolution" in said("weights", "info", sr_file).out
    assert "RestoreFormer" in said("weights", "info", restorer_file).out
    told = said("restore", tmp_path / "in.png", "-o", tmp_path / "out.png", "--background", sr_file)
    assert told.code == 2
    (tmp_path / "in.png").write_bytes(b"")
    told = said("restore", tmp_path / "in.png", "-o", tmp_path / "out.png", "--background", sr_file)
    assert (told.code, "--upscale 2 too" in told.err) == (2, True)
