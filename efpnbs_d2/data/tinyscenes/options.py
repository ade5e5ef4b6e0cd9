"""What a tinyscenes scene is made of: classes, kinds of ground, and the two difficulties."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..splits import AITOD_CLASSES

#: Raised whenever the same seed gives other bytes than before.
GENERATOR_VERSION = 4

#: Category id = index + 1.
CLASSES = AITOD_CLASSES

MIN_OBJECTS, MAX_OBJECTS = 10, 200


class Ground(IntEnum):
    """What a pixel of the scene shows below the objects."""

    FIELD = 0
    LAWN = 1
    YARD = 2
    APRON = 3
    PARKING = 4
    PARK = 5
    WOOD = 6
    SCRUB = 7
    ROAD = 8
    PATH = 9
    BEACH = 10
    WATER = 11
    ROOF = 12
    TREE = 13


#: Where objects of a class stand; a bridge, in part.
HABITAT: dict[str, tuple[Ground, ...]] = {
    "airplane": (Ground.APRON,),
    "bridge": (Ground.WATER,),
    "storage-tank": (Ground.YARD,),
    "ship": (Ground.WATER,),
    "swimming-pool": (Ground.LAWN,),
    "vehicle": (Ground.ROAD, Ground.PARKING),
    "person": (Ground.BEACH, Ground.PATH),
    "wind-mill": (Ground.FIELD,),
}

#: Ground where no class lives: look-alike blobs go here, so that they are never ambiguous.
NO_OBJECTS = (Ground.WOOD, Ground.SCRUB, Ground.ROOF, Ground.PARK)


@dataclass(frozen=True)
class Difficulty:
    """Knobs of one difficulty; lengths in px, colours and noise in 0..255 levels."""

    contrast: float  # least distance of an object's colour from the ground's
    ground_pull: float  # share by which all ground colours are pulled to one grey-green
    noise: tuple[float, float]  # standard deviation of the sensor noise, low and high
    blur: tuple[float, float]  # sigma of the optics, low and high
    look_alikes: float  # blobs out of place, per 256 x 256 px
    clutter: float  # trees, bushes and stains, as a factor
    haze: float  # largest share of white haze
    compression: bool  # JPEG artefacts of a downloaded mosaic


DIFFICULTIES = {
    "easy": Difficulty(70, 0.0, (1.5, 4.0), (0.35, 0.6), 7, 1.0, 0.05, False),
    "hard": Difficulty(38, 0.3, (4.0, 10.0), (0.5, 0.8), 18, 1.8, 0.25, True),
}


def difficulty_options(name: str) -> Difficulty:
    """The knobs of difficulty `name`.

    Raises:
        ValueError: no such difficulty.
    """
    if name not in DIFFICULTIES:
        raise ValueError(f"difficulty is {name!r}, expected one of {sorted(DIFFICULTIES)}")
    return DIFFICULTIES[name]


def scene_size(size: tuple[int, int] | int) -> tuple[int, int]:
    """`size` as (height, width) in px; an int is a square.

    Raises:
        ValueError: not one or two whole numbers, or a side outside 128..4096.
    """
    sides = size if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, (int, np.integer)) for side in sides):
        raise ValueError(f"size is {size!r}, expected an int or (height, width) in px")
    if not all(128 <= side <= 4096 for side in sides):
        raise ValueError(
            f"size is {size!r}: a side must lie in 128..4096 px, so that a scene holds several "
            "kinds of ground"
        )
    return int(sides[0]), int(sides[1])
