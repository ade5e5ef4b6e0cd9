"""The benchmarks' evaluation protocols, as data.

A protocol says what is measured; ``efpnbs_d2.evaluation`` reads it and measures. Areas are in
square pixels and sides in pixels, both of the original image.

A benchmark of one's own is one more entry, usually a known one with other numbers::

    from dataclasses import replace
    from efpnbs_d2.protocols import *

    ranges = (ALL_SIZES, SizeRange("es", 0, 12**2), SizeRange("rs", 12**2, 20**2), ...)
    register_protocol(replace(PROTOCOLS["coco"], name="soda-d", title="SODA-D", size_ranges=ranges,
                              metrics=coco_metrics(ranges, 100)))
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "ALL_SIZES",
    "PROTOCOLS",
    "Metric",
    "MissRate",
    "Protocol",
    "SizeRange",
    "coco_metrics",
    "find_protocol",
    "register_protocol",
]

MetricKind = Literal["AP", "AR", "oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN"]


@dataclass(frozen=True)
class SizeRange:
    """Objects from `low` to `high`, both included: an object on a common limit is in two ranges."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Metric:
    """One number of a protocol's table.

    Attributes:
        name: as the official code or its server names it.
        kind: what is averaged over the classes.
        iou: at one threshold, or the mean over all (oLRP: always the first). A threshold that the
            protocol does not have gives -1.
        size: name of the range.
        max_dets: at this detection limit.
    """

    name: str
    kind: MetricKind
    iou: float | None
    size: str
    max_dets: int


@dataclass(frozen=True)
class MissRate:
    """Log-average miss rates over false positives per image (FPPI).

    Attributes:
        iou_thresholds: one table column each.
        sides: ranges of the side, sqrt(area), of an object.
        max_dets: per image and class, by score, before the size filter.
        tolerance: detections of side < low / tolerance or >= high * tolerance vanish.
        fppi: points at which the miss rate is read.
    """

    iou_thresholds: tuple[float, ...]
    sides: tuple[SizeRange, ...]
    max_dets: int
    tolerance: float
    fppi: tuple[float, ...]


@dataclass(frozen=True)
class Protocol:
    """How a benchmark counts.

    Attributes:
        name: for ``--protocol`` and the metadata of a data set.
        title: for people.
        iou_thresholds: ascending; an overlap that equals a threshold matches.
        size_ranges: ranges of area; an object outside a range is ignored there, and so is an
            unmatched detection outside it.
        max_dets: ascending detection limits; matching sees the largest.
        limit: where the limits apply: the best by score of each class of an image, or the first
            rows of an image's result file, whatever their class.
        ignore: "crowd": ``iscrowd`` boxes absorb any number of detections, by intersection over
            detection; "flags": so do boxes flagged ignore or uncertain and boxes out of range
            (TinyPerson); "regions": detections and objects half covered by the union of ignored
            regions are removed, boxes with score 0 absorb (VisDrone).
        ignored_in_recall: ignored boxes count in the denominator of recall.
        interpolation: of the precision-recall curve: at 101 recalls, or the whole area.
        class_mean: plain, or weighted by the number of images that hold the class.
        metrics: the table, in its order.
        headline: name of the metric that papers compare.
        percent: the official code prints percentages, not fractions.
        classes: names, where the annotation files have none.
        miss_rate: TinyPerson's second table.
    """

    name: str
    title: str
    iou_thresholds: tuple[float, ...]
    size_ranges: tuple[SizeRange, ...]
    max_dets: tuple[int, ...]
    limit: Literal["class", "image"]
    ignore: Literal["crowd", "flags", "regions"]
    ignored_in_recall: bool
    interpolation: Literal["101 points", "all points"]
    class_mean: Literal["plain", "by images"]
    metrics: tuple[Metric, ...]
    headline: str
    percent: bool = False
    classes: tuple[str, ...] = ()
    miss_rate: MissRate | None = None

    def __post_init__(self) -> None:
        ranges = [size.name for size in self.size_ranges]
        if not self.iou_thresholds or not self.size_ranges or not self.max_dets:
            raise ValueError(
                f"protocol {self.name!r}: found no IoU thresholds, size ranges or detection "
                "limits, expected at least one of each"
            )
        for ascending in (self.iou_thresholds, self.max_dets):
            if list(ascending) != sorted(set(ascending)):
                raise ValueError(
                    f"protocol {self.name!r}: found {ascending}, expected ascending numbers"
                )
        if not 0 < self.iou_thresholds[0] <= self.iou_thresholds[-1] <= 1:
            raise ValueError(
                f"protocol {self.name!r}: found IoU thresholds {self.iou_thresholds}, expected "
                "numbers above 0, up to 1"
            )
        # Of two metrics of one name a table would show one.
        for kind, names in (("size", ranges), ("metric", [m.name for m in self.metrics])):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(
                    f"protocol {self.name!r}: found several {kind}s named {', '.join(repeated)}, "
                    "expected different names; name the size ranges differently"
                )
        known = [metric.name for metric in self.metrics]
        if known and self.headline not in known:
            raise ValueError(
                f"protocol {self.name!r}: found headline {self.headline!r}, expected one of "
                f"{', '.join(known)}"
            )
        for metric in self.metrics:
            if metric.size not in ranges or metric.max_dets not in self.max_dets:
                raise ValueError(
                    f"protocol {self.name!r}: metric {metric.name!r} is at size {metric.size!r} "
                    f"and limit {metric.max_dets}, expected one of {sorted(ranges)} and of "
                    f"{self.max_dets}"
                )


ALL_SIZES = SizeRange("all", 0, 1e10)
# numpy.linspace(0.5, 0.95, 10) to the bit: 0.9 is 0.8999999999999999 there.
_COCO_IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95)


def coco_metrics(size_ranges: Sequence[SizeRange], *max_dets: int) -> tuple[Metric, ...]:
    """COCO's table: AP, AP50, AP75, AP of each further range; AR at each limit and range.

    The ranges' first letters name their metrics: APs; all but AR of a limit are at the last limit.
    """
    full, last = size_ranges[0].name, max_dets[-1]
    return (
        Metric("AP", "AP", None, full, last),
        Metric("AP50", "AP", 0.5, full, last),
        Metric("AP75", "AP", 0.75, full, last),
        *(Metric(f"AP{_short(s.name)}", "AP", None, s.name, last) for s in size_ranges[1:]),
        *(Metric(f"AR{limit}", "AR", None, full, limit) for limit in max_dets),
        *(Metric(f"AR{_short(s.name)}", "AR", None, s.name, last) for s in size_ranges[1:]),
    )


def _short(name: str) -> str:
    return "vt" if name == "verytiny" else name[0] if name in _COCO_NAMES else name


_COCO_NAMES = ("tiny", "small", "medium", "large")
_COCO_RANGES = (
    ALL_SIZES,
    SizeRange("small", 0, 32**2),
    SizeRange("medium", 32**2, 96**2),
    SizeRange("large", 96**2, 1e10),
)
_COCO = Protocol(
    name="coco",
    title="COCO",
    iou_thresholds=_COCO_IOUS,
    size_ranges=_COCO_RANGES,
    max_dets=(1, 10, 100),
    limit="class",
    ignore="crowd",
    ignored_in_recall=False,
    interpolation="101 points",
    class_mean="plain",
    metrics=coco_metrics(_COCO_RANGES, 1, 10, 100),
    headline="AP",
)

_AITOD_RANGES = (
    ALL_SIZES,
    SizeRange("verytiny", 0, 8**2),
    SizeRange("tiny", 8**2, 16**2),
    SizeRange("small", 16**2, 32**2),
    SizeRange("medium", 32**2, 1e10),
)


def _aitod_metrics() -> tuple[Metric, ...]:
    first, *others = coco_metrics(_AITOD_RANGES, 1, 100, 1500)
    # The official table has AP25, always -1: 0.25 is none of its thresholds.
    ap25 = Metric("AP25", "AP", 0.25, "all", 1500)
    kinds: tuple[MetricKind, ...] = ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")
    return (first, ap25, *others, *(Metric(kind, kind, None, "all", 1500) for kind in kinds))


# Source: aitodpycocotools, commit 44a230a.
_AITOD = replace(
    _COCO,
    name="aitod",
    title="AI-TOD",
    size_ranges=_AITOD_RANGES,
    max_dets=(1, 100, 1500),
    metrics=_aitod_metrics(),
)

# Source: VisDrone2018-DET-toolkit v1.0.4, commit 0054457. Its range of IoUs, 0.5:0.05:0.95, has
# 0.8500000000000001 in Octave.
_VISDRONE = Protocol(
    name="visdrone",
    title="VisDrone-DET",
    iou_thresholds=tuple(0.5 + k * 0.05 for k in range(10)),
    # Not to 1e10: boxes of any size count.
    size_ranges=(SizeRange("all", 0, float("inf")),),
    max_dets=(1, 10, 100, 500),
    limit="image",
    ignore="regions",
    ignored_in_recall=True,
    interpolation="all points",
    class_mean="by images",
    metrics=(
        Metric("AP_all", "AP", None, "all", 500),
        Metric("AP_50", "AP", 0.5, "all", 500),
        Metric("AP_75", "AP", 0.75, "all", 500),
        *(Metric(f"AR_{limit}", "AR", None, "all", limit) for limit in (1, 10, 100, 500)),
    ),
    headline="AP_all",
    percent=True,
    classes=(
        "pedestrian",
        "people",
        "bicycle",
        "car",
        "van",
        "truck",
        "tricycle",
        "awning-tricycle",
        "bus",
        "motor",
    ),
)

_TINYPERSON_IOUS = (0.25, 0.5, 0.75)
_TINYPERSON_RANGES = (
    SizeRange("all", 1, 1e10),
    SizeRange("tiny", 1, 20**2),
    SizeRange("tiny1", 1, 8**2),
    SizeRange("tiny2", 8**2, 12**2),
    SizeRange("tiny3", 12**2, 20**2),
    SizeRange("small", 20**2, 32**2),
    SizeRange("reasonable", 32**2, 1e10),
)
# Source: TinyBenchmark, commit 36436df: evaluate_tiny.py and eval_MR_multisetup.py.
_TINYPERSON = Protocol(
    name="tinyperson",
    title="TinyPerson",
    iou_thresholds=_TINYPERSON_IOUS,
    size_ranges=_TINYPERSON_RANGES,
    max_dets=(200,),
    limit="class",
    ignore="flags",
    ignored_in_recall=False,
    interpolation="101 points",
    class_mean="plain",
    metrics=tuple(
        Metric(f"{kind}{iou * 100:.0f}_{size.name}", kind, iou, size.name, 200)
        for kind in ("AP", "AR")
        for iou in _TINYPERSON_IOUS
        for size in _TINYPERSON_RANGES
    ),
    headline="AP50_tiny",
    miss_rate=MissRate(
        iou_thresholds=_TINYPERSON_IOUS,
        sides=(
            SizeRange("tiny1", 2, 8),
            SizeRange("tiny2", 8, 12),
            SizeRange("tiny3", 12, 20),
            SizeRange("tiny", 2, 20),
            SizeRange("small", 20, 32),
            SizeRange("All", -1, 1e10),
        ),
        max_dets=1000,
        tolerance=1.25,
        # exp(arange(ln 0.01, ln 1 + 1e-10, ln(100) / 8)): all slightly above the decimals.
        fppi=(
            0.010000000000000004,
            0.01778279410038924,
            0.031622776601683826,
            0.05623413251903498,
            0.10000000000000016,
            0.1778279410038926,
            0.3162277660168386,
            0.5623413251903504,
            1.0000000000000027,
        ),
    ),
)

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (_COCO, _AITOD, _VISDRONE, _TINYPERSON)}


def register_protocol(protocol: Protocol) -> None:
    """Make a protocol known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if protocol.name in PROTOCOLS:
        raise ValueError(f"a protocol {protocol.name!r} exists already, choose another name")
    PROTOCOLS[protocol.name] = protocol


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"found protocol {name!r}, expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
