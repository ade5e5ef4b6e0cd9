"""What a rule of label assignment is, and where yacs finds it by its name.

Shapes: G objects and P priors (anchors or proposals) on an image. All boxes are xyxy in
network-input pixels.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes
from detectron2.utils.registry import Registry
from torch import Tensor

# Detectron2 has a registry for every part that yacs names, and none for matchers. A registry rather
# than a table of ours: a user's own rule gets its name in yacs the way every other part does.
ASSIGNER_REGISTRY = Registry("ASSIGNER")
ASSIGNER_REGISTRY.__doc__ = """
Registry of the rules that label the RPN's anchors, chosen by MODEL.ASSIGNER.NAME.

The registered class is called with `cls(cfg)` and gives an `Assigner`.
"""

# Pairs of object and prior that are compared at once. On a CPU the few arrays of such a chunk stay
# in its cache; on a GPU a chunk has to be large against the launch of a kernel, 64 MiB an array.
_PAIRS_AT_ONCE = {"cpu": 2**20, "cuda": 2**24}


class Assigner(Protocol):
    """Says which object each prior is trained to find."""

    def __call__(self, gt_boxes: Boxes | Tensor, priors: Boxes | Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            gt_boxes: (G, 4) objects.
            priors: (P, 4), of all levels; they are left as they are.

        Returns:
            The index (P,) int64 of the object that each prior is matched with, in [0, G) and 0
            where none is; and the labels (P,) int8: 1 foreground, 0 background, -1 neither. As
            Detectron2's `Matcher`.
        """


def build_assigner(cfg: CfgNode) -> Assigner:
    """The registered rule of the name MODEL.ASSIGNER.NAME."""
    return ASSIGNER_REGISTRY.get(cfg.MODEL.ASSIGNER.NAME)(cfg)


def coordinates(boxes: Boxes | Tensor) -> Tensor:
    """The (N, 4) tensor of `boxes`, in float32 at least."""
    tensor = boxes.tensor if isinstance(boxes, Boxes) else boxes
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def chunks(objects: Tensor, priors: Tensor) -> Iterator[slice]:
    """Parts of the priors whose pairs with all objects fit the memory that is meant for them.

    Neighbours stay together: priors of a level lie row by row.
    """
    pairs = _PAIRS_AT_ONCE.get(priors.device.type, _PAIRS_AT_ONCE["cpu"])
    size = max(1, pairs // max(1, len(objects)))
    for start in range(0, len(priors), size):
        yield slice(start, min(start + size, len(priors)))
