"""Admit placements to a scene one by one, so that each stays at home, inside and visible.

H x W is the scene; a cast object's patch is clipped to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from .geometry import is_kind, turn
from .objects import LOOK_ALIKE, Patch, Placement, choose_look, draw, pick_paint
from .options import HABITAT, Difficulty

#: Later objects may hide at most this share of an earlier one.
_MAX_HIDDEN = 0.35
#: Least share of an object on ground of its class, and inside the image; least area in px.
_MIN_HOME, _MIN_INSIDE, _MIN_AREA = 0.75, 0.6, 6

#: How much of its length and width an object's shadow is cast by: a rotor's is that of its mast.
_BODY = {"wind-mill": 0.14, "airplane": 0.5}
_OVAL = np.array([(math.cos(t), math.sin(t)) for t in np.arange(0, 2 * math.pi, math.pi / 6)]) / 2


@dataclass(frozen=True)
class Member:
    """A placement as it is drawn, in the shape of that name."""

    item: Placement
    shape: str
    patch: Patch

    def footprint(self) -> np.ndarray:
        """A plain oval (12, 2) xy on the ground below, for the shadow."""
        share = _BODY.get(self.shape, 0.84)
        extent = (share * self.item.length, share * self.item.width)
        return _OVAL * extent @ turn(self.item.angle) + self.item.at


@dataclass
class Cast:
    """What was admitted: objects in the order of their annotations, and look-alikes.

    `owner` (H, W) tells whose each pixel is: 0 nobody's, k > 0 that of object k - 1, -1 a
    look-alike's.
    """

    ground: np.ndarray
    image: np.ndarray
    options: Difficulty
    objects: list[Member] = field(default_factory=list)
    others: list[Member] = field(default_factory=list)
    visible: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.owner = np.zeros(self.ground.shape, np.int16)

    def admit(self, rng: np.random.Generator, items: Iterable[Placement], count: int) -> None:
        """Take what fits of `items` until there are `count` objects."""
        for item in items:
            if len(self.objects) >= count:
                return
            self._try(rng, item)

    def _try(self, rng: np.random.Generator, item: Placement) -> None:
        h, w = self.ground.shape
        if not (0 <= item.at[0] <= w - 1 and 0 <= item.at[1] <= h - 1):
            return
        if item.name in HABITAT:
            # Cheap, and spares the drawing of what stands wrong.
            if self.ground[round(item.at[1]), round(item.at[0])] not in HABITAT[item.name]:
                return
        item, shape, wear = choose_look(rng, item)
        x, y = (int(c) for c in item.at)
        below = self.image[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean((0, 1))
        whole = draw(rng, item, shape, pick_paint(rng, wear, below, self.options.contrast))
        patch = whole.clipped(h, w)
        if patch is None or not self._fits(item, patch, int(whole.mask.sum())):
            return
        mask, owner = patch.mask, patch.window(self.owner)
        for index, hidden in _overlaps(owner[mask]):
            self.visible[index] -= hidden
        if item.name == LOOK_ALIKE:
            self.others.append(Member(item, shape, patch))
            owner[mask] = -1
        else:
            self.objects.append(Member(item, shape, patch))
            self.visible.append(int(mask.sum()))
            owner[mask] = len(self.objects)

    def _fits(self, item: Placement, patch: Patch, whole_area: int) -> bool:
        mask = patch.mask
        area = int(mask.sum())
        if area < _MIN_AREA or area < _MIN_INSIDE * whole_area:
            return False
        # A bridge stands on two banks: that its middle is over water is enough.
        if item.name in HABITAT and item.name != "bridge":
            home = is_kind(patch.window(self.ground)[mask], HABITAT[item.name])
            if home.mean() < _MIN_HOME:
                return False
        owners = patch.window(self.owner)[mask]
        if owners.min() < 0:
            return False
        return all(
            self.visible[index] - hidden >= (1 - _MAX_HIDDEN) * self.objects[index].patch.mask.sum()
            for index, hidden in _overlaps(owners)
        )


def _overlaps(owners: np.ndarray) -> list[tuple[int, int]]:
    """(object's index, pixels) of each object among `owners` (K,)."""
    if not owners.any():
        return []
    counts = np.bincount(owners)
    return [(int(k) - 1, int(counts[k])) for k in np.flatnonzero(counts) if k > 0]
