"""Means over seeds, and differences of runs that share their seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Difference", "mean_and_deviation", "paired_difference", "t_quantile"]

# Of a seed's measure: {seed: value}.
BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Difference:
    """Run minus baseline, over the seeds that both have.

    Attributes:
        mean: NaN without a common seed.
        low, high: ends of the 95% confidence interval, NaN below two seeds.
        seeds: how many.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero; 0: not significant."""
        return int(self.low > 0) - int(self.high < 0)


def mean_and_deviation(values: BySeed) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN where there are too few values."""
    numbers = np.array([*values.values()])
    mean = float(numbers.mean()) if numbers.size else math.nan
    return mean, float(numbers.std(ddof=1)) if numbers.size > 1 else math.nan


def paired_difference(baseline: BySeed, run: BySeed) -> Difference:
    """The mean difference of the same seeds, with Student's t interval.

    What a seed does to both (initial weights, data order) cancels out; the interval says how much
    of the rest is chance of the seeds. It knows nothing of the choice of images.
    """
    pairs = {seed: run[seed] - value for seed, value in baseline.items() if seed in run}
    mean, deviation = mean_and_deviation(pairs)
    if len(pairs) < 2:
        return Difference(mean, math.nan, math.nan, len(pairs))
    half = t_quantile(len(pairs) - 1) * deviation / math.sqrt(len(pairs))
    return Difference(mean, mean - half, mean + half, len(pairs))


def t_quantile(freedom: int, central: float = 0.95) -> float:
    """The value that Student's t exceeds in magnitude with probability ``1 - central``.

    With t = sqrt(freedom) tan(angle), its density is cos(angle)^(freedom - 1), which is integrated
    numerically.
    """
    angle = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angle) ** (freedom - 1)
    share = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    found = np.interp(central, share / share[-1], angle)
    return float(math.sqrt(freedom) * math.tan(found))
