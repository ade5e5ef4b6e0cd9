"""Choose where objects stand: slots that the structures offer, and free places on the map.

Groups are offered whole, class by class; the scene takes them until it holds enough objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .geometry import lognormal, room_on
from .layout import Layout
from .objects import LOOK_ALIKE, Placement
from .options import CLASSES, HABITAT, MAX_OBJECTS, MIN_OBJECTS, NO_OBJECTS
from .structures import Groups

#: How often a group of each class is next in line; vehicles lead, as in real scenes.
_TURN_WEIGHTS = {
    "airplane": 0.16,
    "storage-tank": 0.1,
    "ship": 0.075,
    "swimming-pool": 0.26,
    "vehicle": 0.32,
    "person": 0.06,
    "wind-mill": 0.08,
}
#: Shortest and longest object in px, at scale 1.
_LIMITS = (4.0, 60.0)


def object_count(rng: np.random.Generator, h: int, w: int) -> int:
    """How many objects an `h` x `w` scene gets: mostly 14 to 40 at 256 px, more on larger ones."""
    typical = 25 * (h * w / 256**2) ** 0.75
    return int(lognormal(rng, typical, 0.35, (MIN_OBJECTS + 2, MAX_OBJECTS)))


def in_turn(rng: np.random.Generator, groups: Groups) -> Iterator[Placement]:
    """All placements: bridges first, since roads and paths lead to them, then classes in turn."""
    waiting = {
        name: [groups[name][i] for i in rng.permutation(len(groups[name]))] for name in CLASSES
    }
    for group in waiting.pop("bridge"):
        yield from group
    while any(waiting.values()):
        names = [name for name, left in waiting.items() if left]
        weights = np.array([_TURN_WEIGHTS[name] for name in names])
        yield from waiting[names[rng.choice(len(names), p=weights / weights.sum())]].pop()


def find_groups(rng: np.random.Generator, layout: Layout, slots: Groups) -> Groups:
    """`slots` and, beside them, bridges, traffic, fleets, crowds and wind farms."""
    groups: Groups = {name: list(slots.get(name, [])) for name in CLASSES}
    area = layout.ground.size / 256**2
    for deck in layout.bridges:
        bridge = Placement("bridge", deck.at(0.5), deck.length, deck.width, deck.angle)
        groups["bridge"].append([bridge])
    groups["vehicle"] += _traffic(rng, layout)
    # The room each needs (px) keeps its surroundings plain: ships off the shore, and so on.
    for name, number, room, maker in (
        ("ship", 9, 8.0, _fleet),
        ("person", 10, 4.8, _crowd),
        ("wind-mill", 8, 6.0, _wind_farm),
    ):
        for spot in _spots(rng, room_on(layout.ground, HABITAT[name]), round(number * area), room):
            groups[name].append(maker(rng, layout.scale, spot))
    return groups


def look_alikes(rng: np.random.Generator, layout: Layout, density: float) -> list[Placement]:
    """Blobs like tiny objects on ground where no class lives, `density` per 256 x 256 px."""
    count = rng.poisson(density * layout.ground.size / 256**2)
    blobs = []
    for spot in _spots(rng, room_on(layout.ground, NO_OBJECTS), count, 4.0):
        # No larger than the blobs that are objects: size must not give a look-alike away.
        length = lognormal(rng, 8 * layout.scale, 0.25, (4, 10.5))
        blobs.append(Placement(LOOK_ALIKE, spot, length, length, 0.0))
    return blobs


def _spots(
    rng: np.random.Generator, room: np.ndarray, count: int, margin: float
) -> list[np.ndarray]:
    """Up to `count` random (x, y) px where `room` (H, W) is more than `margin`."""
    free = np.flatnonzero(room > margin)
    if len(free) == 0:
        return []
    picked = rng.choice(free, min(count, len(free)), replace=False)
    return [np.array([i % room.shape[1], i // room.shape[1]], float) for i in picked]


def _traffic(rng: np.random.Generator, layout: Layout) -> list[list[Placement]]:
    """Short queues on both lanes of every road; one vehicle in ten is a lorry or bus."""
    groups = []
    for road in layout.roads:
        for _ in range(round(road.length / 60)):
            lane, along = rng.choice([-1, 1]), rng.uniform(0, 1)
            heading = road.angle + (math.pi if lane > 0 else 0)
            group = []
            for _ in range(rng.integers(1, 5)):
                length = lognormal(rng, 13.5, 0.14, _LIMITS) * layout.scale
                length *= rng.uniform(1.5, 2.2) if rng.random() < 1 / 10 else 1
                width = min(length * 0.48, road.width * 0.42)
                spot = road.at(along) + road.side * lane * road.width / 4 + rng.normal(0, 0.4, 2)
                group.append(Placement("vehicle", spot, length, width, heading))
                along += (length + rng.uniform(3, 16)) / road.length
            groups.append(group)
    return groups


def _fleet(rng: np.random.Generator, scale: float, spot: np.ndarray) -> list[Placement]:
    """One to four boats side by side on one heading."""
    heading, length = rng.uniform(0, 2 * math.pi), lognormal(rng, 15.5, 0.5, _LIMITS) * scale
    side = np.array([-math.sin(heading), math.cos(heading)])
    fleet = []
    for k in range(rng.integers(1, 5)):
        size = length * rng.uniform(0.8, 1.15)
        place = spot + side * k * size * rng.uniform(0.55, 0.9) + rng.normal(0, 1, 2)
        turned = heading + rng.normal(0, 0.08)
        fleet.append(Placement("ship", place, size, size * rng.uniform(0.36, 0.46), turned))
    return fleet


def _crowd(rng: np.random.Generator, scale: float, spot: np.ndarray) -> list[Placement]:
    """One to five people close together."""
    crowd = []
    for _ in range(rng.integers(1, 6)):
        size = lognormal(rng, 7.6, 0.22, _LIMITS) * scale
        place = spot + rng.normal(0, 5.5 * scale, 2)
        turned = rng.uniform(0, math.pi)
        crowd.append(Placement("person", place, size, size * rng.uniform(0.65, 0.9), turned))
    return crowd


def _wind_farm(rng: np.random.Generator, scale: float, spot: np.ndarray) -> list[Placement]:
    """One to three rotors in a loose row."""
    heading, size = rng.uniform(0, 2 * math.pi), lognormal(rng, 15, 0.32, _LIMITS) * scale
    step = np.array([math.cos(heading), math.sin(heading)]) * size * rng.uniform(1.3, 2.2)
    return [
        Placement("wind-mill", spot + k * step, size, size, rng.uniform(0, 2 * math.pi))
        for k in range(rng.integers(1, 4))
    ]
