"""COCO result files as columns: read in pieces, as dicts would take 1 GB per million records.

N records; boxes are xywh in pixels.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO, cast

import numpy as np
from tqdm import tqdm

from ...coco_file import is_id, kind_of
from ...file_format import DataFormatError, shorten

__all__ = ["ResultColumns", "read_result_columns"]

# Characters. What fits the processor's cache is parsed faster than a larger piece.
_PIECE = 2**18
# Between two records, or inside of one.
_BETWEEN_OBJECTS = re.compile(r"\}\s*,\s*(?=\{)")
_COMMA_OR_END = re.compile(r"\s*([,\]])\s*")
# Of an object with a section of an annotation file.
_ANNOTATIONS = re.compile(r'\{.*"(images|annotations|categories)"\s*:\s*\[', re.DOTALL)
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class ResultColumns:
    """The records of a result file, in file order. No value is checked but for its type.

    Attributes:
        image_id: (N,) int64.
        category_id: (N,) int64.
        boxes: (N, 4) float64 xywh; may be NaN, infinite or of negative size.
        scores: (N,) float64; may be NaN or infinite.
    """

    image_id: np.ndarray
    category_id: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def read_result_columns(
    path: Path, *, names: Mapping[str, int] | None = None, progress: bool = False
) -> ResultColumns:
    """Read a COCO result file: a JSON list of records, plain or compressed by gzip.

    Other entries of the records, such as ``segmentation``, are left out.

    Args:
        path: of the file.
        names: the ids of images that records may name by text instead.
        progress: show a bar.

    Raises:
        DataFormatError: the file is no JSON list, or a record lacks an integer ``image_id`` or
            ``category_id``, a ``bbox`` of four numbers or a ``score``. The message starts with
            ``path:[place]``, the record's place in the list, from 0.
        OSError: the file cannot be read.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    size, first = path.stat().st_size, 0
    with (
        path.open("rb") as raw,
        tqdm(total=size, unit="B", unit_scale=True, desc="results", disable=not progress) as bar,
    ):
        compressed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        plain = cast(IO[bytes], gzip.open(raw)) if compressed else raw
        try:
            for records in _pieces(io.TextIOWrapper(plain, encoding="utf-8-sig"), path):
                if names is not None:
                    _replace_names(records, names, first, path)
                columns.append(_columns(records, first, path))
                first += len(records)
                bar.update(raw.tell() - bar.n)
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataFormatError(
                f"{path}: found no readable text ({error}), expected UTF-8, plain or whole gzip"
            ) from error
    if not columns:
        none = np.zeros(0, np.int64)
        return ResultColumns(none, none, np.zeros((0, 4)), np.zeros(0))
    return ResultColumns(*map(np.concatenate, zip(*columns, strict=True)))


def _pieces(file: TextIO, path: Path) -> Iterator[list[Any]]:
    """The elements of a JSON list, in order, some thousand at a time."""
    text = file.read(_PIECE).lstrip()
    if not text.startswith("["):
        if _ANNOTATIONS.match(text):
            raise DataFormatError(
                f"{path}: found an annotation file, which --gt takes, not results"
            )
        raise DataFormatError(
            f"{path}: found {shorten(text[:40])} at its start, expected a JSON list of results, "
            '[{"image_id": ..., "category_id": ..., "bbox": [x, y, w, h], "score": ...}, ...]'
        )
    text, place = text[1:], 0
    # Reading as much again keeps the work linear where no piece can be cut off.
    while more := file.read(max(_PIECE, len(text))):
        text += more
        gap = _last_gap(text)
        try:
            records = json.loads(f"[{text[: gap.start() + 1]}]") if gap else []
        except (ValueError, RecursionError):
            # The gap is inside of a record, or the file is broken, which its end will show.
            continue
        if gap and records:
            text, place = text[gap.end() :], place + len(records)
            yield records
    try:
        records = json.loads(f"[{text}")
    except (ValueError, RecursionError):
        raise _broken(text, place, path) from None
    if records:
        yield records


def _last_gap(text: str) -> re.Match[str] | None:
    end = len(text)
    while (end := text.rfind("}", 0, end)) >= 0:
        if gap := _BETWEEN_OBJECTS.match(text, end):
            return gap
    return None


def _broken(text: str, place: int, path: Path) -> DataFormatError:
    """Where `text`, the end of a JSON list from its element `place` on, breaks."""
    decode = json.JSONDecoder().raw_decode
    position = len(text) - len(text.lstrip())
    while True:
        try:
            _, position = decode(text, position)
        except (ValueError, RecursionError) as error:
            return DataFormatError(
                f"{path}:[{place}]: found broken JSON ({getattr(error, 'msg', error)}), expected "
                "a whole result record. Was the file cut short?"
            )
        gap = _COMMA_OR_END.match(text, position)
        if gap is None or gap[1] == "]":
            rest = text[gap.end() if gap else position :][:40]
            return DataFormatError(
                f"{path}:[{place}]: found {shorten(rest)} after this record, expected "
                f"{'nothing after the list' if gap else 'a comma or the end of the list'}"
            )
        place, position = place + 1, gap.end()


def _replace_names(records: list[Any], names: Mapping[str, int], first: int, path: Path) -> None:
    for place, record in enumerate(records, first):
        name = record.get("image_id") if isinstance(record, dict) else None
        if isinstance(name, str):
            if name not in names:
                raise DataFormatError(
                    f"{path}:[{place}]: found image_id {shorten(name)}, expected the name of an "
                    f"image, such as {shorten(next(iter(names)))}"
                )
            record["image_id"] = names[name]


def _columns(records: list[Any], first: int, path: Path) -> tuple[np.ndarray, ...]:
    """Image ids, category ids, boxes and scores of records, the first of which is `first`."""
    try:
        # The types are left to numpy, which would otherwise turn text into numbers.
        ids = [np.array([r[key] for r in records]) for key in ("image_id", "category_id")]
        boxes = np.array([r["bbox"] for r in records])
        scores = np.array([r["score"] for r in records])
    except (KeyError, TypeError, ValueError):
        raise _bad_record(records, first, path) from None
    whole = all(array.dtype.kind == "i" and array.ndim == 1 for array in ids)
    number = boxes.dtype.kind in "if" and scores.dtype.kind in "if"
    if not (whole and number and boxes.shape == (len(records), 4) and scores.ndim == 1):
        raise _bad_record(records, first, path)
    return *ids, boxes.astype(np.float64), scores.astype(np.float64)


def _bad_record(records: list[Any], first: int, path: Path) -> DataFormatError:
    for place, record in enumerate(records, first):
        if not isinstance(record, dict):
            return DataFormatError(f"{path}:[{place}]: found {kind_of(record)}, expected an object")
        for key, (good, expected) in _FIELDS.items():
            if key not in record:
                return DataFormatError(
                    f"{path}:[{place}]: found no {key!r} in {shorten(record)}, expected {expected}"
                )
            if not good(record[key]):
                return DataFormatError(
                    f"{path}:[{place}]: found {key} {shorten(record[key])}, expected {expected}"
                )
    raise AssertionError("a record that is no column is a bad record")


def _is_number(value: object) -> bool:
    return type(value) is float or is_id(value)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "image_id": (is_id, "an integer"),
    "category_id": (is_id, "an integer"),
    "bbox": (_is_box, "a list of 4 numbers: x, y, width, height"),
    "score": (_is_number, "a number"),
}
