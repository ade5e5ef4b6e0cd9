"""E-FPN-BS and DCLoss on TinyPerson, RFLA's priors and assignment."""

from ..common.parts import use_rfla
from .efpn_bs_r50 import dataloader, lr_multiplier, model, optimizer, train

use_rfla(model)
train.output_dir = "output/tinyperson/efpn_bs_rfla_r50"
