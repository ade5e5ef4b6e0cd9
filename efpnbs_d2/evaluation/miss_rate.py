"""TinyPerson's miss rates: the share of objects not found, at few false positives per image.

Shapes: G ground-truth boxes, D detections, P pairs of them that intersect, M detections of a size,
K classes, F numbers of false positives per image (FPPI).
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..protocols import MissRate, Protocol, SizeRange
from .columns import Detections, GroundTruth
from .matching import TRUE_POSITIVE, match
from .overlaps import candidate_pairs
from .ranking import group_numbers, limited_by_rank

__all__ = ["miss_rates", "recalls_at_fppi"]

_SIMILAR = 0.5


def miss_rates(
    protocol: Protocol, truth: GroundTruth, found: Detections, *, wrap: bool = True
) -> dict[str, float]:
    """Log-average miss rates of all size ranges and IoU thresholds.

    Args:
        protocol: one with a miss rate.
        truth: all its images count in FPPI, empty ones too.
        found: detections on them.
        wrap: see :func:`recalls_at_fppi`.

    Returns:
        "MR<100 IoU>_<range>" -> geometric mean of 1 - recall over classes and FPPI, in [0, 1]: 0
        as soon as one recall is 1; -1 where no class has objects.

    Raises:
        ValueError: the protocol has no miss rate.
    """
    recalls = recalls_at_fppi(protocol, truth, found, wrap=wrap)
    return {name: _log_average(recall[recall >= 0]) for name, recall in recalls.items()}


def _log_average(recall: np.ndarray) -> float:
    if not recall.size:
        return -1.0
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(1 - recall).mean()))


def recalls_at_fppi(
    protocol: Protocol, truth: GroundTruth, found: Detections, *, wrap: bool = True
) -> dict[str, np.ndarray]:
    """What :func:`miss_rates` averages.

    Args:
        protocol: one with a miss rate.
        truth: all its images count in FPPI, empty ones too.
        found: detections on them.
        wrap: where the very first detection is a false positive too many, take the recall of all
            detections, as the official code does by reading index -1; False takes 0. It matters
            only with fewer than 1 / FPPI images: 100 for TinyPerson.

    Returns:
        "MR<100 IoU>_<range>" -> (K, F) recall, -1 for classes without objects of that size.

    Raises:
        ValueError: the protocol has no miss rate.

    Source: TinyBenchmark, commit 36436df, eval_MR_multisetup.py, where a match with annotation id
    0 counts as none.
    """
    rule = protocol.miss_rate
    if rule is None:
        raise ValueError(f"protocol {protocol.name!r} has no miss rate; choose one that has")
    classes = np.array(list(truth.classes), dtype=np.int64)
    best, *_ = limited_by_rank(replace(protocol, limit="class"), classes, found, rule.max_dets)
    found = found.select(best)
    pairs = _intersecting(truth, found, classes)
    recalls = {}
    for size in rule.sides:
        ranking = _rank(protocol, rule, size, truth, found, pairs)
        recall = np.full((len(rule.iou_thresholds), len(classes), len(rule.fppi)), -1.0)
        for k, category in enumerate(classes):
            objects = int((ranking.objects == category).sum())
            among = ranking.category == category
            for row, is_true, is_false in zip(recall[:, k], ranking.is_true, ranking.is_false):
                if objects:
                    per_image = is_false[among].cumsum() / len(truth.image_ids)
                    row[:] = _read(is_true[among].cumsum() / objects, per_image, rule.fppi, wrap)
        for iou, of_iou in zip(rule.iou_thresholds, recall):
            recalls[f"MR{100 * iou:.0f}_{size.name}"] = of_iou
    return recalls


def _read(
    recall: np.ndarray, fppi: np.ndarray, points: tuple[float, ...], wrap: bool
) -> np.ndarray | float:
    if not recall.size:
        return 0.0
    index = np.searchsorted(fppi, points, side="right") - 1
    # NumPy, too, reads the last element at -1.
    return recall[index] if wrap else np.where(index < 0, 0, recall[index])


class _Pairs(NamedTuple):
    """Detections, and the boxes of their image and class that they intersect.

    Attributes:
        found: (P,) index into the detections.
        truth: (P,) index into the ground truth.
        share: (P,) intersection over detection.
        is_similar: (P,) bool: if the box is ignored, so is the detection, at any threshold.
    """

    found: np.ndarray
    truth: np.ndarray
    share: np.ndarray
    is_similar: np.ndarray


def _intersecting(truth: GroundTruth, found: Detections, classes: np.ndarray) -> _Pairs:
    """All pairs of boxes that intersect.

    Source: TinyBenchmark computes the intersection over detection of ignored boxes twice, from an
    overlap that is that already: far smaller intersections count where the box is larger.
    """
    rows = np.flatnonzero(np.isin(truth.category, classes))
    group = group_numbers(classes, truth.image[rows], truth.category[rows])
    by_group = np.argsort(group, kind="stable")
    rows, group = rows[by_group], group[by_group]
    of_found = group_numbers(classes, found.image, found.category)
    first = np.searchsorted(group, of_found, side="left")
    count = np.searchsorted(group, of_found, side="right") - first
    over_detection = np.ones(len(rows), dtype=bool)
    boxes = truth.boxes[rows]
    parts = candidate_pairs(found.boxes, first, count, boxes, over_detection, least=0.0)
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    detection, target, share = (np.concatenate(part) for part in zip(empty, *parts))
    ratio = truth.area[rows[target]] / found.boxes[detection, 2:].prod(axis=1)
    is_similar = share / (1 + share) * (1 + ratio) > _SIMILAR
    return _Pairs(detection, rows[target], share, is_similar)


class _Ranking(NamedTuple):
    """The detections of a size by descending score, over all images.

    Attributes:
        category: (M,) int.
        is_true: (T, M) bool.
        is_false: (T, M) bool; a detection may be neither.
        objects: categories of the objects that there are to find.
    """

    category: np.ndarray
    is_true: np.ndarray
    is_false: np.ndarray
    objects: np.ndarray


def _rank(
    protocol: Protocol,
    rule: MissRate,
    size: SizeRange,
    truth: GroundTruth,
    found: Detections,
    pairs: _Pairs,
) -> _Ranking:
    is_ignored = (truth.side < size.low) | (truth.side > size.high) | truth.ignore | truth.uncertain
    side = np.sqrt(found.boxes[:, 2] * found.boxes[:, 3])
    is_near = (side >= size.low / rule.tolerance) & (side < size.high * rule.tolerance)
    rows = np.flatnonzero(is_near)

    # What is ignored is no object to match: only what matches none is held against it.
    objects = truth.select(~is_ignored)
    objects = replace(objects, crowd=np.zeros_like(objects.crowd))
    matching = replace(
        protocol,
        iou_thresholds=rule.iou_thresholds,
        size_ranges=(SizeRange("any", -math.inf, math.inf),),
        ignore="crowd",
        metrics=(),
    )
    matches = match(matching, objects, found.select(rows), rule.max_dets)
    # By image before, so that equal scores stay in the images' order.
    by_score = np.argsort(-found.scores[rows[matches.order]], kind="stable")
    rows = rows[matches.order[by_score]]
    is_true = matches.state[0][:, by_score] == TRUE_POSITIVE
    is_matched = matches.matched[0][:, by_score] >= 0

    of_ignored = is_ignored[pairs.truth]
    is_inside = np.zeros((len(rule.iou_thresholds), len(found.scores)), dtype=bool)
    for inside, iou in zip(is_inside, rule.iou_thresholds):
        inside[pairs.found[of_ignored & (pairs.is_similar | (pairs.share >= iou))]] = True
    is_false = ~is_true & (is_matched | ~is_inside[:, rows])
    return _Ranking(found.category[rows], is_true, is_false, objects.category)
