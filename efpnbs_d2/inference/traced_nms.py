"""Non-maximum suppression, group by group, that keeps in a traced graph what it keeps without one.

torchvision shifts few boxes apart, group by group, and lets the rounding of that decide close
cases; many boxes it takes group by group, unshifted. Traced, it would shift many boxes too, and
keep others than the model does when it is not traced.

Shape legend: B boxes, xyxy, in G groups (pyramid levels, or classes).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torchvision import ops

__all__ = ["nms_for_onnx", "nms_for_torchscript", "replaced_nms"]

# Where Detectron2's detectors call `batched_nms`: for proposals, and for detections.
_CALLERS = (
    "detectron2.modeling.proposal_generator.proposal_utils.batched_nms",
    "detectron2.modeling.roi_heads.fast_rcnn.batched_nms",
)
# Up to so many boxes, `torchvision.ops.batched_nms` shifts on the CPU.
_SHIFTED = 1000

# Compiled, not traced: it decides by the number of boxes of each image.
nms_for_torchscript: Callable[[Tensor, Tensor, Tensor, float], Tensor] = (
    torch.jit.script_if_tracing(ops.batched_nms)
)


def nms_for_onnx(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`torchvision.ops.batched_nms` on the CPU, of operators that ONNX has.

    Args:
        boxes: (B, 4), no coordinate below 0.
        scores: (B,).
        groups: (B,) int64, from 0.
        iou_threshold: boxes of one group that overlap a better one by more are dropped.

    Returns:
        Indices of the boxes kept, best first.
    """
    zero = boxes.new_zeros(1)  # an image without boxes has no largest coordinate
    step = torch.cat([boxes.flatten(), zero]).max() + 1
    few = torch._shape_as_tensor(boxes)[0] <= _SHIFTED
    shifted = boxes + (groups.to(boxes) * step * few)[:, None]
    count: Any = torch.cat([groups, zero.to(groups)]).max() + 1
    grouped = torch.where(groups == torch.arange(count)[:, None], scores, float("-inf"))
    kept = _GroupedNMS.apply(shifted[None], grouped[None], iou_threshold)
    kept = kept.sort()[0]  # of equal scores the first one comes first
    return kept[scores[kept].sort(descending=True)[1]]


class _GroupedNMS(torch.autograd.Function):
    """ONNX's operator, which takes the scores as (1, G, B): -inf where a box is not of the group.

    Source: `NonMaxSuppression` of the ONNX operators, version 11.
    """

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        kept = []
        for row in scores[0]:
            member = row.isfinite().nonzero()[:, 0]
            kept.append(member[ops.nms(boxes[0, member], row[member], iou_threshold)])
        return torch.cat(kept)

    @staticmethod
    def symbolic(graph: Any, boxes: Any, scores: Any, iou_threshold: float) -> Any:
        def constant(value: Any, dtype: torch.dtype) -> Any:
            return graph.op("Constant", value_t=torch.tensor(value, dtype=dtype))

        least = torch.finfo(torch.float32).min
        selected = graph.op(
            "NonMaxSuppression",
            boxes,
            scores,
            constant([torch.iinfo(torch.int64).max], torch.int64),  # boxes a group
            constant([iou_threshold], torch.float32),
            constant([least], torch.float32),
        )
        # Rows of image, group and box.
        return graph.op("Gather", selected, constant(2, torch.int64), axis_i=1)


@contextmanager
def replaced_nms(nms: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Iterator[None]:
    """While it lasts, Detectron2's RPN and box heads use `nms`."""
    proposals, detections = _CALLERS
    with patch(proposals, nms), patch(detections, nms):
        yield
