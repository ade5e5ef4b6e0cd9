"""AP when each image counts several times or not at all.

Shapes: N detections of one ranking, P of them true positives, I images, R weightings of the images,
K evaluated classes in the order of ``GroundTruth.classes``.
"""

from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from ...protocols import Protocol
from ..accumulation import RECALLS
from ..columns import GroundTruth

__all__ = ["class_mean", "class_weights", "weighted_ap"]

# Weightings computed at once: measured, larger batches leave the processor's cache.
_BATCH = 8


def weighted_ap(
    true: np.ndarray,
    image: np.ndarray,
    objects: np.ndarray,
    weights: np.ndarray,
    interpolation: Literal["101 points", "all points"],
) -> np.ndarray:
    """AP as if each image were there as often as its weight says.

    The copies of a detection stand together in the ranking, also among equal scores.

    Args:
        true: (N,) bool, by descending score, without ignored detections: true or false positive.
        image: (N,) int, of each detection.
        objects: (R,) number of objects in all images, weighted.
        weights: (I, R) int32, not negative.
        interpolation: as in ``Protocol.interpolation``.

    Returns:
        (R,) fractions; NaN without objects.
    """
    true_image = image[true]
    before = np.cumsum(true) - true
    # Only the true positives' precision can be a maximum: of the false positives, those between
    # two of them are counted together, and those after the last one not at all.
    false = ~true & (before < len(true_image))
    shape = (len(true_image), len(weights))
    ones = np.ones(np.count_nonzero(false), dtype=weights.dtype)
    gaps = csr_matrix((ones, (before[false], image[false])), shape)
    area = _sampled_area if interpolation == "101 points" else _whole_area
    values = np.empty(weights.shape[1])
    for start in range(0, len(values), _BATCH):
        batch = slice(start, start + _BATCH)
        some = np.ascontiguousarray(weights[:, batch])
        tp = np.cumsum(some[true_image], axis=0, dtype=np.float64)
        judged = tp + np.cumsum(gaps @ some, axis=0, dtype=np.float64)
        precision = tp / np.maximum(judged, 1)
        values[batch] = area(precision, tp / np.maximum(objects[batch], 1))
    return np.where(objects > 0, values, np.nan)


def class_weights(
    protocol: Protocol, truth: GroundTruth, counted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """How much each class weighs in the class mean.

    Args:
        protocol: by its ``class_mean``.
        truth: as matched.
        counted: (G,) bool, objects that recall counts.
        weights: (I, R) of the images.

    Returns:
        (K, R): 1 for a class with objects, 0 for others; or the number of images that hold it.
    """
    rows = counted if protocol.class_mean == "plain" else np.ones(len(counted), dtype=bool)
    images = [np.unique(truth.image[rows & (truth.category == k)]) for k in truth.classes]
    holders = np.array([weights[holding].sum(axis=0) for holding in images])
    return (holders > 0).astype(np.int64) if protocol.class_mean == "plain" else holders


def class_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(K, ...) values and (K, ...) weights that broadcast -> (...); NaN where all weights are 0.

    A value of NaN counts as 0 where it has weight: a class in images, but without objects to find.
    """
    weights = np.broadcast_to(weights, values.shape)
    total = weights.sum(axis=0)
    summed = (np.nan_to_num(values) * weights).sum(axis=0)
    return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)


def _whole_area(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """(P, R) curves -> (R,) area under the precision that no higher recall exceeds."""
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return (envelope * np.diff(recall, axis=0, prepend=0)).sum(axis=0)


def _sampled_area(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """(P, R) curves -> (R,) mean of that precision at the 101 recalls, 0 beyond the last."""
    means = np.zeros(precision.shape[1])
    if not len(precision):
        return means
    for k, (heights, places) in enumerate(zip(precision.T.copy(), recall.T.copy())):
        first = np.searchsorted(places, RECALLS, side="left")
        first = first[first < len(places)]
        best = np.maximum.accumulate(np.maximum.reduceat(heights, first)[::-1])
        means[k] = best.sum() / len(RECALLS)
    return means
