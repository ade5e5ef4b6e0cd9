"""Recall against the size of the object, finer than a protocol's size ranges.

Shapes: B bins of sqrt(area), in pixels of the original image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import GroundTruth
from .outcome import Outcome

__all__ = ["SIZE_EDGES", "SizeRecall", "recall_by_size", "wilson_interval"]

# Half a standard normal distribution's 95% are on each side.
_NORMAL_QUANTILE = 1.959963984540054

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


def recall_by_size(
    truth: GroundTruth,
    outcome: Outcome,
    confident: np.ndarray,
    edges: Sequence[float] = SIZE_EDGES,
) -> SizeRecall:
    """Count the objects of each size, and those of them that are found.

    Args:
        truth: its areas give the sizes.
        outcome: of its objects.
        confident: (D,) bool, detections of at least their class's threshold.
        edges: ascending, in pixels; sizes outside are in no bin.
    """
    size = np.sqrt(truth.area)
    groups = (outcome.objects, outcome.finder >= 0, outcome.found_by(confident))
    objects, found, found_confident = (np.histogram(size[rows], edges)[0] for rows in groups)
    return SizeRecall(
        iou=outcome.iou,
        edges=np.asarray(edges, dtype=np.float64),
        objects=objects,
        found=found,
        found_confident=found_confident,
        interval=wilson_interval(found, objects),
        interval_confident=wilson_interval(found_confident, objects),
    )


def wilson_interval(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """95% interval of the share `part` / `whole`: (B,) and (B,) int -> (B, 2); NaN for 0 / 0.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    1927: the shares that a sample such as this one does not contradict. Unlike the usual
    interval it stays within 0 and 1 and has a width where nothing or everything was found.
    """
    share, z2 = _share(part, whole), _NORMAL_QUANTILE**2
    total = np.maximum(whole, 1)
    middle = share + z2 / (2 * total)
    half = _NORMAL_QUANTILE * np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    bounds = np.stack((middle - half, middle + half), axis=1) / (1 + z2 / total)[:, None]
    return np.clip(bounds, 0, 1)
