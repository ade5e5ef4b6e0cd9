"""VisDrone's ignored regions: which boxes they remove before anything is matched.

Shapes: R ignored regions and B boxes of one image; the regions' borders cut that image into Y rows
of X cells, each of which regions cover whole or not at all.
Pixels are counted from 1. A region ends with the pixel x + w, so it has w + 1 columns.
"""

import numpy as np

from .columns import Detections, GroundTruth

__all__ = ["covered_share", "drop_ignored"]

# Category id of a region in VisDrone's files.
_REGION = 0
_DROPPED_SHARE = 0.5


def drop_ignored(truth: GroundTruth, found: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Find the boxes that stay: those of which ignored regions cover less than half.

    Args:
        truth: its regions are the boxes of category 0; an image that has some needs its size.
        found: all its categories are judged.

    Returns:
        truth_kept: (G,) bool, never a region;
        found_kept: (D,) bool; all boxes of an image without regions.

    Raises:
        ValueError: an image has regions, but its size is unknown.

    Source: VisDrone2018-DET-toolkit v1.0.4, dropObjectsInIgr.m.
    """
    is_region = truth.category == _REGION
    truth_kept, found_kept = ~is_region, np.ones(len(found.image), dtype=bool)
    images = np.unique(truth.image[is_region])
    rows = zip(_rows_of(images, truth.image), _rows_of(images, found.image))
    for image, (in_truth, in_found) in zip(images.tolist(), rows):
        if truth.image_sizes[image].min() < 1:
            raise ValueError(
                f"{truth.source}: {truth.image_names[image]} has ignored regions, but its size is "
                "unknown; expected height and width in pixels, so name the folder of its images "
                "or a JSON file of their sizes"
            )
        regions = truth.boxes[in_truth[is_region[in_truth]]]
        boxes = np.concatenate((truth.boxes[in_truth], found.boxes[in_found]))
        stays = covered_share(boxes, regions, *truth.image_sizes[image]) < _DROPPED_SHARE
        truth_kept[in_truth] &= stays[: len(in_truth)]
        found_kept[in_found] = stays[len(in_truth) :]
    return truth_kept, found_kept


def covered_share(boxes: np.ndarray, regions: np.ndarray, height: int, width: int) -> np.ndarray:
    """How much of each box the union of the regions covers.

    All numbers are rounded to whole pixels, halves upwards, and raised to 1 where they are less:
    a corner outside moves in without making the box smaller, and no side is 0.

    Args:
        boxes: (B, 4) xywh, pixels of the image.
        regions: (R, 4) likewise.
        height: of the image in pixels, as `width`; nothing beyond it is covered.
        width: of the image.

    Returns:
        (B,) covered pixels among columns x + 1 to x + w and rows y + 1 to y + h, over w * h.

    Source: VisDrone2018-DET-toolkit v1.0.4, where the first column and row are lost to an
    integral image read at x and y. Regions between pixels stop it; rounding them is our reading.
    """
    left, top, box_width, box_height = _whole_pixels(boxes).T
    first, last = _whole_pixels(regions).reshape(-1, 2, 2).swapaxes(0, 1)
    last = np.minimum(first + last, (width, height))
    columns, column_inside = _cut(first[:, 0], last[:, 0])
    rows, row_inside = _cut(first[:, 1], last[:, 1])
    is_covered = (row_inside.T @ column_inside > 0).astype(np.float64)
    # (B, Y) @ (Y, X), then column by column: no map of the image's pixels is needed.
    covered_rows = _pixels_in_cells(top, box_height, rows) @ is_covered
    covered = (covered_rows * _pixels_in_cells(left, box_width, columns)).sum(axis=1)
    return covered / (box_width * box_height)


def _whole_pixels(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(np.floor(boxes + 0.5), 1.0)


def _cut(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First pixels of the cells between the regions' borders along one axis, and of the pixel
    after the last cell; (R, X) float64, 1 where the cell is inside the region."""
    borders = np.unique(np.concatenate((first, last + 1)))
    inside = (borders[:-1] >= first[:, None]) & (borders[1:] <= last[:, None] + 1)
    return borders, inside.astype(np.float64)


def _pixels_in_cells(start: np.ndarray, length: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """(B, X) number of the pixels start + 1 to start + length in each cell."""
    low = np.maximum(start[:, None] + 1, borders[:-1])
    high = np.minimum((start + length)[:, None] + 1, borders[1:])
    return np.maximum(high - low, 0.0)


def _rows_of(images: np.ndarray, column: np.ndarray) -> list[np.ndarray]:
    """Where each of the ascending `images` occurs in `column`, as ascending indices."""
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    starts = np.searchsorted(ordered, images, side="left")
    ends = np.searchsorted(ordered, images, side="right")
    return [order[start:end] for start, end in zip(starts, ends)]
