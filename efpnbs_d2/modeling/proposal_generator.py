"""The RPN that takes no loss from anchors inside ignored regions.

Shapes: N images; R anchors on an image, those of all levels. All boxes are xyxy in network-input
pixels.
"""

import torch
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .ignore import inside_ignored, regions_of


@PROPOSAL_GENERATOR_REGISTRY.register()
class IgnoringRPN(RPN):
    """`RPN` whose negative anchors inside an ignored region take no loss.

    Anchors matched with an object stay positive. Without regions it is the stock RPN, bit for bit.

    Source: our own reading; the paper's abstract does not mention ignored regions.
    """

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """The labels as they are: they are sampled once the ignored ones have left."""
        return label

    @torch.jit.unused
    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As `RPN.label_and_sample_anchors`, whose sample holds no ignored anchor.

        Args:
            anchors: of each level.
            gt_instances: N times the objects; the regions come with a `TargetsWithRegions`.

        Returns:
            N times labels (R,): 1 foreground, 0 background, -1 no loss; and N times the box (R, 4)
            of the object that each anchor is matched with.
        """
        labels, matched_boxes = super().label_and_sample_anchors(anchors, gt_instances)
        every_anchor = Boxes.cat(anchors)
        for label, regions in zip(labels, regions_of(gt_instances), strict=True):
            if len(regions) > 0:
                label[(label == 0) & inside_ignored(every_anchor, regions)] = -1
            super()._subsample_labels(label)  # in place
        return labels, matched_boxes
