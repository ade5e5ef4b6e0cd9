"""What else the Wasserstein distance of boxes is good for: a box loss and the proposals' NMS.

Boxes are xyxy in network-input pixels.
"""

import math

import torch
from torch import Tensor

from .assigners.assigner import chunks
from .assigners.similarity import CONSTANT, nwd, squared_wasserstein


def nwd_loss(predicted: Tensor, target: Tensor, constant: float = CONSTANT) -> Tensor:
    """1 - NWD of each pair of boxes; its gradient does not vanish where boxes do not overlap.

    Args:
        predicted: (N, 4) decoded boxes, not deltas.
        target: (N, 4) boxes.
        constant: C in pixels; the gradient of a centre's coordinate is at most 1 / C.

    Returns:
        (N,) losses in [0, 1].

    Source: the released code of NWD (Wang et al.), its mode "exp".
    """
    return 1 - nwd(predicted, target, constant)


def nwd_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, constant: float = CONSTANT
) -> Tensor:
    """Greedy non-maximum suppression by NWD within each group.

    The threshold is a distance in pixels, whatever the size: with 0.85 and a constant of 12.8, a
    box suppresses what lies within 2.08 px. Of equal scores the first counts as the higher one.

    Args:
        boxes: (N, 4).
        scores: (N,).
        groups: (N,) integers, such as the level; boxes of different groups never meet.
        threshold: a box goes if its NWD with a better one that stays is above this, in (0, 1).
        constant: C in pixels.

    Returns:
        (K,) indices of the boxes that stay, by descending score.

    Source: the released code of NWD (Wang et al.), which has no epsilon here. It tells groups apart
    by shifting them, which a distance does not need to respect.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes, groups = boxes[order], groups[order]
    kept = torch.zeros_like(groups, dtype=torch.bool)
    radius = -constant * math.log(threshold)  # NWD above the threshold: a distance below this
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        kept[members] = _greedily_kept(boxes[members], radius)
    return order[kept]


def _greedily_kept(boxes: Tensor, radius: float) -> Tensor:
    """Which of `boxes` (N, 4), best first, lie within `radius` px of no better one that stays.

    Each round settles at least the best box that is not settled yet, and all at once elsewhere: as
    many rounds as the longest chain of boxes that suppress one another.
    """
    better, worse = _near_pairs(boxes, radius)
    kept = torch.ones_like(boxes[:, 0], dtype=torch.bool)
    while True:
        by = torch.zeros_like(boxes[:, 0]).index_add(0, worse, kept[better].to(boxes.dtype))
        if torch.equal(kept, by == 0):
            return kept
        kept = by == 0


def _near_pairs(boxes: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Both indices of each pair within `radius` px, the better box's first."""
    pairs = []
    for part in chunks(boxes, boxes):
        better, worse = (
            (squared_wasserstein(boxes[part, None], boxes[part.start :]) < radius**2)
            .triu(diagonal=1)
            .nonzero(as_tuple=True)
        )
        pairs.append(torch.stack([better, worse]) + part.start)
    better, worse = torch.cat(pairs, dim=1)
    return better, worse
