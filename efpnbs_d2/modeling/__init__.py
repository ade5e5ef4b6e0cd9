"""Model parts; importing this package registers them with Detectron2."""

from .assigners import (
    HierarchicalAssigner,
    RankingAssigner,
    ReceptiveFieldAnchorGenerator,
    ThresholdAssigner,
)
from .box_predictor import DCFastRCNNOutputLayers, NWDFastRCNNOutputLayers
from .cem import CEM
from .dc_loss import DCLoss
from .efpn_bs import EFPNBS
from .fbsm import FBSM
from .meta_arch import TinyObjectRCNN
from .proposal_generator import IgnoringRPN
from .roi_heads import (
    DCCascadeROIHeads,
    DCROIHeads,
    IgnoringCascadeROIHeads,
    IgnoringROIHeads,
)

__all__ = [
    "CEM",
    "DCCascadeROIHeads",
    "DCFastRCNNOutputLayers",
    "DCLoss",
    "DCROIHeads",
    "EFPNBS",
    "FBSM",
    "HierarchicalAssigner",
    "IgnoringCascadeROIHeads",
    "IgnoringROIHeads",
    "IgnoringRPN",
    "NWDFastRCNNOutputLayers",
    "RankingAssigner",
    "ReceptiveFieldAnchorGenerator",
    "ThresholdAssigner",
    "TinyObjectRCNN",
]
