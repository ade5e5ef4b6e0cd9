"""E-FPN-BS and DCLoss under the recipe of TinyPerson's baseline; no number is published."""

from ..common.parts import use_dc_loss, use_efpn_bs
from .tinyperson_faster_rcnn import dataloader, lr_multiplier, model, optimizer, train

use_efpn_bs(model)
use_dc_loss(model)
train.output_dir = "output/literature/tinyperson_faster_rcnn_efpn_bs"
