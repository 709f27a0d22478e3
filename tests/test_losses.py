"""The loss terms against independent formulas, hand-computed cases and finite differences."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from gpenvideo.errors import CheckpointError, FileMissing, OptionError
from gpenvideo.train import losses


def face(blur: float = 0.0) -> torch.Tensor:
    """The astronaut's face, (1, 3, 128, 128) in [-1, 1]."""
    picture = astronaut()[40:168, 160:288]
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None] / 127.5 - 1


def test_pixel_loss_is_the_mean_absolute_difference() -> None:
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert losses.pixel_loss(a, b).item() == pytest.approx(np.abs(a.numpy() - b.numpy()).mean(), rel=1e-6)


def test_adversarial_losses_are_the_cross_entropy_of_the_right_answer() -> None:
    real, fake = [1.5, -0.3], [-2.0, 0.7]

    def surprise(logit: float, answer: bool) -> float:
        probability = 1 / (1 + math.exp(-logit))
        return -math.log(probability if answer else 1 - probability)

    judged = np.mean([surprise(x, True) for x in real]) + np.mean([surprise(x, False) for x in fake])
    found = losses.discriminator_loss(torch.tensor(real)[:, None], torch.tensor(fake)[:, None])
    assert found.item() == pytest.approx(judged, rel=1e-6)
    fooled = np.mean([surprise(x, True) for x in fake])
    assert losses.adversarial_loss(torch.tensor(fake)[:, None]).item() == pytest.approx(fooled, rel=1e-6)


def test_r1_of_a_linear_discriminator_is_its_squared_norm() -> None:
    weight = torch.randn(3 * 4 * 4, dtype=torch.float64, requires_grad=True)
    pictures = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    penalty = losses.r1_penalty(pictures.flatten(1) @ weight[:, None] + 3, pictures)
    torch.testing.assert_close(penalty, weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())  # d|w|^2 / dw


def test_r1_of_a_quadratic_discriminator_is_averaged_over_the_batch() -> None:
    pictures = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    penalty = losses.r1_penalty(pictures.square().flatten(1).sum(dim=1, keepdim=True), pictures)
    expected = np.mean([np.sum((2 * one) ** 2) for one in pictures.detach().numpy()])
    assert penalty.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss",
    [
        losses.pixel_loss,
        losses.feature_distance,
        lambda a, b: losses.discriminator_loss(a.flatten(1), b.flatten(1)),
        lambda a, b: losses.adversarial_loss(a.flatten(1) * b.flatten(1)),
        lambda a, b: losses.r1_penalty((a.tanh() * b).flatten(1).sum(dim=1), a),
    ],
)
def test_gradients_agree_with_finite_differences(loss: losses.Distance) -> None:
    pair = [torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(loss, pair)


def test_feature_distance_does_not_depend_on_how_strong_the_features_are() -> None:
    a, b = torch.randn(1, 8, 5, 5), torch.randn(1, 8, 5, 5)
    once = losses.feature_distance(a, b).item()
    assert losses.feature_distance(10 * a, b / 10).item() == pytest.approx(once, rel=1e-3)
    one, other = a[0, :, 2, 3].numpy(), b[0, :, 2, 3].numpy()
    expected = np.abs(one / np.sqrt(np.mean(one**2)) - other / np.sqrt(np.mean(other**2))).mean()
    here = losses.feature_distance(a[:, :, 2:3, 3:4], b[:, :, 2:3, 3:4])
    assert here.item() == pytest.approx(expected, rel=1e-4)


def test_terms_say_which_are_off_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path))
    found = losses.terms(losses.LossWeights(lpips=0.0))
    assert found.on == ()
    assert found.off.keys() == {"perceptual", "identity", "lpips", "face"}
    assert "VGG-19" in found.off["perceptual"]
    assert "ArcFace" in found.off["identity"]
    assert found.off["lpips"] == "its weight is 0"
    assert "face_features" in found.off["face"]


def test_terms_refuse_face_features_that_are_not_there_or_are_something_else(tmp_path: Path) -> None:
    weights = losses.LossWeights(perceptual=0, identity=0, lpips=0)
    with pytest.raises(FileMissing):
        losses.terms(weights, face_features=str(tmp_path / "nothing.pth"))
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, other)
    with pytest.raises(CheckpointError):
        losses.terms(weights, face_features=str(other))


def test_weights_below_zero_are_refused() -> None:
    with pytest.raises(OptionError, match="pixel"):
        losses.LossWeights(pixel=-1)


def test_vgg_weights_in_the_cache_switch_the_perceptual_term_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import vgg19

    with torch.device("meta"):
        shapes = vgg19(weights=None, init_weights=False).state_dict()
    # Only the first four convolutions are used; the rest need no memory of their own.
    state = {
        k: torch.randn(v.shape) * 0.1
        if int(k.split(".")[1]) < 9 and "features" in k
        else torch.zeros(1).expand(v.shape)
        for k, v in shapes.items()
    }
    (tmp_path / "weights").mkdir()
    torch.save(state, tmp_path / "weights" / "VGG-19.pth")
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path))
    found = losses.terms(losses.LossWeights(identity=0, lpips=0, face=0))
    ((name, weight, distance),) = found.on
    assert (name, weight) == ("perceptual", 0.05)

    def relu2_2(picture: torch.Tensor) -> torch.Tensor:  # the paper's layers, written out
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((picture + 1) / 2 - mean[:, None, None]) / std[:, None, None]
        for index in (0, 2, 5, 7):
            if index == 5:
                x = torch.nn.functional.max_pool2d(x, 2)
            weights, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            x = torch.nn.functional.conv2d(x, weights, bias, padding=1).relu()
        return x

    a, b = face(), face(blur=2)
    expected = (relu2_2(a) - relu2_2(b)).abs().mean().item()
    assert distance(a, b).item() == pytest.approx(expected, rel=1e-4)


def test_arcface_weights_in_the_cache_switch_the_identity_term_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("facexlib")
    from facexlib.recognition.arcface_arch import Backbone

    (tmp_path / "weights").mkdir()
    torch.save(Backbone(50, 0.6, "ir_se").state_dict(), tmp_path / "weights" / "ArcFace-IR-SE50.pth")
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path))
    found = losses.terms(losses.LossWeights(perceptual=0, lpips=0, face=0))
    ((name, _, distance),) = found.on
    assert name == "identity"
    a, b = face(), face(blur=4)
    assert distance(a, a).item() == pytest.approx(0, abs=1e-5)
    assert distance(a, b).item() > 1e-5
    outside = a.clone()
    outside[:, :, :12] = 1  # above ArcFace's part of an FFHQ crop
    assert distance(a, outside).item() == pytest.approx(0, abs=1e-5)


def test_face_features_see_blur_and_send_gradients_to_the_restored_picture_only(shared: Path) -> None:
    weights = shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth"
    if not weights.exists():
        pytest.skip("the RetinaFace weights are not among the shared data")
    found = losses.terms(losses.LossWeights(perceptual=0, identity=0, lpips=0), face_features=str(weights))
    ((name, _, distance),) = found.on
    assert name == "face"
    truth, slight, strong = face(), face(blur=1), face(blur=3)
    assert distance(truth, truth).item() == 0
    assert 0 < distance(slight, truth).item() < distance(strong, truth).item()
    restored, true = strong.clone().requires_grad_(), truth.clone().requires_grad_()
    distance(restored, true).backward()
    assert restored.grad is not None
    assert restored.grad.abs().max() > 0
    assert true.grad is None
    assert isinstance(distance, torch.nn.Module)
    assert not any(p.requires_grad for p in distance.parameters())
