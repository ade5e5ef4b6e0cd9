"""What became of each box at one IoU threshold: the ground on which detections are analysed.

Shapes: G ground-truth boxes, D detections, K evaluated classes in the order of
``GroundTruth.classes``.
"""

from dataclasses import dataclass

import numpy as np

from ...protocols import Protocol
from ..columns import Detections, GroundTruth
from ..matching import IGNORED, TRUE_POSITIVE, Matches

__all__ = ["CUT", "Outcome", "class_index", "class_rankings"]

# A fourth state beside those of the matching.
CUT = -1


def class_index(truth: GroundTruth, category: np.ndarray) -> np.ndarray:
    """Category ids -> int of the same shape, index into the classes; -1: not evaluated."""
    index = {category_id: k for k, category_id in enumerate(truth.classes)}
    values, inverse = np.unique(category, return_inverse=True)
    known = np.array([index.get(value, -1) for value in values.tolist()], dtype=np.int64)
    return known[inverse]


def class_rankings(truth: GroundTruth, found: Detections, matches: Matches) -> list[np.ndarray]:
    """Of each class, the positions in ``matches.order`` by descending score; of equal scores the
    first stays first."""
    category, scores = found.category[matches.order], found.scores[matches.order]
    of_class = [np.flatnonzero(category == category_id) for category_id in truth.classes]
    return [rows[np.argsort(-scores[rows], kind="stable")] for rows in of_class]


@dataclass(frozen=True)
class Outcome:
    """Detections and objects after matching, in a protocol's first size range.

    Attributes:
        iou: the IoU threshold.
        rankings: K arrays of indices into the detections, by descending score; ignored detections
            are in, cut ones are not.
        state: (D,) int8: FALSE_POSITIVE, TRUE_POSITIVE, IGNORED, or CUT: over the detection limit,
            or of a category that is not evaluated.
        counted: (G,) bool: in the denominator of recall.
        objects: (G,) bool: can be found; not the ignored boxes that some protocols count.
        target: (D,) int, the object that a true positive finds; -1 for all others.
        finder: (G,) int, the detection that finds the object; -1 if none does.
    """

    iou: float
    rankings: tuple[np.ndarray, ...]
    state: np.ndarray
    counted: np.ndarray
    objects: np.ndarray
    target: np.ndarray
    finder: np.ndarray

    @classmethod
    def of(
        cls,
        protocol: Protocol,
        truth: GroundTruth,
        found: Detections,
        matches: Matches,
        at_threshold: int,
    ) -> "Outcome":
        """In the first size range, at the IoU threshold of that index."""
        state = np.full(len(found.image), CUT, dtype=np.int8)
        state[matches.order] = matches.state[0, at_threshold]
        target = np.full(len(found.image), -1)
        target[matches.order] = matches.matched[0, at_threshold]
        target[state != TRUE_POSITIVE] = -1
        finder = np.full(len(truth.image), -1)
        hits = np.flatnonzero(state == TRUE_POSITIVE)
        finder[target[hits]] = hits
        counted = matches.counted[0]
        return cls(
            iou=protocol.iou_thresholds[at_threshold],
            rankings=tuple(matches.order[r] for r in class_rankings(truth, found, matches)),
            state=state,
            counted=counted,
            objects=counted & ~_never_found(protocol, truth),
            target=target,
            finder=finder,
        )

    def found_by(self, detections: np.ndarray) -> np.ndarray:
        """(G,) bool, the objects that true positives among these detections ((D,) bool) find."""
        is_found = np.zeros(len(self.objects), dtype=bool)
        is_found[self.target[detections & (self.state == TRUE_POSITIVE)]] = True
        return is_found

    def among(self, truth_kept: np.ndarray, found_kept: np.ndarray) -> "Outcome":
        """The same among all boxes, of which the masks kept those that were matched; the removed
        ones are ignored."""
        truth_rows, found_rows = np.flatnonzero(truth_kept), np.flatnonzero(found_kept)
        state = np.full(len(found_kept), IGNORED, dtype=np.int8)
        state[found_rows] = self.state
        counted, objects = np.zeros((2, len(truth_kept)), dtype=bool)
        counted[truth_rows], objects[truth_rows] = self.counted, self.objects
        target, finder = np.full(len(found_kept), -1), np.full(len(truth_kept), -1)
        hits = self.target >= 0
        target[found_rows[hits]] = truth_rows[self.target[hits]]
        hits = self.finder >= 0
        finder[truth_rows[hits]] = found_rows[self.finder[hits]]
        rankings = tuple(found_rows[r] for r in self.rankings)
        return Outcome(self.iou, rankings, state, counted, objects, target, finder)


def _never_found(protocol: Protocol, truth: GroundTruth) -> np.ndarray:
    """(G,) bool, ignored boxes that recall counts all the same."""
    if not protocol.ignored_in_recall:
        return np.zeros(len(truth.image), dtype=bool)
    if protocol.ignore == "regions":
        return truth.ignore
    return (
        truth.crowd if protocol.ignore == "crowd" else truth.crowd | truth.ignore | truth.uncertain
    )
