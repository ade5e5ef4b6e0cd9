"""The stock FPN on a few TinyPerson images, on a CPU, RFLA's priors and assignment."""

from ..common.parts import use_rfla
from .mini_fpn_r18 import dataloader, lr_multiplier, model, optimizer, train

use_rfla(model)
train.output_dir = "output/tinyperson/mini_fpn_rfla_r18"
