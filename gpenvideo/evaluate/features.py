"""How near a restored face is to the true one, judged by networks: LPIPS, and whether it is the same person.

The weights are not part of this project: `feature_measures` finds them, and says why a measure is off.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.errors import CheckpointError, DependencyError, FileMissing
from gpenvideo.faces import alignment
from gpenvideo.faces.detector import fill, read_state
from gpenvideo.faces.identity import arcface
from gpenvideo.weights import find

__all__ = ["FeatureMeasures", "IdentityDistance", "LpipsDistance", "feature_measures"]

Measure = Callable[[Tensor, Tensor], Tensor]

FACE_BOX = (32.0, 35.0, 220.0, 223.0)
"""Left, top, right, bottom of ArcFace's part of a 256 px FFHQ crop."""

ARCFACE_PX = 112


class IdentityDistance(nn.Module):
    """1 - cosine of ArcFace embeddings (Deng et al. 2019; facexlib's IR-SE50), frozen; mean over the batch.

    `template` is the alignment of the pictures ("ffhq" or "gpen"): the same part of the face is cut out of
    either (GPEN notes, section 17). Pictures are (N, 3, S, S) float32 RGB in [-1, 1].
    """

    def __init__(self, path: str | Path, template: str) -> None:
        super().__init__()
        self.network = arcface(path)
        ours, ffhq = (alignment.template(name, 256) for name in (template, "ffhq"))  # type: ignore[arg-type]
        matrix = alignment.crop_from_frame(ffhq, ours)
        corners = np.array(FACE_BOX).reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
        self.box = tuple(float(c) / 256 for c in corners.ravel())

    def embedding(self, pictures: Tensor) -> Tensor:
        """(N, 512), unit length."""
        side = pictures.shape[2]
        left, top, right, bottom = (round(edge * side) for edge in self.box)
        face = F.adaptive_avg_pool2d(pictures[:, :, top:bottom, left:right], ARCFACE_PX)
        return F.normalize(self.network(face.contiguous()), dim=1)

    def cosine(self, restored: Tensor, truth: Tensor) -> Tensor:
        """(N,) in [-1, 1]: 1 for the same embedding."""
        with torch.no_grad():
            wanted = self.embedding(truth)
        return (self.embedding(restored) * wanted).sum(dim=1)

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        return (1 - self.cosine(restored, truth)).mean()


class LpipsDistance(nn.Module):
    """LPIPS 0.1 over AlexNet (Zhang et al. 2018), frozen; torchvision's AlexNet weights; mean over the batch.

    Pictures are (N, 3, H, W) float32 RGB in [-1, 1].
    """

    def __init__(self, path: str | Path) -> None:
        try:
            from lpips import LPIPS  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError as error:
            raise DependencyError("LPIPS is not installed: pip install 'gpenvideo[train]'") from error

        super().__init__()
        with warnings.catch_warnings():  # it builds its AlexNet in a way that torchvision warns of
            warnings.simplefilter("ignore", UserWarning)
            network = LPIPS(net="alex", pnet_rand=True, verbose=False)
        state, path_read = read_state(path)
        layers = {key.split(".", 1)[1]: value for key, value in state.items() if key.startswith("features.")}
        try:  # the package has AlexNet's layers under their numbers, in five slices
            named = {key: layers[key.split(".", 1)[1]] for key in network.net.state_dict()}
        except KeyError as error:
            raise CheckpointError(f"not the weights of an AlexNet: {error} is missing", path=path) from error
        fill(network.net, named, path_read)
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def distance(self, restored: Tensor, truth: Tensor) -> Tensor:
        """(N,): 0 for the same picture."""
        distance: Tensor = self.network(restored, truth)
        return distance.flatten()

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        return self.distance(restored, truth).mean()


@dataclass(frozen=True)
class FeatureMeasures:
    """The measures by networks that this machine has.

    on    by name ("lpips", "identity"): measure(pictures, truth) is (N,)
    off   why each of the others is not there
    """

    on: dict[str, Measure]
    off: dict[str, str]


def feature_measures(template: str, device: str | torch.device = "cpu") -> FeatureMeasures:
    """LPIPS and identity, where their weights are on this machine.

    `template` is the alignment of the pictures, "ffhq" or "gpen".

    Raises CheckpointError when a file that is there cannot be used.
    """
    builds: dict[str, tuple[str, Callable[[Path], Measure]]] = {
        "lpips": ("AlexNet", lambda file: LpipsDistance(file).to(device).distance),
        "identity": ("ArcFace-IR-SE50", lambda file: IdentityDistance(file, template).to(device).cosine),
    }
    on: dict[str, Measure] = {}
    off: dict[str, str] = {}
    for name, (weights, build) in builds.items():
        try:
            on[name] = build(find(weights))
        except FileMissing:
            off[name] = f"{weights} is not on this machine: gpenvideo weights pull {weights}"
        except DependencyError as error:
            off[name] = str(error)
    return FeatureMeasures(on, off)
