"""Is the difference between two detectors real? A paired bootstrap over images."""

from dataclasses import dataclass

__all__ = ["Comparison", "Difference"]


@dataclass(frozen=True)
class Difference:
    """One metric of two detectors on the same images, in the protocol's units.

    Attributes:
        name: as in ``Protocol.metrics``.
        first: value of the first detector.
        second: value of the second.
        low, high: 95% interval of second - first.
        p_value: two-sided; small where the sign of the difference is sure.
    """

    name: str
    first: float
    second: float
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """second - first."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """Two detectors on one ground truth.

    Attributes:
        resamples: how often the images were drawn again.
        seed: of the draws.
        differences: the headline first, then the other AP metrics in the protocol's order.
    """

    resamples: int
    seed: int
    differences: tuple[Difference, ...]
