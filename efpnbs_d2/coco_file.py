"""Sections and annotations of a COCO JSON, checked: whatever the file holds, values or an error.

Boxes are xywh in pixels of their image record.
"""

import json
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import Any, TypeGuard

from .file_format import LARGEST_COORDINATE, BrokenEntry, DataFormatError, shorten

__all__ = [
    "FLAGS",
    "CocoFile",
    "four_numbers",
    "is_id",
    "is_number",
    "kind_of",
    "parse_box",
    "read_coco_file",
    "read_json",
]

_LARGEST_ID = 2**53
# What makes an annotation more or less than an object.
FLAGS = ("iscrowd", "ignore", "uncertain", "logo")


@dataclass(frozen=True)
class CocoFile:
    """The sections of a COCO JSON; entries of ``images`` and ``annotations`` not yet checked.

    Attributes:
        path: of the file.
        images: list of image entries.
        annotations: list of annotation entries, or None if the file has no such section.
        categories: category id -> name; empty if the file has no such section.
    """

    path: str
    images: list[Any]
    annotations: list[Any] | None
    categories: dict[int, str]


def read_json(path: str, raw: bytes) -> Any:
    """What the bytes of a JSON file hold; a BOM is allowed.

    Raises:
        DataFormatError: they are no JSON.
    """
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataFormatError(
            f"{path}:{error.lineno}: found broken JSON ({error.msg}, column {error.colno}), "
            "expected a whole JSON file. Was the download or copy cut short?"
        ) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataFormatError(
            f"{path}:1: found no readable JSON ({error}), expected UTF-8 text"
        ) from error


def read_coco_file(path: str) -> CocoFile:
    """Read the sections of a COCO JSON.

    Raises:
        DataFormatError: the file is no JSON, or a section is missing or malformed.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        raw = file.read()
    data = read_json(path, raw)
    if not isinstance(data, dict):
        raise DataFormatError(f"{path}:1: found {kind_of(data)}, expected a JSON object")
    images, annotations = _section(path, data, "images"), None
    if images is None:
        raise DataFormatError(f"{path}:1: found no 'images', expected a list of image entries")
    if "annotations" in data:
        annotations = _section(path, data, "annotations")
    return CocoFile(path, images, annotations, _categories(path, data))


def parse_box(
    entry: Any, image_ids: Container[int], category_ids: Collection[int]
) -> tuple[int, int, list[float], list[bool]]:
    """Check what every entry of ``annotations`` has.

    Returns:
        image id, category id, x, y, w, h as one list, and the flags in the order of ``FLAGS``.

    Raises:
        BrokenEntry: a value is missing, of a wrong type or out of range.
    """
    if not isinstance(entry, dict):
        raise BrokenEntry("no annotation entry", kind_of(entry), "a JSON object")
    image_id, category = entry.get("image_id"), entry.get("category_id")
    if not is_id(image_id) or image_id not in image_ids:
        raise BrokenEntry(
            "unknown image", f"image_id {shorten(image_id)}", "the id of one of the file's images"
        )
    if not is_id(category) or category not in category_ids:
        known = ", ".join(map(str, category_ids))
        raise BrokenEntry("unknown category", f"category_id {shorten(category)}", f"one of {known}")
    box = four_numbers(entry.get("bbox"), "bbox")
    if box[2] < 0 or box[3] < 0:
        raise BrokenEntry("negative size", f"bbox {shorten(box)}", "no negative size")
    flags = [entry.get(key, False) for key in FLAGS]
    for key, flag in zip(FLAGS, flags):
        # 0, 1, false and true are all in circulation.
        if not isinstance(flag, int) or flag not in (0, 1):
            raise BrokenEntry("bad flag", f"{key} {shorten(flag)}", "0, 1, true or false")
    return image_id, category, box, flags


def four_numbers(value: Any, key: str) -> list[float]:
    """`value`, the entry of `key`, if it is a list of four numbers that can be pixels.

    Raises:
        BrokenEntry: it is not.
    """
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise BrokenEntry(
            f"bad {key}",
            f"{key} {shorten(value)}",
            f"4 numbers between {-LARGEST_COORDINATE:.0f} and {LARGEST_COORDINATE:.0f}",
        )
    return value


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value can be a coordinate."""
    # NaN fails the comparison; booleans are integers to Python, but not here.
    return type(value) in (int, float) and -LARGEST_COORDINATE <= value <= LARGEST_COORDINATE


def is_id(value: Any) -> TypeGuard[int]:
    """Whether a value can be the id of an image, a category or an annotation."""
    return type(value) is int and -_LARGEST_ID <= value <= _LARGEST_ID


def kind_of(value: Any) -> str:
    """What a value is, for messages."""
    return f"a {type(value).__name__}"


def _section(path: str, data: dict[str, Any], name: str) -> list[Any] | None:
    section = data.get(name)
    if section is not None and not isinstance(section, list):
        raise DataFormatError(f"{path}:1: found {kind_of(section)} in '{name}', expected a list")
    return section


def _categories(path: str, data: dict[str, Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for index, entry in enumerate(_section(path, data, "categories") or []):
        good = (
            isinstance(entry, dict)
            and is_id(entry.get("id"))
            and isinstance(entry.get("name"), str)
            and entry["id"] not in categories
        )
        if not good:
            raise DataFormatError(
                f"{path}:categories[{index}]: found {shorten(entry)}, expected a name and an "
                "integer id that no other category has"
            )
        categories[entry["id"]] = entry["name"]
    return categories
