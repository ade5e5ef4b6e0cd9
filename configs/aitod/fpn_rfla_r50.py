"""The stock FPN on AI-TOD v2, RFLA's priors and assignment."""

from ..common.parts import use_rfla
from .fpn_r50 import dataloader, lr_multiplier, model, optimizer, train

use_rfla(model)
train.output_dir = "output/aitod/fpn_rfla_r50"
