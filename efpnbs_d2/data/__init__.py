"""Data sets; importing this package registers every published split with Detectron2."""

from ..file_format import DataFormatError
from .catalog import (
    class_names,
    read_dataset,
    register_published_datasets,
    register_tiny_dataset,
)
from .own_datasets import register_datasets_of_environment, register_own_datasets
from .report import ReadReport

__all__ = [
    "DataFormatError",
    "ReadReport",
    "class_names",
    "read_dataset",
    "register_own_datasets",
    "register_tiny_dataset",
]

register_published_datasets()
register_datasets_of_environment()
