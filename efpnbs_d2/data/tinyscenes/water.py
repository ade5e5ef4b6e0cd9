"""Seas, lakes and streams over the map, with beaches, and bridges where something crosses.

Coordinates and terms: see `geometry`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .geometry import Strip, fill, is_kind, lognormal, smooth_noise, turn, values_at
from .layout import Layout
from .options import Ground

#: Ground on which a footbridge and its path look at home.
_GREEN = (Ground.FIELD, Ground.LAWN, Ground.PARK, Ground.WOOD, Ground.SCRUB)


def flood(rng: np.random.Generator, layout: Layout) -> None:
    """Lay water, beaches and bridges over the dry `layout`, in place."""
    h, w = layout.ground.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    depth = _wide_water(rng, h, w, x, y)
    beach = rng.uniform(15, 21) * layout.scale
    streams = max(rng.poisson(0.75 * max(1.0, min(h, w) / 400)), min(h, w) // 400)
    if depth is None:
        streams = max(1, streams)
    if depth is not None:
        layout.ground[depth > -beach] = Ground.BEACH
    for _ in range(streams):
        _dig(rng, layout, Stream.at_random(rng, h, w, layout.scale), x, y)
    if depth is not None:
        layout.ground[depth > 0] = Ground.WATER
    # A bridge that lost a bank to the wide water, or to another stream, is none.
    layout.bridges[:] = [deck for deck in layout.bridges if _has_banks(layout, deck)]
    hidden = (Ground.ROAD, Ground.PATH, Ground.WATER, Ground.BEACH)
    layout.parcel_of[is_kind(layout.ground, hidden)] = -1


def _wide_water(
    rng: np.random.Generator, h: int, w: int, x: np.ndarray, y: np.ndarray
) -> np.ndarray | None:
    """Signed depth (H, W) in px from the shore, positive in water; None for no wide water."""
    kind = rng.choice(["coast", "lake", "none"], p=[0.5, 0.38, 0.12])
    if kind == "none":
        return None
    shore = smooth_noise(rng, h, w, 45) * 7 + smooth_noise(rng, h, w, 14) * 1.2
    side = min(h, w)
    if kind == "coast":
        angle = rng.uniform(0, 2 * math.pi)
        away = (x - w / 2) * math.cos(angle) + (y - h / 2) * math.sin(angle)
        return away - rng.uniform(0.16, 0.3) * side + shore
    depth = np.full((h, w), -np.inf, np.float32)
    for _ in range(max(1, round(h * w / 520**2))):
        cx, cy = rng.uniform(0.15, 0.85, 2) * (w, h)
        radius = rng.uniform(0.17, 0.27) * min(side, 420)
        oval = np.hypot(x - cx, (y - cy) * rng.uniform(0.8, 1.25))
        depth = np.maximum(depth, radius - oval + 0.8 * shore)
    return depth


@dataclass(frozen=True)
class Stream:
    """A winding stream: a sine of `swing` px along a line through `origin` at `angle`."""

    origin: np.ndarray
    angle: float
    width: float
    swing: float
    wave: float
    phase: float

    @classmethod
    def at_random(cls, rng: np.random.Generator, h: int, w: int, scale: float) -> Stream:
        return cls(
            origin=rng.uniform(0.25, 0.75, 2) * (w, h),
            angle=rng.uniform(0, math.pi),
            width=lognormal(rng, 6.5, 0.3, (4, 14)) * scale,
            swing=rng.uniform(3, 11),
            wave=rng.uniform(90, 170),
            phase=rng.uniform(0, 2 * math.pi),
        )

    def offset(self, u: np.ndarray) -> np.ndarray:
        """How far (px) the stream bends aside at `u` px along its line."""
        return self.swing * np.sin(2 * math.pi * u / self.wave + self.phase)

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """About how far (px) pixels (x, y) are from the middle of the stream."""
        (ux, uy), (vx, vy) = turn(self.angle)
        dx, dy = x - np.float32(self.origin[0]), y - np.float32(self.origin[1])
        return np.abs(dx * vx + dy * vy - self.offset(dx * ux + dy * uy))

    def deck(self, u: float, width: float, overhang: float) -> Strip:
        """A deck straight across the stream at `u`, reaching `overhang` px onto each bank."""
        slope = self.swing * math.cos(2 * math.pi * u / self.wave + self.phase)
        heading = self.angle + math.atan(slope * 2 * math.pi / self.wave) + math.pi / 2
        across = np.array([math.cos(heading), math.sin(heading)])
        middle = self.origin + np.array([u, float(self.offset(np.array(u)))]) @ turn(self.angle)
        half = across * (self.width / 2 + overhang)
        return Strip(middle - half, middle + half, width)


def _dig(
    rng: np.random.Generator, layout: Layout, stream: Stream, x: np.ndarray, y: np.ndarray
) -> None:
    """Run `stream` over the map, with road bridges and footbridges."""
    h, w = layout.ground.shape
    distance = stream.distance(x, y)
    water = distance < stream.width * 0.53
    kept = is_kind(layout.ground, (Ground.ROAD, Ground.PATH, Ground.BEACH, Ground.WATER))
    bank = (distance < stream.width * 0.53 + rng.uniform(5, 9)) & ~kept
    layout.ground[bank] = Ground.PARK
    layout.parcel_of[bank] = -1
    layout.ground[water] = Ground.WATER
    layout.bridges += _road_bridges(layout, water.astype(np.uint8))

    u = -math.hypot(h, w)
    while u < math.hypot(h, w):
        u += rng.uniform(16, 36) * layout.scale
        deck = stream.deck(u, rng.uniform(5.5, 9) * layout.scale, rng.uniform(1, 2.5))
        heads = values_at(layout.ground, deck.at(np.array([-1.0, -0.3, 1.3, 2.0])))
        if np.isin(heads, _GREEN).all():
            _footpath(layout, deck, rng.uniform(6, 14))
            layout.bridges.append(deck)


def _footpath(layout: Layout, deck: Strip, reach: float) -> None:
    """A path over green ground on both banks of a footbridge."""
    along = (deck.end - deck.start) / deck.length * reach
    mask = np.zeros(layout.ground.shape, np.uint8)
    fill(mask, Strip(deck.start - along, deck.end + along, deck.width * 0.7).corners(), 1)
    layout.ground[(mask == 1) & is_kind(layout.ground, _GREEN)] = Ground.PATH


def _road_bridges(layout: Layout, water: np.ndarray) -> list[Strip]:
    """Decks where a road runs over the stream `water` (H, W) and comes out on both banks."""
    decks = []
    for road in layout.roads:
        steps = max(2, int(road.length))
        wet = values_at(water, road.at(np.linspace(0, 1, steps)), outside=0) == 1
        turns = np.flatnonzero(np.diff(np.concatenate(([0], wet, [0]))))
        for first, last in zip(turns[::2], turns[1::2]):
            if 3 <= last - first <= 40 and first > 8 and last < steps - 8:
                ends = road.at(np.array([first - 5, last + 5]) / steps)
                decks.append(Strip(ends[0], ends[1], road.width * 1.02))
    return decks


def _has_banks(layout: Layout, deck: Strip) -> bool:
    ends = values_at(layout.ground, deck.at(np.array([-0.05, 1.05])))
    return not np.isin(ends, (Ground.WATER, Ground.BEACH)).any()
