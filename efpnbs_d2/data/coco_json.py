"""Entries of a COCO JSON as the data sets need them, checked one by one.

Boxes are xywh in pixels of their image record.
"""

from collections.abc import Container, Mapping
from typing import Any

from ..coco_file import FLAGS, four_numbers, is_id, is_number, kind_of, parse_box
from ..file_format import BrokenEntry, shorten
from .records import IGNORED_KINDS

__all__ = ["has_image_id", "parse_annotation", "parse_image"]

# The flags in IGNORED_KINDS.
_KINDS = [IGNORED_KINDS.index("crowd" if flag == "iscrowd" else flag) for flag in FLAGS]


def parse_image(entry: Any) -> dict[str, Any]:
    """Check one entry of ``images``.

    Returns:
        ``file_name``, ``height``, ``width``, ``image_id``, and for a tile ``corner``
        [x1, y1, x2, y2] in pixels of the original image.

    Raises:
        BrokenEntry: a value is missing or is not what COCO asks for.
    """
    if not isinstance(entry, dict):
        raise BrokenEntry("no image entry", kind_of(entry), "a JSON object")
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise BrokenEntry("bad file name", f"file_name {shorten(name)}", "a file name")
    record: dict[str, Any] = {"file_name": name}
    for key in ("height", "width"):
        if not is_number(entry.get(key)) or entry[key] != int(entry[key]) or entry[key] < 1:
            raise BrokenEntry(f"bad {key}", f"{key} {shorten(entry.get(key))}", "pixels, 1 or more")
        record[key] = int(entry[key])
    if not is_id(entry.get("id")):
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
    image_id, category, (x, y, w, h), flags = parse_box(entry, image_ids, class_indices)
    ignored = next((kind for kind, flag in zip(_KINDS, flags) if flag), 0)
    return image_id, x, y, w, h, class_indices[category], ignored


def has_image_id(entry: Any) -> bool:
    """Whether an entry of ``annotations`` names an image in a usable way."""
    return isinstance(entry, dict) and is_id(entry.get("image_id"))


def _corner(value: Any, height: int, width: int) -> list[float]:
    x1, y1, x2, y2 = four_numbers(value, "corner")
    if x2 - x1 != width or y2 - y1 != height or x1 < 0 or y1 < 0:
        raise BrokenEntry(
            "bad corner",
            f"corner {shorten(value)}",
            f"[x1, y1, x2, y2] of a {width}x{height} tile",
        )
    return [x1, y1, x2, y2]
