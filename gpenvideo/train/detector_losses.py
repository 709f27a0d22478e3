"""What a detector is trained towards: anchors matched with faces, and the losses.

After Liu et al., "SSD" (2016) and Deng et al., "RetinaFace" (2019): cross entropy over the matched anchors
and the hardest others, smooth L1 for box and landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gpenvideo.faces.detector import CENTRE_VARIANCE, SIZE_VARIANCE, grid_anchors
from gpenvideo.train.detector_data import Scene

__all__ = ["Batch", "collate", "detector_losses", "encode", "match"]

POSITIVE_OVERLAP, NEGATIVE_OVERLAP = 0.35, 0.3  # IoU of anchor and face; between them neither
NEGATIVES_PER_POSITIVE = 7
FEWEST_MATCHED = 20  # a batch with fewer counts as having so many: one without a face would weigh too much
BOX_WEIGHT, LANDMARK_WEIGHT = 2.0, 1.0
LINEAR_FROM = 0.25  # codes; smooth L1 is linear beyond, so that faces blurred past telling weigh little
ABSENT, UNCERTAIN, FACE = 0, -1, 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes of one size, with as many places for faces as the fullest has.

    pictures   (N, S, S, 3) uint8 RGB
    boxes      (N, F, 4) float32, px from the picture's corner: left, top, right, bottom
    landmarks  (N, F, 5, 2) float32, px from the picture's corner
    kinds      (N, F) int64: FACE, UNCERTAIN (neither face nor background) or ABSENT (an empty place)
    clean      (N, S, S, 3) uint8 RGB, the pictures before they were degraded
    """

    pictures: Tensor
    boxes: Tensor
    landmarks: Tensor
    kinds: Tensor
    clean: Tensor


def collate(scenes: Sequence[Scene]) -> Batch:
    """Scenes to a batch; from pixel centres at whole numbers to the network's, at halves."""
    places = max(1, *(len(scene.certain) for scene in scenes))
    boxes = np.zeros((len(scenes), places, 4), np.float32)
    landmarks = np.zeros((len(scenes), places, 5, 2), np.float32)
    kinds = np.full((len(scenes), places), ABSENT)
    for i, scene in enumerate(scenes):
        count = len(scene.certain)
        boxes[i, :count], landmarks[i, :count] = scene.boxes + 0.5, scene.landmarks + 0.5
        kinds[i, :count] = np.where(scene.certain, FACE, UNCERTAIN)
    return Batch(
        torch.from_numpy(np.stack([scene.picture for scene in scenes])),
        torch.from_numpy(boxes),
        torch.from_numpy(landmarks),
        torch.from_numpy(kinds),
        torch.from_numpy(np.stack([scene.clean for scene in scenes])),
    )


def match(anchors: Tensor, boxes: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Which face each anchor is to find.

    A face gets its best anchor and those with an IoU of 0.35 or more; below 0.3 with every face an anchor
    is background; what overlaps an uncertain face is neither.

    Args:
        anchors: (A, 3) centre x, centre y, side, px.
        boxes: (N, F, 4) px.
        kinds: (N, F), see `Batch`.

    Returns:
        target (N, A) int64: 1 face, 0 background, -1 neither; face (N, A) int64: its place in `boxes`.
    """
    low, high = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
    common = torch.minimum(high[:, None], boxes[:, None, :, 2:]) - torch.maximum(
        low[:, None], boxes[:, None, :, :2]
    )
    inter = common.clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    overlap = inter / (anchors[:, 2].square()[:, None] + areas[:, None] - inter)
    overlap = overlap.masked_fill((kinds == ABSENT)[:, None], -1)
    best_of_face = overlap.argmax(1)  # (N, F)
    mine = torch.zeros_like(overlap).scatter_(1, best_of_face[:, None], 2.0)
    best, face = (overlap + mine.masked_fill((kinds != FACE)[:, None], 0)).max(-1)
    target = torch.where(best >= POSITIVE_OVERLAP, FACE, torch.where(best < NEGATIVE_OVERLAP, 0, -1))
    target[(target == FACE) & (kinds.gather(1, face) != FACE)] = -1
    # An uncertain face is larger than the anchors upon it: those are neither, too.
    within = inter / anchors[:, 2].square()[:, None]
    doubtful = (within * (kinds == UNCERTAIN)[:, None]).amax(-1) > 0.5
    target[doubtful & (target != FACE)] = -1
    return target, face


def encode(anchors: Tensor, boxes: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """The codes that `gpenvideo.faces.detector.decode` turns into these boxes and landmarks.

    anchors (K, 3), boxes (K, 4) and landmarks (K, 5, 2) in px; returns (K, 4) and (K, 10).
    """
    centre, side = anchors[:, :2], anchors[:, 2:]
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    box_codes = torch.cat(
        [(middle - centre) / side / CENTRE_VARIANCE, torch.log(size / side) / SIZE_VARIANCE], 1
    )
    return box_codes, ((landmarks - centre[:, None]) / side[:, None] / CENTRE_VARIANCE).flatten(1)


def detector_losses(
    logits: Tensor, box_codes: Tensor, landmark_codes: Tensor, batch: Batch
) -> dict[str, Tensor]:
    """The terms of the loss, and their weighted sum "total"; each is per matched anchor.

    The first three are the network's float32 outputs, see `RetinaFace`. Of the background's anchors only the
    hardest count, seven for each matched one over the whole batch. A batch with fewer than 20 matched anchors
    counts as having 20.
    """
    anchors = grid_anchors(*batch.pictures.shape[1:3]).to(logits.device)
    target, face = match(anchors, batch.boxes, batch.kinds)
    scene, anchor = torch.nonzero(target == FACE, as_tuple=True)
    chosen = face[scene, anchor]
    wanted_box, wanted_landmarks = encode(
        anchors[anchor], batch.boxes[scene, chosen], batch.landmarks[scene, chosen]
    )
    count = max(FEWEST_MATCHED, len(scene))
    box = _smooth_l1(box_codes[scene, anchor], wanted_box) / count
    landmark = _smooth_l1(landmark_codes[scene, anchor], wanted_landmarks) / count
    entropy = functional.cross_entropy(logits.flatten(0, 1), target.clamp(min=0).flatten(), reduction="none")
    background = entropy[target.flatten() == 0]
    hardest = background.topk(min(len(background), NEGATIVES_PER_POSITIVE * count)).values
    score = (entropy[target.flatten() == FACE].sum() + hardest.sum()) / count
    total = score + BOX_WEIGHT * box + LANDMARK_WEIGHT * landmark
    return {"total": total, "score": score, "box": box, "landmark": landmark}


def _smooth_l1(codes: Tensor, wanted: Tensor) -> Tensor:
    return functional.smooth_l1_loss(codes, wanted, reduction="sum", beta=LINEAR_FROM)
