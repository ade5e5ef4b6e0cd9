"""Which anchors a detector's own label assignment makes positive, and for which objects.

Shapes: I images, G objects of all of them, L pyramid levels, B size bins; R anchors and g objects
of one image. Boxes are xyxy in network-input pixels; sizes of objects are in original pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor
from tqdm import tqdm

from ..data.statistics import BoxColumns, SizeBins
from ..modeling.assigners import ThresholdAssigner, as_assigner
from ..modeling.assigners.ranking import top_priors
from ..modeling.assigners.similarity import iou

__all__ = ["AnchorStatistics", "Assignment", "anchor_statistics", "assign", "positive_iou"]

# An overlap that detections are commonly scored at; no anchor beyond it means a poor start.
HALF_OVERLAP = 0.5


@dataclass(frozen=True)
class Assignment:
    """What the anchors of one image are assigned to.

    Attributes:
        positives: (L,) int, positive anchors on each level.
        owned: (g, L) int, the positive anchors of each object.
        best_iou: (g,) float32, largest IoU of each object with any anchor.
    """

    positives: np.ndarray
    owned: np.ndarray
    best_iou: np.ndarray


@torch.no_grad()
def assign(model: GeneralizedRCNN, boxes: Tensor, image_size: tuple[int, int]) -> Assignment:
    """Assign the anchors of an image as training would, before any are sampled.

    A level has the cells that the image itself covers, side / stride rounded up. In training there
    are more: images are padded to the largest of their batch and to multiples of the backbone's
    size divisibility, and the cells there have anchors too. What they own depends on the batch, and
    is little: anchors that reach into the image from its right and lower border.

    Args:
        model: nothing of it is run but the anchor generator and the label assignment.
        boxes: (g, 4) objects, inside the image.
        image_size: (height, width).
    """
    generator, backbone = model.proposal_generator, model.backbone
    strides = [backbone.output_shape()[name].stride for name in generator.in_features]
    cells = [[-(-side // stride) for side in image_size] for stride in strides]
    # The generator asks for maps' sizes only: no channels, no memory
    anchors = generator.anchor_generator(
        [torch.empty(1, 0, *size, device=model.device) for size in cells]
    )
    lengths = torch.tensor([len(level) for level in anchors])
    every_anchor, objects = Boxes.cat(anchors), Boxes(boxes.to(model.device))

    matched, labels = as_assigner(generator.anchor_matcher)(objects, every_anchor)
    outside = generator.anchor_boundary_thresh
    if outside >= 0:
        labels[~every_anchor.inside_box(image_size, outside)] = -1
    positive = labels == 1
    levels = torch.arange(len(lengths)).repeat_interleave(lengths)[positive.cpu()].numpy()
    owners = matched[positive].cpu().numpy() if len(boxes) > 0 else np.empty(0, int)
    owned = np.zeros((len(boxes), len(lengths)), int)
    np.add.at(owned, (owners, levels[: len(owners)]), 1)
    return Assignment(
        positives=np.bincount(levels, minlength=len(lengths)),
        owned=owned,
        best_iou=_best_iou(objects, every_anchor),
    )


def _best_iou(objects: Boxes, anchors: Boxes) -> np.ndarray:
    best, _, _ = top_priors(iou, objects.tensor, anchors.tensor, topk=1)
    return best[:, 0].cpu().numpy() if len(objects) > 0 else np.empty(0, np.float32)


def positive_iou(model: GeneralizedRCNN) -> float | None:
    """The IoU from which an anchor is positive; None where the assignment has no such limit."""
    rule = as_assigner(model.proposal_generator.anchor_matcher)
    if not (isinstance(rule, ThresholdAssigner) and rule.similarity is iou and 1 in rule.labels):
        return None
    return rule.bounds[rule.labels.index(1)]  # bounds[0] is -inf


@dataclass(frozen=True)
class AnchorStatistics:
    """The assignments of many images, as columns.

    Attributes:
        levels: L names, fine to coarse.
        strides: of the levels.
        anchor_sizes: of each level, sqrt(area) of the anchors of one cell in network-input pixels.
        positives: (I, L) positive anchors.
        owned: (G, L) positive anchors of each object.
        best_iou: (G,) largest IoU of each object with any anchor.
        areas: (G,) of each object in square pixels of the original image.
        threshold: the IoU from which an anchor is positive, if there is one.
    """

    levels: tuple[str, ...]
    strides: tuple[int, ...]
    anchor_sizes: tuple[tuple[float, ...], ...]
    positives: np.ndarray
    owned: np.ndarray
    best_iou: np.ndarray
    areas: np.ndarray
    threshold: float | None

    def level_numbers(self) -> list[dict[str, Any]]:
        """For each level: positives an image, their share of all, images with none (shares 0..1).

        All images count, those without objects too.
        """
        total = max(1, int(self.positives.sum()))
        return [
            {
                "level": level,
                "stride": stride,
                "anchor_sizes": list(sizes),
                "positives_per_image": float(column.mean()),
                "share_of_positives": float(column.sum() / total),
                "images_with_none": float((column == 0).mean()),
            }
            for level, stride, sizes, column in zip(
                self.levels, self.strides, self.anchor_sizes, self.positives.T, strict=True
            )
        ]

    def size_numbers(self, bins: SizeBins) -> list[dict[str, Any]]:
        """For each size bin and for "all": objects, positives, and the shares that go without."""
        index = bins.index(self.areas)
        rows = [(label, index == number) for number, label in enumerate(bins.labels)]
        return [self._of(label, member) for label, member in [*rows, ("all", index >= 0)]]

    def _of(self, label: str, member: np.ndarray) -> dict[str, Any]:
        count = int(member.sum())
        if count == 0:
            return {"size": label, "objects": 0}
        owned, best = self.owned[member], self.best_iou[member]
        per_level = dict(zip(self.levels, owned.mean(axis=0).tolist(), strict=True))
        found = {
            "size": label,
            "objects": count,
            "positives_per_object": float(owned.sum() / count),
            "positives_per_object_by_level": per_level,
            "no_iou_above_half": float((best < HALF_OVERLAP).mean()),
            "no_positive": float((owned.sum(axis=1) == 0).mean()),
        }
        if self.threshold is not None:
            found["no_iou_above_threshold"] = float((best < self.threshold).mean())
        return found


def anchor_statistics(
    model: GeneralizedRCNN,
    records: Sequence[Mapping[str, Any]],
    input_scale: Mapping[str, Any],
    *,
    progress: bool = True,
) -> AnchorStatistics:
    """Assign the anchors of whole images at the size that the detector is tested with.

    Args:
        model: with an RPN.
        records: as this package's readers yield them; no image is opened.
        input_scale: `Recipe.input_scale`: shortest edge and ceiling, 0 for the native size.
        progress: show a progress bar.
    """
    columns = BoxColumns.of(records)
    found = []
    for number, (height, width) in enumerate(
        tqdm(columns.sizes.tolist(), desc="anchors", unit="image", disable=not progress)
    ):
        rows = columns.is_object & (columns.image == number)
        x, y, w, h = columns.boxes[rows].T
        size = _tested_size(height, width, input_scale)
        scale = np.array([size[1] / width, size[0] / height] * 2)
        boxes = np.stack([x, y, x + w, y + h], axis=1) * scale
        found.append(assign(model, torch.as_tensor(boxes, dtype=torch.float32), size))
    levels = tuple(model.proposal_generator.in_features)
    shapes = model.backbone.output_shape()
    return AnchorStatistics(
        levels=levels,
        strides=tuple(shapes[name].stride for name in levels),
        anchor_sizes=tuple(
            tuple(sorted({round(size, 1) for size in Boxes(cell).area().sqrt().tolist()}))
            for cell in model.proposal_generator.anchor_generator.cell_anchors
        ),
        positives=np.array([a.positives for a in found]).reshape(-1, len(levels)),
        owned=np.concatenate([a.owned for a in found]),
        best_iou=np.concatenate([a.best_iou for a in found]),
        areas=columns.areas[columns.is_object],
        threshold=positive_iou(model),
    )


def _tested_size(height: int, width: int, input_scale: Mapping[str, Any]) -> tuple[int, int]:
    shortest = input_scale["min_size_test"]
    if shortest == 0:
        return height, width
    longest = input_scale["max_size_test"]
    return ResizeShortestEdge.get_output_shape(height, width, shortest, longest)
