"""Is the difference between two detectors real? A paired bootstrap over images.

The images of the benchmark are drawn again with replacement, as many as there are, and both
detectors are measured on the same draw: how much the difference varies from draw to draw tells how
much it depends on the choice of the images. Matching is done once; a draw only changes how often
each image counts.

Source: B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993: the percentile
interval.

Shapes: I images, R weightings of the images, K classes, T IoU thresholds.
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ...protocols import Metric, Protocol
from ..columns import Detections, GroundTruth
from ..matching import IGNORED, TRUE_POSITIVE, match
from ..official_rows import official_rows
from .outcome import class_index, class_rankings
from .weighted_ap import class_mean, class_weights, weighted_ap

__all__ = ["Comparison", "Difference", "compare", "compared_metrics", "weighted_metrics"]


@dataclass(frozen=True)
class Difference:
    """One metric of two detectors on the same images, in the protocol's units.

    Attributes:
        name: as in ``Protocol.metrics``.
        first: value of the first detector.
        second: value of the second.
        low: of the 95% interval of second - first.
        high: likewise.
        p_value: two-sided: twice the share of draws in which the difference is not of its sign;
            never less than 2 / (resamples + 1). Not corrected for looking at several metrics.
    """

    name: str
    first: float
    second: float
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """second - first."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """Two detectors on one ground truth.

    Attributes:
        resamples: how often the images were drawn again.
        seed: of the draws.
        differences: the headline first, then the others of ``compared_metrics``.
    """

    resamples: int
    seed: int
    differences: tuple[Difference, ...]


def compare(
    protocol: Protocol,
    truth: GroundTruth,
    first: Detections,
    second: Detections,
    *,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Compare two detectors.

    Args:
        protocol: a benchmark's.
        truth: all its annotations.
        first: all detections of one detector on its images.
        second: of another.
        resamples: draws of the images.
        seed: of the draws; equal seeds give equal numbers.
        progress: show bars.

    Raises:
        ValueError: `resamples` is less than 1; the protocol needs image sizes that are unknown.
    """
    if resamples < 1:
        raise ValueError(f"found {resamples} resamples, expected at least 1")
    images = len(truth.image_ids)
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
    # The first weighting is the benchmark itself.
    weights = np.concatenate((np.ones((1, images), dtype=np.int64), drawn)).T.astype(np.int32)
    values = [weighted_metrics(protocol, truth, x, weights, progress) for x in (first, second)]
    scale = 100 if protocol.percent else 1
    differences = [
        _difference(metric.name, scale * values[0][k], scale * values[1][k])
        for k, metric in enumerate(compared_metrics(protocol))
    ]
    return Comparison(resamples, seed, tuple(differences))


def compared_metrics(protocol: Protocol) -> list[Metric]:
    """The metrics that can be compared, the headline first: AP at the last detection limit."""
    metrics = [
        metric
        for metric in protocol.metrics
        if metric.kind == "AP"
        and metric.max_dets == protocol.max_dets[-1]
        and _threshold_indices(protocol, metric)
    ]
    return sorted(metrics, key=lambda metric: metric.name != protocol.headline)


def _threshold_indices(protocol: Protocol, metric: Metric) -> list[int]:
    """Indices of the IoU thresholds that a metric averages; none where the protocol lacks it."""
    return [
        index
        for index, iou in enumerate(protocol.iou_thresholds)
        if metric.iou is None or abs(iou - metric.iou) < 1e-6
    ]


def _difference(name: str, first: np.ndarray, second: np.ndarray) -> Difference:
    """From (1 + R,) values: of all images, and of the draws (NaN: without objects)."""
    difference = (second - first)[1:]
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return Difference(name, float(first[0]), float(second[0]), np.nan, np.nan, np.nan)
    low, high = np.quantile(difference, (0.025, 0.975))
    less = min(np.sum(difference <= 0), np.sum(difference >= 0))
    p_value = min(1.0, 2 * (less + 1) / (len(difference) + 1))
    return Difference(
        name, float(first[0]), float(second[0]), float(low), float(high), float(p_value)
    )


def weighted_metrics(
    protocol: Protocol,
    truth: GroundTruth,
    found: Detections,
    weights: np.ndarray,
    progress: bool = False,
) -> np.ndarray:
    """The compared metrics as if each image were there as often as its weight says.

    Args:
        protocol: a benchmark's.
        truth: all its annotations.
        found: all detections.
        weights: (I, R) int32, not negative.
        progress: show bars.

    Returns:
        (compared metrics, R) fractions; NaN without objects.
    """
    truth, found = official_rows(protocol, truth, found)
    matches = match(protocol, truth, found, progress=progress)
    rankings = class_rankings(truth, found, matches)
    image = found.image[matches.order]
    metrics = [
        (_size_index(protocol, metric), _threshold_indices(protocol, metric))
        for metric in compared_metrics(protocol)
    ]
    parts = sorted({(size, at) for size, thresholds in metrics for at in thresholds})
    sizes = sorted({size for size, _ in parts})
    objects = {size: _objects(truth, matches.counted[size]) @ weights for size in sizes}
    ap = {}
    for size, at in tqdm(parts, desc="Resampling", disable=not progress):
        state = matches.state[size, at]
        judged = [ranking[state[ranking] != IGNORED] for ranking in rankings]
        ap[size, at] = np.stack(
            [
                weighted_ap(
                    state[rows] == TRUE_POSITIVE,
                    image[rows],
                    objects[size][k],
                    weights,
                    protocol.interpolation,
                )
                for k, rows in enumerate(judged)
            ]
        )
    values = []
    for size, thresholds in metrics:
        mean = np.mean([ap[size, at] for at in thresholds], axis=0)
        of_class = class_weights(protocol, truth, matches.counted[size], weights)
        values.append(class_mean(mean, of_class))
    return np.array(values).reshape(-1, weights.shape[1])


def _size_index(protocol: Protocol, metric: Metric) -> int:
    return [size.name for size in protocol.size_ranges].index(metric.size)


def _objects(truth: GroundTruth, counted: np.ndarray) -> np.ndarray:
    """(K, I) number of counted objects of each class in each image."""
    objects = np.zeros((len(truth.classes), len(truth.image_ids)), dtype=np.int64)
    index = class_index(truth, truth.category)
    np.add.at(objects, (index[counted], truth.image[counted]), 1)
    return objects
