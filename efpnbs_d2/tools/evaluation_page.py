"""One page of an evaluation: what a detector reaches, and how it fails; or two detectors compared.

Every section says in a sentence how to read it. Numbers are in percent.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..evaluation.analysis.bootstrap import Comparison
from ..evaluation.analysis.error_types import ERROR_TYPES
from ..evaluation.columns import GroundTruth
from ..protocols import Protocol
from . import evaluation_charts as charts
from . import evaluation_tables as tables
from .charts import BARS, COLORS, bars, bars_height
from .evaluation_tables import Run
from .evaluation_text import number, range_label, short_name, verdict
from .html_page import Page
from .worst_images import add_worst_images

__all__ = ["Run", "write_page"]

_DIFFERENT = 5  # images listed where one run beats the other
_MISSING = 200  # names listed


def write_page(
    target: Path,
    runs: Sequence[Run],
    truth: GroundTruth,
    *,
    images: Path | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write one page of one run, or of two side by side.

    Args:
        target: HTML file; missing folders are made.
        runs: one or two, of the same protocol; their names differ.
        truth: what they were compared with.
        images: folder of the images; without it the worst images are drawn on grey.
        comparison: of the two runs.

    Raises:
        OSError: the page cannot be written.
    """
    assert len(runs) in (1, 2)
    page = Page(f"{runs[0].evaluation.protocol.title}: {' and '.join(run.name for run in runs)}")
    _add_summary(page, runs, truth, comparison)
    if len(truth.classes) > 1:
        _add_classes(page, runs, truth)
    _add_curves(page, runs)
    _add_sizes(page, runs)
    _add_calibration(page, runs)
    _add_error_costs(page, runs)
    _add_thresholds(page, runs)
    _add_images(page, runs, truth, images)
    page.write(target)


def _section(page: Page, runs: Sequence[Run], title: str, how_to_read: str) -> None:
    page.heading(title)
    page.paragraph(how_to_read)
    if len(runs) == 2:
        page.legend(
            [
                (f"{letter.strip()}: {run.name}", _bgr(color))
                for letter, run, color in zip(tables.letters(runs), runs, COLORS)
            ]
        )


def _add_summary(
    page: Page, runs: Sequence[Run], truth: GroundTruth, comparison: Comparison | None
) -> None:
    protocol = runs[0].evaluation.protocol
    facts: list[tuple[str, object]] = []
    for letter, run in zip(tables.letters(runs), runs, strict=True):
        value = run.evaluation.percent(run.evaluation.metrics[protocol.headline])
        shown = "–" if math.isnan(value) else f"{value:.2f}"
        facts.append((f"{protocol.headline}{letter}, %", shown))
    facts.append(("images", len(truth.image_ids)))
    facts.append(("objects", int(runs[0].analysis.image_errors.objects.sum())))
    for letter, run in zip(tables.letters(runs), runs, strict=True):
        facts.append((f"detections{letter}", len(run.found.scores)))
    page.facts(facts)
    for letter, run in zip(tables.letters(runs), runs, strict=True):
        for note in run.evaluation.notes:
            page.verdict("warning", f"{letter.strip()}: {note}" if letter else note)
        if run.found.missing:
            more = len(run.found.missing) - _MISSING
            page.details(
                f"Images without results{letter}",
                [*run.found.missing[:_MISSING], *([f"and {more:,} more"] if more > 0 else [])],
            )
    _section(
        page,
        runs,
        "Official numbers",
        f"What papers compare is {protocol.headline}, in the first row; more is better unless the "
        "last column says otherwise, and a dash means that the protocol leaves it undefined.",
    )
    if comparison:
        page.verdict("note", verdict(protocol, comparison))
        page.paragraph(
            f"The interval and p come from {comparison.resamples:,} draws of the images with "
            "replacement, the same for both runs: p is small if the sign of the difference hardly "
            "depends on which images were chosen. Of many metrics some differ by chance alone."
        )
    page.table(*tables.official_table(runs, comparison))
    header, rows = tables.unofficial_table(runs)
    if rows:
        page.table(header, rows, "Beside the official numbers, not to be mistaken for them")


def _add_classes(page: Page, runs: Sequence[Run], truth: GroundTruth) -> None:
    headline = runs[0].evaluation.protocol.headline
    _section(
        page,
        runs,
        "Classes",
        "A class with few annotated objects has an uncertain AP: a few objects more or fewer "
        "found would change it much.",
    )
    labels = list(runs[0].evaluation.per_class)[:BARS]
    more = f" The first {BARS} classes." if len(truth.classes) > BARS else ""
    of_headline = [
        [run.evaluation.percent(run.evaluation.per_class[label][headline]) for label in labels]
        for run in runs
    ]
    costs = [run.analysis.error_costs for run in runs]
    at_one_iou = [100 * c.ap_per_class[: len(labels)] for c in costs]
    with page.columns():
        for values, name in (
            (of_headline, headline),
            (at_one_iou, f"AP at IoU {costs[0].iou:g} over all sizes"),
        ):
            page.chart(
                partial(bars, names=labels, values=values, form="{:.1f}".format),
                f"{name} of each class, %.{more}",
                height=bars_height(len(labels), len(runs)),
            )
    page.table(*tables.class_table(runs, truth), "In %; annotated: objects in the files")


def _add_curves(page: Page, runs: Sequence[Run]) -> None:
    analyses = [run.analysis for run in runs]
    _section(
        page,
        runs,
        "Precision and recall",
        "From left to right the score threshold falls: more objects are found, and more of what "
        "is found is wrong; AP is the area below a curve.",
    )
    with page.columns():
        page.chart(
            partial(charts.mean_curves, analyses=analyses), "Mean over the classes.", height=3.4
        )
        for letter, analysis in zip(tables.letters(runs), analyses, strict=True):
            if len(analysis.classes) == 1:
                continue
            page.chart(
                partial(charts.class_curves, analysis=analysis),
                f"Classes{letter} at IoU {analysis.curves.iou:g}, best first.",
                height=4.2,
            )


def _add_sizes(page: Page, runs: Sequence[Run]) -> None:
    protocol, analyses = runs[0].evaluation.protocol, [run.analysis for run in runs]
    _section(
        page,
        runs,
        "Object size",
        "Size is the side of a square of the object's area, in pixels of the original image; "
        "where the two lines part, objects are found but with too low a score.",
    )
    header, rows = tables.range_table(runs)
    lines = (
        "vertical lines: limits of the protocol's ranges"
        if rows
        else f"{protocol.title} has no size ranges"
    )
    with page.columns():
        page.chart(
            partial(charts.size_recall, analyses=analyses, limits=_size_limits(protocol)),
            f"Recall at IoU {analyses[0].size_recall.iou:g} with 95% intervals, by any detection "
            "and by a confident one, whose score is at least its class's best-F1 threshold; grey: "
            f"number of objects; {lines}.",
            height=3.4,
        )
        if rows:
            _add_range_chart(page, runs)
        page.table(*tables.size_table(runs), "Objects found, %")
        if rows:
            page.table(header, rows, "The protocol's size ranges, %")


def _add_range_chart(page: Page, runs: Sequence[Run]) -> None:
    protocol = runs[0].evaluation.protocol
    headline = next(m for m in protocol.metrics if m.name == protocol.headline)
    chosen = [
        m
        for m in protocol.metrics
        if (m.kind, m.iou, m.max_dets) == (headline.kind, headline.iou, headline.max_dets)
    ]
    values = [
        [run.evaluation.percent(run.evaluation.metrics[m.name]) for m in chosen] for run in runs
    ]
    page.chart(
        partial(
            bars,
            names=[range_label(protocol, m.size) for m in chosen],
            values=values,
            form="{:.1f}".format,
        ),
        f"{short_name(headline)} of the protocol's size ranges, %.",
        height=bars_height(len(chosen), len(runs)),
    )


def _add_calibration(page: Page, runs: Sequence[Run]) -> None:
    analyses = [run.analysis for run in runs]
    _section(
        page,
        runs,
        "Scores",
        "Below the diagonal the detector is surer than it should be, above it less sure; AP "
        "depends on the order of the scores only, so this matters for choosing a threshold.",
    )
    errors = ", ".join(
        f"{number(100 * a.calibration.error, 1)}%{letter}"
        for letter, a in zip(tables.letters(runs), analyses, strict=True)
    )
    counts = " Grey: number of detections." if len(runs) == 1 else ""
    with page.columns():
        page.chart(
            partial(charts.calibration, analyses=analyses),
            f"Share of right detections at IoU {analyses[0].calibration.iou:g} by score. Mean "
            f"distance from the diagonal: {errors}.{counts}",
            height=3.4,
        )


def _add_error_costs(page: Page, runs: Sequence[Run]) -> None:
    costs = [run.analysis.error_costs for run in runs]
    _section(
        page,
        runs,
        "What errors cost",
        f"How much higher AP at IoU {costs[0].iou:g} would be without one kind of error; the "
        "costs do not add up, because errors hide each other.",
    )
    with page.columns():
        page.chart(
            partial(
                bars,
                names=ERROR_TYPES,
                values=[100 * c.cost for c in costs],
                form="{:.1f}".format,
            ),
            "Points of AP that each kind of error costs.",
            height=bars_height(len(ERROR_TYPES), len(runs)),
        )
        page.chart(
            partial(
                bars,
                names=ERROR_TYPES,
                values=[c.count_confident.sum(axis=0).tolist() for c in costs],
            ),
            "How often each is made by the confident detections; missed: objects that none finds.",
            height=bars_height(len(ERROR_TYPES), len(runs)),
        )
    page.table(
        *tables.error_cost_table(runs),
        "Points of AP; errors of all detections, and of the confident ones alone",
    )
    for letter, run in zip(tables.letters(runs), runs, strict=True):
        if len(run.analysis.classes) > 1:
            page.table(
                *tables.class_cost_table(run), f"Points of AP that they cost each class{letter}"
            )


def _add_thresholds(page: Page, runs: Sequence[Run]) -> None:
    _section(
        page,
        runs,
        "Which score threshold to use",
        "Keeping the detections of at least this score gives the best F1, the balance of "
        f"precision and recall, at IoU {runs[0].analysis.best_f1.iou:g}; a threshold chosen on "
        "these images flatters results on them.",
    )
    page.table(*tables.f1_table(runs), "Precision, recall and F1 in %")


def _add_images(page: Page, runs: Sequence[Run], truth: GroundTruth, images: Path | None) -> None:
    _section(
        page,
        runs,
        "Images with most errors",
        "Drawn with the confident detections only, each image whole and, enlarged, its part with "
        "the densest errors.",
    )
    if len(runs) == 2:
        header, rows = tables.image_table(runs, truth, _DIFFERENT)
        if rows:
            page.table(header, rows, "Where A and B differ most: first where B errs less")
    add_worst_images(page, runs, images)


def _size_limits(protocol: Protocol) -> list[float]:
    limits = {limit for size in protocol.size_ranges for limit in (size.low, size.high)}
    return sorted(math.sqrt(limit) for limit in limits)


def _bgr(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red
