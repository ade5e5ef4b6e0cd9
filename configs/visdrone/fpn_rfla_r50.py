"""The stock FPN on VisDrone-DET, RFLA's priors and assignment."""

from ..common.parts import use_rfla
from .fpn_r50 import dataloader, lr_multiplier, model, optimizer, train

use_rfla(model)
train.output_dir = "output/visdrone/fpn_rfla_r50"
