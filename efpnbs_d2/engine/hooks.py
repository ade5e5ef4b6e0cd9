"""What happens around the training steps beside Detectron2's own hooks."""

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.engine import HookBase
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..inference.drawing import draw_detections


class WeightAverage(HookBase):
    """Keeps the exponential moving average of a model's weights, batch-norm statistics included.

    Source: torch.optim.swa_utils.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: the model that is trained (not its DDP wrapper).
            decay: share of the average that a step keeps, in [0, 1).

        Raises:
            ValueError: `decay` is outside [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the weight average must be in [0, 1), got {decay}")
        self.model = model
        self.averaged = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )

    def after_step(self) -> None:
        self.averaged.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        return self.averaged.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.averaged.load_state_dict(state_dict)


class PredictionPreview(HookBase):
    """Puts a few predicted test images into TensorBoard."""

    def __init__(self, period: int, model: Any, samples: list[Any], class_names: list[str]):
        """
        Args:
            period: iterations between previews; 0 shows them after training only.
            model: the model that is evaluated.
            samples: a few records as the test loader yields them (image, height, width).
            class_names: one name a class.
        """
        self.period = period
        self.model = model
        self.samples = samples
        self.class_names = class_names

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0):
            self._draw()

    def _draw(self) -> None:
        if not self.samples:
            return
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            outputs = self.model(self.samples)
        self.model.train(training)
        for index, (sample, output) in enumerate(zip(self.samples, outputs, strict=True)):
            # The network's input may be resized and RGB; detections are in original pixels.
            rgb = convert_image_to_rgb(sample["image"].permute(1, 2, 0), self.model.input_format)
            size = sample.get("width", rgb.shape[1]), sample.get("height", rgb.shape[0])
            image = cv2.resize(np.ascontiguousarray(rgb[:, :, ::-1]), size)
            drawn = draw_detections(image, output["instances"].to("cpu"), self.class_names)
            self.trainer.storage.put_image(
                f"predictions/{index}", drawn[:, :, ::-1].transpose(2, 0, 1).copy()
            )
