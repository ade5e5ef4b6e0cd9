"""Faster R-CNN on AI-TOD v1, 24 epochs: published with 12.6 AP."""

from ..common.published import mmdetection_schedule
from .aitod_faster_rcnn import dataloader, model, train

optimizer, lr_multiplier = mmdetection_schedule(
    train, dataloader, images=14018, batch=8, lr=0.01, epochs=24, steps=(16, 22)
)
train.output_dir = "output/literature/aitod_faster_rcnn_24e"
