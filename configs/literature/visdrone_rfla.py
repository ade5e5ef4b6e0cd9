"""Faster R-CNN with RFLA on VisDrone-DET: 27.2 AP on val in others' tables.

Those name no recipe, and perhaps mean another detector; assumed is that of
`visdrone_faster_rcnn.py`.
"""

from ..common.published import published_rfla
from .visdrone_faster_rcnn import dataloader, lr_multiplier, model, optimizer, train

published_rfla(model)
train.output_dir = "output/literature/visdrone_rfla"
