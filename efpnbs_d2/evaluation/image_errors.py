"""Errors image by image, and the worst images with their boxes.

Shapes: I images. Boxes are xywh in pixels of the original image, float64.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["ImageBoxes", "ImageErrors"]


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
