"""A folder in VisDrone's layout, parsed whole and cached: what the files hold, not yet judged.

Shapes: I image names or annotation files, R good rows of all annotation files together.
Boxes are xywh in pixels of the original image.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..image_files import IMAGE_SUFFIXES, image_size
from ..visdrone_txt import parse_visdrone_file
from .read_cache import FolderListing, list_folder, load_arrays, store_arrays

__all__ = ["VisDroneFolder", "VisDroneTable"]

# Part of the cache's key: raise it whenever the parsing or VisDroneTable changes.
_CACHE_VERSION = "visdrone-1"


@dataclass(frozen=True)
class VisDroneTable:
    """What the files hold, before any judgement on images: the part that is cached.

    Attributes:
        sizes: (I, 2) height and width of each image, 0 where it cannot be read.
        counts: (I,) rows per annotation file.
        rows: (R, 9) line number and the 8 columns, file after file.
        broken: [stem, line number, reason, found, expected] of each bad line.
    """

    sizes: np.ndarray
    counts: np.ndarray
    rows: np.ndarray
    broken: list[list[Any]]
    ARRAYS: ClassVar = ("sizes", "counts", "rows", "broken")

    def to_arrays(self) -> dict[str, np.ndarray]:
        # Official files hold integers only, and those take half the space and time.
        small = self.rows.astype(np.int32)
        rows = small if np.array_equal(small, self.rows) else self.rows
        broken = np.frombuffer(json.dumps(self.broken).encode(), dtype=np.uint8)
        return {"sizes": self.sizes, "counts": self.counts, "rows": rows, "broken": broken}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "VisDroneTable":
        broken = json.loads(arrays["broken"].tobytes())
        rows = arrays["rows"].astype(np.float64)
        return cls(arrays["sizes"], arrays["counts"], rows, broken)


class VisDroneFolder:
    """The two folders: which files there are, where they lie, and their parsed table."""

    def __init__(self, images: str, annotations: str | None, num_classes: int) -> None:
        self.images, self.annotations, self.num_classes = images, annotations, num_classes
        self._listings = [list_folder(images, IMAGE_SUFFIXES)]
        if annotations is not None:
            self._listings.append(list_folder(annotations, (".txt",)))
        self.image_names = _by_stem(self._listings[0])
        self.text_names = _by_stem(self._listings[1]) if annotations is not None else {}
        self.stems = sorted({*self.image_names, *self.text_names})

    def image_path(self, stem: str) -> str:
        return os.path.join(self.images, self.image_names[stem])

    def text_path(self, stem: str) -> str:
        assert self.annotations is not None
        return os.path.join(self.annotations, self.text_names[stem])

    def same_stem(self) -> list[str]:
        """Images that differ from a listed one only in their suffix."""
        chosen = set(self.image_names.values())
        return [name for name in self._listings[0].names if name not in chosen]

    def read(self) -> VisDroneTable:
        folders = [os.path.abspath(f) for f in (self.images, self.annotations) if f is not None]
        key = (_CACHE_VERSION, str(self.num_classes), *folders)
        fingerprint = " ".join(listing.fingerprint for listing in self._listings)
        arrays = load_arrays(key, fingerprint, VisDroneTable.ARRAYS)
        if arrays is not None:
            return VisDroneTable.from_arrays(arrays)
        table = self._parse()
        # An image may fail for a passing reason: what is cached must hold until its file changes.
        failed = [
            s
            for s, size in zip(self.stems, table.sizes)
            if s in self.image_names and not size.all()
        ]
        if all(listing.settled for listing in self._listings) and not failed:
            store_arrays(key, fingerprint, table.to_arrays())
        return table

    def _parse(self) -> VisDroneTable:
        sizes, counts, rows, broken = [], [], [], []
        for stem in self.stems:
            sizes.append(self._size(stem))
            good: list[tuple[float, ...]] = []
            if stem in self.text_names:
                with open(self.text_path(stem), "rb") as file:
                    good, bad = parse_visdrone_file(file.read(), self.num_classes)
                broken += [[stem, n, e.reason, e.found, e.expected] for n, e in bad]
            counts.append(len(good))
            rows += good
        return VisDroneTable(
            np.array(sizes, dtype=np.int32).reshape(-1, 2),
            np.array(counts, dtype=np.int64),
            np.array(rows, dtype=np.float64).reshape(-1, 9),
            broken,
        )

    def _size(self, stem: str) -> tuple[int, int]:
        if stem not in self.image_names:
            return (0, 0)
        try:
            return image_size(self.image_path(stem))
        except ValueError:
            return (0, 0)


def _by_stem(listing: FolderListing) -> dict[str, str]:
    by_stem: dict[str, str] = {}
    for name in listing.names:
        by_stem.setdefault(os.path.splitext(name)[0], name)
    return by_stem
