"""The anchors of a detector, to be compared with those that its weights were trained with.

No weight holds them: with other ones the weights load as well, and every box is wrong.
"""

from typing import Any

from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import nn


def anchors_of(model: nn.Module) -> dict[str, Any] | None:
    """What decides where a detector's anchors are, as plain data.

    Returns:
        `strides` of the levels, `offset` of the centres in strides, and for each level the `sizes`
        (width, height), all in network-input pixels and rounded to 0.01. None where the model has
        no such anchors.
    """
    generator = getattr(getattr(model, "proposal_generator", None), "anchor_generator", None)
    if not isinstance(generator, DefaultAnchorGenerator):
        return None
    levels = [cells.tolist() for cells in generator.cell_anchors]
    return {
        "strides": [int(stride) for stride in generator.strides],
        "offset": float(generator.offset),
        "sizes": [
            [[round(x1 - x0, 2), round(y1 - y0, 2)] for x0, y0, x1, y1 in cells] for cells in levels
        ],
    }


def anchor_text(anchors: dict[str, Any]) -> str:
    """Anchors in words: "8, 16 px (height / width 0.5, 1, 2) at strides 4, 8, offset 0"."""
    sizes = [
        "/".join(_distinct((width * height) ** 0.5 for width, height in level))
        for level in anchors["sizes"]
    ]
    shapes = _distinct(height / width for level in anchors["sizes"] for width, height in level)
    strides = ", ".join(map(str, anchors["strides"]))
    return (
        f"{', '.join(sizes)} px (height / width {', '.join(shapes)}) at strides {strides}, "
        f"offset {anchors['offset']:g}"
    )


def _distinct(values: Any) -> list[str]:
    return [f"{value:g}" for value in sorted({round(value, 1) for value in values})]
