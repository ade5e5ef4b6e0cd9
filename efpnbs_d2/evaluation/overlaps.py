"""Overlaps of boxes, and which detections can match which objects at all.

Boxes are xywh in pixels of the original image; no pixel is added to widths or heights.
"""

from collections.abc import Iterator

import numpy as np

__all__ = ["candidate_pairs", "overlap"]

# Pairs looked at together: their columns fit a processor's cache.
_CHUNK = 200_000


def overlap(boxes: np.ndarray, objects: np.ndarray, absorbs: np.ndarray) -> np.ndarray:
    """Intersection over union of pairs of boxes; over the first box where `absorbs`.

    Args:
        boxes: (P, 4) float64 xywh, detections.
        objects: (P, 4) float64 xywh, the other box of each pair.
        absorbs: (P,) bool.

    Returns:
        (P,) float64; 0 for boxes that do not intersect, also for empty ones.
    """
    start = np.maximum(boxes[:, :2], objects[:, :2])
    end = np.minimum(boxes[:, :2] + boxes[:, 2:], objects[:, :2] + objects[:, 2:])
    sides = end - start
    common = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0)
    own = boxes[:, 2] * boxes[:, 3]
    whole = np.where(absorbs, own, own + objects[:, 2] * objects[:, 3] - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)


def candidate_pairs(
    boxes: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    objects: np.ndarray,
    absorbs: np.ndarray,
    least: float,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of a detection and an object that overlap by `least` or more, and by more than 0.

    Args:
        boxes: (D, 4) xywh, detections.
        first: (D,) int, the objects ``first : first + count`` are those of a detection's image
            and class.
        count: (D,) int.
        objects: (G, 4) xywh.
        absorbs: (G,) bool, see `overlap`.
        least: overlap.

    Yields:
        detections, objects (indices) and overlaps of some pairs, by detection, then by object.
    """
    left, right = _ends_along_x(boxes)
    object_left, object_right = _ends_along_x(objects)
    ends = np.cumsum(count)
    borders = np.arange(_CHUNK, ends[-1] if len(ends) else 0, _CHUNK)
    borders = np.unique([0, *np.searchsorted(ends, borders), len(ends)])
    for low, high in zip(borders[:-1], borders[1:]):
        sizes = count[low:high]
        detection = np.repeat(np.arange(low, high), sizes)
        offset = first[low:high] - (np.cumsum(sizes) - sizes)
        target = np.arange(len(detection)) + np.repeat(offset, sizes)
        # Most pairs of an image are apart along x: the rest is spared them.
        near = np.repeat(left[low:high], sizes) < object_right[target]
        near &= np.repeat(right[low:high], sizes) > object_left[target]
        detection, target = detection[near], target[near]
        value = overlap(boxes[detection], objects[target], absorbs[target])
        keep = (value >= least) & (value > 0)
        yield detection[keep], target[keep], value[keep]


def _ends_along_x(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left = np.ascontiguousarray(boxes[:, 0])
    return left, left + boxes[:, 2]
