"""Detectors: pictures in, the faces of each out.

`RetinaFaceDetector` runs facexlib's RetinaFace layers (Deng et al., "RetinaFace: Single-stage Dense Face
Localisation in the Wild", 2019). Anchors, decoding and suppression are written here, in pixels of the
picture the network sees (GPEN notes, section 10).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import nms  # type: ignore[import-untyped]

from gpenvideo.errors import CheckpointError, OptionError, file_error
from gpenvideo.face import Face

__all__ = [
    "Detector",
    "PathOrState",
    "RetinaFace",
    "RetinaFaceDetector",
    "decode",
    "fill",
    "fold_norms",
    "grid_anchors",
    "network_input",
    "read_state",
]

Images = Sequence[NDArray[np.uint8]]
PathOrState = str | PathLike[str] | Mapping[str, Tensor]

SMALLEST_SIDE_PX = 16  # the smallest anchor: no face fits a smaller picture
MEAN_BGR = (104.0, 117.0, 123.0)
LEVELS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))  # stride and anchor sides, px
ANCHORS_PER_CELL = 2
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
MOST_CANDIDATES, MOST_FACES, MOST_OVERLAP = 5000, 750, 0.4
PICTURES_A_RUN = 8  # more take memory and are no faster


class Detector(Protocol):
    """Finds faces: (H, W, 3) uint8 RGB pictures in; for each, its faces in its own pixels, best first."""

    def __call__(self, images: Images) -> list[list[Face]]: ...


class RetinaFaceDetector:
    """Finds faces with a RetinaFace network; mobilenet0.25 or ResNet-50, whichever the weights are of.

    Args:
        weights: a .pth or .safetensors file, or its state dict.
        device: where the network runs.
        threshold: the least score of a face, in [0, 1].
        max_side_px: pictures with a longer side are shrunk to this before the search, in which a face
            less than some 25 px wide is likely to be missed.
        dtype: torch.float32, or torch.bfloat16 for all layers but the last: twice as fast on a CPU that
            computes it, and landmarks move by 1 % of the eye distance.

    Raises:
        FileError: a file that cannot be read.
        CheckpointError: weights of another network, or damaged.
        OptionError: an option outside its range.
    """

    def __init__(
        self,
        weights: PathOrState,
        *,
        device: str | torch.device = "cpu",
        threshold: float = 0.9,
        max_side_px: int = 1000,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise OptionError(f"a detector's threshold lies in [0, 1], got {threshold}")
        if max_side_px < SMALLEST_SIDE_PX:
            raise OptionError(f"max_side_px is {SMALLEST_SIDE_PX} or more, got {max_side_px}")
        if dtype not in (torch.float32, torch.bfloat16):
            raise OptionError(f"a detector computes in torch.float32 or torch.bfloat16, got {dtype}")
        self.device = torch.device(device)
        self.dtype = dtype
        self.threshold = threshold
        self.max_side_px = max_side_px
        self.network = RetinaFace.of(*read_state(weights)).to(self.device)
        fold_norms(self.network)
        self.network.to(dtype).to(memory_format=torch.channels_last)
        for heads in (self.network.ClassHead, self.network.BboxHead, self.network.LandmarkHead):
            heads.float()
        self._anchors = ((0, 0), torch.empty(0, 3))  # of the last pictures' size

    def __repr__(self) -> str:
        body = "mobilenet0.25" if hasattr(self.network.body, "stage1") else "resnet50"
        return f"RetinaFaceDetector({body} on {self.device}, threshold={self.threshold})"

    def __call__(self, images: Images) -> list[list[Face]]:
        """Find the faces of each picture; pictures of one size share runs of the network.

        What else is in a run changes a picture's faces by rounding at most: 1e-3 px in float32.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes.

        Returns:
            For each picture its faces, best score first, in the picture's own pixels.

        Raises:
            OptionError: a picture of another dtype or shape.
        """
        faces: list[list[Face]] = [[] for _ in images]
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise OptionError(f"a picture is (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
            if min(image.shape[:2]) >= SMALLEST_SIDE_PX:
                by_size.setdefault(image.shape[:2], []).append(i)
        for (height, width), indices in by_size.items():
            shrink = min(1.0, self.max_side_px / max(height, width))
            for start in range(0, len(indices), PICTURES_A_RUN):
                run = indices[start : start + PICTURES_A_RUN]
                seen = np.stack([_resized(images[i], shrink) for i in run])
                scale = (width / seen.shape[2], height / seen.shape[1])
                for i, found in zip(run, self._detect(seen), strict=True):
                    faces[i] = _as_faces(*found, scale)
        return faces

    @torch.inference_mode()
    def _detect(self, pictures: NDArray[np.uint8]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(N, H, W, 3) uint8 RGB to each picture's boxes (K, 4), landmarks (K, 5, 2) and scores (K,)."""
        seen = network_input(torch.from_numpy(pictures).to(self.device))
        logits, box_codes, landmark_codes = self.network(seen.to(self.dtype))
        scores = (logits[..., 1] - logits[..., 0]).sigmoid()  # the softmax of two, at half the cost
        anchors = self._anchors_of(pictures)
        found = []
        for score, box_code, landmark_code in zip(scores, box_codes, landmark_codes, strict=True):
            sure = (score >= self.threshold).nonzero()[:, 0]
            if len(sure) > MOST_CANDIDATES:
                sure = sure[score[sure].topk(MOST_CANDIDATES).indices]
            boxes, landmarks = decode(box_code[sure], landmark_code[sure], anchors[sure])
            kept = nms(boxes, score[sure], MOST_OVERLAP)[:MOST_FACES]
            found.append((boxes[kept].cpu(), landmarks[kept].cpu(), score[sure][kept].cpu()))
        return found

    def _anchors_of(self, pictures: NDArray[np.uint8]) -> Tensor:
        height, width = pictures.shape[1:3]
        if self._anchors[0] != (height, width):
            self._anchors = (height, width), grid_anchors(height, width).to(self.device)
        return self._anchors[1]


def network_input(pictures: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 RGB to what a RetinaFace sees: (N, 3, H, W) float32 BGR, means subtracted."""
    rgb = pictures.permute(0, 3, 1, 2)
    bgr = torch.empty(rgb.shape, device=rgb.device, memory_format=torch.channels_last)
    for channel, mean in enumerate(MEAN_BGR):
        torch.sub(rgb[:, 2 - channel], mean, out=bgr[:, channel])
    return bgr


def grid_anchors(height: int, width: int) -> Tensor:
    """Every anchor of a picture: (A, 3) float32 of centre x, centre y and side, px.

    Ordered as the network's outputs are: by level, row, column, side.
    """
    levels = []
    for stride, sides in LEVELS:
        y = (torch.arange(math.ceil(height / stride)) + 0.5) * stride
        x = (torch.arange(math.ceil(width / stride)) + 0.5) * stride
        yy, xx, side = torch.meshgrid(y, x, torch.tensor(sides, dtype=torch.float32), indexing="ij")
        levels.append(torch.stack([xx, yy, side], dim=-1).reshape(-1, 3))
    return torch.cat(levels)


def decode(box_codes: Tensor, landmark_codes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """What the network says of each anchor, as pixels (Liu et al., "SSD", 2016, with its variances).

    Args:
        box_codes: (A, 4): shift of the centre in sides / 0.1, logarithm of width and height in sides / 0.2.
        landmark_codes: (A, 10): x, y of each landmark from the centre, in sides / 0.1.
        anchors: (A, 3), see `grid_anchors`.

    Returns:
        boxes (A, 4) left, top, right, bottom; landmarks (A, 5, 2); px.
    """
    centre, side = anchors[:, :2], anchors[:, 2:]
    middle = centre + box_codes[:, :2] * CENTRE_VARIANCE * side
    half = torch.exp(box_codes[:, 2:] * SIZE_VARIANCE) * side / 2
    landmarks = centre[:, None] + landmark_codes.view(-1, 5, 2) * CENTRE_VARIANCE * side[:, None]
    return torch.cat([middle - half, middle + half], dim=1), landmarks


def _resized(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1.0:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _as_faces(boxes: Tensor, landmarks: Tensor, scores: Tensor, scale: tuple[float, float]) -> list[Face]:
    # The network counts from the picture's corner (a mirrored picture shows it), a Face from the centre of
    # the first pixel.
    xy = np.array(scale, dtype=np.float32)
    return [
        Face(box=box * np.tile(xy, 2) - 0.5, landmarks=points * xy - 0.5, score=float(score))
        for box, points, score in zip(boxes.numpy(), landmarks.numpy(), scores.numpy(), strict=True)
    ]


class RetinaFace(nn.Module):
    """facexlib's layers under the published names: body, feature pyramid, context modules and heads.

    Input (N, 3, H, W) BGR, means subtracted. Output, with A anchors: face logits (N, A, 2), box codes
    (N, A, 4), landmark codes (N, A, 10).
    """

    def __init__(self, body: nn.Module, widths: Sequence[int], channels: int) -> None:
        from facexlib.detection import retinaface_net as layers

        super().__init__()
        stages = [
            (name, stage) for name, stage in body.named_children() if name not in ("avg", "avgpool", "fc")
        ]
        self.body = nn.Sequential(OrderedDict(stages))
        self.fpn = layers.FPN(list(widths), channels)
        self.ssh1, self.ssh2, self.ssh3 = (layers.SSH(channels, channels) for _ in LEVELS)
        self.ClassHead = layers.make_class_head(len(LEVELS), channels, ANCHORS_PER_CELL)
        self.BboxHead = layers.make_bbox_head(len(LEVELS), channels, ANCHORS_PER_CELL)
        self.LandmarkHead = layers.make_landmark_head(len(LEVELS), channels, ANCHORS_PER_CELL)

    @classmethod
    def of(cls, state: Mapping[str, Tensor], path: Path | None = None) -> RetinaFace:
        """The network that these weights are of, holding them; CheckpointError where there is none."""
        try:
            laterals = [state[f"fpn.output{level}.0.weight"] for level in (1, 2, 3)]
        except KeyError as error:
            raise CheckpointError(
                f"not the weights of a RetinaFace: {error} is missing", path=path
            ) from error
        if "body.stage1.0.0.weight" in state:
            from facexlib.detection.retinaface_net import MobileNetV1

            body: nn.Module = MobileNetV1()
        else:
            from torchvision.models import resnet50  # type: ignore[import-untyped]

            body = resnet50(weights=None)
        network = cls(body, [lateral.shape[1] for lateral in laterals], laterals[0].shape[0])
        return fill(network, state, path)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures -> face logits, box codes and landmark codes, as the class says."""
        features = [pictures]
        for stage in self.body:
            features.append(stage(features[-1]))
        pyramid = self.fpn(features[-len(LEVELS) :])
        # The heads are left in float32 by whoever runs the rest in less: their sums become pixels.
        contexts = [
            ssh(level).float() for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), pyramid, strict=True)
        ]
        logits, boxes, landmarks = (
            torch.cat([head(context) for head, context in zip(heads, contexts, strict=True)], dim=1)
            for heads in (self.ClassHead, self.BboxHead, self.LandmarkHead)
        )
        return logits, boxes, landmarks


def read_state(weights: PathOrState) -> tuple[dict[str, Tensor], Path | None]:
    """A state dict and the file it came from, if any: tensors only, on the CPU, no "module." prefix.

    Raises:
        FileError: a file that cannot be read.
        CheckpointError: a damaged file, or one that holds anything but tensors.
    """
    path = None if isinstance(weights, Mapping) else Path(weights)
    state: object = weights
    if path is not None:
        try:
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise file_error(error, path, "read") from error
        except Exception as error:  # what a damaged file makes the unpickler raise has no common base
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"damaged, or not network weights: {reason}", path=path) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError("not a state dict: names and tensors expected", path=path)
    return {name.removeprefix("module."): value for name, value in state.items()}, path


Network = TypeVar("Network", bound=nn.Module)


def fill(network: Network, state: Mapping[str, Tensor], path: Path | None = None) -> Network:
    """Put every weight of `state` in its place in `network`, and the network in its eval state.

    Raises:
        CheckpointError: weights missing, unexpected, or of other shapes.
    """
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"these weights do not fit: {str(error).splitlines()[-1].strip()}", path=path
        ) from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise CheckpointError(
            f"these weights are of another network: {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}",
            path=path,
        )
    return network.eval()


def fold_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution right before it, in place: the same, a third faster."""
    for parent in network.modules():
        for (name, conv), (following, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, following, nn.Identity())
