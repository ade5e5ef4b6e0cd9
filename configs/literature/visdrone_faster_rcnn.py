"""Faster R-CNN on VisDrone-DET: 18.1 AP on val in others' tables.

Those name no recipe. Assumed is RFLA's for AI-TOD, with the images resized as RFLA's authors say
they did for VisDrone (1,333 x 800 px): 2 images a step, rate 0.005, 3,000 proposals and detections.
"""

from ..common.data import dataloader
from ..common.models.faster_rcnn import model
from ..common.published import mmdetection_faster_rcnn, mmdetection_schedule, resize
from ..common.train import train

mmdetection_faster_rcnn(model, dataloader, num_classes=10)
dataloader.train.dataset.names = "visdrone_train"
dataloader.test.dataset.names = "visdrone_val"
resize(dataloader, short_edge=800, long_edge=1333)

# 12 x 6,471 / 2 = 12 x 3,236 iterations.
optimizer, lr_multiplier = mmdetection_schedule(
    train, dataloader, images=6471, batch=2, lr=0.005, warmup_iters=5000
)
train.output_dir = "output/literature/visdrone_faster_rcnn"
