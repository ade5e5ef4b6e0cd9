"""What a finished run of an ablation is measured by.

Detections are in pixels of the original image. Accuracy is in percent, undefined values are absent.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog

import efpnbs_d2.data  # noqa: F401 - registers the data sets

from ..atomic import write_atomically
from ..evaluation.columns import Detections, GroundTruth
from ..evaluation.dataset_truth import dataset_truth
from ..evaluation.evaluate import evaluate
from ..evaluation.files.results import read_results
from ..protocols import PROTOCOLS, find_protocol
from .curves import read_metrics

__all__ = ["SECONDS", "MEMORY", "is_smaller_better", "measure"]

SECONDS, MEMORY = "seconds_per_step", "peak_memory_mib"
_FILE = "measures.json"
_WARM_UP = 20  # iterations that a step's time is not taken from
_SIZES = PROTOCOLS["aitod"]
_OF_SIZES = ("AP AP50 AP75 APvt APt APs APm AR1500 ARvt ARt ARs ARm").split()


def measure(folder: Path) -> dict[str, float]:
    """Measure a finished run, or read what was measured: `measures.json` in its folder keeps it.

    "SET/official/METRIC" is the benchmark's own number. "SET/aitod/METRIC" is AI-TOD's, whatever
    the data set, for its size bins; "SET/any/METRIC" the same with all classes as one, as rare
    classes of a small data set are noise.

    Raises:
        ValueError: the detections or annotations cannot be read.
        OSError: a file cannot be read or written.
    """
    kept = folder / _FILE
    if kept.is_file():
        return json.loads(kept.read_text())
    found: dict[str, float] = {}
    for metrics in sorted(folder.glob("inference/*/metrics.json")):
        found |= _accuracy(metrics.parent)
    found |= _costs(folder)
    content = json.dumps(found, indent=1).encode()
    write_atomically(kept, lambda file: file.write(content))
    return found


def is_smaller_better(name: str) -> bool:
    """Whether a smaller value of a measure is better: costs, oLRP and miss rates."""
    return name in (SECONDS, MEMORY) or name.rpartition("/")[2].startswith(("oLRP", "MR"))


def _accuracy(folder: Path) -> dict[str, float]:
    """Of one data set: `folder` holds what its evaluator wrote, and has its name."""
    name, official = folder.name, json.loads((folder / "metrics.json").read_text())
    scale = 1 if official["unit"] == "percent" else 100
    table = {
        f"official/{key}": scale * value
        for key, value in official["metrics"].items()
        if value is not None and value >= 0
    }
    # The results on tiles are merged, and compared with the whole images.
    truth = dataset_truth(MetadataCatalog.get(name).get("tiles_of") or name, _SIZES)
    # TinyPerson's flagged boxes are no objects.
    truth = replace(truth, crowd=truth.crowd | truth.ignore | truth.uncertain)
    found = read_results(str(_results(folder, official["protocol"])), truth, _SIZES)
    table |= _by_size("aitod", truth, found) | _by_size("any", *_any_class(truth, found))
    return {f"{name}/{key}": value for key, value in table.items()}


def _results(folder: Path, protocol: str) -> Path:
    stem = f"{find_protocol(protocol).name}_results"
    texts = folder / stem
    return texts if texts.is_dir() else folder / f"{stem}.json"


def _by_size(prefix: str, truth: GroundTruth, found: Detections) -> dict[str, float]:
    evaluation = evaluate(_SIZES, truth, found, progress=False)
    values = {name: evaluation.percent(evaluation.metrics[name]) for name in _OF_SIZES}
    return {f"{prefix}/{name}": v for name, v in values.items() if not math.isnan(v)}


def _any_class(truth: GroundTruth, found: Detections) -> tuple[GroundTruth, Detections]:
    """All evaluated classes as one; a detection of any other class stays out."""
    known, one = np.array(sorted(truth.classes)), min(truth.classes)

    def merged(category: np.ndarray) -> np.ndarray:
        return np.where(np.isin(category, known), one, category)

    return (
        replace(truth, classes={one: "object"}, category=merged(truth.category)),
        replace(found, category=merged(found.category)),
    )


def _costs(folder: Path) -> dict[str, float]:
    steps = [entry for entry in read_metrics(folder / "metrics.json") if "time" in entry]
    steady = [entry for entry in steps if entry["iteration"] >= _WARM_UP] or steps
    finished: Mapping[str, float] = json.loads((folder / "finished.json").read_text())
    costs = {MEMORY: finished[MEMORY]}
    if steady:
        costs[SECONDS] = statistics.median(entry["time"] for entry in steady)
    return costs
