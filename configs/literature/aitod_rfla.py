"""Faster R-CNN with RFLA on AI-TOD v1: published with 21.1 AP."""

from ..common.published import mmdetection_schedule, published_rfla
from .aitod_faster_rcnn import dataloader, model, train

published_rfla(model)
# 12 x 14,018 / 2 = 12 x 7,009 iterations, as in the released log; one GPU.
optimizer, lr_multiplier = mmdetection_schedule(
    train, dataloader, images=14018, batch=2, lr=0.005, warmup_iters=5000
)
train.output_dir = "output/literature/aitod_rfla"
