"""The charts of an evaluation's page. Each takes the analyses of one run, or of two."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ..evaluation.analysis.analyse import Analysis
from .charts import COLORS, curves, mark_sizes, shortened

__all__ = ["calibration", "class_curves", "mean_curves", "size_recall"]

_CLASSES = 20  # in the chart of curves
_COUNTS = "#8a8f9855"
_STYLES = ("-", "--", ":", "-.")


def mean_curves(axes: Axes, analyses: Sequence[Analysis]) -> None:
    """Precision against recall of the class mean: solid at one IoU, dashed over the thresholds."""
    lines = [
        (f"{name}{label}", curve.recall, curve.mean, COLORS[number], style)
        for number, (name, analysis) in enumerate(_labelled(analyses))
        for curve, label, style in (
            (analysis.curves, f"IoU {analysis.curves.iou:g}", "-"),
            (analysis.mean_iou_curves, "mean over IoUs", "--"),
        )
    ]
    curves(axes, lines)
    axes.set(xlabel="recall", ylabel="precision")


def class_curves(axes: Axes, analysis: Analysis) -> None:
    """Precision against recall of each class, the best one's first in the legend; a class has its
    colour and style in every chart."""
    areas = np.nan_to_num(analysis.curves.precision, nan=-1).mean(axis=1)
    order = [k for k in np.argsort(-areas, kind="stable").tolist() if areas[k] >= 0]
    names = list(analysis.classes.values())
    lines = [
        (
            shortened(names[k]),
            analysis.curves.recall,
            analysis.curves.precision[k],
            COLORS[k % len(COLORS)],
            _STYLES[k // len(COLORS) % len(_STYLES)],
        )
        for k in order[:_CLASSES]
    ]
    curves(axes, lines)
    axes.set(xlabel="recall", ylabel="precision")


def size_recall(axes: Axes, analyses: Sequence[Analysis], limits: Sequence[float]) -> None:
    """Recall in bins of size, with the limits of the protocol's ranges, over grey counts."""
    sizes = analyses[0].size_recall
    filled = np.flatnonzero(sizes.objects)
    shown = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 1)
    # The outer bins reach to 0 and to infinity, which a logarithmic axis does not.
    edges = np.array(sizes.edges, dtype=float)
    edges[0], edges[-1] = edges[1] / 2, 2 * edges[-2]
    edges = edges[shown.start : shown.stop + 1]
    mark_sizes(axes, [limit for limit in limits if edges[0] <= limit <= edges[-1]])
    centres = np.sqrt(edges[:-1] * edges[1:])
    for number, (name, analysis) in enumerate(_labelled(analyses)):
        found, color = analysis.size_recall, COLORS[number]
        # Two runs' bars beside each other, not on each other.
        places = centres * 1.06 ** (number - (len(analyses) - 1) / 2)
        for share, interval, style, label in (
            (found.recall, found.interval, "-", "any score"),
            (found.recall_confident, found.interval_confident, "--", "confident"),
        ):
            reach = np.abs(interval[shown].T - share[shown])
            axes.errorbar(
                places, share[shown], reach, fmt=f"o{style}", color=color, label=f"{name}{label}",
                markersize=3, linewidth=1.3, elinewidth=0.8,
            )  # fmt: skip
    axes.set(ylabel="recall", ylim=(0, 1.02), xlim=(edges[0], edges[-1]))
    axes.grid(axis="y")
    _counts_behind(axes, sizes.objects[shown], edges, "objects")
    axes.figure.legend(loc="outside upper left", fontsize=7.5, ncols=2)


def calibration(axes: Axes, analyses: Sequence[Analysis]) -> None:
    """The share of right detections against their score; on the diagonal both are equal."""
    axes.plot((0, 1), (0, 1), ":", color=COLORS[8], label="score = precision")
    for number, (name, analysis) in enumerate(_labelled(analyses)):
        bins = analysis.calibration
        filled = bins.count > 0
        axes.plot(
            bins.score[filled], bins.precision[filled], "o-", color=COLORS[number],
            label=f"{name}precision", markersize=4, linewidth=1.3,
        )  # fmt: skip
    axes.set(xlabel="score", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid()
    bins = analyses[0].calibration
    if len(analyses) == 1:
        _counts_behind(axes, bins.count, bins.edges, "detections", log=True)
    axes.figure.legend(loc="outside upper left", fontsize=7.5, ncols=2)


def _labelled(analyses: Sequence[Analysis]) -> list[tuple[str, Analysis]]:
    """Of two runs, what a line is follows the run's letter; one run needs none."""
    prefixes = [""] if len(analyses) == 1 else ["A, ", "B, "]
    return list(zip(prefixes, analyses, strict=True))


def _counts_behind(
    axes: Axes, counts: np.ndarray, edges: np.ndarray, label: str, log: bool = False
) -> None:
    """Grey bars behind the lines, with an axis of their own on the right."""
    behind = axes.twinx()
    behind.stairs(counts, edges, fill=True, color=_COUNTS, baseline=0.5 if log else 0)
    behind.set_ylabel(label)
    behind.spines["right"].set_visible(True)
    if log:
        behind.set_yscale("log")
        behind.yaxis.set_major_formatter("{x:,.0f}")
    behind.set_ylim(0.5 if log else 0, 1.15 * max(2, counts.max(initial=0)))
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
