"""Made-up objects and detections of aerial images: crowded, tiny, most of them of few classes.

Boxes are xywh in pixels of images of 800 x 800 px.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from efpnbs_d2.evaluation.columns import Detections, GroundTruth

__all__ = ["Sizes", "coco_truth", "write_coco", "write_visdrone"]

_SIDE = 800
# Per image: objects stand in groups.
_GROUPS, _GROUP_RADIUS = 4, 60.0
# Median and spread (of the logarithm) of an object's side.
_MEDIAN_SIDE, _SIDE_SPREAD = 11.0, 0.5
# Share of the detections that lie on an object, and how far off they are, in its sides.
_NEAR, _OFFSET = 0.45, 0.18
_ROWS = 100_000


@dataclass(frozen=True)
class Sizes:
    """How many of what. As in AI-TOD, few images hold most objects, and one class most of them.

    Attributes:
        images: all of the same size.
        objects: their annotations.
        detections: about half of them at objects, the others near them.
        classes: category ids 1, 2, ...
        regions: ignored regions (VisDrone).
        even: all images hold equally many objects.
    """

    images: int
    objects: int
    detections: int
    classes: int
    regions: int = 0
    even: bool = False

    def __truediv__(self, scale: int) -> "Sizes":
        numbers = (self.images, self.objects, self.detections, self.regions)
        images, objects, detections, regions = (-(-number // scale) for number in numbers)
        return replace(self, images=images, objects=objects, detections=detections, regions=regions)

    def columns(self) -> tuple[GroundTruth, Detections]:
        """The same boxes each time, without the regions; an image's best detections first."""
        rng = np.random.default_rng(0)
        shares = 0.3 ** np.arange(self.classes)
        share_of_image = None if self.even else rng.dirichlet(np.full(self.images, 0.5))
        image = np.arange(self.objects) % self.images
        if share_of_image is not None:
            image = rng.choice(self.images, self.objects, p=share_of_image)
        image.sort()
        category = 1 + rng.choice(self.classes, self.objects, p=shares / shares.sum())
        centres = rng.uniform(0, _SIDE, (self.images, _GROUPS, 2))
        centre = centres[image, rng.integers(_GROUPS, size=self.objects)]
        corner = np.clip(rng.normal(centre, _GROUP_RADIUS), 0, _SIDE - _MEDIAN_SIDE)
        boxes = np.hstack([corner, _sides(rng, self.objects)]).round(2)
        truth = _ground_truth(self, image, category, boxes)
        return truth, _detections(self, truth, rng)


def _sides(rng: np.random.Generator, count: int) -> np.ndarray:
    side = np.clip(rng.lognormal(np.log(_MEDIAN_SIDE), _SIDE_SPREAD, (count, 1)), 3, 64)
    return side * rng.uniform(0.8, 1.25, (count, 2))


def _ground_truth(
    sizes: Sizes, image: np.ndarray, category: np.ndarray, boxes: np.ndarray
) -> GroundTruth:
    none = np.zeros(len(image), dtype=bool)
    area = boxes[:, 2] * boxes[:, 3]
    return GroundTruth(
        source="made up",
        image_ids=tuple(range(sizes.images)),
        image_names=tuple(f"{number:07d}" for number in range(sizes.images)),
        image_sizes=np.full((sizes.images, 2), _SIDE),
        classes={number: f"class {number}" for number in range(1, sizes.classes + 1)},
        image=image,
        category=category,
        boxes=boxes,
        area=area,
        side=np.sqrt(area),
        annotation_id=np.arange(1, len(image) + 1),
        crowd=none,
        ignore=none,
        uncertain=none,
    )


def _detections(sizes: Sizes, truth: GroundTruth, rng: np.random.Generator) -> Detections:
    source = rng.integers(sizes.objects, size=sizes.detections)
    near = np.arange(sizes.detections) < _NEAR * sizes.detections
    objects, sides = truth.boxes[source], truth.boxes[source, 2:]
    offset = np.where(near[:, None], _OFFSET * sides, _GROUP_RADIUS)
    corner = rng.normal(objects[:, :2], offset)
    own = np.where(
        near[:, None], sides * rng.lognormal(0, 0.2, sides.shape), _sides(rng, len(near))
    )
    scores = np.where(near, rng.beta(1.2, 4, len(near)), rng.beta(0.6, 12, len(near)))
    order = np.lexsort((-scores, truth.image[source]))
    # Detectors compute in single precision, which decides how long the numbers of a file are.
    boxes = np.hstack([corner, own])[order].astype(np.float32).astype(np.float64)
    return Detections(
        source="made up",
        image=truth.image[source][order],
        category=truth.category[source][order],
        boxes=boxes,
        scores=scores[order].astype(np.float32).astype(np.float64),
        missing=(),
    )


def coco_truth(truth: GroundTruth) -> dict[str, Any]:
    """A ground truth as the contents of a COCO JSON."""
    columns = (truth.annotation_id, truth.image, truth.category, truth.boxes, truth.area)
    names = zip(truth.image_ids, truth.image_names, strict=True)
    return {
        "images": [
            {"id": number, "file_name": f"{name}.png", "height": _SIDE, "width": _SIDE}
            for number, name in names
        ],
        "categories": [{"id": number, "name": name} for number, name in truth.classes.items()],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box}
            | {"area": area, "iscrowd": 0}
            for number, image, category, box, area in zip(
                *(column.tolist() for column in columns), strict=True
            )
        ],
    }


def write_coco(sizes: Sizes, folder: Path) -> tuple[str, str]:
    """Write annotations and results in COCO's format.

    Returns:
        The two files.
    """
    folder.mkdir()
    truth, found = sizes.columns()
    truth_file, results_file = folder / "truth.json", folder / "results.json"
    truth_file.write_text(json.dumps(coco_truth(truth)))
    with results_file.open("w") as file:
        columns = (found.image, found.category, found.boxes, found.scores)
        for separator, rows in _batches("[", ", ", columns):
            records = (
                f'{{"image_id": {image}, "category_id": {category}, "bbox": {box}, '
                f'"score": {score}}}'
                for image, category, box, score in rows
            )
            file.write(separator + ", ".join(records))
        file.write("]")
    return str(truth_file), str(results_file)


def _batches(
    first: str, other: str, columns: tuple[np.ndarray, ...]
) -> Iterator[tuple[str, Iterator[tuple[Any, ...]]]]:
    """Rows of columns, some at a time, as Python values; and what to write before them."""
    for start in range(0, len(columns[0]), _ROWS):
        parts = (column[start : start + _ROWS].tolist() for column in columns)
        yield other if start else first, zip(*parts, strict=True)


def write_visdrone(sizes: Sizes, folder: Path) -> tuple[str, str, str]:
    """Write annotations and results in VisDrone's format, boxes in whole pixels.

    Returns:
        The two folders, and the JSON of the image sizes.
    """
    truth, found = sizes.columns()
    rng = np.random.default_rng(1)
    regions = rng.integers((0, 0, 20, 20), (_SIDE - 120, _SIDE - 120, 120, 120), (sizes.regions, 4))
    lines: dict[str, list[list[str]]] = {
        kind: [[] for _ in range(sizes.images)] for kind in ("annotations", "results")
    }
    for kind, rows in (("annotations", truth), ("results", found)):
        boxes = rows.boxes.round(2).astype(int).tolist()
        scores = rows.scores.tolist() if isinstance(rows, Detections) else [1] * len(boxes)
        columns = (rows.image.tolist(), boxes, scores, rows.category.tolist())
        for image, (x, y, w, h), score, category in zip(*columns, strict=True):
            lines[kind][image].append(f"{x},{y},{w},{h},{score},{category},0,0\n")
    for image, (x, y, w, h) in zip(
        rng.integers(sizes.images, size=sizes.regions).tolist(), regions.tolist(), strict=True
    ):
        lines["annotations"][image].append(f"{x},{y},{w},{h},0,0,0,0\n")
    for kind, texts in lines.items():
        (folder / kind).mkdir(parents=True)
        for name, text in zip(truth.image_names, texts, strict=True):
            (folder / kind / f"{name}.txt").write_text("".join(text))
    sizes_file = folder / "image_sizes.json"
    sizes_file.write_text(json.dumps({name: [_SIDE, _SIDE] for name in truth.image_names}))
    return str(folder / "annotations"), str(folder / "results"), str(sizes_file)
