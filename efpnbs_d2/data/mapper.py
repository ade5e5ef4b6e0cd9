"""From a data set's record to the model's input, keeping what tiny objects need.

Shapes: H x W the image after augmentation (network-input pixels); G objects and M ignored regions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances

from .augmentation import ObjectCrop, SceneInput
from .erase import erase_regions
from .read_image import read_record_image

# An object cut by a crop's border stays if sqrt(visible area) / sqrt(area) reaches this.
# Source: the tiling of TinyPerson's authors.
MIN_VISIBLE = 0.7

IGNORE_CHOICES = ("no_loss", "erase")


class TinyObjectMapper(DatasetMapper):
    """`DatasetMapper` for tiny objects: original scale, ignored regions, tiles.

    It adds to the stock result, in training:

    - `instances.gt_scale`, float32 (G,): sqrt(area) of each object in **original-image pixels**,
      before any resize or crop, for DCLoss's scale bins;
    - with ignore "no_loss" `ignore_boxes`, `Boxes` (M, 4) xyxy in **network-input pixels**: the
      annotations marked `iscrowd`, which the stock mapper drops and so turns into background.

    Augmentations get a `SceneInput`, so they see objects and ignored regions. An object of which a
    crop leaves less than 0.7 of its scale is dropped. A record with a `corner` is a tile: its image
    is cropped to [x1, y1, x2, y2] of the file first, in training and testing. Masks, keypoints and
    proposals are not read.

    Args:
        is_train: whether annotations are wanted.
        augmentations: of Detectron2 or of this package, in order.
        image_format: "BGR", or a mode of PIL.
        ignore: what becomes of ignored regions in training: "no_loss" hands them to the model,
            "erase" paints each with its mean colour and hands over nothing.

    Raises:
        ValueError: unknown `ignore`; masks, keypoints or proposals asked for in a yacs config.

    Source: our own reading of the method; `iscrowd` as in COCO's format; "erase" and `corner` as
    TinyPerson's authors have them.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        ignore: str = "no_loss",
    ):
        super().__init__(is_train, augmentations=list(augmentations), image_format=image_format)
        if ignore not in IGNORE_CHOICES:
            raise ValueError(f"TinyObjectMapper: ignore is {ignore!r}, expected {IGNORE_CHOICES}")
        self.ignore = ignore

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Detectron2's keys; INPUT.CROP of type "absolute" becomes an `ObjectCrop`."""
        for node, key in ((cfg.MODEL, "MASK_ON"), (cfg.MODEL, "KEYPOINT_ON")):
            if node[key]:
                raise ValueError(f"MODEL.{key} is True, but TinyObjectMapper reads boxes only")
        if cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError("MODEL.LOAD_PROPOSALS is True, but TinyObjectMapper reads none")
        stock = super().from_config(cfg, is_train)
        augmentations, crop = stock["augmentations"], cfg.INPUT.CROP
        if is_train and crop.ENABLED and crop.TYPE == "absolute":
            augmentations[0] = ObjectCrop(crop.SIZE, crop.OBJECT_PROB)
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": stock["image_format"],
            "ignore": cfg.INPUT.IGNORE_REGIONS,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Read, augment and convert one record (Detectron2's dataset dict), left as it is.

        Raises:
            ValueError: the image cannot be read, its size is not the annotated one, or it does not
                hold the record's corner.
        """
        mapped = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        annotations = dataset_dict.get("annotations", []) if self.is_train else []
        objects = [a for a in annotations if not a.get("iscrowd", 0)]
        original = _boxes_xyxy(objects)
        ignored = _boxes_xyxy([a for a in annotations if a.get("iscrowd", 0)])

        image = read_record_image(mapped, self.image_format)
        if self.ignore == "erase":
            image = erase_regions(image, ignored, original)
        scene = SceneInput(image, boxes=original, ignore_boxes=ignored)
        self.augmentations(scene)
        mapped["image"] = torch.as_tensor(np.ascontiguousarray(scene.image.transpose(2, 0, 1)))
        if self.is_train and "annotations" in dataset_dict:
            classes = np.array([a["category_id"] for a in objects], dtype=np.int64)
            mapped["instances"] = _instances(scene, classes, original)
            if self.ignore == "no_loss":
                regions = _clipped(Boxes(scene.ignore_boxes), scene.image.shape[:2])
                mapped["ignore_boxes"] = regions[regions.nonempty()]
        return mapped


def _instances(scene: SceneInput, classes: np.ndarray, original: np.ndarray) -> Instances:
    """What of the objects is left in the augmented image; classes and boxes as annotated."""
    whole = Boxes(scene.boxes)
    boxes = _clipped(whole, scene.image.shape[:2])
    instances = Instances(scene.image.shape[:2])
    instances.gt_boxes = boxes
    instances.gt_classes = torch.as_tensor(classes[scene.source])
    instances.gt_scale = Boxes(original[scene.source]).area().sqrt()
    # Written without a division: an empty box must come out as not visible.
    visible = boxes.area() >= MIN_VISIBLE**2 * whole.area()
    return instances[visible & boxes.nonempty()]


def _boxes_xyxy(annotations: list[dict[str, Any]]) -> np.ndarray:
    boxes = [
        BoxMode.convert(a["bbox"], BoxMode(a["bbox_mode"]), BoxMode.XYXY_ABS) for a in annotations
    ]
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _clipped(boxes: Boxes, image_shape: tuple[int, int]) -> Boxes:
    boxes = boxes.clone()
    boxes.clip(image_shape)
    return boxes
