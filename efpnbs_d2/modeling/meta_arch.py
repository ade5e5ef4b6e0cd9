"""The project's meta-architecture: a `GeneralizedRCNN` that knows E-FPN-BS.

Shapes: N images in a batch; a level `l` of stride `s_l` has H_l x W_l cells.
"""

import logging
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.logger import log_first_n

from .efpn_bs import EFPNBS
from .fbsm import fbsm_loss
from .ignore import TargetsWithRegions
from .proposal_generator import IgnoringRPN
from .roi_heads import IgnoringCascadeROIHeads, IgnoringROIHeads

# Probability of foreground that a supervised mask starts from, as in RetinaNet's class prior.
SUPERVISED_MASK_PRIOR = 0.01


@META_ARCH_REGISTRY.register()
class TinyObjectRCNN(GeneralizedRCNN):
    """`GeneralizedRCNN` that hands image sizes to CEM and supervises FBSM's masks.

    It also hands ignored regions to the labelling of `IgnoringRPN` and `IgnoringROIHeads` (or their
    subclasses). With stock parts, and with `fbsm_loss_weight` 0, it computes what `GeneralizedRCNN`
    does.

    Source: our own reading; the paper's abstract names the modules, not their supervision.
    """

    @configurable
    def __init__(
        self,
        *,
        fbsm_loss_weight: float = 0.0,
        fbsm_focal_gamma: float = 2.0,
        **rcnn: Any,
    ):
        """
        Args:
            fbsm_loss_weight: weight of `loss_fbsm`; 0 computes no mask supervision.
            fbsm_focal_gamma: exponent of the focal modulation of `loss_fbsm`.
            rcnn: the arguments of `GeneralizedRCNN`, which refuses unknown ones.

        Raises:
            ValueError: supervision is asked for and the backbone has no FBSM.
        """
        super().__init__(**rcnn)
        self.fbsm_loss_weight = fbsm_loss_weight
        self.fbsm_focal_gamma = fbsm_focal_gamma
        if fbsm_loss_weight < 0:
            raise ValueError(f"fbsm_loss_weight must be >= 0, got {fbsm_loss_weight}")
        if fbsm_loss_weight > 0:
            fbsm = getattr(self.backbone, "fbsm", None)
            if fbsm is None:
                raise ValueError(
                    f"fbsm_loss_weight is {fbsm_loss_weight}, but the backbone "
                    f"{type(self.backbone).__name__} has no FBSM; use EFPNBS(fbsm=True) or set "
                    "the weight to 0"
                )
            fbsm.set_mask_prior(SUPERVISED_MASK_PRIOR)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            **super().from_config(cfg),
            "fbsm_loss_weight": cfg.MODEL.FBSM.LOSS_WEIGHT,
            "fbsm_focal_gamma": cfg.MODEL.FBSM.FOCAL_GAMMA,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """As `GeneralizedRCNN.forward`; an input may also hold `ignore_boxes`.

        Args:
            batched_inputs: one dict an image. Beside Detectron2's keys, `ignore_boxes`
                (`Boxes`, M x 4, xyxy in network-input pixels) marks regions that are neither
                foreground nor background: no loss there, objects' own samples excepted.

        Returns:
            In training a dict of scalar losses, `loss_fbsm` among them when supervised; otherwise
            one dict with `instances` an image, in the pixels of the input's `height` and `width`.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        targets = self._targets(batched_inputs) if "instances" in batched_inputs[0] else None

        features = self.extract_features(images)
        proposals, losses = self._propose(images, features, batched_inputs, targets)
        _, detector_losses = self.roi_heads(images, features, proposals, targets)
        losses = {**detector_losses, **losses}
        if self.fbsm_loss_weight > 0:
            assert targets is not None, "mask supervision needs ground truth"
            losses["loss_fbsm"] = self._mask_loss(features, images, targets)
        return losses

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """As `GeneralizedRCNN.inference`."""
        assert not self.training
        images = self.preprocess_image(batched_inputs)
        features = self.extract_features(images)
        if detected_instances is None:
            proposals, _ = self._propose(images, features, batched_inputs, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            given = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        if do_postprocess:
            return self._postprocess(results, batched_inputs, images.image_sizes)
        return results

    def extract_features(self, images: ImageList) -> dict[str, torch.Tensor]:
        """The backbone's maps (N, C, H_l, W_l) by name, with FBSM's mask logits if it has them."""
        if isinstance(self.backbone, EFPNBS):
            return self.backbone(images.tensor, image_sizes=images.image_sizes)
        return self.backbone(images.tensor)

    def _targets(self, batched_inputs: list[dict[str, Any]]) -> TargetsWithRegions:
        none = Boxes(torch.zeros(0, 4))
        regions = [x.get("ignore_boxes", none).to(self.device) for x in batched_inputs]
        if any(len(r) > 0 for r in regions):
            self._warn_of_stock_parts()
        return TargetsWithRegions([x["instances"].to(self.device) for x in batched_inputs], regions)

    def _warn_of_stock_parts(self) -> None:
        heads = (IgnoringROIHeads, IgnoringCascadeROIHeads)
        pairs = [(self.proposal_generator, (IgnoringRPN, type(None))), (self.roi_heads, heads)]
        for part, known in pairs:
            if not isinstance(part, known):
                log_first_n(
                    logging.WARNING,
                    f"The images have ignored regions, which {type(part).__name__} takes for "
                    f"background. Use IgnoringRPN (MODEL.PROPOSAL_GENERATOR.NAME) and "
                    f"IgnoringROIHeads (MODEL.ROI_HEADS.NAME) or a subclass.",
                    key="message",
                )

    def _propose(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        batched_inputs: list[dict[str, Any]],
        targets: list[Instances] | None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, targets)
        return [x["proposals"].to(self.device) for x in batched_inputs], {}

    def _mask_loss(
        self, features: dict[str, torch.Tensor], images: ImageList, targets: TargetsWithRegions
    ) -> torch.Tensor:
        levels = self.backbone.targets
        loss = fbsm_loss(
            [features[f"fbsm_logits_{level}"] for level in levels],
            gt_boxes=[t.gt_boxes.tensor for t in targets],
            image_sizes=images.image_sizes,
            ignore_boxes=[regions.tensor for regions in targets.ignore_boxes],
            strides=[self.backbone.output_shape()[level].stride for level in levels],
            focal_gamma=self.fbsm_focal_gamma,
        )
        return self.fbsm_loss_weight * loss
