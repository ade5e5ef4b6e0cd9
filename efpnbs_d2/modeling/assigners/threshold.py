"""Labels by the similarity of a prior's best object: Detectron2's rule, in bounded memory."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes
from torch import Tensor

from .assigner import ASSIGNER_REGISTRY, Assigner, chunks, coordinates
from .claims import award_pairs
from .similarity import CONSTANT, similarity_function


@ASSIGNER_REGISTRY.register()
class ThresholdAssigner:
    """A prior's label is the range that its similarity to the most similar object falls into.

    With "iou" and without `min_quality` the result is that of `Matcher(pairwise_iou(...))`, bit for
    bit, without the matrix of all pairs. Priors and objects are compared in chunks, and by IoU only
    where they can overlap.

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
            ValueError: the similarity is unknown, or its constant not positive.
        """
        matcher = Matcher(list(thresholds), list(labels), allow_low_quality_matches)  # checks them
        self.bounds, self.labels = matcher.thresholds, matcher.labels
        self.allow_low_quality_matches = allow_low_quality_matches
        self.similarity = similarity_function(similarity, constant)
        self.overlaps_only = similarity == "iou"
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
            self._add_low_quality(objects, boxes, peaks, matches, labels)
        return matches, labels

    def _best(self, objects: Tensor, priors: Tensor, matches: Tensor) -> tuple[Tensor, Tensor]:
        """Best similarity (P,) of each prior, and each object's in each of the chunks (chunks, G).

        The indices of the most similar objects are written into `matches`.
        """
        best = torch.zeros_like(priors[:, 0])
        peaks = []
        for part in chunks(objects, priors):
            peak = torch.zeros_like(objects[:, 0])
            rows = self._comparable(objects, priors[part])
            if len(rows) > 0:
                quality = self.similarity(objects[rows, None], priors[part])
                best[part], winners = quality.max(dim=0)
                # Of equal ones the first: where nothing overlaps, that is object 0
                matches[part] = torch.where(best[part] > 0, rows[winners], 0)
                peak[rows] = quality.amax(dim=1)
            peaks.append(peak)
        return best, torch.stack(peaks)

    def _comparable(self, objects: Tensor, priors: Tensor) -> Tensor:
        """Indices of the objects whose similarity to one of `priors` may be above 0."""
        if not self.overlaps_only:
            return torch.arange(len(objects), device=objects.device)
        low, high = priors[:, :2].amin(dim=0), priors[:, 2:].amax(dim=0)
        return ((objects[:, :2] < high) & (objects[:, 2:] > low)).all(dim=1).nonzero()[:, 0]

    def _add_low_quality(
        self, objects: Tensor, priors: Tensor, peaks: Tensor, matches: Tensor, labels: Tensor
    ) -> None:
        """Make each object's most similar priors foreground, ties included, in place."""
        top = peaks.amax(dim=0)
        claims = []
        for peak, part in zip(peaks, chunks(objects, priors), strict=True):
            wanting = peak == top
            if self.min_quality is not None:
                wanting &= top >= self.min_quality
            rows = wanting.nonzero()[:, 0]
            if len(rows) > 0:
                quality = self.similarity(objects[rows, None], priors[part])
                claimants, claimed = (quality == top[rows, None]).nonzero(as_tuple=True)
                claims.append(torch.stack([claimed + part.start, rows[claimants]]))
        if not claims:
            return
        claimed, claimants = torch.cat(claims, dim=1)
        labels[claimed] = 1
        if self.min_quality is not None:
            order = torch.argsort(claimants, stable=True)
            claimed, claimants = claimed[order], claimants[order]
            owner = award_pairs(claimed, claimants, top[claimants], len(priors))
            torch.where(owner >= 0, owner, matches, out=matches)


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
