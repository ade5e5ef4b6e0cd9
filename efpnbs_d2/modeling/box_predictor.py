"""The output layers of the box head, with DCLoss on both of their losses.

Shapes in this module: N images, R sampled proposals of the batch, F those of them that are
foreground, M ground-truth objects of the batch, K classes. Boxes are xyxy in network-input pixels,
scales are sqrt(area) in original-image pixels.
"""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, cat, ciou_loss, diou_loss
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Instances
from detectron2.utils.logger import log_first_n
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor, nn

from .assigners.similarity import CONSTANT, positive_constant
from .dc_loss import DCLoss, gradient_magnitude, scale_bin
from .nwd import nwd_loss

_IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


class LabelledProposals(list[Instances]):
    """The sampled proposals of a batch, one `Instances` an image, with the targets they came from.

    A plain list to everybody else. DCLoss also counts the objects that no proposal was sampled for;
    they reach it with the data, so that no module has to remember them between two calls.
    """

    def __init__(self, proposals: Iterable[Instances], targets: list[Instances]) -> None:
        super().__init__(proposals)
        self.targets = targets


def object_scale(instances: Instances) -> Tensor:
    """Scale of the ground-truth object of each row of `instances` (targets or labelled proposals).

    Returns:
        (len(instances),) float: the field ``gt_scale`` (original-image pixels); without it
        sqrt(area) of ``gt_boxes`` in network-input pixels, with one warning; 0 for the proposals of
        an image without objects, which carry no ground truth.
    """
    if instances.has("gt_scale"):
        return instances.gt_scale
    if not instances.has("gt_boxes"):
        return instances.proposal_boxes.tensor.new_zeros(len(instances))
    if len(instances) > 0:
        log_first_n(
            logging.WARNING,
            "DCLoss: the training targets have no field 'gt_scale', so objects are sorted into "
            "scale bins by their size in the resized image instead of the original one. Use the "
            "dataset mapper of efpnbs_d2, or set gt_scale (sqrt of the area in original pixels) "
            "in your own.",
            key="message",
        )
    return instances.gt_boxes.area().sqrt()


class NWDFastRCNNOutputLayers(FastRCNNOutputLayers):
    """`FastRCNNOutputLayers` that also know the box loss "nwd", on decoded boxes.

    Source: the released code of NWD (Wang et al.).
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, nwd_constant: float = CONSTANT, **kwargs: Any
    ) -> None:
        """
        Args:
            input_shape: shape of the input features.
            nwd_constant: C of the loss "nwd" in network-input pixels.
            kwargs: as for `FastRCNNOutputLayers`.

        Raises:
            ValueError: `nwd_constant` is not positive.
        """
        super().__init__(input_shape, **kwargs)
        self.nwd_constant = positive_constant(nwd_constant)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "nwd_constant": cfg.MODEL.NWD.CONSTANT}

    def box_reg_loss(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """As `FastRCNNOutputLayers.box_reg_loss`: summed over foreground, divided by R."""
        if self.box_reg_loss_type != "nwd":
            return super().box_reg_loss(proposal_boxes, gt_boxes, pred_deltas, gt_classes)
        foreground = self._foreground(gt_classes)
        deltas = self._own_deltas(pred_deltas, gt_classes, foreground)
        predicted = self.box2box_transform.apply_deltas(deltas, proposal_boxes[foreground])
        loss = nwd_loss(predicted, gt_boxes[foreground], self.nwd_constant)
        return loss.sum() / max(gt_classes.numel(), 1)

    def _foreground(self, gt_classes: Tensor) -> Tensor:
        """Indices (F,) of the foreground proposals."""
        return ((gt_classes >= 0) & (gt_classes < self.num_classes)).nonzero()[:, 0]

    def _own_deltas(self, pred_deltas: Tensor, gt_classes: Tensor, foreground: Tensor) -> Tensor:
        """Deltas (F, 4) of the foreground proposals, those of the object's class if each has."""
        deltas, classes = pred_deltas[foreground], gt_classes[foreground]
        if deltas.shape[1] == len(self.box2box_transform.weights):
            return deltas
        deltas = deltas.unflatten(1, (self.num_classes, -1))
        return deltas[torch.arange(len(classes), device=classes.device), classes]


class DCFastRCNNOutputLayers(NWDFastRCNNOutputLayers):
    """`FastRCNNOutputLayers` whose two losses are weighted by DCLoss.

    A foreground proposal's classification and box loss are multiplied by the weights of the scale
    bin of its matched object; background keeps weight 1 and the normalisation is the stock one.
    Softmax and sigmoid cross-entropy, "nwd" and every box loss of Detectron2, class-agnostic or
    not.

    The averages behind the weights move in each call of :meth:`losses` unless gradients are
    disabled (`torch.no_grad()`, e.g. for validation losses), where the present weights are used.

    Source: our own reading of the paper's abstract, see `dc_loss.py`.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, dc_loss: DCLoss, **kwargs: Any) -> None:
        """
        Args:
            input_shape: shape of the input features.
            dc_loss: holds DCLoss' options and state; of strength 0, the losses are the stock ones.
            kwargs: as for `NWDFastRCNNOutputLayers`.

        Raises:
            ValueError: DCLoss does not know the loss that is asked for.
        """
        super().__init__(input_shape, **kwargs)
        self.dc_loss = dc_loss
        if dc_loss.strength > 0:
            self._check_losses()

    def _check_losses(self) -> None:
        if self.use_fed_loss:
            raise ValueError(
                "DCLoss does not weight the federated loss (USE_FED_LOSS, use_fed_loss): its "
                "classes are drawn anew at each call. Switch it off, or set the strength of "
                "DCLoss to 0."
            )
        known = ("smooth_l1", *_IOU_LOSSES, "nwd")
        if self.box_reg_loss_type not in known:
            raise ValueError(
                f"Box regression loss {self.box_reg_loss_type!r} (BBOX_REG_LOSS_TYPE, "
                f"box_reg_loss_type) is unknown to DCLoss, expected one of {', '.join(known)}."
            )
        # fvcore's smooth_l1_loss is plain L1 under this beta
        if self.box_reg_loss_type == "smooth_l1" and self.smooth_l1_beta < 1e-5:
            log_first_n(
                logging.WARNING,
                "DCLoss: with a smooth-L1 beta of 0 the box loss of every proposal has the same "
                "gradient magnitude (4), so its weights only see how many proposals each scale "
                "has. Set smooth_l1_beta (SMOOTH_L1_BETA) above 0, or use an IoU loss.",
                key="message",
            )

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "dc_loss": DCLoss(cfg)}

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """
        Args:
            predictions: logits (R, K + 1) and box deltas (R, 4) or (R, 4 * K).
            proposals: the `LabelledProposals` that the project's ROI heads sample.

        Returns:
            ``loss_cls`` and ``loss_box_reg``, scalars.

        Raises:
            ValueError: the proposals come without their targets.
        """
        if self.dc_loss.strength == 0:
            return super().losses(predictions, proposals)
        if not isinstance(proposals, LabelledProposals):
            raise ValueError(
                f"DCLoss needs the targets of the batch, but got its proposals as a plain "
                f"{type(proposals).__name__}. Use DCROIHeads or DCCascadeROIHeads, or set the "
                f"strength of DCLoss to 0."
            )
        losses = super().losses(predictions, proposals)
        for name, change in self._weight_change(predictions, proposals).items():
            losses[name] = losses[name] + self.loss_weight.get(name, 1.0) * change
        return losses

    def _weight_change(
        self, predictions: tuple[Tensor, Tensor], proposals: LabelledProposals
    ) -> dict[str, Tensor]:
        """What the weights change in each loss: sum of (weight - 1) * loss over foreground, by R.

        The stock loss is the one with weight 1 everywhere, background included.
        """
        gt_classes = cat([p.gt_classes for p in proposals])
        foreground = self._foreground(gt_classes)
        logits = predictions[0][foreground]
        deltas = self._own_deltas(predictions[1], gt_classes, foreground)
        cls_losses = partial(self._cls_losses, classes=gt_classes[foreground])
        reg_losses = partial(
            self._reg_losses,
            boxes=cat([p.proposal_boxes.tensor for p in proposals])[foreground],
            # Images without objects have no gt_boxes; their proposals are no foreground either
            gt_boxes=cat(
                [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
            )[foreground],
        )
        scale = cat([object_scale(p) for p in proposals])[foreground]
        if torch.is_grad_enabled():
            self.dc_loss.observe(
                # Half: the L1 norm of softmax - onehot is 2 * (1 - p_y)
                cls_gradient=gradient_magnitude(cls_losses, logits) / 2,
                reg_gradient=gradient_magnitude(reg_losses, deltas),
                scale=scale,
                object_scale=cat([object_scale(t) for t in proposals.targets]),
            )
        bins = scale_bin(scale, self.dc_loss.edges)
        cls_weights, reg_weights = self.dc_loss.weights()
        count = max(gt_classes.numel(), 1)
        return {
            "loss_cls": ((cls_weights[bins] - 1) * cls_losses(logits)).sum() / count,
            "loss_box_reg": ((reg_weights[bins] - 1) * reg_losses(deltas)).sum() / count,
        }

    def _cls_losses(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Classification loss (F,) of each foreground proposal, from logits (F, K + 1)."""
        if not self.use_sigmoid_ce:
            return nn.functional.cross_entropy(logits, classes, reduction="none")
        onehot = nn.functional.one_hot(classes, self.num_classes).to(logits.dtype)
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits[:, :-1], onehot, reduction="none"
        )
        return loss.sum(dim=1)

    def _reg_losses(self, deltas: Tensor, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
        """Box loss (F,) of each foreground proposal, from the deltas (F, 4) of its own class."""
        if self.box_reg_loss_type == "smooth_l1":
            target = self.box2box_transform.get_deltas(boxes, gt_boxes)
            loss = smooth_l1_loss(deltas, target, beta=self.smooth_l1_beta, reduction="none")
            return loss.sum(dim=1)
        predicted = self.box2box_transform.apply_deltas(deltas, boxes)
        if self.box_reg_loss_type == "nwd":
            return nwd_loss(predicted, gt_boxes, self.nwd_constant)
        return _IOU_LOSSES[self.box_reg_loss_type](predicted, gt_boxes, reduction="none")
