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
_OWN_PAINT = 0.3
#: Supersampling of one object's patch.
_FINE = 4
#: The dark edge that shade and the optics' sharpening leave around things: least and largest
#: strength for the blob, strength for shapes.
_BLOB_RIM, _RIM = (0.65, 0.88), 0.25
#: All points of each shape in one array, and where its parts end.
_OUTLINES = {name: np.concatenate([p.points for p in parts]) for name, parts in SHAPES.items()}
_ENDS = {name: np.cumsum([len(p.points) for p in parts]) for name, parts in SHAPES.items()}


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

    `rim` is the BGR tone of the dark edge around it, `rim_strength` 0..1 how much it covers.
    """

    x: int
    y: int
    alpha: np.ndarray
    colour: np.ndarray
    rim: np.ndarray
    rim_strength: float

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
        edge = self.rim_strength * cv2.dilate(self.alpha, np.ones((3, 3), np.uint8))[..., None]
        alpha = self.alpha[..., None]
        edged = view + edge * (self.rim - view)
        view[:] = np.rint(edged * (1 - alpha) + self.colour * alpha).astype(np.uint8)


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


def _placed(item: Placement, shape: str) -> np.ndarray:
    """All points (K, 2) of `shape` where `item` stands."""
    return _OUTLINES[shape] * (item.length, item.width) @ turn(item.angle) + item.at


def _box_side(item: Placement, shape: str) -> float:
    """sqrt(area), px, of the upright box around a placed shape."""
    points = _placed(item, shape)
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return math.sqrt((x1 - x0) * (y1 - y0))


def pick_paint(
    rng: np.random.Generator, wear: str, ground: np.ndarray, contrast: float
) -> np.ndarray:
    """A BGR paint of `WEAR[wear]` at least `contrast` levels away from `ground` (3,) BGR."""
    names, shares = list(WEAR[wear]), list(WEAR[wear].values())
    for choice in rng.choice(len(names), 4, p=shares):
        bgr = np.array(PAINTS[names[choice]][::-1]) * rng.uniform(0.9, 1.05) + rng.normal(0, 3, 3)
        if math.dist(bgr, ground) >= contrast:
            return np.clip(bgr, 0, 255)
    return np.full(3, 244.0 if ground.mean() < 165 else 40.0)


def draw(rng: np.random.Generator, item: Placement, shape: str, paint: np.ndarray) -> Patch:
    """Draw a placed shape in a patch just large enough for it and its rim."""
    points = _placed(item, shape)
    x0, y0 = (math.floor(c) - 2 for c in points.min(0))
    x1, y1 = (math.ceil(c) + 3 for c in points.max(0))
    # Pixel (0, 0) is centred on the origin: half a pixel leads to the fine grid's corner.
    fine = (((points - (x0, y0)) + 0.5) * _FINE - 0.5) * 16
    polygons = np.split(np.rint(fine).astype(np.int32), _ENDS[shape][:-1])
    alpha = np.zeros(((y1 - y0) * _FINE, (x1 - x0) * _FINE), np.uint8)
    colour = np.empty((*alpha.shape, 3), np.uint8)
    colour[:] = paint
    for part, polygon in zip(SHAPES[shape], polygons):
        base = paint if part.paint is None else PAINTS[part.paint][::-1]
        tone = tuple(min(255.0, float(c) * part.light) for c in base)
        cv2.fillPoly(alpha, [polygon], 255, shift=4)
        cv2.fillPoly(colour, [polygon], tone, shift=4)
    size = (x1 - x0, y1 - y0)
    return Patch(
        x0,
        y0,
        cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255,
        cv2.resize(colour, size, interpolation=cv2.INTER_AREA).astype(np.float32),
        (rng.uniform(25, 65) + rng.normal(0, 6, 3)).astype(np.float32),
        rng.uniform(*_BLOB_RIM) if shape == "blob" else _RIM,
    )
