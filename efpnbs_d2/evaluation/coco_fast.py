"""Precision, recall and oLRP of COCO's family of protocols, by faster-coco-eval.

The library holds some 1 kB per detection, and all overlaps of the detections and objects of an
image. So it gets one class at a time, and detections that overlap no object enough for a match on
images of their own, which have no objects. That changes no number: detections come numbered by
their place in the ranking instead of scored, and cut by the detection limit.

Shapes: T IoU thresholds, R recalls, K classes (ascending category id), A size ranges, L detection
limits; D detections and G objects of one class.
"""

import warnings
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from tqdm import tqdm

from ..protocols import Protocol, SizeRange
from .accumulation import LRP_PARTS, Curves
from .columns import Detections, GroundTruth
from .lrp import optimal_lrp
from .matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE
from .overlaps import candidate_pairs

__all__ = ["fast_curves", "fits"]

# The library's overlaps may differ from ours in the last bit.
_SAFE = 1 - 1e-9
# Detections without a chance share images, at least so many to one.
_CROWD = 1000


def fits(protocol: Protocol) -> bool:
    """Whether a protocol counts as the library does."""
    return (
        protocol.ignore == "crowd"
        and protocol.limit == "class"
        and not protocol.ignored_in_recall
        and protocol.interpolation == "101 points"
        and protocol.class_mean == "plain"
    )


def fast_curves(
    protocol: Protocol, truth: GroundTruth, found: Detections, progress: bool = False
) -> Curves:
    """What `accumulation.compute_curves` gives, for a protocol that `fits`.

    oLRP is computed where one of the protocol's metrics needs it, and NaN elsewhere.

    Args:
        protocol: what to measure.
        truth: as the official code sees it (`official_rows`).
        found: likewise.
        progress: show a bar.
    """
    assert fits(protocol)
    classes = tqdm(sorted(truth.classes), desc="Classes", disable=not progress)
    parts = [_class_curves(protocol, _class_data(protocol, truth, found, c)) for c in classes]
    precision, recall, lrp = (np.stack(part, axis=-3) for part in zip(*parts, strict=True))
    return Curves(
        average_precision=precision.mean(axis=1),
        recall=recall,
        precision=precision,
        lrp=lrp if _lrp_places(protocol) else None,
    )


@dataclass(frozen=True)
class _ClassData:
    """One class; detections by image and descending score, ground truth by image.

    Attributes:
        truth_image: (G,) int.
        truth_boxes: (G, 4) xywh.
        truth_area: (G,) the file's.
        crowd: (G,) bool.
        truth_id: (G,) int, from 1; 0 where the file has 0, which stands for "no match".
        image: (D,) int.
        boxes: (D, 4) xywh.
        area: (D,).
        scores: (D,).
        rank: (D,) int, place in the image.
        place: (D,) int, place among the detections of all images.
        has_chance: (D,) bool, overlaps an object by the lowest threshold, or nearly so.
    """

    truth_image: np.ndarray
    truth_boxes: np.ndarray
    truth_area: np.ndarray
    crowd: np.ndarray
    truth_id: np.ndarray
    image: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    scores: np.ndarray
    rank: np.ndarray
    place: np.ndarray
    has_chance: np.ndarray


def _class_data(
    protocol: Protocol, truth: GroundTruth, found: Detections, category: int
) -> _ClassData:
    rows = np.flatnonzero(truth.category == category)
    rows = rows[np.argsort(truth.image[rows], kind="stable")]
    numbers = np.where(truth.annotation_id[rows] == 0, 0, np.arange(1, len(rows) + 1))
    dets = np.flatnonzero(found.category == category)
    dets = dets[np.lexsort((-found.scores[dets], found.image[dets]))]
    image = found.image[dets]
    rank = np.arange(len(dets)) - np.searchsorted(image, image)
    dets, rank = dets[rank < protocol.max_dets[-1]], rank[rank < protocol.max_dets[-1]]
    image, boxes, scores = found.image[dets], found.boxes[dets], found.scores[dets]
    place = np.empty(len(dets), np.int64)
    place[np.argsort(-scores, kind="stable")] = np.arange(len(dets))

    first = np.searchsorted(truth.image[rows], image)
    count = np.searchsorted(truth.image[rows], image, side="right") - first
    least = protocol.iou_thresholds[0] * _SAFE
    has_chance = np.zeros(len(dets), dtype=bool)
    for with_chance, _, _ in candidate_pairs(
        boxes, first, count, truth.boxes[rows], truth.crowd[rows], least
    ):
        has_chance[with_chance] = True
    return _ClassData(
        truth_image=truth.image[rows],
        truth_boxes=truth.boxes[rows],
        truth_area=truth.area[rows],
        crowd=truth.crowd[rows],
        truth_id=numbers,
        image=image,
        boxes=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        scores=scores,
        rank=rank,
        place=place,
        has_chance=has_chance,
    )


def _class_curves(
    protocol: Protocol, data: _ClassData
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (T, R, A, L), recall (T, A, L) and oLRP's parts (5, A, L) of a class."""
    sizes, limits = len(protocol.size_ranges), len(protocol.max_dets)
    precision, recall = [], []
    for limit in protocol.max_dets:
        within = data.rank < limit
        result = _evaluate(data, within, protocol.iou_thresholds, protocol.size_ranges)
        precision.append(result["precision"][:, :, 0, :, 0])
        recall.append(result["recall"][:, 0, :, 0])
    lrp = np.full((len(LRP_PARTS), sizes, limits), np.nan)
    for size, limit in _lrp_places(protocol):
        lrp[:, size, limit] = _lrp(protocol, data, size, limit)
    return np.stack(precision, axis=-1), np.stack(recall, axis=-1), lrp


def _evaluate(
    data: _ClassData,
    detections: np.ndarray,
    iou_thresholds: tuple[float, ...],
    size_ranges: tuple[SizeRange, ...],
) -> dict[str, Any]:
    """What the library finds for some of the detections, a (D,) mask, cut no further."""
    truth = list(_truth_records(data))
    found = list(_found_records(data, detections))
    images = [{"id": i} for i in sorted({record["image_id"] for record in (*truth, *found)})]
    rest: dict[str, Any] = {"images": images, "categories": [{"id": 1, "name": "the class"}]}
    with warnings.catch_warnings():
        # That a match with id 0 counts as none is what we want here.
        warnings.filterwarnings("ignore", message="Found annotation id 0")
        sets = [COCO({**rest, "annotations": records}) for records in (truth, found)]
    evaluator = COCOeval_faster(*sets, "bbox")
    evaluator.params.iouThrs = np.array(iou_thresholds)
    evaluator.params.maxDets = [max(_CROWD, 1 + int(data.rank.max(initial=0)))]
    evaluator.params.areaRng = [[size.low, size.high] for size in size_ranges]
    evaluator.params.areaRngLbl = [size.name for size in size_ranges]
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval


def _truth_records(data: _ClassData) -> Iterator[dict[str, Any]]:
    columns = (data.truth_id, data.truth_image, data.truth_boxes, data.truth_area, data.crowd)
    for number, image, box, area, crowd in zip(*(c.tolist() for c in columns), strict=True):
        yield {"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": area} | {
            "iscrowd": int(crowd)
        }


def _found_records(data: _ClassData, detections: np.ndarray) -> Iterator[dict[str, Any]]:
    """Ids are places from 1."""
    some = np.flatnonzero(detections & data.has_chance)
    columns = (data.place, data.image, data.area, data.boxes)
    for place, image, area, box in zip(*(c[some].tolist() for c in columns), strict=True):
        yield _found_record(place, image, area) | {"bbox": box}
    some = np.flatnonzero(detections & ~data.has_chance)
    images = 1 + int(data.truth_image.max(initial=0)) + np.arange(len(some)) // _CROWD
    others = (data.place[some].tolist(), images.tolist(), data.area[some].tolist())
    for place, image, area in zip(*others, strict=True):
        yield _found_record(place, image, area)


def _found_record(place: int, image: int, area: float) -> dict[str, Any]:
    return {"id": place + 1, "image_id": image, "category_id": 1, "area": area, "score": -place}


def _lrp_places(protocol: Protocol) -> set[tuple[int, int]]:
    """Indices of the size range and the limit for which metrics need oLRP."""
    sizes = [size.name for size in protocol.size_ranges]
    return {
        (sizes.index(metric.size), protocol.max_dets.index(metric.max_dets))
        for metric in protocol.metrics
        if metric.kind in LRP_PARTS
    }


def _lrp(protocol: Protocol, data: _ClassData, size: int, limit: int) -> tuple[float, ...]:
    """The five parts of oLRP, from the matches at the first threshold."""
    within = data.rank < protocol.max_dets[limit]
    area_range, threshold = protocol.size_ranges[size], protocol.iou_thresholds[0]
    result = _evaluate(data, within & data.has_chance, (threshold,), (area_range,))
    state = np.where(_outside(area_range, data.area), IGNORED, FALSE_POSITIVE)
    overlap = np.zeros(len(state))
    by_place = np.argsort(data.place)
    ignored = data.crowd | _outside(area_range, data.truth_area)
    row_of_id = {number: row for row, number in enumerate(data.truth_id.tolist())}
    # Keys are "detection_object".
    for pair, value in result["matched"].items():
        detection, number = map(int, pair.split("_"))
        row, target = by_place[detection - 1], row_of_id[number]
        if ignored[target]:
            state[row] = IGNORED
        elif number != 0:
            state[row], overlap[row] = TRUE_POSITIVE, value
    ranking = by_place[within[by_place]]
    objects = np.count_nonzero(~ignored)
    return astuple(
        optimal_lrp(state[ranking], overlap[ranking], data.scores[ranking], objects, threshold)
    )


def _outside(size: SizeRange, area: np.ndarray) -> np.ndarray:
    return (area < size.low) | (area > size.high)
