"""Detectron2's stock recipe on a few TinyPerson images, on a CPU; see visdrone/mini_stock_r18."""

from ..common.mini import enlarge_twice, fewer_samples, fit_for_a_cpu
from ..common.models.stock_faster_rcnn import model
from .fpn_r50 import dataloader, train

model.roi_heads.num_classes = 1
fewer_samples(model)
optimizer, lr_multiplier = fit_for_a_cpu(
    model, dataloader, train, output_dir="output/tinyperson/mini_stock_r18"
)
# Copies of 640 x 640 px, whose median object is 5 px, little more than a cell of P2. For the
# originals, give their short edge here.
enlarge_twice(dataloader, short_edge=640)
