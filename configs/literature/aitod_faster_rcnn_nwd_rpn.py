"""Faster R-CNN on AI-TOD v1, the RPN's assignment, NMS and box loss by NWD: 17.8 AP published."""

from ..common.published import nwd_in_rpn
from .aitod_faster_rcnn import dataloader, lr_multiplier, model, optimizer, train

nwd_in_rpn(model)
model.proposal_generator.update(
    nms_type="nwd",
    nms_thresh=0.85,
    box_reg_loss_type="nwd",
    loss_weight={"loss_rpn_cls": 1.0, "loss_rpn_loc": 10.0},
)
train.output_dir = "output/literature/aitod_faster_rcnn_nwd_rpn"
