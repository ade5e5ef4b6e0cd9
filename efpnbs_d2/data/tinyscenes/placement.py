"""Choose where objects stand: slots that the ground's furniture offers, and free places.

Groups are taken whole, class by class, until the scene holds as many objects as drawn for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from .layout import Layout
from .objects import Placement
from .options import CLASSES, HABITAT, MAX_OBJECTS, MIN_OBJECTS, NO_OBJECTS
from .structures import Groups

#: How often each class is next in line; vehicles lead, as in real scenes, less steeply.
TURN_WEIGHTS = {
    "airplane": 0.11,
    "storage-tank": 0.11,
    "ship": 0.15,
    "swimming-pool": 0.16,
    "vehicle": 0.2,
    "person": 0.13,
    "wind-mill": 0.13,
}


def object_count(rng: np.random.Generator, h: int, w: int) -> int:
    """How many objects an `h` x `w` scene gets: mostly 12 to 40 at 256 px, more on larger ones."""
    typical = 24 * (h * w / 256**2) ** 0.75
    return int(np.clip(rng.lognormal(math.log(typical), 0.35), MIN_OBJECTS + 2, MAX_OBJECTS))


def in_turn(rng: np.random.Generator, groups: Groups) -> Iterator[Placement]:
    """All placements: bridges first, since roads and paths lead to them, then classes in turn."""
    waiting = {
        name: [groups[name][i] for i in rng.permutation(len(groups[name]))] for name in CLASSES
    }
    for group in waiting.pop("bridge"):
        yield from group
    while any(waiting.values()):
        names = [name for name, left in waiting.items() if left]
        weights = np.array([TURN_WEIGHTS[name] for name in names])
        yield from waiting[names[rng.choice(len(names), p=weights / weights.sum())]].pop()


def free_groups(rng: np.random.Generator, layout: Layout, slots: Groups) -> Groups:
    """`slots` with groups added for ships, persons, wind-mills, traffic and bridges."""
    groups: Groups = {name: list(slots.get(name, [])) for name in CLASSES}
    area = layout.ground.size / 256**2
    groups["bridge"] += [
        [Placement("bridge", *deck.at(0.5), deck.length, deck.width, deck.angle)]
        for deck in layout.bridges
    ]
    groups["vehicle"] += _traffic(rng, layout)
    for name, number, maker in (
        ("ship", 8, _fleet),
        ("person", 10, _crowd),
        ("wind-mill", 8, _wind_farm),
    ):
        room = cv2.distanceTransform(
            np.isin(layout.ground, HABITAT[name]).astype(np.uint8), cv2.DIST_L2, 3
        )
        for seat in _spots(rng, room, round(number * area), 4.0 if name != "person" else 2.0):
            groups[name].append(maker(rng, layout, *seat))
    return groups


def look_alikes(rng: np.random.Generator, layout: Layout, per_scene: float) -> list[Placement]:
    """Blobs like the objects, on ground where none of the classes lives."""
    count = rng.poisson(per_scene * layout.ground.size / 256**2)
    room = cv2.distanceTransform(
        np.isin(layout.ground, NO_OBJECTS).astype(np.uint8), cv2.DIST_L2, 3
    )
    blobs = []
    for x, y, _ in _spots(rng, room, count, 3.5):
        length = np.clip(rng.lognormal(math.log(9.5), 0.3), 4, 24) * layout.scale
        ratio = rng.uniform(0.5, 1)
        blobs.append(Placement("look-alike", x, y, length, length * ratio, rng.uniform(0, math.pi)))
    return blobs


def _spots(
    rng: np.random.Generator, room: np.ndarray, count: int, margin: float
) -> list[tuple[float, float, float]]:
    """Up to `count` random (x, y, room) px at least `margin` inside the ground in question."""
    free = np.flatnonzero(room > margin)
    if len(free) == 0:
        return []
    picked = rng.choice(free, min(count, len(free)), replace=False)
    rows, cols = np.divmod(picked, room.shape[1])
    return [(float(x), float(y), float(room[y, x])) for x, y in zip(cols, rows)]


def _size(rng: np.random.Generator, typical: float, spread: float, layout: Layout) -> float:
    return float(np.clip(rng.lognormal(math.log(typical), spread), 4, 60)) * layout.scale


def _traffic(rng: np.random.Generator, layout: Layout) -> list[list[Placement]]:
    """Short queues on both lanes of every road."""
    groups = []
    for road in layout.roads:
        lane = np.array([-math.sin(road.angle), math.cos(road.angle)]) * road.width / 4
        for _ in range(round(road.length / 45)):
            side, along = rng.choice([-1, 1]), rng.uniform(0, 1)
            group = []
            for _ in range(rng.integers(1, 5)):
                length = _size(rng, 13, 0.14, layout) * (
                    rng.uniform(1.5, 2.2) if rng.random() < 0.07 else 1
                )
                x, y = road.at(along) + side * lane + rng.normal(0, 0.4, 2)
                width = min(length * 0.48, road.width * 0.42)
                heading = road.angle + (math.pi if side > 0 else 0)
                group.append(Placement("vehicle", x, y, length, width, heading))
                along += (length + rng.uniform(3, 16)) / road.length
            groups.append(group)
    return groups


def _fleet(rng, layout: Layout, x: float, y: float, room: float) -> list[Placement]:
    """Boats side by side on one heading."""
    heading, length = rng.uniform(0, 2 * math.pi), min(_size(rng, 15, 0.36, layout), room * 3)
    side = np.array([-math.sin(heading), math.cos(heading)])
    fleet = []
    for k in range(rng.integers(1, 5)):
        size = length * rng.uniform(0.8, 1.15)
        cx, cy = np.array([x, y]) + side * k * size * rng.uniform(0.55, 0.9) + rng.normal(0, 1, 2)
        fleet.append(
            Placement(
                "ship", cx, cy, size, size * rng.uniform(0.36, 0.46), heading + rng.normal(0, 0.08)
            )
        )
    return fleet


def _crowd(rng, layout: Layout, x: float, y: float, room: float) -> list[Placement]:
    """A few people close together."""
    crowd = []
    for _ in range(rng.integers(1, 6)):
        length = _size(rng, 8.2, 0.2, layout)
        cx, cy = np.array([x, y]) + rng.normal(0, 7 * layout.scale, 2)
        crowd.append(
            Placement(
                "person", cx, cy, length, length * rng.uniform(0.65, 0.9), rng.uniform(0, math.pi)
            )
        )
    return crowd


def _wind_farm(rng, layout: Layout, x: float, y: float, room: float) -> list[Placement]:
    """One to three rotors in a loose row."""
    heading, size = rng.uniform(0, 2 * math.pi), _size(rng, 15, 0.28, layout)
    step = np.array([math.cos(heading), math.sin(heading)]) * size * rng.uniform(1.3, 2.2)
    return [
        Placement(
            "wind-mill", *(np.array([x, y]) + k * step), size, size, rng.uniform(0, 2 * math.pi)
        )
        for k in range(rng.integers(1, 4))
    ]
