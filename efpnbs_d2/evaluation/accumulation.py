"""From matched detections to precision, recall and oLRP.

Shapes: T IoU thresholds, R recalls, K classes (ascending category id), A size ranges, L detection
limits; M detections of the matching, n of one class.
"""

from dataclasses import astuple, dataclass

import numpy as np

from ..protocols import Protocol
from .columns import Detections, GroundTruth
from .lrp import optimal_lrp
from .matching import FALSE_POSITIVE, TRUE_POSITIVE, match

__all__ = ["LRP_PARTS", "RECALLS", "Curves", "compute_curves"]

# Not k / 100, which differs in the last bit and then in precision where recall is 0.35.
RECALLS = np.linspace(0, 1, 101)
LRP_PARTS = ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN", "oLRP_threshold")
# pycocotools adds it where tp + fp could be 0.
_SPACING = np.spacing(1.0)


@dataclass(frozen=True)
class Curves:
    """What the metrics of a protocol are read from.

    A class without counted objects has -1 everywhere.

    Attributes:
        average_precision: (T, K, A, L).
        recall: (T, K, A, L), of all detections.
        precision: (T, R, K, A, L), the best precision at each of `RECALLS` or a higher recall.
        lrp: (5, K, A, L), `LRP_PARTS` at the first IoU threshold; None where no metric needs it.
    """

    average_precision: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    lrp: np.ndarray | None


def compute_curves(
    protocol: Protocol, truth: GroundTruth, found: Detections, progress: bool = False
) -> Curves:
    """Match and accumulate; `truth` and `found` as the official code sees them."""
    classes = sorted(truth.classes)
    curves = _empty_curves(protocol, truth)
    matches = None
    for at_limit, max_dets in reversed(list(enumerate(protocol.max_dets))):
        # The best by score are the head of a larger matching; the first rows of a file are not.
        if matches is None or protocol.limit == "image":
            matches = match(protocol, truth, found, max_dets, progress)
        category = found.category[matches.order]
        for at_class, wanted in enumerate(classes):
            ranking = np.flatnonzero((category == wanted) & (matches.rank < max_dets))
            best_first = np.argsort(-found.scores[matches.order[ranking]], kind="stable")
            ranking = ranking[best_first]
            of_class = truth.category == wanted
            objects = np.count_nonzero(matches.counted & of_class, axis=1)
            scores = found.scores[matches.order[ranking]]
            for size, count in enumerate(objects.tolist()):
                place = (at_class, size, at_limit)
                state = matches.state[size][:, ranking]
                _enter(protocol, curves, place, state, count)
                if curves.lrp is not None:
                    overlap = matches.overlap[size, 0, ranking]
                    first = protocol.iou_thresholds[0]
                    lrp = optimal_lrp(state[0], overlap, scores, count, first)
                    curves.lrp[(slice(None), *place)] = astuple(lrp)
    return curves


def _empty_curves(protocol: Protocol, truth: GroundTruth) -> Curves:
    shape = (len(truth.classes), len(protocol.size_ranges), len(protocol.max_dets))
    thresholds = len(protocol.iou_thresholds)
    needs_lrp = any(metric.kind.startswith("oLRP") for metric in protocol.metrics)
    return Curves(
        average_precision=np.full((thresholds, *shape), -1.0),
        recall=np.full((thresholds, *shape), -1.0),
        precision=np.full((thresholds, len(RECALLS), *shape), -1.0),
        lrp=np.full((len(LRP_PARTS), *shape), -1.0) if needs_lrp else None,
    )


def _enter(
    protocol: Protocol,
    curves: Curves,
    place: tuple[int, int, int],
    states: np.ndarray,
    objects: int,
) -> None:
    """Fill in one class, size range and limit from (T, n) states in ranking order.

    Only true positives are looked at: precision is at its best, and recall rises, at them.
    """
    # VisDrone's code has 0 where the others have "undefined": such a class has no weight.
    if objects == 0 and protocol.class_mean == "plain":
        return
    for at, state in enumerate(states):
        is_true = state == TRUE_POSITIVE
        false = np.cumsum(state == FALSE_POSITIVE)[is_true]
        true = np.arange(1, len(false) + 1)
        recall = true / max(1, objects)
        spacing = _SPACING if protocol.interpolation == "101 points" else 0.0
        precision = true / (false + true + spacing)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        # Beyond the last recall precision is 0.
        index = np.searchsorted(recall, RECALLS)
        sampled = np.append(precision, 0.0)[index]
        curves.precision[(at, slice(None), *place)] = sampled
        curves.recall[(at, *place)] = recall[-1] if len(recall) else 0.0
        if protocol.interpolation == "101 points":
            value = sampled.mean()
        else:
            value = np.sum(np.diff(recall, prepend=0.0) * precision)
        curves.average_precision[(at, *place)] = value
