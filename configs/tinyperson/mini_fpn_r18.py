"""The stock FPN on a few TinyPerson images, on a CPU: ResNet-18 from scratch, small crops."""

from ..common.mini import enlarge_twice, fewer_samples, fit_for_a_cpu
from .fpn_r50 import dataloader, model, train

fewer_samples(model)
optimizer, lr_multiplier = fit_for_a_cpu(
    model, dataloader, train, output_dir="output/tinyperson/mini_fpn_r18"
)
# Copies of 640 x 640 px, whose median object is 5 px, little more than a cell of P2. For the
# originals, give their short edge here.
enlarge_twice(dataloader, short_edge=640)
