"""What of each box lies in the tiles of its image.

Shapes: T tiles of one image, G boxes of that image.
Source: TinyPerson's authors: a box stays in a tile if sqrt(area inside) / sqrt(area) >= 0.7.
"""

import numpy as np

from .mapper import MIN_VISIBLE

__all__ = ["split_boxes", "stays"]


def split_boxes(boxes: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut every box at the borders of every tile.

    Args:
        boxes: (G, 4) xyxy, pixels of the original image.
        corners: (T, 4) xyxy, the tiles in the same frame.

    Returns:
        pieces: (T, G, 4) xyxy, pixels of the tile; of no extent where a box lies outside it;
        visible: (T, G) sqrt(area inside the tile) / sqrt(area of the box), 0 for an empty box.
    """
    limits = corners[:, None, :]
    low, high = np.tile(limits[..., :2], 2), np.tile(limits[..., 2:], 2)
    pieces = np.clip(boxes[None], low, high) - low
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    inside = np.prod(pieces[..., 2:] - pieces[..., :2], axis=-1)
    # A box that is empty, or so small that its area underflows, is never visible.
    visible = np.sqrt(inside) / np.sqrt(np.where(area > 0, area, np.inf))
    return pieces, visible


def stays(visible: np.ndarray, is_region: np.ndarray) -> np.ndarray:
    """Which pieces a tile keeps: objects of which enough is visible, and all of ignore regions.

    Args:
        visible: (T, G) of :func:`split_boxes`.
        is_region: (G,) bool, the boxes that are ignore regions.

    Returns:
        (T, G) bool.

    Source: the rule for objects is that of TinyPerson's authors. They hold ignore regions to the
    same rule; we keep every piece, because what is left out of a tile becomes background there.
    """
    return np.where(is_region, visible > 0, visible >= MIN_VISIBLE)
