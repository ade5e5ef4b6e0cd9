"""What augmentations see and change, and those that Detectron2 has not: crop and scale.

Shapes: H x W the image before an augmentation; G objects and M ignored regions, xyxy in pixels of
the image as it is at that moment. Boxes are never clipped here, so that the mapper can tell at the
end how much of an object is left.

All random numbers come from numpy's global generator, which Detectron2 seeds in each worker.
"""

import math
from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T


class SceneInput(T.AugInput):
    """Image, objects and ignored regions, which every augmentation moves together.

    Attributes:
        image: H x W x 3, uint8.
        boxes: (G, 4) xyxy of the objects.
        ignore_boxes: (M, 4) xyxy of the ignored regions.
        source: (G,) int, index of each object among those given at first; an object that was
            pasted has that of its original.
    """

    boxes: np.ndarray  # never None, as it may be in `AugInput`

    def __init__(self, image: np.ndarray, *, boxes: np.ndarray, ignore_boxes: np.ndarray):
        super().__init__(image, boxes=boxes)
        self.ignore_boxes = ignore_boxes
        self.source = np.arange(len(boxes))

    def transform(self, tfm: T.Transform) -> None:
        """Apply `tfm` to everything, in place."""
        super().transform(tfm)
        self.ignore_boxes = tfm.apply_box(self.ignore_boxes)

    def add_objects(self, boxes: np.ndarray, originals: np.ndarray) -> None:
        """Append pasted objects.

        Args:
            boxes: (P, 4) xyxy.
            originals: (P,) int, row in `self.boxes` that each is a copy of.
        """
        self.boxes = np.concatenate([self.boxes, boxes])
        self.source = np.concatenate([self.source, self.source[originals]])


class ObjectCrop(T.Augmentation):
    """Crop without resizing, more often than not where there are objects.

    With `object_prob` an object is drawn, and the crop is uniform among those that hold it whole
    (its centre, where it is larger than the crop); else, and without objects, among all. An image
    smaller than the crop is kept whole, each side by itself.

    Args:
        size: height and width of the crop, px.
        object_prob: from 0 (a uniform crop) to 1.

    Raises:
        ValueError: an option out of range.

    Source: the random crops of the published recipes for large images; the preference is ours.
    """

    def __init__(self, size: Sequence[int], object_prob: float = 0.7):
        super().__init__()
        if len(size) != 2 or any(side < 1 or side != int(side) for side in size):
            raise ValueError(f"ObjectCrop: size is {size}, expected height and width in pixels")
        check_probability("ObjectCrop: object_prob", object_prob)
        self.size, self.object_prob = tuple(int(side) for side in size), object_prob

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> T.Transform:
        """Choose a crop of the H x W image for (G, 4) boxes; None: as without objects."""
        limits = image.shape[:2]
        height, width = (min(pair) for pair in zip(self.size, limits, strict=True))
        if (height, width) == limits:
            return T.NoOpTransform()
        target = None
        if boxes is not None and self._rand_range() < self.object_prob:
            target = _draw_object(boxes, limits)
        spans: list = [None, None] if target is None else [target[1::2], target[0::2]]
        y0 = _draw_start(height, limits[0], spans[0])
        x0 = _draw_start(width, limits[1], spans[1])
        return T.CropTransform(x0, y0, width, height, limits[1], limits[0])


class RandomScale(T.Augmentation):
    """Resize the image by a random factor, as likely to shrink as to enlarge.

    Unlike Detectron2's `ResizeScale` and `ResizeShortestEdge`, the factor does not depend on the
    image's size: objects of all images keep their relative scale.

    Args:
        low: smallest factor, above 0.
        high: largest factor; the factor's logarithm is uniform between the two.

    Raises:
        ValueError: not 0 < low <= high.

    Source: our own reading.
    """

    def __init__(self, low: float, high: float):
        super().__init__()
        if not 0 < low <= high < math.inf:
            raise ValueError(f"RandomScale: found {low} to {high}, expected 0 < low <= high")
        self.low, self.high = low, high

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Choose a factor and round the new size to whole pixels."""
        factor = math.exp(self._rand_range(math.log(self.low), math.log(self.high)))
        height, width = image.shape[:2]
        new = [max(1, round(side * factor)) for side in (height, width)]
        return T.ResizeTransform(height, width, *new)


def check_probability(name: str, value: float) -> None:
    """Raise a ValueError that names the option unless it is 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, expected 0 to 1")


def _draw_object(boxes: np.ndarray, limits: tuple[int, int]) -> np.ndarray | None:
    """One of the boxes whose centre is in the image, clipped to it; None if there is none."""
    far = np.array([limits[1], limits[0]])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = np.flatnonzero(((centre >= 0) & (centre < far)).all(axis=1))
    if len(inside) == 0:
        return None
    return boxes[np.random.choice(inside)].clip(0, np.tile(far, 2))


def _draw_start(length: int, limit: int, span: np.ndarray | None) -> int:
    """Where a crop of `length` starts on an axis of `limit` pixels, to hold `span` if given."""
    low, high = 0, limit - length
    if span is not None:
        if span[1] - span[0] > length - 1:  # also with its fractions of a pixel it would not fit
            span = np.repeat(span.mean(), 2)
        low = max(low, math.ceil(span[1]) - length)
        high = min(high, math.floor(span[0]))
    return int(np.random.randint(low, high + 1))
