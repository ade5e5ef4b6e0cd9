"""Beyond the official numbers: how a detector fails, in figures that a report can draw."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..protocols import Protocol
from .error_types import ErrorCosts
from .image_errors import ImageErrors
from .score_curves import BestF1, Calibration, PrecisionRecall
from .size_recall import SizeRecall

__all__ = ["Analysis"]


@dataclass(frozen=True)
class Analysis:
    """What ``analyse(protocol, truth, found)`` yields.

    Everything is over the protocol's first size range, at its last detection limit, and (but for
    `mean_iou_curves`) at IoU 0.5, or the protocol's threshold nearest to it. Fractions throughout.

    Attributes:
        protocol: what was measured.
        classes: category id -> name of the K evaluated classes, ascending.
        curves: precision-recall at that IoU threshold.
        mean_iou_curves: the same, the mean over the protocol's thresholds.
        best_f1: the best score threshold of each class.
        calibration: scores against precision.
        size_recall: recall against object size.
        error_costs: what kind of error costs how much AP.
        image_errors: errors per image, and the worst images.
    """

    protocol: Protocol
    classes: Mapping[int, str]
    curves: PrecisionRecall
    mean_iou_curves: PrecisionRecall
    best_f1: BestF1
    calibration: Calibration
    size_recall: SizeRecall
    error_costs: ErrorCosts
    image_errors: ImageErrors
