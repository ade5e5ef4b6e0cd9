"""E-FPN-BS and DCLoss on VisDrone-DET."""

from ..common.parts import use_dc_loss, use_efpn_bs
from .fpn_r50 import dataloader, lr_multiplier, model, optimizer, train

use_efpn_bs(model)
use_dc_loss(model)
train.output_dir = "output/visdrone/efpn_bs_r50"
