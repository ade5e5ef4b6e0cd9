"""Reader of a benchmark's annotations, as they are: no box is clipped, moved or left out.

Boxes are xywh in pixels of the original image.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...coco_file import CocoFile, is_id, is_number, kind_of, parse_box, read_coco_file
from ...file_format import LARGEST_COORDINATE, BrokenEntry, DataFormatError, shorten
from ...protocols import PROTOCOLS, Protocol
from ...visdrone_txt import parse_visdrone_file
from ..columns import GroundTruth
from .image_sizes import read_image_sizes
from .text_folder import list_text_files

__all__ = ["read_ground_truth"]

_LARGEST_AREA = LARGEST_COORDINATE**2
_logger = logging.getLogger(__name__)


def read_ground_truth(
    path: str,
    protocol: Protocol,
    *,
    images: str | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = True,
) -> GroundTruth:
    """Read a COCO JSON, or a folder of VisDrone text files.

    Either can be evaluated by any protocol. By VisDrone's, the flagged boxes of a COCO JSON count
    as boxes with score 0, and its category 0, or ``"ignored_as": "region"``, as ignored region. By
    the others, the ignored regions of VisDrone text files stand once per class as crowd boxes,
    and so do "others"; boxes with score 0 are crowd boxes of their class.

    Args:
        path: the JSON file or the folder.
        protocol: says what is an ignored region, and names VisDrone's classes.
        images: for a folder of text files: the folder of the images, of which the headers are
            read, or a JSON ``{stem: [height, width]}``; None: the folder ``images`` beside
            `path`. Only needed for the sizes of images with ignored regions.
        classes: text files: the names of categories 1, 2, ..., None: those of the protocol, else
            VisDrone's. JSON: the names of the categories to evaluate, None: all.
        strict: raise at the first broken annotation instead of dropping it; what is dropped is
            logged.

    Raises:
        DataFormatError: a file breaks its format; in strict mode also by a single annotation.
        ValueError: unknown classes, no annotation files, or an image whose header cannot be read.
        OSError: a file cannot be read.
    """
    problems = _Problems(path, strict)
    if os.path.isdir(path):
        names = classes or protocol.classes or PROTOCOLS["visdrone"].classes
        truth = _read_text_files(path, protocol, images, names, problems)
    else:
        truth = _read_json(read_coco_file(path), protocol, classes, problems)
    problems.log(len(truth.image))
    return truth


class _Problems:
    """Decides between raising and dropping, and counts what is dropped."""

    def __init__(self, path: str, strict: bool) -> None:
        self.path, self.strict = path, strict
        self.reasons: Counter[str] = Counter()
        self.first = ""

    def add(self, place: str, error: BrokenEntry) -> None:
        message = f"{place}: {error}"
        if self.strict:
            raise DataFormatError(message) from error
        self.first = self.first or message
        self.reasons[error.reason] += 1

    def log(self, kept: int) -> None:
        if self.reasons:
            reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.reasons.items()))
            _logger.warning(
                f"{self.path}: kept {kept} annotations, dropped {reasons}; first: {self.first}"
            )


def _read_json(
    file: CocoFile, protocol: Protocol, classes: Sequence[str] | None, problems: _Problems
) -> GroundTruth:
    if file.annotations is None or not file.categories:
        missing = "annotations" if file.annotations is None else "categories"
        raise DataFormatError(f"{file.path}:1: found no '{missing}', expected a list of them")
    entries = _image_entries(file, problems)
    if not entries:
        raise DataFormatError(f"{file.path}:1: found no image in 'images', expected entries")
    position = {number: index for index, number in enumerate(entries)}
    others = max(file.categories) + 1
    by_regions = protocol.ignore == "regions"
    known = {*file.categories, 0, others} if by_regions else set(file.categories)
    numbered = any(isinstance(a, dict) and "id" in a for a in file.annotations)
    rows = []
    for index, entry in enumerate(file.annotations):
        try:
            image, category, box, flags = parse_box(entry, position, known)
            crowd, ignore, uncertain, _ = flags
            if by_regions:
                kind = entry.get("ignored_as")
                category = 0 if kind == "region" else others if kind == "others" else category
                ignore = crowd or ignore or uncertain
            number = entry.get("id") if numbered else index + 1
            if not is_id(number):
                raise BrokenEntry("bad id", f"id {shorten(number)}", "an integer")
            area = _extent(entry, "area", box[2] * box[3])
            side = _extent(entry, "size", math.sqrt(area))
        except BrokenEntry as error:
            problems.add(f"{file.path}:annotations[{index}]", error)
            continue
        rows.append((position[image], category, *box, area, side, number, crowd, ignore, uncertain))
    return _columns(
        file.path,
        tuple(entries),
        tuple(name for name, _ in entries.values()),
        np.array([size for _, size in entries.values()], dtype=np.int64).reshape(-1, 2),
        _chosen(file, classes, protocol),
        np.array(rows, dtype=np.float64).reshape(-1, 12),
    )


def _image_entries(file: CocoFile, problems: _Problems) -> dict[int, tuple[str, tuple[int, int]]]:
    """By ascending id: the name, else the id as text, and height and width, 0 where unknown."""
    entries: dict[int, tuple[str, tuple[int, int]]] = {}
    for index, entry in enumerate(file.images):
        place = f"{file.path}:images[{index}]"
        if not isinstance(entry, dict):
            problems.add(place, BrokenEntry("no image entry", kind_of(entry), "a JSON object"))
        elif not is_id(entry.get("id")) or entry["id"] in entries:
            found = f"id {shorten(entry.get('id'))}"
            problems.add(place, BrokenEntry("bad id", found, "an integer of no other image"))
        else:
            name = entry.get("file_name")
            height, width, size = entry.get("height"), entry.get("width"), (0, 0)
            if is_number(height) and is_number(width) and min(height, width) >= 1:
                size = int(height), int(width)
            entries[entry["id"]] = (name if isinstance(name, str) else str(entry["id"]), size)
    return dict(sorted(entries.items()))


def _chosen(file: CocoFile, classes: Sequence[str] | None, protocol: Protocol) -> dict[int, str]:
    categories = dict(sorted(file.categories.items()))
    classes = list(categories.values()) if classes is None else classes
    unknown = [name for name in classes if name not in categories.values()]
    if unknown:
        raise ValueError(
            f"{file.path}: found no category {', '.join(map(repr, unknown))}, expected of "
            f"{', '.join(categories.values())}"
        )
    chosen = {number: name for number, name in categories.items() if name in classes}
    if protocol.ignore == "regions" and 0 in chosen:
        raise DataFormatError(
            f"{file.path}: found category 0, {shorten(chosen[0])}, among the classes, expected ids "
            "from 1, as 0 is an ignored region; choose the classes to measure without it"
        )
    return chosen


def _extent(entry: Mapping[str, Any], key: str, default: float) -> float:
    value = entry.get(key, default)
    if type(value) not in (int, float) or not 0 <= value <= _LARGEST_AREA:
        raise BrokenEntry(f"bad {key}", f"{key} {shorten(value)}", "a number, 0 or more")
    return value


def _read_text_files(
    path: str, protocol: Protocol, images: str | None, names: Sequence[str], problems: _Problems
) -> GroundTruth:
    files = list_text_files(path)
    rows: list[tuple[float, ...]] = []
    for index, file in enumerate(files.values()):
        with open(file, "rb") as stream:
            good, broken = parse_visdrone_file(stream.read(), len(names))
        for line, error in broken:
            problems.add(f"{file}:{line}", error)
        rows += [(index, *row[1:7]) for row in good]
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    classless = (table[:, 6] == 0) | (table[:, 6] == len(names) + 1)
    crowd, ignore = np.zeros(len(table), dtype=bool), table[:, 5] == 0
    if protocol.ignore != "regions":
        # Where categories never meet, a box that is of no class has to stand in each of them.
        repeats = np.where(classless, len(names), 1)
        table, crowd = table.repeat(repeats, axis=0), (classless | ignore).repeat(repeats)
        ignore, classless = np.zeros(len(table), dtype=bool), classless.repeat(repeats)
        table[classless, 6] = np.tile(np.arange(len(names)) + 1, classless.sum() // len(names))
    area = table[:, 3] * table[:, 4]
    columns = (area, np.sqrt(area), np.arange(len(table)) + 1, crowd, ignore, np.zeros(len(table)))
    stems = tuple(files)
    needed = [stems[i] for i in np.unique(table[table[:, 6] == 0, 0].astype(np.int64))]
    return _columns(
        path,
        stems,
        stems,
        read_image_sizes(path, stems, needed, images),
        dict(enumerate(names, start=1)),
        np.column_stack([table[:, 0], table[:, 6], table[:, 1:5], *columns]),
    )


def _columns(
    source: str,
    ids: tuple[int | str, ...],
    names: tuple[str, ...],
    sizes: np.ndarray,
    classes: Mapping[int, str],
    rows: np.ndarray,
) -> GroundTruth:
    """Of (G, 12) rows: image, category, xywh, area, side, annotation id, three flags."""
    return GroundTruth(
        source=source,
        image_ids=ids,
        image_names=names,
        image_sizes=sizes,
        classes=classes,
        image=rows[:, 0].astype(np.int64),
        category=rows[:, 1].astype(np.int64),
        boxes=rows[:, 2:6].copy(),
        area=rows[:, 6].copy(),
        side=rows[:, 7].copy(),
        annotation_id=rows[:, 8].astype(np.int64),
        crowd=rows[:, 9] > 0,
        ignore=rows[:, 10] > 0,
        uncertain=rows[:, 11] > 0,
    )
