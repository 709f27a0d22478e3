"""What training minimises, and the terms of it that are on in a run.

    total = 1.0 pixel + 0.05 perceptual + 0.1 identity + 0.1 LPIPS + 0.1 face + 0.005 adversarial

Pictures are (N, 3, S, S) float32 RGB in [-1, 1]. Each term but the first compares features of a frozen
network that is not part of this project: `terms` finds the weights and says why a term is off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.errors import DependencyError, FileMissing, OptionError
from gpenvideo.evaluate.features import IdentityDistance, LpipsDistance
from gpenvideo.faces.detector import MEAN_BGR, RetinaFace, fill, fold_norms, read_state
from gpenvideo.weights import find

__all__ = [
    "FaceFeatures",
    "LossWeights",
    "Terms",
    "VggDistance",
    "adversarial_loss",
    "discriminator_loss",
    "feature_distance",
    "pixel_loss",
    "r1_penalty",
    "terms",
]

Distance = Callable[[Tensor, Tensor], Tensor]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The factor of each term; 0 leaves it out.

    pixel        mean absolute difference
    perceptual   VGG-19 relu2_2 features
    identity     1 - cosine of ArcFace embeddings
    lpips        LPIPS (AlexNet)
    face         features of a RetinaFace backbone, whose licence is clean
    adversarial  non-saturating GAN loss
    """

    pixel: float = 1.0
    perceptual: float = 0.05
    identity: float = 0.1
    lpips: float = 0.1
    face: float = 0.1
    adversarial: float = 0.005

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise OptionError(f"the loss weight {name} is 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Terms:
    """The feature terms of a run.

    on    (name, weight, distance) each: distance(restored, truth) is a scalar tensor
    off   why each of the others is not there, by name
    """

    on: tuple[tuple[str, float, Distance], ...]
    off: dict[str, str]


def pixel_loss(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference, a scalar."""
    return (restored - truth).abs().mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Non-saturating GAN loss of the discriminator from its logits (N, 1) (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def adversarial_loss(fake: Tensor) -> Tensor:
    """Non-saturating GAN loss of the generator from the discriminator's logits (N, 1)."""
    return F.softplus(-fake).mean()


def r1_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Mean over the batch of the squared norm of d(logits)/d(pictures) (Mescheder et al. 2018, R1).

    `pictures` are the real ones and require gradients; the weight, gamma / 2 times the interval of the
    lazy regularisation, is the caller's (GPEN notes, section 17).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


def feature_distance(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of two feature maps (N, C, H, W), each position scaled to unit mean square.

    The scaling leaves what the features say of a place, not how strongly they say it: without it one loud
    channel would be the whole distance.
    """

    def unit(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)

    return (unit(restored) - unit(truth)).abs().mean()


class FaceFeatures(nn.Module):
    """Distance in the three stages of a RetinaFace backbone (mobilenet0.25 or ResNet-50), frozen.

    Its features know where eyes, nose and mouth are; it stands in for both the perceptual and the identity
    term where those networks' licences do not fit. Raises as `read_state` and `RetinaFace.of`.
    """

    mean: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        network = RetinaFace.of(*read_state(path)).eval()
        fold_norms(network)
        self.body = _frozen(network.body)
        self.register_buffer("mean", torch.tensor(MEAN_BGR)[:, None, None], persistent=False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The feature maps at strides 8, 16 and 32."""
        x = pictures.flip(1) * 127.5 + (127.5 - self.mean)  # BGR in 0..255, means subtracted
        found = []
        for stage in self.body.children():
            x = stage(x)
            found.append(x)
        return found[-3:]

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(truth)
        pairs = zip(self.features(restored), wanted, strict=True)
        return torch.stack([feature_distance(a, b) for a, b in pairs]).mean()


class VggDistance(nn.Module):
    """Mean absolute difference of VGG-19's relu2_2 (Johnson et al. 2016), frozen; torchvision's weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, path: str | Path) -> None:
        from torchvision.models import vgg19  # type: ignore[import-untyped]

        super().__init__()
        network = fill(vgg19(weights=None, init_weights=False), *read_state(path))
        self.layers = _frozen(network.features[:9])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def features(self, pictures: Tensor) -> Tensor:
        """(N, 128, S/2, S/2)."""
        found: Tensor = self.layers(((pictures + 1) / 2 - self.mean) / self.std)
        return found

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(truth)
        return (self.features(restored) - wanted).abs().mean()


def terms(
    weights: LossWeights, *, template: str = "ffhq", face_features: str | None = None, device: str = "cpu"
) -> Terms:
    """The feature terms with a weight and a network on this machine, and why the others are off.

    `face_features` is the file or the name of RetinaFace weights. Raises CheckpointError when a file that
    is there cannot be used, FileMissing when `face_features` names none.
    """
    wanted: tuple[tuple[str, float, Callable[[], nn.Module]], ...] = (
        ("perceptual", weights.perceptual, lambda: VggDistance(find("VGG-19"))),
        ("identity", weights.identity, lambda: IdentityDistance(find("ArcFace-IR-SE50"), template)),
        ("lpips", weights.lpips, lambda: LpipsDistance(find("AlexNet"))),
    )
    on: list[tuple[str, float, Distance]] = []
    off: dict[str, str] = {}
    for name, weight, build in wanted:
        if not weight:
            off[name] = "its weight is 0"
            continue
        try:
            on.append((name, weight, build().to(device)))
        except (FileMissing, DependencyError) as error:
            off[name] = str(error)
    if not weights.face:
        off["face"] = "its weight is 0"
    elif face_features is None:
        off["face"] = "no face_features given: name the RetinaFace weights to use"
    else:
        on.append(("face", weights.face, FaceFeatures(find(face_features)).to(device)))
    return Terms(tuple(on), off)


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
