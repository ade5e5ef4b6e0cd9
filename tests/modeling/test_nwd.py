"""Box loss and NMS by the Wasserstein distance, by hand and against the released codes."""

import json
import math
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from hypothesis import given, settings
from hypothesis import strategies as st

from efpnbs_d2.modeling.box_predictor import NWDFastRCNNOutputLayers
from efpnbs_d2.modeling.nwd import nwd_loss, nwd_nms

CASES = Path(__file__).parent / "assigners" / "cases"


def case(name):
    return json.loads((CASES / f"{name}.json").read_text())


def squares(*lefts, side=10.0):
    left = torch.tensor(lefts, dtype=torch.float32)
    return torch.stack([left, left * 0, left + side, left * 0 + side], dim=1)


def test_gold_loss_and_gradient():
    gold = case("nwd_pairs_01")
    predicted, target = (torch.tensor([p[x] for p in gold["pairs"]]).double() for x in "ab")
    expected = gold["loss"]["exp_C12.8_eps1e-6"]
    predicted.requires_grad_()
    loss = nwd_loss(predicted, target)
    assert (loss - torch.tensor(expected["f64"], dtype=torch.float64)).abs().max() < 1e-9
    loss.sum().backward()
    gradient = torch.tensor(expected["grad_pred_f64"], dtype=torch.float64)
    assert (predicted.grad - gradient).abs().max() < 1e-9
    single = nwd_loss(predicted.detach().float(), target.float())
    assert (single - torch.tensor(expected["f32"])).abs().max() < 1e-5


def test_gold_nms():
    gold = case("nwd_nms_01")
    boxes, scores = torch.tensor(gold["boxes"]), torch.tensor(gold["scores"])
    kept = nwd_nms(boxes, scores, torch.zeros(len(boxes)), gold["params"]["threshold"])
    assert kept.tolist() == gold["expected_keep_in_score_order"]


def test_groups_never_meet():
    """Offsets of the largest coordinate would leave the groups 10 px apart, within this radius."""
    boxes = squares(0, 1, 1, 0)
    groups, scores = torch.tensor([0, 0, 1, 1]), torch.tensor([0.9, 0.8, 0.7, 0.6])
    threshold = math.exp(-100 / 12.8)
    assert nwd_nms(boxes, scores, groups, threshold).tolist() == [0, 2]
    assert nwd_nms(boxes, scores, groups * 0, threshold).tolist() == [0]


def test_what_is_suppressed_suppresses_nothing():
    """A chain of boxes 2 px apart, each within 2.08 px of the next: every other one stays."""
    scores = torch.arange(9, 0, -1.0)
    kept = nwd_nms(squares(*range(0, 18, 2)), scores, torch.zeros(9), 0.85)
    assert kept.tolist() == [0, 2, 4, 6, 8]


def test_the_threshold_is_strict_and_ties_keep_their_order():
    boxes = squares(0, 3, 0)
    at_3_px = math.exp(-3 / 12.8)
    for threshold, expected in ((at_3_px * 1.0001, [0, 1]), (at_3_px * 0.9999, [0])):
        assert nwd_nms(boxes, torch.ones(3), torch.zeros(3), threshold).tolist() == expected


def greedy(boxes, scores, groups, radius):
    """The definition, a box at a time."""
    boxes = [gaussian(box) for box in boxes]
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if not any(groups[i] == groups[j] and math.dist(boxes[i], boxes[j]) < radius for j in kept):
            kept.append(i)
    return kept


def gaussian(box):
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2


row = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 6)] * 2, st.integers(0, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(row, st.integers(0, 5)), max_size=25))
def test_nms_is_greedy(rows):
    boxes = [(x, y, x + w, y + h) for (x, y, w, h, _), _ in rows]
    groups, scores = [r[4] for r, _ in rows], [score for _, score in rows]
    threshold = math.exp(-math.sqrt(6.1) / 12.8)  # no distance of whole pixels is as near
    kept = nwd_nms(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(groups, dtype=torch.int64),
        threshold,
    )
    assert kept.tolist() == greedy(boxes, scores, groups, math.sqrt(6.1))


def test_three_thousand_boxes_of_five_levels():
    """The published limits; every box that goes has a better one of its level near it."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(15000, 2, generator=generator) * 400
    boxes = torch.cat([corner, corner + 8], dim=1)
    scores, groups = torch.rand(15000, generator=generator), torch.arange(5).repeat(3000)
    kept = nwd_nms(boxes, scores, groups, 0.85)
    assert 10000 < len(kept) < 15000
    assert torch.equal(scores[kept], scores[kept].sort(descending=True).values)
    again = nwd_nms(boxes[kept], scores[kept], groups[kept], 0.85)
    assert len(again) == len(kept)


@pytest.mark.parametrize("agnostic", [True, False])
def test_the_box_heads_loss_is_that_of_decoded_boxes(agnostic):
    """Of 2 classes: the deltas of the object's own class are decoded, background has no loss."""
    layers = NWDFastRCNNOutputLayers(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
        num_classes=2,
        cls_agnostic_bbox_reg=agnostic,
        box_reg_loss_type="nwd",
        nwd_constant=20.0,
    )
    boxes, targets = squares(0, 20, 40), squares(4, 20, 40)
    classes = torch.tensor([1, 2, 0])  # the second is background
    deltas = torch.zeros(3, 4 if agnostic else 8)
    deltas[0, -4] = 1.0  # a tenth of 10 px: 3 px are left of 4
    deltas[1] = 99.0
    loss = layers.box_reg_loss(boxes, targets, deltas, classes)
    assert loss.item() == pytest.approx((1 - math.exp(-3 / 20)) / 3, abs=1e-4)
    assert layers.box_reg_loss(boxes, targets, deltas, torch.full((3,), 2)) == 0


def test_the_box_heads_constant_is_positive():
    with pytest.raises(ValueError, match="positive, got -3 px"):
        NWDFastRCNNOutputLayers(
            ShapeSpec(channels=4),
            box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
            num_classes=2,
            nwd_constant=-3,
        )


def test_mixed_precision_computes_in_float32():
    half = squares(0, 300).half()
    assert nwd_loss(half, half.flip(0)).dtype == torch.float32
    assert nwd_loss(half, half.flip(0)).isfinite().all()
    assert nwd_nms(half, torch.ones(2), torch.zeros(2), 0.85).tolist() == [0, 1]
