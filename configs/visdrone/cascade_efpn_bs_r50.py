"""E-FPN-BS under Cascade R-CNN, DCLoss in each of its three stages."""

from ..common.parts import use_cascade, use_dc_loss, use_efpn_bs
from .fpn_r50 import dataloader, lr_multiplier, model, optimizer, train

use_cascade(model)
use_efpn_bs(model)
use_dc_loss(model)
train.output_dir = "output/visdrone/cascade_efpn_bs_r50"
