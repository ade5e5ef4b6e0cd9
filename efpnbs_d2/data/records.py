"""From the boxes a reader found to Detectron2's standard dicts: clipping, counting, building.

Shapes: I records (images), R boxes. Boxes are xywh in pixels of the original image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .report import ReadReport

__all__ = ["BoxTable", "IGNORED_KINDS", "attach_annotations"]

# Why a box is an ignore region; BoxTable.ignored holds indices, 0 says that it is none.
IGNORED_KINDS = ("", "region", "others", "unscored", "crowd", "ignore", "uncertain", "logo")


@dataclass(frozen=True)
class BoxTable:
    """Well-formed boxes of one data set, not yet compared with their images.

    Attributes:
        image: (R,) int, index of the record that a box belongs to, ascending.
        boxes: (R, 4) float64 xywh, original pixels.
        classes: (R,) int, contiguous class index from 0.
        ignored: (R,) int, index into ``IGNORED_KINDS``.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray


def attach_annotations(
    records: list[dict[str, Any]],
    table: BoxTable,
    place: Callable[[int], str],
    report: ReadReport,
) -> None:
    """Clip the boxes to their images and write them to ``record["annotations"]``.

    An annotation holds ``bbox`` (floats, XYWH_ABS, original pixels), ``bbox_mode``,
    ``category_id`` and ``iscrowd``; ignore regions have ``iscrowd`` 1 and their kind in
    ``ignored_as``.

    Args:
        records: I dicts with ``height`` and ``width``.
        table: R boxes, ordered by record.
        place: row of the table -> where the box stands in its file, for messages.
        report: counts what is kept and what is empty after clipping.
    """
    sizes = np.array([(r["height"], r["width"]) for r in records], dtype=np.float64)
    boxes, cut = _clip(table.boxes, sizes.reshape(-1, 2)[table.image])
    inside = (boxes[:, 2:] > 0).all(axis=1)
    for row in np.flatnonzero(~inside).tolist():
        record = records[table.image[row]]
        _drop_empty(report, place(row), table.boxes[row], record["width"], record["height"])
    annotations = _annotations(boxes[inside], table.classes[inside], table.ignored[inside])
    ends = np.cumsum(np.bincount(table.image[inside], minlength=len(records))).tolist()
    for record, start, end in zip(records, [0, *ends], ends, strict=False):
        record["annotations"] = annotations[start:end]
    report.keep(
        images=len(records),
        boxes=len(annotations),
        ignored=int((table.ignored[inside] > 0).sum()),
        clipped=int((cut & inside).sum()),
    )


def _clip(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut (R, 4) xywh boxes at the border of their images of (R, 2) height and width.

    Returns:
        (R, 4) xywh, of no or negative extent where nothing is inside; (R,) bool, which were cut.
    """
    starts, ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    limits = sizes[:, ::-1]
    clipped_starts, clipped_ends = np.clip(starts, 0, limits), np.clip(ends, 0, limits)
    cut = (clipped_starts != starts) | (clipped_ends != ends)
    # Uncut sides keep their number exactly; (x + w) - x need not. A side too short to change
    # x + w in floating point is no extent.
    extents = np.where(cut | (ends == starts), clipped_ends - clipped_starts, boxes[:, 2:])
    return np.concatenate([clipped_starts, extents], axis=1), cut.any(axis=1)


def _drop_empty(report: ReadReport, place: str, box: np.ndarray, width: int, height: int) -> None:
    reason = "outside the image" if (box[2:] > 0).all() else "zero size"
    numbers = ",".join(f"{number:g}" for number in box)
    report.drop_empty_box(reason, place, f"box {numbers} (xywh) on a {width}x{height} image")


def _annotations(
    boxes: np.ndarray, classes: np.ndarray, ignored: np.ndarray
) -> list[dict[str, Any]]:
    crowd = (ignored > 0).astype(np.int64).tolist()
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": index, "iscrowd": iscrowd}
        for box, index, iscrowd in zip(boxes.tolist(), classes.tolist(), crowd, strict=True)
    ]
    for row in np.flatnonzero(ignored).tolist():
        annotations[row]["ignored_as"] = IGNORED_KINDS[ignored[row]]
    return annotations
