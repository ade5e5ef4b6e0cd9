"""Ignored regions painted over, so that no model can see what was not annotated.

Shapes: G objects and M ignored regions on an H x W image, xyxy in its pixels.
"""

import numpy as np


def erase_regions(image: np.ndarray, regions: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Paint each region with its own mean colour.

    The pixels of annotated objects stay: a label on a flat patch would teach nothing.

    Args:
        image: H x W x channels, uint8; left as it is.
        regions: (M, 4) xyxy; every pixel that a region touches is painted.
        objects: (G, 4) xyxy.

    Returns:
        A copy; `image` itself where there is no region.

    Source: TinyPerson's distributed images, in which each `ignore` region has one flat colour, its
    own. Keeping the objects is our own reading: theirs are painted over too.
    """
    if len(regions) == 0:
        return image
    erased = image.copy()
    for rows, columns in map(_pixels, regions):
        region = image[rows, columns]
        if region.size:
            erased[rows, columns] = np.rint(region.mean(axis=(0, 1)))
    for rows, columns in map(_pixels, objects):
        erased[rows, columns] = image[rows, columns]
    return erased


def _pixels(box: np.ndarray) -> tuple[slice, slice]:
    x1, y1 = np.maximum(np.floor(box[:2]), 0).astype(int)
    x2, y2 = np.maximum(np.ceil(box[2:]), 0).astype(int)
    return slice(y1, y2), slice(x1, x2)
