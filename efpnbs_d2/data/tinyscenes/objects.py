"""Put single objects on the image: outline, paint, smooth edges at sub-pixel places.

A shape (see `shapes`) is scaled by (length, width) px, turned by `angle` and moved to (x, y).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .geometry import turn
from .shapes import PAINTS, SHAPES, WEAR

#: The name of a `Placement` that shows a blob out of place, not an object.
LOOK_ALIKE = "look-alike"
#: Share of a pixel that an object must cover for the pixel to be its own.
COVERED = 0.4
#: About this mean side (px) of its box, and below, every class is drawn as the same plain blob.
_BLOB_SIDE = 10.0
#: A blob that is an object keeps a paint of its own class this often.
_OWN_PAINT = 0.25
#: Supersampling of one object's patch.
_FINE = 4
#: The dark edge that shade and the optics' sharpening leave around things: BGR, and its strength.
_RIM = np.array((44, 42, 40), np.float32)
_RIM_STRENGTH, _BLOB_RIM_STRENGTH = 0.25, 0.75


@dataclass(frozen=True)
class Placement:
    """One thing to draw: a class name or `LOOK_ALIKE`; px and radians."""

    name: str
    at: np.ndarray
    length: float
    width: float
    angle: float


@dataclass(frozen=True)
class Patch:
    """A drawn object: `alpha` (h, w) in 0..1 and `colour` (h, w, 3) BGR, corner at (x, y).

    `rim` is the strength, 0..1, of the dark edge around it.
    """

    x: int
    y: int
    alpha: np.ndarray
    colour: np.ndarray
    rim: float

    @property
    def mask(self) -> np.ndarray:
        """The pixels (h, w) bool that are the object's own."""
        return self.alpha >= COVERED

    def window(self, grid: np.ndarray) -> np.ndarray:
        """The view of `grid` (H, W, ...) that lies under a clipped patch."""
        h, w = self.alpha.shape
        return grid[self.y : self.y + h, self.x : self.x + w]

    def clipped(self, h: int, w: int) -> Patch | None:
        """The part inside an `h` x `w` image, or None."""
        rows = slice(max(0, -self.y), min(self.alpha.shape[0], h - self.y))
        cols = slice(max(0, -self.x), min(self.alpha.shape[1], w - self.x))
        if rows.stop <= rows.start or cols.stop <= cols.start:
            return None
        return replace(
            self,
            x=self.x + cols.start,
            y=self.y + rows.start,
            alpha=self.alpha[rows, cols],
            colour=self.colour[rows, cols],
        )

    def stamp(self, image: np.ndarray) -> None:
        """Blend a clipped patch into `image` (H, W, 3) uint8, in place."""
        view = self.window(image)
        rim = self.rim * cv2.dilate(self.alpha, np.ones((3, 3), np.uint8))[..., None]
        alpha = self.alpha[..., None]
        edged = view + rim * (_RIM - view)
        view[:] = np.round(edged * (1 - alpha) + self.colour * alpha).astype(np.uint8)


def choose_look(rng: np.random.Generator, item: Placement) -> tuple[Placement, str, str]:
    """How to draw `item`: its final extent, the name of its shape, and whose paint it wears."""
    if item.name == LOOK_ALIKE:
        return _as_blob(rng, item, "blob"), "blob", "blob"
    # A soft limit: details appear over a few pixels of size, not at once.
    if _box_side(item, item.name) >= _BLOB_SIDE + rng.uniform(-1, 1.5):
        return item, item.name, item.name
    wear = item.name if rng.random() < _OWN_PAINT else "blob"
    return _as_blob(rng, item, item.name), "blob", wear


def _as_blob(rng: np.random.Generator, item: Placement, shape: str) -> Placement:
    """The blob whose box is as large as that of `shape`, nearly upright so that it fills it."""
    side = _box_side(item, shape)
    ratio, angle = rng.uniform(0.7, 1), rng.choice([0, math.pi / 2]) + rng.normal(0, 0.15)
    return Placement(
        item.name, item.at, side / math.sqrt(ratio), side * math.sqrt(ratio), float(angle)
    )


def _placed(item: Placement, shape: str) -> list[np.ndarray]:
    """The polygons (K, 2) of `shape` where `item` stands."""
    matrix, extent = turn(item.angle), (item.length, item.width)
    return [part.points * extent @ matrix + item.at for part in SHAPES[shape]]


def _box_side(item: Placement, shape: str) -> float:
    """sqrt(area), px, of the upright box around a placed shape."""
    points = np.concatenate(_placed(item, shape))
    return math.sqrt(float(np.prod(np.ptp(points, axis=0))))


def pick_paint(
    rng: np.random.Generator, wear: str, ground: np.ndarray, contrast: float
) -> np.ndarray:
    """A BGR paint of `WEAR[wear]` at least `contrast` levels away from `ground` (3,) BGR."""
    names, shares = list(WEAR[wear]), list(WEAR[wear].values())
    for choice in rng.choice(len(names), 4, p=shares):
        rgb = np.array(PAINTS[names[choice]]) * rng.uniform(0.9, 1.05) + rng.normal(0, 3, 3)
        if math.dist(rgb[::-1], ground) >= contrast:
            return np.clip(rgb[::-1], 0, 255)
    return np.full(3, 244.0 if ground.mean() < 165 else 40.0)


def draw(item: Placement, shape: str, paint: np.ndarray) -> Patch:
    """Draw a placed shape in a patch just large enough for it and its rim."""
    parts, placed = SHAPES[shape], _placed(item, shape)
    every = np.concatenate(placed)
    x0, y0 = (int(c) - 2 for c in np.floor(every.min(0)))
    x1, y1 = (int(c) + 3 for c in np.ceil(every.max(0)))
    alpha = np.zeros(((y1 - y0) * _FINE, (x1 - x0) * _FINE), np.uint8)
    colour = np.empty((*alpha.shape, 3), np.uint8)
    colour[:] = paint
    for part, points in zip(parts, placed):
        base = paint if part.paint is None else np.array(PAINTS[part.paint][::-1])
        tone = tuple(float(c) for c in np.clip(base * part.light, 0, 255))
        # Pixel (0, 0) is centred on the origin: half a pixel leads to the fine grid's corner.
        fine = np.round((((points - (x0, y0)) + 0.5) * _FINE - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(alpha, [fine], 255, shift=4)
        cv2.fillPoly(colour, [fine], tone, shift=4)
    size = (x1 - x0, y1 - y0)
    return Patch(
        x0,
        y0,
        cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255,
        cv2.resize(colour, size, interpolation=cv2.INTER_AREA).astype(np.float32),
        _BLOB_RIM_STRENGTH if shape == "blob" else _RIM_STRENGTH,
    )
