"""What E-FPN-BS takes for foreground.

Shapes: level `l` of stride `s_l` has H_l x W_l cells, of which those inside the image are returned.
"""

import math
from typing import Any

import numpy as np
import torch


@torch.no_grad()
def foreground_masks(model: Any, image: np.ndarray) -> dict[str, np.ndarray]:
    """FBSM's masks of one image.

    Args:
        model: a detector in evaluation mode whose backbone is an E-FPN-BS with FBSM.
        image: H x W x 3 uint8 in the model's channel order, at the size it is to be read.

    Returns:
        By level name, H_l x W_l probabilities of foreground in [0, 1].

    Raises:
        ValueError: the model has no FBSM.
    """
    if getattr(model.backbone, "fbsm", None) is None:
        raise ValueError(
            f"{type(model.backbone).__name__} has no FBSM, so there is no mask to show"
        )
    tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
    features = model.extract_features(model.preprocess_image([{"image": tensor}]))
    masks = {}
    for level in model.backbone.targets:
        stride = model.backbone.output_shape()[level].stride
        rows, columns = (math.ceil(side / stride) for side in image.shape[:2])
        logits = features[f"fbsm_logits_{level}"][0, 0, :rows, :columns]
        masks[level] = logits.sigmoid().float().cpu().numpy()
    return masks
