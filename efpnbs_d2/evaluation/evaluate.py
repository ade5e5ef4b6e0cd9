"""All numbers of a benchmark: the official ones, and what a reader should know beside them.

Shapes: K classes (ascending category id), T IoU thresholds, A size ranges, L detection limits.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import numpy as np

from ..protocols import Metric, Protocol
from .accumulation import LRP_PARTS, Curves, compute_curves
from .columns import Detections, GroundTruth
from .lrp import class_average
from .miss_rate import miss_rates
from .official_rows import has_plain_id, official_rows, with_plain_ids
from .result import Evaluation

__all__ = ["evaluate"]

# Thresholds are written as decimals, and computed.
_SAME_THRESHOLD = 1e-6
_SAME_VALUE = 1e-12


def evaluate(
    protocol: Protocol, truth: GroundTruth, found: Detections, *, progress: bool = True
) -> Evaluation:
    """Measure detections as the benchmark's official code does.

    Args:
        protocol: what to measure.
        truth: all of the benchmark's annotations.
        found: none at all give AP 0.
        progress: show bars.

    Raises:
        ValueError: an image has ignored regions, but its size is unknown.
    """
    rows = official_rows(protocol, truth, found)
    curves = compute_curves(protocol, *rows, progress)
    weights = _images_with_class(rows[0])
    metrics = _table(protocol, curves, weights) | _miss_rates(protocol, *rows)
    unofficial: dict[str, float] = {}
    notes = list(_notes_on_counts(protocol, truth, found, rows[1]))
    if protocol.class_mean == "by images":
        plain = _table(protocol, curves, weights > 0)
        unofficial |= {f"{name} plain mean": value for name, value in plain.items()}
    for oddity, (name, corrected) in {
        _ODD_IDS: ("with ids from 1", _with_plain_ids(protocol, truth, found, curves, progress)),
        _WRAPPED_INDEX: ("without wrapped index", _without_wrap(protocol, *rows)),
    }.items():
        changed = {key: new for key, new in corrected.items() if _differs(new, metrics[key])}
        unofficial |= {f"{key} {name}": value for key, value in changed.items()}
        if changed:
            notes.append(f"{oddity} That changes {_first_few(list(changed))}; see '{name}'.")
    return Evaluation(
        protocol, metrics, _per_class(protocol, truth, curves), unofficial, tuple(notes)
    )


_ODD_IDS = (
    "The official code looks annotations up by id: a match with id 0 counts as none, and of "
    "annotations with one id the last stands for all."
)
_WRAPPED_INDEX = (
    "Where the best detection is a false positive and the images are few, the official code takes "
    "the recall of all detections for the recall at few false positives per image."
)


def _images_with_class(truth: GroundTruth) -> np.ndarray:
    """(K,) images that have an object of each class."""
    pairs = np.unique(np.stack((truth.category, truth.image)), axis=1)[0]
    return np.array([np.count_nonzero(pairs == category) for category in sorted(truth.classes)])


def _table(protocol: Protocol, curves: Curves, weights: np.ndarray) -> dict[str, float]:
    """The protocol's metrics, in its units; `weights` (K,) of the classes."""
    table = {}
    for metric in protocol.metrics:
        values = _class_values(protocol, metric, curves)
        if protocol.class_mean == "by images":
            with np.errstate(invalid="ignore"):
                table[metric.name] = float((weights * values).sum() / np.float64(weights.sum()))
        else:
            table[metric.name] = class_average(values.tolist())
    return table


def _class_values(protocol: Protocol, metric: Metric, curves: Curves) -> np.ndarray:
    """(K,) values of a metric in the protocol's units; -1 or NaN where it is undefined."""
    names = [size.name for size in protocol.size_ranges]
    place = (slice(None), names.index(metric.size), protocol.max_dets.index(metric.max_dets))
    if metric.kind in LRP_PARTS:
        assert curves.lrp is not None
        return _in_units(protocol, curves.lrp[LRP_PARTS.index(metric.kind)][place])
    by_threshold = curves.average_precision if metric.kind == "AP" else curves.recall
    if metric.iou is not None:
        same = np.abs(np.array(protocol.iou_thresholds) - metric.iou) < _SAME_THRESHOLD
        if not same.any():
            return np.full(by_threshold.shape[1], -1.0)
        by_threshold = by_threshold[same]
    return _in_units(protocol, by_threshold.mean(axis=0)[place])


def _in_units(protocol: Protocol, values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, 100 * values, values) if protocol.percent else values


def _per_class(
    protocol: Protocol, truth: GroundTruth, curves: Curves
) -> dict[str, dict[str, float]]:
    columns = {metric.name: _class_values(protocol, metric, curves) for metric in protocol.metrics}
    if curves.lrp is not None:
        columns[LRP_PARTS[-1]] = curves.lrp[-1, :, 0, -1]
    classes = sorted(truth.classes.items())
    # Two classes of one name must not become one.
    count = Counter(truth.classes.values())
    names = [name if count[name] == 1 else f"{name} ({category})" for category, name in classes]
    return {
        name: {metric: float(values[k]) for metric, values in columns.items()}
        for k, name in enumerate(names)
    }


def _miss_rates(
    protocol: Protocol, truth: GroundTruth, found: Detections, wrap: bool = True
) -> dict[str, float]:
    return miss_rates(protocol, truth, found, wrap=wrap) if protocol.miss_rate else {}


def _without_wrap(protocol: Protocol, truth: GroundTruth, found: Detections) -> dict[str, float]:
    """The miss rates without wrapped index; none where the images are too many for one."""
    if protocol.miss_rate is None or len(truth.image_ids) * min(protocol.miss_rate.fppi) >= 1:
        return {}
    return _miss_rates(protocol, truth, found, wrap=False)


def _with_plain_ids(
    protocol: Protocol, truth: GroundTruth, found: Detections, curves: Curves, progress: bool
) -> dict[str, float]:
    """The metrics with annotation ids that have no effect; none where that changes nothing."""
    plain = has_plain_id(protocol, truth)
    if plain.all():
        return {}
    affected = set(truth.category[~plain].tolist())
    truth, found = official_rows(protocol, with_plain_ids(truth), found)
    part = replace(truth, classes={c: n for c, n in truth.classes.items() if c in affected})
    new = compute_curves(protocol, part, found, progress)
    at = np.isin(sorted(truth.classes), sorted(part.classes))
    merged = {}
    for field in fields(Curves):
        old = getattr(curves, field.name)
        if old is not None:
            # In all of them the classes are third from the end.
            merged[field.name] = old.copy()
            merged[field.name][..., at, :, :] = getattr(new, field.name)
    curves = replace(curves, **merged)
    return _table(protocol, curves, _images_with_class(truth)) | _miss_rates(protocol, truth, found)


def _differs(new: float, old: float) -> bool:
    return not np.isclose(new, old, rtol=0, atol=_SAME_VALUE, equal_nan=True)


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _notes_on_counts(
    protocol: Protocol, truth: GroundTruth, found: Detections, official: Detections
) -> Iterator[str]:
    """Images and detections that are not there or have no effect."""
    if found.missing:
        yield (
            f"Images without results: {len(found.missing)} of {len(truth.image_ids)} "
            f"({_first_few(found.missing)}); their objects count as missed."
        )
    dropped = len(found.image) - len(official.image)
    if dropped:
        yield f"Detections dropped because they are in ignored regions: {dropped}."
    evaluated = np.isin(official.category, list(truth.classes))
    if not evaluated.all():
        yield f"Detections of classes that are not evaluated: {np.count_nonzero(~evaluated)}."
    limit = protocol.max_dets[-1]
    if protocol.limit == "image":
        of, counts = "the first {} rows of an image", np.bincount(official.image)
    else:
        of = "the best {} of a class and image"
        _, counts = np.unique(
            np.stack((official.image, official.category))[:, evaluated], axis=1, return_counts=True
        )
    beyond = int(np.maximum(counts - limit, 0).sum())
    if beyond:
        yield f"Detections without effect: {beyond}, as only {of.format(limit)} count."
