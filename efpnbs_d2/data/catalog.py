"""Registration of the published data sets, and of a user's own, with Detectron2's catalogues."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..protocols import PROTOCOLS
from .coco import load_coco
from .locate import dataset_root, locate_split
from .report import ReadReport
from .splits import SPLITS, Split
from .visdrone import load_visdrone

__all__ = ["class_names", "read_dataset", "register_published_datasets", "register_tiny_dataset"]

_FORMATS = ("coco", "visdrone")
# AI-TOD names a tile <image>__<x>_<y>.png; xView numbers its images, without leading zeros.
_XVIEW_TILE = re.compile(r"(.*/)?[1-9]\d*(\.tif)?__\d+_\d+\.png")


@dataclass(frozen=True)
class _Source:
    """How to read a registered data set: where its files are, and the readers' arguments."""

    locate: Callable[[], tuple[str | None, Sequence[str]]]
    format: str
    classes: tuple[str, ...] | None
    merged: Mapping[str, str] = field(default_factory=dict)
    origin: Callable[[str], str | None] | None = None
    strict: bool | None = None
    tiles_of: str | None = None


_SOURCES: dict[str, _Source] = {}


def register_published_datasets() -> None:
    """Register every split of ``SPLITS``. Files are looked for when a split is loaded."""
    for split in SPLITS:
        source = _Source(
            locate=partial(_locate_published, split),
            format=split.format,
            classes=split.classes,
            merged=split.merged,
            origin=_aitod_origin if split.protocol == "aitod" else None,
            tiles_of=split.tiles_of,
        )
        _register(split.name, source, split.protocol)


def register_tiny_dataset(
    name: str,
    *,
    annotations: str | None,
    images: str,
    format: str | None = None,
    classes: Sequence[str] | None = None,
    protocol: str = "coco",
    strict: bool | None = None,
    tiles_of: str | None = None,
) -> None:
    """Register a data set of one's own under a name for ``DATASETS.TRAIN`` and the like.

    Args:
        name: not taken by another data set.
        annotations: a COCO JSON, or a folder of VisDrone-style text files, one per image and
            named like it; None for images without labels. Read when the data set is loaded.
        images: the folder of the images.
        format: "coco" or "visdrone"; None takes "coco" for a name ending in .json.
        classes: names in the order of their contiguous index. COCO: None takes the file's
            categories by ascending id. VisDrone: needed; class i has category i + 1 in the files,
            0 is an ignored region and ``len(classes) + 1`` "others".
        protocol: name of the evaluation protocol, one of ``efpnbs_d2.protocols.PROTOCOLS``.
        strict: stop at the first broken entry instead of dropping and counting it; None takes
            the environment variable ``EFPNBS_STRICT_DATA``.
        tiles_of: name of the data set whose tiles these are: evaluation merges what is found on
            them and scores the whole images.

    Raises:
        ValueError: the name is taken, an option has an unknown value, or classes are missing.
    """
    if format is None:
        format = "coco" if annotations and annotations.lower().endswith(".json") else "visdrone"
    _check_options(name, annotations, format, classes, protocol)
    # Absolute now: a command may change its folder before it loads the data.
    paths = (None if annotations is None else _absolute(annotations), _absolute(images))
    source = _Source(
        locate=partial(
            _locate_own, name, *paths, os.path.isfile if format == "coco" else os.path.isdir
        ),
        format=format,
        classes=None if classes is None else tuple(classes),
        strict=strict,
        tiles_of=tiles_of,
    )
    _register(name, source, protocol)


def read_dataset(name: str, strict: bool | None = None) -> tuple[list[dict[str, Any]], ReadReport]:
    """Read a data set registered by this module, with the account of what was dropped.

    Args:
        name: of the data set.
        strict: as in :func:`register_tiny_dataset`, for this call.

    Returns:
        Detectron2's standard dicts (boxes XYWH_ABS floats, original pixels), and the report.

    Raises:
        ValueError: unknown name, files not found, no usable image, or classes that do not fit.
        DataFormatError: a broken file; in strict mode, a broken entry.
    """
    if name not in _SOURCES:
        raise ValueError(f"Unknown data set '{name}', expected one of {', '.join(_SOURCES)}.")
    source = _SOURCES[name]
    report = ReadReport(name, source.strict if strict is None else strict)
    annotations, images = source.locate()
    if source.format == "visdrone":
        assert source.classes is not None
        records = load_visdrone(
            images[0], annotations, num_classes=len(source.classes), report=report
        )
        ids = {number: number - 1 for number in range(1, len(source.classes) + 1)}
        classes: Sequence[str] = source.classes
    else:
        assert annotations is not None
        records, ids, classes = load_coco(
            annotations,
            images,
            classes=source.classes,
            merged=source.merged,
            origin=source.origin,
            report=report,
        )
    report.log()
    _describe(name, classes, ids, annotations=annotations, image_root=images[0])
    return records, report


def class_names(name: str) -> list[str]:
    """Class names of any registered data set; loads it if they are not known before.

    ``len(class_names(name))`` is what a model's ``num_classes`` has to be.

    Raises:
        ValueError: Detectron2 knows no data set of that name.
    """
    if name not in DatasetCatalog:
        known = ", ".join(sorted(DatasetCatalog.list()))
        raise ValueError(f"Unknown data set '{name}', expected one of {known}.")
    metadata = MetadataCatalog.get(name)
    if not hasattr(metadata, "thing_classes"):
        DatasetCatalog.get(name)
    return list(metadata.thing_classes)


def _check_options(
    name: str,
    annotations: str | None,
    format: str,
    classes: Sequence[str] | None,
    protocol: str,
) -> None:
    if format not in _FORMATS:
        raise ValueError(f"{name}: found format {format!r}, expected one of {_FORMATS} or None.")
    if protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"{name}: found protocol {protocol!r}, expected one of {known}.")
    if format == "coco" and annotations is None:
        raise ValueError(f"{name}: found no annotations, expected a COCO JSON, which lists images.")
    if format == "visdrone" and classes is None:
        raise ValueError(f"{name}: found no classes, expected their names for text annotations.")
    # A string is a sequence of strings too; YAML turns names like "no" and 7 into other types.
    names = [] if classes is None else list(classes)
    if isinstance(classes, str) or not all(isinstance(c, str) for c in names):
        raise ValueError(f"{name}: found classes {classes!r}, expected a list of quoted names.")
    if len(set(names)) < len(names):
        raise ValueError(f"{name}: found one class name twice in {names}.")


def _register(name: str, source: _Source, protocol: str) -> None:
    if name in DatasetCatalog:
        raise ValueError(f"A data set '{name}' is registered already, choose another name.")
    _SOURCES[name] = source
    DatasetCatalog.register(name, lambda: read_dataset(name)[0])
    # No json_file: Detectron2's evaluator then converts what was read here (clipped boxes,
    # ignore regions as crowds), and the quirks of the original file never reach pycocotools.
    MetadataCatalog.get(name).set(
        evaluator_type="coco",
        protocol=protocol,
        merged_classes=dict(source.merged),
        tiles_of=source.tiles_of,
    )
    if source.classes is not None:
        ids = {number: number - 1 for number in range(1, len(source.classes) + 1)}
        _describe(name, source.classes, ids)


def _describe(
    name: str, classes: Sequence[str], ids: Mapping[int, int], **files: str | None
) -> None:
    metadata = MetadataCatalog.get(name)
    entries = {
        "thing_classes": list(classes),
        "thing_dataset_id_to_contiguous_id": dict(ids),
        **files,
    }
    for key, value in entries.items():
        # Metadata refuses changes, yet a file or DETECTRON2_DATASETS may change between loads.
        if key not in metadata.as_dict() or metadata.get(key) != value:
            metadata.__dict__.pop(key, None)
            setattr(metadata, key, value)


def _locate_published(split: Split) -> tuple[str | None, Sequence[str]]:
    return locate_split(split, dataset_root())


def _locate_own(
    name: str, annotations: str | None, images: str, exists: Callable[[str], bool]
) -> tuple[str | None, Sequence[str]]:
    for kind, path, found in (
        ("annotations", annotations, annotations is None or exists(annotations)),
        ("images", images, os.path.isdir(images)),
    ):
        if not found:
            raise ValueError(f"Found no {kind} of '{name}' at {path}, where it was registered.")
    return annotations, [images]


def _aitod_origin(file_name: str) -> str | None:
    return "xView part of AI-TOD" if _XVIEW_TILE.fullmatch(file_name) else None


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
