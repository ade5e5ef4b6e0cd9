"""A registered data set written as a data set of tiles, ready to be registered itself."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from detectron2.data import MetadataCatalog

from ..atomic import write_atomically
from ..tile_corners import OVERLAP, TILE, Corner, tile_corners
from .catalog import read_dataset
from .mapper import MIN_VISIBLE
from .tile_images import IMAGE_FORMATS, CutJob, cut_images, tile_file_name
from .tile_json import TileCounts, TiledImage, tile_image, write_tile_json

__all__ = ["TileSet", "write_tile_set"]

_HEADER = "# Written by efpnbs_d2.tools.tile: name this file in EFPNBS_DATASETS to use the tiles.\n"


@dataclass(frozen=True)
class TileSet:
    """What :func:`write_tile_set` wrote.

    Attributes:
        name: of the tile set in `datasets`.
        annotations: the COCO JSON.
        images: the folder that its file names start from.
        datasets: a YAML file for ``EFPNBS_DATASETS``: this tile set and those written beside it.
        originals: images of the data set.
        files_written: image files cut by this call; those of an earlier one were kept.
        counts: tiles and boxes.
    """

    name: str
    annotations: Path
    images: Path
    datasets: Path
    originals: int
    files_written: int
    counts: TileCounts


def write_tile_set(
    name: str,
    output: Path,
    *,
    tile: tuple[int, int] = TILE,
    overlap: tuple[int, int] = OVERLAP,
    image_format: str | None = None,
    drop_empty: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> TileSet:
    """Write `<output>/<tile set>.json`, `<output>/datasets.yaml` and, if asked for, tile images.

    Images come first and the JSON after them, each file whole or not at all. Tile images that
    are there and whole are kept, so that calling it again continues an interrupted run.

    Args:
        name: of a data set registered by this package.
        output: folder to write to; made when missing.
        tile: (height, width) in pixels.
        overlap: of neighbouring tiles in y and x, pixels.
        image_format: "png" or "jpg" also cuts the images, into `<output>/<tile set>/`. None
            writes annotations only: `file_name` is the original image's, and `corner`
            [x1, y1, x2, y2] says what loading crops from it.
        drop_empty: leave out tiles that hold no object.
        workers: processes that cut images.
        progress: show progress bars.

    Raises:
        ValueError: an unknown or unreadable data set, one that consists of tiles already, sizes
            that do not fit, an image that cannot be read, or two of one name.
        OSError: something cannot be written; image files that are finished stay.
    """
    _check(tile, overlap, image_format, workers)
    records, root = _load(name, drop_empty)
    tiled = [
        tile_image(record, file, tile=tile, overlap=overlap, drop_empty=drop_empty)
        for file, record in records.items()
    ]
    tiles_name = _tiles_name(name, tile, overlap, image_format, drop_empty)
    output.mkdir(parents=True, exist_ok=True)
    images, cut_name, files_written = root, None, 0
    if image_format is not None:
        images = output / tiles_name
        cut_name = partial(tile_file_name, image_format=image_format)
        jobs = _jobs(tiled, images, cut_name)
        files_written = cut_images(jobs, image_format, workers=workers, progress=progress)
    annotations = output / f"{tiles_name}.json"
    info = _info(name, tile, overlap, drop_empty)
    classes = _classes(name)
    write = partial(
        write_tile_json,
        images=tiled,
        info=info,
        classes=classes,
        cut_name=cut_name,
        progress=progress,
    )
    write_atomically(annotations, write)
    options = {
        "annotations": annotations.name,
        "images": str(images) if cut_name is None else images.name,
        "classes": [text for _, text in classes.values()],
        "protocol": MetadataCatalog.get(name).protocol,
        "tiles_of": name,
    }
    datasets = _describe(output, tiles_name, options)
    counts = TileCounts.total(image.counts for image in tiled)
    return TileSet(tiles_name, annotations, images, datasets, len(tiled), files_written, counts)


def _check(
    tile: tuple[int, int], overlap: tuple[int, int], image_format: str | None, workers: int
) -> None:
    if image_format is not None and image_format not in IMAGE_FORMATS:
        raise ValueError(f"Found image format {image_format!r}, expected one of {IMAGE_FORMATS}.")
    if workers < 1:
        raise ValueError(f"Found {workers} workers, expected at least 1.")
    # Before the data set is read, which may take a while.
    tile_corners(1, 1, tile, overlap)


def _load(name: str, drop_empty: bool) -> tuple[dict[str, dict[str, Any]], Path]:
    """Records by their file name relative to a folder, and that folder."""
    records, _ = read_dataset(name)
    if any("corner" in record for record in records):
        raise ValueError(
            f"{name}: found tiles, expected whole images; tile what they are cut from."
        )
    if drop_empty and not any("annotations" in record for record in records):
        raise ValueError(f"{name}: found no annotations, so every tile is empty; keep empty tiles.")
    paths = [os.path.abspath(record["file_name"]) for record in records]
    root = os.path.abspath(MetadataCatalog.get(name).image_root)
    # Some data sets keep their images in several folders.
    if os.path.commonpath([root, *paths]) != root:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    by_name: dict[str, dict[str, Any]] = {}
    for path, record in zip(paths, records):
        file = Path(os.path.relpath(path, root)).as_posix()
        if file in by_name:
            raise ValueError(f"{name}: found the image {path} twice, expected each image once.")
        by_name[file] = record
    return by_name, Path(root)


def _tiles_name(
    name: str,
    tile: tuple[int, int],
    overlap: tuple[int, int],
    image_format: str | None,
    drop_empty: bool,
) -> str:
    """As TinyPerson's files are named, with what differs from their way of tiling."""
    parts = [name, f"sw{tile[1]}", f"sh{tile[0]}"]
    if overlap != OVERLAP:
        parts += [f"ow{overlap[1]}", f"oh{overlap[0]}"]
    if drop_empty:
        parts.append("nonempty")
    if image_format is not None:
        parts.append(image_format)
    return "_".join(parts)


def _jobs(
    tiled: Sequence[TiledImage], folder: Path, cut_name: Callable[[str, Corner], str]
) -> list[CutJob]:
    jobs, sources = [], dict[Path, str]()
    for image in tiled:
        source, height, width = (image.record[key] for key in ("file_name", "height", "width"))
        targets = [(corner, folder / cut_name(image.file_name, corner)) for corner in image.corners]
        for _, target in targets:
            if target in sources:
                raise ValueError(
                    f"Found {sources[target]} and {source}, whose tiles would have the same names; "
                    "rename one of them."
                )
            sources[target] = source
        jobs.append(CutJob(source, height, width, targets))
    return jobs


def _info(
    name: str, tile: tuple[int, int], overlap: tuple[int, int], drop_empty: bool
) -> dict[str, Any]:
    return {
        "description": f"{name} as tiles, written by efpnbs_d2.tools.tile",
        "data_set": name,
        "tile": {"width": tile[1], "height": tile[0]},
        "overlap": {"width": overlap[1], "height": overlap[0]},
        "min_visible": MIN_VISIBLE,
        "drop_empty": drop_empty,
    }


def _classes(name: str) -> dict[int, tuple[int, str]]:
    """Contiguous class index -> category id and name."""
    metadata = MetadataCatalog.get(name)
    ids = {index: number for number, index in metadata.thing_dataset_id_to_contiguous_id.items()}
    return {index: (ids[index], text) for index, text in enumerate(metadata.thing_classes)}


def _describe(output: Path, tiles_name: str, options: dict[str, Any]) -> Path:
    """Add the tile set to the YAML file that registers those of this folder."""
    path = output / "tiles.yaml"
    if path.exists() and not path.read_text(errors="replace").startswith(_HEADER):
        raise ValueError(f"{path} was not written by this command; name another --output.")
    try:
        entries = yaml.safe_load(path.read_bytes()) if path.exists() else {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: found broken YAML ({error}); correct or remove it.") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path}: found no data sets by name; correct or remove it.")
    text = yaml.safe_dump({**entries, tiles_name: options}, sort_keys=True, allow_unicode=True)
    write_atomically(path, lambda file: file.write(f"{_HEADER}{text}".encode()))
    return path
