"""What kind of error each detection is, and what puts it right.

The idea is TIDE's: put one kind of error right and see by how much AP rises. Each false positive
is of the first kind that fits, by its largest IoU with the objects of its image, `own` with those
of its class and `other` with those of the other classes:

=============  ==========================================  =====================================
localisation   background <= own < foreground              boxed right, if its object is missing
class          other >= foreground                         moved to that class, likewise
duplicate      own >= foreground (a better one has it)     removed
both           background <= other < foreground            removed
background     the others                                  removed
missed         an object that no true positive finds, nor  no longer counted
               an error of class or localisation meant
=============  ==========================================  =====================================

The foreground IoU is that of the outcome. Of several errors of one kind on the same missing object
the one with the highest score is put right and the others are removed; so are those on an object
that is found already. What the protocol ignores, boxes and detections, takes no part.

Source: D. Bolya, S. Foley, J. Hays, J. Hoffman, "TIDE: a general toolbox for identifying object
detection errors", ECCV 2020. AP, its interpolation and the class mean are the protocol's.

Shapes: G ground-truth boxes, D detections, K evaluated classes in the order of
``GroundTruth.classes``, E = 6 kinds of error.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..columns import Detections, GroundTruth
from ..matching import FALSE_POSITIVE
from ..overlaps import candidate_pairs
from .outcome import Outcome

__all__ = ["BACKGROUND_IOU", "ERROR_TYPES", "ErrorCosts", "ErrorTypes", "find_error_types"]

# Indices into this are the error types of single detections; "missed" is of objects.
ERROR_TYPES = ("class", "localisation", "both", "duplicate", "background", "missed")
_CLASS, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND = range(5)

# Below this overlap with every object a detection is background.
BACKGROUND_IOU = 0.1


@dataclass(frozen=True)
class ErrorCosts:
    """AP at one IoU threshold, and how much higher it were without one kind of error.

    Attributes:
        iou: the foreground IoU threshold, at which AP is taken.
        background_iou: BACKGROUND_IOU.
        ap: the protocol's class mean of AP at `iou`, a fraction; NaN without objects.
        ap_per_class: (K,) fractions; NaN for classes without objects.
        cost: (E,) AP with this kind of error put right, less `ap`; fractions, in the order of
            ERROR_TYPES. Costs do not add up to 1 - AP: errors hide each other.
        cost_per_class: (K, E) the same for the AP of each class; NaN for classes without objects.
        count: (K, E) int, errors by the class of the detection (missed: of the object).
        count_confident: (K, E) int, the same among detections of at least their class's best-F1
            threshold (missed: objects that none of these finds).
        false_positive_cost: AP without any false positive, less `ap`.
        false_negative_cost: AP if only objects that are found counted, less `ap`.
    """

    iou: float
    background_iou: float
    ap: float
    ap_per_class: np.ndarray
    cost: np.ndarray
    cost_per_class: np.ndarray
    count: np.ndarray
    count_confident: np.ndarray
    false_positive_cost: float
    false_negative_cost: float


@dataclass(frozen=True)
class ErrorTypes:
    """The kind of error of each box.

    Attributes:
        kind: (D,) int8, index into ERROR_TYPES; -1: no false positive.
        meant: (D,) int, the object that an error of class or localisation meant; else -1.
        missed: (G,) bool.
    """

    kind: np.ndarray
    meant: np.ndarray
    missed: np.ndarray


def find_error_types(
    truth: GroundTruth, found: Detections, outcome: Outcome, progress: bool = False
) -> ErrorTypes:
    """Tell what kind of error each false positive is, as the head of this module says."""
    false = np.flatnonzero(outcome.state == FALSE_POSITIVE)
    own, other = np.zeros((2, len(outcome.state)))
    own_object, other_object = np.full((2, len(outcome.state)), -1)
    for detection, target, iou in _overlapping(truth, found, false, outcome.objects, progress):
        same = found.category[detection] == truth.category[target]
        for best, whose, of_kind in ((own, own_object, same), (other, other_object, ~same)):
            # Of several on one detection the last one stays: the largest, of these the later.
            rising = np.argsort(iou[of_kind], kind="stable")
            rows = detection[of_kind][rising]
            best[rows], whose[rows] = iou[of_kind][rising], target[of_kind][rising]

    fits = {
        _LOCALISATION: (own >= BACKGROUND_IOU) & (own < outcome.iou),
        _CLASS: other >= outcome.iou,
        _DUPLICATE: own >= outcome.iou,
        _BOTH: other >= BACKGROUND_IOU,
    }
    kind = np.full(len(outcome.state), -1, dtype=np.int8)
    kind[false] = np.select(list(fits.values()), list(fits), _BACKGROUND)[false]
    meant = np.select([kind == _LOCALISATION, kind == _CLASS], [own_object, other_object], -1)
    missed = outcome.objects & (outcome.finder < 0)
    missed[meant[meant >= 0]] = False
    return ErrorTypes(kind, meant, missed)


def _overlapping(
    truth: GroundTruth, found: Detections, false: np.ndarray, objects: np.ndarray, progress: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of a false positive and an object that are no background to each other; their IoU."""
    false = false[np.argsort(found.image[false], kind="stable")]
    targets = np.flatnonzero(objects)
    targets = targets[np.argsort(truth.image[targets], kind="stable")]
    first, last = (
        np.searchsorted(truth.image[targets], found.image[false], side)
        for side in ("left", "right")
    )
    pairs = candidate_pairs(
        found.boxes[false],
        first,
        last - first,
        truth.boxes[targets],
        np.zeros(len(targets), dtype=bool),
        BACKGROUND_IOU,
    )
    for detection, target, iou in tqdm(pairs, desc="Error types", disable=not progress):
        yield false[detection], targets[target], iou
