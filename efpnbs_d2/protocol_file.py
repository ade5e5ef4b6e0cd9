"""A protocol of one's own, from a YAML file: a known one with other numbers."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml  # type: ignore[import-untyped]

from .file_format import DataFormatError, shorten
from .protocols import (
    PROTOCOLS,
    Metric,
    Protocol,
    SizeRange,
    coco_metrics,
    find_protocol,
)

__all__ = ["load_protocol", "read_protocol_file"]


def load_protocol(name: str) -> Protocol:
    """The protocol of that name, or of the YAML file of that name.

    Raises:
        ValueError: there is none, or the file breaks the rules of :func:`read_protocol_file`.
        OSError: the file cannot be read.
    """
    if name.lower().endswith((".yaml", ".yml")):
        return read_protocol_file(name)
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"found protocol {name!r}, expected one of {known}, or a .yaml file")
    return find_protocol(name)


def read_protocol_file(path: str) -> Protocol:
    """Read a protocol of one's own.

    The file names itself (``name``) and a known protocol (``base``), and lists what differs:
    ``title``, ``iou_thresholds`` (list), ``size_ranges`` (name: [low, high] in square pixels, both
    included; AP, AP50 and AP75 are those of the first), ``max_dets`` (list), ``classes`` (names),
    ``limit``, ``ignore``, ``ignored_in_recall``, ``interpolation``, ``class_mean``, ``headline``:
    as :class:`efpnbs_d2.protocols.Protocol` has them. Other thresholds, ranges or limits bring
    COCO's table for them, with the base's oLRP.

    Raises:
        DataFormatError: no YAML, an unknown key or a value of a wrong kind.
        ValueError: values that make no protocol.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            content = yaml.safe_load(file)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataFormatError(f"{path}: found no readable YAML ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise DataFormatError(f"{path}: found no name, expected 'name', 'base' and what differs")
    if content["name"] in PROTOCOLS:
        raise DataFormatError(
            f"{path}: found name {shorten(content['name'])}, which is a known protocol's, expected "
            "another, so that nobody takes its numbers for the official ones"
        )
    base = PROTOCOLS.get(str(content.get("base")))
    if base is None:
        raise DataFormatError(
            f"{path}: found base {shorten(content.get('base'))}, expected one of "
            f"{', '.join(PROTOCOLS)}"
        )
    changes = {key: _value(path, key, value) for key, value in content.items() if key != "base"}
    changes.setdefault("title", changes["name"])
    if changes.keys() & {"iou_thresholds", "size_ranges", "max_dets"}:
        ranges = changes.get("size_ranges", base.size_ranges)
        max_dets = changes.get("max_dets", base.max_dets)
        changes["metrics"] = coco_metrics(ranges, *max_dets) + _lrp(base, ranges[0], max_dets[-1])
        changes.setdefault("headline", "AP")
    try:
        return replace(base, **changes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _lrp(base: Protocol, size: SizeRange, limit: int) -> tuple[Metric, ...]:
    parts = [metric for metric in base.metrics if metric.kind.startswith("oLRP")]
    return tuple(replace(part, size=size.name, max_dets=limit) for part in parts)


def _value(path: str, key: str, value: Any) -> Any:
    """A value of the file as ``Protocol`` wants it."""
    kinds = get_type_hints(Protocol)
    choices = get_args(kinds.get(key))
    if key == "size_ranges":
        return _size_ranges(path, value)
    if key in ("iou_thresholds", "max_dets"):
        types = (int,) if key == "max_dets" else (int, float)
        good = isinstance(value, list) and all(type(v) in types and v > 0 for v in value)
        good, expected = good and len(value) > 0, "a list of positive numbers"
    elif key == "classes":
        good = isinstance(value, list) and all(isinstance(v, str) for v in value)
        expected = "a list of names"
    elif get_origin(kinds.get(key)) is Literal:
        good, expected = value in choices, " or ".join(map(repr, choices))
    elif kinds.get(key) in (str, bool):
        good, expected = isinstance(value, kinds[key]), f"a {kinds[key].__name__}"
    else:
        known = sorted(kinds.keys() - {"metrics", "miss_rate"} | {"base"})
        raise DataFormatError(f"{path}: found key {shorten(key)}, expected of {', '.join(known)}")
    if not good:
        raise DataFormatError(f"{path}: found {key} {shorten(value)}, expected {expected}")
    return tuple(value) if isinstance(value, list) else value


def _size_ranges(path: str, value: Any) -> tuple[SizeRange, ...]:
    ranges = []
    for name, limits in value.items() if isinstance(value, Mapping) and value else [("", value)]:
        low, high = _limits(limits)
        # NaN fails the comparison.
        if not low < high or not isinstance(name, str) or not name:
            raise DataFormatError(
                f"{path}: found size range {shorten(name)}: {shorten(limits)}, expected name: "
                "[low, high] in square pixels"
            )
        ranges.append(SizeRange(name, low, high))
    return tuple(ranges)


def _limits(value: Any) -> tuple[float, float]:
    """Two numbers; NaN for what is none."""
    try:
        # YAML takes 1e10 for a text.
        low, high = (float(limit) if isinstance(limit, str) else limit for limit in value)
    except (TypeError, ValueError):
        return math.nan, math.nan
    good = all(type(limit) in (int, float) for limit in (low, high))
    return (low, high) if good else (math.nan, math.nan)
