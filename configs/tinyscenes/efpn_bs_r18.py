"""E-FPN-BS and DCLoss on the embedded data set: what `make demo` trains."""

from ..common.parts import use_dc_loss, use_efpn_bs
from .fpn_r18 import dataloader, lr_multiplier, model, optimizer, train

use_efpn_bs(model)
use_dc_loss(model)
train.output_dir = "output/tinyscenes/efpn_bs_r18"
