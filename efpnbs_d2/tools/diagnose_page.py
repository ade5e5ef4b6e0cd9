"""The page and the picture of `diagnose`: its tables, and charts of the same numbers."""

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..atomic import write_atomically
from .charts import COLORS, bars, bars_height
from .diagnose_tables import PYRAMIDS, Table, map_name, readings, tables
from .html_page import Page

__all__ = ["write_page", "write_picture"]

matplotlib.use("Agg")
_PICTURE_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
# Drawing function, caption, height in inches for a width of 5.
Chart = tuple[Callable[[Axes], None], str, float]


def write_page(result: dict[str, Any], target: Path) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    page = Page(f"Diagnosis: {result['dataset']} with {Path(result['config']).stem}")
    everything = next(iter(result["sizes"].values()))[-1]
    facts = [("images", result["images"]), ("objects", everything["objects"])]
    if "samples" in result:
        facts.append(("training samples", result["samples"]))
    page.facts(facts)
    for severity, sentence in readings(result):
        page.verdict(severity, sentence)
    page.heading("Positive anchors")
    page.paragraph(
        "The detector's own label assignment on whole images at the size it is tested with, before "
        f"any anchors are sampled. Rule: {result['rule']}. Sizes of objects are sqrt(area) in "
        "pixels of the original image. Cells that only padding covers are left out."
    )
    charts, found = _anchor_charts(result), tables(result)
    _add(page, found[: 1 + len(result["sizes"])], charts)
    if "gradients" in result:
        page.heading("Gradients in training")
        page.paragraph(
            f"{result['samples']} training samples, one at a time, with "
            f"{'the weights of ' + result['weights'] if result['weights'] else 'random weights'}. "
            "Both detectors have the same weights, samples and sampled proposals; the FPN is "
            "E-FPN-BS without CEM and FBSM. DCLoss weights no loss here."
        )
        _add(page, found[1 + len(result["sizes"]) :], _gradient_charts(result))
    page.write(target)


def write_picture(result: dict[str, Any], target: Path) -> None:
    """Write all charts as one picture.

    Args:
        result: of `diagnose_tables.numbers`.
        target: .png

    Raises:
        OSError: it cannot be written.
    """
    charts = _anchor_charts(result)
    if "gradients" in result:
        charts += _gradient_charts(result)
    rows = [charts[start : start + 3] for start in range(0, len(charts), 3)]
    heights = [max(height for _, _, height in row) + 0.4 for row in rows]
    figure = Figure(figsize=(15, sum(heights)), layout="constrained")
    cells = figure.subfigures(len(rows), 3, squeeze=False, height_ratios=heights)
    with matplotlib.rc_context(_PICTURE_STYLE):
        for row, parts in zip(rows, cells, strict=True):
            for (draw, caption, _), part in zip(row, parts, strict=True):
                part.supxlabel(textwrap.fill(caption, 60), fontsize=9)
                draw(part.subplots())
    write_atomically(target, lambda file: figure.savefig(file, format="png", dpi=100))


def _add(page: Page, found: Sequence[Table], charts: Sequence[Chart]) -> None:
    for caption, header, rows in found:
        page.table(header, rows, caption)
    with page.columns():
        for draw, caption, height in charts:
            page.chart(draw, caption, height)


def _anchor_charts(result: dict[str, Any]) -> list[Chart]:
    """Charts of the positive anchors."""
    levels, sizes = (
        result["levels"],
        [row for row in next(iter(result["sizes"].values())) if row["objects"]],
    )
    names = [row["size"] for row in sizes]
    without = [("no_iou_above_half", "no anchor of IoU 0.5"), ("no_positive", "no positive anchor")]
    return [
        (
            partial(
                bars,
                names=[level["level"].upper() for level in levels],
                values=[[100 * level["images_with_none"] for level in levels]],
                form="{:.0f}%".format,
            ),
            "Images without any positive anchor on a level.",
            bars_height(len(levels)),
        ),
        (
            partial(
                _stacked,
                names=names,
                values={
                    level["level"].upper(): [
                        row["positives_per_object_by_level"][level["level"]] for row in sizes
                    ]
                    for level in levels
                },
            ),
            "Positive anchors of an object, by its size, and the levels they are on.",
            bars_height(len(names)) + 0.6,
        ),
        (
            partial(
                bars,
                names=names,
                values=[[100 * row[key] for row in sizes] for key, _ in without],
                labels=[label for _, label in without],
                form="{:.1f}%".format,
            ),
            "Objects that go without.",
            bars_height(len(names), 2),
        ),
    ]


def _gradient_charts(result: dict[str, Any]) -> list[Chart]:
    """Charts of the gradients."""
    maps, losses, box = (result[key] for key in ("gradients", "gradients_by_loss", "box_head"))
    scales = [row["scale"].replace("_", " ") for row in box]
    series = {
        "target": "target",
        "cls_share": "classification",
        "cls_weighted_share": "classification, with DCLoss",
        "reg_share": "box",
        "reg_weighted_share": "box, with DCLoss",
    }
    return [
        (
            partial(
                _spread,
                names=[map_name(row["map"]) for row in maps],
                values={
                    label: [(row[f"{kind}_mean"], row[f"{kind}_std"]) for row in maps]
                    for kind, label in PYRAMIDS.items()
                },
            ),
            "Gradient norm of the detection losses: mean and standard deviation of the samples.",
            bars_height(len(maps), 2),
        ),
        (
            partial(
                _spread,
                names=[row["level"].upper() for row in losses],
                values={
                    loss: [(row["enhanced"][loss], 0.0) for row in losses]
                    for loss in losses[0]["enhanced"]
                },
            ),
            "Mean gradient norm of each loss with E-FPN-BS; none where there is no point.",
            bars_height(len(losses), 4),
        ),
        (
            partial(
                bars,
                names=scales,
                values=[[100 * row[key] for row in box] for key in series],
                labels=list(series.values()),
                form="{:.0f}%".format,
            ),
            "Share of each scale in the gradient of the box head's losses.",
            bars_height(len(scales), len(series)) + 0.3,
        ),
    ]


def _stacked(axes: Axes, names: Sequence[str], values: dict[str, list[float]]) -> None:
    left = np.zeros(len(names))
    for number, (label, row) in enumerate(values.items()):
        drawn = axes.barh(np.arange(len(names)), row, 0.7, left, label=label, color=COLORS[number])
        left += row
    axes.bar_label(drawn, [f"{total:.2f}" for total in left], padding=3, fontsize=8)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(left.max(), 1e-9))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("positive anchors an object")
    axes.figure.legend(loc="outside upper left", ncols=len(values), fontsize=8)


def _spread(axes: Axes, names: Sequence[str], values: dict[str, list[tuple[float, float]]]) -> None:
    """Points (mean, spread) on a logarithmic axis; a mean of 0 has none."""
    for number, (label, row) in enumerate(values.items()):
        places = np.arange(len(names)) + (number - (len(values) - 1) / 2) * 0.16
        mean, spread = np.array(row).T
        shown = mean > 0
        low = np.minimum(spread, 0.9 * mean)  # a logarithmic axis has no 0
        axes.errorbar(
            mean[shown],
            places[shown],
            xerr=np.stack([low, spread])[:, shown],
            fmt="o",
            markersize=4,
            linewidth=1.2,
            color=COLORS[number],
            label=label,
        )
    for place in range(0, len(names), 2):  # bands tell the rows apart
        axes.axhspan(place - 0.5, place + 0.5, color=COLORS[8], alpha=0.12, linewidth=0)
    axes.set_ylim(-0.5, len(names) - 0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("L2 norm")
    axes.figure.legend(loc="outside upper left", ncols=3, fontsize=8)
