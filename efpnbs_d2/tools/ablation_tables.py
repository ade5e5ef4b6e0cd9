"""The tables of an ablation: mean and spread of each run, and differences within comparisons.

A table is a header and rows, as `html_page.Page.table` takes them.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .ablation_list import Ablation, Comparison
from .ablation_measures import MEMORY, SECONDS, is_smaller_better
from .ablation_settings import Settings, differences, short_key, unfair_keys
from .ablation_statistics import (
    Difference,
    mean_and_deviation,
    paired_difference,
    pooled_differences,
)
from .evaluation_text import sign
from .html_page import Number

__all__ = [
    "Group",
    "Results",
    "Table",
    "csv_text",
    "difference_table",
    "groups",
    "mean_table",
    "pooled_table",
    "verdict",
    "what_differs",
]

Table = tuple[list[str], list[list[object]]]
_BINS = ("vt", "t", "s", "m")
_MEANING = "vt, t, s, m: objects of up to 8, 8 to 16, 16 to 32, over 32 px, the AI-TOD bins"


@dataclass(frozen=True)
class Results:
    """What is finished of an ablation.

    Attributes:
        ablation: the list.
        settings: of each run by name.
        measures: run -> seed -> measure -> value, finished ones only.
        hardware: what the runs said of their machines.
        headlines: official measure that papers compare, one a data set.
        notes: what a reader must know, a sentence each.
    """

    ablation: Ablation
    settings: Mapping[str, Settings]
    measures: Mapping[str, Mapping[int, Mapping[str, float]]]
    hardware: Sequence[Mapping[str, str]]
    headlines: Sequence[str]
    notes: Sequence[str]

    def by_seed(self, run: str, measure: str) -> dict[int, float]:
        """Of the seeds that have this measure."""
        of_run = self.measures.get(run, {})
        return {s: values[measure] for s, values in of_run.items() if measure in values}

    def difference(self, comparison: Comparison, run: str, measure: str) -> Difference:
        """A run minus its baseline."""
        baseline = self.by_seed(comparison.baseline, measure)
        return paired_difference(baseline, self.by_seed(run, measure))

    def pooled(self, comparison: Comparison, measure: str) -> list[Difference]:
        """The runs of a comparison minus the mean of its baseline and controls."""
        baselines = (comparison.baseline, *comparison.control)
        return pooled_differences(
            [self.by_seed(name, measure) for name in baselines],
            [self.by_seed(name, measure) for name in comparison.runs],
        )


@dataclass(frozen=True)
class Group:
    """Measures that are shown in one table: measure -> its short name; and those of a chart too."""

    title: str
    explanation: str
    measures: Mapping[str, str]
    charted: tuple[str, ...] = ()


def groups(results: Results) -> list[Group]:
    """The tables of a page, in their order; all measures are in the CSV file."""
    found = []
    for headline in results.headlines:
        dataset = headline.partition("/")[0]
        ours, one = f"{dataset}/aitod", f"{dataset}/any"
        official = {headline: f"official {headline.rpartition('/')[2]}"}
        found += [
            Group(
                f"{dataset}: average precision",
                f"In %. First the benchmark's own headline; then the AI-TOD protocol; {_MEANING}.",
                {**official, f"{ours}/AP": "AP", f"{ours}/AP50": "AP50", **_bins(ours, "AP")},
                (headline, f"{ours}/AP", f"{ours}/APvt", f"{ours}/APt"),
            ),
            Group(
                f"{dataset}: all classes as one",
                "The AI-TOD protocol, in %, whatever the class: the mean over classes gives rare "
                "ones, which a small data set cannot measure, as much weight as the others.",
                {f"{one}/AP": "AP", f"{one}/AP50": "AP50", **_bins(one, "AP")},
                (f"{one}/AP", f"{one}/APt"),
            ),
            Group(
                f"{dataset}: recall",
                "The AI-TOD protocol, in %: mean over IoU 0.5 to 0.95 at 1,500 detections.",
                {
                    f"{ours}/AR1500": "AR",
                    **_bins(ours, "AR"),
                    f"{one}/AR1500": "AR, any class",
                    **{k: f"{name}, any class" for k, name in _bins(one, "AR").items()},
                },
            ),
        ]
    costs = {SECONDS: "seconds a step", MEMORY: "peak memory, MiB"}
    explanation = (
        "Median time of a training step, and peak memory: on a GPU that of PyTorch, on a CPU the "
        "process's in training and evaluation. Runs that share a machine slow each other down."
    )
    return [*found, Group("Costs", explanation, costs)]


def mean_table(results: Results, group: Group) -> Table:
    """A row for each run: mean and standard deviation over its seeds."""
    rows: list[list[object]] = []
    for run in results.ablation.runs:
        row: list[object] = [run, Number(len(results.measures.get(run, {})))]
        for measure in group.measures:
            mean, deviation = mean_and_deviation(results.by_seed(run, measure))
            spread = "" if math.isnan(deviation) else f" ± {_text(deviation, measure)}"
            row.append(Number("–" if math.isnan(mean) else f"{_text(mean, measure)}{spread}"))
        rows.append(row)
    return ["run", "seeds", *group.measures.values()], rows


def difference_table(results: Results, comparison: Comparison, group: Group) -> Table:
    """A row for each run: its difference from the baseline with interval and verdict."""
    rows: list[list[object]] = []
    for run in comparison.runs:
        found = {m: results.difference(comparison, run, m) for m in group.measures}
        cells = [Number(_cell(difference, m)) for m, difference in found.items()]
        rows.append([run, Number(max(d.seeds for d in found.values())), *cells])
    return ["run", "pairs", *group.measures.values()], rows


def pooled_table(results: Results, comparison: Comparison, group: Group) -> Table:
    """As `difference_table`, with one spread of chance for all runs of the comparison."""
    columns = [results.pooled(comparison, measure) for measure in group.measures]
    rows: list[list[object]] = []
    for run, *found in zip(comparison.runs, *columns, strict=True):
        pairs = zip(found, group.measures, strict=True)
        cells = [Number(_cell(difference, measure, brief=True)) for difference, measure in pairs]
        rows.append([run, Number(max(d.seeds for d in found)), *cells])
    return ["run", "seeds", *group.measures.values()], rows


def what_differs(results: Results, comparison: Comparison) -> Table:
    """A row for each run: the settings that are not its baseline's, unfair ones named."""
    rows: list[list[object]] = []
    for run in comparison.runs:
        pair = results.settings[comparison.baseline], results.settings[run]
        changes = [
            f"{short_key(key)}: {old} → {new}" if old != "–" else f"{short_key(key)} = {new}"
            for key, (old, new) in differences(*pair).items()
        ]
        unfair = ", ".join(unfair_keys(comparison, *pair)) or "the method alone"
        rows.append([run, unfair, "; ".join(changes) or "nothing"])
    return ["run", "differs in", f"settings that differ from {comparison.baseline}"], rows


def verdict(difference: Difference, measure: str) -> str:
    """A difference in a word or three."""
    if math.isnan(difference.low):
        return "too few seeds"
    better = difference.sign * (-1 if is_smaller_better(measure) else 1)
    return {1: "better", 0: "not significant", -1: "worse"}[better]


def csv_text(results: Results) -> str:
    """One row for each run and seed that is finished, all measures with all digits."""
    by_run = results.measures.values()
    names = dict.fromkeys(m for seeds in by_run for values in seeds.values() for m in values)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", "seed", *names])
    for run, seeds in results.measures.items():
        for seed, values in seeds.items():
            writer.writerow([run, seed, *(values.get(name, "") for name in names)])
    return buffer.getvalue()


def _bins(prefix: str, kind: str) -> dict[str, str]:
    return {f"{prefix}/{kind}{size}": f"{kind}{size}" for size in _BINS}


def _cell(difference: Difference, measure: str, *, brief: bool = False) -> str:
    if math.isnan(difference.mean):
        return "–"
    digits = _digits(measure)
    interval = ""
    if not math.isnan(difference.low):
        ends = (sign(end, digits) for end in (difference.low, difference.high))
        half = f" ± {difference.high - difference.mean:,.{digits}f}"
        interval = half if brief else f" ({' to '.join(ends)})"
    return f"{sign(difference.mean, digits)}{interval}\n{verdict(difference, measure)}"


def _text(value: float, measure: str) -> str:
    return f"{value:,.{_digits(measure)}f}"


def _digits(measure: str) -> int:
    return {SECONDS: 3, MEMORY: 0}.get(measure, 2)
