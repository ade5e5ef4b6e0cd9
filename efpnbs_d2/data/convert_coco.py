"""A COCO JSON as a side of a conversion: the format that holds everything.

What COCO has no key for gets one of its own: ``score``, ``truncation`` and ``occlusion`` are
VisDrone's columns, and ``ignored_as`` says what an ignore region (``iscrowd`` 1) was in VisDrone:
"region" (category 0), "others" (K + 1) or "unscored" (score 0). Regions of no class are written
with the first class's id, as they are read for training.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from ..coco_file import CocoFile, read_coco_file
from ..file_format import BrokenEntry, shorten
from ..image_files import image_size, locate_images
from .coco import match_categories
from .coco_json import has_image_id, parse_annotation, parse_image
from .convert_form import (
    CLASSLESS,
    ConversionReport,
    LabelledBox,
    LabelledImage,
    LabelledSet,
    tidy,
)
from .records import IGNORED_KINDS

__all__ = ["COCO_FILE", "read_coco", "write_coco"]

COCO_FILE = "annotations.json"

_VISDRONE_KINDS = (*CLASSLESS, "unscored")


def read_coco(
    annotations: str,
    images: Sequence[str],
    classes: Sequence[str] | None,
    report: ConversionReport,
    progress: bool,
) -> LabelledSet:
    """Read a COCO JSON; images and boxes in the order of the file, all other keys kept.

    The sizes in the file are those that boxes are relative to. An image that is not found is
    converted all the same and counted, and so is one of another size.

    Args:
        annotations: the JSON file.
        images: folders that may hold the images, in the order of preference.
        classes: names in the order of their index; None takes the categories by ascending id.
        report: entries that cannot be used are counted here.
        progress: show a progress bar.

    Raises:
        DataFormatError: no COCO JSON; in strict mode, the first entry that cannot be used.
        ValueError: categories that do not fit ``classes``, or none of the images was found.
    """
    file = read_coco_file(annotations)
    categories, names = match_categories(file, classes, {})
    if len(set(categories.values())) < len(categories):
        raise ValueError(f"{annotations}: found categories of the same name, expected one each.")
    id_of = {name: number for number, name in categories.items()}
    free = max(categories, default=0)
    # Classes that the file does not name get ids of their own.
    for name in names:
        if name not in id_of:
            free += 1
            id_of[name] = free
    records = _images(file, images, report)
    _compare_sizes(file, [i for i in records.values() if i], images, report, progress)
    _attach(file, records, {n: names.index(name) for n, name in categories.items()}, report)
    kept = [image for image in records.values() if image is not None]
    report.count_read(kept)
    ids = [id_of[name] for name in names]
    category_keys, sections = _other_keys(annotations, ids)
    return LabelledSet(kept, names, ids, category_keys, sections)


def write_coco(
    dataset: LabelledSet, folder: Path, report: ConversionReport, progress: bool
) -> list[str]:
    """Write ``annotations.json``.

    Ids of the source are kept; if any box has none or that of another, all count from 1.

    Returns:
        The name of each image, as in the file.
    """
    ids = [box.keys.get("id") for image in dataset.images for box in image.boxes]
    keep_ids = all(type(number) is int for number in ids) and len(set(ids)) == len(ids)
    if not keep_ids and any(number is not None for number in ids):
        report.noted["annotation ids counted anew: some were missing or there twice"] += len(ids)
    category_keys = dataset.category_keys or [{} for _ in dataset.classes]
    categories = [
        {"id": number, "name": name, **keys}
        for number, name, keys in zip(
            dataset.category_ids, dataset.classes, category_keys, strict=True
        )
    ]
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    bar = tqdm(dataset.images, unit="image", desc="labels", disable=not progress)
    for position, image in enumerate(bar, start=1):
        size = {"file_name": image.name, "height": image.height, "width": image.width}
        entry = {"id": position, **size, **image.keys}
        entries.append(entry)
        for box in image.boxes:
            annotation = _annotation(box, dataset.category_ids)
            number = annotation["id"] if keep_ids else len(annotations) + 1
            annotations.append({**annotation, "id": number, "image_id": entry["id"]})
    report.boxes_written += len(annotations)
    content = {
        **dataset.sections,
        "images": entries,
        "annotations": annotations,
        "categories": categories,
    }
    (folder / COCO_FILE).write_text(json.dumps(content), encoding="utf-8")
    return [image.name for image in dataset.images]


def _images(
    file: CocoFile, folders: Sequence[str], report: ConversionReport
) -> dict[int, LabelledImage | None]:
    """Image id -> image, None for one that was dropped for its file name."""
    boxes: dict[int, int] = {}
    for entry in file.annotations or []:
        if has_image_id(entry):
            boxes[entry["image_id"]] = boxes.get(entry["image_id"], 0) + 1
    records: dict[int, LabelledImage | None] = {}
    for index, entry in enumerate(file.images):
        dropped = 0
        try:
            record = parse_image(entry)
            number, name = record["image_id"], record["file_name"]
            if number in records:
                raise BrokenEntry("id used twice", f"image id {number} again", "new ids")
            if not _stays_inside(name):
                dropped, records[number] = boxes.get(number, 0), None
                raise BrokenEntry(
                    "bad file name", shorten(name), "a path inside the folder of images"
                )
        except BrokenEntry as error:
            place = f"{file.path}:images[{index}]"
            report.read.drop_image(error.reason, place, error.found, error.expected, dropped)
            continue
        keys = {k: v for k, v in entry.items() if k not in ("file_name", "height", "width")}
        name = str(PurePosixPath(name))
        records[number] = LabelledImage(name, None, record["height"], record["width"], [], keys)
    paths = locate_images((image.name for image in records.values() if image), folders)
    if records and not paths:
        names = [f" ({image.name}, ...)" for image in records.values() if image]
        raise ValueError(
            f"found none of the {len(records)} images{''.join(names[:1])} of {file.path} in "
            f"{', '.join(folders)}; expected the folder that their file names are relative to."
        )
    for image in records.values():
        if image is not None:
            image.path = paths.get(image.name)
    return records


def _stays_inside(name: str) -> bool:
    """Whether a file of this name can be written below a folder."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    path = PurePosixPath(name)
    return (
        "\0" not in name and not path.is_absolute() and bool(path.name) and ".." not in path.parts
    )


def _compare_sizes(
    file: CocoFile,
    images: Sequence[LabelledImage],
    folders: Sequence[str],
    report: ConversionReport,
    progress: bool,
) -> None:
    for image in tqdm(images, unit="image", desc="images", disable=not progress):
        if image.path is None:
            kind = f"images not found in {' or '.join(folders)}: labels converted all the same"
            report.noted[kind] += 1
        elif "corner" not in image.keys:
            try:
                same = image_size(image.path) == (image.height, image.width)
            except ValueError:
                report.noted["image files that cannot be read: labels converted all the same"] += 1
                continue
            if not same:
                report.noted["image files of another size than the JSON's, which was used"] += 1


def _attach(
    file: CocoFile,
    records: Mapping[int, LabelledImage | None],
    class_indices: Mapping[int, int],
    report: ConversionReport,
) -> None:
    for number, entry in enumerate(file.annotations or []):
        # Counted already, with their image.
        if has_image_id(entry) and records.get(entry["image_id"], ...) is None:
            continue
        try:
            image_id, x, y, w, h, index, flag = parse_annotation(
                entry, records.keys(), class_indices
            )
        except BrokenEntry as error:
            place = f"{file.path}:annotations[{number}]"
            report.read.drop_box(error.reason, place, error.found, error.expected)
            continue
        kind = IGNORED_KINDS[flag]
        if kind == "crowd" and entry.get("ignored_as") in _VISDRONE_KINDS:
            kind = entry["ignored_as"]
        image = records[image_id]
        assert image is not None
        keys = {k: v for k, v in entry.items() if k not in ("image_id", "category_id", "bbox")}
        image.boxes.append(
            LabelledBox((x, y, w, h), None if kind in CLASSLESS else index, kind, keys)
        )


def _other_keys(path: str, ids: Sequence[int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Keys of each category besides id and name, and the sections that a reader has no use for."""
    content = json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    categories = {entry["id"]: entry for entry in content.pop("categories", None) or []}
    keys = [
        {k: v for k, v in categories.get(number, {}).items() if k not in ("id", "name")}
        for number in ids
    ]
    return keys, {k: v for k, v in content.items() if k not in ("images", "annotations")}


def _annotation(box: LabelledBox, category_ids: Sequence[int]) -> dict[str, Any]:
    x, y, w, h = box.xywh
    annotation = {
        "category_id": category_ids[box.class_index or 0],
        "bbox": [x, y, w, h],
        "area": tidy(w * h),
        "iscrowd": int(bool(box.ignored_as)),
    }
    if box.ignored_as in _VISDRONE_KINDS:
        annotation["ignored_as"] = box.ignored_as
    return {**annotation, **box.keys}
