"""In which order detections are looked at, and which of them.

Shapes: D detections, M of them that a limit leaves, K classes.
"""

import numpy as np

from ..protocols import Protocol
from .columns import Detections

__all__ = ["group_numbers", "limited_by_rank", "run_positions"]


def limited_by_rank(
    protocol: Protocol, classes: np.ndarray, found: Detections, max_dets: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections that a limit leaves, by image, category and descending score.

    Args:
        protocol: says whether the limit is of each class by score, or of the image by file order.
        classes: (K,) evaluated category ids, ascending.
        found: D detections.
        max_dets: the limit.

    Returns:
        (M,) indices into the detections, equal scores in file order; (M,) their `group_numbers`;
        (M,) their ranks in image and category, from 0.
    """
    order = np.arange(len(found.image))
    if protocol.limit == "image":
        by_image = np.argsort(found.image, kind="stable")
        order = np.sort(by_image[run_positions(found.image[by_image]) < max_dets])
    order = order[np.isin(found.category[order], classes)]
    order = order[np.argsort(-found.scores[order], kind="stable")]
    group = group_numbers(classes, found.image[order], found.category[order])
    by_group = np.argsort(group, kind="stable")
    order, group = order[by_group], group[by_group]
    rank = run_positions(group)
    # No class has more than a cut image.
    stays = rank < max_dets
    return order[stays], group[stays], rank[stays]


def group_numbers(classes: np.ndarray, image: np.ndarray, category: np.ndarray) -> np.ndarray:
    """One number per image and evaluated category, ascending in both."""
    return image * len(classes) + np.searchsorted(classes, category)


def run_positions(groups: np.ndarray) -> np.ndarray:
    """Position of each element in its run of equal ones, from 0."""
    positions = np.arange(len(groups))
    starts = np.concatenate(([True], groups[1:] != groups[:-1]))[: len(groups)]
    return positions - np.maximum.accumulate(np.where(starts, positions, 0))
