"""Which detections find which objects, as a protocol decides it.

Shapes: M detections that the limits left, A size ranges, T IoU thresholds, G ground-truth boxes;
C of the M detections have P candidates, objects that they overlap enough.
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..protocols import Protocol
from .columns import Detections, GroundTruth
from .overlaps import candidate_pairs
from .ranking import group_numbers, limited_by_rank, run_positions

__all__ = ["FALSE_POSITIVE", "IGNORED", "TRUE_POSITIVE", "Matches", "match"]

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2
# An overlap of 1 that was rounded down still matches at threshold 1.
_HIGHEST_THRESHOLD = 1 - 1e-10


@dataclass(frozen=True)
class Matches:
    """What became of the detections.

    Attributes:
        order: (M,) int, indices into the detections, sorted by image, category and descending
            score; equal scores in file order.
        rank: (M,) int, from 0, of a detection among those of its image and category.
        state: (A, T, M) int8, FALSE_POSITIVE, TRUE_POSITIVE or IGNORED.
        matched: (A, T, M) int32, index of the matched object, or -1. A false positive has one
            where the object's annotation id is 0.
        overlap: (A, T, M) float64, of the detection and the matched object; 0 without one.
        counted: (A, G) bool, objects of the range that recall counts.
    """

    order: np.ndarray
    rank: np.ndarray
    state: np.ndarray
    matched: np.ndarray
    overlap: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class _Objects:
    """Evaluated ground-truth boxes (G here), sorted by image and category, then in file order.

    Attributes:
        rows: (G,) indices into the ground truth.
        group: (G,) number of the image and category.
        boxes: (G, 4) xywh.
        area: (G,) float64, the file's.
        absorbs: (G,) bool, ignored and matched by any number of detections.
        ignored: (G, A) bool.
        has_id: (G,) bool; the official code takes a match with annotation id 0 for none.
    """

    rows: np.ndarray
    group: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    absorbs: np.ndarray
    ignored: np.ndarray
    has_id: np.ndarray


@dataclass(frozen=True)
class _Candidates:
    """The P pairs that may match; all of a detection lie together, the best first.

    Attributes:
        detection: (P,) index into the M detections.
        target: (P,) index into the sorted objects.
        overlap: (P,) float64.
        first: (C,) the first pair of each detection that has any.
        turn: (C,) how many detections of the same image and category come before it.
    """

    detection: np.ndarray
    target: np.ndarray
    overlap: np.ndarray
    first: np.ndarray
    turn: np.ndarray


def match(
    protocol: Protocol,
    truth: GroundTruth,
    found: Detections,
    max_dets: int | None = None,
    progress: bool = False,
) -> Matches:
    """Match detections to objects, best score first, at every threshold and in every size range.

    Each detection takes the object of its image and class that it overlaps most, of those that are
    free and that it overlaps by the threshold or more (the later object where overlaps are equal);
    ignored objects only where there is no other.

    Args:
        protocol: its ignore rule, size ranges and thresholds; of its limits only `max_dets`.
        truth: as the official code sees it (`official_rows`).
        found: likewise.
        max_dets: detection limit; the protocol's largest by default.
        progress: show a bar.

    Source: pycocotools; for "flags" TinyBenchmark, commit 36436df; for "regions"
    VisDrone2018-DET-toolkit v1.0.4.
    """
    classes = np.array(sorted(truth.classes))
    order, group, rank = limited_by_rank(
        protocol, classes, found, max_dets or protocol.max_dets[-1]
    )
    objects = _sorted_objects(protocol, classes, truth)
    thresholds = np.minimum(protocol.iou_thresholds, _HIGHEST_THRESHOLD)
    boxes = found.boxes[order]
    area = boxes[:, 2] * boxes[:, 3]
    # TinyPerson ignores detections by a formula that pairs of any overlap enter.
    least = 0.0 if protocol.ignore == "flags" else thresholds[0]
    candidates = _find_candidates(boxes, group, objects, least, progress)
    taken = _take(candidates, objects, thresholds, progress)

    state, matched, overlap = _outcome(protocol, candidates, taken, objects, area)
    if protocol.ignore == "flags":
        _ignore_by_region(state, matched, candidates, objects, area, thresholds)
    return Matches(order, rank, state, matched, overlap, _counted(protocol, truth, objects))


def _outcome(
    protocol: Protocol,
    candidates: _Candidates,
    taken: np.ndarray,
    objects: _Objects,
    area: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State, matched and overlap of the M detections of `area`."""
    outside = _outside(protocol, area)
    unmatched = np.where(outside, IGNORED, FALSE_POSITIVE).astype(np.int8)
    state = np.repeat(unmatched[:, None], taken.shape[1], axis=1)
    matched = np.full(state.shape, -1, np.int32)
    overlap = np.zeros(state.shape)
    rows = candidates.detection[candidates.first]
    for size, at in np.ndindex(state.shape[:2]):
        pair = taken[size, at]
        hit = np.flatnonzero(pair >= 0)
        pair, detection = pair[hit], rows[hit]
        target = candidates.target[pair]
        found = np.where(objects.has_id[target], TRUE_POSITIVE, unmatched[size, detection])
        state[size, at, detection] = np.where(objects.ignored[target, size], IGNORED, found)
        matched[size, at, detection] = objects.rows[target]
        overlap[size, at, detection] = candidates.overlap[pair]
    return state, matched, overlap


def _sorted_objects(protocol: Protocol, classes: np.ndarray, truth: GroundTruth) -> _Objects:
    rows = np.flatnonzero(np.isin(truth.category, classes))
    group = group_numbers(classes, truth.image[rows], truth.category[rows])
    by_group = np.argsort(group, kind="stable")
    rows, group = rows[by_group], group[by_group]
    if protocol.ignore == "regions":
        absorbs = flagged = truth.ignore[rows]
        has_id = np.ones(len(rows), dtype=bool)
    else:
        absorbs = flagged = truth.crowd[rows]
        has_id = truth.annotation_id[rows] != 0
    if protocol.ignore == "flags":
        flagged = flagged | truth.ignore[rows] | truth.uncertain[rows]
    area = truth.area[rows]
    ignored = flagged[:, None] | _outside(protocol, area).T
    return _Objects(rows, group, truth.boxes[rows], area, absorbs, ignored, has_id)


def _outside(protocol: Protocol, area: np.ndarray) -> np.ndarray:
    """(A, ...) which areas are outside each size range."""
    return np.array([(area < size.low) | (area > size.high) for size in protocol.size_ranges])


def _counted(protocol: Protocol, truth: GroundTruth, objects: _Objects) -> np.ndarray:
    ignored = objects.ignored
    if protocol.ignored_in_recall:
        ignored = _outside(protocol, objects.area).T
    counted = np.zeros((len(protocol.size_ranges), len(truth.image)), dtype=bool)
    counted[:, objects.rows] = ~ignored.T
    return counted


def _find_candidates(
    boxes: np.ndarray, group: np.ndarray, objects: _Objects, least: float, progress: bool
) -> _Candidates:
    first = np.searchsorted(objects.group, group, side="left")
    count = np.searchsorted(objects.group, group, side="right") - first
    pairs = candidate_pairs(boxes, first, count, objects.boxes, objects.absorbs, least)
    pairs = tqdm(pairs, desc="Overlaps", disable=not progress)
    empty = (np.empty(0, int), np.empty(0, int), np.empty(0))
    detection, target, overlap = (np.concatenate(parts) for parts in zip(empty, *pairs))
    best_first = np.lexsort((-target, -overlap, detection))
    detection, target, overlap = detection[best_first], target[best_first], overlap[best_first]
    first = np.flatnonzero(run_positions(detection) == 0)
    return _Candidates(detection, target, overlap, first, run_positions(group[detection[first]]))


def _take(
    candidates: _Candidates, objects: _Objects, thresholds: np.ndarray, progress: bool
) -> np.ndarray:
    """(A, T, C) int32, the pair by which each detection with candidates is matched, or -1.

    In turn k, the k-th detections of all images and classes choose at once.
    """
    pairs, sizes = len(candidates.detection), objects.ignored.shape[1]
    shape = (len(candidates.first), sizes, len(thresholds))
    taken = np.full(shape, -1, np.int32)
    is_used = np.zeros((len(objects.rows), *shape[1:]), dtype=bool)
    length = np.diff(candidates.first, append=pairs)
    by_turn = np.argsort(candidates.turn, kind="stable")
    borders = np.cumsum(np.bincount(candidates.turn)) if pairs else []
    turns = np.split(by_turn, borders)[:-1] if pairs else []
    for detections in tqdm(turns, desc="Matching", disable=not progress, leave=False):
        size = length[detections]
        starts = np.cumsum(size) - size
        pair = np.arange(size.sum()) + np.repeat(candidates.first[detections] - starts, size)
        target = candidates.target[pair]
        ignored = objects.ignored[target]
        is_open = ~is_used[target] & (candidates.overlap[pair, None] >= thresholds)[:, None]
        # The least key wins: objects before ignored ones, then the larger overlap.
        key = pair[:, None] + ignored * pairs
        key = np.where(is_open, key[..., None], 2 * pairs)
        best = np.minimum.reduceat(key, starts, axis=0)
        hit, at_size, at_threshold = np.nonzero(best < 2 * pairs)
        chosen = best[hit, at_size, at_threshold] % pairs
        taken[detections[hit], at_size, at_threshold] = chosen
        used = candidates.target[chosen]
        is_used[used, at_size, at_threshold] = ~objects.absorbs[used]
    return np.ascontiguousarray(taken.transpose(1, 2, 0))


def _ignore_by_region(
    state: np.ndarray,
    matched: np.ndarray,
    candidates: _Candidates,
    objects: _Objects,
    area: np.ndarray,
    thresholds: np.ndarray,
) -> None:
    """Ignore unmatched detections in ignored objects, however many are in one already.

    Source: TinyBenchmark, commit 36436df, computes intersection over detection from the overlap
    and the areas of the file. For ``iscrowd``, where the overlap is that already, and for an area
    other than w * h this yields another number, which is what the authors compare.
    """
    if not len(candidates.first):
        return
    own = area[candidates.detection]
    overlap = candidates.overlap
    share = overlap / (1 + overlap) * (1 + objects.area[candidates.target] / own)
    ignored = objects.ignored[candidates.target]
    most = np.maximum.reduceat(np.where(ignored, share[:, None], 0), candidates.first, axis=0)
    place = candidates.detection[candidates.first]
    is_inside = (most.T[:, None] >= thresholds[:, None]) & (matched[:, :, place] < 0)
    state[:, :, place] = np.where(is_inside, IGNORED, state[:, :, place])
