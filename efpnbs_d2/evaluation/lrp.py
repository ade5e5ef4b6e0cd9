"""Optimal localisation-recall-precision error (oLRP) of one class, as AI-TOD's code computes it.

LRP adds what is wrong with a set of detections: how far the true positives are off, how many are
false, how many objects are missed. It is 0 at best, and oLRP is its minimum over the score
thresholds. D detections below are in one ranking over all images.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .matching import FALSE_POSITIVE, TRUE_POSITIVE

__all__ = ["LRP", "class_average", "optimal_lrp"]


@dataclass(frozen=True)
class LRP:
    """oLRP of a class and its parts, at the score threshold where LRP is least; lower is better.

    Attributes:
        value: oLRP.
        localisation: mean 1 - overlap of the true positives.
        false_positives: their share of the detections.
        misses: share of the objects without a detection.
        threshold: the score.

    NaN: without a true positive above the threshold, a part may have no value. All are -1 for a
    class without objects.
    """

    value: float
    localisation: float
    false_positives: float
    misses: float
    threshold: float


def optimal_lrp(
    state: np.ndarray,
    overlap: np.ndarray,
    scores: np.ndarray,
    objects: int,
    iou_threshold: float = 0.5,
) -> LRP:
    """oLRP of one class in one size range, under one detection limit.

    Args:
        state: (D,) int, in ranking order, as in `matching.Matches`.
        overlap: (D,) float64, of the true positives with their objects; others are not read.
        scores: (D,) float64, descending.
        objects: that are to be found.
        iou_threshold: at which the detections were matched.

    Source: aitodpycocotools, commit 44a230a. The first minimum counts, over every position of the
    ranking: equal scores are not taken together, and ignored detections are positions too.
    """
    if objects == 0:
        return LRP(-1.0, -1.0, -1.0, -1.0, -1.0)
    true = state == TRUE_POSITIVE
    if not true.any():
        return LRP(1.0, np.nan, np.nan, 1.0, np.nan)
    tp = np.cumsum(true)
    fp = np.cumsum(state == FALSE_POSITIVE)
    distance = np.cumsum(np.where(true, 1 - overlap, 0))
    missed = objects - tp
    error = (distance / (1 - iou_threshold) + fp + missed) / (tp + fp + missed)
    best = int(np.argmin(error))
    found, false = int(tp[best]), int(fp[best])
    return LRP(
        value=float(error[best]),
        localisation=float(distance[best]) / found if found else np.nan,
        false_positives=false / (found + false) if found + false else np.nan,
        misses=int(missed[best]) / objects,
        threshold=float(scores[best]),
    )


def class_average(values: Iterable[float]) -> float:
    """Mean over the classes of oLRP or one of its parts; -1 where no class has a value."""
    known = [value for value in values if value > -1]
    return float(np.mean(known)) if known else -1.0
