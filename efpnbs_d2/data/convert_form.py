"""What all label formats are converted through, and the account of a conversion.

Boxes are xywh in pixels of their image record: of the original image, or of the tile if the record
has a ``corner``. They stand as the file has them, neither clipped nor judged.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from .report import ReadReport

__all__ = [
    "CLASSLESS",
    "ConversionReport",
    "LabelledBox",
    "LabelledImage",
    "LabelledSet",
    "count_lost_keys",
    "label_files",
    "tidy",
]

# Kinds of ignore regions that belong to no class: VisDrone's categories 0 and K + 1.
CLASSLESS = ("region", "others")

_FLAGS = ("iscrowd", "ignore", "uncertain", "logo")


@dataclass
class LabelledBox:
    """One box.

    Attributes:
        xywh: left, top, width, height in pixels.
        class_index: contiguous from 0; None where ``ignored_as`` is one of ``CLASSLESS``.
        ignored_as: why it is an ignore region, one of ``records.IGNORED_KINDS``; "" if it is none.
        keys: all else that the source says of it, under its key in a COCO annotation.
    """

    xywh: tuple[float, float, float, float]
    class_index: int | None
    ignored_as: str = ""
    keys: dict[str, Any] = field(default_factory=dict)


@dataclass
class LabelledImage:
    """One image record.

    Attributes:
        name: path relative to the folder of images, with "/" between folders.
        path: where the file was found; None if it was not.
        height, width: pixels.
        boxes: in the order of the source.
        keys: all else that the source says of it, under its key in a COCO image entry.
    """

    name: str
    path: str | None
    height: int
    width: int
    boxes: list[LabelledBox] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)


@dataclass
class LabelledSet:
    """A data set.

    Attributes:
        images: in the order in which they are written.
        classes: names in the order of their index.
        category_ids: the id of each class in a COCO JSON.
        category_keys: all else that the source says of each class; empty or one per class.
        sections: other sections of a COCO JSON (``info``, ``licenses``).
    """

    images: list[LabelledImage]
    classes: list[str]
    category_ids: list[int]
    category_keys: list[dict[str, Any]] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)


@dataclass
class ConversionReport:
    """What became of the labels on their way.

    Every box of the source is in exactly one of ``read.dropped`` (could not be read),
    ``boxes_dropped`` (the target format cannot hold it) and ``boxes_written``.

    Attributes:
        read: account of reading.
        boxes_written: boxes in the target.
        boxes_dropped: boxes left out because the target has no place for them, by kind.
        lost: other things that the target has no place for, by kind.
        noted: what a user should know and is no loss, by kind.
    """

    read: ReadReport
    boxes_written: int = 0
    boxes_dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """One line about reading, one about writing, and one for each kind of loss or note."""
        return [
            self.read.summary(),
            f"wrote {self.read.images} images and {self.boxes_written} boxes",
            *(f"dropped: {n} {kind}" for kind, n in sorted(self.boxes_dropped.items())),
            *(f"lost: {n} {kind}" for kind, n in sorted(self.lost.items())),
            *(f"note: {n} {kind}" for kind, n in sorted(self.noted.items())),
        ]

    def count_read(self, images: Iterable[LabelledImage]) -> None:
        """Enter what a reader hands on."""
        for image in images:
            ignored = sum(bool(box.ignored_as) for box in image.boxes)
            self.read.keep(images=1, boxes=len(image.boxes), ignored=ignored, clipped=0)
            flat = sum(min(box.xywh[2:]) == 0 for box in image.boxes)
            if flat:
                self.noted["boxes of zero width or height, kept"] += flat


def tidy(number: float) -> float:
    """The same number, as an int where it is whole."""
    return int(number) if number == int(number) else number


def label_files(images: Sequence[LabelledImage], name_of: Callable[[str], str]) -> list[str]:
    """The label file of each image, for formats with one file per image.

    Args:
        images: of the data set.
        name_of: image name -> name of its label file.

    Raises:
        ValueError: two images would share a label file, or an image record is a tile.
    """
    taken: dict[str, str] = {}
    for image in images:
        if "corner" in image.keys:
            raise ValueError(
                f"found a tile of {image.name} ('corner' {image.keys['corner']}), expected whole "
                "images: formats of text files have no tiles. Convert the labels of the whole "
                "images, or cut the tiles into image files first."
            )
        label = name_of(image.name)
        if label in taken:
            raise ValueError(
                f"found the images {taken[label]} and {image.name}, whose labels would both be "
                f"{label}; expected one image per label file. Rename one of them."
            )
        taken[label] = image.name
    return list(taken)


def count_lost_keys(dataset: LabelledSet, held: Sequence[str], lost: Counter[str]) -> None:
    """Count what only a COCO JSON can hold.

    Ids of images and annotations, which only link the parts of a JSON, are no loss, nor are values
    that reading the target again would bring back: the area of the box, a segmentation that is the
    box, flags that are not set.

    Args:
        dataset: as it is written, without boxes that were dropped.
        held: keys of an annotation that the target has a place for.
        lost: counts are added here.
    """
    for image in dataset.images:
        for key in image.keys:
            if key != "id":
                lost[f"image keys '{key}'"] += 1
        for box in image.boxes:
            for key, value in box.keys.items():
                if key in held or _implied(key, value, box):
                    continue
                if key in _FLAGS:
                    lost[f"flags '{key}': like all ignore regions, the boxes have score 0"] += 1
                else:
                    lost[f"annotation keys '{key}'"] += 1
    if dataset.category_ids != list(range(1, len(dataset.classes) + 1)):
        lost["category ids (classes are numbered in the order of their ids)"] += len(
            dataset.category_ids
        )
    for key in sorted({key for keys in dataset.category_keys for key in keys}):
        lost[f"category keys '{key}'"] += sum(key in keys for keys in dataset.category_keys)
    for key in dataset.sections:
        lost[f"section '{key}'"] += 1


def without_folder(name: str) -> str:
    """The last part of an image's name."""
    return PurePosixPath(name).name


def _implied(key: str, value: Any, box: LabelledBox) -> bool:
    x, y, w, h = box.xywh
    if key == "id":
        return True
    if key == "ignored_as":
        return value == box.ignored_as
    if key in _FLAGS:
        # "unscored" and the classless kinds are VisDrone's own way to set iscrowd.
        return not value or box.ignored_as in (*CLASSLESS, "unscored")
    if key == "area":
        is_number = isinstance(value, (int, float))
        return is_number and math.isclose(value, w * h, rel_tol=1e-4, abs_tol=1e-2)
    if key == "segmentation":
        return value in ([], None) or _is_box(value, [x, y, x + w, y, x + w, y + h, x, y + h])
    return False


def _is_box(segmentation: Any, corners: list[float]) -> bool:
    try:
        (polygon,) = segmentation
        return len(polygon) == 8 and all(
            abs(a - b) <= 1e-2 for a, b in zip(polygon, corners, strict=True)
        )
    except (TypeError, ValueError):
        return False
