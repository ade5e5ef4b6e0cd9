"""What a benchmark's official code takes for its annotations and detections.

Shapes: G ground-truth boxes.
"""

from dataclasses import replace

import numpy as np

from ..protocols import Protocol
from .columns import Detections, GroundTruth
from .regions import drop_ignored

__all__ = ["has_plain_id", "official_rows", "with_plain_ids"]


def official_rows(
    protocol: Protocol, truth: GroundTruth, found: Detections
) -> tuple[GroundTruth, Detections]:
    """The rows that take part: VisDrone's without those in ignored regions; for the others, of
    annotations with one id the last, as often as there are any.

    Raises:
        ValueError: an image has ignored regions, but its size is unknown.

    Source: pycocotools, which reads annotations by their ids.
    """
    if protocol.ignore == "regions":
        truth_kept, found_kept = drop_ignored(truth, found)
        return truth.select(truth_kept), found.select(found_kept)
    return _last_of_each_id(truth), found


def _last_of_each_id(truth: GroundTruth) -> GroundTruth:
    reverse = truth.annotation_id[::-1]
    ids, from_end, inverse = np.unique(reverse, return_index=True, return_inverse=True)
    if len(ids) == len(reverse):
        return truth
    last = (len(reverse) - 1 - from_end)[inverse][::-1]
    # A copy stands where its original stood; originals are visited image by image.
    rows = np.argsort(truth.image, kind="stable")
    rows = rows[np.isin(truth.category[rows], list(truth.classes))]
    return truth.select(last[rows])


def has_plain_id(protocol: Protocol, truth: GroundTruth) -> np.ndarray:
    """(G,) whether the id of an annotation has no effect: it is not 0, and no other has it."""
    ids = truth.annotation_id
    if protocol.ignore == "regions":
        return np.ones(len(ids), dtype=bool)
    _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return (ids != 0) & (counts[inverse] == 1)


def with_plain_ids(truth: GroundTruth) -> GroundTruth:
    """The same annotations with ids counted from 1."""
    return replace(truth, annotation_id=np.arange(1, len(truth.annotation_id) + 1))
