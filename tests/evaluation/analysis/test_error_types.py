"""Each kind of error, and what it costs, on boxes whose IoU is seen at a glance."""

from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.analysis.error_costs import error_costs
from efpnbs_d2.evaluation.analysis.error_types import ERROR_TYPES, find_error_types
from efpnbs_d2.evaluation.analysis.outcome import Outcome
from efpnbs_d2.evaluation.matching import match
from efpnbs_d2.protocols import PROTOCOLS

WHOLE_AREA = replace(PROTOCOLS["coco"], interpolation="all points")
CLASSES = {1: "car", 2: "bus"}
# Within [0, 0, 10, 10] a box of width w has IoU w / 10.
OBJECT = [0, 0, 10, 10]


def wide(width, score, **columns):
    return {"box": [0, 0, width, 10], "score": score, **columns}


def typed(columns, objects, detections, protocol=WHOLE_AREA):
    truth, found = columns(objects, detections, images=3, classes=CLASSES)
    outcome = Outcome.of(protocol, truth, found, match(protocol, truth, found), 0)
    return truth, found, outcome, find_error_types(truth, found, outcome)


def kinds(types):
    return [ERROR_TYPES[kind] if kind >= 0 else "" for kind in types.kind]


def costs(example, protocol=WHOLE_AREA, threshold=0.0):
    truth, found, outcome, types = example
    weights = np.isin([1, 2], truth.category[outcome.counted]).astype(int)
    return error_costs(protocol, weights, truth, found, outcome, types, found.scores >= threshold)


def cost_of(result):
    """The kinds that cost anything."""
    return {
        kind: pytest.approx(cost)
        for kind, cost in zip(ERROR_TYPES, result.cost)
        if abs(cost) > 1e-9
    }


@pytest.mark.parametrize(
    "width, category, kind",
    [
        (10, 1, "duplicate"),
        (5, 1, "duplicate"),
        (4.9, 1, "localisation"),
        (1, 1, "localisation"),
        (0.9, 1, "background"),
        (10, 2, "class"),
        (5, 2, "class"),
        (4.9, 2, "both"),
        (1, 2, "both"),
        (0.9, 2, "background"),
    ],
)
def test_overlaps_decide(columns, width, category, kind):
    rows = [wide(10, 0.9), wide(width, 0.8, category=category)]
    _, _, _, types = typed(columns, [{"box": OBJECT}], rows)
    assert kinds(types) == ["", kind]
    assert types.meant.tolist() == [-1, 0 if kind in ("localisation", "class") else -1]
    assert not types.missed.any()


def test_the_own_class_goes_before_others_unless_it_is_found_already(columns):
    other = {"box": [0, 0, 10, 9], "category": 2}
    detections = [wide(10, 0.9), wide(4, 0.8), wide(8, 0.7)]
    _, _, _, types = typed(columns, [{"box": OBJECT}, other], detections)
    # Of width 4: 0.4 with its own class, 40 / 90 with the other. Of width 8: 0.8 with its own, but
    # 72 / 98 with the other, which is still to be found, or not.
    assert kinds(types) == ["", "localisation", "class"]
    assert types.meant.tolist() == [-1, 0, 1]
    assert types.missed.tolist() == [False, False]


def test_the_best_object_is_meant_and_only_of_the_same_image(columns):
    objects = [
        {"box": [0, 0, 10, 10]},
        {"box": [0, 0, 10, 8]},
        {"box": [0, 0, 10, 4], "image": 1},
    ]
    _, _, _, types = typed(columns, objects, [wide(3.9, 0.9)])
    # 39 / 100 and 31.2 / 87.8.
    assert kinds(types) == ["localisation"]
    assert types.meant.tolist() == [0]
    assert types.missed.tolist() == [False, True, True]
    _, _, _, types = typed(columns, objects[2:], [wide(3.9, 0.9)])
    assert kinds(types) == ["background"]


def test_ignored_boxes_take_no_part(columns):
    crowd = {"box": [0, 0, 100, 100], "crowd": True, "category": 2}
    absorbed = {"box": [5, 5, 50, 50], "score": 0.9, "category": 2}
    beside = {"box": [0, 0, 99, 99], "score": 0.9, "category": 1}
    example = typed(columns, [crowd], [absorbed, beside])
    # A class error would be meant for an object; a crowd is none.
    assert kinds(example[3]) == ["", "background"]
    assert not example[3].missed.any()


def test_costs_within_a_class(columns):
    # Of two objects in images of their own one is found at rank 2, behind background: precision
    # 1/2 at recall 1/2. Rank 3 repeats it, rank 4 has the other object's place nearly.
    example = typed(
        columns,
        [{"box": OBJECT}, {"box": OBJECT, "image": 1}],
        [
            wide(10, 0.9, image=2),
            wide(10, 0.8),
            wide(9, 0.7),
            wide(4, 0.6, image=1),
        ],
    )
    result = costs(example, threshold=0.65)
    assert (result.iou, result.background_iou) == (0.5, 0.1)
    assert result.ap == result.ap_per_class[0] == 1 / 4
    # Without background: 1/2. Boxed right, the last is true at rank 4 of 4: 1/2 up to recall 1.
    # The duplicate comes after the last true positive.
    assert cost_of(result) == {"localisation": 1 / 4, "background": 1 / 4}
    assert result.false_positive_cost == pytest.approx(1 / 2 - 1 / 4)
    assert result.false_negative_cost == pytest.approx(1 / 2 - 1 / 4)
    assert result.count.tolist() == [[0, 1, 0, 1, 1, 0], [0] * 6]
    # The misplaced box is below the threshold, so that its object counts as missed there.
    assert result.count_confident.tolist() == [[0, 0, 0, 1, 1, 1], [0] * 6]
    assert np.isnan(result.cost_per_class[1]).all()


def test_costs_of_missed_objects_and_of_duplicates(columns):
    # Found at ranks 1 and 3 of 3, a duplicate between; a third object is missed.
    objects = [{"box": OBJECT, "image": image} for image in range(3)]
    result = costs(typed(columns, objects, [wide(10, 0.9), wide(9, 0.8), wide(10, 0.7, image=1)]))
    assert result.ap == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert cost_of(result) == {
        "duplicate": 2 / 3 - result.ap,
        "missed": 1 / 2 * 1 + 1 / 2 * 2 / 3 - result.ap,
    }
    assert result.count.tolist()[0] == [0, 0, 0, 1, 0, 1]


def test_a_class_error_costs_both_classes(columns):
    # A bus is called a car, with a better score than the only car; another bus is missed.
    objects = [
        {"box": OBJECT},
        {"box": OBJECT, "category": 2, "image": 1},
        {"box": OBJECT, "category": 2, "image": 2},
    ]
    detections = [wide(10, 0.9, image=1), wide(10, 0.8), wide(4, 0.7, category=1, image=2)]
    result = costs(typed(columns, objects, detections))
    assert result.ap_per_class.tolist() == [1 / 2, 0]
    assert result.cost_per_class[:, 0] == pytest.approx([1 / 2, 1 / 2])
    assert result.count.tolist() == [[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    # "both" comes after all that is right, and with one missed bus less still none is found.
    assert cost_of(result) == {"class": 1 / 2}


def test_one_error_per_object_is_put_right_and_none_on_a_found_object(columns):
    # The second object has two misplaced boxes, the first one in front of its own finder.
    objects = [{"box": OBJECT}, {"box": OBJECT, "image": 1}]
    detections = [
        wide(4, 0.95),
        wide(10, 0.9),
        wide(4, 0.7, image=1),
        wide(3, 0.8, image=1),
        wide(10, 0.75, image=2),
    ]
    example = typed(columns, objects, detections)
    assert kinds(example[3]) == ["localisation", "", "localisation", "localisation", "background"]
    result = costs(example)
    assert result.ap == 1 / 4
    # Of the misplaced ones only the better of the two is left, in front of the background.
    assert cost_of(result)["localisation"] == 3 / 4


def test_nothing_left_to_find_is_perfect(columns):
    result = costs(typed(columns, [{"box": OBJECT}], []))
    assert result.ap == 0
    assert cost_of(result) == {"missed": 1}
    assert result.false_negative_cost == 1
    assert result.false_positive_cost == 0
    nothing = costs(typed(columns, [], [wide(10, 0.9)]))
    assert nothing.count[0].tolist() == [0, 0, 0, 0, 1, 0]


def test_interpolation_and_class_mean_are_the_protocols(columns):
    objects = [{"box": OBJECT}, {"box": OBJECT, "category": 2}]
    example = typed(columns, objects, [wide(10, 0.9, image=1), wide(10, 0.8)])
    truth, found, outcome, types = example
    confident = np.ones(2, dtype=bool)
    result = error_costs(WHOLE_AREA, np.array([3, 1]), truth, found, outcome, types, confident)
    assert result.ap == pytest.approx((3 * 1 / 2 + 0) / 4)
    assert cost_of(result) == {"background": 3 * 1 / 2 / 4, "missed": 1 / 4}
    # Half of the objects of a class found: 51 of 101 recalls.
    example = typed(columns, [objects[0], {"box": OBJECT, "image": 1}], [wide(10, 0.8)])
    assert costs(example, PROTOCOLS["coco"]).ap == pytest.approx(51 / 101)
