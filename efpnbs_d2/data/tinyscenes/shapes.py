"""Outlines and paints of the classes, as tables.

A shape lives in its own frame: x along its length, y along its width, both in -0.5..0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .geometry import turn

#: RGB paints shared by all classes.
PAINTS = {
    "white": (240, 241, 238),
    "cream": (232, 224, 202),
    "silver": (200, 204, 208),
    "cyan": (122, 204, 214),
    "red": (178, 58, 50),
    "blue": (58, 92, 158),
    "dark": (42, 44, 50),
}

#: How often each class wears each paint.
WEAR: dict[str, dict[str, float]] = {
    "airplane": {"white": 0.8, "silver": 0.12, "cream": 0.08},
    "bridge": {"white": 0.35, "silver": 0.35, "cream": 0.3},
    "storage-tank": {"white": 0.7, "cream": 0.2, "silver": 0.1},
    "ship": {"white": 0.66, "silver": 0.1, "cream": 0.14, "red": 0.1},
    "swimming-pool": {"cyan": 0.8, "blue": 0.2},
    "vehicle": {"white": 0.48, "silver": 0.18, "cream": 0.06, "red": 0.14, "blue": 0.14},
    "person": {"white": 0.5, "red": 0.18, "blue": 0.18, "dark": 0.14},
    "wind-mill": {"white": 0.9, "silver": 0.1},
    # The blob that tiny objects of all classes, and look-alikes that are none, share.
    "blob": {"white": 0.55, "silver": 0.13, "cream": 0.12, "cyan": 0.08, "red": 0.06, "blue": 0.06},
}


@dataclass(frozen=True)
class Part:
    """One polygon (K, 2) of a shape; `light` scales the paint, or that of `paint` if named."""

    points: np.ndarray
    light: float = 1.0
    paint: str | None = None


def _mirror(*xy: tuple[float, float]) -> np.ndarray:
    """An outline from its upper half, listed from one end of the length axis to the other."""
    return np.array([*xy, *[(x, -y) for x, y in reversed(xy)]], np.float64)


def _oval(power: float = 2.0, size: float = 1.0, at: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A superellipse: power 2 is round, larger is boxier."""
    t = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    c, s = np.cos(t), np.sin(t)
    xy = np.stack([np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)], 1)
    return xy * size / 2 + np.array(at)


_BOX = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
_BLADE = np.array([(0.0, -0.06), (0.5, -0.03), (0.5, 0.03), (0.0, 0.06)])

SHAPES: dict[str, tuple[Part, ...]] = {
    "airplane": (
        Part(_mirror((-0.5, 0.03), (-0.42, 0.17), (-0.34, 0.17), (-0.36, 0.05))),
        Part(_mirror((-0.16, 0.07), (-0.2, 0.5), (-0.08, 0.5), (0.16, 0.07))),
        Part(_mirror((-0.5, 0.035), (-0.3, 0.08), (0.38, 0.085), (0.5, 0.0)), 1.04),
        Part(_mirror((0.3, 0.05), (0.4, 0.05), (0.44, 0.0)), 0.6),
    ),
    "bridge": (Part(_BOX), Part(_BOX * (1, 0.74), 0.7), Part(_BOX * (1, 0.04), 0.95)),
    "storage-tank": (
        Part(_oval(), 0.88),
        Part(_oval(size=0.84, at=(0.02, 0.02)), 1.02),
        Part(_oval(size=0.16), 0.72),
    ),
    "ship": (
        Part(_mirror((-0.5, 0.38), (0.1, 0.5), (0.32, 0.34), (0.5, 0.0)), 0.94),
        Part(_mirror((-0.42, 0.26), (0.08, 0.32), (0.3, 0.0)), 0.74),
        Part(_BOX * (0.24, 0.5) - (0.18, 0), 1.08),
    ),
    "swimming-pool": (
        Part(_oval(6), paint="cream"),
        Part(_oval(6, 0.8)),
        Part(_oval(5, 0.4, (0.12, 0.08)), 1.1),
    ),
    "vehicle": (
        Part(_oval(7), 0.96),
        Part(_BOX * (0.14, 0.72) + (0.16, 0), 0.4),
        Part(_BOX * (0.3, 0.7) - (0.07, 0), 1.06),
        Part(_BOX * (0.08, 0.66) - (0.31, 0), 0.5),
    ),
    "person": (Part(_oval(2.5)), Part(_oval(size=0.5), 0.7)),
    "wind-mill": (
        *(Part(_BLADE @ turn(k * 2 * math.pi / 3) * 1.05) for k in range(3)),
        Part(_oval(size=0.36), 0.93),
        Part(_oval(size=0.18), 1.05),
    ),
    "blob": (Part(_oval(3.2), 0.94), Part(_oval(2.6, 0.62, (0.04, 0.03)), 1.04)),
}
