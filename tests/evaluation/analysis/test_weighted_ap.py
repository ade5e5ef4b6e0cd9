"""AP under image weights, on rankings short enough for a pencil."""

from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.analysis.weighted_ap import class_mean, class_weights, weighted_ap
from efpnbs_d2.protocols import PROTOCOLS

# Right in image 0, wrong in image 1, right in image 1; image 0 has one object, image 1 two.
TRUE, IMAGE, OBJECTS = np.array([True, False, True]), np.array([0, 1, 1]), np.array([1, 2])
# Precision and recall at the two true positives; 34 of the 101 recalls are at most 1/3, 15 at most
# 1/7 and 58 at most 4/7.
WEIGHTED = [
    ((1, 1), 1 / 3 * 1 + 1 / 3 * 2 / 3, (34 * 1 + 33 * 2 / 3) / 101),
    ((2, 0), 1, 1),
    ((0, 1), 1 / 2 * 1 / 2, 51 / 101 / 2),
    ((1, 3), 1 / 7 * 1 + 3 / 7 * 4 / 7, (15 * 1 + 43 * 4 / 7) / 101),
    ((0, 0), np.nan, np.nan),
]


@pytest.mark.parametrize("interpolation", ["all points", "101 points"])
def test_an_image_counts_as_often_as_it_weighs(interpolation):
    weights = np.array([w for w, _, _ in WEIGHTED], dtype=np.int32).T
    # Many columns, so that several batches are computed.
    weights = np.tile(weights, 5)
    ap = weighted_ap(TRUE, IMAGE, OBJECTS @ weights, weights, interpolation)
    expected = [
        whole if interpolation == "all points" else sampled for _, whole, sampled in WEIGHTED
    ]
    assert ap == pytest.approx(np.tile(expected, 5), abs=1e-14, nan_ok=True)


@pytest.mark.parametrize("interpolation", ["all points", "101 points"])
def test_precision_at_a_higher_recall_counts_for_the_lower_ones(interpolation):
    # A false positive first: precision 1/2, then 2/3, which holds from the start.
    true, image = np.array([False, True, True]), np.zeros(3, dtype=int)
    once = np.ones((1, 1), dtype=np.int32)
    assert weighted_ap(true, image, np.array([2]), once, interpolation) == pytest.approx([2 / 3])


@pytest.mark.parametrize("interpolation", ["all points", "101 points"])
@pytest.mark.parametrize("true", [[], [False]])
def test_nothing_found_is_zero(interpolation, true):
    image = np.zeros(len(true), dtype=int)
    once = np.ones((1, 2), dtype=np.int32)
    ap = weighted_ap(np.array(true, dtype=bool), image, np.array([1, 1]), once, interpolation)
    assert ap.tolist() == [0, 0]


def test_a_recall_that_is_reached_exactly_counts():
    # 7 of 20 objects: 0.35 is the 36th recall, as numpy.linspace spells it.
    once = np.ones((1, 1), dtype=np.int32)
    true, image = np.ones(7, dtype=bool), np.zeros(7, dtype=int)
    ap = weighted_ap(true, image, np.array([20]), once, "101 points")
    assert ap == pytest.approx([np.count_nonzero(np.linspace(0, 1, 101) <= 7 / 20) / 101])


def test_classes_weigh_alike_or_by_their_images(columns):
    box = {"box": [0, 0, 9, 9]}
    truth, _ = columns(
        [
            {**box, "category": 1, "image": 0},
            {**box, "category": 1, "image": 0},
            {**box, "category": 1, "image": 1},
            {**box, "category": 2, "image": 1, "ignore": True},
        ],
        [],
        images=3,
        classes={1: "car", 2: "bus", 3: "van"},
    )
    weights = np.array([[1, 1, 0], [1, 0, 2], [1, 5, 1]], dtype=np.int32)
    counted = ~truth.ignore
    plain = class_weights(PROTOCOLS["coco"], truth, counted, weights)
    assert plain.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    by_images = replace(PROTOCOLS["coco"], class_mean="by images")
    # VisDrone's images count with ignored boxes alone, too.
    assert class_weights(by_images, truth, counted, weights).tolist() == [
        [2, 1, 2],
        [1, 0, 2],
        [0, 0, 0],
    ]


def test_class_mean():
    values = np.array([[0.5, 0.5, np.nan], [np.nan, 0.2, np.nan]])
    weights = np.array([[1, 3, 0], [0, 1, 0]])
    assert class_mean(values, weights) == pytest.approx(
        [0.5, (3 * 0.5 + 0.2) / 4, np.nan], nan_ok=True
    )
    assert class_mean(values[:, :2], np.array([[1], [1]])) == pytest.approx([0.25, 0.35])
