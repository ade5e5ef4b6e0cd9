"""The files that the benchmarks' servers take.

Shapes: D detections. Boxes are xywh in pixels of the original image.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...atomic import write_atomically
from ...protocols import Protocol
from ..columns import Detections, GroundTruth
from .results import image_numbers
from .text_folder import text_stems

__all__ = ["write_server_files"]

# Records of a JSON that are turned into text at once.
_PIECE = 100_000


def write_server_files(
    folder: Path, truth: GroundTruth, found: Detections, protocol: Protocol
) -> list[Path]:
    """Write the results in the form that the protocol's benchmark takes, all numbers unrounded.

    VisDrone: ``<name>_results/`` with a text file for every image, empty without detections, and
    the same as ``<name>_results.zip``. A file's lines are ordered by descending score, as only the
    first 500 count. Others: COCO results, ``<name>_results.json``.

    Args:
        folder: is made where needed; files of these names are replaced.
        truth: names the images.
        found: the detections on them.
        protocol: gives the form and the name.

    Returns:
        What was written: the zip or the JSON.

    Raises:
        ValueError: two images have one stem, so that their text files would have one name.
        OSError: a file cannot be written; the earlier one is intact.

    Source: the result formats of aiskyeye.com and of cocodataset.org.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if protocol.ignore == "regions":
        return [_write_text_files(folder / f"{protocol.name}_results", truth, found)]
    target = folder / f"{protocol.name}_results.json"
    write_atomically(target, lambda file: _write_json(file, truth, found))
    return [target]


def _write_json(file: BinaryIO, truth: GroundTruth, found: Detections) -> None:
    ids = image_numbers(truth)
    file.write(b"[")
    for start in range(0, len(found.image), _PIECE):
        rows = slice(start, start + _PIECE)
        records = [
            f'{{"image_id":{ids[image]},"category_id":{category},"bbox":{box},"score":{score!r}}}'
            for image, category, box, score in zip(
                found.image[rows].tolist(),
                found.category[rows].tolist(),
                found.boxes[rows].tolist(),
                found.scores[rows].tolist(),
            )
        ]
        file.write((",\n" if start else "").encode() + ",\n".join(records).encode())
    file.write(b"]\n")


def _write_text_files(folder: Path, truth: GroundTruth, found: Detections) -> Path:
    texts = {f"{stem}.txt": text.encode() for stem, text in _texts(truth, found)}
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        _write_bytes(folder / name, text)
    archive = folder.with_name(f"{folder.name}.zip")
    write_atomically(archive, lambda file: _write_zip(file, texts))
    return archive


def _write_bytes(target: Path, content: bytes) -> None:
    write_atomically(target, lambda file: file.write(content))


def _texts(truth: GroundTruth, found: Detections) -> Iterator[tuple[str, str]]:
    """Stem and text of each image's file."""
    order = np.lexsort((-found.scores, found.image))  # stable: equal scores keep their order
    ends = np.cumsum(np.bincount(found.image, minlength=len(truth.image_ids))).tolist()
    for stem, index in text_stems(truth).items():
        rows = order[ends[index - 1] if index else 0 : ends[index]]
        columns = (found.boxes[rows].tolist(), found.scores[rows].tolist())
        yield (
            stem,
            "".join(
                ",".join(map(_plain, (*box, score))) + f",{category},-1,-1\n"
                for box, score, category in zip(*columns, found.category[rows].tolist())
            ),
        )


def _plain(number: float) -> str:
    return repr(int(number)) if number.is_integer() else repr(number)


def _write_zip(file: BinaryIO, texts: dict[str, bytes]) -> None:
    # The server wants the text files in the root of the archive.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
