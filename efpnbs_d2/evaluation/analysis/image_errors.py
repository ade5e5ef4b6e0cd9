"""Errors image by image, and the worst images with their boxes.

Shapes: I images. Boxes are xywh in pixels of the original image, float64.
"""

from dataclasses import dataclass

import numpy as np

from ..columns import Detections, GroundTruth
from ..matching import FALSE_POSITIVE
from .outcome import CUT, Outcome

__all__ = ["ImageBoxes", "ImageErrors", "count_image_errors"]

# States of annotations; those of detections are the matching's.
_MISSED, _FOUND, _IGNORED = 0, 1, 2


@dataclass(frozen=True)
class ImageBoxes:
    """One image's boxes and what became of them, for drawing.

    Attributes:
        image: index into the images of the ground truth.
        name: as in ``GroundTruth.image_names``.
        size: height and width in pixels; 0 where unknown.
        found_boxes: (n, 4) the confident detections, by descending score.
        found_category: (n,) int, category ids.
        found_scores: (n,)
        found_state: (n,) int8: 0 false positive, 1 true positive, 2 ignored.
        found_error: (n,) int8, index into ``error_types.ERROR_TYPES`` for false positives, else -1.
        true_boxes: (m, 4) annotations, in file order.
        true_category: (m,) int, category ids, also of ignored regions and of other categories.
        true_state: (m,) int8: 0 missed, 1 found, 2 ignored.
    """

    image: int
    name: str
    size: tuple[int, int]
    found_boxes: np.ndarray
    found_category: np.ndarray
    found_scores: np.ndarray
    found_state: np.ndarray
    found_error: np.ndarray
    true_boxes: np.ndarray
    true_category: np.ndarray
    true_state: np.ndarray


@dataclass(frozen=True)
class ImageErrors:
    """Counts per image at each class's best-F1 threshold ("confident" detections).

    Attributes:
        objects: (I,) int.
        found: (I,) int, true positives.
        missed: (I,) int, objects - found.
        false_positives: (I,) int.
        order: (I,) int, image indices, worst first: by missed + false_positives, then by the
            share of the objects that is missed, then in the order of evaluation.
        worst: the first images of `order` that have an error, with their boxes.
    """

    objects: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    false_positives: np.ndarray
    order: np.ndarray
    worst: tuple[ImageBoxes, ...]


def count_image_errors(
    truth: GroundTruth,
    found: Detections,
    outcome: Outcome,
    kind: np.ndarray,
    confident: np.ndarray,
    worst: int = 12,
) -> ImageErrors:
    """Count the errors of each image and take the boxes of the worst.

    Args:
        truth: all annotations, also those that the protocol removes.
        found: all detections, likewise.
        outcome: of all of them.
        kind: (D,) as in ``ErrorTypes``.
        confident: (D,) bool, detections of at least their class's threshold.
        worst: this many images at most.
    """
    is_found = outcome.found_by(confident)
    false = confident & (outcome.state == FALSE_POSITIVE)
    objects, hits, false_positives = (
        np.bincount(image, minlength=len(truth.image_ids))
        for image in (truth.image[outcome.objects], truth.image[is_found], found.image[false])
    )
    missed = objects - hits
    errors = missed + false_positives
    order = np.lexsort((-missed / np.maximum(objects, 1), -errors))
    shown = order[:worst][errors[order[:worst]] > 0]

    true_state = np.where(outcome.objects, np.where(is_found, _FOUND, _MISSED), _IGNORED)
    drawn = np.flatnonzero(confident & (outcome.state != CUT))
    drawn = drawn[np.argsort(-found.scores[drawn], kind="stable")]
    boxes = tuple(
        ImageBoxes(
            image=image,
            name=truth.image_names[image],
            size=(int(truth.image_sizes[image, 0]), int(truth.image_sizes[image, 1])),
            found_boxes=found.boxes[rows],
            found_category=found.category[rows],
            found_scores=found.scores[rows],
            found_state=outcome.state[rows],
            found_error=kind[rows],
            true_boxes=truth.boxes[annotations],
            true_category=truth.category[annotations],
            true_state=true_state[annotations].astype(np.int8),
        )
        for image, rows, annotations in (
            (i, drawn[found.image[drawn] == i], np.flatnonzero(truth.image == i))
            for i in shown.tolist()
        )
    )
    return ImageErrors(objects, hits, missed, false_positives, order, boxes)
