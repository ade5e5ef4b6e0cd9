"""Cascade R-CNN on VisDrone-DET: 25.2 AP on val in others' tables.

Those name no recipe; assumed is that of `visdrone_faster_rcnn.py`.
"""

from ..common.published import mmdetection_cascade
from .visdrone_faster_rcnn import dataloader, lr_multiplier, model, optimizer, train

mmdetection_cascade(model)
train.output_dir = "output/literature/visdrone_cascade_rcnn"
