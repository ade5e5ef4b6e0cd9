"""Annotations of tiles: which boxes each tile holds, and the COCO JSON of TinyPerson's authors.

Shapes: T tiles of one image, G boxes of that image, P pieces of its boxes that the tiles keep.
Boxes of records are xywh in pixels of the original image; pieces are in pixels of their tile.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from ..tile_corners import Corner, tile_corners
from .tiling import split_boxes, stays

__all__ = ["TileCounts", "TiledImage", "tile_image", "write_tile_json"]

# Kinds of ignore region (`ignored_as`) that are flags in TinyPerson's format; others are crowds.
_FLAGS = ("ignore", "uncertain", "logo")


class TileCounts(NamedTuple):
    """What became of the tiles and boxes of one image, or of many.

    Attributes:
        tiles: written.
        empty: tiles without an object, written or dropped.
        objects: of the originals, ignore regions left out.
        kept: boxes of objects written; an object may be kept in several tiles.
        cut_away: pieces of objects not written, because the tile holds too little of the object.
        lost: objects that no tile keeps.
        ignored: pieces of ignore regions written.
    """

    tiles: int = 0
    empty: int = 0
    objects: int = 0
    kept: int = 0
    cut_away: int = 0
    lost: int = 0
    ignored: int = 0

    @classmethod
    def total(cls, counts: Iterable["TileCounts"]) -> "TileCounts":
        return cls(*map(sum, zip(cls(), *counts)))


@dataclass(frozen=True)
class TiledImage:
    """The tiles of one image that are to be written.

    Attributes:
        record: the image's standard dict.
        file_name: of the original image, relative to the data set's folder of images.
        corners: T tiles, xyxy in pixels of the original image.
        tile_of: (P,) index into `corners`, ascending.
        box_of: (P,) index into the record's annotations.
        pieces: (P, 4) xyxy, pixels of the tile.
        counts: of this image.
    """

    record: Mapping[str, Any]
    file_name: str
    corners: list[Corner]
    tile_of: np.ndarray
    box_of: np.ndarray
    pieces: np.ndarray
    counts: TileCounts


def tile_image(
    record: Mapping[str, Any],
    file_name: str,
    *,
    tile: tuple[int, int],
    overlap: tuple[int, int],
    drop_empty: bool,
) -> TiledImage:
    """Split one image and its boxes (XYWH_ABS).

    Args:
        record: Detectron2's standard dict, as :func:`~efpnbs_d2.data.read_dataset` returns it.
        file_name: see :class:`TiledImage`.
        tile: (height, width) in pixels.
        overlap: in y and x, pixels.
        drop_empty: leave out tiles that hold no object.

    Raises:
        ValueError: sizes that do not fit, see :func:`~efpnbs_d2.tile_corners.tile_corners`.
    """
    corners = tile_corners(record["height"], record["width"], tile, overlap)
    annotations = record.get("annotations", [])
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    is_region = np.array([a["iscrowd"] for a in annotations], dtype=bool)

    pieces, visible = split_boxes(boxes, np.array(corners, dtype=np.float64))
    kept = stays(visible, is_region)
    holds_object = (kept & ~is_region).any(axis=1)
    written = holds_object if drop_empty else np.ones(len(corners), dtype=bool)
    counts = TileCounts(
        tiles=int(written.sum()),
        empty=int((~holds_object).sum()),
        objects=int((~is_region).sum()),
        kept=int((kept & ~is_region).sum()),
        cut_away=int((~kept & ~is_region & (visible > 0)).sum()),
        lost=int((~kept.any(axis=0) & ~is_region).sum()),
        ignored=int((kept & is_region)[written].sum()),
    )
    tile_of, box_of = np.nonzero(kept[written])
    corners = [corner for corner, wanted in zip(corners, written) if wanted]
    return TiledImage(
        record, file_name, corners, tile_of, box_of, pieces[written][tile_of, box_of], counts
    )


def write_tile_json(
    file: BinaryIO,
    images: Sequence[TiledImage],
    *,
    info: Mapping[str, Any],
    classes: Mapping[int, tuple[int, str]],
    cut_name: Callable[[str, Corner], str] | None,
    progress: bool,
) -> None:
    """Write the COCO JSON entry by entry: its text is several times the size of the arrays.

    There is no `annotations` section if no image has annotations, so that they stay unlabelled.

    Args:
        file: to write to.
        images: in the order of the tiles' ids.
        info: the JSON's `info` block.
        classes: contiguous class index -> category id and name.
        cut_name: None writes the original image's name and `corner`, which makes loading crop;
            otherwise the file name of a tile's own image, and the corner as `cut_from`.
        progress: show a progress bar.

    Source: keys and order as in the files of TinyPerson's authors, image ids from 0. Added:
    `original_id`, the original image's id. Annotation ids start at 1, because pycocotools takes
    0 for "no match". Not written: `in_dense_image`, which does not follow from the boxes.
    """
    categories = [
        {"id": number, "name": name, "supercategory": "none"} for number, name in classes.values()
    ]
    head = {"info": info, "type": "instance", "categories": categories}
    file.write(json.dumps(head).removesuffix("}").encode())
    if any("annotations" in image.record for image in images):
        bar = tqdm(images, unit="image", desc="annotations", disable=not progress)
        numbers = {index: number for index, (number, _) in classes.items()}
        _write_list(file, "annotations", _annotations(bar, numbers))
    _write_list(file, "images", _tiles(images, cut_name))
    _write_list(file, "old_images", map(_original, images))
    file.write(b"}\n")


def _write_list(file: BinaryIO, key: str, entries: Iterable[Mapping[str, Any]]) -> None:
    file.write(f',\n"{key}": ['.encode())
    separator = "\n"
    for entry in entries:
        file.write(f"{separator}{json.dumps(entry)}".encode())
        separator = ",\n"
    file.write(b"]")


def _original(image: TiledImage) -> dict[str, Any]:
    record = image.record
    return {
        "file_name": image.file_name,
        "height": record["height"],
        "width": record["width"],
        "id": record["image_id"],
    }


def _tiles(
    images: Iterable[TiledImage], cut_name: Callable[[str, Corner], str] | None
) -> Iterator[dict[str, Any]]:
    tiles = ((image, corner) for image in images for corner in image.corners)
    for number, (image, corner) in enumerate(tiles):
        x1, y1, x2, y2 = corner
        name = image.file_name if cut_name is None else cut_name(image.file_name, corner)
        yield {
            "file_name": name,
            "height": y2 - y1,
            "width": x2 - x1,
            "id": number,
            "corner" if cut_name is None else "cut_from": corner,
            "original_id": image.record["image_id"],
        }


def _annotations(
    images: Iterable[TiledImage], category_of: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    first_tile, number = 0, 0
    for image in images:
        rows = zip(image.tile_of.tolist(), image.box_of.tolist(), image.pieces.tolist())
        for tile, box, (x1, y1, x2, y2) in rows:
            annotation = image.record["annotations"][box]
            kind, number = annotation.get("ignored_as", ""), number + 1
            area = (x2 - x1) * (y2 - y1)
            yield {
                "segmentation": [[x1, y1, x1, y2, x2, y2, x2, y1]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "category_id": category_of[annotation["category_id"]],
                "area": area,
                "iscrowd": int(annotation["iscrowd"] and kind not in _FLAGS),
                "image_id": first_tile + tile,
                "id": number,
                **{flag: kind == flag for flag in _FLAGS},
                "size": area**0.5,
            }
        first_tile += len(image.corners)
