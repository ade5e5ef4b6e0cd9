"""Detectron2's stock recipe on a few hundred VisDrone images, on a CPU.

Anchors, assignment, limits and losses are the stock ones; network, crops, schedule and the number
of samples a crop are those of `mini_fpn_r18.py`. The stock recipe's own resizing to 800 px would
cost 15 times as much a step.
"""

from ..common.mini import fewer_samples, fit_for_a_cpu
from ..common.models.stock_faster_rcnn import model
from .fpn_r50 import dataloader, train

model.roi_heads.num_classes = 10
fewer_samples(model)
optimizer, lr_multiplier = fit_for_a_cpu(
    model, dataloader, train, output_dir="output/visdrone/mini_stock_r18"
)
