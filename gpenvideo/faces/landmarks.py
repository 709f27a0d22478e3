"""Landmarks looked at again: in a small view of the upright face they are moved to where they are seen.

A detector tells faces from all else at every place and size at once, and has little left for where exactly an
eye is. A network that is shown one face at a time, already upright and of one size, tells that better.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpenvideo.errors import CheckpointError
from gpenvideo.face import Face
from gpenvideo.faces.alignment import similarity
from gpenvideo.faces.detector import Detector, Images, PathOrState, fill, fold_norms, read_state

__all__ = ["MIRRORED", "SIZE_PX", "TEMPLATE", "LandmarkNetwork", "RefinedDetector", "view_of"]

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]

SIZE_PX = 64
"""Side of a view."""

TEMPLATE = (
    0.5 + 0.85 * (np.array([(0.34, 0.4), (0.66, 0.4), (0.5, 0.58), (0.37, 0.74), (0.63, 0.74)]) - 0.54)
) * (SIZE_PX) - 0.5
"""(5, 2): where a view shows the landmarks that it was made by, px."""

MIRRORED = (1, 0, 2, 4, 3)
"""The landmarks' order in a mirrored picture."""

REACH_PX = 8.0  # of an output of 1
LEAST_EYES_PX = 1.0  # landmarks that lie closer together make no view


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and what goes past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class LandmarkNetwork(nn.Module):
    """Views (N, 3, 64, 64) float RGB in [0, 255] -> (N, 5, 2) px: how far landmarks lie from TEMPLATE."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 5, 2, 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Sequential(
            Residual(width, width, 1),
            Residual(width, 2 * width, 2),
            Residual(2 * width, 4 * width, 2),
            Residual(4 * width, 6 * width, 2),
        )
        self.head = nn.Linear(6 * width * (SIZE_PX // 16) ** 2, 2 * len(TEMPLATE))

    @classmethod
    def of(cls, weights: PathOrState) -> LandmarkNetwork:
        """The network that these weights are of, ready to run. FileError, CheckpointError."""
        state, path = read_state(weights)
        if "stem.weight" not in state or "head.weight" not in state:
            raise CheckpointError("not the weights of a landmark network", path=path)
        network = fill(cls(len(state["stem.weight"])), state, path)
        fold_norms(network)
        return network.to(memory_format=torch.channels_last)

    def forward(self, views: Tensor) -> Tensor:
        """As the class says."""
        x = torch.relu(self.norm(self.stem(views / 128 - 1)))
        moves: Tensor = self.head(self.body(x).flatten(1))
        return moves.view(-1, len(TEMPLATE), 2) * REACH_PX


class RefinedDetector:
    """A detector whose faces' landmarks are looked at again.

    Args:
        detector: finds the faces.
        weights: of a `LandmarkNetwork`: a .safetensors file, or its state dict.
        device: where that runs.

    Raises:
        FileError, CheckpointError: weights that cannot be read, or are of another network.
    """

    def __init__(
        self, detector: Detector, weights: PathOrState, *, device: str | torch.device = "cpu"
    ) -> None:
        self.detector, self.device = detector, torch.device(device)
        self.network = LandmarkNetwork.of(weights).to(self.device)

    def __repr__(self) -> str:
        return f"{self.detector!r}, landmarks refined"

    def __call__(self, images: Images) -> list[list[Face]]:
        """See `Detector`."""
        found = self.detector(images)
        return [
            [self._refined(image, face) for face in faces] for image, faces in zip(images, found, strict=True)
        ]

    @torch.inference_mode()
    def _refined(self, image: Picture, face: Face) -> Face:
        """A face alone, for nothing is to depend on its company: the mean of it as it is and mirrored."""
        if np.linalg.norm(face.landmarks[1] - face.landmarks[0]) < LEAST_EYES_PX:
            return face
        view, matrix = view_of(image, face.landmarks.astype(np.float64))
        views = torch.from_numpy(np.stack([view, view[:, ::-1]])).to(self.device)
        moves = self.network(views.permute(0, 3, 1, 2).float()).cpu().numpy()
        straight, mirrored = TEMPLATE + moves.astype(np.float64)
        mirrored[:, 0] = SIZE_PX - 1 - mirrored[:, 0]
        seen = (straight + mirrored[list(MIRRORED)]) / 2
        landmarks = (seen - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return Face(face.box, landmarks.astype(np.float32), face.score)


def view_of(image: Picture, landmarks: Points) -> tuple[Picture, Points]:
    """A face upright and of one size: what `LandmarkNetwork` sees of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2), about where they are, px; not all at one place.

    Returns:
        (64, 64, 3) uint8 RGB, beyond the picture's edge its last pixels; and view_from_image (2, 3).
    """
    matrix = similarity(landmarks, TEMPLATE)
    scale = float(np.hypot(*matrix[:, 0]))
    reduction = max(1, int(1 / scale))
    seen, moved = image, matrix
    if reduction > 1:
        corners = np.array([(-1, -1), (SIZE_PX, -1), (-1, SIZE_PX), (SIZE_PX, SIZE_PX)])
        around = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        low = np.maximum(np.floor(around.min(axis=0)), 0).astype(int)
        counts = np.minimum(np.ceil(around.max(axis=0)), image.shape[1::-1]).astype(int) - low
        counts = counts // reduction
        if counts.min() < 1:
            reduction = 1
        else:
            high = low + counts * reduction
            part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
            seen = np.asarray(
                cv2.resize(part, tuple(counts.tolist()), interpolation=cv2.INTER_AREA), np.uint8
            )
            shift = low + (reduction - 1) / 2  # where the first pixel of the reduced part lies
            moved = np.column_stack([matrix[:, :2] * reduction, matrix[:, 2] + matrix[:, :2] @ shift])
    view = cv2.warpAffine(
        seen, moved, (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(view, np.uint8), matrix
