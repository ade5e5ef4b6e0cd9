"""Means over seeds, and differences of runs that share their seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Difference",
    "mean_and_deviation",
    "paired_difference",
    "pooled_differences",
    "t_quantile",
]

# Of a seed's measure: {seed: value}.
BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Difference:
    """Run minus baseline, over the seeds that both have.

    Attributes:
        mean: NaN without a common seed.
        low, high: ends of the 95% confidence interval, NaN where there are too few values.
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


def pooled_differences(baselines: Sequence[BySeed], runs: Sequence[BySeed]) -> list[Difference]:
    """Each run minus the mean of the baselines, with one spread of chance for all.

    Least squares of value = run + seed, as in a two-way analysis of variance; seeds may be missing.
    What is left over of all runs and baselines together says how much chance does, which few seeds
    of a single pair hardly can. It supposes that chance does equally much to each.
    """
    values = [*baselines, *runs]
    seeds = sorted({seed for by_seed in values for seed in by_seed})
    cells = [(row, seed) for row, by_seed in enumerate(values) for seed in by_seed]
    design = np.zeros((len(cells), len(values) + len(seeds)))
    for line, (row, seed) in zip(design, cells, strict=True):
        line[row] = line[len(values) + seeds.index(seed)] = 1
    measured = np.array([values[row][seed] for row, seed in cells])
    inverse = np.linalg.pinv(design)
    effects = inverse @ measured
    freedom = len(cells) - int(np.linalg.matrix_rank(design))
    left = float(np.sum((measured - design @ effects) ** 2))
    differences = []
    for place, by_seed in enumerate(runs, len(baselines)):
        contrast = np.zeros(design.shape[1])
        contrast[: len(baselines)] = -1 / len(baselines)
        contrast[place] += 1
        weights = contrast @ inverse  # of the measured values
        if not np.allclose(weights @ design, contrast):  # no chain of common seeds between them
            differences.append(Difference(math.nan, math.nan, math.nan, len(by_seed)))
            continue
        mean = float(contrast @ effects)
        half = math.nan
        if freedom:
            half = t_quantile(freedom) * math.sqrt(left / freedom * float(weights @ weights))
        differences.append(Difference(mean, mean - half, mean + half, len(by_seed)))
    return differences


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
