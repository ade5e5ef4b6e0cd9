"""Rules that say which prior is trained to find which object; importing registers them."""

from .assigner import ASSIGNER_REGISTRY, Assigner, build_assigner
from .ranking import RankingAssigner
from .receptive_field import ReceptiveFieldAnchorGenerator, receptive_fields
from .rfla import HierarchicalAssigner
from .threshold import ThresholdAssigner, as_assigner

__all__ = [
    "ASSIGNER_REGISTRY",
    "Assigner",
    "HierarchicalAssigner",
    "RankingAssigner",
    "ReceptiveFieldAnchorGenerator",
    "ThresholdAssigner",
    "as_assigner",
    "build_assigner",
    "receptive_fields",
]
