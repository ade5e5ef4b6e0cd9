"""Ignored regions in training: samples inside one are neither foreground nor background.

Shapes: N images; M ignored regions on an image; S samples (anchors or proposals) on an image. All
boxes are xyxy in network-input pixels.
"""

from collections.abc import Iterable, Sequence

import torch
from detectron2.structures import Boxes, Instances, pairwise_ioa
from torch import Tensor

from .assigners import Assigner

# A sample is inside a region that covers this share of the sample's own area.
INSIDE = 0.5
# Samples x regions that are compared at once: 50 MiB at their peak.
_COMPARED_AT_ONCE = 2**21


class TargetsWithRegions(list[Instances]):
    """The targets of a batch, one `Instances` an image, with the ignored regions of each image.

    A plain list to everybody else. `Instances` cannot hold a field of another length than the
    objects', and so the regions reach the labelling beside the targets; no module has to remember
    them.
    """

    def __init__(self, targets: Iterable[Instances], ignore_boxes: Sequence[Boxes]) -> None:
        """
        Args:
            targets: N times the objects.
            ignore_boxes: N times (M, 4), on the targets' device.
        """
        super().__init__(targets)
        assert len(self) == len(ignore_boxes), (len(self), len(ignore_boxes))
        self.ignore_boxes = list(ignore_boxes)


def regions_of(targets: Sequence[Instances]) -> list[Boxes]:
    """N times the ignored regions (M, 4) of `targets`; a plain list has none."""
    if isinstance(targets, TargetsWithRegions):
        return targets.ignore_boxes
    return [Boxes(target.gt_boxes.tensor.new_zeros(0, 4)) for target in targets]


def inside_ignored(boxes: Boxes, regions: Boxes) -> Tensor:
    """Which boxes have at least half of their own area in one of the regions.

    Args:
        boxes: (S, 4). An anchor's area counts whole, with what hangs over the image's border.
        regions: (M, 4).

    Returns:
        (S,) bool. False for a box without area. Memory is bounded in M, and linear in S.

    Source: the rule by which COCO's and VisDrone's evaluation match a detection with a crowd:
    intersection over the detection's own area.
    """
    inside = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for chunk in regions.tensor.split(max(1, _COMPARED_AT_ONCE // max(1, len(boxes)))):
        if len(chunk) > 0:
            inside |= pairwise_ioa(Boxes(chunk), boxes).amax(dim=0) >= INSIDE
    return inside


def match_outside_ignored(
    assigner: Assigner, gt_boxes: Boxes, boxes: Boxes, regions: Boxes
) -> tuple[Tensor, Tensor, Tensor]:
    """Match samples with the objects of an image, and say which of the others are to be left out.

    Args:
        assigner: says which samples are foreground (label 1).
        gt_boxes: the objects.
        boxes: (S, 4) samples.
        regions: (M, 4).

    Returns:
        The assigner's matches and labels (S,), and (S,) bool: what matches no object and is inside
        an ignored region.
    """
    matches, labels = assigner(gt_boxes, boxes)
    if len(regions) == 0:
        return matches, labels, torch.zeros_like(labels, dtype=torch.bool)
    return matches, labels, (labels != 1) & inside_ignored(boxes, regions)
