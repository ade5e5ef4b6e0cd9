"""What kind of error costs how much AP.

Shapes: K evaluated classes in the order of ``GroundTruth.classes``, E = 6 kinds of error.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["ERROR_TYPES", "ErrorCosts"]

# Indices into this are the error types of single detections; "missed" is of objects.
ERROR_TYPES = ("class", "localisation", "both", "duplicate", "background", "missed")


@dataclass(frozen=True)
class ErrorCosts:
    """AP at one IoU threshold, and how much higher it were without one kind of error.

    Attributes:
        iou: the foreground IoU threshold, at which AP is taken.
        background_iou: below this overlap with every object a detection is background.
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
