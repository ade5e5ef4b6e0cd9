"""Labels by rank: each object takes the priors most similar to it, however little that is."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes
from torch import Tensor

from .assigner import ASSIGNER_REGISTRY, chunks, coordinates
from .claims import award, provide
from .similarity import CONSTANT, Similarity, similarity_function


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
        scores, wanted, best = top_priors(self.similarity, objects, boxes, self.topk)
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
    similarity: Similarity, objects: Tensor, priors: Tensor, topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The priors most similar to each object, of equal ones the first.

    Args:
        similarity: of an object and a prior.
        objects: (G, 4).
        priors: (P, 4).
        topk: how many priors an object gets; all where there are fewer.

    Returns:
        The similarities (G, k) in descending order, the priors' indices (G, k), and the similarity
        (P,) of each prior to the object most similar to it, 0 without objects.
    """
    best = torch.zeros_like(priors[:, 0])
    scores = torch.zeros_like(objects[:, :0])
    wanted = torch.zeros_like(scores, dtype=torch.int64)
    for part in chunks(objects, priors) if len(objects) > 0 else ():
        quality = similarity(objects[:, None], priors[part])
        best[part] = quality.amax(dim=0)
        near_scores, near = _leading(quality, topk)
        scores, order = _leading(torch.cat([scores, near_scores], dim=1), topk)
        wanted = torch.cat([wanted, near + part.start], dim=1).gather(1, order)
    return scores, wanted, best


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
