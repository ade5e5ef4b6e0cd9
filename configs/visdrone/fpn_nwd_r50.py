"""The stock FPN on VisDrone-DET, anchors assigned by NWD."""

from ..common.parts import use_nwd
from .fpn_r50 import dataloader, lr_multiplier, model, optimizer, train

use_nwd(model)
train.output_dir = "output/visdrone/fpn_nwd_r50"
