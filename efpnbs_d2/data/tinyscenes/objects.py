"""The look of single objects: outlines, colours, and putting them on the image.

A shape lives in its own frame: x along its length, y along its width, both in -0.5..0.5; placed,
it is scaled by (length, width) px, turned by `angle` and moved to (x, y) image px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .layout import turn

#: Supersampling of one object's patch: edges come out smooth and at sub-pixel places.
_FINE = 4
#: Share of a pixel that an object must cover for the pixel to be its own.
COVERED = 0.4
#: Below this mean side (px) every class is drawn as the same plain blob.
BLOB_SIDE = 9.0

#: RGB paints shared by all classes.
PAINTS = {
    "white": (240, 241, 238),
    "cream": (232, 224, 202),
    "silver": (200, 204, 208),
    "cyan": (122, 204, 214),
    "red": (178, 58, 50),
    "blue": (58, 92, 158),
    "dark": (42, 44, 50),
}

#: How often each class wears each paint.
WEAR: dict[str, dict[str, float]] = {
    "airplane": {"white": 0.8, "silver": 0.12, "cream": 0.08},
    "bridge": {"white": 0.35, "silver": 0.35, "cream": 0.3},
    "storage-tank": {"white": 0.7, "cream": 0.2, "silver": 0.1},
    "ship": {"white": 0.66, "silver": 0.1, "cream": 0.14, "red": 0.1},
    "swimming-pool": {"cyan": 0.55, "white": 0.3, "blue": 0.15},
    "vehicle": {
        "white": 0.5,
        "silver": 0.14,
        "cream": 0.08,
        "red": 0.14,
        "blue": 0.08,
        "cyan": 0.06,
    },
    "person": {"white": 0.5, "red": 0.16, "blue": 0.16, "dark": 0.12, "cyan": 0.06},
    "wind-mill": {"white": 0.9, "silver": 0.1},
}
#: Paints of look-alike blobs out of place.
LOOK_ALIKE_WEAR = {
    "white": 0.5,
    "silver": 0.15,
    "cream": 0.15,
    "red": 0.07,
    "blue": 0.07,
    "cyan": 0.06,
}


@dataclass(frozen=True)
class Part:
    """One polygon (K, 2) of a shape; `light` scales the paint, or `paint` replaces it."""

    points: np.ndarray
    light: float = 1.0
    paint: str | None = None


@dataclass(frozen=True)
class Placement:
    """One thing to draw: a class name (or "look-alike"), image px and radians."""

    name: str
    x: float
    y: float
    length: float
    width: float
    angle: float


@dataclass(frozen=True)
class Patch:
    """A drawn object: `alpha` (h, w) in 0..1 and `colour` (h, w, 3) BGR with corner (x, y)."""

    x: int
    y: int
    alpha: np.ndarray
    colour: np.ndarray


def _poly(*xy: tuple[float, float]) -> np.ndarray:
    return np.array(xy, np.float64)


def _mirror(*xy: tuple[float, float]) -> np.ndarray:
    """An outline from its upper half, listed from one end of the length axis to the other."""
    return np.array([*xy, *[(x, -y) for x, y in reversed(xy)]], np.float64)


def _oval(power: float = 2.0, size: float = 1.0, at: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A superellipse: 2 is round, larger is boxier."""
    t = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    c, s = np.cos(t), np.sin(t)
    power = 2 / power
    xy = np.stack([np.sign(c) * np.abs(c) ** power, np.sign(s) * np.abs(s) ** power], -1)
    return xy * size / 2 + np.array(at)


_BOX = _poly((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
_BLADE = _poly((0.0, -0.06), (0.5, -0.03), (0.5, 0.03), (0.0, 0.06))


def _rotor() -> tuple[Part, ...]:
    blades = [Part(_BLADE @ turn(a) * 1.05) for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)]
    return (*blades, Part(_oval(size=0.42), 0.93), Part(_oval(size=0.2), 1.05))


SHAPES: dict[str, tuple[Part, ...]] = {
    "airplane": (
        Part(_mirror((-0.5, 0.03), (-0.42, 0.17), (-0.34, 0.17), (-0.36, 0.05))),
        Part(_mirror((-0.16, 0.07), (-0.2, 0.5), (-0.08, 0.5), (0.16, 0.07))),
        Part(_mirror((-0.5, 0.035), (-0.3, 0.08), (0.38, 0.085), (0.5, 0.0)), 1.04),
        Part(_mirror((0.3, 0.05), (0.4, 0.05), (0.44, 0.0)), 0.6),
    ),
    "bridge": (
        Part(_BOX, 0.96),
        Part(_BOX * (1, 0.16) + (0, 0.42), 0.72),
        Part(_BOX * (1, 0.16) - (0, 0.42), 1.06),
    ),
    "storage-tank": (
        Part(_oval(), 0.9),
        Part(_oval(size=0.84, at=(0.02, 0.02)), 1.02),
        Part(_oval(size=0.16), 0.72),
    ),
    "ship": (
        Part(_mirror((-0.5, 0.38), (0.1, 0.5), (0.32, 0.34), (0.5, 0.0)), 0.94),
        Part(_mirror((-0.42, 0.26), (0.08, 0.32), (0.3, 0.0)), 0.74),
        Part(_BOX * (0.24, 0.5) - (0.18, 0), 1.08),
    ),
    "swimming-pool": (
        Part(_oval(6), paint="cream"),
        Part(_oval(6, 0.8)),
        Part(_oval(5, 0.4, (0.12, 0.08)), 1.1),
    ),
    "vehicle": (
        Part(_oval(7), 0.96),
        Part(_BOX * (0.14, 0.72) + (0.16, 0), 0.4),
        Part(_BOX * (0.3, 0.7) - (0.07, 0), 1.06),
        Part(_BOX * (0.08, 0.66) - (0.31, 0), 0.5),
    ),
    "person": (Part(_oval(2.5)), Part(_oval(size=0.5), 0.7)),
    "wind-mill": _rotor(),
    "blob": (Part(_oval(3.5), 0.93), Part(_oval(3, 0.66, (0.04, 0.03)), 1.04)),
}
#: Look-alikes of every size keep to shapes that several classes share.
LOOK_ALIKE_SHAPES = ("blob", "blob", "storage-tank", "vehicle", "ship")


def box_sides(item: Placement, shape: str) -> tuple[float, float]:
    """Width and height (px) of the upright box around a placed shape."""
    points = np.concatenate([part.points for part in SHAPES[shape]])
    placed = points * (item.length, item.width) @ turn(item.angle)
    span = placed.max(0) - placed.min(0)
    return float(span[0]), float(span[1])


def shape_of(rng: np.random.Generator, item: Placement) -> str:
    """The shape to draw: the class's own, or the shared blob when tiny or out of place."""
    if item.name == "look-alike":
        shape = LOOK_ALIKE_SHAPES[rng.integers(len(LOOK_ALIKE_SHAPES))]
    else:
        shape = item.name
    side = math.sqrt(np.prod(box_sides(item, shape)))
    # A soft limit: details fade in over a few pixels, they do not switch on.
    return "blob" if side < BLOB_SIDE + rng.uniform(-0.5, 2.5) else shape


def pick_paint(
    rng: np.random.Generator, name: str, ground: np.ndarray, contrast: float
) -> np.ndarray:
    """A BGR paint of class `name` at least `contrast` levels away from `ground` (3,) BGR."""
    wear = WEAR.get(name, LOOK_ALIKE_WEAR)
    names, shares = list(wear), np.array(list(wear.values()))
    paint = np.zeros(3)
    for choice in rng.choice(len(names), 4, p=shares / shares.sum()):
        rgb = np.array(PAINTS[names[choice]], np.float64)
        paint = (rgb * rng.uniform(0.9, 1.05) + rng.normal(0, 3, 3))[::-1]
        if np.linalg.norm(paint - ground) >= contrast:
            return paint
    bright = ground.mean() < 165
    return np.array([244.0, 244, 244]) if bright else np.array([40.0, 40, 44])


def draw(item: Placement, shape: str, paint: np.ndarray) -> Patch:
    """Draw a placed shape in a patch just large enough for it."""
    parts = SHAPES[shape]
    matrix = turn(item.angle)
    placed = [p.points * (item.length, item.width) @ matrix + (item.x, item.y) for p in parts]
    every = np.concatenate(placed)
    x0, y0 = np.floor(every.min(0)).astype(int) - 1
    x1, y1 = np.ceil(every.max(0)).astype(int) + 2
    alpha = np.zeros(((y1 - y0) * _FINE, (x1 - x0) * _FINE), np.uint8)
    colour = np.empty((*alpha.shape, 3), np.uint8)
    colour[:] = np.clip(paint, 0, 255)
    for part, points in zip(parts, placed):
        base = paint if part.paint is None else np.array(PAINTS[part.paint][::-1])
        tone = tuple(float(c) for c in np.clip(base * part.light, 0, 255))
        # Pixel centres lie on whole numbers: shift by half a pixel to fine-grid corners.
        fine = np.round(((points - (x0, y0) + 0.5) * _FINE - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(alpha, [fine], 255, shift=4)
        cv2.fillPoly(colour, [fine], tone, shift=4)
    shape_wh = (x1 - x0, y1 - y0)
    small = cv2.resize(alpha, shape_wh, interpolation=cv2.INTER_AREA)
    return Patch(
        int(x0),
        int(y0),
        small.astype(np.float32) / 255,
        cv2.resize(colour, shape_wh, interpolation=cv2.INTER_AREA).astype(np.float32),
    )


def clip_patch(patch: Patch, h: int, w: int) -> Patch | None:
    """The part of `patch` inside an `h` x `w` image, or None."""
    ph, pw = patch.alpha.shape
    top, left = max(0, -patch.y), max(0, -patch.x)
    bottom, right = min(ph, h - patch.y), min(pw, w - patch.x)
    if bottom <= top or right <= left:
        return None
    rows, cols = slice(top, bottom), slice(left, right)
    return Patch(patch.x + left, patch.y + top, patch.alpha[rows, cols], patch.colour[rows, cols])


def stamp(image: np.ndarray, patch: Patch) -> None:
    """Blend a patch that lies inside `image` (H, W, 3) uint8 into it, in place."""
    h, w = patch.alpha.shape
    view = image[patch.y : patch.y + h, patch.x : patch.x + w]
    alpha = patch.alpha[..., None]
    view[:] = np.round(view * (1 - alpha) + patch.colour * alpha).astype(np.uint8)
