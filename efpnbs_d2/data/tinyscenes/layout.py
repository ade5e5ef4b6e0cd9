"""The map of a scene: parcels of land, roads, water and bridges, before anything is painted.

Coordinates: (x, y) image px, y down, pixel centres on whole numbers. A parcel's own frame is
(u, v), px from its centre along its sides. H x W is the scene; `ground` holds `Ground` values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .options import Ground

#: Kinds of parcel and how often they appear once each scene has its first few different ones.
PARCEL_WEIGHTS = {
    Ground.FIELD: 0.24,
    Ground.LAWN: 0.16,
    Ground.YARD: 0.15,
    Ground.APRON: 0.13,
    Ground.PARKING: 0.10,
    Ground.PARK: 0.08,
    Ground.WOOD: 0.08,
    Ground.SCRUB: 0.06,
}


@dataclass(frozen=True)
class Parcel:
    """A rectangle of one land use; `half` is half its sides (u, v), `angle` that of u in x, y."""

    kind: Ground
    centre: np.ndarray
    half: tuple[float, float]
    angle: float

    def to_image(self, uv: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the parcel's frame as image (x, y)."""
        return self.centre + uv @ turn(self.angle)

    def corners(self) -> np.ndarray:
        u, v = self.half
        return self.to_image(np.array([(-u, -v), (u, -v), (u, v), (-u, v)]))


@dataclass(frozen=True)
class Strip:
    """A straight piece of road, path or bridge deck between two (x, y) points."""

    start: np.ndarray
    end: np.ndarray
    width: float

    @property
    def length(self) -> float:
        return float(np.hypot(*(self.end - self.start)))

    @property
    def angle(self) -> float:
        return math.atan2(self.end[1] - self.start[1], self.end[0] - self.start[0])

    def at(self, t: np.ndarray | float) -> np.ndarray:
        """Points at shares `t` of the way, (..., 2)."""
        return self.start + np.asarray(t)[..., None] * (self.end - self.start)


@dataclass
class Layout:
    """The whole map; `parcel_of` (H, W) indexes `parcels`, -1 where a road, path or water runs."""

    ground: np.ndarray
    parcel_of: np.ndarray
    parcels: list[Parcel]
    roads: list[Strip]
    paths: list[Strip]
    bridges: list[Strip]
    scale: float


def turn(angle: float) -> np.ndarray:
    """Matrix M such that row vectors (u, v) @ M are rotated by `angle` (x towards y)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([(c, s), (-s, c)])


def fill(target: np.ndarray, points: np.ndarray, value: int) -> None:
    """Fill a polygon of (x, y) points on an integer map, in place, edges at 1/16 px."""
    cv2.fillPoly(target, [np.round(points * 16).astype(np.int32)], value, shift=4)


def strip_corners(strip: Strip) -> np.ndarray:
    """The four corners (4, 2) of a strip."""
    side = np.array([-math.sin(strip.angle), math.cos(strip.angle)]) * strip.width / 2
    return np.array([strip.start + side, strip.end + side, strip.end - side, strip.start - side])


def smooth_noise(rng: np.random.Generator, h: int, w: int, grain: float) -> np.ndarray:
    """Smooth random field (h, w) float32 of unit spread whose bumps are about `grain` px wide."""
    rows, cols = (max(4, math.ceil(side / grain) + 1) for side in (h, w))
    coarse = rng.standard_normal((rows, cols), dtype=np.float32)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)


def make_layout(rng: np.random.Generator, h: int, w: int) -> Layout:
    """Draw the map of an `h` x `w` scene."""
    scale = float(np.clip(rng.lognormal(0, 0.13), 0.75, 1.35))
    parcels, roads, paths = _parcels(rng, h, w, scale)
    ground = np.full((h, w), Ground.WOOD, np.uint8)
    parcel_of = np.full((h, w), -1, np.int16)
    for index, parcel in enumerate(parcels):
        fill(ground, parcel.corners(), int(parcel.kind))
        fill(parcel_of, parcel.corners(), index)
    layout = Layout(ground, parcel_of, parcels, roads, paths, [], scale)
    for strip in paths:
        fill(ground, strip_corners(strip), int(Ground.PATH))
    for strip in roads:
        fill(ground, strip_corners(strip), int(Ground.ROAD))
    _flood(rng, layout)
    parcel_of[np.isin(ground, (Ground.ROAD, Ground.PATH, Ground.WATER, Ground.BEACH))] = -1
    return layout


def _parcels(
    rng: np.random.Generator, h: int, w: int, scale: float
) -> tuple[list[Parcel], list[Strip], list[Strip]]:
    """Split the scene, in a turned frame, into parcels with roads and paths between them."""
    angle = rng.uniform(0, math.pi / 2)
    matrix, centre = turn(angle), np.array([w / 2, h / 2]) + rng.uniform(-20, 20, 2)
    reach = math.hypot(h, w) / 2 + 25
    boxes, strips = _split(rng, (-reach, -reach, reach, reach), scale)

    lines = [
        (kind, Strip(centre + np.array(a) @ matrix, centre + np.array(b) @ matrix, width))
        for kind, a, b, width in strips
    ]
    middles = [np.array([u0 + u1, v0 + v1]) / 2 @ matrix + centre for u0, v0, u1, v1 in boxes]
    inside = [
        i
        for i, (x, y) in enumerate(middles)
        if -0.05 * w < x < 1.05 * w and -0.05 * h < y < 1.05 * h
    ]
    kinds = rng.choice(list(PARCEL_WEIGHTS), len(boxes), p=list(PARCEL_WEIGHTS.values()))
    # The first parcels in view are all different: every scene holds several contexts.
    several = rng.permutation(list(PARCEL_WEIGHTS)[:6])
    for i, kind in zip(rng.permutation(inside), several):
        kinds[i] = kind
    parcels = [
        Parcel(Ground(int(kind)), middle, ((u1 - u0) / 2, (v1 - v0) / 2), angle)
        for kind, middle, (u0, v0, u1, v1) in zip(kinds, middles, boxes)
    ]
    roads = [strip for kind, strip in lines if kind == Ground.ROAD]
    return parcels, roads, [strip for kind, strip in lines if kind == Ground.PATH]


Box = tuple[float, float, float, float]
Line = tuple[Ground, tuple[float, float], tuple[float, float], float]


def _split(
    rng: np.random.Generator, box: Box, scale: float, depth: int = 0
) -> tuple[list[Box], list[Line]]:
    """Cut `box` (u0, v0, u1, v1) at random until the pieces are parcel-sized."""
    u0, v0, u1, v1 = box
    along_u = (u1 - u0) > (v1 - v0)
    low, high = (u0, u1) if along_u else (v0, v1)
    if high - low < rng.uniform(75, 115):
        return [box], []
    cut = rng.uniform(0.38, 0.62) * (high - low) + low
    draw = rng.random()
    if depth < 2 or draw < 0.4:
        kind, gap = Ground.ROAD, rng.uniform(14, 19) * scale
    elif draw < 0.6:
        kind, gap = Ground.PATH, rng.uniform(6, 9) * scale
    else:
        kind, gap = Ground.WOOD, rng.uniform(0, 3)
    if along_u:
        first, second = (u0, v0, cut - gap / 2, v1), (cut + gap / 2, v0, u1, v1)
        ends = (cut, v0), (cut, v1)
    else:
        first, second = (u0, v0, u1, cut - gap / 2), (u0, cut + gap / 2, u1, v1)
        ends = (u0, cut), (u1, cut)
    boxes, lines = [], [(kind, *ends, gap)] if kind != Ground.WOOD else []
    for part in (first, second):
        more_boxes, more_lines = _split(rng, part, scale, depth + 1)
        boxes += more_boxes
        lines += more_lines
    return boxes, lines


def _flood(rng: np.random.Generator, layout: Layout) -> None:
    """Lay wide water with its beach, and streams with their bridges, over the land."""
    h, w = layout.ground.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    shore = smooth_noise(rng, h, w, 45) * 7 + smooth_noise(rng, h, w, 14) * 1.5
    kind = rng.choice(["coast", "lake", "none"], p=[0.5, 0.38, 0.12])
    wide = np.zeros((h, w), bool)
    if kind != "none":
        if kind == "coast":
            angle = rng.uniform(0, 2 * math.pi)
            away = (x - w / 2) * math.cos(angle) + (y - h / 2) * math.sin(angle)
            depth = away - rng.uniform(0.16, 0.3) * min(h, w) + shore
        else:
            cx, cy = rng.uniform(0.15, 0.85) * w, rng.uniform(0.15, 0.85) * h
            radius = rng.uniform(0.16, 0.26) * min(h, w)
            depth = radius - np.hypot(x - cx, (y - cy) * rng.uniform(0.8, 1.25)) + shore * 0.8
        layout.ground[depth > -rng.uniform(13, 20) * layout.scale] = Ground.BEACH
        wide = depth > 0
    streams = 1 if kind != "none" and rng.random() < 0.75 else 0 if kind != "none" else 1
    for _ in range(max(streams, round(streams * min(h, w) / 300))):
        _stream(rng, layout, x, y)
    layout.ground[wide] = Ground.WATER
    layout.bridges[:] = [
        deck
        for deck in layout.bridges
        if not any(
            _value(layout.ground, p) in (Ground.WATER, Ground.BEACH) for p in deck.at([0, 1])
        )
    ]


def _value(grid: np.ndarray, point: np.ndarray) -> int:
    """The value of `grid` at (x, y), -1 outside."""
    x, y = (int(round(float(c))) for c in point)
    return int(grid[y, x]) if 0 <= x < grid.shape[1] and 0 <= y < grid.shape[0] else -1


def _stream(rng: np.random.Generator, layout: Layout, x: np.ndarray, y: np.ndarray) -> None:
    """Dig one winding stream, with a bridge where a road crosses and footbridges between."""
    h, w = layout.ground.shape
    scale = layout.scale
    angle, width = rng.uniform(0, math.pi), rng.uniform(6, 15) * scale
    matrix = turn(angle)
    origin = np.array([w * rng.uniform(0.25, 0.75), h * rng.uniform(0.25, 0.75)])
    swing, wave, phase = rng.uniform(4, 14), rng.uniform(90, 170), rng.uniform(0, 2 * math.pi)

    def bend(u):
        return swing * np.sin(2 * math.pi * u / wave + phase)

    u = (x - origin[0]) * matrix[0, 0] + (y - origin[1]) * matrix[0, 1]
    v = (x - origin[0]) * matrix[1, 0] + (y - origin[1]) * matrix[1, 1]
    water = np.abs(v - bend(u)) < width / 2 * 1.05
    road_before = layout.ground == Ground.ROAD
    layout.ground[water] = Ground.WATER

    reach = math.hypot(h, w)
    taken: list[float] = []
    position = -reach + rng.uniform(0, 40)
    while position < reach:
        slope = math.atan(
            2 * math.pi / wave * swing * math.cos(2 * math.pi * position / wave + phase)
        )
        middle = origin + np.array([position, bend(position)]) @ matrix
        across = np.array(
            [math.cos(angle + slope + math.pi / 2), math.sin(angle + slope + math.pi / 2)]
        )
        half = width / 2 + rng.uniform(1.0, 2.5)
        deck = Strip(middle - across * half, middle + across * half, rng.uniform(4.5, 9) * scale)
        near_road = any(_value(road_before, middle + across * s) == 1 for s in (-14, 0, 14))
        if not near_road and 0 < middle[0] < w and 0 < middle[1] < h:
            _footpath(rng, layout, deck, across)
            layout.bridges.append(deck)
            taken.append(position)
        position += rng.uniform(28, 80) * scale
    layout.bridges += _road_crossings(layout, water)


def _footpath(rng: np.random.Generator, layout: Layout, deck: Strip, across: np.ndarray) -> None:
    """A path on both banks of a footbridge."""
    reach = rng.uniform(10, 26)
    mask = np.zeros(layout.ground.shape, np.uint8)
    long = Strip(deck.start - across * reach, deck.end + across * reach, deck.width * 0.8)
    fill(mask, strip_corners(long), 1)
    free = (mask == 1) & ~np.isin(layout.ground, (Ground.WATER, Ground.ROAD, Ground.BEACH))
    layout.ground[free] = Ground.PATH


def _road_crossings(layout: Layout, water: np.ndarray) -> list[Strip]:
    """Decks where a road runs over the stream `water` (H, W) and comes out on both banks."""
    decks = []
    for road in layout.roads:
        steps = max(2, int(road.length))
        wet = np.array([_value(water, p) for p in road.at(np.linspace(0, 1, steps))]) == 1
        edges = np.flatnonzero(np.diff(np.concatenate(([0], wet, [0]))))
        for first, last in zip(edges[::2], edges[1::2]):
            if 3 <= last - first <= 48 and first > 6 and last < steps - 6:
                a, b = road.at((first - 4) / steps), road.at((last + 4) / steps)
                decks.append(Strip(a, b, road.width * 0.95))
    return decks
