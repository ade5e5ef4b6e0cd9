"""CEM, the context enhancement module: the semantics of high levels, handed to low ones.

Shape legend: N images; C channels of the pyramid; K context channels; a level of stride `s` has
H_s x W_s cells; `f` is the finest source level.

    sources (N, C, H_s, W_s) -> aligned (N, S*C, H_f, W_f) -> compressed (N, K, H_f, W_f)
    -> local (N, K, H_f, W_f) * gate (N, K, 1, 1) -> per target: (N, C, H_f, W_f)
    -> upsampled (N, C, H_t, W_t), added to the target
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .padding import ImageSize, replicate_border, valid_cells, valid_mask


class CEM(nn.Module):
    """Align and compress the source levels, fuse a local and a global branch, add to the targets.

    The per-channel scales `gamma` start at zero: a new module is the exact identity.

    Source: the abstract of arXiv 2506.09897 names "dual-branch processing to align and compress
    high-level features for effective global-local fusion"; the layers are our own reading.
    """

    def __init__(
        self,
        *,
        channels: int,
        sources: Mapping[str, int],
        targets: Mapping[str, int],
        context_channels: int = 64,
    ):
        """
        Args:
            channels: of every level.
            sources: stride in network-input pixels by name, of the levels to take context from.
            targets: the same, of the levels that receive it. No source is finer than a target.
            context_channels: width K of the compressed context map.
        """
        super().__init__()
        self.sources = dict(sorted(sources.items(), key=lambda level: level[1]))
        self.targets = dict(targets)
        self.compress = nn.Conv2d(channels * len(sources), context_channels, 1)
        self.local = nn.Sequential(
            nn.Conv2d(context_channels, context_channels, 5, padding=2, groups=context_channels),
            nn.ReLU(),
            nn.Conv2d(context_channels, context_channels, 1),
        )
        self.gate = nn.Sequential(
            nn.Conv2d(context_channels, context_channels, 1),
            nn.ReLU(),
            nn.Conv2d(context_channels, context_channels, 1),
            nn.Sigmoid(),
        )
        self.expand = nn.ModuleDict(
            {name: nn.Conv2d(context_channels, channels, 1) for name in self.targets}
        )
        self.gamma = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(channels)) for name in self.targets}
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Variance 1 / fan-in keeps the scale; by fan-out, the default of Detectron2's
                # initialisers, a depthwise layer would start K times too small.
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(
        self, features: Mapping[str, Tensor], image_sizes: Sequence[ImageSize] | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            features: (N, C, H_s, W_s) by name: at least the sources and the targets.
            image_sizes: N times (height, width) of the unpadded images in network-input pixels.
                What lies outside then has no influence on the cells inside. None: all is inside.

        Returns:
            The enhanced targets (N, C, H_t, W_t) by name, in the dtype and memory format they had.
        """
        context = self.context(features, image_sizes)
        finest_stride = next(iter(self.sources.values()))
        enhanced = {}
        for name, stride in self.targets.items():
            target = features[name]
            # Interpolation is linear: scaling before it is the same, on a far smaller map.
            gamma = self.gamma[name].to(context.dtype)[:, None, None]
            update = self.expand[name](context) * gamma
            update = update.contiguous(memory_format=_memory_format(target))
            update = _upsample(update, finest_stride // stride, target.shape[-2:])
            enhanced[name] = _sum(target, update.to(target.dtype))
        return enhanced

    def context(
        self, features: Mapping[str, Tensor], image_sizes: Sequence[ImageSize] | None = None
    ) -> Tensor:
        """The fused context map (N, K, H_f, W_f); arguments as for `forward`."""
        finest, finest_stride = next(iter(self.sources.items()))
        grid = features[finest].shape[-2:]
        device = features[finest].device
        compressed = self.compress(self._align(features, image_sizes))
        cells = valid_cells(image_sizes, finest_stride, grid, device)
        if cells is None:
            pooled = compressed.float().mean(dim=(2, 3), keepdim=True)
            return self.local(compressed) * self.gate(pooled.to(compressed.dtype))

        inside = valid_mask(cells, grid)
        # Zero outside is what the 5x5 of an image alone sees around it.
        compressed = compressed.masked_fill(~inside, 0)
        # Summed in float32: the cells of a large map overflow float16.
        pooled = compressed.float().sum(dim=(2, 3), keepdim=True)
        pooled = pooled / inside.sum(dim=(2, 3), keepdim=True)
        fused = self.local(compressed) * self.gate(pooled.to(compressed.dtype))
        return replicate_border(fused, cells)

    def _align(
        self, features: Mapping[str, Tensor], image_sizes: Sequence[ImageSize] | None
    ) -> Tensor:
        """All sources on the grid of the finest one: (N, S*C, H_f, W_f)."""
        finest, finest_stride = next(iter(self.sources.items()))
        grid = features[finest].shape[-2:]
        aligned = []
        for name, stride in self.sources.items():
            source = features[name]
            cells = valid_cells(image_sizes, stride, source.shape[-2:], source.device)
            if cells is not None:
                source = replicate_border(source, cells)
            aligned.append(_upsample(source, stride // finest_stride, grid))
        return torch.cat(aligned, dim=1)


def _upsample(features: Tensor, ratio: int, grid: Sequence[int]) -> Tensor:
    """Upsample by a ratio of strides, then crop to `grid` cells.

    Resizing to `grid` instead would stretch the map: at 800 px, the 13 cells of P6 span 26 of P5's,
    not the 25 that there are.
    """
    if ratio > 1:
        features = F.interpolate(
            features,
            scale_factor=float(ratio),
            mode="bilinear",
            align_corners=False,
            recompute_scale_factor=False,
        )
    return features[..., : grid[0], : grid[1]]


def _sum(target: Tensor, update: Tensor) -> Tensor:
    """`target + update`; on the inference path into the update, which nobody else holds."""
    if torch.is_grad_enabled() or torch.jit.is_tracing():
        return target + update
    # At P2 and 800 px, another new map of 40 MB takes a CPU five times as long as the sum itself.
    return update.contiguous(memory_format=_memory_format(target)).add_(target)


def _memory_format(features: Tensor) -> torch.memory_format:
    channels_last = torch.channels_last
    if features.is_contiguous() or not features.is_contiguous(memory_format=channels_last):
        return torch.contiguous_format
    return channels_last
