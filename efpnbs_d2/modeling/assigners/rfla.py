"""Hierarchical label assignment on receptive-field priors, as published with RFLA."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes
from torch import Tensor

from .assigner import ASSIGNER_REGISTRY, coordinates
from .claims import award, provide
from .ranking import labelled, positive_topk, top_priors
from .similarity import CONSTANT, similarity_function


@ASSIGNER_REGISTRY.register()
class HierarchicalAssigner:
    """Two rankings: one on the priors, and one on shrunken copies for what the first left over.

    Every object gets a prior, also where others want the same ones. Box targets belong to the
    priors as they are: only the second ranking sees the shrunken ones.

    Source: the released code of RFLA (Xu et al.); contested priors and ties by our own rules.
    """

    @configurable
    def __init__(
        self,
        *,
        topk: Sequence[int] = (3, 1),
        shrink: float = 0.9,
        negative_below: float | None = 0.8,
        similarity: str = "rfd_kl",
        constant: float = CONSTANT,
    ) -> None:
        """
        Args:
            topk: priors an object in the first and in the second ranking.
            shrink: size of the second ranking's priors in that of the first's.
            negative_below: priors outside both rankings are background below this similarity of
                the shrunken prior to every object, and take no loss from there on. None: all are.
            similarity: a name that `similarity_function` knows.
            constant: C of "nwd" and "dotd" in network-input pixels.

        Raises:
            ValueError: the similarity is unknown, its constant, `shrink` or a `topk` not positive,
                or there are not two `topk`.
        """
        if len(topk) != 2:
            raise ValueError(f"Hierarchical assignment ranks twice, got topk {list(topk)}")
        if shrink <= 0:
            raise ValueError(f"shrink must be positive, got {shrink}")
        self.topk = tuple(positive_topk(k) for k in topk)
        self.shrink = shrink
        self.negative_below = negative_below
        self.similarity = similarity_function(similarity, constant)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        options = cfg.MODEL.HIERARCHICAL_ASSIGNER
        return {
            "topk": options.TOPK,
            "shrink": options.SHRINK,
            "negative_below": options.NEGATIVE_BELOW,
            "similarity": options.SIMILARITY,
            "constant": cfg.MODEL.NWD.CONSTANT,
        }

    @torch.no_grad()
    def __call__(self, gt_boxes: Boxes | Tensor, priors: Boxes | Tensor) -> tuple[Tensor, Tensor]:
        """See `Assigner`."""
        objects, boxes = coordinates(gt_boxes), coordinates(priors)
        first, second = self.topk
        scores, wanted, _ = top_priors(self.similarity, objects, boxes, first)
        owner = award(wanted, scores, len(boxes))
        shrunken = _shrunken(boxes, self.shrink)
        scores, spare, best = top_priors(
            self.similarity, objects, shrunken, second, self.negative_below
        )
        owner = torch.where(owner >= 0, owner, award(spare, scores, len(boxes)))
        provide(owner, wanted, lambda i: self.similarity(objects[i], boxes))
        return labelled(owner, best, self.negative_below)


def _shrunken(boxes: Tensor, factor: float) -> Tensor:
    """Boxes (N, 4) of `factor` times the width and height around the same centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return torch.cat([centre - half, centre + half], dim=1)
