"""ROI heads that skip ignored regions and hand the ground truth to DCLoss.

Each for Faster and for Cascade R-CNN. All boxes are xyxy in network-input pixels. The field
``gt_scale`` of the targets, sqrt(area) of each object in original-image pixels, travels to the
proposals beside the other ``gt_`` fields.
"""

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    FastRCNNOutputLayers,
    ROIHeads,
    StandardROIHeads,
)
from detectron2.structures import Instances, pairwise_iou
from torch import nn

from .box_predictor import DCFastRCNNOutputLayers, LabelledProposals
from .ignore import without_ignored


@ROI_HEADS_REGISTRY.register()
class IgnoringROIHeads(StandardROIHeads):
    """`StandardROIHeads` that sample no background inside ignored regions.

    The regions come with the targets, see `ignore.py`. Without any, these are the stock heads, bit
    for bit.
    """

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """The stock sampling, of the proposals that are not ignored."""
        kept = without_ignored(proposals, targets, self.proposal_matcher)
        return super().label_and_sample_proposals(kept, targets)


@ROI_HEADS_REGISTRY.register()
class IgnoringCascadeROIHeads(CascadeROIHeads):
    """`CascadeROIHeads` that take no background from ignored regions, in any stage."""

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """The stock sampling, of the proposals that are not ignored."""
        kept = without_ignored(proposals, targets, self.proposal_matcher)
        return super().label_and_sample_proposals(kept, targets)

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        # Left out rather than labelled: no loss of Detectron2 knows a class to skip
        kept = without_ignored(proposals, targets, self.proposal_matchers[stage])
        return super()._match_and_label_boxes(kept, stage, targets)


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

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super()._init_box_head(cfg, input_shape)
        parts["box_predictor"] = _dc_predictor(cfg, parts["box_head"], parts["box_predictor"])
        return parts


@ROI_HEADS_REGISTRY.register()
class DCCascadeROIHeads(_TargetsStay, IgnoringCascadeROIHeads):
    """`IgnoringCascadeROIHeads` with `DCFastRCNNOutputLayers`, a DCLoss state in every stage."""

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super()._init_box_head(cfg, input_shape)
        stages = zip(parts["box_heads"], parts["box_predictors"], strict=True)
        parts["box_predictors"] = [_dc_predictor(cfg, head, stock) for head, stock in stages]
        return parts

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> LabelledProposals:
        proposals = super()._match_and_label_boxes(proposals, stage, targets)
        for labelled, target in zip(proposals, targets, strict=True):
            if len(target) == 0:  # background alone, which the stock method gives empty boxes
                labelled.gt_scale = labelled.proposal_boxes.tensor.new_zeros(len(labelled))
            elif target.has("gt_scale"):
                # The stock method keeps its matches to itself; matching has no randomness
                quality = pairwise_iou(target.gt_boxes, labelled.proposal_boxes)
                matches, _ = self.proposal_matchers[stage](quality)
                labelled.gt_scale = target.gt_scale[matches]
        return LabelledProposals(proposals, targets)


def _dc_predictor(
    cfg: Any, box_head: nn.Module, stock: FastRCNNOutputLayers
) -> DCFastRCNNOutputLayers:
    """The predictor that takes the place of `stock`, with its initial weights.

    The random stream is left as the stock heads leave it, so that a stock model and ours start from
    the same weights under the same seed.
    """
    with torch.random.fork_rng(devices=[]):
        predictor = DCFastRCNNOutputLayers(
            cfg, box_head.output_shape, box2box_transform=stock.box2box_transform
        )
    predictor.load_state_dict({**predictor.state_dict(), **stock.state_dict()})
    return predictor
