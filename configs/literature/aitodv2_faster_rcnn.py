"""Faster R-CNN on AI-TOD v2: published with 12.8 AP.

Its own log is not known to us; assumed are the 2 images a step of the logs beside it.
"""

from ..common.published import mmdetection_schedule
from .aitod_faster_rcnn import dataloader, model, train

dataloader.train.dataset.names = "aitod_v2_trainval"
dataloader.test.dataset.names = "aitod_v2_test"
# 12 x 14,008 / 2 = 12 x 7,004 iterations, as in the released logs: 10 images have no object.
optimizer, lr_multiplier = mmdetection_schedule(train, dataloader, images=14008, batch=2, lr=0.01)
train.output_dir = "output/literature/aitodv2_faster_rcnn"
