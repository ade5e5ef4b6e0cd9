"""Ablation: FBSM alone, its masks supervised on the embedded data set."""

from ..common.parts import use_efpn_bs
from .fpn_r18 import dataloader, lr_multiplier, model, optimizer, train

use_efpn_bs(model, cem=False)
train.output_dir = "output/tinyscenes/fbsm_r18"
