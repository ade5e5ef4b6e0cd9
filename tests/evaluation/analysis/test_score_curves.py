"""What follows from the scores, on a few detections."""

import numpy as np
import pytest

from efpnbs_d2.evaluation.accumulation import RECALLS
from efpnbs_d2.evaluation.analysis.outcome import Outcome
from efpnbs_d2.evaluation.analysis.score_curves import best_f1, calibrate, precision_recall
from efpnbs_d2.evaluation.matching import match
from efpnbs_d2.protocols import PROTOCOLS

COCO = PROTOCOLS["coco"]
CLASSES = {1: "car", 2: "bus"}


def judged(columns, *detections, objects=4):
    """Truth, detections and outcome of `objects` cars; "T0.9" finds the next one with score 0.9,
    "F0.9" finds nothing and "I0.9" a crowd."""
    cars = [{"box": [50 * k, 0, 10, 10]} for k in range(objects)]
    crowd = {"box": [0, 500, 99, 99], "crowd": True}
    boxes = {"T": iter([car["box"] for car in cars]), "F": None, "I": None}
    rows = [
        {
            "box": {"F": [0, 300, 9, 9], "I": [9, 509, 9, 9]}.get(d[0]) or next(boxes["T"]),
            "score": float(d[1:]),
        }
        for d in detections
    ]
    truth, found = columns([*cars, crowd], rows, classes=CLASSES)
    return truth, found, Outcome.of(COCO, truth, found, match(COCO, truth, found), 0)


def best_of(truth, found, outcome):
    best = best_f1(truth, found, outcome)
    return [column[0] for column in (best.threshold, best.f1, best.precision, best.recall)]


def test_best_f1(columns):
    # F1 = 2 tp / (detections + objects): 2/4, 2/5, 4/6, 4/7.
    example = judged(columns, "T0.9", "F0.8", "T0.7", "F0.6", objects=3)
    assert best_of(*example) == pytest.approx([0.7, 2 / 3, 2 / 3, 2 / 3])
    best = best_f1(*example)
    assert best.iou == 0.5
    assert best.keeps(*example[:2]).tolist() == [True, True, True, False]
    # A class without true positives has no threshold, and no confident detection.
    assert np.isnan([best.threshold[1], best.f1[1], best.precision[1], best.recall[1]]).all()


def test_equal_scores_are_kept_together(columns):
    # With 0.9 alone: 2/3. The true positive of 0.5 costs two false ones: 4/6, no better.
    example = judged(columns, "T0.9", "T0.5", "F0.5", "F0.5", objects=2)
    assert best_of(*example) == pytest.approx([0.9, 2 / 3, 1, 1 / 2])
    example = judged(columns, "T0.9", "F0.5", "T0.5", objects=2)
    assert best_of(*example) == pytest.approx([0.5, 4 / 5, 2 / 3, 1])


def test_ignored_detections_do_not_count(columns):
    example = judged(columns, "I0.95", "T0.9", "I0.85", "T0.8", objects=2)
    assert best_of(*example) == [0.8, 1, 1, 1]
    assert best_f1(*example).keeps(*example[:2]).tolist() == [True] * 4


def test_nothing_found_has_no_threshold(columns):
    for detections in ([], ["F0.9"], ["I0.9"]):
        truth, found, outcome = judged(columns, *detections)
        best = best_f1(truth, found, outcome)
        assert np.isnan(best.threshold).all()
        assert not best.keeps(truth, found).any()


def test_detections_of_other_categories_are_not_kept(columns):
    truth, found = columns(
        [{"box": [0, 0, 9, 9], "category": 2}],
        [{"box": [0, 0, 9, 9], "category": c, "score": 0.9} for c in (2, 3)],
        classes=CLASSES,
    )
    outcome = Outcome.of(COCO, truth, found, match(COCO, truth, found), 0)
    assert best_f1(truth, found, outcome).keeps(truth, found).tolist() == [True, False]


def test_calibration(columns):
    # 0.5 is in the upper bin, ignored detections are in none.
    _, found, outcome = judged(columns, "T1.0", "T0.8", "F0.7", "T0.5", "F0.4", "T0.2", "I0.1")
    result = calibrate(found, outcome, bins=2)
    assert result.edges.tolist() == [0, 0.5, 1]
    assert result.count.tolist() == [2, 4]
    assert result.score == pytest.approx([0.3, 0.75])
    assert result.precision == pytest.approx([0.5, 0.75])
    assert result.error == pytest.approx(2 / 6 * 0.2)
    assert calibrate(found, outcome).edges == pytest.approx(np.arange(21) / 20)


def test_empty_bins_and_scores_beyond_one(columns):
    _, found, outcome = judged(columns, "F1.5", "F-0.5")
    result = calibrate(found, outcome, bins=3)
    assert result.count.tolist() == [1, 0, 1]
    assert result.score == pytest.approx([-0.5, np.nan, 1.5], nan_ok=True)
    assert result.error == pytest.approx(1)
    _, found, outcome = judged(columns)
    assert np.isnan(calibrate(found, outcome).error)


def test_curves_are_averaged_over_thresholds_and_classes():
    # (T, 101, K): the second class has no objects.
    precision = np.full((2, 101, 3), -1.0)
    precision[:, :, 0] = [[0.8], [0.4]]
    precision[:, :, 2] = [[0.2], [0.0]]
    weights = np.array([3, 0, 1])
    first = precision_recall(precision[:1], weights, 0.5)
    assert first.iou == 0.5
    assert first.recall is RECALLS
    assert first.precision[0] == pytest.approx([0.8] * 101)
    assert np.isnan(first.precision[1]).all()
    assert first.mean == pytest.approx([(3 * 0.8 + 0.2) / 4] * 101)
    both = precision_recall(precision, weights, None)
    assert both.precision[0] == pytest.approx([0.6] * 101)
    assert both.mean == pytest.approx([(3 * 0.6 + 0.1) / 4] * 101)
    assert np.isnan(precision_recall(precision, np.zeros(3), None).mean).all()
