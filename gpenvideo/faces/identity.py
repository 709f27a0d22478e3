"""Identity: embeddings of faces, and which tracks are the same person."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import nn

from gpenvideo.errors import OptionError
from gpenvideo.faces.alignment import template
from gpenvideo.faces.detector import PathOrState, fill, read_state

__all__ = ["ARCFACE", "Appearance", "ArcFaceEmbedder", "Embedder", "People", "arcface", "guarded_strength"]

Crops = NDArray[np.float32]
Embedding = NDArray[np.float32]

ARCFACE = "ArcFace-IR-SE50"
"""The weights that know people, by their name in the manifest."""

MOST_SIGHTINGS = 60  # that a person's embedding is the mean of: people change, slowly
NEVER = 10.0
SAME_IDENTITY, OTHER_IDENTITY, LEAST_STRENGTH = 0.4, 0.1, 0.4


class Embedder(Protocol):
    """Aligned faces to unit vectors whose products say whether two are one person."""

    @property
    def size_px(self) -> int:
        """Side of the crops."""

    @property
    def template(self) -> NDArray[np.float64]:
        """(5, 2), px: where the crops have the landmarks."""

    @property
    def same(self) -> float:
        """From which product on two embeddings are taken for one person."""

    @property
    def is_identity(self) -> bool:
        """Whether it knows people, and not only pictures of them."""

    def __call__(self, crops: Crops) -> Embedding:
        """(N, S, S, 3) float32 RGB in [-1, 1] to (N, D) float32 of unit length."""


def arcface(weights: PathOrState) -> nn.Module:
    """facexlib's ArcFace (Deng et al. 2019, IR-SE50): (N, 3, 112, 112) RGB in [-1, 1] to (N, 512).

    Frozen, in its eval state. Its flattening wants NCHW memory, not channels_last.

    Raises FileError, CheckpointError.
    """
    from facexlib.recognition.arcface_arch import Backbone

    network: nn.Module = fill(
        Backbone(50, drop_ratio=0.6, mode="ir_se"), *read_state(weights)
    ).requires_grad_(False)
    return network


class ArcFaceEmbedder:
    """Embeds faces with ArcFace; 0.1 s a face on two CPU cores.

    Two embeddings are one person from a cosine of 0.35 on. This network's authors part strangers at 0.25 (a
    squared distance of 1.5); here to take two people for one is worse than to take one for two.

    Args:
        weights: a .pth or .safetensors file, or its state dict.
        device: where the network runs.

    Raises:
        FileError, CheckpointError: see `arcface`.
    """

    size_px = 112
    same = 0.35
    is_identity = True

    def __init__(self, weights: PathOrState, *, device: str = "cpu") -> None:
        self.network = arcface(weights).to(device)
        self.device = device
        # GPEN's template is face recognition's with a rim of 28 px, at 168 px (GPEN notes, section 11)
        self.template = template("gpen", 168) - 28

    def __repr__(self) -> str:
        return f"ArcFaceEmbedder(on {self.device})"

    def __call__(self, crops: Crops) -> Embedding:
        """(N, 112, 112, 3) float32 RGB in [-1, 1] to (N, 512)."""
        _check(crops, self.size_px)
        with torch.inference_mode():
            pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().to(self.device)
            return _unit(self.network(pictures).float().cpu().numpy())


class Appearance:
    """Embeds how a face looks in pictures, without a network: it knows pictures, not people.

    Histograms of the directions of edges (Dalal and Triggs 2005) in 6 x 6 cells over the face and the hair
    about it. Of 52 people, neutral and smiling, with the default detector's landmarks, pairs of one are told
    from pairs of two with an AUC of 0.990 (EER 3 %) where faces are 130 px wide, 0.987 (6 %) at 64 px, 0.961
    (8 %) at 32 px, and 0.934 (12 %) where both pictures are degraded (`draw(rng, "mild")`). At `same`, 2, 6,
    12 and 25 % of the pairs of one are missed, and 5, 5, 3 and 2 % of strangers taken for each other; before
    other backgrounds in other light 54 and 0.2 %.

    Tried beside it, all with the same good landmarks: on good pictures, degraded ones, and before other
    backgrounds in other light it has 0.997, 0.977 and 0.957; the default detector's first features 0.976,
    0.884 and 0.955; colour 0.999, 0.83 and 0.61; the shape of the landmarks 0.66, 0.58 and no more.
    """

    size_px = 36
    same = 0.8
    is_identity = False
    cells, angles = 6, 12

    def __init__(self) -> None:
        left, top, side = 0.14, 0.18, 0.72  # of an FFHQ crop
        self.template = (template("ffhq", 1) - (left, top)) * (self.size_px / side)

    def __repr__(self) -> str:
        return "Appearance()"

    def __call__(self, crops: Crops) -> Embedding:
        """(N, 36, 36, 3) float32 RGB in [-1, 1] to (N, 432)."""
        _check(crops, self.size_px)
        return (
            np.stack([self._edges(crop) for crop in crops])
            if len(crops)
            else np.zeros((0, self.cells**2 * self.angles), np.float32)
        )

    def _edges(self, crop: NDArray[np.float32]) -> Embedding:
        luma = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (0, 0), 1.2)
        x, y = (cv2.Sobel(luma, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
        angle = (np.arctan2(y, x) * (self.angles / np.pi) % self.angles)[..., None]
        apart = np.abs(angle - np.arange(self.angles))
        shares = np.maximum(0, 1 - np.minimum(apart, self.angles - apart)) * np.hypot(x, y)[..., None]
        side = self.size_px // self.cells
        cells = shares.reshape(self.cells, side, self.cells, side, self.angles).mean(axis=(1, 3))
        lengths = np.linalg.norm(cells, axis=2, keepdims=True)
        even = cells / (lengths + 0.15 * np.sqrt((lengths**2).mean()) + 1e-9)
        return _unit(even.reshape(1, -1)).ravel()


class People:
    """Says which person a track is; a function of its calls alone.

    People are numbered from 1 in the order of their appearance. Two tracks of one picture are never the same
    person. A person's embedding is the mean of the sightings, of the last 60 or so.

    Args:
        same: see `Embedder`.

    Raises:
        OptionError: `same` outside [-1, 1].
    """

    def __init__(self, same: float) -> None:
        if not -1.0 <= same <= 1.0:
            raise OptionError(f"two embeddings are one person from a product in [-1, 1] on, got {same}")
        self.same = same
        self._means: list[NDArray[np.float64]] = []
        self._counts: list[int] = []
        self._of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._means)

    def of(self, track: int) -> int:
        """The number of a track's person; 0 where it was not told yet."""
        return self._of.get(track, 0)

    def know(self, embedding: Embedding) -> int:
        """The number of somebody who is seen outside the video; two who are alike enough are one."""
        people = range(1, len(self) + 1)
        person = self._alike({0: embedding}, people).get(0) or self._new(len(embedding))
        self._add(person, embedding)
        return person

    def meet(self, sightings: Mapping[int, Embedding], here: Collection[int]) -> None:
        """Take in a picture.

        A track that was not seen before is the person it is most like, if like enough, and somebody new
        otherwise. Where two tracks that were taken for one person are here at once, the later one is to be
        told anew.

        Args:
            sightings: embeddings of some of its tracks.
            here: all its tracks.
        """
        taken: set[int] = set()
        for track in sorted(here):
            if self.of(track) in taken:
                del self._of[track]
            elif self.of(track):
                taken.add(self.of(track))
        fresh = sorted(track for track in sightings if track not in self._of)
        free = [person for person in range(1, len(self) + 1) if person not in taken]
        self._of |= self._alike({track: sightings[track] for track in fresh}, free)
        for track in fresh:
            if track not in self._of:
                self._of[track] = self._new(len(sightings[track]))
        for track, embedding in sightings.items():
            self._add(self._of[track], embedding)

    def _new(self, dimensions: int) -> int:
        self._means.append(np.zeros(dimensions))
        self._counts.append(0)
        return len(self)

    def _add(self, person: int, embedding: Embedding) -> None:
        count = self._counts[person - 1] = min(self._counts[person - 1] + 1, MOST_SIGHTINGS)
        self._means[person - 1] += (embedding - self._means[person - 1]) / count

    def _alike(self, sightings: Mapping[int, Embedding], people: Sequence[int]) -> dict[int, int]:
        """Which of these people the tracks are, all together the likest."""
        if not sightings or not people:
            return {}
        means = _unit(np.stack([self._means[person - 1] for person in people]))
        likeness = np.stack(list(sightings.values())) @ means.T
        costs = np.where(likeness >= self.same, 1 - likeness, NEVER)
        tracks = list(sightings)
        return {
            tracks[i]: people[j]
            for i, j in zip(*linear_sum_assignment(costs), strict=True)
            if costs[i, j] < NEVER
        }


def guarded_strength(similarity: float) -> float:
    """How much of a restored face may be shown that is so like its input, as ArcFace sees it.

    Args:
        similarity: cosine of the two embeddings, in [-1, 1].

    Returns:
        1 from a cosine of 0.4 on, where ArcFace is sure of one person; 0.4 up to 0.1, where it sees two;
        smooth between. Never 0: of a face that is bad enough, the input's embedding says little.
    """
    share = min(1.0, max(0.0, (similarity - OTHER_IDENTITY) / (SAME_IDENTITY - OTHER_IDENTITY)))
    return LEAST_STRENGTH + (1 - LEAST_STRENGTH) * share * share * (3 - 2 * share)


def _check(crops: Crops, size_px: int) -> None:
    if crops.ndim != 4 or crops.shape[1:] != (size_px, size_px, 3) or crops.dtype != np.float32:
        raise OptionError(f"crops are (N, {size_px}, {size_px}, 3) float32, got {crops.shape} {crops.dtype}")


def _unit(vectors: NDArray[np.floating]) -> Embedding:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)
