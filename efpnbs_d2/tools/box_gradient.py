"""How the gradient of the box head is shared between object scales, and what DCLoss makes of it.

Shapes: R sampled proposals of an image; B scale bins. A scale is sqrt(area) of an object in pixels
of the original image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.layers import cat
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import Tensor, nn

from ..modeling import DCLoss
from ..modeling.box_predictor import object_scale
from ..modeling.dc_loss import bin_totals, bin_weights, scale_bin, target_share

__all__ = ["BoxGradient", "BoxHeadOutput", "first_predictor"]

_LOSSES = ("loss_cls", "loss_box_reg")


@dataclass
class BoxHeadOutput:
    """What one forward pass in training leaves of the box head (of a cascade: its first stage)."""

    proposals: Sequence[Instances] = ()
    predictions: tuple[Tensor, Tensor] | None = None


def first_predictor(model: GeneralizedRCNN) -> nn.Module:
    """The output layers of the box head; of a cascade those of its first stage."""
    predictor = model.roi_heads.box_predictor
    return predictor[0] if isinstance(predictor, nn.ModuleList) else predictor


@dataclass(frozen=True)
class BoxGradient:
    """Totals over samples, by scale bin of the object.

    Attributes:
        gradient: (2, B) of the classification and of the box loss: the sum, over foreground
            proposals, of the L1 norm of their own loss's gradient by the head's outputs, in the
            units of DCLoss.
        objects: (B,) all objects.
        proposals: (B,) sampled foreground proposals.
    """

    gradient: Tensor
    objects: Tensor
    proposals: Tensor

    @classmethod
    def sum(cls, parts: Sequence["BoxGradient"]) -> "BoxGradient":
        """The totals of all samples together."""
        return cls(
            gradient=torch.stack([p.gradient for p in parts]).sum(dim=0),
            objects=torch.stack([p.objects for p in parts]).sum(dim=0),
            proposals=torch.stack([p.proposals for p in parts]).sum(dim=0),
        )

    @classmethod
    def of(
        cls, head: BoxHeadOutput, losses: Mapping[str, Tensor], objects: Instances, edges: Tensor
    ) -> "BoxGradient":
        """Of one forward pass, whose graph is kept.

        Args:
            head: of that pass.
            losses: of that pass, without the weights of DCLoss.
            objects: the targets of its one image.
            edges: (B - 1,) of the bins.
        """
        assert head.predictions is not None
        num_bins = len(edges) + 1
        classes = cat([p.gt_classes for p in head.proposals])
        logits, _ = head.predictions
        foreground = (classes >= 0) & (classes < logits.shape[1] - 1)
        bins = scale_bin(cat([object_scale(p) for p in head.proposals])[foreground], edges)
        totals = []
        for name, output in zip(_LOSSES, head.predictions, strict=True):
            loss = losses[name if name in losses else f"{name}_stage0"]
            (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
            # The losses are means over the sampled proposals
            magnitude = gradient[foreground].abs().sum(dim=1) * len(classes)
            totals.append(bin_totals(magnitude, bins, num_bins).cpu())
        all_scales = object_scale(objects)
        all_bins = scale_bin(all_scales, edges.to(all_scales.device))
        return cls(
            gradient=torch.stack(totals),
            objects=torch.bincount(all_bins, minlength=num_bins).float().cpu(),
            proposals=torch.bincount(bins, minlength=num_bins).float().cpu(),
        )

    def numbers(self, dc_loss: DCLoss) -> list[dict[str, Any]]:
        """For each bin its shares (0..1, over all bins) and the weights DCLoss arrives at.

        The weights are those of averages that hold exactly these samples.

        Args:
            dc_loss: its options count, not its averages.
        """
        target = target_share(dc_loss.target, objects=self.objects, samples=self.proposals)
        rows = {
            "objects": _share(self.objects),
            "proposals": _share(self.proposals),
            "target": target,
        }
        for kind, gradient in zip(("cls", "reg"), self.gradient, strict=True):
            weights = bin_weights(gradient, target, strength=dc_loss.strength, limit=dc_loss.limit)
            rows[f"{kind}_share"] = _share(gradient)
            rows[f"{kind}_weight"] = weights
            rows[f"{kind}_weighted_share"] = _share(weights * gradient)
        values = {name: row.tolist() for name, row in rows.items()}
        return [
            {"scale": name, **{key: row[number] for key, row in values.items()}}
            for number, name in enumerate(dc_loss.bin_names)
        ]


def _share(totals: Tensor) -> Tensor:
    return totals / totals.sum().clamp(min=torch.finfo(totals.dtype).tiny)
