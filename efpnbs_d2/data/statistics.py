"""What a data set holds, as numbers: classes, sizes, crowding, positions, ignored regions.

Shapes: I images, R boxes, K classes, B size bins. An *object* is a box that is no ignored region.
Boxes are xywh in pixels of the original image (of the tile, if the records are tiles).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..protocols import PROTOCOLS, Protocol

__all__ = ["CROWD_LIMITS", "BoxColumns", "SizeBins", "bins_of_protocol", "size_bins"]

# Detectron2's detections per image, TinyPerson's dense images and the RPN's proposals.
CROWD_LIMITS = (100, 300, 1000)


@dataclass(frozen=True)
class SizeBins:
    """Bins of sqrt(area) in original pixels; a size that equals an edge is in the lower bin.

    Attributes:
        owner: whose bins they are.
        names: B names.
        edges: B - 1 ascending edges in pixels; the last bin has no upper end.
    """

    owner: str
    names: tuple[str, ...]
    edges: tuple[float, ...]

    @property
    def labels(self) -> list[str]:
        """Each name with its range, for people: ``tiny 8-16``."""
        first, last = f"{self.names[0]} ≤{self.edges[0]:g}", f"{self.names[-1]} >"
        between = zip(self.names[1:-1], self.edges, self.edges[1:])
        return [
            first,
            *(f"{name} {low:g}–{high:g}" for name, low, high in between),
            f"{last}{self.edges[-1]:g}",
        ]

    def index(self, areas: np.ndarray) -> np.ndarray:
        """Areas in square pixels, any shape -> index of the bin, same shape."""
        # Squared edges instead of a root: 64 px^2 is exactly an edge.
        return np.searchsorted(np.square(self.edges), areas, side="left")


def size_bins(protocol: Protocol) -> SizeBins:
    """The finest size ranges of a protocol as bins.

    A protocol's ranges contain both ends and may hold each other; here each box is in one bin.
    """
    ranges = protocol.size_ranges
    finest = [
        one
        for one in ranges
        if not any(o is not one and one.low <= o.low and o.high <= one.high for o in ranges)
    ]
    finest.sort(key=lambda one: one.low)
    names = tuple(one.name for one in finest)
    return SizeBins(protocol.title, names, tuple(math.sqrt(one.low) for one in finest[1:]))


def bins_of_protocol(name: str) -> list[SizeBins]:
    """AI-TOD's bins for every data set, and those of the protocol `name` where it has others."""
    aitod, own = size_bins(PROTOCOLS["aitod"]), size_bins(PROTOCOLS[name])
    return [aitod] if own == aitod or not own.edges else [aitod, own]


@dataclass(frozen=True)
class BoxColumns:
    """The boxes of a data set as columns, and what can be counted on them.

    Attributes:
        sizes: (I, 2) int, height and width of each image.
        image: (R,) int, index of the record that a box belongs to, ascending.
        boxes: (R, 4) float64 xywh, original pixels.
        classes: (R,) int, class index from 0; without meaning for an ignored region.
        ignored: (R,) str, why a box is an ignored region; "" for an object.
        labelled: whether the records have annotations at all.
    """

    sizes: np.ndarray
    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    labelled: bool

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> "BoxColumns":
        """From Detectron2's standard dicts with XYWH_ABS boxes, as this package's readers yield."""
        rows = [r.get("annotations", ()) for r in records]
        found = [a for annotations in rows for a in annotations]
        kinds = [a.get("ignored_as", "crowd") if a.get("iscrowd") else "" for a in found]
        return cls(
            sizes=np.array([(r["height"], r["width"]) for r in records], int).reshape(-1, 2),
            image=np.repeat(np.arange(len(records)), [len(r) for r in rows]),
            boxes=np.array([a["bbox"] for a in found], np.float64).reshape(-1, 4),
            classes=np.array([a["category_id"] for a in found], int),
            ignored=np.array(kinds, dtype=np.str_),
            labelled=any("annotations" in r for r in records),
        )

    @cached_property
    def is_object(self) -> np.ndarray:
        """(R,) bool."""
        return self.ignored == ""

    @cached_property
    def areas(self) -> np.ndarray:
        """(R,) square pixels."""
        return self.boxes[:, 2] * self.boxes[:, 3]

    @cached_property
    def object_sizes(self) -> np.ndarray:
        """sqrt(area) of each object in pixels, in the order of the rows."""
        return np.sqrt(self.areas[self.is_object])

    def class_counts(self, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """(K,) objects, and (K,) images with at least one object, of each class."""
        classes, image = self.classes[self.is_object], self.image[self.is_object]
        pairs = np.unique(image * num_classes + classes)
        return (
            np.bincount(classes, minlength=num_classes),
            np.bincount(pairs % num_classes, minlength=num_classes),
        )

    def size_counts(self, bins: SizeBins, num_classes: int) -> np.ndarray:
        """(K, B) objects by class and size."""
        columns = len(bins.names)
        index = bins.index(self.areas[self.is_object])
        cells = self.classes[self.is_object] * columns + index
        return np.bincount(cells, minlength=num_classes * columns).reshape(num_classes, columns)

    def median_sizes(self, num_classes: int) -> list[float | None]:
        """Median sqrt(area) of each class in pixels; None for a class without objects."""
        classes = self.classes[self.is_object]
        groups = (self.object_sizes[classes == index] for index in range(num_classes))
        return [float(np.median(group)) if len(group) else None for group in groups]

    @cached_property
    def objects_per_image(self) -> np.ndarray:
        """(I,) objects of each image, 0 included."""
        return np.bincount(self.image[self.is_object], minlength=len(self.sizes))

    def crowded_images(self, limits: Sequence[int] = CROWD_LIMITS) -> dict[int, int]:
        """Limit -> images with more objects than that."""
        return {limit: int((self.objects_per_image > limit).sum()) for limit in limits}

    @cached_property
    def aspect_ratios(self) -> np.ndarray:
        """Width / height of each object."""
        boxes = self.boxes[self.is_object]
        return boxes[:, 2] / boxes[:, 3]

    def position_map(self, cells: int = 32) -> np.ndarray:
        """(cells, cells) objects by the place of their centre, image height and width being 1."""
        centres = self.boxes[:, :2] + self.boxes[:, 2:] / 2
        places = (centres / self.sizes[self.image][:, ::-1])[self.is_object]
        columns, rows = np.minimum((places * cells).astype(int), cells - 1).T
        return np.bincount(rows * cells + columns, minlength=cells**2).reshape(cells, cells)

    def image_sizes(self) -> list[tuple[tuple[int, int], int]]:
        """((width, height), images), the most frequent first."""
        return Counter(map(tuple, self.sizes[:, ::-1].tolist())).most_common()

    def ignored_counts(self) -> dict[str, tuple[int, int, float]]:
        """Kind of ignored region -> regions, images that have one, median sqrt(area) in pixels."""
        found = {}
        for kind in np.unique(self.ignored[~self.is_object]).tolist():
            rows = self.ignored == kind
            images = len(np.unique(self.image[rows]))
            found[kind] = int(rows.sum()), images, float(np.median(np.sqrt(self.areas[rows])))
        return found

    def repeated_objects(self, *, same_class: bool) -> np.ndarray:
        """Rows of objects whose box an earlier object of the same image has.

        Args:
            same_class: True: that object is of the same class; False: all of them are of others.
        """
        rows = np.flatnonzero(self.is_object)
        keys = np.column_stack([self.image[rows], self.boxes[rows]])
        repeats_box = _repeats(keys)
        repeats_all = _repeats(np.column_stack([keys, self.classes[rows]]))
        return rows[repeats_all if same_class else repeats_box & ~repeats_all]

    def thin_objects(self, pixels: float) -> np.ndarray:
        """Rows of objects with a side shorter than `pixels`."""
        return np.flatnonzero(self.is_object & (self.boxes[:, 2:].min(axis=1) < pixels))


def _repeats(keys: np.ndarray) -> np.ndarray:
    """(R, n) -> (R,) bool: an earlier row is equal."""
    order = np.lexsort(keys.T)  # stable: equal rows stay in their order
    equal = (keys[order][1:] == keys[order][:-1]).all(axis=1)
    repeats = np.zeros(len(keys), dtype=bool)
    repeats[order[1:][equal]] = True
    return repeats
