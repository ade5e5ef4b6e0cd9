"""What follows from the scores: precision-recall curves, the best threshold, calibration.

Shapes: K evaluated classes in the order of ``GroundTruth.classes``, B score bins, 101 recalls.
All of it is over the protocol's first size range, without ignored detections.
"""

from dataclasses import dataclass

import numpy as np

from ..accumulation import RECALLS
from ..columns import Detections, GroundTruth
from ..matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE
from .outcome import Outcome, class_index
from .weighted_ap import class_mean

__all__ = [
    "BestF1",
    "Calibration",
    "PrecisionRecall",
    "best_f1",
    "calibrate",
    "precision_recall",
]


@dataclass(frozen=True)
class PrecisionRecall:
    """Interpolated precision against recall, for plotting.

    Attributes:
        iou: the IoU threshold; None: the mean over all thresholds of the protocol.
        recall: (101,) from 0 to 1.
        precision: (K, 101) fractions; NaN rows: classes without objects.
        mean: (101,) over the classes as the protocol averages them; NaN without any object.
    """

    iou: float | None
    recall: np.ndarray
    precision: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True)
class BestF1:
    """The score threshold with the best F1 of each class, at one IoU threshold.

    Attributes:
        iou: the IoU threshold.
        threshold: (K,) detections of at least this score are kept; NaN: no true positive at all.
        f1: (K,) fractions; NaN where the threshold is.
        precision: (K,)
        recall: (K,)
    """

    iou: float
    threshold: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    def keeps(self, truth: GroundTruth, found: Detections) -> np.ndarray:
        """(D,) bool, the detections of at least their class's threshold: the confident ones."""
        index = class_index(truth, found.category)
        # The last element is for categories that are not evaluated.
        return found.scores >= np.append(self.threshold, np.nan)[index]


@dataclass(frozen=True)
class Calibration:
    """Does a score of 0.7 mean that 70% of the detections are right? All classes together.

    Attributes:
        iou: the IoU threshold of a right detection.
        edges: (B + 1,) bins of the score, equally wide from 0 to 1; a score on an edge is in the
            upper bin, scores outside are in the outer bins.
        count: (B,) int, detections.
        score: (B,) their mean score; NaN in an empty bin.
        precision: (B,) the share of true positives; NaN in an empty bin.
        error: expected calibration error: mean of |score - precision| over the bins, weighted by
            count; NaN without detections. The many detections of low score dominate it.
    """

    iou: float
    edges: np.ndarray
    count: np.ndarray
    score: np.ndarray
    precision: np.ndarray
    error: float


def precision_recall(
    precision: np.ndarray, weights: np.ndarray, iou: float | None
) -> PrecisionRecall:
    """The curves of one IoU threshold, or of several: their mean.

    Args:
        precision: (T, 101, K), -1 for classes without objects, as in ``accumulation.Curves``.
        weights: (K,) of the classes in their mean.
        iou: see `PrecisionRecall`.
    """
    curves = precision.mean(axis=0).T
    curves = np.where(curves < 0, np.nan, curves)
    return PrecisionRecall(iou, RECALLS, curves, class_mean(curves, weights[:, None]))


def best_f1(truth: GroundTruth, found: Detections, outcome: Outcome) -> BestF1:
    """The best threshold of each class; of equal F1 the highest threshold."""
    category = class_index(truth, truth.category)
    objects = np.bincount(category[outcome.objects], minlength=len(truth.classes))
    best = np.full((4, len(truth.classes)), np.nan)
    for k, ranking in enumerate(outcome.rankings):
        judged = ranking[outcome.state[ranking] != IGNORED]
        scores = found.scores[judged]
        # A threshold keeps all detections of equal score or none of them.
        last = np.flatnonzero(np.diff(scores, append=-np.inf))
        tp = np.cumsum(outcome.state[judged] == TRUE_POSITIVE)[last]
        if not len(tp) or tp[-1] == 0:
            continue
        f1 = 2 * tp / (last + 1 + objects[k])
        at = int(np.argmax(f1))
        best[:, k] = scores[last[at]], f1[at], tp[at] / (last[at] + 1), tp[at] / objects[k]
    return BestF1(outcome.iou, *best)


def calibrate(found: Detections, outcome: Outcome, bins: int = 20) -> Calibration:
    """Compare the scores of all judged detections with their precision, in equally wide bins."""
    judged = np.isin(outcome.state, (FALSE_POSITIVE, TRUE_POSITIVE))
    scores, true = found.scores[judged], outcome.state[judged] == TRUE_POSITIVE
    edges = np.linspace(0, 1, bins + 1)
    index = np.searchsorted(edges[1:-1], scores, side="right")
    count = np.bincount(index, minlength=bins)
    share = [
        np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)
        for total in (np.bincount(index, values, bins) for values in (scores, true))
    ]
    gap = np.abs(share[0] - share[1])
    error = np.nansum(gap * count) / count.sum() if count.any() else np.nan
    return Calibration(outcome.iou, edges, count, share[0], share[1], float(error))
