"""Points, strips and fields that every part of a scene is drawn with.

Coordinates: (x, y) image px, y down, pixel centres on whole numbers. A parcel's own frame is
(u, v), px from its centre along its sides. H x W is the scene; `ground` (H, W) holds `Ground`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np

from .options import Ground

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Parcel:
    """A rectangle of one land use; `half` is half its sides (u, v), `angle` that of u in x, y."""

    kind: Ground
    centre: np.ndarray
    half: tuple[float, float]
    angle: float

    @cached_property
    def matrix(self) -> np.ndarray:
        """The rotation from the parcel's frame to the image's."""
        return turn(self.angle)

    def to_image(self, uv: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the parcel's frame as image (x, y)."""
        return self.centre + uv @ self.matrix

    def corners(self) -> np.ndarray:
        """The corners (4, 2) in the image."""
        u, v = self.half
        return self.to_image(np.array([(-u, -v), (u, -v), (u, v), (-u, v)]))


@dataclass(frozen=True)
class Strip:
    """A straight piece of road, path, bridge deck or painted line between two (x, y) points."""

    start: np.ndarray
    end: np.ndarray
    width: float

    @cached_property
    def length(self) -> float:
        return float(np.hypot(*(self.end - self.start)))

    @cached_property
    def angle(self) -> float:
        return math.atan2(self.end[1] - self.start[1], self.end[0] - self.start[0])

    @cached_property
    def side(self) -> np.ndarray:
        """Unit vector (2,) across the strip."""
        return np.array([-math.sin(self.angle), math.cos(self.angle)])

    def at(self, share: float | np.ndarray) -> np.ndarray:
        """Points (..., 2) at shares (...) of the way."""
        return self.start + np.asarray(share)[..., None] * (self.end - self.start)

    def corners(self) -> np.ndarray:
        """The corners (4, 2) in the image."""
        across = self.side * self.width / 2
        return np.array(
            [self.start + across, self.end + across, self.end - across, self.start - across]
        )


def turn(angle: float) -> np.ndarray:
    """Matrix M such that row vectors (u, v) @ M are rotated by `angle` (x towards y)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([(c, s), (-s, c)])


def fill(target: np.ndarray, points: np.ndarray, value: int) -> None:
    """Fill a polygon (K, 2) on an integer map (H, W), in place."""
    cv2.fillPoly(target, [_sixteenths(points)], value, shift=4)


def fill_colour(image: np.ndarray, points: np.ndarray, rgb: RGB) -> None:
    """Fill a polygon (K, 2) on a BGR image with smooth edges, in place."""
    bgr = (float(rgb[2]), float(rgb[1]), float(rgb[0]))
    cv2.fillPoly(image, [_sixteenths(points)], bgr, lineType=cv2.LINE_AA, shift=4)


def _sixteenths(points: np.ndarray) -> np.ndarray:
    return np.rint(points * 16).astype(np.int32)


def is_kind(ground: np.ndarray, kinds: Iterable[Ground]) -> np.ndarray:
    """Where `ground` is one of `kinds`, bool of the same shape."""
    return _membership(tuple(kinds))[ground]


@cache
def _membership(kinds: tuple[Ground, ...]) -> np.ndarray:
    table = np.zeros(len(Ground), bool)
    table[list(kinds)] = True
    return table


def room_on(ground: np.ndarray, kinds: Iterable[Ground]) -> np.ndarray:
    """Distance (H, W) in px from each pixel to the nearest ground that is none of `kinds`."""
    return cv2.distanceTransform(is_kind(ground, kinds).astype(np.uint8), cv2.DIST_L2, 3)


def values_at(grid: np.ndarray, points: np.ndarray, outside: int = -1) -> np.ndarray:
    """Values (...) of `grid` (H, W) at points (..., 2), `outside` where they leave it."""
    h, w = grid.shape
    x, y = np.rint(points[..., 0]).astype(int), np.rint(points[..., 1]).astype(int)
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    values = grid[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)].astype(int)
    return np.where(inside, values, outside)


def lognormal(
    rng: np.random.Generator, median: float, spread: float, limits: tuple[float, float]
) -> float:
    """One lognormal length, `spread` being the deviation of its logarithm, held in `limits`."""
    return min(max(median * math.exp(spread * rng.standard_normal()), limits[0]), limits[1])


def smooth_noise(rng: np.random.Generator, h: int, w: int, grain: float) -> np.ndarray:
    """Random field (h, w) float32 of about unit spread whose bumps are about `grain` px wide."""
    rows, cols = (max(4, math.ceil(side / grain) + 1) for side in (h, w))
    coarse = rng.standard_normal((rows, cols), dtype=np.float32)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
