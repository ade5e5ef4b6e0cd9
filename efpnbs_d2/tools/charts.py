"""Charts that pages share; their colours are readable on white and on black."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

__all__ = ["BARS", "COLORS", "bars", "bars_height", "curves", "mark_sizes", "shortened"]

COLORS = (
    *("#4285d6", "#d4762c", "#2a9d78", "#c75aa0", "#8f7fdc", "#b09a00"),
    *("#46a9c9", "#e0565b", "#8a8f98", "#a57b54"),
)
BARS = 40  # classes in a chart; tables have all


def shortened(text: str, length: int = 24) -> str:
    """A name that leaves room for the chart."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[Sequence[float] | np.ndarray],
    labels: Sequence[str] = (),
    form: Callable[[float], str] = "{:,}".format,
) -> None:
    """Horizontal bars with their values, a group for each name, from top to bottom.

    Args:
        names: of the groups.
        values: one list for each colour, a value for each name; NaN: no bar, and no value.
        labels: of the colours, if there are several.
        form: writes a value.
    """
    places, width = np.arange(len(names)), 0.8 / len(values)
    heights = np.array(values, dtype=float)
    for number, row in enumerate(values):
        drawn = axes.barh(
            places + (number - (len(values) - 1) / 2) * width,
            np.nan_to_num(heights[number]),
            width,
            color=COLORS[number],
            label=shortened(labels[number], 40) if labels else None,
        )
        shown = ["–" if np.isnan(v) else form(v) for v in row]
        axes.bar_label(drawn, shown, padding=3, fontsize=8)
    axes.set_yticks(places, [shortened(name) for name in names])
    axes.invert_yaxis()
    low, high = min(0.0, np.nanmin(heights, initial=0)), np.nanmax(heights, initial=0)
    spread = (high - low) or 1.0
    axes.set_xlim(low - (0.18 * spread if low < 0 else 0), high + 0.18 * spread)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    if labels:
        axes.figure.legend(loc="outside upper left", fontsize=8)


def bars_height(names: int, series: int = 1) -> float:
    """A chart's height in inches that keeps the bars' text apart."""
    return 0.6 + (0.21 if series == 1 else 0.17 * series + 0.08) * names


def curves(axes: Axes, lines: Sequence[tuple[str, np.ndarray, np.ndarray, str, str]]) -> None:
    """Lines in [0, 1] x [0, 1] with a legend above.

    Args:
        lines: (label, x, y, colour, style); NaN are gaps.
    """
    for label, x, y, color, style in lines:
        axes.plot(x, y, style, color=color, label=label, linewidth=1.4)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.grid()
    if lines:
        axes.figure.legend(loc="outside upper left", fontsize=7.5, ncols=2)


def mark_sizes(axes: Axes, edges: Sequence[float]) -> None:
    """Make x a logarithmic axis of sizes in pixels, with vertical marks at `edges`."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for edge in edges:
        axes.axvline(edge, color=COLORS[8], linewidth=1)
        axes.annotate(
            f"{edge:g}", (edge, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom"
        )
    axes.set_xlabel("sqrt(area), px")
