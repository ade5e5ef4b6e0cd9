"""Data sets; importing this package registers every published split with Detectron2."""

import os

from .catalog import (
    class_names,
    read_dataset,
    register_published_datasets,
    register_tiny_dataset,
)
from .own_datasets import OWN_DATASETS_VARIABLE, register_own_datasets
from .report import DataFormatError, ReadReport

__all__ = [
    "DataFormatError",
    "ReadReport",
    "class_names",
    "read_dataset",
    "register_own_datasets",
    "register_tiny_dataset",
]

register_published_datasets()
if os.environ.get(OWN_DATASETS_VARIABLE):
    register_own_datasets(os.environ[OWN_DATASETS_VARIABLE])
