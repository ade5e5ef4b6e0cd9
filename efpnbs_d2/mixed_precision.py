"""Automatic mixed precision that leaves boxes where they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.modeling.poolers import ROIPooler
from torch import Tensor, nn

__all__ = ["PRECISIONS", "mixed_precision"]

# What convolutions and matrix products compute in.
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@contextmanager
def mixed_precision(model: nn.Module, precision: torch.dtype = torch.float32) -> Iterator[None]:
    """`torch.autocast` for a detector on its device; float32 changes nothing.

    Detectron2 rounds boxes to the type of the features that it pools: in bfloat16 to multiples of
    8 px from 1,024 px on, which is a whole tiny object, in float16 to 1 px. Its ROI poolers
    therefore get float32 features here. Autocast computes ROIAlign in float32 anyway.

    Args:
        model: whose ROI poolers are looked after; the context may be entered again and again.
        precision: one of `PRECISIONS`.
    """
    device = next(model.parameters()).device
    mixed = precision != torch.float32
    poolers = [module for module in model.modules() if mixed and isinstance(module, ROIPooler)]
    hooks = [pooler.register_forward_pre_hook(_with_float32_features) for pooler in poolers]
    try:
        with torch.autocast(device.type, precision, enabled=mixed):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _with_float32_features(pooler: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    features: Sequence[Tensor] = arguments[0]
    return ([feature.float() for feature in features], *arguments[1:])
