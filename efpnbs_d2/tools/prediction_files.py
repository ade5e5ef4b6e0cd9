"""The files for other programs: COCO results, VisDrone's text files, CSV and GeoJSON.

Shapes: R detections of one record, K classes.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..atomic import write_atomically
from .prediction_records import Record

__all__ = ["write_files"]

_CSV_COLUMNS = "image frame category_id category score left top width height".split()


def write_files(
    output: Path,
    records: Iterable[Record],
    class_names: Sequence[str],
    category_ids: Sequence[int],
) -> list[Path]:
    """Write everything that was found into files for other programs.

    Boxes are left, top, width and height in pixels of the original image.

    - detections.json: COCO results; image ids are those of images.json.
    - images.json: a COCO file of the images and categories, without annotations.
    - visdrone/NAME.txt: for each image, or frame of a video, a file as VisDrone's server takes it,
      the highest score first; empty without detections. Its categories count from 1 in the order
      of the class names, whatever their ids.
    - detections.csv: a line a detection.
    - detections.geojson: outlines in degrees of longitude and latitude (WGS 84), of the images that
      have a geo-reference; not written if none has.

    Args:
        output: an existing folder.
        records: in the order to write them; iterated several times.
        class_names: K names.
        category_ids: K numbers, of the same classes.

    Returns:
        What was written.

    Raises:
        OSError: a file cannot be written; the earlier one is intact.
    """
    written = []

    def put(name: str, parts: Iterable[str]) -> None:
        write_atomically(output / name, partial(_write_parts, parts=parts))
        written.append(output / name)

    put("images.json", [json.dumps(_images(records, class_names, category_ids))])
    put("detections.json", _listed("[\n", _coco_results(records, category_ids), "\n]\n"))
    put("detections.csv", _csv_lines(records, class_names, category_ids))
    if any(record.georeference is not None for record in records):
        head = '{"type": "FeatureCollection", "features": [\n'
        put("detections.geojson", _listed(head, _features(records, class_names), "\n]}\n"))
    else:
        (output / "detections.geojson").unlink(missing_ok=True)
    written.append(output / "visdrone")
    _write_text_files(written[-1], records)
    return written


def _write_text_files(folder: Path, records: Iterable[Record]) -> None:
    """One for each image, and none of an earlier run's other images."""
    folder.mkdir(exist_ok=True)
    stale = set(folder.glob("*.txt"))
    for record in records:
        for name, rows in _rows_by_image(record):
            path, text = folder / f"{name}.txt", _visdrone_lines(record, rows)
            if path not in stale or path.read_text() != text:
                write_atomically(path, partial(_write_parts, parts=[text]))
            stale.discard(path)
    for path in stale:
        path.unlink()


def _write_parts(file: BinaryIO, parts: Iterable[str]) -> None:
    for part in parts:
        file.write(part.encode(errors="replace"))


def _listed(head: str, entries: Iterator[Any], tail: str) -> Iterator[str]:
    """A JSON list, an entry a line."""
    yield head
    for number, entry in enumerate(entries):
        yield (",\n" if number else "") + json.dumps(entry)
    yield tail


def _images(
    records: Iterable[Record], class_names: Sequence[str], category_ids: Sequence[int]
) -> dict[str, Any]:
    images = [
        {"file_name": r.file if frame is None else name, "height": r.height, "width": r.width}
        for r in records
        for name, frame in r.images()
    ]
    return {
        "images": [{"id": number, **image} for number, image in enumerate(images, start=1)],
        # In class order, as the text files count them.
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(category_ids, class_names, strict=True)
        ],
        "annotations": [],
    }


def _coco_results(
    records: Iterable[Record], category_ids: Sequence[int]
) -> Iterator[dict[str, Any]]:
    first = 1
    for record in records:
        for row, box in enumerate(_left_top_width_height(record)):
            yield {
                "image_id": first + (record.frame[row] - 1 if record.frame else 0),
                "category_id": category_ids[record.classes[row]],
                "bbox": box,
                "score": record.scores[row],
            }
        first += len(record.images())


def _csv_lines(
    records: Iterable[Record], class_names: Sequence[str], category_ids: Sequence[int]
) -> Iterator[str]:
    buffer = io.StringIO()
    lines = csv.writer(buffer)
    lines.writerow(_CSV_COLUMNS)
    for record in records:
        for row, box in enumerate(_left_top_width_height(record)):
            index, frame = record.classes[row], record.frame[row] if record.frame else ""
            category = category_ids[index], class_names[index]
            lines.writerow([record.file, frame, *category, record.scores[row], *box])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _features(records: Iterable[Record], class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for record in records:
        if not record.boxes or record.georeference is None:
            continue
        rings = record.georeference.geographic_rings(np.array(record.boxes))
        for row, ring in enumerate(rings.tolist()):
            yield {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [_exterior(ring)]},
                "properties": {
                    "image": record.file,
                    "category": class_names[record.classes[row]],
                    "score": record.scores[row],
                },
            }


def _exterior(ring: list[list[float]]) -> list[list[float]]:
    """Counter-clockwise, as RFC 7946 wants outer rings; some nine digits are a tenth millimetre."""
    x, y = np.array(ring).T
    is_clockwise = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() < 0
    points = ring[::-1] if is_clockwise else ring
    return [[round(value, 9) for value in point] for point in points]


def _rows_by_image(record: Record) -> Iterator[tuple[str, list[int]]]:
    """Name of each image, and its rows by descending score."""
    rows: dict[int | None, list[int]] = {}
    for row in sorted(range(len(record.scores)), key=lambda row: -record.scores[row]):
        rows.setdefault(record.frame[row] if record.frame else None, []).append(row)
    for name, frame in record.images():
        yield name, rows.get(frame, [])


def _visdrone_lines(record: Record, rows: Sequence[int]) -> str:
    boxes = _left_top_width_height(record, rows)
    return "".join(
        f"{','.join(map(str, box))},{record.scores[row]},{record.classes[row] + 1},-1,-1\n"
        for row, box in zip(rows, boxes)
    )


def _left_top_width_height(record: Record, rows: Sequence[int] | None = None) -> list[list[float]]:
    chosen = record.boxes if rows is None else [record.boxes[row] for row in rows]
    return [[x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)] for x1, y1, x2, y2 in chosen]
