"""Cascade R-CNN on AI-TOD v1, assignment by NWD in RPN and every stage: published with 19.1 AP."""

from ..common.published import nwd_in_heads, nwd_in_rpn
from .aitod_cascade_rcnn import dataloader, lr_multiplier, model, optimizer, train

nwd_in_rpn(model)
nwd_in_heads(model)
train.output_dir = "output/literature/aitod_cascade_rcnn_nwd"
