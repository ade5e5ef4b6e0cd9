"""Detection in several versions of an image, merged: test-time augmentation.

Shapes: R detections. Boxes are xyxy in the image's pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances

from .batch import BatchPredictor

__all__ = ["AugmentedPredictor"]


class AugmentedPredictor:
    """Runs a detector on an image at several scales, and mirrored; class-aware suppression merges.

    A scale is applied behind the resizing of the detector, which would undo it otherwise.
    """

    def __init__(
        self,
        predict: BatchPredictor,
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        iou_threshold: float = 0.5,
    ):
        """
        Args:
            predict: the detector, whose model the versions share.
            flip: also detect in the mirror image (left and right exchanged).
            scales: factors of the size at which the image is read; 1 is as without augmentation.
            iou_threshold: of two boxes of one class that overlap more, the lower score goes.

        Raises:
            ValueError: no scale, or one that is not above 0.
        """
        if not scales or not all(0 < scale < np.inf for scale in scales):
            raise ValueError(f"Found scales {list(scales)}, expected one or more, all above 0.")
        if not 0 <= iou_threshold <= 1:
            raise ValueError(f"Found iou_threshold {iou_threshold}, expected 0 to 1.")
        self.flip, self.iou_threshold = flip, iou_threshold
        self.versions = [
            BatchPredictor(
                predict.model,
                T.AugmentationList([predict.resize, *([] if scale == 1 else [_Rescale(scale)])]),
                predict.image_format,
                precision=predict.precision,
            )
            for scale in scales
        ]

    def __call__(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Detect objects; arguments, result and errors as of `BatchPredictor`."""
        versions = [predict(images) for predict in self.versions]
        if self.flip:
            mirrored = [image[:, ::-1] for image in images]
            versions += [list(map(_mirror, predict(mirrored))) for predict in self.versions]
        return [self._merge(found) for found in zip(*versions)]

    def _merge(self, found: Sequence[Instances]) -> Instances:
        if len(found) == 1:
            return found[0]
        every = Instances.cat(list(found))
        kept = batched_nms(
            every.pred_boxes.tensor, every.scores.float(), every.pred_classes, self.iou_threshold
        )
        return every[kept]


class _Rescale(T.Augmentation):
    """Both sides by one factor, to 1 px at least."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        sides = (max(1, round(side * self.factor)) for side in (height, width))
        return T.ResizeTransform(height, width, *sides)


def _mirror(found: Instances) -> Instances:
    """The detections of a mirror image, where they lie in the image."""
    boxes = found.pred_boxes.tensor
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    width = found.image_size[1]
    fields = {
        **found.get_fields(),
        "pred_boxes": Boxes(torch.stack([width - x2, y1, width - x1, y2], dim=1)),
    }
    return Instances(found.image_size, **fields)
