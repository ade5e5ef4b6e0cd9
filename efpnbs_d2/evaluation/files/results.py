"""Reader of a detector's results: all of it is checked against the ground truth, nothing is mended.

Shapes: D detections, I images. Boxes are xywh in pixels of the original image.
"""

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from ...file_format import LARGEST_COORDINATE, DataFormatError
from ...protocols import Protocol
from ...visdrone_txt import parse_visdrone_file
from ..columns import Detections, GroundTruth
from .json_records import read_result_columns
from .text_folder import list_text_files, text_stems

__all__ = ["best_first", "image_numbers", "read_results"]


def read_results(
    path: str,
    truth: GroundTruth,
    protocol: Protocol,
    *,
    ignore_unknown_classes: bool = False,
    progress: bool = False,
) -> Detections:
    """Read COCO results (.json, .json.gz), or a folder of VisDrone text files, one per image.

    Either goes with either kind of ground truth. ``image_id`` of a JSON is the stem of an image of
    a ground truth of text files, or its place among the stems in alphabetical order, from 1, as the
    data sets of this package number them. A text file is named like its image; its classes are the
    category ids of a COCO ground truth, unless the folder is one that `efpnbs_d2.tools.predict` has
    written: then the images.json beside it has their names, and these count.
    Categories 0 and K + 1 are known to text files and to VisDrone's protocol: they are in no
    table, but count towards a limit of detections per image.

    Args:
        path: the file or the folder.
        truth: its images and classes are the known ones.
        protocol: by which they will be compared.
        ignore_unknown_classes: keep detections of unknown categories, which are in no table.
        progress: show a bar.

    Returns:
        All detections in file order (text files: by the order of the images), and which images
        no record or text file mentions. Where the first rows of an image's file count, a JSON,
        which is none, is ordered by score.

    Raises:
        DataFormatError: a broken file; a record or line with an unknown image or class, a box of
            wrong shape, a number that is none, or a negative size. The message has its place.
        ValueError: no text file in the folder, or images of one stem.
        OSError: a file cannot be read.
    """
    known = None
    if not ignore_unknown_classes:
        known = set(truth.classes)
        if os.path.isdir(path) or protocol.ignore == "regions":
            known |= {0, max(truth.classes) + 1}
    if os.path.isdir(path):
        return _read_text_files(path, truth, known)
    return _read_json(path, truth, protocol, known, progress)


def _read_json(
    path: str,
    truth: GroundTruth,
    protocol: Protocol,
    known: Collection[int] | None,
    progress: bool,
) -> Detections:
    ids = image_numbers(truth)
    named = {name: n for n, name in zip(ids, truth.image_ids) if isinstance(name, str)}
    records = read_result_columns(Path(path), names=named or None, progress=progress)
    image = _positions(ids, records.image_id)

    def refuse(bad: np.ndarray, reason: Callable[[int], str]) -> None:
        _refuse_first(bad, lambda row: f"{path}:[{row}]", reason)

    refuse(
        image < 0,
        lambda row: f"image_id {records.image_id[row]}, expected an image of {truth.source}",
    )
    numbers = np.column_stack([records.boxes, records.scores])
    # The negation catches NaN too.
    refuse(
        ~(np.abs(numbers) <= LARGEST_COORDINATE).all(axis=1),
        lambda row: (
            f"bbox {records.boxes[row].tolist()} and score {records.scores[row]}, expected "
            f"numbers between {-LARGEST_COORDINATE:.0f} and {LARGEST_COORDINATE:.0f}"
        ),
    )
    refuse(
        (records.boxes[:, 2:] < 0).any(axis=1),
        lambda row: f"bbox {records.boxes[row].tolist()}, expected no negative size",
    )
    _refuse_classes(records.category_id, known, lambda row: f"{path}:[{row}]")
    found = Detections(
        source=path,
        image=image,
        category=records.category_id,
        boxes=records.boxes,
        scores=records.scores,
        missing=_unmentioned(truth, image),
    )
    return best_first(found) if protocol.limit == "image" else found


def _read_text_files(path: str, truth: GroundTruth, known: Collection[int] | None) -> Detections:
    files = list_text_files(path)
    stems = text_stems(truth)
    for stem, file in files.items():
        if stem not in stems:
            raise DataFormatError(
                f"{file}: found no image {stem!r} in {truth.source}, expected one"
            )
    # Whatever is no class is refused below, with the ids of the ground truth in the message.
    highest = int(LARGEST_COORDINATE) if known is None else max(known)
    rows: list[tuple[float, ...]] = []
    for stem, index in stems.items():
        if stem in files:
            with open(files[stem], "rb") as stream:
                good, broken = parse_visdrone_file(stream.read(), highest)
            for line, error in broken:
                raise DataFormatError(f"{files[stem]}:{line}: {error}")
            rows += [(index, *row[:7]) for row in good]
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    image, category = table[:, 0].astype(np.int64), table[:, 7].astype(np.int64)
    category = _by_name(Path(path).parent / "images.json", truth, category)
    paths = {index: files.get(stem, "") for stem, index in stems.items()}
    _refuse_classes(category, known, lambda row: f"{paths[image[row]]}:{table[row, 1]:.0f}")
    return Detections(
        source=path,
        image=image,
        category=category,
        boxes=table[:, 2:6].copy(),
        scores=table[:, 6].copy(),
        missing=tuple(
            truth.image_names[index] for stem, index in stems.items() if stem not in files
        ),
    )


def _by_name(images_json: Path, truth: GroundTruth, category: np.ndarray) -> np.ndarray:
    """The numbers that the ground truth has for the classes that the file names, if it has all."""
    if not images_json.is_file():
        return category
    content = json.loads(images_json.read_text())
    categories = content.get("categories", []) if isinstance(content, dict) else []
    # Text files count from 1 in their order, whatever the ids.
    named = {entry["name"]: number for number, entry in enumerate(categories, start=1)}
    wanted = {name: number for number, name in truth.classes.items()}
    if not named.keys() <= wanted.keys():
        return category
    renumbered = category.copy()
    for name, number in named.items():
        renumbered[category == number] = wanted[name]
    return renumbered


def best_first(found: Detections) -> Detections:
    """By descending score, as a file should be of which the first rows count. Stable."""
    return found.select(np.argsort(-found.scores, kind="stable"))


def image_numbers(truth: GroundTruth) -> list[int]:
    """The integer that stands for each image in a COCO JSON."""
    ids = truth.image_ids
    if all(isinstance(number, int) for number in ids):
        return [int(number) for number in ids]
    places = {stem: place for place, stem in enumerate(sorted(map(str, ids)), start=1)}
    return [places[str(stem)] for stem in ids]


def _positions(ids: list[int], found: np.ndarray) -> np.ndarray:
    """(D,) indices of the images with these ids, -1 for unknown ones."""
    order = np.argsort(ids)
    known = np.array(ids)[order]
    place = np.searchsorted(known, found).clip(max=len(known) - 1)
    return np.where(known[place] == found, order[place], -1)


def _unmentioned(truth: GroundTruth, image: np.ndarray) -> tuple[str, ...]:
    absent = np.bincount(image, minlength=len(truth.image_ids)) == 0
    return tuple(truth.image_names[index] for index in np.flatnonzero(absent))


def _refuse_classes(
    category: np.ndarray, known: Collection[int] | None, place: Callable[[int], str]
) -> None:
    if known is not None:
        listed = ", ".join(map(str, sorted(known)))
        _refuse_first(
            ~np.isin(category, list(known)),
            place,
            lambda row: (
                f"category {category[row]}, expected one of {listed}; "
                "--ignore-unknown-classes leaves others unmeasured"
            ),
        )


def _refuse_first(
    bad: np.ndarray, place: Callable[[int], str], reason: Callable[[int], str]
) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        also = f" (and {len(rows) - 1} more like this)" if len(rows) > 1 else ""
        raise DataFormatError(f"{place(rows[0])}: found {reason(rows[0])}{also}")
