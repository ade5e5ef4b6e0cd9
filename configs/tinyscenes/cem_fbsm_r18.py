"""Ablation: E-FPN-BS without DCLoss on the embedded data set."""

from ..common.parts import use_efpn_bs
from .fpn_r18 import dataloader, lr_multiplier, model, optimizer, train

use_efpn_bs(model)
train.output_dir = "output/tinyscenes/cem_fbsm_r18"
