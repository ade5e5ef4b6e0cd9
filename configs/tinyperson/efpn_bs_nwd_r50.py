"""E-FPN-BS and DCLoss on TinyPerson, anchors assigned by NWD."""

from ..common.parts import use_nwd
from .efpn_bs_r50 import dataloader, lr_multiplier, model, optimizer, train

use_nwd(model)
train.output_dir = "output/tinyperson/efpn_bs_nwd_r50"
