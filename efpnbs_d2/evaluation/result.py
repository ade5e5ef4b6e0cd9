"""What an evaluation yields, and how it is shown."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate  # type: ignore[import-untyped]

from ..protocols import Protocol

__all__ = ["Evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """The numbers of a protocol, in the units of its official code (fractions, or percentages).

    Attributes:
        protocol: what was measured.
        metrics: the official table in its order; -1 or NaN where the official code says so.
        per_class: class name -> metric name -> value; by category id order.
        unofficial: further numbers, named so that nobody takes them for the official ones: the
            plain class mean of VisDrone ("AP_all plain mean"), and a metric without an oddity of
            the official code where that changes it ("AP with ids from 1").
        notes: what a reader has to know, a sentence each: oddities that changed a number, missing
            images, detections without effect.
    """

    protocol: Protocol
    metrics: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    unofficial: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def percent(self, value: float) -> float:
        """One of the values in percent; NaN where it is undefined."""
        # -1 says "undefined" in every official code; no metric is negative.
        if math.isnan(value) or value < 0:
            return math.nan
        return value if self.protocol.percent else 100 * value

    def table(self) -> str:
        """The numbers in percent as text for a terminal, and the notes below them.

        Of the numbers of each class only the first, as many as a terminal is wide.
        """
        parts = [
            f"{self.protocol.title}, in %",
            _columns({name: self._shown(value) for name, value in self.metrics.items()}),
        ]
        if len(self.per_class) > 1:
            names = self._class_columns()
            rows = [
                [label, *(self._shown(values[name]) for name in names)]
                for label, values in self.per_class.items()
            ]
            parts.append(tabulate(rows, ["class", *names], **_STYLE))
        if self.unofficial:
            rows = [[name, self._shown(value)] for name, value in self.unofficial.items()]
            parts.append("Not official:\n" + tabulate(rows, **_STYLE))
        return "\n".join([*parts, *(f"Note: {note}" for note in self.notes)])

    def as_json(self) -> dict[str, Any]:
        """Plain data in the official units and full precision, None for NaN."""
        return {
            "protocol": self.protocol.name,
            "unit": "percent" if self.protocol.percent else "fraction",
            "metrics": _plain(self.metrics),
            "per_class": {label: _plain(values) for label, values in self.per_class.items()},
            "unofficial": _plain(self.unofficial),
            "notes": list(self.notes),
        }

    def _class_columns(self) -> list[str]:
        """The headline and then the protocol's order, without what no class has."""
        names = sorted(
            next(iter(self.per_class.values())), key=lambda name: name != self.protocol.headline
        )
        values = {name: [row[name] for row in self.per_class.values()] for name in names}
        known = [n for n in names if not all(math.isnan(self.percent(v)) for v in values[n])]
        return known[:_CLASS_COLUMNS]

    def _shown(self, value: float) -> str:
        percent = self.percent(value)
        return "-" if math.isnan(percent) else f"{percent:.2f}"


# Numbers are formatted already: tabulate would drop their zeros.
_STYLE: Any = {"tablefmt": "simple", "disable_numparse": True, "stralign": "right"}
_CLASS_COLUMNS = 7
# Pairs of name and value beside each other, for a terminal of 100 columns.
_PAIRS = 5


def _columns(shown: Mapping[str, str]) -> str:
    pairs = [f"{name} {value}" for name, value in shown.items()]
    height = math.ceil(len(pairs) / _PAIRS)
    lines = [pairs[row::height] for row in range(height)]
    return tabulate(lines, **_STYLE)


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else float(value) for name, value in values.items()}
