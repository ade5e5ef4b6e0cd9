"""VisDrone's text files as a side of a conversion.

A line is ``left,top,width,height,score,category,truncation,occlusion`` in whole pixels; category 0
is an ignored region, class i has i + 1, and "others" K + 1. The files do not name the classes:
``classes.txt`` beside the folder of annotations does, if they are not VisDrone's.
"""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from .convert_classes import find_class_file, read_class_file, write_class_file
from .convert_form import (
    CLASSLESS,
    ConversionReport,
    LabelledBox,
    LabelledImage,
    LabelledSet,
    count_lost_keys,
    label_files,
    tidy,
    without_folder,
)
from .report import ReadReport
from .splits import VISDRONE_CLASSES
from .visdrone_folder import VisDroneFolder

__all__ = ["read_visdrone", "write_visdrone"]

# A number of an in-between format this near to a whole one is meant to be it.
_WHOLE_PX = 1e-3
_HELD = ("score", "truncation", "occlusion")


def read_visdrone(
    annotations: str,
    images: Sequence[str],
    classes: Sequence[str] | None,
    report: ConversionReport,
    progress: bool,
) -> LabelledSet:
    """Read a folder of annotation files; images by name, boxes in the order of their lines.

    Args:
        annotations: the folder of ``<image name>.txt``.
        images: one folder.
        classes: K names; None takes ``classes.txt`` beside the folder, or VisDrone's.
        report: broken lines, and images or files without their counterpart, are counted here.
        progress: without effect: the folder is read, or taken from the cache, in one step.

    Raises:
        DataFormatError: in strict mode, for the first of what is otherwise dropped.
    """
    if classes is None:
        # Only this name: a data.yaml beside them may be of another tool, with other numbers.
        file = find_class_file([os.path.dirname(os.path.abspath(annotations))], ["classes.txt"])
        classes = VISDRONE_CLASSES if file is None else read_class_file(file)
    folder = VisDroneFolder(images[0], annotations, len(classes))
    table = folder.read()
    for stem, line, reason, found, expected in table.broken:
        report.read.drop_box(reason, f"{folder.text_path(stem)}:{line}", found, expected)
    kept, start = [], 0
    for stem, (height, width), count in zip(
        folder.stems, table.sizes.tolist(), table.counts.tolist(), strict=True
    ):
        rows, start = table.rows[start : start + count].tolist(), start + count
        if _usable(folder, stem, height, count, report.read):
            path = folder.image_path(stem)
            boxes = [_box(row[1:], len(classes)) for row in rows]
            kept.append(LabelledImage(folder.image_names[stem], path, height, width, boxes))
    for name in folder.same_stem():
        place = os.path.join(folder.images, name)
        report.read.drop_image("second of one name", place, name, "one image per file", 0)
    report.count_read(kept)
    return LabelledSet(kept, list(classes), list(range(1, len(classes) + 1)))


def write_visdrone(
    dataset: LabelledSet, folder: Path, report: ConversionReport, progress: bool
) -> list[str]:
    """Write ``annotations/*.txt``, and ``classes.txt`` if the classes are not VisDrone's.

    Boxes are rounded to whole pixels, sizes to 1 at least unless they were 0. A box flagged as a
    crowd, ``ignore``, ``uncertain`` or ``logo`` keeps its class and gets score 0, which is
    VisDrone's way to say "not evaluated".

    Returns:
        The name of each image beside these labels: VisDrone's folders are flat.

    Raises:
        ValueError: two images of one name, or tiles.
    """
    labels = label_files(dataset.images, lambda n: PurePosixPath(n).stem + ".txt")
    count_lost_keys(dataset, _HELD, report.lost)
    (folder / "annotations").mkdir()
    if tuple(dataset.classes) != VISDRONE_CLASSES:
        write_class_file(folder / "classes.txt", dataset.classes)
        report.noted["class names, written to classes.txt: the format has no place for them"] += (
            len(dataset.classes)
        )
    pairs = zip(dataset.images, labels, strict=True)
    for image, label in tqdm(
        pairs, total=len(labels), unit="image", desc="labels", disable=not progress
    ):
        lines = [_line(box, len(dataset.classes), report) for box in image.boxes]
        (folder / "annotations" / label).write_bytes("".join(lines).encode())
        report.boxes_written += len(lines)
    names = [without_folder(image.name) for image in dataset.images]
    moved = sum(name != image.name for name, image in zip(names, dataset.images, strict=True))
    if moved:
        report.lost["folders of images: VisDrone keeps all images in one"] += moved
    return names


def _usable(folder: VisDroneFolder, stem: str, height: int, boxes: int, read: ReadReport) -> bool:
    if stem not in folder.image_names:
        found, expected = f"no image {stem}.* in {folder.images}", "one per annotation file"
        read.drop_image("missing", folder.text_path(stem), found, expected, boxes)
    elif stem not in folder.text_names:
        found, expected = f"no {stem}.txt in {folder.annotations}", "one per image"
        read.drop_image("without annotation file", folder.image_path(stem), found, expected, boxes)
    elif height == 0:
        place = folder.image_path(stem)
        read.drop_image("unreadable", place, "no readable image", "an image file", boxes)
    else:
        return True
    return False


def _box(columns: list[float], num_classes: int) -> LabelledBox:
    x, y, w, h, score, category, truncation, occlusion = map(tidy, columns)
    kind = "unscored" if score == 0 else ""
    if category in (0, num_classes + 1):
        kind = "region" if category == 0 else "others"
    return LabelledBox(
        (x, y, w, h),
        None if kind in CLASSLESS else int(category) - 1,
        kind,
        {"score": score, "truncation": truncation, "occlusion": occlusion},
    )


def _line(box: LabelledBox, num_classes: int, report: ConversionReport) -> str:
    whole = [round(number) for number in box.xywh]
    for side in (2, 3):
        if whole[side] == 0 and box.xywh[side] > _WHOLE_PX:
            whole[side] = 1
    if any(abs(a - b) > _WHOLE_PX for a, b in zip(whole, box.xywh, strict=True)):
        report.lost["boxes of fractional pixels, rounded"] += 1
    score = _number(box, "score", 0 if box.ignored_as else 1, report)
    flagged = box.ignored_as not in ("", *CLASSLESS, "unscored")
    if flagged and score != 0:
        report.lost["scores of flagged boxes, set to 0"] += 1
        score = 0
    if not box.ignored_as and score == 0:
        report.noted["boxes of score 0, which VisDrone reads as not evaluated"] += 1
    if box.class_index is None:
        category = 0 if box.ignored_as == "region" else num_classes + 1
    else:
        category = box.class_index + 1
    rest = (_number(box, key, 0, report) for key in ("truncation", "occlusion"))
    return ",".join(map(str, (*whole, score, category, *rest))) + "\n"


def _number(box: LabelledBox, key: str, default: int, report: ConversionReport) -> Any:
    value = box.keys.get(key, default)
    if type(value) in (int, float) and abs(value) <= 1e7:
        return tidy(value)
    report.lost[f"annotation keys '{key}' that are no number"] += 1
    return default
