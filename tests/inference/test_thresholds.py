"""Score thresholds of the classes: the checkpoint's own, or one for all."""

import pytest
import torch
from detectron2.structures import Instances

from efpnbs_d2.inference.thresholds import DEFAULT_SCORE, keep_confident, score_thresholds

CARD = {"score_thresholds": {"rule": "best F1", "values": [0.25, None, 0.875]}}


def test_the_cards_thresholds_count_unless_another_is_asked_for():
    assert score_thresholds(CARD, 3) == [0.25, DEFAULT_SCORE, 0.875]
    assert score_thresholds(CARD, 3, min_score=0.0) == [0.0] * 3
    assert score_thresholds({}, 2) == [DEFAULT_SCORE] * 2


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_that_no_detection_can_have_is_refused(score):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        score_thresholds({}, 2, min_score=score)


def test_each_class_has_its_own_threshold():
    found = Instances((10, 10))
    found.scores = torch.tensor([0.3, 0.3, 0.9, 0.2])
    found.pred_classes = torch.tensor([0, 1, 1, 0])
    kept = keep_confident(found, [0.25, 0.5])
    assert kept.scores.tolist() == pytest.approx([0.3, 0.9])
    assert kept.pred_classes.tolist() == [0, 1]


def test_a_threshold_keeps_the_detection_it_was_taken_from():
    """0.9 in float32 is less than 0.9; a threshold taken from a score is the float32."""
    found = Instances((10, 10))
    found.scores = torch.tensor([0.9])
    found.pred_classes = torch.tensor([0])
    assert len(keep_confident(found, [0.9])) == 1
    assert len(keep_confident(found, [found.scores.double().item()])) == 1
    assert len(keep_confident(found, [0.9001])) == 0
