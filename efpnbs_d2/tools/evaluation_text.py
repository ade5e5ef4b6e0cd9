"""How an evaluation's page writes numbers, sizes and metrics, and a comparison in words."""

import math

from ..evaluation.analysis.bootstrap import Comparison
from ..protocols import Metric, Protocol
from .html_page import Number

__all__ = [
    "describe",
    "number",
    "p_value",
    "range_label",
    "short_name",
    "sign",
    "signed",
    "size_text",
    "verdict",
]

_SIGNIFICANT = 0.05
_UNBOUNDED = 3e4  # px; sides from here on are no limit
_KINDS = {
    "AP": "average precision",
    "AR": "average recall",
    "oLRP": "optimal LRP error, lower is better",
    "oLRP_Loc": "its part of inexact boxes, lower is better",
    "oLRP_FP": "its part of false positives, lower is better",
    "oLRP_FN": "its part of missed objects, lower is better",
}


def number(value: float, digits: int = 2) -> Number:
    """A number for a table; a dash for NaN."""
    return Number("–" if math.isnan(value) else f"{value:,.{digits}f}")


def signed(value: float, digits: int = 2) -> Number:
    """A difference for a table; a dash for NaN."""
    return Number("–" if math.isnan(value) else sign(value, digits))


def sign(value: float, digits: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def p_value(value: float) -> str:
    """What follows the letter p."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def range_label(protocol: Protocol, name: str) -> str:
    """A size range by its name and the sides of a square of its limits."""
    size = next(size for size in protocol.size_ranges if size.name == name)
    return _range_text(name, math.sqrt(size.low), math.sqrt(size.high))


def short_name(metric: Metric) -> str:
    """Kind and IoU of a metric: AP50, or AP for the mean."""
    return f"{metric.kind}{_iou_suffix(metric.iou)}"


def _range_text(name: str, low: float, high: float) -> str:
    if low <= 1 and high >= _UNBOUNDED:
        return "all sizes"
    return f"{name}, {size_text(low, high)}"


def size_text(low: float, high: float) -> str:
    """From one side in pixels to another."""
    if high >= _UNBOUNDED:
        return f"{low:g} px and more"
    return f"{low:g}–{high:g} px"


def _iou_suffix(iou: float | None) -> str:
    return "" if iou is None else f"{100 * iou:.0f}"


def _miss_rate_meaning(name: str, protocol: Protocol) -> str:
    rates = protocol.miss_rate
    for iou in rates.iou_thresholds if rates else ():
        for side in rates.sides if rates else ():
            if name == f"MR{_iou_suffix(iou)}_{side.name}":
                return (
                    f"log-average miss rate, lower is better; IoU {iou:g}; "
                    f"{_range_text(side.name, side.low, side.high)}"
                )
    return "beside the protocol's table"


def describe(name: str, protocol: Protocol) -> str:
    """What a metric of the protocol's table, or a miss rate, is."""
    metric = next((m for m in protocol.metrics if m.name == name), None)
    if metric is None:
        return _miss_rate_meaning(name, protocol)
    thresholds = protocol.iou_thresholds
    if metric.kind.startswith("oLRP"):
        iou = f"IoU {thresholds[0]:g}"
    elif metric.iou is None:
        iou = f"mean over IoU {thresholds[0]:g} to {thresholds[-1]:g}"
    elif not any(math.isclose(metric.iou, t, abs_tol=1e-6) for t in thresholds):
        return f"undefined: IoU {metric.iou:g} is none of the official thresholds"
    else:
        iou = f"IoU {metric.iou:g}"
    detections = "1 detection" if metric.max_dets == 1 else f"{metric.max_dets:,} detections"
    of = "a class in an image" if protocol.limit == "class" else "an image, as the file lists them"
    limit = f"at most {detections} of {of}"
    return f"{_KINDS[metric.kind]}; {iou}; {range_label(protocol, metric.size)}; {limit}"


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
        f"(95% interval of the difference {sign(low)} to {sign(high)}, "
        f"p {p_value(headline.p_value)})"
    )
    if headline.p_value < _SIGNIFICANT:
        return f"{start}: the difference is significant."
    return f"{start}: the difference is not significant; other images could turn it round."
