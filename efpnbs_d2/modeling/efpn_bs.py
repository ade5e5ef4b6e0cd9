"""E-FPN-BS: Detectron2's FPN with CEM and FBSM on its outputs.

Shape legend: N images padded to one size; C channels; a level of stride `s` has H_s x W_s cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor, nn

from .cem import CEM
from .fbsm import FBSM
from .padding import ImageSize


@BACKBONE_REGISTRY.register()
class EFPNBS(FPN):
    """FPN whose high levels enhance its low ones (CEM), which are then gated (FBSM).

    Both modules start as the exact identity, so any checkpoint of Detectron2's FPN is a valid
    start. With both off it is the FPN. Their parameters are `cem.*` and `fbsm.*`.

    Source: the abstract of arXiv 2506.09897 names the parts; the wiring is our own reading.
    """

    @configurable
    def __init__(
        self,
        *,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int = 256,
        norm: str = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
        sources: Sequence[str] = ("p5", "p6"),
        targets: Sequence[str] = ("p2", "p3", "p4"),
        cem: bool = True,
        context_channels: int = 64,
        fbsm: bool = True,
        mask_channels: int = 32,
    ):
        """
        Args:
            bottom_up: backbone below the pyramid.
            in_features: its outputs to build on, fine to coarse, strides doubling.
            out_channels: C, of every level.
            norm: normalisation of the pyramid's convolutions; "" for none.
            top_block: adds coarser levels, e.g. `LastLevelMaxPool()` for p6.
            fuse_type: "sum" or "avg", of the pyramid's lateral and top-down maps.
            square_pad: if > 0, inputs are padded to this square size, in pixels.
            sources: levels that CEM takes context from, none of them finer than a target.
            targets: levels that CEM adds to and FBSM gates.
            cem: whether there is a CEM.
            context_channels: width of CEM's context map.
            fbsm: whether there is an FBSM.
            mask_channels: width of FBSM's mask head.

        Raises:
            ValueError: a level or input feature that does not exist, or sources and targets that
                do not fit together.
        """
        _require_names("in_features", in_features, bottom_up.output_shape(), "bottom-up outputs")
        super().__init__(
            bottom_up=bottom_up,
            in_features=in_features,
            out_channels=out_channels,
            norm=norm,
            top_block=top_block,
            fuse_type=fuse_type,
            square_pad=square_pad,
        )
        strides = {name: shape.stride for name, shape in self.output_shape().items()}
        self.sources = tuple(sources)
        self.targets = tuple(targets)
        if cem or fbsm:
            _require_names("targets", targets, strides, "pyramid levels")
        if cem:
            _require_names("sources", sources, strides, "pyramid levels")
            _require_coarser_sources(sources, targets, strides)
        target_strides = {name: strides[name] for name in targets} if cem or fbsm else {}
        self.cem = (
            CEM(
                channels=out_channels,
                sources={name: strides[name] for name in sources},
                targets=target_strides,
                context_channels=context_channels,
            )
            if cem
            else None
        )
        self.fbsm = (
            FBSM(channels=out_channels, targets=target_strides, mask_channels=mask_channels)
            if fbsm
            else None
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        loss_weight, fbsm = cfg.MODEL.FBSM.LOSS_WEIGHT, cfg.MODEL.FBSM.ENABLED
        if loss_weight > 0 and not fbsm:
            raise ValueError(
                f"MODEL.FBSM.LOSS_WEIGHT is {loss_weight}, but MODEL.FBSM.ENABLED is False: there "
                "is no mask to supervise; enable FBSM or set the weight to 0"
            )
        if loss_weight > 0 and cfg.MODEL.META_ARCHITECTURE != "TinyObjectRCNN":
            raise ValueError(
                f"MODEL.FBSM.LOSS_WEIGHT is {loss_weight}, but MODEL.META_ARCHITECTURE "
                f"{cfg.MODEL.META_ARCHITECTURE!r} computes no mask loss; set it to "
                "'TinyObjectRCNN', or the weight to 0"
            )
        bottom_up = BACKBONE_REGISTRY.get(cfg.MODEL.EFPN_BS.BOTTOM_UP)
        return {
            "bottom_up": bottom_up(cfg, input_shape),
            "in_features": cfg.MODEL.FPN.IN_FEATURES,
            "out_channels": cfg.MODEL.FPN.OUT_CHANNELS,
            "norm": cfg.MODEL.FPN.NORM,
            "top_block": LastLevelMaxPool(),
            "fuse_type": cfg.MODEL.FPN.FUSE_TYPE,
            "sources": cfg.MODEL.EFPN_BS.SOURCES,
            "targets": cfg.MODEL.EFPN_BS.TARGETS,
            "cem": cfg.MODEL.CEM.ENABLED,
            "context_channels": cfg.MODEL.CEM.CONTEXT_CHANNELS,
            "fbsm": fbsm,
            "mask_channels": cfg.MODEL.FBSM.MASK_CHANNELS,
        }

    def forward(
        self, x: Tensor, image_sizes: Sequence[ImageSize] | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            x: (N, 3, H, W) padded images.
            image_sizes: N times (height, width) of the unpadded images, in network-input pixels.
                What lies outside then has no influence through CEM or FBSM. None (as under a
                stock meta-architecture): everything counts as image.

        Returns:
            The levels (N, C, H_s, W_s) by name as of `FPN`, e.g. "p2" to "p6"; with FBSM also the
            mask logits (N, 1, H_s, W_s) of each target, e.g. "fbsm_logits_p2".
        """
        features: dict[str, Tensor] = super().forward(x)
        if self.cem is not None:
            features.update(self.cem(features, image_sizes))
        if self.fbsm is not None:
            # The maps are our own. Not in a trace: exporters lack some in-place operators.
            inplace = not (torch.is_grad_enabled() or torch.jit.is_tracing())
            gated, logits = self.fbsm(features, image_sizes, inplace=inplace)
            features.update(gated)
            features.update({f"fbsm_logits_{name}": value for name, value in logits.items()})
        return features


def _require_names(
    argument: str, names: Sequence[str], known: Mapping[str, Any], what: str
) -> None:
    if not names or len(set(names)) != len(names) or not set(names) <= set(known):
        raise ValueError(
            f"{argument} is {list(names)}; expected one or more different names of the {what} "
            f"{list(known)}"
        )


def _require_coarser_sources(
    sources: Sequence[str], targets: Sequence[str], strides: Mapping[str, int]
) -> None:
    both = sorted(set(sources) & set(targets))
    if both:
        raise ValueError(f"{both} are both sources and targets; a level can be one of them")
    finest = min(sources, key=strides.__getitem__)
    coarsest = max(targets, key=strides.__getitem__)
    if strides[finest] < strides[coarsest]:
        raise ValueError(
            f"source {finest} (stride {strides[finest]}) is finer than target {coarsest} (stride "
            f"{strides[coarsest]}); context goes from coarse to fine: move {finest} out of the "
            f"sources {list(sources)} or {coarsest} out of the targets {list(targets)}"
        )
