"""The tiny-object toolkit for Detectron2; importing it registers its models and data sets."""

from . import data, modeling
from .config import add_efpnbs_config

__version__ = "0.1.0"

__all__ = ["add_efpnbs_config", "data", "modeling"]
