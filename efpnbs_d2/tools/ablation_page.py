"""What an ablation writes: `ablation.csv`, `ablation.html` and the same tables as `ablation.md`."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from tabulate import tabulate

from ..atomic import write_atomically
from . import ablation_tables as tables
from .ablation_list import Comparison
from .ablation_tables import Group, Results, Table
from .charts import COLORS, shortened
from .html_page import Page

__all__ = ["write_report"]

_READING = (
    "Differences are run minus baseline, seed by seed: same initial weights, data order, budget. "
    "In brackets is the 95% confidence interval by Student's t over the pairs of seeds. It covers "
    "the chance of training, not that of the choice of images; of many numbers, one in twenty "
    "seems to differ by chance alone."
)
_TOGETHER = (
    "All runs together: minus the mean of {}. What chance does is estimated from all of them, "
    "which says more than a pair's few seeds, and supposes that it does as much to each; ± is half "
    "the 95% interval."
)


def write_report(folder: Path, results: Results) -> list[Path]:
    """Write the three files, also of an ablation that is not finished.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"ablation.csv": tables.csv_text(results), "ablation.md": _markdown(results)}
    for name, text in texts.items():
        _write_text(folder / name, text)
    _page(results).write(folder / "ablation.html")
    return [folder / name for name in (*texts, "ablation.html")]


def _write_text(target: Path, text: str) -> None:
    write_atomically(target, lambda file: file.write(text.encode()))


def _page(results: Results) -> Page:
    page = Page(results.ablation.title, _READING)
    page.facts(_facts(results))
    for note in results.notes:
        page.verdict("warning", note)
    accuracies = tables.groups(results)
    for comparison in results.ablation.comparisons:
        page.heading(f"Against {comparison.baseline}")
        _add_charts(page, results, comparison, accuracies)
        for group in accuracies:
            page.heading(group.title, level=3)
            for explanation, table in _compared(results, comparison, group):
                page.table(*table, explanation)
        page.heading("What differs", level=3)
        page.table(*tables.what_differs(results, comparison))
    page.heading("Each run")
    page.paragraph("Mean ± standard deviation over the seeds that are finished.")
    for group in accuracies:
        page.heading(group.title, level=3)
        page.table(*tables.mean_table(results, group), group.explanation)
    page.heading("Set-up")
    page.table(*_setup(results))
    return page


def _compared(
    results: Results, comparison: Comparison, group: Group
) -> Iterator[tuple[str, Table]]:
    """The tables of a group, each with its explanation."""
    yield group.explanation, tables.difference_table(results, comparison, group)
    if len(comparison.runs) + len(comparison.control) > 1:  # a single pair says the same again
        baselines = " and ".join((comparison.baseline, *comparison.control))
        yield _TOGETHER.format(baselines), tables.pooled_table(results, comparison, group)


def _facts(results: Results) -> list[tuple[str, object]]:
    seeds = results.ablation.seeds
    total = len(results.ablation.runs) * len(seeds)
    done = sum(map(len, results.measures.values()))
    facts: list[tuple[str, object]] = [("runs finished", f"{done} of {total}")]
    facts.append(("seeds", ", ".join(map(str, seeds))))
    for label, key in (
        ("iterations", "train.max_iter"),
        ("images a step", "dataloader.train.total_batch_size"),
        ("trained on", "dataloader.train.dataset.names"),
        ("measured on", "dataloader.test.dataset.names"),
    ):
        found = dict.fromkeys(s.get(key, "–") for s in results.settings.values())
        facts.append((label, ", ".join(found)))
    return facts


def _setup(results: Results) -> Table:
    kinds = list(dict.fromkeys(results.hardware[0])) if results.hardware else []
    rows: list[list[object]] = [
        [kind, ", ".join(dict.fromkeys(h.get(kind, "–") for h in results.hardware))]
        for kind in kinds
    ]
    return ["machine", "of the finished runs"], rows


def _add_charts(
    page: Page, results: Results, comparison: Comparison, groups: Sequence[Group]
) -> None:
    with page.columns():
        for group in groups:
            for measure in group.charted:
                if not any(results.by_seed(run, measure) for run in comparison.runs):
                    continue
                page.chart(
                    partial(_intervals, results=results, comparison=comparison, measure=measure),
                    f"{group.title}, {group.measures[measure]}: points more or less than "
                    f"{comparison.baseline}, with 95% intervals. Blue: better, orange: worse, "
                    "grey: not significant.",
                    height=0.8 + 0.27 * len(comparison.runs),
                )


def _intervals(axes: Axes, results: Results, comparison: Comparison, measure: str) -> None:
    for place, run in enumerate(comparison.runs):
        found = results.difference(comparison, run, measure)
        color = {1: COLORS[0], 0: COLORS[8], -1: COLORS[1]}[found.sign]
        axes.plot([found.low, found.high], [place, place], color=color, linewidth=2)
        axes.plot(found.mean, place, "o", color=color, markersize=4)
    axes.axvline(0, color=COLORS[8], linewidth=1, linestyle=":")
    axes.set_yticks(np.arange(len(comparison.runs)), [shortened(r) for r in comparison.runs])
    axes.invert_yaxis()
    axes.grid(axis="x")


def _markdown(results: Results) -> str:
    parts = [f"# {results.ablation.title}"]
    parts += ["; ".join(f"{label}: {value}" for label, value in _facts(results)) + "."]
    parts += [f"Note: {note}" for note in results.notes]
    groups = tables.groups(results)
    for comparison in results.ablation.comparisons:
        parts += [f"## Against {comparison.baseline}", _READING]
        for group in groups:
            parts.append(f"### {group.title}")
            for explanation, table in _compared(results, comparison, group):
                parts += [explanation, _lines(table)]
        parts += ["### What differs", _lines(tables.what_differs(results, comparison))]
    parts.append("## Each run")
    for group in groups:
        parts += [f"### {group.title}", _lines(tables.mean_table(results, group))]
    parts += ["## Set-up", _lines(_setup(results))]
    return "\n\n".join(parts) + "\n"


def _lines(table: Table) -> str:
    header, rows = table
    cells = [[str(cell).replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, header, tablefmt="github", disable_numparse=True)
