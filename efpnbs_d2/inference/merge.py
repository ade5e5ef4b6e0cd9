"""One set of detections from those of overlapping windows.

Shapes: D detections, P pairs of them. Boxes are xyxy in full-image pixels; the sides of a box or a
window are counted in the order left, top, right, bottom.

Source: our own rule. That cut boxes yield to whole ones before duplicates are dropped is what
non-maximum suppression alone cannot do: the overlap of a whole box and a piece of it is small.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from .box_pairs import box_iou, intersecting_pairs

__all__ = ["WindowDetections", "merge_windows"]

# A box that ends within this many pixels of its window's border may go on behind it.
BORDER = 1.0
# Intersection over union, inside the area that two windows share, of what is one object.
SAME_OBJECT = 0.5


@dataclass(frozen=True)
class WindowDetections:
    """Columns of detections, one row each.

    Attributes:
        boxes: (D, 4) float64, inside their windows.
        scores: (D,) float.
        classes: (D,) int.
        windows: (D, 4) int, the corners of the window in which each was found.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    windows: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "WindowDetections":
        return WindowDetections(*(getattr(self, field.name)[rows] for field in fields(self)))


def merge_windows(
    found: WindowDetections, *, iou_threshold: float = 0.5, join_cut: bool = True
) -> WindowDetections:
    """Merge the detections of all windows; their order and that of the windows do not matter.

    Two windows see the same object if their boxes are of one class and, clipped to the area that
    the windows share, have an intersection over union of `SAME_OBJECT` or more.

    1. Where one of these boxes is cut, by a border of its window behind which the other window
       continues, and the other box is not, the cut one gives way. A box counts as cut if it comes
       within `BORDER` px of the border, or the other one goes on behind it.
    2. If both are cut, the object is larger than the shared area: they become one box, the union,
       with the highest score; also along a chain of windows (`join_cut`).
    3. Non-maximum suppression by class, between detections of different windows: inside a window,
       the detector's own suppression stands. A joined box is of no single window.

    Args:
        found: of all windows.
        iou_threshold: the lower of two scores goes above this intersection over union.
        join_cut: do step 2.

    Returns:
        By descending score, ties by class and coordinates. The window of a joined box is the
        bounding box of its windows.
    """
    found = found[_canonical_order(found)]
    seen = np.unique(found.windows, axis=0, return_inverse=True)[1].reshape(-1)
    one, other = _resolvable_pairs(found, seen)
    one_cut, other_cut = _cut_there(found, one, other), _cut_there(found, other, one)
    alone = one_cut != other_cut
    stays = _give_way(
        np.where(one_cut, one, other)[alone], np.where(one_cut, other, one)[alone], len(seen)
    )
    if join_cut:
        both = one_cut & other_cut & stays[one] & stays[other]
        found, seen = _join(found, seen, stays, one[both], other[both])
    else:
        found, seen = found[stays], seen[stays]
    high, low = _duplicates(found, seen, iou_threshold)
    return found[_suppress(high, low, len(seen))]


def _canonical_order(found: WindowDetections) -> np.ndarray:
    columns = (*found.windows.T[::-1], *found.boxes.T[::-1], found.classes, -found.scores)
    return np.lexsort(columns)


def _pairs(found: WindowDetections, seen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of one class that intersect and come from different windows."""
    for one, other in intersecting_pairs(found.boxes, found.classes):
        apart = seen[one] != seen[other]
        yield one[apart], other[apart]


def _resolvable_pairs(found: WindowDetections, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are one object as seen by two windows."""
    kept = [(np.empty(0, np.int64),) * 2]
    for one, other in _pairs(found, seen):
        low = np.maximum(found.windows[one, :2], found.windows[other, :2])
        high = np.minimum(found.windows[one, 2:], found.windows[other, 2:])
        boxes = [
            np.hstack([np.maximum(boxes[:, :2], low), np.minimum(boxes[:, 2:], high)])
            for boxes in (found.boxes[one], found.boxes[other])
        ]
        same = box_iou(*boxes) >= SAME_OBJECT
        kept.append((one[same], other[same]))
    one, other = (np.concatenate(column) for column in zip(*kept))
    return one, other


def _cut_there(found: WindowDetections, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) bool, whether a border of its window, inside the other's, cuts the first box."""
    outward = np.array([-1, -1, 1, 1])
    border, box = found.windows[one] * outward, found.boxes[one] * outward
    continues = found.windows[other] * outward > border
    reaches = box >= border - BORDER
    goes_on = found.boxes[other] * outward > border + BORDER
    return (continues & (reaches | goes_on)).any(axis=1)


def _give_way(cut: np.ndarray, whole: np.ndarray, number: int) -> np.ndarray:
    """(D,) bool, what stays when the first of each pair gives way to the second."""
    stays = np.ones(number, dtype=bool)
    stays[cut] = False
    stands_for = stays.copy()  # it, or what it gave way to, stays
    while True:
        new = cut[stands_for[whole] & ~stands_for[cut]]
        if not len(new):
            break
        stands_for[new] = True
    # Imprecise boxes can give way in a circle: of these the highest scores stay.
    circle = ~stands_for[cut]
    high, low = np.sort(np.stack([cut[circle], whole[circle]]), axis=0)
    return stays | (~stands_for & _suppress(high, low, number))


def _join(
    found: WindowDetections,
    seen: np.ndarray,
    stays: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
) -> tuple[WindowDetections, np.ndarray]:
    """Make one box of each set of boxes that pairs connect, and number its window anew."""
    root = np.arange(len(seen))
    while True:
        lowest = root.copy()
        np.minimum.at(lowest, one, root[other])
        np.minimum.at(lowest, other, root[one])
        lowest = lowest[lowest]
        if (lowest == root).all():
            break
        root = lowest
    boxes, windows = found.boxes.copy(), found.windows.copy()
    for corners in (boxes, windows):
        np.minimum.at(corners[:, :2], root, corners[:, :2].copy())
        np.maximum.at(corners[:, 2:], root, corners[:, 2:].copy())
    # The root comes first in the order: its score is the highest.
    kept = stays & (root == np.arange(len(root)))
    joined = np.bincount(root, minlength=len(root)) > 1
    seen = np.where(joined, len(seen) + np.arange(len(seen)), seen)
    merged = WindowDetections(boxes, found.scores, found.classes, windows)[kept]
    order = _canonical_order(merged)
    return merged[order], seen[kept][order]


def _duplicates(
    found: WindowDetections, seen: np.ndarray, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that overlap more than the threshold, the one that comes first in order first."""
    kept = [np.empty((2, 0), np.int64)]
    for one, other in _pairs(found, seen):
        is_duplicate = box_iou(found.boxes[one], found.boxes[other]) > iou_threshold
        kept.append(np.sort(np.stack([one[is_duplicate], other[is_duplicate]]), axis=0))
    high, low = np.concatenate(kept, axis=1)
    return high, low


def _suppress(high: np.ndarray, low: np.ndarray, number: int) -> np.ndarray:
    """(D,) bool, what greedy suppression keeps: all but those that a kept higher one suppresses.

    Rounds instead of a walk down the order: what no open pair ranks lower stays and suppresses its
    partners, until no pair is open.
    """
    stays = np.ones(number, dtype=bool)
    while len(high):
        is_beaten = np.zeros(number, dtype=bool)
        is_beaten[low] = True
        stays[low[~is_beaten[high]]] = False
        is_open = stays[high] & stays[low]
        high, low = high[is_open], low[is_open]
    return stays
