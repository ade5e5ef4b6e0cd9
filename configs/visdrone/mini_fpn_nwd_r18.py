"""The stock FPN on a few hundred VisDrone images, on a CPU, anchors assigned by NWD."""

from ..common.parts import use_nwd
from .mini_fpn_r18 import dataloader, lr_multiplier, model, optimizer, train

use_nwd(model)
train.output_dir = "output/visdrone/mini_fpn_nwd_r18"
