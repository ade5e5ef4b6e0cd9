"""The ground truth of a registered data set."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..protocols import Protocol
from .columns import GroundTruth
from .files.ground_truth import read_ground_truth

__all__ = ["dataset_truth"]


def dataset_truth(name: str, protocol: Protocol) -> GroundTruth:
    """The annotations that a data set was registered with, as the official code reads them.

    Of a data set that another package registered, that is the file in the metadata's ``json_file``,
    else its records.

    Args:
        name: of the data set.
        protocol: to evaluate with.

    Raises:
        ValueError: no data set of that name, or its annotations cannot be used.
        OSError: they cannot be read.
    """
    metadata = MetadataCatalog.get(name)
    records = DatasetCatalog.get(name)  # it also tells the metadata where the files are
    path = metadata.get("annotations") or metadata.get("json_file")
    if path is None:
        return _of_records(name, records)
    truth = read_ground_truth(
        path,
        protocol,
        images=metadata.get("image_root"),
        classes=None if path.lower().endswith(".json") else metadata.thing_classes,
        # What is broken was dropped, counted and reported for training already.
        strict=False,
    )
    return _merge_classes(truth, metadata.get("merged_classes") or {})


def _merge_classes(truth: GroundTruth, merged: Mapping[str, str]) -> GroundTruth:
    """Give all categories of one merged name the id of the first of them."""
    first: dict[str, int] = {}
    ids = {i: first.setdefault(merged.get(name, name), i) for i, name in truth.classes.items()}
    category = np.array([ids.get(c, c) for c in truth.category.tolist()], dtype=np.int64)
    return replace(truth, classes={i: name for name, i in first.items()}, category=category)


def _of_records(name: str, records: list[dict[str, Any]]) -> GroundTruth:
    metadata = MetadataCatalog.get(name)
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    id_of = {index: number for number, index in ids.items()}
    classes = {id_of.get(i, i): text for i, text in enumerate(metadata.get("thing_classes", []))}
    found = [(i, a) for i, r in enumerate(records) for a in r.get("annotations", ())]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYWH_ABS) for _, a in found]
    table = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    area = table[:, 2] * table[:, 3]
    none = np.zeros(len(table), dtype=bool)
    return GroundTruth(
        source=name,
        image_ids=tuple(r["image_id"] for r in records),
        image_names=tuple(r["file_name"] for r in records),
        image_sizes=np.array([(r["height"], r["width"]) for r in records], int).reshape(-1, 2),
        classes=dict(sorted(classes.items())),
        image=np.array([i for i, _ in found], dtype=np.int64),
        category=np.array(
            [id_of.get(a["category_id"], a["category_id"]) for _, a in found], dtype=np.int64
        ),
        boxes=table,
        area=area,
        side=np.sqrt(area),
        annotation_id=np.arange(1, len(table) + 1),
        crowd=np.array([bool(a.get("iscrowd")) for _, a in found], dtype=bool),
        ignore=none,
        uncertain=none,
    )
