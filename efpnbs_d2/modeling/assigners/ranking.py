"""Labels by rank: each object takes the priors most similar to it, however little that is."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes
from torch import Tensor

from .assigner import ASSIGNER_REGISTRY, chunks, coordinates
from .claims import award, provide
from .similarity import CONSTANT, Similarity, highest_among, similarity_function

# Every how many priors one is in the sample; a prime, as rows of priors have round lengths.
_SAMPLED_EVERY = 61


@ASSIGNER_REGISTRY.register()
class RankingAssigner:
    """The `topk` most similar priors of each object are foreground, all others background.

    With "nwd" this is NWD-RKA. Every object gets a prior, also where others want the same ones, and
    none gets more than `topk`. The ranking does not depend on `constant`; labels do with a
    `negative_below` only.

    Source: the released code of NWD-RKA (Xu et al.); contested priors and ties by our own rules.
    """

    @configurable
    def __init__(
        self,
        *,
        topk: int = 2,
        similarity: str = "nwd",
        constant: float = CONSTANT,
        negative_below: float | None = None,
    ) -> None:
        """
        Args:
            topk: priors an object; published are 2 for Faster R-CNN and 3 for Cascade R-CNN.
            similarity: a name that `similarity_function` knows.
            constant: C of "nwd" and "dotd" in network-input pixels.
            negative_below: priors outside the ranking are background below this similarity to
                every object, and take no loss from there on. None makes all of them background;
                the released code has 0.3, which leaves out most of a crowded image.

        Raises:
            ValueError: the similarity is unknown, or its constant or `topk` not positive.
        """
        self.topk = positive_topk(topk)
        self.similarity = similarity_function(similarity, constant)
        self.negative_below = negative_below

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        options = cfg.MODEL.RANKING_ASSIGNER
        return {
            "topk": options.TOPK,
            "similarity": options.SIMILARITY,
            "constant": cfg.MODEL.NWD.CONSTANT,
            "negative_below": options.NEGATIVE_BELOW,
        }

    @torch.no_grad()
    def __call__(self, gt_boxes: Boxes | Tensor, priors: Boxes | Tensor) -> tuple[Tensor, Tensor]:
        """See `Assigner`."""
        objects, boxes = coordinates(gt_boxes), coordinates(priors)
        scores, wanted, best = top_priors(
            self.similarity, objects, boxes, self.topk, self.negative_below
        )
        owner = award(wanted, scores, len(boxes))
        provide(owner, wanted, lambda i: self.similarity(objects[i], boxes))
        return labelled(owner, best, self.negative_below)


def positive_topk(topk: int) -> int:
    """`topk`, which must be at least 1.

    Raises:
        ValueError: it is not.
    """
    if topk < 1:
        raise ValueError(f"topk must be at least 1 prior an object, got {topk}")
    return topk


def top_priors(
    similarity: Similarity,
    objects: Tensor,
    priors: Tensor,
    topk: int,
    relevant: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The priors most similar to each object, of equal ones the first.

    Priors are compared in chunks, and with those objects only that may want one of the chunk's: a
    sample of all priors tells what an object has at least.

    Args:
        similarity: of an object and a prior.
        objects: (G, 4).
        priors: (P, 4).
        topk: how many priors an object gets; all where there are fewer.
        relevant: the similarity from which on `best` has to be right; None: nowhere.

    Returns:
        The similarities (G, k) in descending order, the priors' indices (G, k), and `best` (P,),
        the similarity of each prior to the object most similar to it, or 0 below `relevant`.
    """
    best = torch.zeros_like(priors[:, 0])
    scores = objects.new_full((len(objects), min(topk, len(priors))), -1.0)
    wanted = torch.zeros_like(scores, dtype=torch.int64)
    needed = at_least(similarity, objects, priors, topk)
    if relevant is not None:
        needed = needed.clamp(max=relevant)
    for part in chunks(objects, priors):
        rows = (highest_among(similarity, objects, priors[part]) >= needed).nonzero()[:, 0]
        if len(rows) > 0:
            quality = similarity(objects[rows, None], priors[part])
            best[part] = quality.amax(dim=0)
            near_scores, near = _leading(quality, topk)
            merged = torch.cat([scores[rows], near_scores], dim=1)
            columns = torch.cat([wanted[rows], near + part.start], dim=1)
            scores[rows], order = _leading(merged, scores.shape[1])
            wanted[rows] = columns.gather(1, order)
    return scores, wanted, best


def at_least(similarity: Similarity, objects: Tensor, priors: Tensor, topk: int) -> Tensor:
    """What each object's similarity (G,) to its `topk`-th prior is at least, by a sample of all."""
    if len(priors) < topk * _SAMPLED_EVERY:
        return torch.zeros_like(objects[:, 0])
    scores, _, _ = top_priors(similarity, objects, priors[::_SAMPLED_EVERY], topk)
    return scores[:, -1]


def _leading(values: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Largest `topk` values of each row and their columns; of equal values the first column's.

    `Tensor.topk` promises no order of equal values, `max` does. `values` >= 0 are overwritten.
    """
    found = []
    for _ in range(min(topk, values.shape[1])):
        value, column = values.max(dim=1, keepdim=True)
        found.append((value, column))
        values.scatter_(1, column, -1.0)
    scores, columns = zip(*found, strict=True)
    return torch.cat(scores, dim=1), torch.cat(columns, dim=1)


def labelled(owner: Tensor, best: Tensor, negative_below: float | None) -> tuple[Tensor, Tensor]:
    """Matches and labels (P,) as `Assigner` gives them.

    Args:
        owner: (P,) the object that has each prior, -1 for none.
        best: (P,) similarity of each prior to the object most similar to it.
        negative_below: the similarity from which on a prior that nobody has is no background.
    """
    labels = torch.zeros_like(owner, dtype=torch.int8)
    if negative_below is not None:
        labels[best >= negative_below] = -1
    labels[owner >= 0] = 1
    return owner.clamp(min=0), labels
