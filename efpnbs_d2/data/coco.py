"""Reader of COCO-style JSON: AI-TOD, TinyPerson (flags and tiles included), tinyscenes, one's own.

Boxes are xywh in pixels of the image record: of the original image, or of the tile if the record
has a ``corner``.

Source: the COCO data format; the TinyPerson annotation rules for ``ignore``, ``uncertain``,
``logo`` and ``corner`` (x1, y1, x2, y2, as the official records have it).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..coco_file import CocoFile, read_coco_file
from ..file_format import BrokenEntry, shorten
from ..image_files import locate_images
from .coco_json import has_image_id, parse_annotation, parse_image
from .gc_pause import gc_paused
from .records import BoxTable, attach_annotations
from .report import ReadReport

__all__ = ["load_coco", "match_categories"]


def load_coco(
    annotations: str,
    images: Sequence[str],
    *,
    classes: Sequence[str] | None,
    report: ReadReport,
    merged: Mapping[str, str] | None = None,
    origin: Callable[[str], str | None] | None = None,
) -> tuple[list[dict[str, Any]], dict[int, int], list[str]]:
    """Read a COCO JSON.

    Args:
        annotations: the JSON file. ``info`` and ``licenses`` are not needed; without
            ``annotations`` the images count as unlabelled.
        images: folders that may hold the images, in the order of preference.
        classes: class names in the order of their contiguous index; ``None`` takes the file's
            ``categories``, ordered by id.
        report: counts what is kept and dropped, and decides between dropping and raising.
        merged: names in the file -> name in ``classes``, for files with finer classes.
        origin: file name of a missing image -> where it should have come from.

    Returns:
        records: Detectron2's standard dicts, ordered by ``image_id``; boxes are XYWH_ABS floats,
            clipped to the image. Crowds and boxes flagged ``ignore``, ``uncertain`` or ``logo``
            have ``iscrowd`` 1 and the flag's name in ``ignored_as``. A tile carries ``corner``
            [x1, y1, x2, y2], its place in the original image; its boxes are relative to that.
        ids: category id -> contiguous class index, exactly one id (of the file, if it has one)
            for each class, so that the mapping can be reversed.
        classes: names in the order of their index.

    Raises:
        DataFormatError: the file is no COCO JSON; in strict mode, also for a broken entry or a
            missing image.
        ValueError: its categories do not fit ``classes``, or none of its images was found.
        OSError: the file cannot be read.
    """
    with gc_paused():
        file = read_coco_file(annotations)
        categories, names = match_categories(file, classes, merged or {})
        index_of = {category: names.index(name) for category, name in categories.items()}
        records, missing = _image_records(file, images, origin, report)
        if not records:
            raise ValueError(
                f"{report.name}: found none of the {len(file.images)} images of {annotations} in "
                f"{', '.join(images)} ({report.summary()})."
            )
        if file.annotations is None:
            report.keep(images=len(records), boxes=0, ignored=0, clipped=0)
        else:
            _attach(file, file.annotations, records, index_of, missing, report)
    return records, _reversible(index_of, len(names)), names


def match_categories(
    file: CocoFile, classes: Sequence[str] | None, merged: Mapping[str, str]
) -> tuple[dict[int, str], list[str]]:
    """Compare a file's categories with the classes that are expected.

    A file without ``categories`` is taken to use the ids 1..K.

    Returns:
        category id -> class name; the class names in the order of their contiguous index.

    Raises:
        ValueError: the file has a category that is none of the classes, or no categories.
    """
    found = {number: merged.get(name, name) for number, name in sorted(file.categories.items())}
    if classes is None:
        if not found:
            raise ValueError(f"{file.path}: found no categories, expected the classes' names.")
        names = list(found.values())
        if len(set(names)) < len(names):
            raise ValueError(f"{file.path}: found categories of the same name: {names}.")
        return found, names
    if not found:
        return dict(enumerate(classes, start=1)), list(classes)
    unknown = sorted(set(found.values()) - set(classes))
    if unknown:
        raise ValueError(
            f"{file.path}: found the categories {', '.join(map(shorten, unknown))}, expected only "
            f"{', '.join(classes)}. Is it the annotation file of another data set?"
        )
    return found, list(classes)


def _reversible(index_of: Mapping[int, int], num_classes: int) -> dict[int, int]:
    """Category id -> class index with exactly one id for each of the K classes."""
    id_of: dict[int, int] = {}
    for category, index in index_of.items():
        id_of.setdefault(index, category)
    free = max(index_of, default=0)
    # A file need not name a class that it has no box of.
    for index in sorted(set(range(num_classes)) - id_of.keys()):
        free += 1
        id_of[index] = free
    return {id_of[index]: index for index in range(num_classes)}


def _image_records(
    file: CocoFile,
    folders: Sequence[str],
    origin: Callable[[str], str | None] | None,
    report: ReadReport,
) -> tuple[list[dict[str, Any]], set[int]]:
    """Records of the images that were found, by ascending id, without annotations yet; and the
    ids of those that were not, whose boxes are counted here."""
    boxes = Counter(a["image_id"] for a in file.annotations or [] if has_image_id(a))
    entries: dict[int, tuple[str, dict[str, Any]]] = {}
    for index, entry in enumerate(file.images):
        place = f"{file.path}:images[{index}]"
        try:
            record = parse_image(entry)
            if record["image_id"] in entries:
                raise BrokenEntry(
                    "id used twice", f"image id {record['image_id']} again", "new ids"
                )
        except BrokenEntry as error:
            report.drop_image(error.reason, place, error.found, error.expected, 0)
            continue
        entries[record["image_id"]] = (place, record)
    paths = locate_images((record["file_name"] for _, record in entries.values()), folders)
    records, missing = [], set()
    for number, (place, record) in sorted(entries.items()):
        name = record["file_name"]
        if name not in paths:
            source = origin(name) if origin else None
            reason = f"missing ({source})" if source else "missing"
            expected = f"it in {' or '.join(folders)}"
            report.drop_image(reason, place, f"no file {shorten(name)}", expected, boxes[number])
            missing.add(number)
            continue
        records.append({**record, "file_name": paths[name]})
    return records, missing


def _attach(
    file: CocoFile,
    entries: list[Any],
    records: list[dict[str, Any]],
    class_indices: Mapping[int, int],
    missing: set[int],
    report: ReadReport,
) -> None:
    record_of = {record["image_id"]: index for index, record in enumerate(records)}
    found, numbers = [], []
    for number, entry in enumerate(entries):
        # Counted already, with their image.
        if has_image_id(entry) and entry["image_id"] in missing:
            continue
        try:
            image_id, *rest = parse_annotation(entry, record_of.keys(), class_indices)
        except BrokenEntry as error:
            place = f"{file.path}:annotations[{number}]"
            report.drop_box(error.reason, place, error.found, error.expected)
            continue
        found.append((record_of[image_id], *rest))
        numbers.append(number)
    rows = np.array(found, dtype=np.float64).reshape(-1, 7)
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    attach_annotations(
        records,
        BoxTable(
            image=rows[:, 0].astype(np.int64),
            boxes=rows[:, 1:5],
            classes=rows[:, 5].astype(np.int64),
            ignored=rows[:, 6].astype(np.int64),
        ),
        lambda row: f"{file.path}:annotations[{numbers[order[row]]}]",
        report,
    )
