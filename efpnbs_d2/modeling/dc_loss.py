"""DCLoss: weights that balance the gradient of the box head between object scales.

Shapes in this module: F sampled foreground proposals of the batch, D outputs per proposal,
M ground-truth objects of the batch, B scale bins (the number of edges + 1).
A *scale* is sqrt(area) of a ground-truth object in original-image pixels, so that a bin means the
same object at every training resolution.

Source: the DCLoss of CEM-FBGTinyDet (arXiv 2506.09897) "automatically modulates loss
contributions via scale-aware gradient equilibrium"; the abstract gives no formula, this one and its
constants are our own reading.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import configurable
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

TARGETS = ("per_sample", "per_object", "uniform")

# Source: AI-TOD (Wang et al., ICPR 2020). Its bins end at 8, 16, 32 and 64 px.
AITOD_EDGES = (8.0, 16.0, 32.0)
AITOD_NAMES = ("very_tiny", "tiny", "small", "medium")


def bin_names(edges: Sequence[float]) -> tuple[str, ...]:
    """Names of the ``len(edges) + 1`` scale bins, for plots.

    AI-TOD's names for AI-TOD's edges, else e.g. ``below_10``, ``10_to_20``, ``above_20``.
    """
    if tuple(edges) == AITOD_EDGES:
        return AITOD_NAMES
    between = [f"{low:g}_to_{high:g}" for low, high in pairwise(edges)]
    return (f"below_{edges[0]:g}", *between, f"above_{edges[-1]:g}")


def scale_bin(scale: Tensor, edges: Tensor) -> Tensor:
    """Index of the scale bin of each object.

    Args:
        scale: (M,) sqrt(area) in original-image pixels.
        edges: (B - 1,) increasing upper bounds of the bins, same unit.

    Returns:
        (M,) int64 in [0, B). A scale equal to an edge belongs to the lower bin, as the upper area
        bounds of AI-TOD's evaluation are inclusive.
    """
    return torch.bucketize(scale, edges)


def bin_totals(values: Tensor, bins: Tensor, num_bins: int) -> Tensor:
    """Sum ``values`` (F,) by bin index ``bins`` (F,) in [0, num_bins): (num_bins,) float32."""
    # Not index_add_, whose order of summation, and so its rounding, varies from run to run on a GPU
    member = bins[:, None] == torch.arange(num_bins, device=bins.device)
    return (member * values.float()[:, None]).sum(dim=0)


def gradient_magnitude(loss_fn: Callable[[Tensor], Tensor], outputs: Tensor) -> Tensor:
    """How hard each sample's own loss pulls on the outputs of the head.

    Differentiates a detached float32 copy, so that neither mixed precision nor the graph of the
    training loss takes part.

    Args:
        loss_fn: maps outputs (F, D) to losses (F,); loss i depends on row i alone.
        outputs: (F, D) logits or box deltas.

    Returns:
        (F,) float32 L1 norm of d loss_i / d outputs_i.
    """
    with torch.enable_grad(), torch.autocast(outputs.device.type, enabled=False):
        leaf = outputs.detach().float().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_fn(leaf).sum(), leaf)
    return gradient.abs().sum(dim=1)


def target_share(target: str, *, objects: Tensor, samples: Tensor) -> Tensor:
    """The share of the gradient that each bin is meant to have.

    Args:
        target: ``per_object``: the share of all ground-truth objects, those without any sampled
            proposal included, so that every object pulls equally hard; ``uniform``: equal shares;
            ``per_sample``: the share of the sampled foreground proposals.
        objects, samples: (B,) numbers of objects and of sampled foreground proposals.

    Returns:
        (B,) shares that sum to 1 (all 0 when there is nothing to count).
    """
    assert target in TARGETS, target
    counts = {
        "per_object": objects,
        "uniform": torch.ones_like(objects),
        "per_sample": samples,
    }[target]
    return _share(counts)


def bin_weights(gradient: Tensor, target: Tensor, *, strength: float, limit: float) -> Tensor:
    """Loss weight of each bin: ``(target share / share) ** strength``, rescaled, then clipped.

    One common factor keeps the total, ``sum(weight * gradient) == sum(gradient)``, before clipping:
    the balance between bins changes, not the learning rate.

    Args:
        gradient: (B,) total gradient magnitude of the unweighted loss.
        target: (B,) target shares; a common factor does not matter.
        strength: 0 leaves every weight at 1, 1 brings the weighted shares to the target.
        limit: weights stay within [1 / limit, limit]; ``inf`` does not clip.

    Returns:
        (B,) weights. A bin without gradient or without a target share (never seen) has weight 1
        and takes no part in the rescaling.
    """
    seen = (gradient > 0) & (target > 0)
    gradient = gradient * seen
    ratio = torch.where(seen, target / _share(gradient), 1.0) ** strength
    factor = gradient.sum() / (ratio * gradient).sum()
    weights = (ratio * factor).clamp(1.0 / limit, limit)
    return torch.where(seen, weights, 1.0)


def _share(totals: Tensor) -> Tensor:
    return totals / totals.sum().clamp(min=torch.finfo(totals.dtype).tiny)


class DCLoss(nn.Module):
    """Moving averages of the gradient per scale bin, and the loss weights that follow from them.

    Buffers, saved in checkpoints: ``averages`` (4, B), the moving averages (started at 0) of the
    batch totals of classification gradient, regression gradient, ground-truth objects and sampled
    foreground proposals; ``steps``, the number of batches in them.

    Source: our own reading, see the module's text.
    """

    averages: Tensor
    steps: Tensor
    edges: Tensor

    @configurable
    def __init__(
        self,
        *,
        strength: float = 0.5,
        target: str = "per_sample",
        bin_edges: Sequence[float] = AITOD_EDGES,
        momentum: float = 0.99,
        limit: float = 4.0,
    ) -> None:
        """
        Args:
            strength: how far the shares are moved to the target, in [0, 1]; 0 is the stock loss.
            target: ``per_sample``, ``per_object`` or ``uniform``, see :func:`target_share`.
            bin_edges: increasing upper bounds of the scale bins, sqrt(area) in original-image
                pixels; the last bin is open.
            momentum: of the moving averages, in [0, 1).
            limit: weights stay within [1 / limit, limit]; ``inf`` does not clip.

        Raises:
            ValueError: an option is out of its range.
        """
        super().__init__()
        bin_edges = tuple(float(edge) for edge in bin_edges)
        increasing = all(low < high for low, high in pairwise((0.0, *bin_edges, math.inf)))
        _check(0 <= strength <= 1, "strength", strength, "a number from 0 (stock loss) to 1")
        _check(target in TARGETS, "target", target, "one of " + ", ".join(TARGETS))
        _check(
            len(bin_edges) > 0 and increasing,
            "bin_edges",
            bin_edges,
            "at least one size in pixels, positive, finite and increasing",
        )
        _check(0 <= momentum < 1, "momentum", momentum, "a number from 0 to just under 1")
        _check(limit >= 1, "limit", limit, "a number of at least 1, or inf to clip nothing")
        self.strength, self.target, self.momentum, self.limit = strength, target, momentum, limit
        self.bin_names = bin_names(bin_edges)
        self.register_buffer("averages", torch.zeros(4, len(self.bin_names)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("edges", torch.tensor(bin_edges), persistent=False)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        return {
            "strength": cfg.MODEL.DC_LOSS.STRENGTH,
            "target": cfg.MODEL.DC_LOSS.TARGET,
            "bin_edges": cfg.MODEL.DC_LOSS.BIN_EDGES,
            "momentum": cfg.MODEL.DC_LOSS.MOMENTUM,
            "limit": cfg.MODEL.DC_LOSS.LIMIT,
        }

    @torch.no_grad()
    def observe(
        self, *, cls_gradient: Tensor, reg_gradient: Tensor, scale: Tensor, object_scale: Tensor
    ) -> None:
        """Add one batch to the averages, and log the shares and weights that result.

        Sums over all processes. Every process must call it once a step, also with empty tensors:
        it holds one collective operation.

        A batch with a non-finite total leaves the averages as they are: the loss itself reports it,
        and a checkpoint written afterwards stays usable.

        Args:
            cls_gradient, reg_gradient: (F,) gradient magnitudes of the unweighted losses.
            scale: (F,) scale of the object matched to each foreground proposal.
            object_scale: (M,) scales of all ground-truth objects of this process's batch.
        """
        bins, num_bins = scale_bin(scale, self.edges), len(self.bin_names)
        object_bins = scale_bin(object_scale, self.edges)
        batch = torch.stack(
            [
                bin_totals(cls_gradient, bins, num_bins),
                bin_totals(reg_gradient, bins, num_bins),
                bin_totals(torch.ones_like(object_scale), object_bins, num_bins),
                bin_totals(torch.ones_like(scale), bins, num_bins),
            ]
        )
        if comm.get_world_size() > 1:
            dist.all_reduce(batch)
        finite = batch.isfinite().all()  # a tensor: no synchronisation with the GPU
        moved = torch.lerp(self.averages, batch, 1 - self.momentum)
        self.averages.copy_(torch.where(finite, moved, self.averages))
        self.steps += finite
        self._log()

    def gradients(self) -> Tensor:
        """(2, B) average batch total of the classification and the regression gradient."""
        return self._corrected()[:2]

    def weights(self) -> tuple[Tensor, Tensor]:
        """(B,) weights of the classification and of the regression loss, constants to autograd."""
        *gradients, objects, samples = self._corrected()
        target = target_share(self.target, objects=objects, samples=samples)
        cls_weights, reg_weights = (
            bin_weights(gradient, target, strength=self.strength, limit=self.limit)
            for gradient in gradients
        )
        return cls_weights, reg_weights

    def _corrected(self) -> Tensor:
        # The averages start at 0, which pulls the first ones down (as in Adam's bias correction)
        return self.averages / (1 - self.momentum ** self.steps.clamp(min=1))

    def _log(self) -> None:
        storage = get_event_storage()
        kinds = ("cls_weight", "reg_weight", "cls_share", "reg_share")
        rows = torch.stack([*self.weights(), *map(_share, self.gradients())])
        # One transfer from the GPU, not one per scalar
        for kind, row in zip(kinds, rows.tolist(), strict=True):
            for name, value in zip(self.bin_names, row, strict=True):
                storage.put_scalar(f"dc_loss/{kind}/{name}", value, smoothing_hint=False)


def _check(valid: bool, option: str, found: object, expected: str) -> None:
    if not valid:
        raise ValueError(f"DCLoss option {option} is {found!r}, expected {expected}.")
