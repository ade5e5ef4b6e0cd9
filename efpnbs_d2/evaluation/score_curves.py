"""What follows from the scores: precision-recall curves, the best threshold, calibration.

Shapes: K evaluated classes in the order of ``GroundTruth.classes``, B score bins, 101 recalls.
All of it is over the protocol's first size range, without ignored detections.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["BestF1", "Calibration", "PrecisionRecall"]


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
