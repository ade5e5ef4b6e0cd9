"""Pairs of boxes that intersect, found among hundreds of thousands.

Boxes are xyxy, float64.
"""

from collections.abc import Iterator

import numpy as np

__all__ = ["box_iou", "intersecting_pairs"]

# Pairs looked at together.
_CHUNK = 1_000_000


def box_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) intersection over union of each of (P, 4) boxes with its partner; 0 for empty ones."""
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    common = np.maximum(high - low, 0).prod(axis=1)
    union = sum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)) - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def intersecting_pairs(
    boxes: np.ndarray, group: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of boxes of one group whose intersection has an area.

    Args:
        boxes: (D, 4).
        group: (D,) int.

    Yields:
        Some pairs, as the indices of one and of the other; each pair comes once.
    """
    if not len(boxes):
        return
    # In strips about two boxes high, each box in all strips that it touches. In a strip, a box can
    # only meet those that start along x before it ends.
    height = max(2 * float((boxes[:, 3] - boxes[:, 1]).mean()), 1.0)
    top, bottom = np.floor((boxes[:, (1, 3)] - boxes[:, 1].min()) / height).astype(np.int64).T
    touched = bottom - top + 1
    box = np.repeat(np.arange(len(boxes)), touched)
    strip = top[box] + np.arange(len(box)) - np.repeat(np.cumsum(touched) - touched, touched)
    lane = np.unique(group, return_inverse=True)[1][box] * (strip.max() + 1) + strip

    # Lanes one behind the other along x.
    x = boxes[:, (0, 2)] - boxes[:, 0].min()
    start, end = (x[box] + (lane * (x.max() + 1))[:, None]).T
    order = np.argsort(start, kind="stable")
    box, strip, start, end = box[order], strip[order], start[order], end[order]
    first = np.arange(len(box)) + 1
    count = np.searchsorted(start, end, side="left") - first
    for one, other in _expand(first, np.maximum(count, 0)):
        # Two boxes that meet in several strips count where their intersection begins.
        begins = strip[one] == np.maximum(top[box[one]], top[box[other]])
        one, other = box[one[begins]], box[other[begins]]
        low = np.maximum(boxes[one, :2], boxes[other, :2])
        meets = (low < np.minimum(boxes[one, 2:], boxes[other, 2:])).all(axis=1)
        yield one[meets], other[meets]


def _expand(first: np.ndarray, count: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers with each of `first : first + count`, some rows at a time."""
    ends = np.cumsum(count)
    borders = np.searchsorted(ends, np.arange(_CHUNK, ends[-1], _CHUNK))
    borders = np.unique([0, *borders, len(ends)])
    for low, high in zip(borders[:-1], borders[1:]):
        sizes = count[low:high]
        one = np.repeat(np.arange(low, high), sizes)
        offset = first[low:high] - (np.cumsum(sizes) - sizes)
        yield one, np.arange(len(one)) + np.repeat(offset, sizes)
