"""Buildings, parking bays, stands and trees of each parcel, and the places they make for objects.

A slot is a `Placement` that an object may take; slots come in groups that belong together, such as
one row of bays. H x W is the scene, BGR.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import cv2
import numpy as np

from .layout import Layout, Parcel, Strip, fill, strip_corners
from .objects import Placement
from .options import Difficulty, Ground

Groups = dict[str, list[list[Placement]]]

_TILES = ((168, 92, 68), (154, 82, 62), (176, 104, 78), (140, 84, 70))
_STEEL = ((104, 122, 146), (88, 108, 134), (122, 132, 142), (96, 124, 128))


@dataclass(frozen=True)
class Solid:
    """Something that stands on the ground: faces ((K, 2) xy, RGB), its footprint and height px."""

    footprint: np.ndarray
    height: float
    faces: list[tuple[np.ndarray, tuple[float, float, float]]]
    ground: Ground


@dataclass
class Structures:
    """All solids, painted lines (strip, RGB) and slots of a scene."""

    solids: list[Solid] = field(default_factory=list)
    lines: list[tuple[Strip, tuple[int, int, int]]] = field(default_factory=list)
    slots: Groups = field(default_factory=lambda: defaultdict(list))


def build(
    rng: np.random.Generator, layout: Layout, sun: np.ndarray, options: Difficulty
) -> Structures:
    """Furnish every parcel."""
    found = Structures()
    makers = {
        Ground.LAWN: _homes,
        Ground.YARD: _works,
        Ground.APRON: _stands,
        Ground.PARKING: _bays,
        Ground.PARK: _trees,
        Ground.SCRUB: _trees,
    }
    for parcel in layout.parcels:
        if parcel.kind in makers:
            makers[parcel.kind](rng, parcel, layout.scale, sun, found)
    for road in layout.roads:
        found.lines.append((Strip(road.start, road.end, 0.9), (196, 190, 160)))
    if options.clutter > 1:
        for parcel in layout.parcels:
            if parcel.kind in (Ground.FIELD, Ground.LAWN, Ground.PARK):
                _trees(rng, parcel, layout.scale, sun, found, options.clutter - 1)
    return found


def paint_structures(image: np.ndarray, layout: Layout, found: Structures, sun: np.ndarray) -> None:
    """Draw lines, shadows and solids on `image` (uint8) and mark roofs and trees on the map."""
    h, w = layout.ground.shape
    wet = np.isin(layout.ground, (Ground.WATER, Ground.BEACH, Ground.PATH))
    dry = image.copy()
    for strip, rgb in found.lines:
        _fill_colour(dry, strip_corners(strip), rgb)
    kept = [s for s in found.solids if _stands_free(s, layout)]
    shadow = np.zeros((h, w), np.uint8)
    for solid in kept:
        cast_shadow(shadow, solid.footprint, sun * solid.height)
    darken(dry, shadow)
    image[~wet] = dry[~wet]
    for solid in kept:
        for points, rgb in solid.faces:
            _fill_colour(image, points, rgb)
        fill(layout.ground, solid.footprint, int(solid.ground))


def cast_shadow(shadow: np.ndarray, footprint: np.ndarray, throw: np.ndarray) -> None:
    """Mark on `shadow` (H, W) the ground that a solid hides from the sun, in place."""
    reach = np.concatenate([footprint, footprint + throw]).astype(np.float32)
    fill(shadow, cv2.convexHull(reach)[:, 0].astype(np.float64), 255)


def darken(image: np.ndarray, shadow: np.ndarray) -> None:
    """Take half the light where `shadow` (H, W) uint8 is set, with soft edges, in place."""
    soft = cv2.GaussianBlur(shadow, (0, 0), 0.6).astype(np.float32)[..., None] / 255
    image[:] = (image * (1 - soft * np.array([0.42, 0.5, 0.54], np.float32))).astype(np.uint8)


def _fill_colour(image: np.ndarray, points: np.ndarray, rgb) -> None:
    fine = np.round(points * 16).astype(np.int32)
    bgr = tuple(float(c) for c in rgb[::-1])
    cv2.fillPoly(image, [fine], bgr, lineType=cv2.LINE_AA, shift=4)


def _stands_free(solid: Solid, layout: Layout) -> bool:
    """Whether a solid lies on its parcel, not in water, on a road or on a beach."""
    h, w = layout.ground.shape
    points = np.round(np.vstack([solid.footprint, solid.footprint.mean(0)])).astype(int)
    inside = points[(points >= 0).all(1) & (points < (w, h)).all(1)]
    barred = (Ground.WATER, Ground.BEACH, Ground.ROAD, Ground.PATH, Ground.ROOF)
    return len(inside) > 0 and not np.isin(layout.ground[inside[:, 1], inside[:, 0]], barred).any()


def _roof(
    parcel: Parcel,
    at: tuple[float, float],
    half: tuple[float, float],
    rgb,
    sun: np.ndarray,
    height: float,
    pitched: bool,
) -> Solid:
    """A house (two pitched faces, one in the light) or a hall (flat, with a bright ridge)."""
    (u, v), (a, b) = at, half
    face = parcel.to_image(
        np.array([(u - a, v - b), (u + a, v - b), (u + a, v + b), (u - a, v + b)])
    )
    ridge = parcel.to_image(np.array([(u - a, v), (u + a, v)]))
    rgb = np.array(rgb, float)
    lit = float(np.sign((face[3] - face[0]) @ sun)) if pitched else 0.35
    faces = [
        (face, tuple(np.clip(rgb * (1 - 0.17 * lit), 0, 255))),
        (
            np.array([ridge[0], ridge[1], face[2], face[3]]),
            tuple(np.clip(rgb * (1 + 0.17 * -lit), 0, 255)),
        ),
        (
            np.array([face[0], face[1], ridge[1], ridge[0]]),
            tuple(np.clip(rgb * (1 + 0.17 * lit), 0, 255)),
        ),
    ]
    return Solid(face, height, faces, Ground.ROOF)


def _homes(rng, parcel: Parcel, scale: float, sun, found: Structures) -> None:
    """Houses in a grid of gardens, a pool's place beside some, trees in the rest."""
    garden = rng.uniform(30, 38) * scale
    for u, v in _grid(parcel, garden, garden):
        a, b = rng.uniform(9, 12) * scale, rng.uniform(6.5, 8.5) * scale
        du, dv = rng.uniform(-2, 2, 2)
        side = rng.choice([-1, 1])
        tile = _TILES[rng.integers(len(_TILES))]
        at = (u + du, v + dv - side * garden * 0.2)
        found.solids.append(_roof(parcel, at, (a, b), tile, sun, 5 * scale, True))
        spot = parcel.to_image(np.array([u + rng.uniform(-4, 4), v + side * garden * 0.24]))
        if rng.random() < 0.75:
            length = np.clip(rng.lognormal(math.log(10.5), 0.24), 6.5, 20) * scale
            width = length * rng.uniform(0.6, 0.95)
            turned = parcel.angle + rng.choice([0, math.pi / 2])
            found.slots["swimming-pool"].append(
                [Placement("swimming-pool", *spot, length, width, turned)]
            )
        else:
            _tree(rng, spot, rng.uniform(3, 5) * scale, sun, found)


def _works(rng, parcel: Parcel, scale: float, sun, found: Structures) -> None:
    """A hall along one side and a tank farm beside it."""
    (half_u, half_v), side = parcel.half, rng.choice([-1, 1])
    depth = min(half_v * 0.34, 17 * scale)
    steel = _STEEL[rng.integers(len(_STEEL))]
    hall = (half_u * rng.uniform(0.6, 0.82), depth)
    at = (0.0, side * (half_v - depth - 4))
    found.solids.append(_roof(parcel, at, hall, steel, sun, 6 * scale, False))
    diameter = np.clip(rng.lognormal(math.log(12), 0.26), 7, 30) * scale
    pitch = diameter * rng.uniform(1.25, 1.6)
    free = Parcel(
        parcel.kind,
        parcel.to_image(np.array([0, -side * (depth + 3)])),
        (half_u - 3, half_v - depth - 5),
        parcel.angle,
    )
    cells = _grid(free, pitch, pitch)
    for start in range(0, len(cells), 4):
        group = [
            Placement("storage-tank", *free.to_image(cell + rng.normal(0, 0.5, 2)), d, d, 0.0)
            for cell in cells[start : start + 4]
            for d in (diameter * rng.uniform(0.85, 1.08),)
        ]
        found.slots["storage-tank"].append(group)


def _stands(rng, parcel: Parcel, scale: float, sun, found: Structures) -> None:
    """Concrete slabs, a yellow taxi line and rows of aircraft stands."""
    half_u, half_v = parcel.half
    slab = 12 * scale
    for u in np.arange(-half_u, half_u, slab):
        _line(parcel, (u, -half_v), (u, half_v), 0.45, (146, 150, 150), found)
    for v in np.arange(-half_v, half_v, slab):
        _line(parcel, (-half_u, v), (half_u, v), 0.45, (146, 150, 150), found)
    span = np.clip(rng.lognormal(math.log(15.5), 0.25), 8, 42) * scale
    row = rng.uniform(-0.2, 0.2) * half_v
    _line(parcel, (-half_u, row), (half_u, row), 1.2, (206, 172, 62), found)
    facing = rng.choice([0, math.pi])
    for v in (row - span * 0.95, row + span * 0.95):
        cells = np.arange(-half_u + span * 0.7, half_u - span * 0.5, span * rng.uniform(1.05, 1.4))
        turned = parcel.angle + math.pi / 2 + facing + rng.choice([0, 0.5, -0.5])
        for start in range(0, len(cells), 3):
            group = [
                Placement(
                    "airplane",
                    *parcel.to_image(np.array([u, v])),
                    s,
                    s * 0.96,
                    turned + rng.normal(0, 0.06),
                )
                for u in cells[start : start + 3]
                for s in (span * rng.uniform(0.8, 1.08),)
            ]
            found.slots["airplane"].append(group)


def _bays(rng, parcel: Parcel, scale: float, sun, found: Structures) -> None:
    """Rows of marked bays with lanes between, cars nose in or out."""
    half_u, half_v = parcel.half
    width, length = rng.uniform(7.4, 9) * scale, rng.uniform(14, 16) * scale
    v, double = -half_v + 2, 0
    while v + length < half_v:
        us = np.arange(-half_u + 3, half_u - 3, width)
        for u in us:
            _line(parcel, (u, v + 1), (u, v + length - 1), 0.7, (186, 188, 186), found)
        for start in range(0, len(us) - 1, 5):
            group = []
            for u in us[start : start + 5]:
                if rng.random() < 0.8:
                    middle = parcel.to_image(np.array([u + width / 2, v + length / 2]))
                    long = length * rng.uniform(0.72, 0.9)
                    flip = rng.choice([0, math.pi])
                    group.append(
                        Placement(
                            "vehicle",
                            *middle,
                            long,
                            width * rng.uniform(0.7, 0.82),
                            parcel.angle + math.pi / 2 + flip,
                        )
                    )
            if group:
                found.slots["vehicle"].append(group)
        double += 1
        v += length + (11 * scale if double % 2 else 0.5)


def _trees(rng, parcel: Parcel, scale: float, sun, found: Structures, factor: float = 1.0) -> None:
    """Scattered trees."""
    half_u, half_v = parcel.half
    for _ in range(rng.poisson(factor * half_u * half_v * 4 / 900)):
        uv = rng.uniform(-0.92, 0.92, 2) * (half_u, half_v)
        _tree(rng, parcel.to_image(uv), rng.uniform(2.5, 6) * scale, sun, found)


def _tree(rng, at: np.ndarray, radius: float, sun, found: Structures) -> None:
    """A crown: a dark ragged disc, lighter on the side of the sun."""
    t = np.linspace(0, 2 * math.pi, 11, endpoint=False)
    ring = np.stack([np.cos(t), np.sin(t)], -1) * (radius * rng.uniform(0.8, 1.1, (11, 1)))
    dark = np.array([44, 68, 38]) + rng.normal(0, 5, 3)
    faces = [(at + ring, tuple(dark))]
    faces.append((at - sun * radius * 0.25 + ring * 0.62, tuple(dark + (20, 24, 12))))
    found.solids.append(Solid(at + ring, radius * 0.9, faces, Ground.TREE))


def _grid(parcel: Parcel, step_u: float, step_v: float) -> list[np.ndarray]:
    """Centres (u, v) of the whole cells that fit a parcel."""
    axes = []
    for half, step in zip(parcel.half, (step_u, step_v)):
        count = int(2 * half // step)
        axes.append((np.arange(count) - (count - 1) / 2) * step)
    return [np.array([u, v]) for v in axes[1] for u in axes[0]]


def _line(parcel: Parcel, a, b, width: float, rgb, found: Structures) -> None:
    start, end = parcel.to_image(np.array([a, b], float))
    found.lines.append((Strip(start, end, width), rgb))
