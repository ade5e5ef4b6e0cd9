"""Paint the bare ground of a layout: base colours, furrows, canopy, ripples and stains.

Images are BGR; H x W is the scene; P rows of a table are its parcels, then its kinds of ground.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .geometry import smooth_noise
from .layout import Layout
from .options import Difficulty, Ground

#: Base colours of each kind of ground, RGB; a parcel takes one of them, slightly changed.
_COLOURS: dict[Ground, tuple[tuple[int, int, int], ...]] = {
    Ground.FIELD: ((146, 158, 66), (180, 172, 82), (124, 148, 58), (160, 164, 94)),
    Ground.LAWN: ((84, 116, 66), (92, 122, 70), (78, 108, 66)),
    Ground.YARD: ((140, 122, 112), (132, 118, 112), (146, 130, 120)),
    Ground.APRON: ((172, 176, 178), (164, 168, 172), (178, 180, 178)),
    Ground.PARKING: ((98, 100, 106), (106, 108, 112), (90, 93, 100)),
    Ground.PARK: ((104, 138, 84), (96, 130, 76)),
    Ground.WOOD: ((56, 80, 48), (60, 82, 52), (52, 76, 48)),
    Ground.SCRUB: ((126, 100, 74), (118, 96, 68), (134, 106, 78)),
    Ground.ROAD: ((80, 82, 83), (88, 89, 89)),
    Ground.PATH: ((206, 184, 146), (200, 180, 142)),
    Ground.BEACH: ((216, 196, 154), (208, 188, 144)),
    Ground.WATER: ((34, 74, 98), (40, 84, 96), (30, 62, 90), (48, 88, 102)),
    Ground.ROOF: ((150, 90, 70),),
    Ground.TREE: ((50, 74, 42),),
}

#: Strength of (fine grain, blotches, furrows, canopy) by kind, in levels.
_TEXTURE: dict[Ground, tuple[float, float, float, float]] = {
    Ground.FIELD: (3, 6, 8, 0),
    Ground.LAWN: (5, 8, 0, 5),
    Ground.YARD: (5, 8, 0, 0),
    Ground.APRON: (2, 4, 0, 0),
    Ground.PARKING: (3, 4, 0, 0),
    Ground.PARK: (4, 7, 0, 5),
    Ground.WOOD: (5, 5, 0, 17),
    Ground.SCRUB: (6, 12, 0, 7),
    Ground.ROAD: (3, 4, 0, 0),
    Ground.PATH: (4, 5, 0, 0),
    Ground.BEACH: (4, 6, 0, 0),
    Ground.WATER: (1.5, 4, 0, 2),
    Ground.ROOF: (0, 0, 0, 0),
    Ground.TREE: (4, 4, 0, 12),
}

#: What all ground is pulled towards when contexts are to be harder to tell apart (RGB).
_DRAB = np.array((118, 120, 104), np.float32)
_SHALLOWS = np.array((96, 112, 84), np.float32)
_FOAM = np.array((225, 228, 222), np.float32)


def paint_ground(
    rng: np.random.Generator, layout: Layout, sun: np.ndarray, options: Difficulty
) -> np.ndarray:
    """The bare ground, uint8 (H, W, 3) BGR. `sun` is the unit (x, y) along which shadows fall."""
    h, w = layout.ground.shape
    count = len(layout.parcels)
    colours, texture = _tables(rng, layout, options)
    row = np.where(layout.parcel_of >= 0, layout.parcel_of, layout.ground.astype(np.int16) + count)

    blotch = smooth_noise(rng, h, w, 28) + 0.6 * smooth_noise(rng, h, w, 9)
    crowns = smooth_noise(rng, h, w, 5)
    dx, dy = (int(round(c * 1.7)) for c in sun)
    canopy = crowns - np.roll(crowns, (-dy, -dx), (0, 1)) + 0.5 * crowns
    light = np.take(texture[:, 1], row) * blotch + np.take(texture[:, 3], row) * canopy
    _furrow(rng, layout, row, texture[:, 2], light)
    image: np.ndarray = np.take(colours, row, axis=0)
    image = image + light[..., None]
    _wet(layout, image)
    # The blur rounds off the map's hard pixel edges; grain comes after it.
    smooth: np.ndarray = cv2.GaussianBlur(image, (0, 0), 0.6)
    grain = np.take(texture[:, 0], row) * rng.standard_normal((h, w), dtype=np.float32)
    smooth += grain[..., None]
    result: np.ndarray = np.clip(smooth, 0, 255).astype(np.uint8)
    _speckle(rng, result, options)
    return result


def _tables(
    rng: np.random.Generator, layout: Layout, options: Difficulty
) -> tuple[np.ndarray, np.ndarray]:
    """Colour (P, 3) BGR and texture (P, 4) of each row."""
    kinds = [parcel.kind for parcel in layout.parcels] + list(Ground)
    colours = np.empty((len(kinds), 3), np.float32)
    for i, kind in enumerate(kinds):
        choices = _COLOURS[kind]
        rgb = np.array(choices[rng.integers(len(choices))])
        rgb = rgb + rng.normal(0, 1.8, 3) + rng.normal(0, 4)
        colours[i] = (rgb + options.ground_pull * (_DRAB - rgb))[::-1]
    return colours, np.array([_TEXTURE[kind] for kind in kinds], np.float32)


def _furrow(
    rng: np.random.Generator,
    layout: Layout,
    row: np.ndarray,
    strength: np.ndarray,
    light: np.ndarray,
) -> None:
    """Add to `light` (H, W) the furrows of fields, along a side of each parcel, in place."""
    count = len(strength)
    angles = np.zeros(count)
    angles[: len(layout.parcels)] = [parcel.angle for parcel in layout.parcels]
    angles += rng.choice([0, math.pi / 2], count)
    waves = np.stack([np.cos(angles), np.sin(angles)], 1)
    waves = (waves * (2 * math.pi / rng.uniform(3.5, 8, (count, 1)))).astype(np.float32)
    ys, xs = np.nonzero(np.take(strength, row) > 0)
    rows = row[ys, xs]
    wave = waves[rows]
    light[ys, xs] += strength[rows] * np.sin(
        xs.astype(np.float32) * wave[:, 0] + ys.astype(np.float32) * wave[:, 1]
    )


def _wet(layout: Layout, image: np.ndarray) -> None:
    """Lighten the shallows and put a thin line of foam on the beach, in place."""
    water = (layout.ground == Ground.WATER).astype(np.uint8)
    depth = cv2.distanceTransform(water, cv2.DIST_L2, 3)
    ys, xs = np.nonzero((depth > 0) & (depth < 25))
    shallow = 0.35 * np.exp(-depth[ys, xs, None] / 7)
    image[ys, xs] += shallow * (_SHALLOWS - image[ys, xs])
    beach = (layout.ground == Ground.BEACH).astype(np.uint8)
    foam = (cv2.dilate(beach, np.ones((3, 3), np.uint8)) & water).astype(bool)
    image[foam] += 0.4 * (_FOAM - image[foam])


def _speckle(rng: np.random.Generator, image: np.ndarray, options: Difficulty) -> None:
    """Faint stains, stones and patches of a few pixels, in place."""
    h, w = image.shape[:2]
    for _ in range(rng.poisson(25 * options.clutter**2 * h * w / 256**2)):
        x, y = int(rng.integers(w)), int(rng.integers(h))
        tone = image[y, x].astype(float) * (1 + rng.choice([-1, 1]) * rng.uniform(0.08, 0.2))
        axes = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))
        colour = tuple(float(c) for c in np.clip(tone, 0, 255))
        cv2.ellipse(
            image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
        )
