"""What an evaluation yields."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
            the official code where that changes it ("AP without the id-0 rule").
        notes: what a reader has to know, a sentence each: oddities that changed a number, missing
            images, detections without effect.
    """

    protocol: Protocol
    metrics: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    unofficial: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
