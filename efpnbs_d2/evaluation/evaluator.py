"""The evaluator of a data set by its benchmark's protocol, for ``inference_on_dataset``.

Shapes: D detections of an image. Boxes are in pixels of the original image (of the tile, for a data
set of tiles).
"""

import json
import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BoxMode
from detectron2.utils import comm

from ..atomic import write_atomically
from ..protocols import Protocol, find_protocol
from .columns import Detections, GroundTruth
from .dataset_truth import dataset_truth
from .evaluate import evaluate
from .files.server_files import write_server_files
from .result import Evaluation
from .tile_merge import Tiles, merge_tiles, read_tiles

__all__ = ["ProtocolEvaluator"]

logger = logging.getLogger(__name__)


class ProtocolEvaluator(COCOEvaluator):
    """`COCOEvaluator` by the official protocol of a benchmark, against its original annotations.

    `evaluate` returns ``{"bbox": {metric: value}}`` in percent, NaN where undefined. VisDrone's
    AP_all, AP_50 and AR_1 are AP, AP50 and AR1 here, as Detectron2 calls such numbers; the
    headline of class c is ``AP-c``.

    A data set of tiles is scored on the whole images: what was found on the tiles is merged first,
    as TinyPerson's authors do.

    Writes to the output folder: ``metrics.json`` (official names and units), the file or files that
    the benchmark's server takes, and Detectron2's ``instances_predictions.pth``.
    """

    def __init__(
        self,
        dataset_name: str,
        protocol: str | Protocol | None = None,
        *,
        distributed: bool = True,
        output_dir: str | None = None,
    ) -> None:
        """
        Args:
            dataset_name: of a registered data set.
            protocol: or its name; None takes the data set's own, and COCO's if it names none.
            distributed: gather the results of all processes in the first one.
            output_dir: None writes nothing.

        Raises:
            ValueError: there is no such protocol.
        """
        # Not the parent's constructor: it would convert the records, whose boxes are clipped, in
        # every process. The annotations are read when they are needed, where they are needed.
        self._metadata = MetadataCatalog.get(dataset_name)
        if protocol is None:
            protocol = self._metadata.get("protocol", "coco")
        self.protocol = find_protocol(protocol) if isinstance(protocol, str) else protocol
        self._logger = logger
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        if comm.is_main_process() or not distributed:
            whole = self._metadata.get("tiles_of")
            self._truth = dataset_truth(whole or dataset_name, self.protocol)
            self._tiles = _tiles(dataset_name, self._truth) if whole else None

    @property
    def metric_names(self) -> list[str]:
        """Of the benchmark's table, as `evaluate` calls them."""
        return [_detectron2_name(metric.name) for metric in self.protocol.metrics]

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the ``instances`` of each output.

        Args:
            inputs: records with ``image_id`` and ``file_name``.
            outputs: the model's, with boxes in pixels of the record's image.
        """
        for record, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to(self._cpu_device)
            boxes = found.pred_boxes.tensor.numpy().astype(np.float64)
            self._predictions.append(
                {
                    "image_id": record["image_id"],
                    "file_name": record["file_name"],
                    "boxes": BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS),
                    "scores": found.scores.numpy().astype(np.float64),
                    "classes": found.pred_classes.numpy(),
                    # The key by which the parent knows what was predicted.
                    "instances": len(found),
                }
            )

    def _eval_predictions(
        self, predictions: list[dict[str, Any]], img_ids: Sequence[int] | None = None
    ) -> None:
        truth = self._truth
        if img_ids is not None:
            chosen = set(img_ids)
            predictions = [p for p in predictions if p["image_id"] in chosen]
        if self._tiles is None:
            if img_ids is not None:
                kept = {_key(p, truth.image_ids) for p in predictions}
                truth = truth.of_images([n for n, i in enumerate(truth.image_ids) if i in kept])
            found = self._detections(predictions, truth.image_ids, truth.image_names)
        else:
            if img_ids is not None:
                raise ValueError("some tiles alone cannot be scored on whole images")
            tiles = self._tiles
            on_tiles = self._detections(predictions, tuple(tiles.ids.tolist()), tiles.names)
            found = merge_tiles(self.protocol, tiles, truth, on_tiles)
        if self._output_dir:
            write_server_files(Path(self._output_dir), truth, found, self.protocol)
        if not self._metadata.get("annotations", True):
            logger.info("The data set has no annotations: its results are written, not scored.")
            return
        evaluation = evaluate(self.protocol, truth, found, progress=sys.stderr.isatty())
        logger.info(evaluation.table())
        if self._output_dir:
            content = json.dumps(evaluation.as_json(), indent=1).encode()
            write_atomically(Path(self._output_dir, "metrics.json"), lambda f: f.write(content))
        self._results["bbox"] = _detectron2_results(evaluation)

    def _detections(
        self,
        predictions: list[dict[str, Any]],
        image_ids: tuple[int | str, ...],
        image_names: tuple[str, ...],
    ) -> Detections:
        position = {key: index for index, key in enumerate(image_ids)}
        images = [position[_key(p, image_ids)] for p in predictions]
        counts = [len(p["scores"]) for p in predictions]
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id") or {}
        ids = {index: number for number, index in mapping.items()}
        classes = np.concatenate([p["classes"] for p in predictions])
        absent = sorted(set(position.values()) - set(images))
        return Detections(
            source="predictions",
            image=np.repeat(images, counts),
            category=np.array([ids.get(c, c) for c in classes.tolist()], dtype=np.int64),
            boxes=np.concatenate([p["boxes"] for p in predictions]),
            scores=np.concatenate([p["scores"] for p in predictions]),
            missing=tuple(image_names[index] for index in absent),
        )


def _tiles(name: str, truth: GroundTruth) -> Tiles:
    DatasetCatalog.get(name)  # it tells the metadata where the file is
    return read_tiles(MetadataCatalog.get(name).annotations, truth)


def _key(prediction: dict[str, Any], image_ids: tuple[int | str, ...]) -> int | str:
    """The id of a record's image: VisDrone's text files know its stem alone."""
    by_stem = isinstance(image_ids[0], str)
    return Path(prediction["file_name"]).stem if by_stem else prediction["image_id"]


def _detectron2_name(name: str) -> str:
    """VisDrone's AP_all, AP_50 and AR_1 as AP, AP50 and AR1; other names stay."""
    return re.sub(r"^(A[PR])_(?:all|(\d+))$", r"\1\2", name)


def _detectron2_results(evaluation: Evaluation) -> OrderedDict[str, float]:
    results = OrderedDict(
        (_detectron2_name(name), evaluation.percent(value))
        for name, value in evaluation.metrics.items()
    )
    for label, values in evaluation.per_class.items():
        results[f"AP-{label}"] = evaluation.percent(values[evaluation.protocol.headline])
    return results
