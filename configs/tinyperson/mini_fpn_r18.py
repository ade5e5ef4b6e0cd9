"""The stock FPN on a few TinyPerson images, on a CPU: ResNet-18 from scratch, small crops."""

from ..common.mini import fewer_samples, fit_for_a_cpu
from .fpn_r50 import dataloader, model, train

fewer_samples(model)
# Objects of 5 px are little more than a cell of P2.
optimizer, lr_multiplier = fit_for_a_cpu(
    model, dataloader, train, output_dir="output/tinyperson/mini_fpn_r18", enlarge=2
)
