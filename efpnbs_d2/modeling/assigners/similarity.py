"""How alike two boxes are, for boxes of which few pixels overlap or none.

Every function takes boxes that broadcast: (G, 1, 4) and (P, 4) give all pairs (G, P), and (N, 4)
and (N, 4) give N aligned pairs. Boxes are xyxy in network-input pixels, the object first. Values
are in [0, 1], 1 for the same box (up to the square root's epsilon), and computed in float32 at
least, also under mixed precision.

A box stands for the Gaussian N(centre, diag(w^2 / 4, h^2 / 4)).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Similarity = Callable[[Tensor, Tensor], Tensor]

# C of NWD and DotD, in pixels: a distance of C has similarity 1 / e. AI-TOD's mean sqrt(w * h).
CONSTANT = 12.8

# Keeps the gradient of the square root finite where two boxes are the same.
_EPSILON = 1e-6

# Many times what float32 may lose.
_ROUNDED_UP = 1.001


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, the bits of Detectron2's `pairwise_iou`; 0 where nothing overlaps.

    Args:
        a: (..., 4) boxes.
        b: (..., 4) boxes, of a shape that broadcasts with that of `a`.

    Returns:
        (...) similarities.
    """
    ax1, ay1, ax2, ay2 = _coordinates(a)
    bx1, by1, bx2, by2 = _coordinates(b)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    shared = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return torch.where(shared > 0, shared / union, torch.zeros_like(shared))


def squared_wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of the boxes' Gaussians, in square pixels: see `iou`."""
    ax, ay, aw, ah = _gaussian(a)
    bx, by, bw, bh = _gaussian(b)
    return (ax - bx) ** 2 + (ay - by) ** 2 + ((aw - bw) ** 2 + (ah - bh) ** 2) / 4


def nwd(a: Tensor, b: Tensor, constant: float = CONSTANT) -> Tensor:
    """Normalised Gaussian Wasserstein distance exp(-W2 / constant): see `iou`.

    Source: the released code of NWD (Wang et al.), its epsilon included; `constant` in pixels, 12.8
    there, by the rule "mean sqrt(w * h) of the data set".
    """
    return torch.exp(-torch.sqrt(squared_wasserstein(a, b) + _EPSILON) / constant)


def dotd(a: Tensor, b: Tensor, constant: float = CONSTANT) -> Tensor:
    """Dot distance exp(-distance of centres / constant), whatever the sizes: see `iou`.

    Source: the released code of NWD-RKA (Xu et al.), which has 12.7 as `constant`, in pixels.
    """
    ax, ay, _, _ = _gaussian(a)
    bx, by, _, _ = _gaussian(b)
    return torch.exp(-torch.sqrt((ax - bx) ** 2 + (ay - by) ** 2 + _EPSILON) / constant)


def rfd_kl(a: Tensor, b: Tensor) -> Tensor:
    """Receptive-field distance 1 / (1 + KL(b || a)): see `iou`.

    Not symmetric: distances are measured in sizes of `a`, the object.

    Source: the released code of RFLA (Xu et al.), where it is the default.
    """
    ax, ay, aw, ah = _gaussian(a)
    bx, by, bw, bh = _gaussian(b)
    wide, high = _squared(aw), _squared(ah)
    other_wide, other_high = _squared(bw), _squared(bh)
    # One division a pair of sides: variance and offset are measured in the same size
    along_x = (other_wide + 4 * (ax - bx) ** 2) / wide
    along_y = (other_high + 4 * (ay - by) ** 2) / high
    log_ratio = torch.log(wide * high) - torch.log(other_wide * other_high)
    return 1 / ((along_x + along_y + log_ratio) / 2)


def rfd_wd(a: Tensor, b: Tensor) -> Tensor:
    """Receptive-field distance 1 / (1 + W2^2), without a constant: see `iou`.

    Source: the released code of RFLA (Xu et al.).
    """
    return 1 / (1 + squared_wasserstein(a, b) + _EPSILON)


def similarity_function(name: str, constant: float = CONSTANT) -> Similarity:
    """The function of that name.

    Args:
        name: "iou", "nwd", "dotd", "rfd_kl" or "rfd_wd".
        constant: C of "nwd" and "dotd" in network-input pixels; the others have none.

    Raises:
        ValueError: there is no such name, or the constant is not positive.
    """
    known: dict[str, Similarity] = {
        "iou": iou,
        "nwd": partial(nwd, constant=positive_constant(constant)),
        "dotd": partial(dotd, constant=constant),
        "rfd_kl": rfd_kl,
        "rfd_wd": rfd_wd,
    }
    if name not in known:
        raise ValueError(f"Similarity {name!r} is unknown, expected one of {', '.join(known)}")
    return known[name]


def positive_constant(constant: float) -> float:
    """C of NWD and DotD in network-input pixels, which must be positive.

    Raises:
        ValueError: it is not.
    """
    if not constant > 0:
        raise ValueError(
            f"The constant of NWD and DotD (MODEL.NWD.CONSTANT) must be positive, got {constant} px"
        )
    return constant


def highest_among(function: Similarity, objects: Tensor, boxes: Tensor) -> Tensor:
    """An upper bound of each object's similarity to any of `boxes`, from where they lie.

    IoU is 0 for what lies outside the rectangle around all boxes. Otherwise nothing is more alike
    than a box as near as the boxes' centres come, and as near in width and height as theirs are.

    Args:
        function: of this module.
        objects: (G, 4).
        boxes: (N, 4), at least one.

    Returns:
        (G,) bounds that the values in float32 keep to as well.
    """
    if function is iou:
        low, high = boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)
        return ((objects[:, :2] < high) & (objects[:, 2:] > low)).all(dim=1).to(objects.dtype)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    own = (objects[:, :2] + objects[:, 2:]) / 2
    sides, own_sides = boxes[:, 2:] - boxes[:, :2], objects[:, 2:] - objects[:, :2]
    centre = own.clamp(centres.amin(dim=0), centres.amax(dim=0))
    half = own_sides.clamp(sides.amin(dim=0), sides.amax(dim=0)) / 2
    return function(objects, torch.cat([centre - half, centre + half], dim=1)) * _ROUNDED_UP


def _coordinates(boxes: Tensor) -> tuple[Tensor, ...]:
    """x1, y1, x2 and y2, each contiguous: strided columns cost a multiple of the time."""
    if boxes.dtype != torch.float64:
        boxes = boxes.float()
    return boxes.movedim(-1, 0).contiguous().unbind(0)


def _gaussian(boxes: Tensor) -> tuple[Tensor, ...]:
    """Centre x and y, width and height."""
    x1, y1, x2, y2 = _coordinates(boxes)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _squared(side: Tensor) -> Tensor:
    """Square of a side, also of a box without area."""
    return (side + _EPSILON) ** 2
