"""What a detector computes on the way to its detections: feature energy, masks, proposals.

Shapes: R proposals; level `l` of stride `s_l` has H_l x W_l cells, of which those inside the image
are returned; C channels. Boxes are xyxy in pixels of the image as it was given.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from .batch import BatchPredictor

__all__ = ["Explanation", "Proposals", "explain"]

_Maps = Mapping[str, Tensor]


@dataclass(frozen=True)
class Proposals:
    """The boxes that the RPN hands to the box head, best first.

    Attributes:
        boxes: (R, 4) float32.
        scores: (R,) float32, probability of an object.
        levels: (R,) int, index into `level_names`.
        level_names: of the pyramid levels that the RPN reads.
    """

    boxes: np.ndarray
    scores: np.ndarray
    levels: np.ndarray
    level_names: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """One image's way through a detector.

    Attributes:
        network_size: height and width in pixels at which the model read the image.
        energy: by stage and level, (H_l, W_l) float32: the root mean square over the channels of
            the feature map. The stages, in order, are "FPN" (or the name of another backbone),
            "CEM" and "FBSM", of which the last two hold the levels that they change.
        masks: by level, (H_l, W_l) probabilities of foreground; empty without FBSM.
        gates: by level, FBSM's alpha and beta: a cell is multiplied by 1 + alpha where the mask
            is 1, by 1 - beta where it is 0.
        proposals: of the RPN.
        instances: the detections, on the CPU; those that the predictor itself returns.
    """

    network_size: tuple[int, int]
    energy: dict[str, dict[str, np.ndarray]]
    masks: dict[str, np.ndarray]
    gates: dict[str, tuple[float, float]]
    proposals: Proposals
    instances: Instances


@torch.no_grad()
def explain(predictor: Any, image: np.ndarray) -> Explanation:
    """Run a predictor's model part by part and keep what the parts compute.

    Args:
        predictor: a `DefaultPredictor` or `LazyPredictor` of a `GeneralizedRCNN` with an RPN; with
            or without CEM and FBSM.
        image: H x W x 3, BGR, uint8.

    Raises:
        ValueError: the array is no image, or the model is another kind of detector.
    """
    model = predictor.model
    rpn = getattr(model, "proposal_generator", None)
    if not isinstance(model, GeneralizedRCNN) or not isinstance(rpn, RPN):
        raise ValueError(
            f"found a {type(model).__name__} with the proposal generator {type(rpn).__name__}, "
            "expected a two-stage detector with an RPN, such as those of configs/"
        )
    inputs = BatchPredictor.from_default(predictor).prepare(image)
    images = model.preprocess_image([inputs])
    size: tuple[int, int] = images.image_sizes[0]

    stages, logits = _stages(model, images)
    features = {name: maps for stage in stages.values() for name, maps in stage.items()}
    proposals, levels = _propose(rpn, features, images.image_sizes)
    (found,), _ = model.roi_heads(images, features, [proposals], None)

    strides = {name: shape.stride for name, shape in model.backbone.output_shape().items()}
    return Explanation(
        size,
        {
            stage: {level: _energy(maps, strides[level], size) for level, maps in levels_.items()}
            for stage, levels_ in stages.items()
        },
        {level: _inside(x.sigmoid()[0, 0], strides[level], size) for level, x in logits.items()},
        _gates(model.backbone),
        _as_proposals(proposals, levels, rpn.in_features, image),
        detector_postprocess(found, *image.shape[:2]).to("cpu"),
    )


def _stages(model: GeneralizedRCNN, images: ImageList) -> tuple[dict[str, _Maps], _Maps]:
    """The maps after each part of the backbone, and FBSM's mask logits."""
    backbone = model.backbone
    if getattr(backbone, "cem", None) is None and getattr(backbone, "fbsm", None) is None:
        return {type(backbone).__name__: backbone(images.tensor)}, {}
    # A stock meta-architecture does not tell E-FPN-BS the sizes, and this is to show what it does.
    sizes = images.image_sizes if hasattr(model, "extract_features") else None
    features = FPN.forward(backbone, images.tensor)
    stages: dict[str, _Maps] = {"FPN": dict(features)}
    logits: _Maps = {}
    if backbone.cem is not None:
        stages["CEM"] = backbone.cem(features, sizes)
        features.update(stages["CEM"])
    if backbone.fbsm is not None:
        stages["FBSM"], logits = backbone.fbsm(features, sizes)
    return stages, logits


def _propose(
    rpn: RPN, features: _Maps, sizes: Sequence[tuple[int, int]]
) -> tuple[Instances, Tensor]:
    """What the RPN returns for one image, and the level of each proposal.

    Its suppression works level by level, so that each level can be asked alone.
    """
    maps = [features[name] for name in rpn.in_features]
    anchors = rpn.anchor_generator(maps)
    logits, deltas = rpn.rpn_head(maps)
    by_level = [
        rpn.predict_proposals(
            [anchor],
            [permute_to_N_HWA_K(logit, 1).squeeze(2)],
            [permute_to_N_HWA_K(delta, rpn.anchor_generator.box_dim)],
            sizes,
        )[0]
        for anchor, logit, delta in zip(anchors, logits, deltas, strict=True)
    ]
    levels = torch.cat([torch.full((len(found),), number) for number, found in enumerate(by_level)])
    every = Instances.cat(by_level)
    order = every.objectness_logits.argsort(descending=True, stable=True)
    order = order[: rpn.post_nms_topk[False]]
    return every[order], levels[order.cpu()]


def _as_proposals(
    found: Instances, levels: Tensor, names: Sequence[str], image: np.ndarray
) -> Proposals:
    height, width = found.image_size
    boxes = Boxes(found.proposal_boxes.tensor.clone())
    boxes.scale(image.shape[1] / width, image.shape[0] / height)
    return Proposals(
        boxes.tensor.cpu().numpy(),
        found.objectness_logits.sigmoid().cpu().numpy(),
        levels.numpy(),
        tuple(names),
    )


def _gates(backbone: Any) -> dict[str, tuple[float, float]]:
    fbsm = getattr(backbone, "fbsm", None)
    if fbsm is None:
        return {}
    return {level: (fbsm.alpha[level].item(), fbsm.beta[level].item()) for level in fbsm.targets}


def _energy(maps: Tensor, stride: int, size: tuple[int, int]) -> np.ndarray:
    """(H_l, W_l) of (1, C, H, W)."""
    return _inside(maps[0].float().square().mean(dim=0).sqrt(), stride, size)


def _inside(cells: Tensor, stride: int, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (math.ceil(side / stride) for side in size)
    return cells[:rows, :columns].float().cpu().numpy()
