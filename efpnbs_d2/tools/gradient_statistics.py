"""How hard the losses pull on each pyramid level, with the stock FPN and with E-FPN-BS.

Shapes: N samples, augmented training images, one at a time; L pyramid levels; S stages of the
bottom-up network that are not frozen; K detection losses. A norm is the L2 norm of the gradient of
a loss by a whole feature map.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.events import EventStorage
from torch import Tensor
from tqdm import tqdm

from .anchor_statistics import assign
from .box_gradient import BoxGradient, BoxHeadOutput, first_predictor
from .detector_pair import DetectorPair

__all__ = ["GradientStatistics", "PyramidGradient", "gradient_statistics"]

# Supervises FBSM's masks: no detection loss, and the stock FPN has none of it.
MASK_LOSS = "loss_fbsm"


@dataclass(frozen=True)
class PyramidGradient:
    """Gradient norms in one detector.

    Attributes:
        total: (N, L + S) of the sum of the detection losses, the levels first. What reaches P5
            includes what reaches it through P6, a subsample of it, and through CEM.
        by_loss: (N, K, L) of each detection loss.
        mask_loss: (N, L) of `loss_fbsm`; zeros without it.
    """

    total: np.ndarray
    by_loss: np.ndarray
    mask_loss: np.ndarray


@dataclass(frozen=True)
class GradientStatistics:
    """What N samples say about a pair of detectors.

    Attributes:
        levels: L names, fine to coarse.
        stages: S names.
        losses: K names.
        stock: gradients with the stock FPN.
        enhanced: gradients with E-FPN-BS.
        positives: (N, L) positive anchors, before any are sampled.
        box: of the detector with E-FPN-BS.
    """

    levels: tuple[str, ...]
    stages: tuple[str, ...]
    losses: tuple[str, ...]
    stock: PyramidGradient
    enhanced: PyramidGradient
    positives: np.ndarray
    box: BoxGradient

    def map_numbers(self) -> list[dict[str, Any]]:
        """For each level and stage: mean and standard deviation over samples, and their ratio.

        The ratio is E-FPN-BS by FPN: median and quartiles of the samples' own ratios.
        """
        rows = []
        for number, name in enumerate((*self.levels, *self.stages)):
            stock, enhanced = self.stock.total[:, number], self.enhanced.total[:, number]
            found: dict[str, Any] = {"map": name}
            for kind, norms in (("stock", stock), ("enhanced", enhanced)):
                found |= {f"{kind}_mean": float(norms.mean()), f"{kind}_std": float(norms.std())}
            ratios = enhanced[stock > 0] / stock[stock > 0]
            if len(ratios) > 0:
                low, middle, high = np.percentile(ratios, (25, 50, 75)).tolist()
                found |= {"ratio": middle, "ratio_quartile_1": low, "ratio_quartile_3": high}
            if name in self.levels:
                none = self.positives[:, number] == 0
                found["samples_without_positive"] = float(none.mean())
            rows.append(found)
        return rows

    def loss_numbers(self) -> list[dict[str, Any]]:
        """For each level the mean norm of each loss, `loss_fbsm` included, in both detectors."""
        rows = []
        for number, level in enumerate(self.levels):
            found: dict[str, Any] = {"level": level}
            for kind, one in (("stock", self.stock), ("enhanced", self.enhanced)):
                means = one.by_loss[:, :, number].mean(axis=0).tolist()
                found[kind] = dict(zip(self.losses, means, strict=True))
            if self.enhanced.mask_loss.any():
                found["enhanced"][MASK_LOSS] = float(self.enhanced.mask_loss[:, number].mean())
            rows.append(found)
        return rows


def gradient_statistics(
    pair: DetectorPair, samples: Iterable[dict[str, Any]], count: int, *, progress: bool = True
) -> GradientStatistics:
    """Measure both detectors on the same samples and the same random choices of proposals.

    Args:
        pair: in training mode. Its weights stay; running statistics of normalisation move.
        samples: with objects, as the training mapper yields them.
        count: of the samples, at least 1.
        progress: show a progress bar.
    """
    stock: list[_Measured] = []
    enhanced: list[_Measured] = []
    positives = []
    bar = tqdm(samples, desc="gradients", unit="image", total=count, disable=not progress)
    for seed, sample in enumerate(bar):
        for model, found in ((pair.stock, stock), (pair.enhanced, enhanced)):
            torch.manual_seed(seed)
            found.append(_measure(model, sample, pair.dc_loss.edges))
        objects = sample["instances"]
        assigned = assign(pair.stock, objects.gt_boxes.tensor, objects.image_size).positives
        by_level = dict(zip(pair.stock.proposal_generator.in_features, assigned, strict=True))
        positives.append([by_level.get(name, 0) for name in stock[0].levels])
    first = stock[0]
    return GradientStatistics(
        levels=tuple(first.levels),
        stages=tuple(first.stages),
        losses=tuple(first.losses),
        stock=_stacked(stock),
        enhanced=_stacked(enhanced),
        positives=np.array(positives),
        box=BoxGradient.sum([one.box for one in enhanced]),
    )


@dataclass(frozen=True)
class _Measured:
    """One sample in one detector: norms by name of the map, and by loss in the levels' order."""

    levels: dict[str, float]
    stages: dict[str, float]
    losses: dict[str, list[float]]
    mask_loss: list[float]
    box: BoxGradient


def _stacked(samples: list[_Measured]) -> PyramidGradient:
    return PyramidGradient(
        total=np.array([[*one.levels.values(), *one.stages.values()] for one in samples]),
        by_loss=np.array([list(one.losses.values()) for one in samples]),
        mask_loss=np.array([one.mask_loss for one in samples]),
    )


def _measure(model: GeneralizedRCNN, sample: dict[str, Any], edges: Tensor) -> _Measured:
    with EventStorage(), _recorded(model) as passed:
        losses = model([sample])
    levels = list(passed.levels.values())
    norms: dict[str, list[float]] = {}
    sums = [torch.zeros_like(level) for level in levels]
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, levels, retain_graph=True, materialize_grads=True)
        norms[name] = [gradient.norm().item() for gradient in gradients]
        if name != MASK_LOSS:
            sums = [a + b for a, b in zip(sums, gradients, strict=True)]
    box = BoxGradient.of(passed.head, losses, sample["instances"], edges.to(model.device))
    mask_loss = norms.pop(MASK_LOSS, [0.0] * len(levels))
    stages = {name: stage for name, stage in passed.stages.items() if stage.requires_grad}
    detection = torch.stack([losses[name] for name in norms]).sum()
    below = torch.autograd.grad(detection, list(stages.values())) if stages else ()
    return _Measured(
        levels=dict(zip(passed.levels, (total.norm().item() for total in sums), strict=True)),
        stages=dict(zip(stages, (gradient.norm().item() for gradient in below), strict=True)),
        losses=norms,
        mask_loss=mask_loss,
        box=box,
    )


@dataclass
class _Passed:
    """Maps and outputs that a forward pass went through.

    Attributes:
        levels: what the FPN itself yields, before CEM and FBSM; fine to coarse.
        stages: of the bottom-up network.
        head: the box head's part.
    """

    levels: dict[str, Tensor] = field(default_factory=dict)
    stages: dict[str, Tensor] = field(default_factory=dict)
    head: BoxHeadOutput = field(default_factory=BoxHeadOutput)


@contextmanager
def _recorded(model: GeneralizedRCNN) -> Iterator[_Passed]:
    """Fills what it yields in the next forward pass of `model`."""
    backbone, passed = model.backbone, _Passed()
    outputs: list[Tensor] = []  # in the order of the forward pass: coarse to fine
    top: list[Tensor] = []

    def keep_stages(module: Any, inputs: Any, maps: dict[str, Tensor]) -> None:
        passed.stages = {name: maps[name] for name in backbone.in_features}

    def keep_levels(module: Any, inputs: Any, result: Any) -> None:
        names = backbone.output_shape()
        passed.levels = dict(zip(names, [*outputs[::-1], *top], strict=True))

    def keep_proposals(module: Any, inputs: Any, result: Any) -> None:
        passed.head.proposals = result[0]

    def keep_predictions(module: Any, inputs: Any, predictions: tuple[Tensor, Tensor]) -> None:
        passed.head.predictions = predictions

    hooks = [
        backbone.bottom_up.register_forward_hook(keep_stages),
        *(
            convolution.register_forward_hook(lambda _, __, level: outputs.append(level))
            for convolution in backbone.output_convs
        ),
        backbone.register_forward_hook(keep_levels),
        model.roi_heads.register_forward_hook(keep_proposals),
        first_predictor(model).register_forward_hook(keep_predictions),
    ]
    if backbone.top_block is not None:
        hooks.append(backbone.top_block.register_forward_hook(lambda _, __, maps: top.extend(maps)))
    try:
        yield passed
    finally:
        for hook in hooks:
            hook.remove()
