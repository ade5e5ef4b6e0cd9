"""The map of a scene before anything is painted: parcels of land with roads and paths between.

Coordinates and terms: see `geometry`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .geometry import Parcel, Strip, fill, lognormal, turn
from .options import Ground

#: Kinds of parcel and how often they appear once each scene has its first few different ones.
PARCEL_WEIGHTS = {
    Ground.FIELD: 0.21,
    Ground.LAWN: 0.24,
    Ground.YARD: 0.13,
    Ground.APRON: 0.13,
    Ground.PARKING: 0.1,
    Ground.PARK: 0.07,
    Ground.WOOD: 0.07,
    Ground.SCRUB: 0.05,
}
#: The kinds of which every scene shows one each, where it has room for so many parcels.
_FIRST_KINDS = (Ground.FIELD, Ground.LAWN, Ground.YARD, Ground.APRON, Ground.PARKING)

Box = tuple[float, float, float, float]


@dataclass
class Layout:
    """The whole map; `parcel_of` (H, W) indexes `parcels`, -1 where none is to be seen."""

    ground: np.ndarray
    parcel_of: np.ndarray
    parcels: list[Parcel]
    roads: list[Strip]
    bridges: list[Strip]
    scale: float


@dataclass(frozen=True)
class _Line:
    """A cut between parcels in their turned frame: (u, v) to (u, v)."""

    kind: Ground
    start: tuple[float, float]
    end: tuple[float, float]
    width: float


def make_land(rng: np.random.Generator, h: int, w: int) -> Layout:
    """Draw the dry map of an `h` x `w` scene."""
    scale = lognormal(rng, 1.05, 0.18, (0.7, 1.6))
    angle = rng.uniform(0, math.pi / 2)
    centre = np.array([w / 2, h / 2]) + rng.uniform(-20, 20, 2)
    reach = math.hypot(h, w) / 2 + 25
    boxes, lines = _split(rng, (-reach, -reach, reach, reach), scale)
    parcels = _use_land(rng, boxes, angle, centre, h, w)

    ground = np.full((h, w), Ground.WOOD, np.uint8)
    parcel_of = np.full((h, w), -1, np.int16)
    for index, parcel in enumerate(parcels):
        fill(ground, parcel.corners(), int(parcel.kind))
        fill(parcel_of, parcel.corners(), index)
    roads = []
    # Roads last: they run over the paths that they cross.
    for line in sorted(lines, key=lambda line: line.kind == Ground.ROAD):
        ends = np.array([line.start, line.end]) @ turn(angle) + centre
        strip = Strip(ends[0], ends[1], line.width)
        fill(ground, strip.corners(), int(line.kind))
        if line.kind == Ground.ROAD:
            roads.append(strip)
    return Layout(ground, parcel_of, parcels, roads, [], scale)


def _use_land(
    rng: np.random.Generator, boxes: list[Box], angle: float, centre: np.ndarray, h: int, w: int
) -> list[Parcel]:
    """Give each box (u0, v0, u1, v1) a land use."""
    middles = [np.array([u0 + u1, v0 + v1]) / 2 @ turn(angle) + centre for u0, v0, u1, v1 in boxes]
    weights = list(PARCEL_WEIGHTS.values())
    kinds = [Ground(int(k)) for k in rng.choice(list(PARCEL_WEIGHTS), len(boxes), p=weights)]
    in_view = [i for i, (x, y) in enumerate(middles) if 0 <= x < w and 0 <= y < h]
    first = rng.permutation(len(_FIRST_KINDS))
    for box, kind in zip(rng.permutation(in_view), first):
        kinds[int(box)] = _FIRST_KINDS[kind]
    return [
        Parcel(kind, middle, ((u1 - u0) / 2, (v1 - v0) / 2), angle)
        for kind, middle, (u0, v0, u1, v1) in zip(kinds, middles, boxes)
    ]


def _split(
    rng: np.random.Generator, box: Box, scale: float, depth: int = 0
) -> tuple[list[Box], list[_Line]]:
    """Cut `box` (u0, v0, u1, v1) at random until the pieces are parcel-sized."""
    u0, v0, u1, v1 = box
    along_u = (u1 - u0) > (v1 - v0)
    low, high = (u0, u1) if along_u else (v0, v1)
    if high - low < rng.uniform(75, 115):
        return [box], []
    cut = rng.uniform(0.38, 0.62) * (high - low) + low
    kind, width = _cut_kind(rng, scale, depth)
    if along_u:
        first, second = (u0, v0, cut - width / 2, v1), (cut + width / 2, v0, u1, v1)
        line = _Line(kind, (cut, v0), (cut, v1), width)
    else:
        first, second = (u0, v0, u1, cut - width / 2), (u0, cut + width / 2, u1, v1)
        line = _Line(kind, (u0, cut), (u1, cut), width)
    boxes: list[Box] = []
    lines = [line]
    for part in (first, second):
        more_boxes, more_lines = _split(rng, part, scale, depth + 1)
        boxes += more_boxes
        lines += more_lines
    return boxes, lines


def _cut_kind(rng: np.random.Generator, scale: float, depth: int) -> tuple[Ground, float]:
    """What runs between two parcels, and its width: a road, a path or a hedge."""
    draw = rng.random()
    if depth == 0 or draw < (0.75 if depth == 1 else 0.28):
        return Ground.ROAD, rng.uniform(17, 22) * scale
    if 0.75 < draw < 0.97:
        return Ground.PATH, rng.uniform(11, 15) * scale
    return Ground.WOOD, rng.uniform(1.5, 4)
