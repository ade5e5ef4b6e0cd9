"""Ablation: DCLoss on the stock FPN on the embedded data set."""

from ..common.parts import use_dc_loss
from .fpn_r18 import dataloader, lr_multiplier, model, optimizer, train

use_dc_loss(model)
train.output_dir = "output/tinyscenes/dc_loss_r18"
