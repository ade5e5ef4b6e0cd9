"""What became of boxes, from matches written by hand."""

from dataclasses import replace

import numpy as np

from efpnbs_d2.evaluation.analysis.outcome import CUT, Outcome, class_index, class_rankings
from efpnbs_d2.evaluation.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, match
from efpnbs_d2.protocols import ALL_SIZES, PROTOCOLS, SizeRange

FP, TP, IG = FALSE_POSITIVE, TRUE_POSITIVE, IGNORED
TWO = replace(
    PROTOCOLS["coco"],
    iou_thresholds=(0.5, 0.9),
    size_ranges=(ALL_SIZES, SizeRange("small", 0, 50)),
    max_dets=(2,),
    metrics=(),
)
CLASSES = {3: "car", 7: "bus"}


def example(columns):
    """An object that is found twice, one that is found loosely, a crowd, and one of no class."""
    return columns(
        [
            {"box": [0, 0, 10, 10], "category": 3, "image": 0},
            {"box": [0, 0, 10, 10], "category": 3, "image": 1},
            {"box": [50, 50, 50, 50], "category": 7, "crowd": True},
            {"box": [0, 0, 10, 10], "category": 5},
        ],
        [
            {"box": [0, 0, 10, 8], "category": 3, "image": 1, "score": 0.8},
            {"box": [0, 0, 10, 10], "category": 3, "score": 0.6},
            {"box": [0, 0, 10, 10], "category": 3, "score": 0.8},
            {"box": [0, 0, 10, 9], "category": 3, "score": 0.5},
            {"box": [60, 60, 9, 9], "category": 7, "score": 0.9},
            {"box": [0, 0, 10, 10], "category": 5, "score": 0.9},
        ],
        images=2,
        classes=CLASSES,
    )


def test_states_finders_and_rankings(columns):
    truth, found = example(columns)
    matches = match(TWO, truth, found)
    outcome = Outcome.of(TWO, truth, found, matches, 0)
    assert outcome.iou == 0.5
    # The third of image 0 is over the limit, category 5 is not evaluated.
    assert outcome.state.tolist() == [TP, FP, TP, CUT, IG, CUT]
    assert outcome.target.tolist() == [1, -1, 0, -1, -1, -1]
    assert outcome.finder.tolist() == [2, 0, -1, -1]
    assert outcome.counted.tolist() == outcome.objects.tolist() == [True, True, False, False]
    # Of equal scores the one of the first image is first.
    assert [ranking.tolist() for ranking in outcome.rankings] == [[2, 0, 1], [4]]
    assert Outcome.of(TWO, truth, found, matches, 1).finder.tolist() == [2, -1, -1, -1]
    positions = class_rankings(truth, found, matches)
    assert [matches.order[p].tolist() for p in positions] == [[2, 0, 1], [4]]


def test_objects_that_some_detections_find(columns):
    truth, found = example(columns)
    outcome = Outcome.of(TWO, truth, found, match(TWO, truth, found), 0)
    assert outcome.found_by(found.scores > 0).tolist() == [True, True, False, False]
    some = np.array([False, True, True, True, True, True])
    assert outcome.found_by(some).tolist() == [True, False, False, False]


def test_ignored_boxes_that_recall_counts_are_no_objects(columns):
    truth, found = columns(
        [{"box": [0, 0, 10, 10], "ignore": True}, {"box": [40, 0, 10, 10]}],
        [{"box": [0, 0, 10, 10], "score": 0.5}],
    )
    visdrone = PROTOCOLS["visdrone"]
    outcome = Outcome.of(visdrone, truth, found, match(visdrone, truth, found), 0)
    assert outcome.counted.tolist() == [True, True]
    assert outcome.objects.tolist() == [False, True]
    # COCO takes no notice of the flag.
    coco = PROTOCOLS["coco"]
    outcome = Outcome.of(coco, truth, found, match(coco, truth, found), 0)
    assert outcome.objects.tolist() == [True, True]
    # A protocol of one's own may count crowds, and those flagged.
    for rule, objects in (("crowd", [True, True]), ("flags", [False, True])):
        own = replace(coco, ignored_in_recall=True, ignore=rule)
        outcome = Outcome.of(own, truth, found, match(own, truth, found), 0)
        assert outcome.counted.tolist() == [True, True]
        assert outcome.objects.tolist() == objects


def test_removed_boxes_are_ignored_and_indices_move(columns):
    truth, found = example(columns)
    truth_kept = np.array([False, True, True, True])
    found_kept = np.array([True, True, False, True, True, True])
    part = truth.select(truth_kept), found.select(found_kept)
    outcome = Outcome.of(TWO, *part, match(TWO, *part), 0).among(truth_kept, found_kept)
    assert outcome.state.tolist() == [TP, FP, IG, FP, IG, CUT]
    assert outcome.target.tolist() == [1, -1, -1, -1, -1, -1]
    assert outcome.finder.tolist() == [-1, 0, -1, -1]
    assert outcome.objects.tolist() == outcome.counted.tolist() == [False, True, False, False]
    assert [ranking.tolist() for ranking in outcome.rankings] == [[0, 1, 3], [4]]


def test_class_index(columns):
    truth, _ = example(columns)
    assert class_index(truth, np.array([7, 3, 5, 0, 3])).tolist() == [1, 0, -1, -1, 0]
    assert class_index(truth, np.array([], dtype=int)).tolist() == []
