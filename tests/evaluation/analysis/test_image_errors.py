"""Counting the errors of images, and taking the worst."""

import numpy as np

from efpnbs_d2.evaluation.analysis.error_types import ERROR_TYPES, find_error_types
from efpnbs_d2.evaluation.analysis.image_errors import count_image_errors
from efpnbs_d2.evaluation.analysis.outcome import Outcome
from efpnbs_d2.evaluation.matching import match
from efpnbs_d2.protocols import PROTOCOLS

COCO = PROTOCOLS["coco"]
FAR = [500, 500, 10, 10]


def at(place, image, score=None, **columns):
    row = {"box": [50 * place, 0, 10, 10], "image": image, **columns}
    return row if score is None else {**row, "score": score}


def errors_of(columns, objects, detections, images, threshold=0.5, worst=12):
    truth, found = columns(objects, detections, images=images)
    outcome = Outcome.of(COCO, truth, found, match(COCO, truth, found), 0)
    kind = find_error_types(truth, found, outcome).kind
    confident = found.scores >= threshold
    return count_image_errors(truth, found, outcome, kind, confident, worst)


def test_counts_and_order(columns):
    # Image 0: nothing wrong; 1: missed, as its detection is weak; 2: one of two missed;
    # 3: a false positive, no objects; 4: both errors; 5: two false positives; 6: empty.
    result = errors_of(
        columns,
        [at(0, 0), at(0, 1), at(0, 2), at(1, 2), at(0, 4)],
        [
            at(0, 0, 0.9),
            at(0, 1, 0.4),
            at(0, 2, 0.9),
            at(3, 3, 0.5),
            at(3, 4, 0.9),
            at(4, 4, 0.1),
            at(0, 5, 0.9),
            at(1, 5, 0.9),
        ],
        images=7,
    )
    assert result.objects.tolist() == [1, 1, 2, 0, 1, 0, 0]
    assert result.found.tolist() == [1, 0, 1, 0, 0, 0, 0]
    assert result.missed.tolist() == [0, 1, 1, 0, 1, 0, 0]
    assert result.false_positives.tolist() == [0, 0, 0, 1, 1, 2, 0]
    # Of images with as many errors the one that misses more of its objects is worse.
    assert result.order.tolist() == [4, 5, 1, 2, 3, 0, 6]
    # Images without errors are not among the worst.
    assert [boxes.image for boxes in result.worst] == [4, 5, 1, 2, 3]


def test_so_many_of_the_worst(columns):
    objects = [at(0, image) for image in range(5)]
    result = errors_of(columns, objects, [], images=5, worst=2)
    assert [boxes.image for boxes in result.worst] == [0, 1]
    assert len(errors_of(columns, objects * 4, [], images=20).worst) == 5


def test_boxes_of_the_worst(columns):
    objects = [at(0, 1), at(1, 1), at(2, 1, crowd=True), at(0, 0), at(4, 1, category=9)]
    detections = [
        at(1, 1, 0.6),
        at(1, 1, 0.8),
        at(2, 1, 0.7),
        at(3, 1, 0.9),
        at(0, 1, 0.1),
        at(0, 0, 0.9),
        at(4, 1, 0.9, category=9),
    ]
    (boxes,) = errors_of(columns, objects, detections, images=2).worst
    assert (boxes.image, boxes.name, boxes.size) == (1, "1", (1000, 1000))
    # By score; without the weak one, the other image's, and the one that is not evaluated.
    assert boxes.found_scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert boxes.found_boxes[:, 0].tolist() == [150, 50, 100, 50]
    assert boxes.found_category.tolist() == [1] * 4
    assert boxes.found_state.tolist() == [0, 1, 2, 0]
    assert [ERROR_TYPES[k] if k >= 0 else "" for k in boxes.found_error] == [
        "background",
        "",
        "",
        "duplicate",
    ]
    assert boxes.true_boxes[:, 0].tolist() == [0, 50, 100, 200]
    assert boxes.true_category.tolist() == [1, 1, 1, 9]
    assert boxes.true_state.tolist() == [0, 1, 2, 2]
    assert boxes.true_state.dtype == boxes.found_state.dtype == np.int8
