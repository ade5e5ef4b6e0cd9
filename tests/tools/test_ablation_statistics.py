"""Paired differences and their intervals."""

import math

import pytest
from scipy import stats

from efpnbs_d2.tools.ablation_statistics import (
    mean_and_deviation,
    paired_difference,
    t_quantile,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 100])
def test_the_quantile_is_student_s(freedom):
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)


def test_the_interval_is_that_of_the_pairs():
    baseline, run = {1: 10.0, 2: 20.0, 3: 30.0}, {3: 33.0, 1: 11.0, 2: 22.0}
    found = paired_difference(baseline, run)
    # Differences 1, 2, 3: mean 2, deviation 1; t of 2 degrees is 4.3027; 4.3027 / sqrt(3) = 2.484.
    assert (found.mean, found.seeds) == (pytest.approx(2), 3)
    assert found.low == pytest.approx(2 - 2.4841, abs=1e-3)
    assert found.high == pytest.approx(2 + 2.4841, abs=1e-3)
    assert found.sign == 0


def test_an_interval_without_zero_is_significant():
    baseline = {1: 10.0, 2: 20.0}
    assert paired_difference(baseline, {1: 11.0, 2: 21.01}).sign == 1
    assert paired_difference(baseline, {1: 9.0, 2: 18.99}).sign == -1


def test_only_common_seeds_count():
    found = paired_difference({1: 1.0, 2: 5.0}, {2: 6.0, 3: 100.0})
    assert (found.mean, found.seeds, found.sign) == (1.0, 1, 0)
    assert math.isnan(found.low)
    assert math.isnan(paired_difference({1: 1.0}, {}).mean)


def test_the_deviation_is_that_of_a_sample():
    assert mean_and_deviation({1: 1.0, 2: 3.0}) == (2.0, pytest.approx(math.sqrt(2)))
    mean, deviation = mean_and_deviation({1: 4.0})
    assert mean == 4.0 and math.isnan(deviation)
