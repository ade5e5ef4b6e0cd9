"""E-FPN-BS and DCLoss under RFLA's recipe for AI-TOD v1; no number is published."""

from ..common.parts import use_dc_loss, use_efpn_bs
from .aitod_rfla import dataloader, lr_multiplier, model, optimizer, train

use_efpn_bs(model)
use_dc_loss(model)
# With the recipe's plain L1 every box has the same gradient, and DCLoss nothing to balance.
model.roi_heads.box_predictor.smooth_l1_beta = 1.0 / 9
train.output_dir = "output/literature/aitod_rfla_efpn_bs"
