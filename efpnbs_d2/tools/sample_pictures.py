"""Sample images of a data set with their boxes, whole and enlarged where they are crowded.

Shapes: images H x W x 3, BGR uint8; boxes xywh in pixels of the original image (of the tile, if
the record is a tile).
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.data.detection_utils import read_image

from efpnbs_d2.data.statistics import BoxColumns
from efpnbs_d2.inference.drawing import class_color, crowded_corners, draw_boxes

__all__ = ["choose_samples", "class_legend", "close_up", "crowded_corner", "whole_image"]

_LONGEST_SIDE = 1000  # pixels of a whole image on the page
_CLOSE_UP = 300  # pixels of the image that a close-up shows, each way


def choose_samples(columns: BoxColumns, number: int) -> list[int]:
    """Indices of images to show: the most crowded, the smallest objects, others evenly spread."""
    counts = columns.objects_per_image
    sums = np.bincount(
        columns.image[columns.is_object], columns.object_sizes, minlength=len(counts)
    )
    mean = np.divide(sums, counts, out=np.full(len(counts), np.inf), where=counts > 0)
    spread = np.linspace(0, len(counts) - 1, number + 2).round().astype(int).tolist()
    first = [int(counts.argmax()), int(mean.argmin())] if counts.any() else []
    return list(dict.fromkeys([*first, *spread[1:-1], *spread]))[:number]


def class_legend(
    columns: BoxColumns, class_names: Sequence[str]
) -> list[tuple[str, tuple[int, int, int]]]:
    """(text, BGR colour in the pictures) of each class that has objects, and of ignored regions."""
    counts, _ = columns.class_counts(len(class_names))
    legend = [(name, class_color(i)) for i, name in enumerate(class_names) if counts[i]]
    if not columns.is_object.all():
        legend.append(("ignored region", class_color(len(class_names))))
    return legend


def whole_image(
    record: dict[str, Any], columns: BoxColumns, rows: np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """The image with all its boxes, made smaller if it is large.

    Args:
        record: of the image.
        columns: boxes of the data set.
        rows: those of this image.
        class_names: K names; ignored regions are drawn as one more class.

    Raises:
        ValueError, OSError, SyntaxError: the image cannot be read.
    """
    image = _read(record)
    factor = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    boxes = columns.boxes[rows] * factor
    return _drawn(image, boxes, columns, rows, class_names)


def close_up(
    record: dict[str, Any], columns: BoxColumns, rows: np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """The part of the image that holds most objects, enlarged; arguments as `whole_image`."""
    image = _read(record)
    height, width = (min(_CLOSE_UP, side) for side in image.shape[:2])
    objects = columns.boxes[rows[columns.is_object[rows]]]
    x, y = crowded_corner(objects[:, :2] + objects[:, 2:] / 2, width, height, image.shape)
    starts = np.clip(columns.boxes[rows, :2] - (x, y), 0, (width, height))
    ends = np.clip(columns.boxes[rows, :2] + columns.boxes[rows, 2:] - (x, y), 0, (width, height))
    seen = (ends > starts).all(axis=1)
    boxes = np.hstack([starts, ends - starts])[seen]
    part = image[y : y + height, x : x + width]
    return _drawn(part, boxes, columns, rows[seen], class_names)


def crowded_corner(
    centres: np.ndarray, width: int, height: int, shape: tuple[int, ...]
) -> tuple[int, int]:
    """Upper left corner of the window, centred on an object where possible, that holds most.

    Args:
        centres: (n, 2) x, y of objects.
        width: of the window, at most the image's.
        height: of the window, at most the image's.
        shape: height and width of the image, and what follows.
    """
    if not len(centres):
        return (shape[1] - width) // 2, (shape[0] - height) // 2
    corners, held = crowded_corners(centres, (width, height), shape)
    x, y = corners[held.argmax()].tolist()
    return x, y


def _read(record: dict[str, Any]) -> np.ndarray:
    image = read_image(record["file_name"], "BGR")
    if "corner" in record:
        x1, y1, x2, y2 = map(int, record["corner"])
        image = image[y1:y2, x1:x2]
    return np.ascontiguousarray(image)


def _drawn(
    image: np.ndarray,
    boxes: np.ndarray,
    columns: BoxColumns,
    rows: np.ndarray,
    class_names: Sequence[str],
) -> np.ndarray:
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    classes = np.where(columns.is_object[rows], columns.classes[rows], len(class_names))
    drawn = draw_boxes(image, corners, classes.tolist(), [*class_names, ""])
    # Without the legend below: the page has one for all its pictures.
    return drawn[: image.shape[0] * (drawn.shape[1] // image.shape[1])]
