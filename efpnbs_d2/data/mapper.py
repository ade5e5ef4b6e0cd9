"""From a data set's record to the model's input, keeping what tiny objects need.

Shapes: H x W the image after augmentation (network-input pixels); G objects and M ignored regions.
"""

from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances

# An object cut by a crop's border stays if sqrt(visible area) / sqrt(area) reaches this.
# Source: the tiling of TinyPerson's authors.
MIN_VISIBLE = 0.7


class TinyObjectMapper(DatasetMapper):
    """`DatasetMapper` that also hands over object scale and ignored regions.

    It adds to the stock result, in training:

    - `instances.gt_scale`, float32 (G,): sqrt(area) of each object in **original-image pixels**,
      before any resize or crop, for DCLoss's scale bins;
    - `ignore_boxes`, `Boxes` (M, 4) xyxy in **network-input pixels**: the annotations marked
      `iscrowd`, which the stock mapper drops and so turns into background.

    An object of which a crop leaves less than 0.7 of its scale is dropped. Arguments and yacs keys
    are those of `DatasetMapper`; masks and keypoints are not read.

    Source: our own reading of the method; `iscrowd` as in COCO's format.
    """

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Read, augment and convert one record (Detectron2's dataset dict).

        Raises:
            ValueError: the image cannot be read, or its size is not the annotated one.
        """
        try:
            return super().__call__(dataset_dict)
        # PIL raises SyntaxError for some broken PNG files.
        except (OSError, SyntaxError, utils.SizeMismatchError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"cannot read image {dataset_dict['file_name']}: {reason}; "
                "restore the file or take it out of the data set"
            ) from error

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        annotations = dataset_dict.pop("annotations")
        objects = [a for a in annotations if not a.get("iscrowd", 0)]
        ignored = [a for a in annotations if a.get("iscrowd", 0)]

        original = _boxes_xyxy(objects)
        whole = Boxes(transforms.apply_box(original))
        boxes = _clipped(whole, image_shape)
        instances = Instances(image_shape)
        instances.gt_boxes = boxes
        instances.gt_classes = torch.tensor([a["category_id"] for a in objects], dtype=torch.int64)
        instances.gt_scale = Boxes(original).area().sqrt()
        # Written without a division: an empty box must come out as not visible.
        visible = boxes.area() >= MIN_VISIBLE**2 * whole.area()
        dataset_dict["instances"] = instances[visible & boxes.nonempty()]

        regions = _clipped(Boxes(transforms.apply_box(_boxes_xyxy(ignored))), image_shape)
        dataset_dict["ignore_boxes"] = regions[regions.nonempty()]


def _boxes_xyxy(annotations: list[dict[str, Any]]) -> np.ndarray:
    boxes = [
        BoxMode.convert(a["bbox"], BoxMode(a["bbox_mode"]), BoxMode.XYXY_ABS) for a in annotations
    ]
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _clipped(boxes: Boxes, image_shape: tuple[int, int]) -> Boxes:
    boxes = boxes.clone()
    boxes.clip(image_shape)
    return boxes
