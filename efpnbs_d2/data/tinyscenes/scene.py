"""One scene from one seed: map, ground, structures, objects, light and sensor.

H x W is the scene; images are uint8 BGR; boxes are xywh in image px.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import cv2
import numpy as np

from .layout import Layout, make_layout, smooth_noise
from .objects import (
    COVERED,
    Patch,
    Placement,
    box_sides,
    clip_patch,
    draw,
    pick_paint,
    shape_of,
    stamp,
)
from .options import (
    CLASSES,
    GENERATOR_VERSION,
    HABITAT,
    MIN_OBJECTS,
    Difficulty,
    difficulty_options,
    scene_size,
)
from .placement import free_groups, in_turn, look_alikes, object_count
from .structures import build, cast_shadow, darken, paint_structures
from .terrain import paint_ground

#: A later object may hide at most this share of an earlier one.
MAX_HIDDEN = 0.35
#: Share of an object that must lie on ground of its class, and inside the image.
MIN_HOME, MIN_INSIDE = 0.75, 0.6
#: Throw of the shadows, px per px of the object's shorter side.
SHADOW = {
    "airplane": 0.25,
    "bridge": 0.2,
    "storage-tank": 0.3,
    "ship": 0.15,
    "swimming-pool": 0.0,
    "vehicle": 0.28,
    "person": 0.6,
    "wind-mill": 0.5,
    "look-alike": 0.3,
}


@dataclass(frozen=True)
class Scene:
    """A drawn scene; `instances` and `masks` say which pixels each annotation drew."""

    image: np.ndarray
    annotations: list[dict[str, Any]]
    instances: np.ndarray
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
        1..8 in AI-TOD's order, `bbox` xywh px (whole numbers, inside the image), `area` = w * h,
        `iscrowd` 0, `segmentation` the box's four corners.

    Raises:
        ValueError: a bad seed, size or difficulty.

    Source: our own; sizes and classes follow AI-TOD.
    """
    scene = render_scene(seed, size=size, difficulty=difficulty)
    return scene.image, scene.annotations


def render_scene(
    seed: int, *, size: tuple[int, int] | int = 256, difficulty: str = "easy", objects: bool = True
) -> Scene:
    """`generate_scene` with the masks; `objects=False` draws the same scene without its objects."""
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number >= 0")
    h, w = scene_size(size)
    options = difficulty_options(difficulty)
    # A rare draw has too little room for 10 objects: draw again, from numbers of its own.
    for attempt in range(100):
        rng = np.random.default_rng([GENERATOR_VERSION, int(seed), attempt])
        scene = _draw_scene(rng, h, w, options, objects)
        if scene is not None:
            return scene
    raise AssertionError(f"no scene of {h} x {w} px holds {MIN_OBJECTS} objects (seed {seed})")


def _draw_scene(
    rng: np.random.Generator, h: int, w: int, options: Difficulty, objects: bool
) -> Scene | None:
    angle = rng.uniform(0, 2 * math.pi)
    sun = np.array([math.cos(angle), math.sin(angle)])
    sensor = rng.spawn(1)[0]
    layout = make_layout(rng, h, w)
    image = paint_ground(rng, layout, sun, options)
    found = build(rng, layout, sun, options)
    paint_structures(image, layout, found, sun)

    blobs = look_alikes(rng, layout, options.look_alikes)
    groups = free_groups(rng, layout, found.slots)
    count = object_count(rng, h, w)
    wanted = chain(blobs, in_turn(rng, groups))
    cast, instances = _admit(rng, layout, image, wanted, count, options)
    annotations = [_annotation(item, patch) for item, patch, _ in cast if item.name != "look-alike"]
    if len(annotations) < MIN_OBJECTS:
        return None
    if not objects:
        cast = [entry for entry in cast if entry[0].name == "look-alike"]
    shadow = np.zeros((h, w), np.uint8)
    for item, _, outline in cast:
        cast_shadow(shadow, outline, sun * SHADOW[item.name] * min(item.width, item.length))
    darken(image, shadow)
    for _, patch, _ in cast:
        stamp(image, patch)
    masks = [p.alpha >= COVERED for i, p, _ in cast if i.name != "look-alike"]
    return Scene(_expose(sensor, image, options), annotations, instances, masks, layout.ground)


def _admit(
    rng: np.random.Generator,
    layout: Layout,
    image: np.ndarray,
    wanted: Iterable[Placement],
    count: int,
    options: Difficulty,
) -> tuple[list[tuple[Placement, Patch, np.ndarray]], np.ndarray]:
    """Draw what fits: (placement, patch, outline xy) of each, and the map of who is on top.

    In `instances` (H, W) an object is its annotation's index + 1, a look-alike is -1, ground is 0.
    """
    h, w = layout.ground.shape
    instances = np.zeros((h, w), np.int16)
    shown: list[int] = []
    areas: list[int] = []
    cast = []
    for item in wanted:
        if len(areas) == count:
            break
        shape = shape_of(rng, item)
        if shape == "blob":
            item = _as_blob(item)
        x, y = round(item.x), round(item.y)
        if not (0 <= x < w and 0 <= y < h):
            continue
        paint = pick_paint(rng, item.name, image[y, x].astype(float), options.contrast)
        whole = draw(item, shape, paint)
        patch = clip_patch(whole, h, w)
        if patch is None:
            continue
        mask = patch.alpha >= COVERED
        view = _window(instances, patch)
        if not _fits(
            item, mask, int((whole.alpha >= COVERED).sum()), _window(layout.ground, patch)
        ):
            continue
        hidden = np.bincount(view[mask & (view > 0)], minlength=len(areas) + 1)[1:]
        if (view[mask] < 0).any():
            continue
        if any(shown[k] - n < (1 - MAX_HIDDEN) * areas[k] for k, n in enumerate(hidden) if n):
            continue
        for k, n in enumerate(hidden):
            shown[k] -= int(n)
        if item.name == "look-alike":
            view[mask] = -1
        else:
            areas.append(int(mask.sum()))
            shown.append(areas[-1])
            view[mask] = len(areas)
        cast.append((item, patch, _outline(item)))
    return cast, instances


def _as_blob(item: Placement) -> Placement:
    """The shared blob with as much area as the class's own shape would cover."""
    sides = box_sides(item, item.name if item.name in HABITAT else "blob")
    ratio = float(np.clip(item.width / item.length, 0.6, 1))
    side = math.sqrt(sides[0] * sides[1])
    return Placement(
        item.name, item.x, item.y, side / math.sqrt(ratio), side * math.sqrt(ratio), item.angle
    )


def _outline(item: Placement) -> np.ndarray:
    """A plain oval (12, 2) around an object, for its shadow."""
    t = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    oval = np.stack([np.cos(t) * item.length, np.sin(t) * item.width], -1) * 0.45
    c, s = math.cos(item.angle), math.sin(item.angle)
    return oval @ np.array([(c, s), (-s, c)]) + (item.x, item.y)


def _window(grid: np.ndarray, patch: Patch) -> np.ndarray:
    h, w = patch.alpha.shape
    return grid[patch.y : patch.y + h, patch.x : patch.x + w]


def _fits(item: Placement, mask: np.ndarray, whole: int, ground: np.ndarray) -> bool:
    """Whether enough of the object is inside the image and stands on ground of its class."""
    inside = int(mask.sum())
    if inside < 6 or inside < MIN_INSIDE * whole:
        return False
    if item.name in ("bridge", "look-alike"):
        return True
    return np.isin(ground[mask], HABITAT[item.name]).mean() >= MIN_HOME


def _annotation(item: Placement, patch: Patch) -> dict[str, Any]:
    """The COCO record (no ids yet) of a drawn object, its box tight around its covered pixels."""
    rows, cols = np.nonzero(patch.alpha >= COVERED)
    x, y = int(cols.min()) + patch.x, int(rows.min()) + patch.y
    w, h = int(cols.max() - cols.min()) + 1, int(rows.max() - rows.min()) + 1
    return {
        "category_id": CLASSES.index(item.name) + 1,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }


def _expose(rng: np.random.Generator, image: np.ndarray, options: Difficulty) -> np.ndarray:
    """Light, haze, optics, noise and compression of the camera."""
    h, w = image.shape[:2]
    light = 1 + 0.035 * smooth_noise(rng, h, w, max(h, w) / 2)[..., None]
    cast = rng.normal(1, 0.02, 3).astype(np.float32) * np.float32(rng.uniform(0.9, 1.07))
    haze = rng.uniform(0, options.haze)
    exposed = image * (light * cast) * (1 - haze) + np.float32(215 * haze)
    exposed = cv2.GaussianBlur(exposed.astype(np.float32), (0, 0), rng.uniform(*options.blur))
    exposed += rng.uniform(*options.noise) * rng.standard_normal((h, w, 3), dtype=np.float32)
    result = np.clip(np.round(exposed), 0, 255).astype(np.uint8)
    if options.compression:
        quality = int(rng.integers(70, 92))
        _, data = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return result
