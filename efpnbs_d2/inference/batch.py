"""From a list of images to their detections, in one pass through the model."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from torch import nn

from ..mixed_precision import PRECISIONS, mixed_precision

__all__ = ["BatchPredictor", "Predict", "check_image"]


class Predict(Protocol):
    """What detects objects in several images at once: `BatchPredictor`, or any like it.

    From BGR uint8 arrays (H x W x 3) to one `Instances` each, with `pred_boxes` (R x 4, xyxy in
    the array's pixels), `scores` (R) and `pred_classes` (R).
    """

    def __call__(self, images: Sequence[np.ndarray], /) -> list[Instances]: ...


class BatchPredictor:
    """Detectron2's `DefaultPredictor` for several images at once.

    The call with one image gives `DefaultPredictor`'s instances exactly; with several, the network
    may round its sums differently. Images of one size (after resizing) go through the model at
    once, those of other sizes apart: padding to a common size would change what is found.
    """

    def __init__(
        self,
        model: nn.Module,
        resize: T.Augmentation | None = None,
        image_format: str = "BGR",
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
    ):
        """
        Args:
            model: Detectron2's, or one that takes and gives what they do; put into evaluation mode.
            resize: what `DefaultPredictor` calls `aug`, such as `ResizeShortestEdge`; None leaves
                images as large as they are.
            image_format: channel order of the model's input, "BGR" or "RGB".
            device: where to move the model; None leaves it where it is.
            precision: one of `PRECISIONS`; other than float32 by `mixed_precision`, for which
                the model's weights are laid out channels-last.

        Raises:
            ValueError: an unknown channel order or precision.
        """
        if image_format not in ("BGR", "RGB"):
            raise ValueError(f"Found image format {image_format!r}, expected 'BGR' or 'RGB'.")
        if precision not in PRECISIONS:
            raise ValueError(f"Found precision {precision!r}, expected one of {list(PRECISIONS)}.")
        self.model = model.eval() if device is None else model.eval().to(device)
        if precision != "float32":
            # Without, mixed precision saves a CPU 10 % of the time; with it, 70 %.
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.resize = T.AugmentationList([]) if resize is None else resize
        self.image_format = image_format
        self.precision = precision

    @classmethod
    def from_default(
        cls,
        predictor: DefaultPredictor,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
    ) -> "BatchPredictor":
        """One that shares the model, the resizing and the channel order of `predictor`."""
        return cls(
            predictor.model,
            predictor.aug,
            predictor.input_format,
            device=device,
            precision=precision,
        )

    def __call__(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Detect objects.

        Args:
            images: H x W x 3 each, BGR, uint8; sizes may differ.

        Returns:
            One `Instances` an image, boxes xyxy in its pixels, on the model's device.

        Raises:
            ValueError: an image of another kind.
        """
        inputs = [self.prepare(image) for image in images]
        by_shape: dict[torch.Size, list[int]] = {}
        for number, entry in enumerate(inputs):
            by_shape.setdefault(entry["image"].shape, []).append(number)
        found: dict[int, Instances] = {}
        for numbers in by_shape.values():
            outputs = self.run([inputs[number] for number in numbers])
            found.update(zip(numbers, outputs, strict=True))
        return [found[number] for number in range(len(inputs))]

    def prepare(self, image: np.ndarray) -> dict[str, Any]:
        """The model's input for an image: resized, in the model's channel order, C x H x W uint8.

        Raises:
            ValueError: the array is no image.
        """
        check_image(image)
        height, width = image.shape[:2]
        if self.image_format == "RGB":
            image = image[:, :, ::-1]
        resized = T.AugInput(image)
        self.resize(resized)
        # As bytes: the model makes the same floats of them, and a quarter travels to its device.
        pixels = np.require(resized.image, requirements=["C", "W"])
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}

    def run(self, inputs: Sequence[dict[str, Any]]) -> list[Instances]:
        """The model's instances for inputs of one size, as `prepare` makes them."""
        with torch.no_grad(), mixed_precision(self.model, PRECISIONS[self.precision]):
            outputs = [output["instances"] for output in self.model(list(inputs))]
        for found in outputs:
            # numpy knows no bfloat16.
            found.scores = found.scores.float()
        return outputs


def check_image(image: np.ndarray) -> None:
    """Raise a `ValueError` unless the array is an image: H x W x 3 uint8, at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"Found an array of shape {image.shape} and type {image.dtype}, expected an image of "
            "shape (height, width, 3) and type uint8, in BGR order: read it with "
            "cv2.imread(path), or convert it."
        )
