"""What a detector learns from a teacher of the same anchors: what that says at every anchor of a picture.

After Hinton et al., "Distilling the Knowledge in a Neural Network" (2015): the teacher's chances are soft
labels, and its codes are the student's wherever it sees a face. The teacher looks at the scene before its
degradation, the student at what is left.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gpenvideo.faces.detector import LEVELS, RetinaFace, grid_anchors, network_input
from gpenvideo.train.detector_losses import (
    BOX_WEIGHT,
    FEWEST_MATCHED,
    LANDMARK_WEIGHT,
    LINEAR_FROM,
    UNCERTAIN,
    Batch,
)

__all__ = ["distillation_losses", "hidden"]

ANCHOR_SIDES_PX = torch.tensor([float(side) for _, sides in LEVELS for side in sides])
LEAST_CHANCE = 0.05  # the teacher's codes where it says less of a face are noise


def distillation_losses(
    logits: Tensor, box_codes: Tensor, landmark_codes: Tensor, batch: Batch, teacher: RetinaFace
) -> dict[str, Tensor]:
    """The terms of the loss, and their weighted sum "total".

    The first three are the student's float32 outputs, see `RetinaFace`. "score" is the divergence of its
    chances from the teacher's; "box" and "landmark" are smooth L1 of the codes, weighted by the teacher's
    chance of a face. Each is a sum per anchor that the teacher calls a face, for each size of anchor alone
    (one with fewer than 20 such counts as having 20), so that the few of small and of large faces weigh as
    much as the many between. Anchors upon an uncertain face count in none: of those too little is left to
    be told.
    """
    with torch.inference_mode():
        wanted_logits, wanted_box, wanted_landmarks = (
            output.float() for output in teacher(network_input(batch.clean))
        )
    anchors = grid_anchors(*batch.clean.shape[1:3]).to(logits.device)
    legible = ~hidden(anchors, batch)
    wanted = functional.log_softmax(wanted_logits, -1)
    chance = wanted[..., 1].exp() * legible
    of_side = anchors[:, 2] == ANCHOR_SIDES_PX.to(logits.device)[:, None]  # (sides, A)
    counts = (of_side * chance.sum(0)).sum(1).clamp(min=FEWEST_MATCHED)
    weight = (of_side / counts[:, None]).mean(0)
    divergence = (wanted.exp() * (wanted - functional.log_softmax(logits, -1))).sum(-1)
    seen = chance > LEAST_CHANCE
    seen_weight = (chance * weight)[seen]
    score = (divergence * legible * weight).sum()
    box = (_smooth_l1(box_codes[seen], wanted_box[seen]) * seen_weight).sum()
    landmark = (_smooth_l1(landmark_codes[seen], wanted_landmarks[seen]) * seen_weight).sum()
    total = score + BOX_WEIGHT * box + LANDMARK_WEIGHT * landmark
    return {"total": total, "score": score, "box": box, "landmark": landmark}


def hidden(anchors: Tensor, batch: Batch) -> Tensor:
    """(N, A) bool: the anchors, (A, 3), with their centre upon an uncertain face."""
    x, y = anchors[:, 0, None], anchors[:, 1, None]
    left, top, right, bottom = (side[:, None] for side in batch.boxes.unbind(-1))
    upon = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)  # (N, A, F)
    return (upon & (batch.kinds == UNCERTAIN)[:, None]).any(-1)


def _smooth_l1(codes: Tensor, wanted: Tensor) -> Tensor:
    return functional.smooth_l1_loss(codes, wanted, reduction="none", beta=LINEAR_FROM).sum(-1)
