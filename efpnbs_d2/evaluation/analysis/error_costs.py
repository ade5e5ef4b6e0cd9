"""How much AP each kind of error costs; ``error_types`` says what the kinds are.

Shapes: G ground-truth boxes, D detections, N of them judged (not ignored), K evaluated classes in
the order of ``GroundTruth.classes``, E = 6 kinds of error.
"""

from dataclasses import dataclass

import numpy as np

from ...protocols import Protocol
from ..columns import Detections, GroundTruth
from ..matching import IGNORED, TRUE_POSITIVE
from .error_types import BACKGROUND_IOU, ERROR_TYPES, ErrorCosts, ErrorTypes
from .outcome import Outcome, class_index
from .weighted_ap import class_mean, weighted_ap

__all__ = ["error_costs"]

_MISSED = ERROR_TYPES.index("missed")


def error_costs(
    protocol: Protocol,
    weights: np.ndarray,
    truth: GroundTruth,
    found: Detections,
    outcome: Outcome,
    types: ErrorTypes,
    confident: np.ndarray,
) -> ErrorCosts:
    """What AP gains from each kind of error put right.

    A class of which nothing is left to find has AP 1.

    Args:
        protocol: its interpolation.
        weights: (K,) of the classes in their mean.
        truth: as matched.
        found: as matched.
        outcome: of the two.
        types: of the outcome.
        confident: (D,) bool, detections of at least their class's threshold.
    """
    classes = len(truth.classes)

    def per_class(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.bincount(column[rows], minlength=classes)

    of_object, of_detection = (class_index(truth, x.category) for x in (truth, found))
    objects = per_class(of_object, outcome.counted)
    rows = np.concatenate(outcome.rankings)
    rows = rows[outcome.state[rows] != IGNORED]
    true = outcome.state[rows] == TRUE_POSITIVE
    ranking = _Ranking(of_detection[rows], found.scores[rows], true)

    ap = ranking.average_precision(protocol, objects)

    def gain(ranking: _Ranking, objects_left: np.ndarray) -> np.ndarray:
        reached = ranking.average_precision(protocol, objects_left)
        return np.where((objects > 0) & (objects_left == 0), 1.0, reached) - ap

    missed = per_class(of_object, types.missed)
    unfound = per_class(of_object, outcome.objects & (outcome.finder < 0))
    put_right = [
        _put_right(error, ranking, types.kind[rows], types.meant[rows], outcome.finder, of_object)
        for error in range(_MISSED)
    ]
    costs = np.stack(
        [
            *(gain(better, objects) for better in put_right),
            gain(ranking, objects - missed),
            gain(ranking.select(true), objects),
            gain(ranking, objects - unfound),
        ],
        axis=1,
    )
    *cost, false_positives, false_negatives = class_mean(costs, weights[:, None])
    unseen = outcome.objects & ~outcome.found_by(confident)
    return ErrorCosts(
        iou=outcome.iou,
        background_iou=BACKGROUND_IOU,
        ap=float(class_mean(ap, weights)),
        ap_per_class=ap,
        cost=np.array(cost),
        cost_per_class=costs[:, : len(ERROR_TYPES)],
        count=_count(of_detection, types.kind, missed),
        count_confident=_count(
            of_detection, np.where(confident, types.kind, -1), per_class(of_object, unseen)
        ),
        false_positive_cost=float(false_positives),
        false_negative_cost=float(false_negatives),
    )


def _count(category: np.ndarray, kind: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """(D,) class indices and kinds, (K,) missed objects -> (K, E)."""
    count = np.zeros((len(missed), len(ERROR_TYPES)), dtype=np.int64)
    np.add.at(count, (category[kind >= 0], kind[kind >= 0]), 1)
    count[:, _MISSED] = missed
    return count


@dataclass(frozen=True)
class _Ranking:
    """Judged detections: (N,) class index and score, and whether they are true positives."""

    category: np.ndarray
    scores: np.ndarray
    true: np.ndarray

    def select(self, rows: np.ndarray) -> "_Ranking":
        return _Ranking(self.category[rows], self.scores[rows], self.true[rows])

    def average_precision(self, protocol: Protocol, objects: np.ndarray) -> np.ndarray:
        """(K,) number of objects of each class -> (K,) AP; NaN without objects."""
        order = np.lexsort((-self.scores, self.category))
        bounds = np.searchsorted(self.category[order], np.arange(len(objects) + 1))
        ap = np.empty(len(objects))
        for k, (start, end) in enumerate(zip(bounds, bounds[1:])):
            true = self.true[order[start:end]]
            once = np.ones((1, 1), dtype=np.int32)
            image = np.zeros(len(true), dtype=np.int64)
            ap[k] = weighted_ap(true, image, objects[k : k + 1], once, protocol.interpolation)[0]
        return ap


def _put_right(
    error: int,
    ranking: _Ranking,
    kind: np.ndarray,
    meant: np.ndarray,
    finder: np.ndarray,
    of_object: np.ndarray,
) -> _Ranking:
    """The ranking without errors of one kind, as the head of this module says.

    Args:
        error: index into ERROR_TYPES.
        ranking: of N detections.
        kind: (N,) of them, as in `ErrorTypes`.
        meant: (N,) likewise.
        finder: (G,) as in `Outcome`.
        of_object: (G,) class indices.
    """
    rows = np.flatnonzero((kind == error) & (meant >= 0))
    rows = rows[finder[meant[rows]] < 0]
    best_first = rows[np.argsort(-ranking.scores[rows], kind="stable")]
    _, first = np.unique(meant[best_first], return_index=True)
    right = best_first[first]
    kept, true, category = kind != error, ranking.true.copy(), ranking.category.copy()
    kept[right] = true[right] = True
    category[right] = of_object[meant[right]]
    return _Ranking(category, ranking.scores, true).select(kept)
