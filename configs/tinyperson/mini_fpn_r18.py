"""The stock FPN on a few TinyPerson images, on a CPU: ResNet-18 from scratch, small crops."""

from ..common.mini import enlarge, fewer_samples, fit_for_a_cpu
from .fpn_r50 import dataloader, model, train

fewer_samples(model)
optimizer, lr_multiplier = fit_for_a_cpu(
    model, dataloader, train, output_dir="output/tinyperson/mini_fpn_r18"
)
# Half of the objects are below 5 px, little more than a cell of P2.
enlarge(dataloader, times=2, short_edge=640)
