"""Folders in VisDrone's layout (``images/*.jpg``, ``annotations/*.txt``) as Detectron2 records.

Shapes: I images or annotation files, R good rows of all annotation files together.
Boxes are xywh in pixels of the original image.
"""

import os
from typing import Any

import numpy as np

from ..image_files import IMAGE_SUFFIXES
from .gc_pause import gc_paused
from .records import IGNORED_KINDS, BoxTable, attach_annotations
from .report import ReadReport
from .visdrone_folder import VisDroneFolder, VisDroneTable

__all__ = ["load_visdrone"]


def load_visdrone(
    images: str, annotations: str | None, *, num_classes: int, report: ReadReport
) -> list[dict[str, Any]]:
    """Read a folder of images and the folder of their annotation files.

    Parsed folders are cached; the cache is not used once any file of either folder has changed.

    Args:
        images: the folder of images.
        annotations: the folder of ``<image name>.txt``; ``None`` for images without labels.
        num_classes: K, 10 for VisDrone. Category c of a file becomes ``category_id`` c - 1.
        report: counts what is kept and dropped, and decides between dropping and raising.

    Returns:
        Detectron2's standard dicts, sorted by file name; ``image_id`` counts from 1. Boxes are
        XYWH_ABS floats in original pixels, clipped to the image. Ignored regions (category 0),
        others (K + 1) and boxes with score 0 have ``iscrowd`` 1 and name their kind in
        ``ignored_as`` ("region", "others", "unscored"); those without a class have
        ``category_id`` 0. Without ``annotations`` the records have no key of that name.

    Raises:
        DataFormatError: in strict mode, for a broken line, an unreadable image, an image without
            an annotation file or an annotation file without an image.
        ValueError: no image can be used.
        OSError: a folder cannot be read.
    """
    folder = VisDroneFolder(images, annotations, num_classes)
    with gc_paused():
        table = folder.read()
        for stem, line, reason, found, expected in table.broken:
            report.drop_box(reason, f"{folder.text_path(stem)}:{line}", found, expected)
        records = _records(folder, table, report)
    if not records:
        raise ValueError(
            f"{report.name}: found no usable image in {images}, expected files ending in one of "
            f"{', '.join(IMAGE_SUFFIXES)} ({report.summary()})."
        )
    return records


def _records(
    folder: VisDroneFolder, table: VisDroneTable, report: ReadReport
) -> list[dict[str, Any]]:
    usable = _usable_images(folder, table, report)
    chosen = np.flatnonzero(usable)
    records: list[dict[str, Any]] = [
        {
            "file_name": folder.image_path(folder.stems[index]),
            "height": height,
            "width": width,
            # Unusable images count: results are read against all of the folder's files.
            "image_id": index + 1,
        }
        for index, (height, width) in zip(
            chosen.tolist(), table.sizes[chosen].tolist(), strict=True
        )
    ]
    if folder.annotations is None:
        report.keep(images=len(records), boxes=0, ignored=0, clipped=0)
        return records
    file_of_row = np.repeat(np.arange(len(folder.stems)), table.counts)
    rows, file_of_row = table.rows[usable[file_of_row]], file_of_row[usable[file_of_row]]
    classes, ignored = _classes(rows[:, 5], rows[:, 6].astype(np.int64), folder.num_classes)
    attach_annotations(
        records,
        BoxTable(np.searchsorted(chosen, file_of_row), rows[:, 1:5], classes, ignored),
        lambda row: f"{folder.text_path(folder.stems[file_of_row[row]])}:{rows[row, 0]:.0f}",
        report,
    )
    return records


def _classes(
    scores: np.ndarray, categories: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(R,) class indices, and indices into ``IGNORED_KINDS``, of (R,) columns."""
    region, others = categories == 0, categories == num_classes + 1
    ignored = np.select(
        [region, others, scores == 0],
        [IGNORED_KINDS.index(kind) for kind in ("region", "others", "unscored")],
    )
    return np.where(region | others, 0, categories - 1), ignored


def _usable_images(folder: VisDroneFolder, table: VisDroneTable, report: ReadReport) -> np.ndarray:
    """(I,) bool: the images to hand on; the others are reported with their boxes."""
    for name in folder.same_stem():
        path = os.path.join(folder.images, name)
        report.drop_image("second of one name", path, name, "one image per annotation file", 0)
    usable = np.zeros(len(folder.stems), dtype=bool)
    readable = table.sizes.min(axis=1) > 0
    for index, stem in enumerate(folder.stems):
        boxes = int(table.counts[index])
        if stem not in folder.image_names:
            place, found = folder.text_path(stem), f"no image {stem}.* in {folder.images}"
            report.drop_image("missing", place, found, "one per annotation file", boxes)
        elif folder.annotations is not None and stem not in folder.text_names:
            place, found = folder.image_path(stem), f"no {stem}.txt in {folder.annotations}"
            report.drop_image("without annotation file", place, found, "one per image", boxes)
        elif not readable[index]:
            place = folder.image_path(stem)
            report.drop_image("unreadable", place, "no readable image", "an image file", boxes)
        else:
            usable[index] = True
    return usable
