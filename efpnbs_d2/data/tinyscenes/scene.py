"""One scene from one seed: map, ground, structures, objects, picture.

H x W is the scene; images are uint8 BGR; boxes are xywh in image px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .camera import expose
from .casting import Cast, Member
from .layout import make_land
from .options import (
    CLASSES,
    GENERATOR_VERSION,
    MIN_OBJECTS,
    Difficulty,
    difficulty_options,
    scene_size,
)
from .placement import find_groups, in_turn, look_alikes, object_count
from .solids import cast_shadow, darken, paint_lines, raise_solids
from .structures import Structures
from .terrain import paint_ground
from .water import flood

#: Throw of the shadows, px per px of the object's shorter side.
_SHADOW = {
    "airplane": 0.25,
    "bridge": 0.15,
    "storage-tank": 0.3,
    "ship": 0.15,
    "swimming-pool": 0.0,
    "vehicle": 0.28,
    "person": 0.5,
    "wind-mill": 0.9,
    "blob": 0.3,
}
#: Draws of one seed before giving up; at 128 px one draw in twenty holds too few objects.
_ATTEMPTS = 100


@dataclass(frozen=True)
class Scene:
    """A drawn scene; `owner` (H, W) is k > 0 on the visible pixels of annotation k - 1."""

    image: np.ndarray
    annotations: list[dict[str, Any]]
    owner: np.ndarray
    masks: list[np.ndarray]
    ground: np.ndarray


def generate_scene(
    seed: int, *, size: tuple[int, int] | int = 256, difficulty: str = "easy"
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw the aerial-looking scene of `seed`.

    The same arguments give the same bytes on the same versions of numpy and OpenCV.

    Args:
        seed: a whole number >= 0.
        size: side of a square, or (height, width), 128..4096 px.
        difficulty: "easy" or "hard".

    Returns:
        The image, uint8 (H, W, 3) BGR, and 10 to 200 COCO annotations without ids: `category_id`
        1..8 in the order of `CLASSES`, `bbox` xywh px (whole numbers, inside the image), `area`
        w * h, `iscrowd` 0 and `segmentation`, the box's four corners.

    Raises:
        ValueError: a bad seed, size or difficulty.

    Source: our own; classes, sizes and format follow AI-TOD.
    """
    scene = render_scene(seed, size=size, difficulty=difficulty)
    return scene.image, scene.annotations


def render_scene(
    seed: int, *, size: tuple[int, int] | int = 256, difficulty: str = "easy", bare: bool = False
) -> Scene:
    """`generate_scene` with each annotation's pixels; `bare` leaves the objects undrawn.

    `masks` holds, per annotation, the pixels (H, W) bool that it drew, hidden ones included.
    """
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number >= 0")
    h, w = scene_size(size)
    options = difficulty_options(difficulty)
    # A rare draw has too little room for 10 objects: draw again, from numbers of its own.
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([GENERATOR_VERSION, int(seed), attempt])
        scene = _draw(rng, h, w, options, bare)
        if len(scene.annotations) >= MIN_OBJECTS:
            return scene
    raise AssertionError(f"no draw of seed {seed} at {h} x {w} px holds {MIN_OBJECTS} objects")


def _draw(rng: np.random.Generator, h: int, w: int, options: Difficulty, bare: bool) -> Scene:
    camera = rng.spawn(1)[0]
    angle = rng.uniform(0, 2 * math.pi)
    sun = np.array([math.cos(angle), math.sin(angle)])
    layout = make_land(rng, h, w)
    flood(rng, layout)
    structures = Structures(rng, layout.scale, sun)
    structures.furnish(layout, options)
    image = paint_ground(rng, layout, sun, options)
    paint_lines(image, layout.ground, structures.lines)
    raise_solids(image, layout.ground, structures.solids, sun)

    cast = Cast(layout.ground, image, options)
    count = object_count(rng, h, w)
    cast.admit(rng, look_alikes(rng, layout, options.look_alikes), count)
    cast.admit(rng, in_turn(rng, find_groups(rng, layout, structures.slots)), count)
    members = cast.others if bare else cast.others + cast.objects
    _stand(image, members, sun)
    return Scene(
        expose(camera, image, options),
        [_annotation(member) for member in cast.objects],
        cast.owner,
        [_mask(member, h, w) for member in cast.objects],
        layout.ground,
    )


def _stand(image: np.ndarray, members: list[Member], sun: np.ndarray) -> None:
    """Draw shadows, then the things that throw them, in place."""
    shadow = np.zeros(image.shape[:2], np.uint8)
    for member in members:
        height = _SHADOW[member.shape] * min(member.item.width, member.item.length)
        cast_shadow(shadow, member.footprint(), sun * height)
    darken(image, shadow)
    for member in members:
        member.patch.stamp(image)


def _mask(member: Member, h: int, w: int) -> np.ndarray:
    mask = np.zeros((h, w), bool)
    member.patch.window(mask)[:] = member.patch.mask
    return mask


def _annotation(member: Member) -> dict[str, Any]:
    """The COCO record, without ids, of a drawn object: its box is tight around its pixels."""
    rows, cols = np.nonzero(member.patch.mask)
    x, y = int(cols.min()) + member.patch.x, int(rows.min()) + member.patch.y
    w, h = int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1
    return {
        "category_id": CLASSES.index(member.item.name) + 1,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }
