"""FBSM, the foreground-background separation module, and the supervision of its masks.

Shape legend: N images; C channels; L target levels; level `l` of stride `s` has H x W cells, and
cell (y, x) covers the network-input pixels [x*s, (x+1)*s) x [y*s, (y+1)*s); G objects and M ignored
regions on an image, boxes xyxy in network-input pixels.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .padding import ImageSize, valid_cells, valid_mask

# Cells x boxes that are rendered at once: 16 MiB of float32.
_RENDERED_AT_ONCE = 2**22


class FBSM(nn.Module):
    """Predict a foreground mask M per target level; amplify foreground, damp background.

    `F + alpha * M * F - beta * (1 - M) * F`. The scalars `alpha` and `beta` of each level start at
    zero: a new module is the exact identity. The mask head is shared by the levels.

    Source: the abstract of arXiv 2506.09897 names "spatial gating masks that dynamically amplify
    discriminative regions"; the formula and the layers are our own reading.
    """

    def __init__(self, *, channels: int, targets: Mapping[str, int], mask_channels: int = 32):
        """
        Args:
            channels: C, of every target level.
            targets: stride in network-input pixels by name, of the levels to gate.
            mask_channels: width of the mask head.
        """
        super().__init__()
        self.targets = dict(targets)
        self.reduce = nn.Conv2d(channels, mask_channels, 1)
        self.spatial = nn.Conv2d(mask_channels, mask_channels, 3, padding=1, groups=mask_channels)
        self.predict = nn.Conv2d(mask_channels, 1, 1)
        self.alpha = nn.ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in targets})
        self.beta = nn.ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in targets})
        for conv in (self.reduce, self.spatial):
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        nn.init.normal_(self.predict.weight, std=0.01)
        for conv in (self.reduce, self.spatial, self.predict):
            # The last one's is M = 0.5: with nothing to supervise the mask, a small prior would
            # leave it without gradient.
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def set_mask_prior(self, probability: float) -> None:
        """Start all masks at `probability` of foreground; for supervised masks.

        Raises:
            ValueError: it is not strictly between 0 and 1.
        """
        if not 0 < probability < 1:
            raise ValueError(f"the mask prior must lie in (0, 1), got {probability}")
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias, math.log(probability / (1 - probability)))

    def forward(
        self,
        features: Mapping[str, Tensor],
        image_sizes: Sequence[ImageSize] | None = None,
        inplace: bool = False,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """
        Args:
            features: (N, C, H, W) by name: at least the targets.
            image_sizes: N times (height, width) of the unpadded images in network-input pixels.
                What lies outside then has no influence on the cells inside. None: all is inside.
            inplace: overwrite the targets, which saves a copy of each. Only without autograd.

        Returns:
            The gated targets (N, C, H, W) by name, in the dtype and memory format they had, and
            their mask logits (N, 1, H, W) by name.
        """
        gated, logits = {}, {}
        for name, stride in self.targets.items():
            feature = features[name]
            logits[name] = self._mask_logits(feature, stride, image_sizes)
            mask = logits[name].float().sigmoid()
            gain = self.alpha[name] * mask - self.beta[name] * (1 - mask)
            gain = gain.to(feature.dtype)
            # One pass over the map: at P2 it is the largest that the detector has.
            gate = feature.addcmul_ if inplace else feature.addcmul
            gated[name] = gate(feature, gain)
        return gated, logits

    def _mask_logits(
        self, feature: Tensor, stride: int, image_sizes: Sequence[ImageSize] | None
    ) -> Tensor:
        hidden = F.relu(self.reduce(feature))
        grid = feature.shape[-2:]
        cells = valid_cells(image_sizes, stride, grid, feature.device)
        if cells is not None:
            # Zero outside is what the 3x3 of an image alone sees around it.
            hidden = hidden.masked_fill(~valid_mask(cells, grid), 0)
        return self.predict(F.relu(self.spatial(hidden)))


def foreground_map(boxes: Tensor, shape: Sequence[int], stride: int) -> Tensor:
    """Soft foreground of one image on one level.

    A cell's value is the largest fraction of it that one box covers; the cell that holds a box's
    centre is 1, so that every object, however small, owns a cell on every level.

    Args:
        boxes: (G, 4) xyxy in network-input pixels; they are clipped to the grid.
        shape: (H, W).
        stride: of the level, in network-input pixels.

    Returns:
        (H, W) in [0, 1], of the boxes' dtype.

    Source: our own reading.
    """
    height, width = shape
    foreground = _largest_coverage(boxes, shape, stride)
    limit = boxes.new_tensor([width, height, width, height]) * stride
    clipped = boxes.clamp(min=0).minimum(limit)
    column = (clipped[:, 0] + clipped[:, 2]).div(2 * stride).long().clamp(max=width - 1)
    row = (clipped[:, 1] + clipped[:, 3]).div(2 * stride).long().clamp(max=height - 1)
    foreground[row, column] = 1
    return foreground


def valid_map(
    image_size: tuple[int, int], ignore_boxes: Tensor, shape: Sequence[int], stride: int
) -> Tensor:
    """Cells of one image, on one level, that supervision may use.

    Args:
        image_size: (height, width) of the unpadded image in network-input pixels.
        ignore_boxes: (M, 4) xyxy in network-input pixels, neither foreground nor background.
        shape: (H, W).
        stride: of the level, in network-input pixels.

    Returns:
        (H, W) bool: False in the padding, and where one ignored region covers at least half of
        the cell.

    Source: our own reading.
    """
    valid = _largest_coverage(ignore_boxes, shape, stride) < 0.5
    cells = valid_cells([image_size], stride, shape, ignore_boxes.device)
    return valid if cells is None else valid & valid_mask(cells, shape)[0, 0]


def fbsm_loss(
    logits: Sequence[Tensor],
    gt_boxes: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    ignore_boxes: Sequence[Tensor] | None,
    strides: Sequence[int],
    focal_gamma: float = 2.0,
) -> Tensor:
    """Focal binary cross-entropy of the masks against rendered boxes, per foreground cell.

    With target y and probability p, a cell counts |y - p|^focal_gamma * BCE(p, y). The sum over
    the valid cells of all images and levels is divided by the number of those with y >= 0.5 (at
    least 1). A cell with y >= 0.5 is valid even inside an ignored region: there is an object.

    Args:
        logits: L times (N, 1, H, W).
        gt_boxes: N times (G, 4) xyxy in network-input pixels.
        image_sizes: N times (height, width) of the unpadded images in network-input pixels.
        ignore_boxes: N times (M, 4) xyxy in network-input pixels; None: nothing is ignored.
        strides: of the L levels, in network-input pixels.
        focal_gamma: exponent of the modulation; 0 is the plain cross-entropy.

    Returns:
        Scalar, float32, differentiable in `logits`; finite also without objects.

    Raises:
        ValueError: `focal_gamma` is negative.

    Source: our own reading; the modulation for soft targets is the quality focal loss of
    arXiv 2006.04388.
    """
    if focal_gamma < 0:
        raise ValueError(f"focal_gamma must be >= 0, got {focal_gamma}")
    if ignore_boxes is None:
        ignore_boxes = [boxes.new_zeros(0, 4) for boxes in gt_boxes]
    total = torch.zeros((), device=logits[0].device)
    num_foreground = torch.zeros((), device=logits[0].device)
    for level_logits, stride in zip(logits, strides, strict=True):
        grid = level_logits.shape[-2:]
        images = zip(gt_boxes, image_sizes, ignore_boxes, strict=True)
        targets, valid = zip(
            *(_level_target(boxes, size, ignored, grid, stride) for boxes, size, ignored in images),
            strict=True,
        )
        target, counted = torch.stack(targets), torch.stack(valid)
        loss = _focal_bce(level_logits[:, 0].float(), target, focal_gamma)
        total = total + (loss * counted).sum()
        num_foreground = num_foreground + (target >= 0.5).sum()
    return total / num_foreground.clamp(min=1)


@torch.no_grad()
def _level_target(
    boxes: Tensor,
    image_size: tuple[int, int],
    ignore_boxes: Tensor,
    shape: Sequence[int],
    stride: int,
) -> tuple[Tensor, Tensor]:
    """Float32 target and bool validity, (H, W) each, of one image on one level."""
    height, width = image_size
    # Within the image first: a centre beyond its edge would mark a cell of the padding.
    inside = boxes.float().clamp(min=0).minimum(boxes.new_tensor([width, height] * 2).float())
    target = foreground_map(inside, shape, stride)
    valid = valid_map(image_size, ignore_boxes.float(), shape, stride)
    return target, valid | (target >= 0.5)


def _focal_bce(logits: Tensor, target: Tensor, focal_gamma: float) -> Tensor:
    """|target - p|^focal_gamma * BCE, elementwise."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # Off zero: there, the derivative of a power below 1 is infinite, and 0 * inf is NaN.
    distance = (target - logits.sigmoid()).abs().clamp(min=1e-12)
    return distance**focal_gamma * cross_entropy


def _largest_coverage(boxes: Tensor, shape: Sequence[int], stride: int) -> Tensor:
    """Largest fraction of each cell that one of the (B, 4) boxes covers: (H, W) in [0, 1]."""
    height, width = shape
    covered = boxes.new_zeros(height, width)
    for chunk in boxes.split(max(1, _RENDERED_AT_ONCE // (height * width))):
        columns = _axis_coverage(chunk[:, 0], chunk[:, 2], width, stride)
        rows = _axis_coverage(chunk[:, 1], chunk[:, 3], height, stride)
        if len(chunk):
            covered = covered.maximum((rows[:, :, None] * columns[:, None, :]).amax(dim=0))
    return covered


def _axis_coverage(low: Tensor, high: Tensor, cells: int, stride: int) -> Tensor:
    """Fraction of each cell of one axis inside [low, high]: (B, cells) in [0, 1]."""
    start = torch.arange(cells, device=low.device, dtype=low.dtype) * stride
    overlap = (start + stride).minimum(high[:, None]) - start.maximum(low[:, None])
    return overlap.clamp(min=0) / stride
