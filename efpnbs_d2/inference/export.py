"""A detector as one file that runs without Detectron2: TorchScript or ONNX.

The file takes one image, H x W x 3, BGR, uint8, of any size, which is not resized, and gives
`boxes` (R x 4, float32, xyxy in pixels of that image), `scores` (R) and `classes` (R, int64, from
0), best first: what the detector finds at that size.
"""

import json
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor

from ..checkpoint import CARD_KEY
from .batch import check_image
from .traced_nms import nms_for_onnx, nms_for_torchscript, replaced_nms

__all__ = ["OUTPUTS", "detect_at_size", "export_onnx", "export_torchscript"]

# Names of the ONNX outputs; the order in both formats.
OUTPUTS = ("boxes", "scores", "classes")

# The first version whose RoiAlign has the half pixel that Detectron2's aligned pooling needs.
_OPSET = 16


def detect_at_size(model: GeneralizedRCNN, image: Tensor, image_format: str) -> tuple[Tensor, ...]:
    """What an exported file computes, by the model itself.

    Args:
        model: a `GeneralizedRCNN` in evaluation mode.
        image: H x W x 3, BGR, uint8; it is not resized.
        image_format: channel order of the model's input, "BGR" or "RGB".

    Returns:
        `OUTPUTS`.
    """
    if image_format == "RGB":
        image = image.flip(-1)
    (found,) = model.inference([{"image": image.permute(2, 0, 1)}], do_postprocess=False)
    found = found[found.pred_boxes.nonempty()]
    return found.pred_boxes.tensor, found.scores, found.pred_classes


def export_torchscript(
    model: GeneralizedRCNN,
    sample: np.ndarray,
    image_format: str,
    card: dict[str, Any],
    target: Path,
) -> None:
    """Write a TorchScript file, for the CPU; it needs torch and torchvision.

    Args:
        model: a `GeneralizedRCNN` in evaluation mode on the CPU.
        sample: H x W x 3, BGR, uint8, with at least one detection; of any size.
        image_format: channel order of the model's input, "BGR" or "RGB".
        card: plain data, stored as JSON in the extra file "efpnbs_d2".
        target: what to write.

    Raises:
        ValueError: nothing is detected in the sample.
    """
    adapter = _adapter(model, sample, image_format)
    with replaced_nms(nms_for_torchscript), warnings.catch_warnings():
        # Of every Python condition: those that matter show when the file is run on other sizes.
        warnings.simplefilter("ignore")
        # Its own check runs the sample only.
        traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    torch.jit.save(traced, str(target), _extra_files={CARD_KEY: json.dumps(card)})


def export_onnx(
    model: GeneralizedRCNN,
    sample: np.ndarray,
    image_format: str,
    card: dict[str, Any],
    target: Path,
) -> None:
    """Write an ONNX file; its input is named `image`, its outputs as in `OUTPUTS`.

    Args:
        model, sample, image_format, target: as for `export_torchscript`.
        card: plain data, stored as JSON under "efpnbs_d2" in the file's metadata.

    Raises:
        ValueError: nothing is detected in the sample.
    """
    import onnx

    adapter = _adapter(model, sample, image_format)
    rows: dict[str, dict[int, str]] = {name: {0: "detections"} for name in OUTPUTS}
    with replaced_nms(nms_for_onnx), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above, and that this exporter is the older one
        torch.onnx.export(
            adapter,
            adapter.flattened_inputs,
            str(target),
            # The newer one cannot follow shapes that depend on what is found, such as the number
            # of proposals.
            dynamo=False,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_axes={"image": {0: "height", 1: "width"}, **rows},
        )
    graph = onnx.load(target)
    onnx.helper.set_model_props(graph, {CARD_KEY: json.dumps(card)})
    onnx.checker.check_model(graph)
    onnx.save(graph, target)


def _adapter(model: GeneralizedRCNN, sample: np.ndarray, image_format: str) -> TracingAdapter:
    check_image(sample)
    assert not model.training, "a detector is exported in evaluation mode"
    image = torch.tensor(np.ascontiguousarray(sample))

    def detect(model: GeneralizedRCNN, image: Tensor) -> Sequence[Tensor]:
        return detect_at_size(model, image, image_format)

    with torch.no_grad():
        boxes, _, _ = detect(model, image)
    if not len(boxes):
        # A trace follows what happens to the sample: what comes after detections would be missing.
        raise ValueError(
            f"the model detects nothing in the sample of {sample.shape[1]} x {sample.shape[0]} px, "
            "expected an image with objects that it knows"
        )
    # A copy, so that results of the file carry no gradients while the model's still may.
    frozen = deepcopy(model).requires_grad_(False)
    return TracingAdapter(frozen, image, detect)
