"""ROI heads that skip ignored regions, assign by any rule, and hand the ground truth to DCLoss.

Each for Faster and for Cascade R-CNN. All boxes are xyxy in network-input pixels. The field
``gt_scale`` of the targets, sqrt(area) of each object in original-image pixels, travels to the
proposals beside the other ``gt_`` fields.
"""

from typing import Any

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    FastRCNNOutputLayers,
    ROIHeads,
    StandardROIHeads,
)
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from .assigners import Assigner, as_assigner
from .box_predictor import DCFastRCNNOutputLayers, LabelledProposals, NWDFastRCNNOutputLayers
from .ignore import match_outside_ignored, regions_of


class _Assigning(ROIHeads):
    """Sampling by an `Assigner` (or a Detectron2 `Matcher`, on IoU), outside ignored regions.

    The regions come with the targets, see `ignore.py`.
    """

    # What yacs puts on top of the box head.
    output_layers: type[FastRCNNOutputLayers] = NWDFastRCNNOutputLayers

    @classmethod
    def _predictor(
        cls, cfg: Any, box_head: nn.Module, stock: FastRCNNOutputLayers
    ) -> FastRCNNOutputLayers:
        """The predictor that takes the place of `stock`, with its initial weights.

        The random stream is left as the stock heads leave it, so that a stock model and ours start
        from the same weights under the same seed.
        """
        with torch.random.fork_rng(devices=[]):
            predictor = cls.output_layers(
                cfg, box_head.output_shape, box2box_transform=stock.box2box_transform
            )
        predictor.load_state_dict({**predictor.state_dict(), **stock.state_dict()})
        return predictor

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """As `ROIHeads.label_and_sample_proposals`, of the proposals that are not ignored."""
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled = []
        for given, target, regions in zip(proposals, targets, regions_of(targets), strict=True):
            kept, matches, labels = _matched(self.proposal_matcher, given, target, regions)
            rows, classes = self._sample_proposals(matches, labels, target.gt_classes)
            kept = kept[rows]
            kept.gt_classes = classes
            _copy_targets(kept, target, matches[rows])
            sampled.append(kept)
        _log_samples([labelled.gt_classes for labelled in sampled], self.num_classes)
        return sampled


@ROI_HEADS_REGISTRY.register()
class IgnoringROIHeads(_Assigning, StandardROIHeads):
    """`StandardROIHeads` that sample no background inside ignored regions.

    With a `Matcher` and without regions these are the stock heads, bit for bit.
    """

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super().from_config(cfg, input_shape)
        parts["proposal_matcher"] = _assigner(cfg, parts["proposal_matcher"])
        return parts

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super()._init_box_head(cfg, input_shape)
        parts["box_predictor"] = cls._predictor(cfg, parts["box_head"], parts["box_predictor"])
        return parts


@ROI_HEADS_REGISTRY.register()
class IgnoringCascadeROIHeads(_Assigning, CascadeROIHeads):
    """`CascadeROIHeads` that take no background from ignored regions, in any stage."""

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super()._init_box_head(cfg, input_shape)
        stages = zip(parts["box_heads"], parts["box_predictors"], strict=True)
        parts["box_predictors"] = [cls._predictor(cfg, head, stock) for head, stock in stages]
        parts["proposal_matchers"] = [_assigner(cfg, m) for m in parts["proposal_matchers"]]
        return parts

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """As in the stock class, without what is ignored: no loss knows a class to skip."""
        labelled = []
        for given, target, regions in zip(proposals, targets, regions_of(targets), strict=True):
            kept, matches, labels = _matched(self.proposal_matchers[stage], given, target, regions)
            background = torch.full_like(matches, self.num_classes)
            if len(target) > 0:
                background = torch.where(labels == 0, background, target.gt_classes[matches])
            kept.gt_classes = background
            _copy_targets(kept, target, matches)
            labelled.append(kept)
        _log_samples([x.gt_classes for x in labelled], self.num_classes, f"stage{stage}/")
        return labelled


class _TargetsStay(ROIHeads):
    """Sampled proposals that DCLoss can ask for all objects of the batch, sampled or not."""

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> LabelledProposals:
        """The sampling of the class above; the targets stay with its result."""
        return LabelledProposals(super().label_and_sample_proposals(proposals, targets), targets)


@ROI_HEADS_REGISTRY.register()
class DCROIHeads(_TargetsStay, IgnoringROIHeads):
    """`IgnoringROIHeads` with `DCFastRCNNOutputLayers`."""

    output_layers = DCFastRCNNOutputLayers


@ROI_HEADS_REGISTRY.register()
class DCCascadeROIHeads(_TargetsStay, IgnoringCascadeROIHeads):
    """`IgnoringCascadeROIHeads` with `DCFastRCNNOutputLayers`, a DCLoss state in every stage."""

    output_layers = DCFastRCNNOutputLayers

    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> LabelledProposals:
        return LabelledProposals(super()._match_and_label_boxes(proposals, stage, targets), targets)


def _assigner(cfg: Any, matcher: Matcher) -> Assigner:
    """The rule of `matcher` by the similarity that the config names."""
    return as_assigner(matcher, cfg.MODEL.ROI_HEADS.SIMILARITY, cfg.MODEL.NWD.CONSTANT)


def _matched(
    rule: Matcher | Assigner, proposals: Instances, target: Instances, regions: Boxes
) -> tuple[Instances, Tensor, Tensor]:
    """The proposals of an image that are not ignored, with their objects' indices and labels."""
    matches, labels, ignored = match_outside_ignored(
        as_assigner(rule), target.gt_boxes, proposals.proposal_boxes, regions
    )
    if len(regions) > 0:
        proposals, matches, labels = (x[~ignored] for x in (proposals, matches, labels))
    return proposals, matches, labels


def _copy_targets(proposals: Instances, target: Instances, matches: Tensor) -> None:
    """Give proposals the ``gt_`` fields of their objects, in place; without objects there are none.

    A field that they have already stays.
    """
    if len(target) == 0:
        return
    for name, value in target.get_fields().items():
        if name.startswith("gt_") and not proposals.has(name):
            proposals.set(name, value[matches])


def _log_samples(classes: list[Tensor], num_classes: int, prefix: str = "") -> None:
    """Log the mean numbers of foreground and background samples an image, as the stock heads do."""
    background = [int((c == num_classes).sum()) for c in classes]
    foreground = [len(c) - b for c, b in zip(classes, background, strict=True)]
    storage = get_event_storage()
    storage.put_scalar(f"{prefix}roi_head/num_fg_samples", np.mean(foreground))
    storage.put_scalar(f"{prefix}roi_head/num_bg_samples", np.mean(background))
