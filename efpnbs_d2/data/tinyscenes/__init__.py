"""`tinyscenes`: seeded aerial scenes of tiny objects in which context carries the class."""

from .options import CLASSES, DIFFICULTIES, GENERATOR_VERSION
from .scene import generate_scene
from .writer import write_dataset

__all__ = ["CLASSES", "DIFFICULTIES", "GENERATOR_VERSION", "generate_scene", "write_dataset"]
