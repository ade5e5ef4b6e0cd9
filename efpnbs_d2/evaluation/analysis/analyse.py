"""Beyond the official numbers: how a detector fails, in figures that a report can draw."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...protocols import Protocol
from ..accumulation import compute_curves
from ..columns import Detections, GroundTruth
from ..matching import match
from ..official_rows import with_plain_ids
from ..regions import drop_ignored
from .error_costs import error_costs
from .error_types import ErrorCosts, find_error_types
from .image_errors import ImageErrors, count_image_errors
from .outcome import Outcome
from .score_curves import (
    BestF1,
    Calibration,
    PrecisionRecall,
    best_f1,
    calibrate,
    precision_recall,
)
from .size_recall import SizeRecall, recall_by_size
from .weighted_ap import class_weights

__all__ = ["Analysis", "analyse", "analysed_iou"]


@dataclass(frozen=True)
class Analysis:
    """What ``analyse(protocol, truth, found)`` yields.

    Everything is over the protocol's first size range, at its last detection limit, and (but for
    `mean_iou_curves`) at IoU 0.5, or the protocol's threshold nearest to it. Fractions throughout.
    Annotation ids have no effect here: id 0 is no error of a detector.

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


def analysed_iou(protocol: Protocol) -> float:
    """0.5, or the protocol's threshold nearest to it; the lower of two."""
    return min(protocol.iou_thresholds, key=lambda iou: abs(iou - 0.5))


def analyse(
    protocol: Protocol, truth: GroundTruth, found: Detections, progress: bool = False
) -> Analysis:
    """Find out how a detector fails.

    Args:
        protocol: a benchmark's.
        truth: all its annotations.
        found: all detections.
        progress: show bars.

    Raises:
        ValueError: the protocol needs image sizes that are unknown.
    """
    truth = with_plain_ids(truth)
    kept = [np.ones(len(boxes.image), dtype=bool) for boxes in (truth, found)]
    if protocol.ignore == "regions":
        kept = list(drop_ignored(truth, found))
    judged_truth, judged = truth.select(kept[0]), found.select(kept[1])
    # One size range and detection limit, and no table of metrics that would need others.
    plain = replace(
        protocol,
        size_ranges=protocol.size_ranges[:1],
        max_dets=protocol.max_dets[-1:],
        metrics=(),
    )
    iou = analysed_iou(protocol)
    precision = compute_curves(plain, judged_truth, judged, progress).precision[..., 0, 0]
    at_iou = protocol.iou_thresholds.index(iou)
    single = replace(plain, iou_thresholds=(iou,))
    matches = match(single, judged_truth, judged, progress=progress)
    outcome = Outcome.of(single, judged_truth, judged, matches, 0)
    once = np.ones((len(truth.image_ids), 1), dtype=np.int32)
    weights = class_weights(protocol, judged_truth, outcome.counted, once)[:, 0]

    # From here on with all boxes, so that those that a protocol removes can be drawn.
    outcome = outcome.among(*kept)
    thresholds = best_f1(truth, found, outcome)
    confident = thresholds.keeps(truth, found)
    types = find_error_types(truth, found, outcome, progress)
    return Analysis(
        protocol=protocol,
        classes=truth.classes,
        curves=precision_recall(precision[at_iou : at_iou + 1], weights, iou),
        mean_iou_curves=precision_recall(precision, weights, None),
        best_f1=thresholds,
        calibration=calibrate(found, outcome),
        size_recall=recall_by_size(truth, outcome, confident),
        error_costs=error_costs(plain, weights, truth, found, outcome, types, confident),
        image_errors=count_image_errors(truth, found, outcome, types.kind, confident),
    )
