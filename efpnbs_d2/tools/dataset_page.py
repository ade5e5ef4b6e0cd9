"""The page and the printed tables of `check_dataset`: one section for each data set.

Boxes are xywh in pixels of the original image (of the tile, if the records are tiles).
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from efpnbs_d2.data.checks import Finding
from efpnbs_d2.data.report import ReadReport
from efpnbs_d2.data.statistics import BoxColumns, bins_of_protocol

from .charts import BARS, COLORS, bars, bars_height, mark_sizes
from .html_page import Page
from .sample_pictures import choose_samples, class_legend, close_up, whole_image

__all__ = ["DatasetCheck", "add_dataset", "class_table", "overview"]

Table = tuple[list[str], list[list[object]]]


@dataclass(frozen=True)
class DatasetCheck:
    """What was found out about one data set."""

    name: str
    protocol: str
    class_names: Sequence[str]
    records: Sequence[dict[str, Any]]
    columns: BoxColumns
    report: ReadReport
    findings: Sequence[Finding]

    @property
    def trainable(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)


def overview(checks: Sequence[DatasetCheck]) -> Table:
    """A row for each data set."""
    header = ["data set", "images", "objects", "ignored", "classes", "median size, px"]
    header += ["most objects", ">100", ">300", ">1,000", "errors", "warnings"]
    rows: list[list[object]] = []
    for check in checks:
        columns, kinds = check.columns, [f.severity for f in check.findings]
        objects = int(columns.is_object.sum())
        rows.append(
            [
                check.name,
                len(check.records),
                objects,
                len(columns.boxes) - objects,
                len(check.class_names),
                float(np.median(columns.object_sizes)) if objects else None,
                int(columns.objects_per_image.max(initial=0)),
                *columns.crowded_images().values(),
                kinds.count("error"),
                kinds.count("warning"),
            ]
        )
    return header, rows


def class_table(check: DatasetCheck) -> Table:
    """Objects, images and AI-TOD's size bins of each class, and of all."""
    bins, number = bins_of_protocol(check.protocol)[0], len(check.class_names)
    objects, images = check.columns.class_counts(number)
    sizes, medians = check.columns.size_counts(bins, number), check.columns.median_sizes(number)
    total = max(1, int(objects.sum()))
    header = ["class", "objects", "share", "images", "median size, px", *bins.labels]
    rows: list[list[object]] = [
        [name, n, f"{100 * n / total:.1f}%", k, median, *bin_counts]
        for name, n, k, median, bin_counts in zip(
            check.class_names,
            objects.tolist(),
            images.tolist(),
            medians,
            sizes.tolist(),
            strict=True,
        )
    ]
    with_objects = int((check.columns.objects_per_image > 0).sum())
    median = float(np.median(check.columns.object_sizes)) if objects.any() else None
    everything = int(objects.sum())
    share = "100.0%" if everything else "0.0%"
    rows.append(["all", everything, share, with_objects, median, *sizes.sum(axis=0).tolist()])
    return header, rows


def add_dataset(page: Page, check: DatasetCheck, samples: int) -> None:
    """Append the section of one data set; unreadable sample images are left out."""
    page.heading(check.name, anchor=check.name)
    _add_summary(page, check)
    if check.columns.is_object.any():
        page.heading("Classes and sizes", 3)
        page.table(*class_table(check), "Size is sqrt(width × height) of a box, original pixels.")
        _add_bins(page, check)
        with page.columns():
            _add_charts(page, check)
    _add_images(page, check.columns)
    if samples:
        _add_samples(page, check, samples)


def _add_summary(page: Page, check: DatasetCheck) -> None:
    header, (row,) = overview([check])
    page.facts([(label, value) for label, value in zip(header[1:7], row[1:7]) if value is not None])
    if check.trainable:
        page.verdict("good", "It can be trained on.")
    else:
        page.verdict("error", "It cannot be trained on as it is.")
    page.heading("Problems", 3)
    if not check.findings:
        page.paragraph("None found.")
        return
    page.table(
        ["", "problem", "count", "first examples"],
        [[f.severity, f.what, f.count, "\n".join(f.examples)] for f in check.findings],
    )
    if check.report.problems:
        page.details(
            f"What the reader says about entries left out ({len(check.report.problems)} shown)",
            check.report.problems,
        )


def _add_bins(page: Page, check: DatasetCheck) -> None:
    number = len(check.class_names)
    header = ["size bins", "bin", "objects", "share"]
    rows: list[list[object]] = []
    for bins in bins_of_protocol(check.protocol):
        counts = check.columns.size_counts(bins, number).sum(axis=0)
        for label, count in zip(bins.labels, counts.tolist(), strict=True):
            rows.append([bins.owner, label, count, f"{100 * count / counts.sum():.1f}%"])
    crowd = check.columns.crowded_images()
    images = len(check.records)
    with page.columns():
        page.table(header, rows, "Objects by the protocols' sizes")
        page.table(
            ["more objects than", "images", "share"],
            [[limit, n, f"{100 * n / images:.1f}%"] for limit, n in crowd.items()],
            "Crowded images (stock limits: 100 detections, 1,000 proposals)",
        )


def _add_charts(page: Page, check: DatasetCheck) -> None:
    columns, number = check.columns, len(check.class_names)
    objects, _ = columns.class_counts(number)
    order = np.argsort(-objects, kind="stable")[:BARS]
    names = [check.class_names[i] for i in order]
    more = f" The {BARS} most frequent." if number > BARS else ""
    page.chart(
        partial(bars, names=names, values=[objects[order].tolist()]),
        f"Objects of each class.{more}",
        height=bars_height(len(names)),
    )
    edges = bins_of_protocol(check.protocol)[-1].edges
    page.chart(
        partial(_size_histogram, sizes=columns.object_sizes, edges=edges),
        "Objects by size, with the edges of the protocol's bins.",
    )
    page.chart(
        partial(_crowd_bars, counts=columns.objects_per_image), "Images by their number of objects."
    )
    page.chart(
        partial(_aspect_histogram, ratios=columns.aspect_ratios),
        "Objects by width : height; the outer bars hold everything beyond.",
    )
    height, width = np.median(columns.sizes, axis=0)
    page.chart(
        partial(_position_map, counts=columns.position_map(), aspect=height / width),
        "Where objects' centres lie, as parts of the image's width and height.",
        height=float(np.clip(4 * height / width, 2, 5)),
    )


def _add_images(page: Page, columns: BoxColumns) -> None:
    sizes = columns.image_sizes()
    rows: list[list[object]] = [[f"{w}×{h}", images] for (w, h), images in sizes[:8]]
    if len(sizes) > 8:
        rows.append([f"{len(sizes) - 8} other sizes", sum(n for _, n in sizes[8:])])
    page.heading("Images and ignored regions", 3)
    with page.columns():
        page.table(["width×height", "images"], rows, "Image sizes")
        ignored = columns.ignored_counts()
        if ignored:
            page.table(
                ["kind", "regions", "images with one", "median size, px"],
                [[kind, *numbers] for kind, numbers in ignored.items()],
                "Ignored regions: neither objects nor background",
            )
        else:
            page.paragraph("No ignored regions.")


def _add_samples(page: Page, check: DatasetCheck, number: int) -> None:
    page.heading("Samples", 3)
    page.paragraph(
        "The most crowded image, the one with the smallest objects, and others evenly spread. "
        "Beside each its most crowded part, enlarged."
    )
    page.legend(class_legend(check.columns, check.class_names))
    for index in choose_samples(check.columns, number):
        rows = np.flatnonzero(check.columns.image == index)
        objects = int(check.columns.is_object[rows].sum())
        record = check.records[index]
        caption = f"{os.path.basename(record['file_name'])}: {objects:,} objects"
        pictures: list[tuple[Callable[..., np.ndarray], str]] = [
            (whole_image, caption),
            (close_up, "its most crowded part"),
        ]
        with page.columns():
            for draw, text in pictures:
                try:
                    picture = draw(record, check.columns, rows, check.class_names)
                except (ValueError, OSError, SyntaxError) as error:
                    page.paragraph(f"{record['file_name']}: {error}")
                    break
                page.picture(picture, text)


def _size_histogram(axes: Axes, sizes: np.ndarray, edges: Sequence[float]) -> None:
    low, high = min(2.0, sizes.min()), max(2 * edges[-1], sizes.max())
    axes.hist(sizes, np.geomspace(low, high * 1.0001, 49), color=COLORS[0])
    mark_sizes(axes, edges)
    axes.set_ylabel("objects")
    axes.grid(axis="y")


def _crowd_bars(axes: Axes, counts: np.ndarray) -> None:
    edges = [0, 1, 11, 31, 101, 301, 1001]
    names = ["0", "1–10", "11–30", "31–100", "101–300", "301–1,000", "more"]
    heights, _ = np.histogram(counts, [*edges, np.inf])
    drawn = axes.bar(names, heights, color=COLORS[0])
    axes.bar_label(drawn, [f"{n:,}" for n in heights.tolist()])
    axes.set(xlabel="objects in an image", ylabel="images")
    axes.tick_params(axis="x", labelsize=7)
    axes.margins(y=0.12)


def _aspect_histogram(axes: Axes, ratios: np.ndarray) -> None:
    axes.hist(np.clip(np.log2(ratios), -3, 3), np.linspace(-3, 3, 49), color=COLORS[0])
    axes.set_xticks(range(-3, 4), ["1:8", "1:4", "1:2", "1:1", "2:1", "4:1", "8:1"])
    axes.set(xlabel="width : height", ylabel="objects")
    axes.grid(axis="y")


def _position_map(axes: Axes, counts: np.ndarray, aspect: float) -> None:
    shown = axes.imshow(counts, cmap="viridis", extent=(0, 1, 1, 0), aspect=aspect)
    axes.figure.colorbar(shown, ax=axes, label="objects")
    axes.set(xlabel="left to right", ylabel="top to bottom")
