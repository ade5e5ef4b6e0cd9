"""Faster R-CNN on AI-TOD v1, 12 epochs: published with 11.1 AP."""

from ..common.data import dataloader
from ..common.models.faster_rcnn import model
from ..common.published import mmdetection_faster_rcnn, mmdetection_schedule
from ..common.train import train

mmdetection_faster_rcnn(model, dataloader, num_classes=8)
dataloader.train.dataset.names = "aitod_v1_trainval"
dataloader.test.dataset.names = "aitod_v1_test"

# 12 x 14,018 / 8 = 12 x 1,753 iterations; 4 GPUs of 2 images.
optimizer, lr_multiplier = mmdetection_schedule(train, dataloader, images=14018, batch=8, lr=0.01)
train.output_dir = "output/literature/aitod_faster_rcnn"
