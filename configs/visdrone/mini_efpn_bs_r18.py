"""E-FPN-BS and DCLoss on a few hundred VisDrone images, on a CPU."""

from ..common.parts import use_dc_loss, use_efpn_bs
from .mini_fpn_r18 import dataloader, lr_multiplier, model, optimizer, train

use_efpn_bs(model)
use_dc_loss(model)
train.output_dir = "output/visdrone/mini_efpn_bs_r18"
