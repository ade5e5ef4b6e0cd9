"""What is compared, as columns: the boxes of a benchmark, and a detector's.

Shapes: I images, G ground-truth boxes, D detections, K evaluated classes.
Boxes are xywh in pixels of the original image, float64, neither clipped nor rounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Detections", "GroundTruth"]


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of a benchmark, in file order.

    Attributes:
        source: file or folder, for messages.
        image_ids: I ids in the order of evaluation: ascending COCO ids; VisDrone's file stems.
        image_names: I file names, without folders for VisDrone (the stem).
        image_sizes: (I, 2) int, height and width; 0 where unknown.
        classes: evaluated category ids, ascending -> name.
        image: (G,) int, index into the images.
        category: (G,) int, category id, also of categories that are not evaluated.
        boxes: (G, 4) float64 xywh.
        area: (G,) float64, the file's ``area``; w * h where it has none.
        side: (G,) float64, the file's ``size``; sqrt(area) where it has none.
        annotation_id: (G,) int, as in the file; counted from 1 where it has none.
        crowd: (G,) bool, ``iscrowd``.
        ignore: (G,) bool, ``ignore``; for VisDrone: score 0.
        uncertain: (G,) bool, ``uncertain``.
    """

    source: str
    image_ids: tuple[int | str, ...]
    image_names: tuple[str, ...]
    image_sizes: np.ndarray
    classes: Mapping[int, str]
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    side: np.ndarray
    annotation_id: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    uncertain: np.ndarray

    def select(self, rows: np.ndarray) -> "GroundTruth":
        """Some of the boxes: `rows` is a (G,) mask or indices. All images and classes stay."""
        columns = ("image", "category", "boxes", "area", "side", "annotation_id")
        flags = ("crowd", "ignore", "uncertain")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns + flags})

    def of_images(self, indices: Sequence[int]) -> "GroundTruth":
        """Some of the images with their boxes, in the order of evaluation."""
        kept = sorted(indices)
        new_index = np.full(len(self.image_ids), -1)
        new_index[kept] = np.arange(len(kept))
        boxes = self.select(new_index[self.image] >= 0)
        return replace(
            boxes,
            image=new_index[boxes.image],
            image_ids=tuple(self.image_ids[index] for index in kept),
            image_names=tuple(self.image_names[index] for index in kept),
            image_sizes=self.image_sizes[kept],
        )


@dataclass(frozen=True)
class Detections:
    """A detector's results on the images of a ground truth, in file order.

    Attributes:
        source: file or folder, for messages.
        image: (D,) int, index into the ground truth's images.
        category: (D,) int, category id.
        boxes: (D, 4) float64 xywh.
        scores: (D,) float64.
        missing: names of the images that the results do not mention.
    """

    source: str
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    missing: tuple[str, ...]

    def select(self, rows: np.ndarray) -> "Detections":
        """Some of the boxes: `rows` is a (D,) mask or indices. What is missing stays so."""
        columns = ("image", "category", "boxes", "scores")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})
