"""YOLO's text files (Ultralytics, darknet) as a side of a conversion.

``images/**`` and ``labels/**`` mirror each other; a line is ``class cx cy w h``, the box's centre
and size as fractions of the image's width and height, the class counted from 0. Names are in
``data.yaml`` or a file of lines. Source: the format descriptions of Ultralytics and darknet.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]
from tqdm import tqdm

from ..file_format import BrokenEntry
from ..image_files import IMAGE_SUFFIXES, image_size
from .convert_classes import CLASS_FILES, find_class_file, read_class_file
from .convert_form import (
    ConversionReport,
    LabelledBox,
    LabelledImage,
    LabelledSet,
    count_lost_keys,
    label_files,
)
from .convert_yolo_line import format_yolo_line, parse_yolo_line, yolo_fractions

__all__ = ["read_yolo", "write_yolo"]


def read_yolo(
    annotations: str,
    images: Sequence[str],
    classes: Sequence[str] | None,
    report: ConversionReport,
    progress: bool,
) -> LabelledSet:
    """Read a folder of label files and the folder of images that mirrors it; images by name.

    An image without a label file has no objects, as Ultralytics takes it.

    Args:
        annotations: the folder of labels.
        images: one folder; its sub-folders are read, too.
        classes: names in the order of their index; None looks for a file of names in the folder
            of labels and the one above.
        report: broken lines, and labels without an image, are counted here.
        progress: show a progress bar.

    Raises:
        DataFormatError: in strict mode, for the first of what is otherwise dropped.
        ValueError: no class names.
    """
    classes = _find_classes(annotations) if classes is None else list(classes)
    labels = set(_files(annotations, (".txt",)))
    kept, taken = [], set()
    names = list(_files(images[0], IMAGE_SUFFIXES))
    for name in tqdm(names, unit="image", desc="images", disable=not progress):
        label, path = _label_name(name), os.path.join(images[0], name)
        if label in taken:
            report.read.drop_image("second of one name", path, name, "one image per label file", 0)
            continue
        taken.add(label)
        rows = _read_lines(os.path.join(annotations, label)) if label in labels else None
        try:
            height, width = image_size(path)
        except ValueError:
            found, expected = "no readable image", "an image file"
            report.read.drop_image("unreadable", path, found, expected, len(rows or []))
            continue
        if rows is None:
            report.noted["images without a label file, taken as without objects"] += 1
        image = LabelledImage(name, path, height, width)
        for number, line in rows or []:
            try:
                image.boxes.append(parse_yolo_line(line, len(classes), height, width))
            except BrokenEntry as error:
                place = f"{os.path.join(annotations, label)}:{number}"
                report.read.drop_box(error.reason, place, error.found, error.expected)
        kept.append(image)
    for label in sorted(labels - taken - set(CLASS_FILES)):
        path = os.path.join(annotations, label)
        found = f"no image {os.path.splitext(label)[0]}.* in {images[0]}"
        boxes = len(_read_lines(path))
        report.read.drop_image("missing", path, found, "one per label file", boxes)
    report.count_read(kept)
    return LabelledSet(kept, classes, list(range(1, len(classes) + 1)))


def write_yolo(
    dataset: LabelledSet, folder: Path, report: ConversionReport, progress: bool
) -> list[str]:
    """Write ``labels/**/*.txt`` and ``data.yaml``.

    Ignore regions are left out. A box with its centre outside the image or larger than it is cut
    at the border: the format holds fractions from 0 to 1 only.

    Returns:
        The name of each image in the folder ``images`` beside the labels.

    Raises:
        ValueError: two images of one label file, or tiles.
    """
    labels = label_files(dataset.images, _label_name)
    pairs = zip(dataset.images, labels, strict=True)
    written = []
    for image, label in tqdm(
        pairs, total=len(labels), unit="image", desc="labels", disable=not progress
    ):
        lines, boxes = [], []
        for box in image.boxes:
            line = _line(box, image, report)
            if line is not None:
                lines.append(line)
                boxes.append(box)
        target = folder / "labels" / label
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes("".join(lines).encode())
        report.boxes_written += len(lines)
        written.append(LabelledImage(image.name, None, 0, 0, boxes, image.keys))
    _count_lost(dataset, written, report)
    # Ultralytics looks for images relative to this file, and for labels beside the images.
    content = {"train": "images", "val": "images", "names": dict(enumerate(dataset.classes))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return [image.name for image in dataset.images]


def _count_lost(
    dataset: LabelledSet, written: list[LabelledImage], report: ConversionReport
) -> None:
    defaults: dict[str, Any] = {"score": 1, "truncation": 0, "occlusion": 0}
    for key, default in defaults.items():
        count = sum(box.keys.get(key, default) != default for i in written for box in i.boxes)
        if count:
            report.lost[f"values of '{key}'"] += count
    kept = LabelledSet(
        written, dataset.classes, dataset.category_ids, dataset.category_keys, dataset.sections
    )
    count_lost_keys(kept, tuple(defaults), report.lost)


def _line(box: LabelledBox, image: LabelledImage, report: ConversionReport) -> str | None:
    if box.ignored_as or box.class_index is None:
        report.boxes_dropped[f"ignore regions ('{box.ignored_as}'): YOLO has none"] += 1
        return None
    fractions = yolo_fractions(box.xywh, image.height, image.width)
    if not all(0 <= number <= 1 for number in fractions):
        x, y, w, h = box.xywh
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + w, image.width), min(y + h, image.height)
        if right <= left or bottom <= top:
            report.boxes_dropped["boxes outside their image: YOLO has none"] += 1
            return None
        report.lost["boxes cut at the border of their image"] += 1
        cut = (left, top, right - left, bottom - top)
        fractions = yolo_fractions(cut, image.height, image.width)
    return format_yolo_line(box.class_index, fractions)


def _find_classes(annotations: str) -> list[str]:
    above = os.path.dirname(os.path.abspath(annotations))
    file = find_class_file([annotations, above])
    if file is None:
        raise ValueError(
            f"found no class names in {annotations} or {above}, expected one of "
            f"{', '.join(CLASS_FILES)}; name the file or the classes with --classes"
        )
    return read_class_file(file)


def _label_name(image_name: str) -> str:
    return str(PurePosixPath(image_name).with_suffix(".txt"))


def _read_lines(path: str) -> list[tuple[int, bytes]]:
    """Lines that are not empty, with their 1-based number."""
    data = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    return [(n, line) for n, line in enumerate(data.splitlines(), start=1) if line.strip()]


def _files(folder: str, suffixes: Sequence[str]) -> Iterator[str]:
    """Files below a folder with one of the suffixes, relative and sorted."""
    found = []
    for parent, _, names in os.walk(folder):
        relative = Path(os.path.relpath(parent, folder))
        found += [
            (relative / name).as_posix() for name in names if name.lower().endswith(tuple(suffixes))
        ]
    yield from sorted(found)
