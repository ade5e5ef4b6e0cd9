"""What may be wrong with a data set beyond what its reader reports: boxes, classes, image files."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from tqdm import tqdm

from ..image_files import image_size
from .read_image import read_image
from .report import ReadReport
from .statistics import BoxColumns

__all__ = [
    "Finding",
    "check_boxes",
    "check_decoding",
    "check_files",
    "check_report",
    "check_splits",
]

Record = Mapping[str, Any]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

THIN = 2.0  # pixels
_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One kind of problem.

    Attributes:
        severity: "error": training cannot start or will stop; "warning": it runs, and something
            is probably wrong; "note": worth knowing.
        what: the problem, and what it means.
        count: how often.
        examples: the first ones: a file, and what was found there.
    """

    severity: Literal["error", "warning", "note"]
    what: str
    count: int
    examples: tuple[str, ...] = ()


def check_report(report: ReadReport) -> list[Finding]:
    """What the reader dropped, by reason, and what it changed."""
    return [
        *(
            Finding("warning", f"{kind} left out: {reason}", count)
            for kind, counts in (("images", report.images_dropped), ("boxes", report.dropped))
            for reason, count in sorted(counts.items())
        ),
        *_if_any(Finding("note", "boxes cut at the image's border", report.clipped)),
    ]


def check_boxes(
    records: Sequence[Record], columns: BoxColumns, class_names: Sequence[str]
) -> list[Finding]:
    """Objects and classes: none at all, missing classes, repeated boxes, boxes under 2 px."""
    if not columns.is_object.any():
        what = "no objects" if columns.labelled else "no labels: nothing to train on"
        return [Finding("error", what, len(records))]
    per_class, _ = columns.class_counts(len(class_names))
    empty = [name for name, count in zip(class_names, per_class, strict=True) if not count]
    unused = int((columns.objects_per_image == 0).sum())
    found = [
        _finding("warning", "classes without any object", empty),
        Finding("note", "images without any object (training leaves them out)", unused),
    ]
    for what, rows in (
        ("objects repeated: same box, same class", columns.repeated_objects(same_class=True)),
        (
            "boxes repeated under another class",
            columns.repeated_objects(same_class=False),
        ),
        (f"objects with a side under {THIN:g} px", columns.thin_objects(THIN)),
    ):
        places = (_place(records, columns, class_names, row) for row in rows[:_EXAMPLES])
        found.append(Finding("warning", what, len(rows), tuple(places)))
    return _if_any(*found)


def check_files(records: Sequence[Record]) -> list[Finding]:
    """Image files by their headers: readable, of the annotated size, and each used once.

    Detectron2 stops training at an image of another size than its record says.
    """
    verdicts = _in_threads(_header_problem, records, "headers")
    unreadable = [text for kind, text in verdicts if kind == "unreadable"]
    mismatched = [text for kind, text in verdicts if kind == "size"]
    # Tiles share their image's file.
    whole = [record["file_name"] for record in records if "corner" not in record]
    reused = [path for path, uses in Counter(whole).items() if uses > 1]
    copies = identical_files(whole)
    found = [
        _finding("error", "images that cannot be read (training stops there)", unreadable),
        _finding("error", "images of another size than annotated (training stops)", mismatched),
        _finding("warning", "image files listed more than once", reused),
        _finding("warning", "images that have a copy in the same split", copies),
    ]
    return _if_any(*found)


def check_decoding(records: Sequence[Record], number: int | None) -> list[Finding]:
    """Decode images as Detectron2 does.

    Args:
        records: of the data set.
        number: how many, evenly spread; None for all of them.
    """
    paths = list(dict.fromkeys(record["file_name"] for record in records))
    if number is not None and number < len(paths):
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, number).round().astype(int)]
    broken = [text for text in _in_threads(_decoding_problem, paths, "images") if text]
    return _if_any(
        _finding("error", "images that cannot be decoded (training stops there)", broken)
    )


def check_splits(splits: Mapping[str, tuple[Sequence[Record], Sequence[str]]]) -> list[Finding]:
    """Compare splits: the same image in two of them, or different classes.

    Args:
        splits: name -> records and class names.
    """
    found, names = [], list(splits)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            files = [[r["file_name"] for r in splits[name][0]] for name in (first, second)]
            shared = identical_files(*files)
            what = f"images of {second} that are also in {first}: scores on them mean nothing"
            found.append(_finding("warning", what, shared))
            if list(splits[first][1]) != list(splits[second][1]):
                both = [f"{name}: {', '.join(splits[name][1])}" for name in (first, second)]
                what = f"{first} and {second} have different classes"
                found.append(Finding("warning", what, 1, tuple(map(_one_line, both))))
    return _if_any(*found)


def identical_files(first: Iterable[str], second: Iterable[str] | None = None) -> list[str]:
    """Files of `second` whose bytes a file of `first` has, as ``path = path``.

    Without `second`: the copies within `first`. Only files of equal length are read. A file that
    cannot be read equals none but itself.
    """
    same = second is None
    first = list(dict.fromkeys(first))
    second = first if second is None else list(dict.fromkeys(second))
    lengths: dict[int, list[str]] = defaultdict(list)
    for path in dict.fromkeys([*first, *second]):
        lengths[_length(path)].append(path)
    candidates = [p for n, group in lengths.items() if n >= 0 and len(group) > 1 for p in group]
    digest = dict(zip(candidates, _in_threads(_digest, candidates, "copies"), strict=True))
    original: dict[str, str] = {}
    for path in first:
        original.setdefault(digest.get(path) or path, path)
    found = []
    for path in second:
        match = original.get(digest.get(path) or path)
        if match is not None and not (same and match == path):
            found.append(f"{path} = {match}")
    return found


def _if_any(*findings: Finding) -> list[Finding]:
    return [finding for finding in findings if finding.count]


def _finding(
    severity: Literal["error", "warning", "note"], what: str, cases: Sequence[str]
) -> Finding:
    return Finding(severity, what, len(cases), tuple(cases[:_EXAMPLES]))


def _place(
    records: Sequence[Record], columns: BoxColumns, class_names: Sequence[str], row: int
) -> str:
    numbers = ",".join(f"{number:g}" for number in columns.boxes[row])
    name = class_names[columns.classes[row]]
    return f"{records[columns.image[row]]['file_name']}: {name} at {numbers} (xywh)"


def _header_problem(record: Record) -> tuple[str, str]:
    path, expected = record["file_name"], (record["height"], record["width"])
    try:
        height, width = image_size(path)
    except ValueError as error:
        return "unreadable", _one_line(str(error))
    if "corner" in record:
        x2, y2 = record["corner"][2:]
        good, annotated = x2 <= width and y2 <= height, f"a tile up to {x2:g}x{y2:g}"
    else:
        good = (height, width) == expected
        annotated = f"{expected[1]}x{expected[0]}"
    return "" if good else "size", f"{path}: found {width}x{height}, annotated {annotated}"


def _decoding_problem(path: str) -> str:
    try:
        read_image(path, "BGR")
    # Pillow's format plugins raise nearly anything for a damaged file.
    except Exception as error:
        return f"{path}: {_one_line(str(error) or type(error).__name__)}"
    return ""


def _length(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha1(file.read()).hexdigest()
    except OSError:
        return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _in_threads(
    work: Callable[[_Item], _Result], items: Sequence[_Item], unit: str
) -> list[_Result]:
    """Results in order, with a progress bar. Decoding and hashing leave Python's lock alone."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(work, items)
        return list(tqdm(results, total=len(items), desc=unit, disable=None, leave=False))
