"""Paired differences and their intervals."""

import math

import pytest
from scipy import stats

from efpnbs_d2.tools.ablation_statistics import (
    mean_and_deviation,
    paired_difference,
    pooled_differences,
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


def test_a_pair_alone_is_that_pair():
    baseline, run = {1: 10.0, 2: 20.0, 3: 30.0}, {3: 33.0, 1: 11.0, 2: 22.5}
    found = pooled_differences([baseline], [run])[0]
    for name in ("mean", "low", "high", "seeds"):
        expected = getattr(paired_difference(baseline, run), name)
        assert getattr(found, name) == pytest.approx(expected)


def test_chance_is_that_of_all_runs():
    # Beside run and seed: fpn (-1, 1), again (1, -1), cem (0, 0). Freedom 6 - 3 - 1 = 2, the sum
    # of squares 4: a deviation of sqrt(2). The mean over 2 seeds of cem minus that of both others:
    # a variance of 2 * (1 / 2 + 1 / 4).
    fpn, again, cem = {1: 9.0, 2: 21.0}, {1: 12.0, 2: 20.0}, {1: 13.0, 2: 23.0}
    found = pooled_differences([fpn, again], [cem])[0]
    assert (found.mean, found.seeds) == (pytest.approx(18 - 15.5), 2)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(1.5))
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_a_missing_seed_is_seen_at_its_place():
    fpn, again, cem = {1: 9.0, 2: 19.0}, {1: 10.0, 2: 20.0}, {2: 20.5}
    found = pooled_differences([fpn, again], [cem, {}])
    assert (found[0].mean, found[0].seeds) == (pytest.approx(1.0), 1)
    assert found[0].high == pytest.approx(1.0)  # no chance at all in what was measured
    assert math.isnan(found[1].mean) and found[1].seeds == 0


@pytest.mark.parametrize("run", [{3: 1.0}, {}])
def test_runs_without_a_common_seed_have_no_difference(run):
    found = pooled_differences([{1: 1.0, 2: 2.0}], [run])[0]
    assert math.isnan(found.mean) and found.sign == 0
    assert math.isnan(pooled_differences([{}], [run])[0].mean)


def test_one_seed_has_no_interval():
    found = pooled_differences([{1: 1.0}], [{1: 3.0}])[0]
    assert found.mean == pytest.approx(2.0) and math.isnan(found.low)


def test_the_deviation_is_that_of_a_sample():
    assert mean_and_deviation({1: 1.0, 2: 3.0}) == (2.0, pytest.approx(math.sqrt(2)))
    mean, deviation = mean_and_deviation({1: 4.0})
    assert mean == 4.0 and math.isnan(deviation)
