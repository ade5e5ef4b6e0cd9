"""The project's RPN: any rule of label assignment, no loss from anchors inside ignored regions.

Shapes: N images; R anchors on an image, those of all levels. All boxes are xyxy in network-input
pixels.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .assigners import Assigner, as_assigner, build_assigner
from .assigners.similarity import CONSTANT, positive_constant
from .ignore import match_outside_ignored, regions_of
from .nwd import nwd_loss, nwd_nms


@PROPOSAL_GENERATOR_REGISTRY.register()
class IgnoringRPN(RPN):
    """`RPN` with a choice of assignment, NMS and box loss, which ignores what annotators ignored.

    Negative anchors inside an ignored region take no loss; those matched with an object stay
    positive. At its defaults and without regions it is the stock RPN, bit for bit, except that
    matching needs no memory for all pairs.

    Source: our own reading; the paper's abstract does not mention ignored regions.
    """

    @configurable
    def __init__(
        self,
        *,
        anchor_matcher: Matcher | Assigner,
        nms_type: str = "iou",
        nwd_constant: float = CONSTANT,
        box_reg_loss_type: str = "smooth_l1",
        **rpn: Any,
    ) -> None:
        """
        Args:
            anchor_matcher: an `Assigner`, or Detectron2's `Matcher`, which goes by IoU.
            nms_type: "iou", or "nwd" for proposals within a distance of one another; `nms_thresh`
                is a threshold on that similarity (0.85 in the published recipe for NWD).
            nwd_constant: C of NMS and loss "nwd" in network-input pixels.
            box_reg_loss_type: "nwd" (on decoded boxes) or a name that `RPN` knows.
            rpn: the other arguments of `RPN`, which refuses unknown ones.

        Raises:
            ValueError: the NMS is unknown, its threshold is not one of NWD, or the constant is not
                positive.
        """
        self.has_nwd_loss = box_reg_loss_type == "nwd"
        stock_loss = "smooth_l1" if self.has_nwd_loss else box_reg_loss_type
        super().__init__(anchor_matcher=anchor_matcher, box_reg_loss_type=stock_loss, **rpn)
        self.anchor_matcher = as_assigner(anchor_matcher)
        self.nms_type = nms_type
        self.nwd_constant = positive_constant(nwd_constant)
        if nms_type not in ("iou", "nwd"):
            raise ValueError(
                f"NMS of proposals by {nms_type!r} (MODEL.RPN.NMS_TYPE, nms_type) is unknown, "
                f"expected iou or nwd"
            )
        if nms_type == "nwd" and not 0 < self.nms_thresh < 1:
            raise ValueError(f"NMS by NWD needs a threshold in (0, 1), got {self.nms_thresh}")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "anchor_matcher": build_assigner(cfg),
            "nms_type": cfg.MODEL.RPN.NMS_TYPE,
            "nwd_constant": cfg.MODEL.NWD.CONSTANT,
        }

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
        every_anchor = Boxes.cat(anchors)
        labels, matched_boxes = [], []
        for target, regions in zip(gt_instances, regions_of(gt_instances), strict=True):
            matches, label, ignored = match_outside_ignored(
                self.anchor_matcher, target.gt_boxes, every_anchor, regions
            )
            if self.anchor_boundary_thresh >= 0:
                label[~every_anchor.inside_box(target.image_size, self.anchor_boundary_thresh)] = -1
            label[ignored] = -1
            labels.append(self._subsample_labels(label))
            objects = target.gt_boxes.tensor
            empty = len(objects) == 0  # the boxes of anchors that are all background are not used
            matched_boxes.append(
                torch.zeros_like(every_anchor.tensor) if empty else objects[matches]
            )
        return labels, matched_boxes

    @torch.jit.unused
    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """As `RPN.losses`, which has no place for another box loss: with "nwd" it is replaced."""
        losses = super().losses(
            anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes
        )
        if self.has_nwd_loss:
            foreground = torch.stack(gt_labels) == 1
            own_anchors = Boxes.cat(anchors).tensor[foreground.nonzero()[:, 1]]
            predicted = self.box2box_transform.apply_deltas(
                cat(pred_anchor_deltas, dim=1)[foreground], own_anchors
            )
            loss = nwd_loss(predicted, torch.stack(gt_boxes)[foreground], self.nwd_constant).sum()
            weight = self.loss_weight.get("loss_rpn_loc", 1.0)
            losses["loss_rpn_loc"] = weight * loss / (self.batch_size_per_image * len(gt_labels))
        return losses

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """As `RPN.predict_proposals`, with the chosen NMS within each level."""
        if self.nms_type == "iou":
            return super().predict_proposals(
                anchors, pred_objectness_logits, pred_anchor_deltas, image_sizes
            )
        with torch.no_grad():
            topk = self.pre_nms_topk[self.training]
            decoded = self._decode_proposals(anchors, pred_anchor_deltas)
            # No IoU is above 1: the stock function selects, clips and checks, and suppresses none
            levels = [
                find_top_rpn_proposals(
                    [boxes],
                    [logits],
                    image_sizes,
                    1.0,
                    topk,
                    topk,
                    self.min_box_size,
                    self.training,
                )
                for boxes, logits in zip(decoded, pred_objectness_logits, strict=True)
            ]
            return [self._suppress(list(image)) for image in zip(*levels, strict=True)]

    def _suppress(self, levels: list[Instances]) -> Instances:
        """The best proposals of an image, by NWD within each level and by score over all."""
        candidates = Instances.cat(levels)
        level = [torch.full_like(x.objectness_logits, i) for i, x in enumerate(levels)]
        kept = nwd_nms(
            candidates.proposal_boxes.tensor,
            candidates.objectness_logits,
            torch.cat(level),
            self.nms_thresh,
            self.nwd_constant,
        )
        return candidates[kept[: self.post_nms_topk[self.training]]]
