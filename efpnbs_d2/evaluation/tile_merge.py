"""Results on tiles made results on the whole images, as TinyPerson's authors do it.

Shapes: T tiles, D detections on them, P pairs of detections.
Source: TinyBenchmark, commit 36436df, COCOMergeResult with its CPU kernel. There boxes and scores
are float32, and a box ends with the pixel at its end: each side is one pixel longer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..coco_file import four_numbers, is_id, kind_of, read_json
from ..file_format import BrokenEntry, DataFormatError, shorten
from ..protocols import Protocol
from .columns import Detections, GroundTruth
from .files.results import best_first
from .overlaps import candidate_pairs

__all__ = ["Tiles", "merge_tiles", "read_tiles"]

_DUPLICATE_IOU = 0.5
# Far more than rounding to float32 changes an overlap.
_MARGIN = 0.01


@dataclass(frozen=True)
class Tiles:
    """Where tiles lie, by ascending image id of the tiles.

    Attributes:
        ids: (T,) int, image ids.
        names: T file names; a tile that is cropped on loading has its whole image's.
        image: (T,) int, the whole image, as index into the ground truth's.
        offset: (T, 2) float64, x and y of the tile's corner in the whole image, pixels.
        turn: (T,) int, place of the tile in the order in which detections are gathered.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    image: np.ndarray
    offset: np.ndarray
    turn: np.ndarray


def read_tiles(path: str, truth: GroundTruth) -> Tiles:
    """Read where tiles lie from their COCO JSON: TinyPerson's, or one of ``efpnbs_d2.tools.tile``.

    Their place is ``corner``, or ``cut_from`` where a tile is an image of its own. They belong to
    the image among ``old_images`` that has the id ``original_id``, else the same ``file_name``.

    Args:
        path: the JSON.
        truth: of the whole images, which have the ids of ``old_images``; if its ids are names,
            their file names without folder and suffix.

    Raises:
        DataFormatError: a broken entry, or a tile that belongs to none of the ``old_images``.
        ValueError: a tile's whole image is not in the ground truth.
        OSError: the file cannot be read.
    """
    data = read_json(path, Path(path).read_bytes())
    if not isinstance(data, dict):
        raise DataFormatError(f"{path}:1: found {kind_of(data)}, expected a JSON object")
    originals = _entries(path, data, "old_images", unique=("id", "file_name"))
    tiles = _entries(path, data, "images", unique=("id",))
    order = {
        key: {entry[key]: n for n, entry in enumerate(originals)} for key in ("id", "file_name")
    }
    rows = [_locate(f"{path}:images[{n}]", tile, order) for n, tile in enumerate(tiles)]
    original = np.array([number for number, *_ in rows], dtype=np.int64)
    offset = np.array([corner for _, *corner in rows], dtype=np.float64).reshape(-1, 2)
    known = _positions(truth, originals)
    image = known[original]
    if (image < 0).any():
        n = int(np.argmax(image < 0))
        name = shorten(originals[original[n]]["file_name"])
        raise ValueError(
            f"{path}:images[{n}]: found a tile of {name}, which is not in {truth.source}; expected "
            "the annotations of the whole images there"
        )
    ids = np.array([tile["id"] for tile in tiles], dtype=np.int64)
    turn = np.empty(len(tiles), dtype=np.int64)
    turn[np.argsort(original, kind="stable")] = np.arange(len(tiles))
    by_id = np.argsort(ids)
    names = tuple(tiles[n]["file_name"] for n in by_id)
    return Tiles(ids[by_id], names, image[by_id], offset[by_id], turn[by_id])


def _entries(
    path: str, data: dict[str, Any], section: str, unique: Collection[str]
) -> list[dict[str, Any]]:
    entries = data.get(section)
    if not isinstance(entries, list):
        raise DataFormatError(
            f"{path}:1: found {kind_of(entries)} as {section!r}, expected the list of "
            f"{'the whole images' if section == 'old_images' else 'tiles'}"
        )
    seen: dict[str, set[Any]] = {key: set() for key in unique}
    for index, entry in enumerate(entries):
        place = f"{path}:{section}[{index}]"
        if not isinstance(entry, dict):
            raise DataFormatError(f"{place}: found {kind_of(entry)}, expected a JSON object")
        if not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            raise DataFormatError(
                f"{place}: found id {shorten(entry.get('id'))} and file_name "
                f"{shorten(entry.get('file_name'))}, expected an integer and a text"
            )
        for key, values in seen.items():
            if entry[key] in values:
                raise DataFormatError(
                    f"{place}: found {key} {shorten(entry[key])} again, expected it once"
                )
            values.add(entry[key])
    return entries


def _locate(
    place: str, tile: dict[str, Any], order: Mapping[str, Mapping[Any, int]]
) -> tuple[int, float, float]:
    """The number of a tile's whole image, and x and y of its corner there."""
    key, images = ("file_name", order["file_name"])
    if "original_id" in tile:
        key, images = ("original_id", order["id"])
    number = images.get(tile[key]) if isinstance(tile[key], (int, str)) else None
    if number is None:
        raise DataFormatError(
            f"{place}: found {key} {shorten(tile[key])}, expected that of an entry of 'old_images'"
        )
    try:
        x, y, *_ = four_numbers(tile.get("corner", tile.get("cut_from")), "corner")
    except BrokenEntry as error:
        raise DataFormatError(f"{place}: {error}") from error
    return number, x, y


def _positions(truth: GroundTruth, originals: Sequence[dict[str, Any]]) -> np.ndarray:
    """Where the ground truth has the whole images, -1 where it does not."""
    position = {number: n for n, number in enumerate(truth.image_ids)}
    if any(isinstance(number, str) for number in position):
        keys = [Path(entry["file_name"]).stem for entry in originals]
    else:
        keys = [entry["id"] for entry in originals]
    return np.array([position.get(key, -1) for key in keys], dtype=np.int64)


def merge_tiles(
    protocol: Protocol, tiles: Tiles, truth: GroundTruth, found: Detections
) -> Detections:
    """Move detections to the whole images and drop duplicates.

    By descending score, a detection drops those of its class on its whole image, whatever their
    tile, with which its intersection over union is 0.5 or more (for TinyPerson, whose merger is
    made for persons alone, those of any class); of equal scores (as float32) the one gathered
    first counts as higher, where the official code leaves it to chance.

    Args:
        protocol: that the result will be measured by.
        tiles: where they lie.
        truth: of the whole images.
        found: on the tiles: its images are those of `tiles`, its boxes in pixels of the tile.

    Returns:
        What stays, gathered image by image as ``old_images`` lists them, tile by tile in the order
        of the file, and in file order on a tile; by descending score for a protocol that counts
        the first rows of an image. Boxes are float32 as the official code writes
        them. Missing are the images of which all tiles are.
    """
    gathered = np.argsort(tiles.turn[found.image], kind="stable")
    on_tile, image = found.boxes[gathered], tiles.image[found.image[gathered]]
    start = on_tile[:, :2] + tiles.offset[found.image[gathered]]
    corners = np.concatenate((start, start + on_tile[:, 2:]), axis=1).astype(np.float32)
    group = image
    if protocol.ignore != "flags":
        pairs = np.stack((image, found.category[gathered]))
        group = np.unique(pairs, axis=1, return_inverse=True)[1]
    stays = _highest_of_duplicates(group, corners, found.scores[gathered].astype(np.float32))
    low, high = corners[stays, :2], corners[stays, 2:]
    rows = gathered[stays]
    merged = Detections(
        source=found.source,
        image=image[stays],
        category=found.category[rows],
        boxes=np.concatenate((low, high - low), axis=1).astype(np.float64),
        scores=found.scores[rows],
        missing=_missing_images(tiles, truth, found.missing),
    )
    return best_first(merged) if protocol.limit == "image" else merged


def _missing_images(
    tiles: Tiles, truth: GroundTruth, missing_tiles: Sequence[str]
) -> tuple[str, ...]:
    image_of = dict(zip(tiles.names, tiles.image.tolist()))
    images = len(truth.image_ids)
    missing = np.array([image_of[name] for name in missing_tiles], dtype=np.int64)
    tiles_of, missing_of = (np.bincount(n, minlength=images) for n in (tiles.image, missing))
    is_missing = missing_of == tiles_of
    return tuple(truth.image_names[image] for image in np.flatnonzero(is_missing))


def _highest_of_duplicates(
    group: np.ndarray, corners: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """(D,) bool, what greedy non-maximum suppression keeps.

    All groups are decided at once: what no open pair ranks lower stays and drops its duplicates,
    until no pair is open.
    """
    rank = np.empty(len(group), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(group))
    pairs = np.stack(_duplicates(group, corners))
    high, low = np.take_along_axis(pairs, rank[pairs].argsort(axis=0), axis=0)
    stays = np.ones(len(group), dtype=bool)
    while high.size:
        is_beaten = np.zeros(len(group), dtype=bool)
        is_beaten[low] = True
        stays[low[~is_beaten[high]]] = False
        is_open = stays[high] & stays[low]
        high, low = high[is_open], low[is_open]
    return stays


def _duplicates(group: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of one group that overlap enough, as indices of the first and the second boxes."""
    if not len(group):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    # Groups side by side: a box can only overlap those that start between its own two ends.
    x = corners[:, (0, 2)] - corners[:, 0].min().astype(np.float64)
    x += (group * (x.max() + 2))[:, None]
    order = np.argsort(x[:, 0], kind="stable")
    start, end = x[order].T
    ordered = corners[order]
    first = np.arange(len(order)) + 1
    count = np.searchsorted(start, end + 1, side="right") - first
    size = ordered[:, 2:].astype(np.float64) - ordered[:, :2] + 1
    boxes = np.concatenate((ordered[:, :2], size), axis=1)
    absorbs = np.zeros(len(boxes), dtype=bool)
    near = candidate_pairs(boxes, first, count, boxes, absorbs, _DUPLICATE_IOU - _MARGIN)
    one, other = (np.concatenate(part) for part in list(zip(*near))[:2])
    is_duplicate = _overlap(ordered[one], ordered[other]) >= _DUPLICATE_IOU
    return order[one[is_duplicate]], order[other[is_duplicate]]


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) float32 intersection over union of (P, 4) float32 xyxy with the pixels at their ends."""
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    common = np.maximum(high - low + 1, 0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) for boxes in (one, other)]
    return common / (areas[0] + areas[1] - common)
