"""Labels by the similarity of a prior's best object: Detectron2's rule, in bounded memory."""

import math
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes
from torch import Tensor

from .assigner import ASSIGNER_REGISTRY, Assigner, chunks, coordinates
from .claims import award_pairs
from .ranking import at_least
from .similarity import CONSTANT, highest_among, iou, similarity_function


@ASSIGNER_REGISTRY.register()
class ThresholdAssigner:
    """A prior's label is the range that its similarity to the most similar object falls into.

    With "iou" and without `min_quality` the result is that of `Matcher(pairwise_iou(...))`, bit for
    bit, without the matrix of all pairs. Priors are compared in chunks, and with those objects only
    that can be similar enough to one of them to matter.

    Source: Detectron2's `Matcher`; with `min_quality` mmdetection's rule, which NWD was published
    with (thresholds 0.3 and 0.7, `min_quality` 0.3).
    """

    @configurable
    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        *,
        allow_low_quality_matches: bool = True,
        similarity: str = "iou",
        constant: float = CONSTANT,
        min_quality: float | None = None,
    ) -> None:
        """
        Args:
            thresholds: ascending similarities between the ranges.
            labels: of each range, one more than thresholds: 1, 0 or -1.
            allow_low_quality_matches: the priors most similar to an object are foreground too.
            similarity: a name that `similarity_function` knows.
            constant: C of "nwd" and "dotd" in network-input pixels.
            min_quality: what an object's best priors must reach for that. They are then matched
                with this object, and of several with the most similar one. None: any quality, and
                matched with the most similar object whether it needs them or not, as in Detectron2.

        Raises:
            ValueError: the thresholds are not positive and ascending, the labels are others or not
                one more, the similarity is unknown, or its constant not positive.
        """
        self.bounds = [-math.inf, *thresholds, math.inf]
        self.labels = list(labels)
        if min(thresholds, default=0) <= 0 or self.bounds != sorted(self.bounds):
            raise ValueError(f"Thresholds must be positive and ascend, got {list(thresholds)}")
        if len(labels) != len(thresholds) + 1 or not set(labels) <= {-1, 0, 1}:
            raise ValueError(
                f"{len(thresholds)} thresholds need a label for each of the "
                f"{len(thresholds) + 1} ranges, 1, 0 or -1, got {list(labels)}"
            )
        self.allow_low_quality_matches = allow_low_quality_matches
        self.similarity = similarity_function(similarity, constant)
        self.min_quality = min_quality

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        options = cfg.MODEL.THRESHOLD_ASSIGNER
        return {
            "thresholds": cfg.MODEL.RPN.IOU_THRESHOLDS,
            "labels": cfg.MODEL.RPN.IOU_LABELS,
            "similarity": options.SIMILARITY,
            "constant": cfg.MODEL.NWD.CONSTANT,
            "min_quality": options.MIN_QUALITY,
        }

    @torch.no_grad()
    def __call__(self, gt_boxes: Boxes | Tensor, priors: Boxes | Tensor) -> tuple[Tensor, Tensor]:
        """See `Assigner`."""
        objects, boxes = coordinates(gt_boxes), coordinates(priors)
        matches = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        labels = torch.full_like(matches, self.labels[0], dtype=torch.int8)
        if len(objects) == 0 or len(boxes) == 0:
            return matches, labels
        best, peaks = self._best(objects, boxes, matches)
        for label, low, high in zip(self.labels, self.bounds[:-1], self.bounds[1:], strict=True):
            labels[(best >= low) & (best < high)] = label
        if self.allow_low_quality_matches:
            claimed, claimants = self._best_priors(objects, boxes, peaks)
            labels[claimed] = 1
            if self.min_quality is None:
                self._rematch(objects, boxes, claimed[best[claimed] < self.bounds[1]], matches)
            else:
                scores = peaks.amax(dim=0)[claimants]
                owner = award_pairs(claimed, claimants, scores, len(boxes))
                matches = torch.where(owner >= 0, owner, matches)
        return matches, labels

    def _best(self, objects: Tensor, priors: Tensor, matches: Tensor) -> tuple[Tensor, Tensor]:
        """Best similarity (P,) of each prior, and each object's in each of the chunks (chunks, G).

        The indices of the most similar objects are written into `matches`.
        """
        best = torch.zeros_like(priors[:, 0])
        peaks = []
        # Below the first threshold only an object's own best priors matter
        needed = at_least(self.similarity, objects, priors, 1).clamp(max=self.bounds[1])
        for part in chunks(objects, priors):
            peak = torch.zeros_like(needed)
            highest = highest_among(self.similarity, objects, priors[part])
            rows = ((highest >= needed) & (highest > 0)).nonzero()[:, 0]
            if len(rows) > 0:
                quality = self.similarity(objects[rows, None], priors[part])
                best[part], winners = quality.max(dim=0)
                # Of equal ones the first: where nothing overlaps, that is object 0
                matches[part] = torch.where(best[part] > 0, rows[winners], 0)
                peak[rows] = quality.amax(dim=1)
            peaks.append(peak)
        return best, torch.stack(peaks)

    def _best_priors(self, objects: Tensor, priors: Tensor, peaks: Tensor) -> tuple[Tensor, Tensor]:
        """Each object's most similar priors, ties included: indices of priors, and of objects.

        Without a least quality, of the objects that share a prior one is enough: those that touch
        no prior share all of them.
        """
        top = peaks.amax(dim=0)
        wanting = peaks == top
        if self.similarity is not iou:
            # Exponentials vanish for an object far larger than any prior: all would be its best.
            wanting &= top > 0
        if self.min_quality is not None:
            wanting &= top >= self.min_quality
        pairs = [torch.zeros(2, 0, dtype=torch.int64, device=priors.device)]
        for of_part, part in zip(wanting, chunks(objects, priors), strict=True):
            rows = of_part.nonzero()[:, 0]
            if len(rows) > 0:
                quality = self.similarity(objects[rows, None], priors[part])
                is_best = quality == top[rows, None]
                if self.min_quality is None:
                    claimed = is_best.any(dim=0).nonzero()[:, 0]
                    claimants = is_best[:, claimed].byte().argmax(dim=0)
                else:
                    claimants, claimed = is_best.nonzero(as_tuple=True)
                pairs.append(torch.stack([claimed + part.start, rows[claimants]]))
        claimed, claimants = torch.cat(pairs, dim=1)
        return claimed, claimants

    def _rematch(self, objects: Tensor, priors: Tensor, weak: Tensor, matches: Tensor) -> None:
        """Match the priors `weak` (indices) with the most similar of all objects, in place."""
        if self.similarity is iou:
            return  # what overlaps has been compared
        for part in chunks(objects, weak):
            quality = self.similarity(objects[:, None], priors[weak[part]])
            matches[weak[part]] = quality.argmax(dim=0)


def as_assigner(
    rule: Matcher | Assigner, similarity: str = "iou", constant: float = CONSTANT
) -> Assigner:
    """The rule itself, or that of a Detectron2 `Matcher` by a similarity.

    Raises:
        ValueError: the similarity is unknown, or its constant not positive.
    """
    if not isinstance(rule, Matcher):
        return rule
    return ThresholdAssigner(
        rule.thresholds[1:-1],  # the Matcher has put infinities around them
        rule.labels,
        allow_low_quality_matches=rule.allow_low_quality_matches,
        similarity=similarity,
        constant=constant,
    )
