"""Cascade R-CNN on AI-TOD v1: 13.8 AP in others' tables.

Those name no recipe; assumed is that of its NWD row.
"""

from ..common.published import mmdetection_cascade
from .aitod_faster_rcnn import dataloader, lr_multiplier, model, optimizer, train

mmdetection_cascade(model)
train.output_dir = "output/literature/aitod_cascade_rcnn"
