"""Recall against the size of the object, finer than a protocol's size ranges.

Shapes: B bins of sqrt(area), in pixels of the original image.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["SIZE_EDGES", "SizeRecall"]

# Two bins per octave, rounded to whole pixels.
SIZE_EDGES = (0, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, float("inf"))


@dataclass(frozen=True)
class SizeRecall:
    """Which share of the objects of each size is found, all classes together.

    Attributes:
        iou: the IoU threshold.
        edges: (B + 1,) pixels, the last may be infinite; a size on an edge is in the upper bin.
        objects: (B,) int.
        found: (B,) int, found by a detection of any score.
        found_confident: (B,) int, by one of at least its class's best-F1 threshold.
        interval: (B, 2) 95% Wilson interval of found / objects; NaN in an empty bin.
        interval_confident: (B, 2) the same of found_confident / objects.
    """

    iou: float
    edges: np.ndarray
    objects: np.ndarray
    found: np.ndarray
    found_confident: np.ndarray
    interval: np.ndarray
    interval_confident: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """(B,) fractions, NaN in an empty bin."""
        return _share(self.found, self.objects)

    @property
    def recall_confident(self) -> np.ndarray:
        """(B,) fractions, NaN in an empty bin."""
        return _share(self.found_confident, self.objects)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
