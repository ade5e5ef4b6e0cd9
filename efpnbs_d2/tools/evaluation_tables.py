"""The tables of an evaluation's page. Numbers are in percent.

A table is a header and rows, as `html_page.Page.table` takes them. Two runs are called A and B.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.analysis.analyse import Analysis
from ..evaluation.analysis.bootstrap import Comparison, Difference
from ..evaluation.analysis.error_types import ERROR_TYPES
from ..evaluation.columns import Detections, GroundTruth
from ..evaluation.result import Evaluation
from ..protocols import Protocol
from .evaluation_text import (
    describe,
    number,
    p_value,
    range_label,
    short_name,
    sign,
    signed,
    size_text,
)
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
    "range_table",
    "size_table",
    "unofficial_table",
]

Table = tuple[list[str], list[list[object]]]
ERROR_MEANINGS = {
    "class": "right place, wrong class",
    "localisation": "right class, box not exact enough",
    "both": "wrong class and box not exact enough",
    "duplicate": "the object is found already, by a better detection",
    "background": "there is no object",
    "missed": "nothing right, nor wrong in class or box only, is at the object",
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
    order = sorted(values, key=lambda name: name != protocol.headline)
    tested = {d.name: d for d in comparison.differences} if comparison else {}
    rows: list[list[object]] = []
    for name in order:
        numbers = [run.evaluation.percent(run.evaluation.metrics[name]) for run in runs]
        row: list[object] = [name, *map(number, numbers)]
        if len(runs) == 2:
            row += [signed(numbers[1] - numbers[0]), *_test_cells(protocol, tested.get(name))]
        rows.append([*row, describe(name, protocol)])
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
                number(run.evaluation.percent(run.evaluation.unofficial.get(name, math.nan)))
                for run in runs
            ),
        ]
        for name in names
    ]
    return ["not official", *_value_headers(runs)], rows


def class_table(runs: Sequence[Run], truth: GroundTruth) -> Table:
    """Every class's metrics, headline first, without what no class has; of two runs, the AP metrics
    over all sizes."""
    first = runs[0].evaluation
    protocol = first.protocol
    full = protocol.size_ranges[0].name
    # A threshold of oLRP, which is a score, is no percentage: only the protocol's metrics.
    names = [
        m.name
        for m in sorted(protocol.metrics, key=lambda m: m.name != protocol.headline)
        if len(runs) == 1 or m.name == protocol.headline or (m.kind == "AP" and m.size == full)
    ]
    names = [name for name in names if any(_defined(run.evaluation, name) for run in runs)]
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
            row += map(number, values)
            row += [signed(values[1] - values[0])] if len(runs) == 2 else []
        rows.append(row)
    return header, rows


def range_table(runs: Sequence[Run]) -> Table:
    """A row for each of the protocol's size ranges; no row if it has but one."""
    protocol = runs[0].evaluation.protocol
    if len(protocol.size_ranges) == 1:
        return ["size"], []
    full = protocol.size_ranges[0].name
    kinds = {(m.kind, m.iou, m.max_dets): short_name(m) for m in protocol.metrics if m.size != full}
    named = {(m.kind, m.iou, m.max_dets, m.size): m.name for m in protocol.metrics}
    header = ["size"]
    for kind in kinds.values():
        header += [f"{kind}{letter}" for letter in letters(runs)]
    rows: list[list[object]] = []
    for size in protocol.size_ranges:
        row: list[object] = [range_label(protocol, size.name)]
        for key in kinds:
            name = named.get((*key, size.name))
            for run in runs:
                value = run.evaluation.metrics[name] if name else math.nan
                row.append(number(run.evaluation.percent(value)))
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
            row: list[object] = [size_text(sizes.edges[b], sizes.edges[b + 1]), objects]
            for run in runs:
                bins = run.analysis.size_recall
                row += [
                    number(100 * bins.recall[b], 1),
                    number(100 * bins.recall_confident[b], 1),
                ]
            rows.append(row)
    return header, rows


def error_cost_table(runs: Sequence[Run]) -> Table:
    """What each kind of error is, how often it is made, and the AP that it costs."""
    header = ["error"]
    for letter in letters(runs):
        header += [f"costs AP{letter}", f"errors{letter}", f"confident{letter}"]
    rows: list[list[object]] = []
    for e, kind in enumerate(ERROR_TYPES):
        row: list[object] = [kind]
        for run in runs:
            costs = run.analysis.error_costs
            row += [number(100 * costs.cost[e]), int(costs.count[:, e].sum())]
            row += [int(costs.count_confident[:, e].sum())]
        rows.append([*row, ERROR_MEANINGS[kind]])
    for kind, meaning, attribute in (
        ("all false positives", "every detection that is not right", "false_positive_cost"),
        ("all missed objects", "every object without a right detection", "false_negative_cost"),
    ):
        row = [kind]
        for run in runs:
            row += [number(100 * getattr(run.analysis.error_costs, attribute)), None, None]
        rows.append([*row, meaning])
    return [*header, "what it is"], rows


def class_cost_table(run: Run) -> Table:
    """What each kind of error costs each class."""
    costs = run.analysis.error_costs
    rows: list[list[object]] = [
        [label, number(100 * float(ap), 1), *(number(100 * cost, 1) for cost in row)]
        for label, ap, row in zip(
            run.evaluation.per_class,
            costs.ap_per_class,
            costs.cost_per_class.tolist(),
            strict=True,
        )
    ]
    return ["class", f"AP{100 * costs.iou:.0f}", *ERROR_TYPES], rows


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
            row.append(number(float(best.threshold[k]), 3))
            row += [
                number(100 * float(part[k]) if defined else math.nan, 1)
                for part in (best.precision, best.recall, best.f1)
            ]
        rows.append(row)
    return header, rows


def image_table(runs: Sequence[Run], truth: GroundTruth, most: int) -> Table:
    """The images that two runs differ most on, `most` for each run: first where B errs less."""
    first, second = (run.analysis.image_errors for run in runs)
    errors = [e.missed + e.false_positives for e in (first, second)]
    change = errors[1] - errors[0]
    order = np.argsort(change, kind="stable")
    chosen = [*order[:most], *order[-most:]]
    header = ["image", "objects"]
    for letter in letters(runs):
        header += [f"missed{letter}", f"false positives{letter}"]
    rows: list[list[object]] = [
        [
            truth.image_names[i], int(first.objects[i]),
            int(first.missed[i]), int(first.false_positives[i]),
            int(second.missed[i]), int(second.false_positives[i]), signed(int(change[i]), 0),
        ]
        for i in dict.fromkeys(int(i) for i in chosen)
        if change[i]
    ]  # fmt: skip
    return [*header, "errors, B − A"], rows


def _defined(evaluation: Evaluation, name: str) -> bool:
    return any(not math.isnan(evaluation.percent(v[name])) for v in evaluation.per_class.values())


def _value_headers(runs: Sequence[Run]) -> list[str]:
    return [f"%{letter}" for letter in letters(runs)]


def _test_cells(protocol: Protocol, difference: Difference | None) -> list[object]:
    if difference is None or math.isnan(difference.p_value):
        return [None, None]
    scale = 1 if protocol.percent else 100
    interval = f"{sign(scale * difference.low)} to {sign(scale * difference.high)}"
    return [Number(interval), Number(p_value(difference.p_value).removeprefix("= "))]
