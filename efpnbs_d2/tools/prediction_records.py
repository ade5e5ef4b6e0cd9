"""What was found in each file, kept so that an interrupted run continues where it was.

Shapes: R detections. Boxes are xyxy in pixels of the original image.
"""

import json
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detectron2.structures import Instances

from ..atomic import write_atomically
from ..inference.georeference import GeoReference
from .prediction_inputs import Source

__all__ = ["Record", "Records", "RecordsOf"]

# A thousandth of a pixel, and the digits that a float32 holds.
_BOX_DECIMALS, _SCORE_DIGITS = 3, 7
# How long a network disk may hide from one machine what another one has written.
_LAG_SECONDS = 90
_ONE_DISK = "all machines of a run need one --output folder, on a disk that they share"


@dataclass
class Record:
    """What was found in one image or in the frames of one video.

    Attributes:
        file: path of the source.
        name: of the source.
        height: of the image in pixels, like `width`.
        width: of the image.
        frames: of the video; None for an image.
        whole: False for a video that was not read to its end.
        georeference: of the image, if it has one.
        frame: R numbers from 1; empty for an image.
        classes: R indices.
        scores: R numbers.
        boxes: R x 4.
    """

    file: str
    name: str
    height: int
    width: int
    frames: int | None = None
    whole: bool = True
    georeference: GeoReference | None = None
    frame: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)

    def add(self, found: Instances) -> None:
        """Append the detections of the image, or of the video's next frame."""
        if self.frames is not None:
            self.frames += 1
            self.frame += [self.frames] * len(found)
        self.classes += found.pred_classes.tolist()
        self.scores += [float(f"{score:.{_SCORE_DIGITS}g}") for score in found.scores.tolist()]
        self.boxes += [
            [round(value, _BOX_DECIMALS) for value in box]
            for box in found.pred_boxes.tensor.tolist()
        ]

    def images(self) -> list[tuple[str, int | None]]:
        """Name and frame number of each image that the record is about."""
        if self.frames is None:
            return [(self.name, None)]
        return [(f"{self.name}_{number:06d}", number) for number in range(1, self.frames + 1)]


class Records:
    """The records of an output folder, in its sub-folder `records`."""

    def __init__(self, output: Path, settings: Mapping[str, Any], *, anew: bool = False):
        """
        Args:
            output: made where needed.
            settings: plain data; what else the detections depend on: weights, options.
            anew: forget the records that are there.

        Raises:
            ValueError: the folder holds results of other settings, or something else.
            OSError: it cannot be written.
        """
        self.folder, self._kept = output / "records", output / "settings.json"
        output.mkdir(parents=True, exist_ok=True)
        plain, before = json.loads(json.dumps(settings)), _read(self._kept)
        if before is None and any(output.iterdir()):
            raise ValueError(
                f"{output} holds files, but no results of an earlier run: choose another --output"
            )
        if anew:
            for file in self.folder.glob("*.json"):
                file.unlink()
        elif before is not None and before != plain:
            changed = [key for key in {**before, **plain} if before.get(key) != plain.get(key)]
            raise ValueError(
                f"{output} holds results with another {', '.join(changed)}: choose another "
                "--output, or replace them with --overwrite"
            )
        _write(self._kept, plain)
        self.folder.mkdir(exist_ok=True)

    def find(self, source: Source) -> Record | None:
        """The record of a file that has not changed since; None if it has to be predicted."""
        content = _read(self._path(source))
        if content is None or content.pop("source") != _identity(source):
            return None
        place = content.pop("georeference")
        if place is not None:
            place = GeoReference(tuple(place["transform"]), place["crs"])
        return Record(**content, georeference=place)

    def write(self, source: Source, record: Record) -> None:
        """Keep a record in place of an earlier one.

        Raises:
            OSError: it cannot be written.
        """
        _write(self._path(source), {"source": _identity(source), **asdict(record)})

    def check_seen(self) -> None:
        """Raise a `ValueError` on a machine where the folder is not the one that was opened."""
        if not self._kept.is_file():
            raise ValueError(
                f"{self._kept.parent} on {platform.node()} is another folder: {_ONE_DISK}"
            )

    def wait_for(self, names: Iterable[str]) -> None:
        """Wait for the records that other processes wrote, by the names of their sources.

        Raises:
            ValueError: they do not appear here.
        """
        unseen, patience = [self.folder / f"{name}.json" for name in names], _LAG_SECONDS
        while unseen := [path for path in unseen if not path.is_file()]:
            if patience <= 0:
                raise ValueError(
                    f"{len(unseen)} files such as {unseen[0]}, written by other processes, cannot "
                    f"be seen on {platform.node()}: {_ONE_DISK}"
                )
            time.sleep(1)
            patience -= 1

    def _path(self, source: Source) -> Path:
        return self.folder / f"{source.name}.json"


@dataclass(frozen=True)
class RecordsOf:
    """Those records of some sources that there are: read anew by each loop, never all in memory."""

    records: Records
    sources: Sequence[Source]

    def __iter__(self) -> Iterator[Record]:
        found = (self.records.find(source) for source in self.sources)
        return (record for record in found if record is not None)


def _identity(source: Source) -> list[Any] | None:
    try:
        state = source.path.stat()
    except OSError:
        return None
    return [str(source.path), state.st_size, state.st_mtime_ns]


def _read(path: Path) -> Any:
    """The object in a JSON file; None if there is none, or if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, separators=(",", ":")).encode()
    write_atomically(path, lambda file: file.write(text))
