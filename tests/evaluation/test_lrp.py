"""oLRP of rankings short enough for paper; the cases of the official code run in test_evaluate."""

from dataclasses import astuple

import numpy as np
import pytest

from efpnbs_d2.evaluation.lrp import LRP, class_average, optimal_lrp

TP, FP, IGNORED = 1, 0, 2


def lrp(states, overlaps, objects, iou_threshold=0.5):
    scores = np.linspace(0.9, 0.1, len(states))
    return optimal_lrp(np.array(states), np.array(overlaps), scores, objects, iou_threshold)


def assert_equal(found, *expected):
    np.testing.assert_allclose(astuple(found), expected, rtol=1e-12)


def test_error_is_least_where_a_true_positive_ends_the_list():
    # Errors by rank: (0.2 / 0.5 + 0 + 1) / 2 = 0.7; (0.4 + 1 + 1) / 3 = 0.8;
    # (0.4 + 0.3 / 0.5 + 1 + 0) / 3 = 2 / 3, the least; one more false positive: 3 / 4.
    found = lrp([TP, FP, TP, FP], [0.8, 0, 0.7, 0], objects=2)
    assert_equal(found, 2 / 3, (0.2 + 0.3) / 2, 1 / 3, 0, 0.9 - 2 * 0.8 / 3)


def test_overlap_is_read_of_true_positives_only():
    assert lrp([TP, FP], [0.8, 0.4], 1) == lrp([TP, FP], [0.8, 0], 1)
    assert lrp([TP, IGNORED], [0.8, 1], 1) == lrp([TP, IGNORED], [0.8, 0], 1)


def test_localisation_counts_by_the_matching_threshold():
    # 1 - 0.7 is 0.4 of the way from exact to the threshold 0.25, and 0.6 of that to 0.5.
    assert lrp([TP], [0.7], 1, iou_threshold=0.25).value == pytest.approx(0.4)
    assert lrp([TP], [0.7], 1).value == pytest.approx(0.6)


def test_first_minimum_counts():
    # Overlaps of exactly the threshold: 1 everywhere. Nothing is found yet at the first rank.
    assert_equal(lrp([FP, TP], [0, 0.5], objects=2), 1, np.nan, 1, 1, 0.9)


def test_ignored_detections_are_positions():
    assert_equal(lrp([IGNORED, TP], [0, 0.5], objects=2), 1, np.nan, np.nan, 1, 0.9)


def test_ignored_detections_count_nothing():
    found = lrp([IGNORED, TP, IGNORED], [0, 0.9, 0], objects=1)
    assert_equal(found, 0.2, 0.1, 0, 0, 0.5)


def test_equal_scores_are_not_taken_together():
    found = optimal_lrp(np.array([TP, FP]), np.array([1.0, 0]), np.array([0.5, 0.5]), 1)
    assert_equal(found, 0, 0, 0, 0, 0.5)


@pytest.mark.parametrize("states", [[], [FP], [IGNORED]])
def test_nothing_found(states):
    assert_equal(lrp(states, [0.0] * len(states), objects=3), 1, np.nan, np.nan, 1, np.nan)


def test_no_objects():
    assert lrp([FP, IGNORED], [0, 0], objects=0) == LRP(-1, -1, -1, -1, -1)


def test_average_leaves_out_classes_without_a_value():
    assert class_average([0.5, np.nan, -1, 1]) == 0.75
    assert class_average([-1, np.nan]) == -1
