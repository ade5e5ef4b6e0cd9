"""TinyPerson's miss rates: the official values, and each rule on a few boxes."""

from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.miss_rate import miss_rates, recalls_at_fppi
from efpnbs_d2.protocols import PROTOCOLS

TINYPERSON = PROTOCOLS["tinyperson"]
# Of the nine points, the last is 1, the one before 0.56, the one before that 0.32.
FAR = [500, 500, 5, 5]


def persons(count, **columns):
    """Objects of 5x5 px (tiny1, from 2 to 8), 20 px apart."""
    return [{"box": [20 * n, 0, 5, 5], **columns} for n in range(count)]


def test_official_miss_rates(tinyperson_case):
    case = tinyperson_case
    rates = miss_rates(TINYPERSON, case.truth, case.found)
    assert list(rates) == list(case.expected["stats_MR"])
    assert rates == pytest.approx(case.expected["stats_MR"], abs=1e-12)
    recalls = recalls_at_fppi(TINYPERSON, case.truth, case.found)
    for name, recall in case.expected["MR_recall_at_fppi"].items():
        np.testing.assert_allclose(recalls[name], recall, rtol=0, atol=1e-12, err_msg=name)


def test_the_first_false_positive_wraps_the_curve_around(columns):
    """Two images, one object of two found after a false positive: FPPI is 0.5 from the first rank
    on. Below lies no rank; the official code reads the last one's recall, 1/2, there."""
    found = [{"box": FAR, "score": 0.9}, {"box": [0, 0, 5, 5], "score": 0.8}]
    example = columns(persons(2), found, images=2)
    assert recalls_at_fppi(TINYPERSON, *example)["MR50_tiny1"].tolist() == [[0.5] * 9]
    assert miss_rates(TINYPERSON, *example)["MR50_tiny1"] == pytest.approx(0.5)
    recall = recalls_at_fppi(TINYPERSON, *example, wrap=False)["MR50_tiny1"]
    assert recall.tolist() == [[0] * 7 + [0.5] * 2]
    corrected = miss_rates(TINYPERSON, *example, wrap=False)["MR50_tiny1"]
    assert corrected == pytest.approx(0.5 ** (2 / 9))


def test_from_100_images_on_nothing_wraps(columns):
    found = [{"box": FAR, "score": 0.9}, {"box": [0, 0, 5, 5], "score": 0.8}]
    example = columns(persons(2), found, images=100)
    assert recalls_at_fppi(TINYPERSON, *example)["MR50_tiny1"].tolist() == [[0.5] * 9]
    assert miss_rates(TINYPERSON, *example) == miss_rates(TINYPERSON, *example, wrap=False)


def test_images_without_boxes_count(columns):
    """Four images: after the first false positive FPPI is 0.25, after the second 0.5."""
    found = [
        {"box": [0, 0, 5, 5], "score": 0.9},
        {"box": FAR, "score": 0.8},
        {"box": [20, 0, 5, 5], "score": 0.7},
        {"box": FAR, "score": 0.6},
        {"box": [40, 0, 5, 5], "score": 0.5},
    ]
    recall = recalls_at_fppi(TINYPERSON, *columns(persons(4), found, images=4))["MR50_tiny1"]
    assert recall.tolist() == [[0.25] * 6 + [0.5] + [0.75] * 2]


def test_classes_are_averaged_in_the_log_domain(columns):
    """Class 1 finds one of two objects, class 2 three of four, class 3 has none, class 4 is not
    evaluated: the mean of ln 1/2 and ln 1/4 is ln sqrt(1/8)."""
    objects = [*persons(2), *persons(4, category=2), *persons(1, category=4)]
    found = [
        {"box": [0, 0, 5, 5], "score": 0.9},
        *({"box": [20 * n, 0, 5, 5], "score": 0.8, "category": 2} for n in range(3)),
        *({"box": FAR, "score": 0.99, "category": category} for category in (3, 4)),
    ]
    example = columns(objects, found, classes={1: "a", 2: "b", 3: "c"})
    recall = recalls_at_fppi(TINYPERSON, *example)["MR50_tiny1"]
    assert recall.tolist() == [[0.5] * 9, [0.75] * 9, [-1] * 9]
    assert miss_rates(TINYPERSON, *example)["MR50_tiny1"] == pytest.approx((1 / 8) ** 0.5)


def test_extremes(columns):
    """All found at one point is miss rate 0 as a whole, nothing found 1, nothing there -1."""
    late = [{"box": [0, 0, 5, 5], "score": 0.8}, {"box": FAR, "score": 0.9}]
    rates = miss_rates(TINYPERSON, *columns(persons(1), late, images=2), wrap=False)
    assert rates["MR50_tiny1"] == rates["MR50_tiny"] == rates["MR50_All"] == 0
    assert rates["MR50_tiny2"] == -1
    rates = miss_rates(TINYPERSON, *columns(persons(1), []))
    assert rates["MR50_tiny1"] == 1
    assert set(miss_rates(TINYPERSON, *columns([], late)).values()) == {-1}


@pytest.mark.parametrize(
    ("side", "counts"), [(1.59, False), (1.6, True), (9.99, True), (10.0, False)]
)
def test_detections_of_another_size_vanish(columns, side, counts):
    """tiny1 is 2 to 8 px: from 2 / 1.25 on and below 8 * 1.25 a detection counts."""
    found = [{"box": [500, 500, side, side], "score": 0.9}, {"box": [0, 0, 5, 5], "score": 0.8}]
    example = columns(persons(1), found)
    recall = recalls_at_fppi(TINYPERSON, *example, wrap=False)["MR50_tiny1"]
    assert recall[0, 0] == (0 if counts else 1)
    assert recalls_at_fppi(TINYPERSON, *example, wrap=False)["MR50_All"][0, 0] == 0


@pytest.mark.parametrize(("others", "recall"), [(999, 1), (1000, 0)])
def test_the_limit_comes_before_the_size_filter(columns, others, recall):
    """Per image and class, by score: neither those of image 1 nor of class 2 take a place."""
    large = [{"box": [0, 0, 90, 90], "score": 0.5} for _ in range(others)]
    elsewhere = [{"box": FAR, "score": 0.9, "image": 1}, {"box": FAR, "score": 0.9, "category": 2}]
    found = [{"box": [0, 0, 5, 5], "score": 0.1}, *elsewhere, *large]
    example = columns(persons(1), found, images=2, classes={1: "a", 2: "b"})
    assert recalls_at_fppi(TINYPERSON, *example)["MR50_tiny1"][0, -1] == recall


def test_equal_scores_keep_the_order_of_images_and_of_the_file(columns):
    """Image 0 comes first, and in it the false positive."""
    found = [
        {"box": [0, 0, 5, 5], "score": 0.5, "image": 1},
        {"box": FAR, "score": 0.5},
        {"box": [0, 0, 5, 5], "score": 0.5},
    ]
    example = columns([*persons(1), *persons(1, image=1)], found, images=2)
    recall = recalls_at_fppi(TINYPERSON, *example, wrap=False)["MR50_tiny1"]
    assert recall.tolist() == [[0] * 7 + [1] * 2]
    swapped = [found[2], found[0], found[1]]
    example = columns([*persons(1), *persons(1, image=1)], swapped, images=2)
    recall = recalls_at_fppi(TINYPERSON, *example, wrap=False)["MR50_tiny1"]
    assert recall.tolist() == [[0.5] * 7 + [1] * 2]


def false_positives(columns, flagged, probes):
    """At each threshold, whether one of the probes counts; what else is found, is found at last."""
    found = [{"score": 0.9, **probe} for probe in probes]
    found += [{"box": [300, 0, 5, 5], "score": 0.1}]
    example = columns([*flagged, {"box": [300, 0, 5, 5], "id": 9}], found)
    recalls = recalls_at_fppi(TINYPERSON, *example, wrap=False)
    return [bool(recalls[f"MR{iou}_tiny1"][0, 0] < 1) for iou in (25, 50, 75)]


@pytest.mark.parametrize(
    "flags", [{"ignore": 1}, {"uncertain": 1}, {"side": 8.01}, {"side": 1.99}], ids=str
)
def test_ignored_boxes_absorb_any_number_of_detections(columns, flags):
    flagged = [{"box": [0, 0, 6, 6], "id": 1, **flags}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 6, 6]}] * 3) == [False] * 3
    flagged = [{"box": [0, 0, 6, 6], "id": 1, "side": 8.0}]
    # An object is found once.
    assert false_positives(columns, flagged, [{"box": [0, 0, 6, 6]}] * 2) == [True] * 3


def test_crowds_are_objects_like_others(columns):
    flagged = [{"box": [0, 0, 6, 6], "id": 1, "crowd": 1}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 6, 6]}] * 2) == [True] * 3


def test_the_share_in_an_ignored_box_is_measured_against_the_threshold(columns):
    """A 6x6 detection from x = 0 to 6, an ignored box of that size from 4 on: a third is inside.
    The second formula gives 1/3 / (4/3) * (1 + 1) = 1/2, which has to be exceeded."""
    flagged = [{"box": [4, 0, 6, 6], "ignore": 1, "id": 1}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 6, 6]}]) == [False, True, True]
    # A quarter is inside: as much as the threshold is enough.
    flagged = [{"box": [4.5, 0, 6, 6], "ignore": 1, "id": 1}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 6, 6]}]) == [False, True, True]
    flagged = [{"box": [4, 0, 6, 6], "ignore": 1, "id": 1, "area": 36.1, "side": 6}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 6, 6]}]) == [False, False, False]


def test_a_touch_of_a_large_ignored_box_is_enough(columns):
    """A 5x5 detection of which 6 % lie in a box of ten times its area: 0.06 / 1.06 * 11 = 0.62."""
    flagged = [{"box": [4.7, 0, 50, 5], "ignore": 1, "id": 1}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 5, 5]}]) == [False] * 3
    flagged = [{"box": [5, 0, 50, 5], "ignore": 1, "id": 1}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 5, 5]}]) == [True] * 3


def test_empty_detections_are_in_no_ignored_box(columns):
    """They are in the unlimited range only."""
    flagged = [{"box": [0, 0, 50, 50], "ignore": 1}, {"box": [300, 0, 5, 5]}]
    found = [{"box": [5, 5, 0, 0], "score": 0.9}, {"box": [300, 0, 5, 5], "score": 0.1}]
    recalls = recalls_at_fppi(TINYPERSON, *columns(flagged, found), wrap=False)
    assert recalls["MR50_All"].tolist() == [[0] * 8 + [1]]
    assert recalls["MR50_tiny1"].tolist() == [[1] * 9]


def test_ignored_boxes_are_those_of_the_class(columns):
    """And of the image: neither absorbs what lies on it in another one."""
    flagged = [{"box": [0, 0, 6, 6], "ignore": 1, "category": 2, "id": 1}]
    assert false_positives(columns, flagged, [{"box": [0, 0, 6, 6]}]) == [True] * 3
    objects = [{"box": [0, 0, 6, 6], "ignore": 1, "image": 1}, *persons(1)]
    found = [{"box": [0, 0, 6, 6], "score": 0.9}]
    example = columns(objects, found * 2, images=2)
    assert recalls_at_fppi(TINYPERSON, *example)["MR75_tiny1"][0, 0] == 0


def test_a_match_with_annotation_id_0_is_a_false_positive(columns):
    """Also where the detection lies in an ignored box; an ignored box may have any id."""
    objects = [
        {"box": [0, 0, 6, 6], "id": 0},
        {"box": [0, 0, 30, 30], "id": 1, "ignore": 1},
        {"box": [300, 0, 5, 5], "id": 2},
    ]
    found = [
        {"box": [0, 0, 6, 6], "score": 0.9},
        # Finds the object taken, and is ignored.
        {"box": [0, 0, 6, 6], "score": 0.8},
        {"box": [300, 0, 5, 5], "score": 0.1},
    ]
    recalls = recalls_at_fppi(TINYPERSON, *columns(objects, found, images=2), wrap=False)
    assert recalls["MR50_tiny1"].tolist() == [[0] * 7 + [0.5] * 2]
    objects = [{"box": [0, 0, 6, 6], "id": 0, "ignore": 1}]
    assert false_positives(columns, objects, [{"box": [0, 0, 6, 6]}]) == [False] * 3


def test_the_size_of_an_object_is_that_of_the_file(columns):
    example = columns([{"box": [0, 0, 5, 5], "side": 10}], [])
    rates = miss_rates(TINYPERSON, *example)
    assert (rates["MR50_tiny1"], rates["MR50_tiny2"]) == (-1, 1)


def test_a_protocol_without_miss_rate_is_refused(columns):
    with pytest.raises(ValueError, match="protocol 'coco' has no miss rate"):
        miss_rates(PROTOCOLS["coco"], *columns([], []))


def test_ranges_and_thresholds_are_the_protocols(columns):
    rule = replace(TINYPERSON.miss_rate, iou_thresholds=(0.6,), fppi=(0.5, 1.0))
    found = [{"box": FAR, "score": 0.9}, {"box": [0, 0, 5, 5], "score": 0.8}]
    recalls = recalls_at_fppi(
        replace(TINYPERSON, miss_rate=rule), *columns(persons(1), found), wrap=False
    )
    assert list(recalls) == [f"MR60_{side.name}" for side in rule.sides]
    assert recalls["MR60_tiny1"].tolist() == [[0, 1]]
