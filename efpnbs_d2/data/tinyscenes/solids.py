"""Things that stand on the ground and are no objects: roofs, trees, painted lines, and shadows.

Coordinates and terms: see `geometry`; `sun` is the unit (x, y) vector along which shadows fall.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from .geometry import RGB, Parcel, Strip, fill, fill_colour, is_kind, values_at
from .options import Ground

#: What shadow takes from (blue, green, red): skylight leaves it bluish.
_SHADE = np.array([0.42, 0.5, 0.54], np.float32)


@dataclass(frozen=True)
class Solid:
    """Faces (polygon, colour) over a footprint (K, 2), `height` px high; `kind` marks the map."""

    footprint: np.ndarray
    height: float
    faces: list[tuple[np.ndarray, RGB]]
    kind: Ground


def roof(
    parcel: Parcel,
    at: tuple[float, float],
    half: tuple[float, float],
    rgb: RGB,
    sun: np.ndarray,
    height: float,
    pitch: float,
) -> Solid:
    """A roof centred on `at` (u, v) with a ridge along u; `pitch` 0..1 parts light from shade."""
    (u, v), (a, b) = at, half
    spots = [(-a, -b), (a, -b), (a, b), (-a, b), (-a * 0.97, 0), (a * 0.97, 0)]
    *corners, left, right = parcel.to_image(np.array(spots) + (u, v))
    lit = 0.25 * pitch * float((corners[0] - corners[3]) @ -sun) / (2 * b)
    faces = [
        (np.array(corners), _tinted(rgb, 0.85)),
        (np.array([corners[0], corners[1], right, left]), _tinted(rgb, 1 + lit)),
        (np.array([left, right, corners[2], corners[3]]), _tinted(rgb, 1 - lit)),
    ]
    return Solid(np.array(corners), height, faces, Ground.ROOF)


def tree(rng: np.random.Generator, at: np.ndarray, radius: float, sun: np.ndarray) -> Solid:
    """A crown: a dark ragged disc, lighter towards the sun."""
    t = np.linspace(0, 2 * math.pi, 9, endpoint=False)
    ring = np.stack([np.cos(t), np.sin(t)], -1) * (radius * rng.uniform(0.78, 1.12, (9, 1)))
    r, g, b = np.array([50, 74, 42]) + rng.normal(0, 6, 3)
    faces = [
        (at + ring, (r, g, b)),
        (at - sun * radius * 0.25 + ring * 0.6, (r + 18, g + 24, b + 12)),
    ]
    return Solid(at + ring, radius * 0.9, faces, Ground.TREE)


def _tinted(rgb: RGB, light: float) -> RGB:
    r, g, b = (min(255.0, c * light) for c in rgb)
    return r, g, b


def raise_solids(
    image: np.ndarray, ground: np.ndarray, solids: Iterable[Solid], sun: np.ndarray
) -> None:
    """Draw the solids that stand on free land, with shadows, and mark them on `ground`."""
    kept = _on_free_land(list(solids), ground)
    shadow = np.zeros(ground.shape, np.uint8)
    for solid in kept:
        cast_shadow(shadow, solid.footprint, sun * solid.height)
    darken(image, shadow)
    for solid in kept:
        for points, rgb in solid.faces:
            fill_colour(image, points, rgb)
        fill(ground, solid.footprint, int(solid.kind))


def _on_free_land(solids: list[Solid], ground: np.ndarray) -> list[Solid]:
    """The solids that are in view and stand neither in water nor on a way."""
    if not solids:
        return []
    starts = np.cumsum([0] + [len(solid.footprint) for solid in solids[:-1]])
    kinds = values_at(ground, np.concatenate([solid.footprint for solid in solids]))
    barred = is_kind(np.maximum(kinds, 0), (Ground.WATER, Ground.BEACH, Ground.ROAD, Ground.PATH))
    in_view = np.maximum.reduceat(kinds, starts) >= 0
    blocked = np.logical_or.reduceat(barred & (kinds >= 0), starts)
    return [solid for solid, free in zip(solids, in_view & ~blocked) if free]


def paint_lines(image: np.ndarray, ground: np.ndarray, lines: Iterable[tuple[Strip, RGB]]) -> None:
    """Paint markings on dry, built ground only."""
    painted = image.copy()
    for strip, rgb in lines:
        fill_colour(painted, strip.corners(), rgb)
    built = is_kind(ground, (Ground.ROAD, Ground.PARKING, Ground.APRON, Ground.YARD))
    cv2.copyTo(painted, built.astype(np.uint8), image)


def cast_shadow(shadow: np.ndarray, footprint: np.ndarray, throw: np.ndarray) -> None:
    """Mark on `shadow` (H, W) uint8 what a solid hides from the sun, in place."""
    reach = np.concatenate([footprint, footprint + throw]).astype(np.float32)
    fill(shadow, cv2.convexHull(reach)[:, 0].astype(np.float64), 255)


def darken(image: np.ndarray, shadow: np.ndarray) -> None:
    """Take about half the light where `shadow` (H, W) uint8 is set, with soft edges, in place."""
    soft = cv2.GaussianBlur(shadow, (0, 0), 0.6)
    rows, cols = np.nonzero(soft)
    share = soft[rows, cols, None].astype(np.float32) / 255
    image[rows, cols] = (image[rows, cols] * (1 - share * _SHADE)).astype(np.uint8)
