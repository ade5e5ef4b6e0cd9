"""The tables of an evaluation's page, and its comparison in words. Numbers are in percent.

A table is a header and rows, as `html_page.Page.table` takes them. Two runs are called A and B.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.analysis import Analysis
from ..evaluation.bootstrap import Comparison, Difference
from ..evaluation.columns import Detections, GroundTruth
from ..evaluation.error_types import ERROR_TYPES
from ..evaluation.result import Evaluation
from ..protocols import Metric, Protocol
from .html_page import Number

__all__ = [
    "ERROR_MEANINGS",
    "Run",
    "Table",
    "class_cost_table",
    "class_table",
    "error_cost_table",
    "f1_table",
    "image_table",
    "letters",
    "official_table",
    "range_label",
    "range_table",
    "size_table",
    "unofficial_table",
    "verdict",
]

Table = tuple[list[str], list[list[object]]]
_SIGNIFICANT = 0.05
_UNBOUNDED = 1e9  # areas from here on are no limit
ERROR_MEANINGS = {
    "class": "right place, wrong class",
    "localisation": "right class, box not exact enough",
    "both": "wrong class and box not exact enough",
    "duplicate": "the object is found already, by a better detection",
    "background": "there is no object",
    "missed": "no detection of any kind is near the object",
}


@dataclass(frozen=True)
class Run:
    """One detector's results, measured.

    Attributes:
        name: for people; the runs of a page have different ones.
        found: the detections.
        evaluation: of `found`.
        analysis: of `found`.
    """

    name: str
    found: Detections
    evaluation: Evaluation
    analysis: Analysis


def letters(runs: Sequence[Run]) -> list[str]:
    """What is added to a column's name, for each run: " A" and " B", or nothing for one run."""
    return [""] if len(runs) == 1 else [" A", " B"]


def official_table(runs: Sequence[Run], comparison: Comparison | None) -> Table:
    """The protocol's table, headline first; of two runs with their difference."""
    protocol, values = runs[0].evaluation.protocol, runs[0].evaluation.metrics
    known = {metric.name: metric for metric in protocol.metrics}
    order = sorted(values, key=lambda name: name != protocol.headline)
    tested = {d.name: d for d in comparison.differences} if comparison else {}
    rows: list[list[object]] = []
    for name in order:
        numbers = [run.evaluation.percent(run.evaluation.metrics[name]) for run in runs]
        row = [name, *map(_number, numbers)]
        if len(runs) == 2:
            row += [_signed(numbers[1] - numbers[0]), *_test_cells(protocol, tested.get(name))]
        meaning = describe(known[name], protocol) if name in known else _miss_rate_meaning()
        rows.append([*row, meaning])
    header = ["metric", *_value_headers(runs)]
    if len(runs) == 2:
        header += ["B − A", "95% interval", "p"]
    return [*header, "what it is"], rows


def unofficial_table(runs: Sequence[Run]) -> Table:
    """Numbers beside the official ones; no row if there are none."""
    names = dict.fromkeys(name for run in runs for name in run.evaluation.unofficial)
    rows: list[list[object]] = [
        [
            name,
            *(
                _number(run.evaluation.percent(run.evaluation.unofficial.get(name, math.nan)))
                for run in runs
            ),
        ]
        for name in names
    ]
    return ["not official", *_value_headers(runs)], rows


def class_table(runs: Sequence[Run], truth: GroundTruth) -> Table:
    """Every class's metrics; of two runs, the AP metrics over all sizes."""
    first = runs[0].evaluation
    names = list(next(iter(first.per_class.values()), {}))
    if len(runs) == 2:
        full = first.protocol.size_ranges[0].name
        over_all = {m.name for m in first.protocol.metrics if m.kind == "AP" and m.size == full}
        names = [name for name in names if name in {*over_all, first.protocol.headline}]
    ordinary = ~(truth.crowd | truth.ignore | truth.uncertain)
    header = ["class", "annotated"]
    for name in names:
        header += [f"{name}{letter}" for letter in letters(runs)]
        header += ["B − A"] if len(runs) == 2 else []
    rows: list[list[object]] = []
    for category, label in zip(sorted(truth.classes), first.per_class, strict=True):
        row: list[object] = [label, int((ordinary & (truth.category == category)).sum())]
        for name in names:
            values = [run.evaluation.percent(run.evaluation.per_class[label][name]) for run in runs]
            row += map(_number, values)
            row += [_signed(values[1] - values[0])] if len(runs) == 2 else []
        rows.append(row)
    return header, rows


def range_table(runs: Sequence[Run]) -> Table:
    """A row for each of the protocol's size ranges; no row if it has but one."""
    protocol = runs[0].evaluation.protocol
    if len(protocol.size_ranges) == 1:
        return ["size"], []
    kinds = dict.fromkeys(
        (m.kind, m.iou, m.max_dets)
        for m in protocol.metrics
        if m.size != protocol.size_ranges[0].name
    )
    named = {(m.kind, m.iou, m.max_dets, m.size): m.name for m in protocol.metrics}
    header = ["size"]
    for kind, iou, _ in kinds:
        header += [f"{kind}{_iou_suffix(iou)}{letter}" for letter in letters(runs)]
    rows: list[list[object]] = []
    for size in protocol.size_ranges:
        row: list[object] = [range_label(protocol, size.name)]
        for key in kinds:
            name = named.get((*key, size.name))
            for run in runs:
                value = run.evaluation.metrics[name] if name else math.nan
                row.append(_number(run.evaluation.percent(value)))
        rows.append(row)
    return header, rows


def size_table(runs: Sequence[Run]) -> Table:
    """Recall of every bin of size that has objects."""
    header = ["size", "objects"]
    for letter in letters(runs):
        header += [f"found{letter}", f"confident{letter}"]
    sizes = runs[0].analysis.size_recall
    rows: list[list[object]] = []
    for b, objects in enumerate(sizes.objects.tolist()):
        if objects:
            row: list[object] = [_interval(sizes.edges[b], sizes.edges[b + 1]), objects]
            for run in runs:
                bins = run.analysis.size_recall
                row += [
                    _number(100 * bins.recall[b], 1),
                    _number(100 * bins.recall_confident[b], 1),
                ]
            rows.append(row)
    return header, rows


def error_cost_table(runs: Sequence[Run]) -> Table:
    """What each kind of error is, how often it is made, and the AP that it costs."""
    header = ["error", "what it is"]
    for letter in letters(runs):
        header += [f"costs AP{letter}", f"errors{letter}", f"confident{letter}"]
    rows: list[list[object]] = []
    for e, kind in enumerate(ERROR_TYPES):
        row: list[object] = [kind, ERROR_MEANINGS[kind]]
        for run in runs:
            costs = run.analysis.error_costs
            row += [_number(100 * costs.cost[e]), int(costs.count[:, e].sum())]
            row += [int(costs.count_confident[:, e].sum())]
        rows.append(row)
    for kind, meaning, attribute in (
        ("all false positives", "every detection that is not right", "false_positive_cost"),
        ("all missed objects", "every object without a right detection", "false_negative_cost"),
    ):
        row = [kind, meaning]
        for run in runs:
            row += [_number(100 * getattr(run.analysis.error_costs, attribute)), None, None]
        rows.append(row)
    return header, rows


def class_cost_table(run: Run) -> Table:
    """What each kind of error costs each class."""
    costs = run.analysis.error_costs
    rows: list[list[object]] = [
        [label, _number(100 * float(ap), 1), *(_number(100 * cost, 1) for cost in row)]
        for label, ap, row in zip(
            run.evaluation.per_class,
            costs.ap_per_class,
            costs.cost_per_class.tolist(),
            strict=True,
        )
    ]
    return ["class", f"AP{_iou_suffix(costs.iou)}", *ERROR_TYPES], rows


def f1_table(runs: Sequence[Run]) -> Table:
    """The best score threshold of every class, and what it yields."""
    header = ["class"]
    for letter in letters(runs):
        header += [f"{name}{letter}" for name in ("threshold", "precision", "recall", "F1")]
    rows: list[list[object]] = []
    for k, label in enumerate(runs[0].evaluation.per_class):
        row: list[object] = [label]
        for run in runs:
            best = run.analysis.best_f1
            defined = not math.isnan(best.threshold[k])
            row.append(_number(float(best.threshold[k]), 3))
            row += [
                _number(100 * float(part[k]) if defined else math.nan, 1)
                for part in (best.precision, best.recall, best.f1)
            ]
        rows.append(row)
    return header, rows


def image_table(runs: Sequence[Run], truth: GroundTruth, number: int) -> Table:
    """The images that two runs differ most on: where each makes fewer errors."""
    first, second = (run.analysis.image_errors for run in runs)
    errors = [e.missed + e.false_positives for e in (first, second)]
    change = errors[1] - errors[0]
    order = np.argsort(change, kind="stable")
    chosen = [*order[:number], *order[::-1][:number][::-1]]
    header = ["image", "objects"]
    for letter in letters(runs):
        header += [f"missed{letter}", f"false positives{letter}"]
    rows: list[list[object]] = [
        [
            truth.image_names[i], int(first.objects[i]),
            int(first.missed[i]), int(first.false_positives[i]),
            int(second.missed[i]), int(second.false_positives[i]), _signed(int(change[i]), 0),
        ]
        for i in dict.fromkeys(int(i) for i in chosen)
        if change[i]
    ]  # fmt: skip
    return [*header, "errors, B − A"], rows


def verdict(protocol: Protocol, comparison: Comparison) -> str:
    """The headline's difference in a sentence."""
    headline = comparison.differences[0]
    scale = 1 if protocol.percent else 100
    points = scale * headline.difference
    if math.isnan(points) or math.isnan(headline.p_value):
        return f"{headline.name} of the two cannot be compared: it is not defined for both."
    low, high = scale * headline.low, scale * headline.high
    direction = "higher" if points >= 0 else "lower"
    start = (
        f"{headline.name} of B is {abs(points):.2f} points {direction} than that of A "
        f"(95% interval of the difference {_sign(low)} to {_sign(high)}, "
        f"p {_p_value(headline.p_value)})"
    )
    if headline.p_value < _SIGNIFICANT:
        return f"{start}: the difference is significant."
    return f"{start}: the difference is not significant; other images could turn it round."


def describe(metric: Metric, protocol: Protocol) -> str:
    """What a metric of the protocol is, for people."""
    kinds = {
        "AP": "average precision",
        "AR": "average recall",
        "oLRP": "optimal LRP error, lower is better",
        "oLRP_Loc": "its part of inexact boxes, lower is better",
        "oLRP_FP": "its part of false positives, lower is better",
        "oLRP_FN": "its part of missed objects, lower is better",
    }
    thresholds = protocol.iou_thresholds
    if metric.kind.startswith("oLRP"):
        iou = f"IoU {thresholds[0]:g}"
    elif metric.iou is None:
        iou = f"mean over IoU {thresholds[0]:g} to {thresholds[-1]:g}"
    elif not any(math.isclose(metric.iou, t, abs_tol=1e-6) for t in thresholds):
        return f"undefined: IoU {metric.iou:g} is none of the official thresholds"
    else:
        iou = f"IoU {metric.iou:g}"
    limit = (
        f"the best {metric.max_dets:,} detections of a class in an image"
        if protocol.limit == "class"
        else f"the first {metric.max_dets:,} detections of an image"
    )
    return f"{kinds[metric.kind]}; {iou}; {range_label(protocol, metric.size)}; {limit}"


def range_label(protocol: Protocol, name: str) -> str:
    """A size range by its name and the sides of a square of its limits."""
    size = next(size for size in protocol.size_ranges if size.name == name)
    if size.low <= 1 and size.high >= _UNBOUNDED:
        return "all sizes"
    return f"{name}, {_interval(math.sqrt(size.low), math.sqrt(size.high))}"


def _interval(low: float, high: float) -> str:
    if high >= math.sqrt(_UNBOUNDED):
        return f"{low:g} px and more"
    return f"{low:g}–{high:g} px"


def _iou_suffix(iou: float | None) -> str:
    return "" if iou is None else f"{100 * iou:.0f}"


def _miss_rate_meaning() -> str:
    return "log-average miss rate, lower is better"


def _value_headers(runs: Sequence[Run]) -> list[str]:
    return [f"%{letter}" for letter in letters(runs)]


def _number(value: float, digits: int = 2) -> Number:
    return Number("–" if math.isnan(value) else f"{value:,.{digits}f}")


def _signed(value: float, digits: int = 2) -> Number:
    return Number("–" if math.isnan(value) else _sign(value, digits))


def _sign(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _test_cells(protocol: Protocol, difference: Difference | None) -> Iterator[object]:
    if difference is None or math.isnan(difference.p_value):
        yield from (None, None)
        return
    scale = 1 if protocol.percent else 100
    yield Number(f"{_sign(scale * difference.low)} to {_sign(scale * difference.high)}")
    yield Number(_p_value(difference.p_value).removeprefix("= "))


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
