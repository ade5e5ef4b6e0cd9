"""What furnishes each parcel, and the slots that it makes for objects.

A slot is a `Placement` that an object may take. Slots come in groups that belong together, such
as one row of bays. Coordinates and terms: see `geometry` and `solids`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from .geometry import RGB, Parcel, Strip, lognormal, values_at
from .layout import Layout
from .objects import Placement
from .options import Difficulty, Ground
from .solids import Solid, roof, tree

Groups = dict[str, list[list[Placement]]]

_TILES: tuple[RGB, ...] = ((168, 92, 68), (154, 82, 62), (178, 106, 80), (142, 86, 72))
_STEEL: tuple[RGB, ...] = ((104, 122, 146), (88, 108, 134), (122, 132, 142), (96, 124, 128))
_MARKING: RGB = (188, 190, 186)
_JOINT: RGB = (148, 152, 152)
_TAXI: RGB = (206, 172, 62)


@dataclass
class Structures:
    """All solids, painted lines and slots of a scene, and what is needed to make them."""

    rng: np.random.Generator
    scale: float
    sun: np.ndarray
    solids: list[Solid] = field(default_factory=list)
    lines: list[tuple[Strip, RGB]] = field(default_factory=list)
    slots: Groups = field(default_factory=lambda: defaultdict(list))

    def furnish(self, layout: Layout, options: Difficulty) -> None:
        """Furnish every parcel and road of `layout`."""
        makers = {
            Ground.LAWN: self._homes,
            Ground.YARD: self._works,
            Ground.APRON: self._stands,
            Ground.PARKING: self._bays,
        }
        trees = {Ground.PARK: 1.0, Ground.SCRUB: 0.6, Ground.LAWN: 0.35, Ground.FIELD: 0.04}
        h, w = layout.ground.shape
        for parcel in layout.parcels:
            corners = parcel.corners()
            if (corners.max(0) < 0).any() or (corners.min(0) > (w, h)).any():
                continue
            if parcel.kind in makers:
                makers[parcel.kind](parcel)
            self._trees(parcel, trees.get(parcel.kind, 0.0) * options.clutter)
        for road in layout.roads:
            self._mark_road(road, layout)

    def _homes(self, parcel: Parcel) -> None:
        """Houses in a grid of gardens, with a place for a pool beside most."""
        rng, scale = self.rng, self.scale
        garden = rng.uniform(28, 35) * scale
        for u, v in _cells(parcel, garden, garden):
            half = (rng.uniform(8, 11.5) * scale, rng.uniform(6, 8) * scale)
            side = rng.choice([-1, 1])
            tile = _TILES[rng.integers(len(_TILES))]
            du, dv = rng.uniform(-2, 2, 2)
            at = (u + du, v + dv - side * garden * 0.2)
            self.solids.append(roof(parcel, at, half, tile, self.sun, 5 * scale, 1.0))
            spot = parcel.to_image(np.array([u + rng.uniform(-4, 4), v + side * garden * 0.26]))
            if rng.random() < 0.85:
                length = lognormal(rng, 10.3, 0.24, (6, 20)) * scale
                turned = parcel.angle + rng.choice([0, math.pi / 2])
                width = length * rng.uniform(0.6, 0.95)
                pool = Placement("swimming-pool", spot, length, width, turned)
                self.slots[pool.name].append([pool])
            else:
                self.solids.append(tree(rng, spot, rng.uniform(3, 5) * scale, self.sun))

    def _works(self, parcel: Parcel) -> None:
        """A hall along one side and a tank farm beside it."""
        rng, scale = self.rng, self.scale
        (half_u, half_v), side = parcel.half, rng.choice([-1, 1])
        depth = min(half_v * 0.34, 17 * scale)
        hall = (half_u * rng.uniform(0.6, 0.82), depth)
        steel = _STEEL[rng.integers(len(_STEEL))]
        at = (0.0, side * (half_v - depth - 4))
        self.solids.append(roof(parcel, at, hall, steel, self.sun, 6 * scale, 0.4))
        diameter = lognormal(rng, 12, 0.28, (6.5, 30)) * scale
        middle = parcel.to_image(np.array([0, -side * (depth + 3)]))
        free = Parcel(parcel.kind, middle, (half_u - 4, half_v - depth - 6), parcel.angle)
        pitch = diameter * rng.uniform(1.3, 1.7)
        tanks = []
        for cell in _cells(free, pitch, pitch):
            size = diameter * rng.uniform(0.85, 1.08)
            spot = free.to_image(cell + rng.normal(0, 0.5, 2))
            tanks.append(Placement("storage-tank", spot, size, size, parcel.angle))
        self._add_rows("storage-tank", tanks, 4)

    def _stands(self, parcel: Parcel) -> None:
        """Concrete slabs, a yellow taxi line and rows of aircraft stands."""
        rng, scale = self.rng, self.scale
        half_u, half_v = parcel.half
        slab = 12 * scale
        for u in np.arange(-half_u + slab / 2, half_u, slab):
            self._line(parcel, (u, -half_v), (u, half_v), 0.5, _JOINT)
        for v in np.arange(-half_v + slab / 2, half_v, slab):
            self._line(parcel, (-half_u, v), (half_u, v), 0.5, _JOINT)
        row = rng.uniform(-0.2, 0.2) * half_v
        self._line(parcel, (-half_u, row), (half_u, row), 1.2, _TAXI)
        span = lognormal(rng, 15, 0.32, (7, 42)) * scale
        pitch = span * rng.uniform(1.05, 1.4)
        heading = parcel.angle + math.pi * (rng.integers(2) + 0.5) + rng.choice([0, 0.5, -0.5])
        for v in (row - span * 0.95, row + span * 0.95):
            planes = []
            for u in np.arange(-half_u + span * 0.7, half_u - span * 0.5, pitch):
                size = span * rng.uniform(0.8, 1.08)
                spot = parcel.to_image(np.array([u, v]))
                turned = heading + rng.normal(0, 0.06)
                planes.append(Placement("airplane", spot, size, size * 0.96, turned))
            self._add_rows("airplane", planes, 3)

    def _bays(self, parcel: Parcel) -> None:
        """Rows of marked bays, back to back in pairs, cars nose in or out."""
        rng, scale = self.rng, self.scale
        half_u, half_v = parcel.half
        width, length = rng.uniform(7.2, 9) * scale, rng.uniform(13.5, 16) * scale
        v, row = -half_v + 2, 0
        while v + length < half_v - 1:
            cars = []
            us = np.arange(-half_u + 3, half_u - 3, width)
            for u in us:
                self._line(parcel, (u, v + 1), (u, v + length - 1), 0.7, _MARKING)
            for u in us[:-1]:
                size = length * rng.uniform(0.7, 0.88)
                spot = parcel.to_image(np.array([u + width / 2, v + length / 2]))
                heading = parcel.angle + math.pi * (rng.integers(2) + 0.5)
                broad = width * rng.uniform(0.7, 0.82)
                cars.append(Placement("vehicle", spot, size, broad, heading))
            taken = [car for car in cars if rng.random() < 0.8]
            self._add_rows("vehicle", taken, 4)
            row += 1
            v += length + (11 * scale if row % 2 else 0.5)

    def _trees(self, parcel: Parcel, factor: float) -> None:
        """Scattered trees, 1 per 225 px of a parcel for `factor` 1."""
        half_u, half_v = parcel.half
        for _ in range(self.rng.poisson(factor * half_u * half_v * 4 / 500)):
            spot = parcel.to_image(self.rng.uniform(-0.92, 0.92, 2) * parcel.half)
            radius = self.rng.uniform(2.2, 5) * self.scale
            self.solids.append(tree(self.rng, spot, radius, self.sun))

    def _mark_road(self, road: Strip, layout: Layout) -> None:
        """A dashed middle line, and an avenue of trees where the land beside is green."""
        shares = np.arange(0, 1, 6 / road.length)
        spots = road.at(shares[: len(shares) // 2 * 2]).reshape(-1, 2, 2)
        seen = (values_at(layout.ground, spots) == Ground.ROAD).any(1)
        self.lines += [(Strip(start, end, 0.8), _MARKING) for start, end in spots[seen]]
        if self.rng.random() < 0.4:
            return
        shares = np.arange(0, 1, self.rng.uniform(13, 20) / road.length)
        for side in (-1, 1):
            spots = road.at(shares) + road.side * side * (road.width / 2 + 4.5 * self.scale)
            kinds = values_at(layout.ground, spots)
            for spot in spots[np.isin(kinds, (Ground.LAWN, Ground.PARK, Ground.SCRUB))]:
                radius = self.rng.uniform(2.6, 4) * self.scale
                self.solids.append(tree(self.rng, spot, radius, self.sun))

    def _line(
        self,
        parcel: Parcel,
        start: tuple[float, float],
        end: tuple[float, float],
        width: float,
        rgb: RGB,
    ) -> None:
        ends = parcel.to_image(np.array([start, end]))
        self.lines.append((Strip(ends[0], ends[1], width), rgb))

    def _add_rows(self, name: str, row: list[Placement], at_once: int) -> None:
        groups = (row[start : start + at_once] for start in range(0, len(row), at_once))
        self.slots[name] += groups


def _cells(parcel: Parcel, step_u: float, step_v: float) -> list[np.ndarray]:
    """Centres (u, v) of the whole cells that fit a parcel."""
    axes = []
    for half, step in zip(parcel.half, (step_u, step_v)):
        count = int(2 * half // step)
        axes.append((np.arange(count) - (count - 1) / 2) * step)
    return [np.array([u, v]) for v in axes[1] for u in axes[0]]
