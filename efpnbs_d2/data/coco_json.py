"""Entries of a COCO JSON, checked one by one: whatever the file holds, a clean value or an error.

Boxes are xywh in pixels of their image record.
"""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from .records import IGNORED_KINDS, LARGEST_COORDINATE
from .report import BrokenEntry, DataFormatError, shorten

__all__ = ["CocoFile", "has_image_id", "parse_annotation", "parse_image", "read_coco_file"]

_LARGEST_ID = 2**53
# The flags that make an annotation an ignore region, with their names in IGNORED_KINDS.
_FLAGS = (("iscrowd", "crowd"), ("ignore", "ignore"), ("uncertain", "uncertain"), ("logo", "logo"))
_FLAG_INDICES = tuple((key, IGNORED_KINDS.index(kind)) for key, kind in _FLAGS)


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


def read_coco_file(path: str) -> CocoFile:
    """Read the sections of a COCO JSON.

    Raises:
        DataFormatError: the file is no JSON, or a section is missing or malformed.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        raw = file.read()
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataFormatError(
            f"{path}:{error.lineno}: found broken JSON ({error.msg}, column {error.colno}), "
            "expected a whole JSON file. Was the download or copy cut short?"
        ) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataFormatError(
            f"{path}:1: found no readable JSON ({error}), expected UTF-8 text"
        ) from error
    if not isinstance(data, dict):
        raise DataFormatError(f"{path}:1: found {_kind(data)}, expected a JSON object")
    images, annotations = _section(path, data, "images"), None
    if images is None:
        raise DataFormatError(f"{path}:1: found no 'images', expected a list of image entries")
    if "annotations" in data:
        annotations = _section(path, data, "annotations")
    return CocoFile(path, images, annotations, _categories(path, data))


def parse_image(entry: Any) -> dict[str, Any]:
    """Check one entry of ``images``.

    Returns:
        ``file_name``, ``height``, ``width``, ``image_id``, and for a tile ``corner``
        [x1, y1, x2, y2] in pixels of the original image.

    Raises:
        BrokenEntry: a value is missing or is not what COCO asks for.
    """
    if not isinstance(entry, dict):
        raise BrokenEntry("no image entry", _kind(entry), "a JSON object")
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise BrokenEntry("bad file name", f"file_name {shorten(name)}", "a file name")
    record: dict[str, Any] = {"file_name": name}
    for key in ("height", "width"):
        if not _is_number(entry.get(key)) or entry[key] != int(entry[key]) or entry[key] < 1:
            raise BrokenEntry(f"bad {key}", f"{key} {shorten(entry.get(key))}", "pixels, 1 or more")
        record[key] = int(entry[key])
    if not _is_id(entry.get("id")):
        raise BrokenEntry("bad id", f"id {shorten(entry.get('id'))}", "an integer")
    record["image_id"] = entry["id"]
    if "corner" in entry:
        record["corner"] = _corner(entry["corner"], record["height"], record["width"])
    return record


def parse_annotation(
    entry: Any, image_ids: Container[int], class_indices: Mapping[int, int]
) -> tuple[int, float, float, float, float, int, int]:
    """Check one entry of ``annotations``.

    Returns:
        image id, x, y, w, h, contiguous class index, index into ``IGNORED_KINDS``.

    Raises:
        BrokenEntry: a value is missing, of a wrong type or out of range.
    """
    if not isinstance(entry, dict):
        raise BrokenEntry("no annotation entry", _kind(entry), "a JSON object")
    image_id, category = entry.get("image_id"), entry.get("category_id")
    if not _is_id(image_id) or image_id not in image_ids:
        raise BrokenEntry(
            "unknown image", f"image_id {shorten(image_id)}", "the id of one of the file's images"
        )
    if not _is_id(category) or category not in class_indices:
        known = ", ".join(map(str, class_indices))
        raise BrokenEntry("unknown category", f"category_id {shorten(category)}", f"one of {known}")
    x, y, w, h = _numbers(entry.get("bbox"), "bbox")
    if w < 0 or h < 0:
        raise BrokenEntry("negative size", f"bbox {shorten(entry['bbox'])}", "no negative size")
    ignored = 0
    for key, kind in _FLAG_INDICES:
        flag = entry.get(key, False)
        # 0, 1, false and true are all in circulation.
        if not isinstance(flag, int) or flag not in (0, 1):
            raise BrokenEntry("bad flag", f"{key} {shorten(flag)}", "0, 1, true or false")
        if flag and not ignored:
            ignored = kind
    return image_id, x, y, w, h, class_indices[category], ignored


def has_image_id(entry: Any) -> bool:
    """Whether an entry of ``annotations`` names an image in a usable way."""
    return isinstance(entry, dict) and _is_id(entry.get("image_id"))


def _section(path: str, data: dict[str, Any], name: str) -> list[Any] | None:
    section = data.get(name)
    if section is not None and not isinstance(section, list):
        raise DataFormatError(f"{path}:1: found {_kind(section)} in '{name}', expected a list")
    return section


def _categories(path: str, data: dict[str, Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for index, entry in enumerate(_section(path, data, "categories") or []):
        good = (
            isinstance(entry, dict)
            and _is_id(entry.get("id"))
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


def _corner(value: Any, height: int, width: int) -> list[float]:
    x1, y1, x2, y2 = _numbers(value, "corner")
    if x2 - x1 != width or y2 - y1 != height or x1 < 0 or y1 < 0:
        raise BrokenEntry(
            "bad corner",
            f"corner {shorten(value)}",
            f"[x1, y1, x2, y2] of a {width}x{height} tile",
        )
    return [x1, y1, x2, y2]


def _numbers(value: Any, key: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise BrokenEntry(
            f"bad {key}",
            f"{key} {shorten(value)}",
            f"4 numbers between {-LARGEST_COORDINATE:.0f} and {LARGEST_COORDINATE:.0f}",
        )
    return value


def _is_number(value: Any) -> bool:
    # NaN fails the comparison; booleans are integers to Python, but not here.
    return type(value) in (int, float) and -LARGEST_COORDINATE <= value <= LARGEST_COORDINATE


def _is_id(value: Any) -> TypeGuard[int]:
    return type(value) is int and -_LARGEST_ID <= value <= _LARGEST_ID


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
