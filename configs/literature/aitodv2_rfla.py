"""Faster R-CNN with RFLA on AI-TOD v2: published with 22.6 AP."""

from ..common.published import mmdetection_schedule, published_rfla
from .aitodv2_faster_rcnn import dataloader, model, train

published_rfla(model)
optimizer, lr_multiplier = mmdetection_schedule(
    train, dataloader, images=14008, batch=2, lr=0.005, warmup_iters=5000
)
train.output_dir = "output/literature/aitodv2_rfla"
