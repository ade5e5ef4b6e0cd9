"""Paint the ground of a layout: base colour, furrows, canopy, ripples and stains.

Images are BGR; H x W is the scene.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .layout import Layout, smooth_noise
from .options import Difficulty, Ground

#: Base colours of each kind of ground, RGB; a parcel takes one of them, slightly changed.
COLOURS: dict[Ground, tuple[tuple[int, int, int], ...]] = {
    Ground.FIELD: ((146, 158, 66), (176, 170, 78), (122, 148, 56), (160, 166, 92)),
    Ground.LAWN: ((84, 116, 66), (92, 122, 70), (78, 108, 66)),
    Ground.YARD: ((152, 132, 120), (144, 126, 118), (158, 140, 126)),
    Ground.APRON: ((172, 176, 178), (164, 168, 172), (178, 180, 178)),
    Ground.PARKING: ((98, 100, 106), (106, 108, 112), (90, 93, 100)),
    Ground.PARK: ((104, 138, 84), (96, 130, 76)),
    Ground.WOOD: ((46, 70, 42), (52, 74, 46), (42, 66, 44)),
    Ground.SCRUB: ((126, 100, 78), (118, 96, 70), (134, 106, 82)),
    Ground.ROAD: ((78, 80, 84), (86, 87, 90)),
    Ground.PATH: ((204, 182, 146), (196, 176, 140)),
    Ground.BEACH: ((214, 194, 152), (206, 186, 142)),
    Ground.WATER: ((34, 74, 98), (40, 84, 96), (30, 62, 90), (48, 88, 102)),
    Ground.ROOF: ((150, 90, 70),),
    Ground.TREE: ((44, 68, 40),),
}

#: Strength of (fine grain, blotches, furrows, canopy) by kind, in levels.
TEXTURE: dict[Ground, tuple[float, float, float, float]] = {
    Ground.FIELD: (3, 6, 8, 0),
    Ground.LAWN: (5, 8, 0, 5),
    Ground.YARD: (5, 8, 0, 0),
    Ground.APRON: (2, 4, 0, 0),
    Ground.PARKING: (3, 4, 0, 0),
    Ground.PARK: (4, 7, 0, 5),
    Ground.WOOD: (5, 5, 0, 17),
    Ground.SCRUB: (6, 13, 0, 6),
    Ground.ROAD: (3, 3, 0, 0),
    Ground.PATH: (4, 5, 0, 0),
    Ground.BEACH: (4, 6, 0, 0),
    Ground.WATER: (1.5, 4, 0, 2),
    Ground.ROOF: (0, 0, 0, 0),
    Ground.TREE: (4, 4, 0, 12),
}

#: What all ground is pulled towards when contexts are to be harder to tell apart (RGB).
_DRAB = np.array((118, 120, 104), np.float32)


def paint_ground(
    rng: np.random.Generator, layout: Layout, sun: np.ndarray, options: Difficulty
) -> np.ndarray:
    """The bare ground, uint8 (H, W, 3) BGR. `sun` is the unit (x, y) that shadows point to."""
    h, w = layout.ground.shape
    colours, texture, furrows = _tables(rng, layout, options)
    # One row of the tables per parcel, then one per kind for what no parcel covers.
    row = np.where(
        layout.parcel_of >= 0,
        layout.parcel_of,
        layout.ground.astype(np.int16) + len(layout.parcels),
    )
    fine = rng.standard_normal((h, w), dtype=np.float32)
    blotch = smooth_noise(rng, h, w, 28) + 0.6 * smooth_noise(rng, h, w, 9)
    crowns = smooth_noise(rng, h, w, 4.5)
    dx, dy = np.round(sun * 1.6).astype(int)
    canopy = crowns - np.roll(crowns, (-dy, -dx), (0, 1)) + 0.5 * crowns
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    wave = furrows[row]
    stripes = np.sin(x * wave[..., 0] + y * wave[..., 1]) + 0.4 * blotch

    amount = texture[row]
    light = (
        amount[..., 0] * fine
        + amount[..., 1] * blotch
        + amount[..., 2] * stripes
        + amount[..., 3] * canopy
    )
    image = colours[row] + light[..., None]
    _shade_water(layout, image)
    image = cv2.GaussianBlur(image, (0, 0), 0.5)
    return np.clip(image, 0, 255).astype(np.uint8)


def _tables(
    rng: np.random.Generator, layout: Layout, options: Difficulty
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour (P, 3) BGR, texture (P, 4) and furrow wave vector (P, 2) of each row."""
    kinds = [p.kind for p in layout.parcels] + list(Ground)
    angles = [p.angle for p in layout.parcels] + [0.0] * len(Ground)
    colours = np.empty((len(kinds), 3), np.float32)
    for i, kind in enumerate(kinds):
        choices = COLOURS[kind]
        rgb = np.array(choices[rng.integers(len(choices))]) + rng.normal(0, 3, 3)
        rgb = rgb + rng.normal(0, 3)
        colours[i] = (rgb + options.ground_pull * (_DRAB - rgb))[::-1]
    texture = np.array([TEXTURE[k] for k in kinds], np.float32)
    turned = np.array(angles) + rng.choice([0, math.pi / 2], len(kinds))
    pitch = 2 * math.pi / rng.uniform(3.5, 8, len(kinds))
    furrows = np.stack([np.cos(turned) * pitch, np.sin(turned) * pitch], -1).astype(np.float32)
    return colours, texture, furrows


def _shade_water(layout: Layout, image: np.ndarray) -> None:
    """Lighten the shallows and put a thin line of foam on the beach, in place."""
    water = (layout.ground == Ground.WATER).astype(np.uint8)
    if not water.any():
        return
    depth = cv2.distanceTransform(water, cv2.DIST_L2, 3)
    shallow = (water * np.exp(-depth / 7))[..., None]
    image += shallow * (np.array([96, 112, 84], np.float32) - image) * 0.35
    beach = (layout.ground == Ground.BEACH).astype(np.uint8)
    foam = (cv2.dilate(beach, np.ones((3, 3), np.uint8)) & water).astype(bool)
    image[foam] += 0.4 * (np.array([225, 228, 222], np.float32) - image[foam])
