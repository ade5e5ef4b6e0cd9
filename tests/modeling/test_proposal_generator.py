"""The RPN that takes no loss from ignored regions, on anchors given by hand."""

import math

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from efpnbs_d2.modeling.assigners import (
    HierarchicalAssigner,
    RankingAssigner,
    ReceptiveFieldAnchorGenerator,
)
from efpnbs_d2.modeling.ignore import TargetsWithRegions
from efpnbs_d2.modeling.proposal_generator import IgnoringRPN


@pytest.fixture(autouse=True)
def storage():
    with EventStorage() as storage:
        yield storage


def boxes(*rows):
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))


def target(*objects):
    instances = Instances((80, 80))
    instances.gt_boxes = boxes(*objects)
    return instances


def rpn(cls, *, batch_size=64, rule=None, **options):
    return cls(
        in_features=["p2"],
        head=nn.Identity(),
        anchor_generator=DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0]], strides=[4]),
        anchor_matcher=rule or Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=batch_size,
        positive_fraction=0.5,
        **{"pre_nms_topk": (10, 10), "post_nms_topk": (10, 10), **options},
    )


REGION = boxes((20, 0, 60, 40))
OBJECT = (30, 10, 40, 20)
ANCHORS = [
    boxes(
        OBJECT,
        (30, 10, 40, 24),  # IoU 100 / 140: foreground
        (30, 10, 40, 30),  # IoU 100 / 200: neither, also in the stock RPN
        (45, 10, 55, 20),  # inside the region
        (15, 10, 25, 20),  # half inside
    ),
    boxes(
        (14, 10, 24, 20),  # 40 % inside
        (0, 0, 10, 10),
        (0, 0, 80, 80),  # the region covers a quarter of it
    ),
]


def labels_of(cls, targets, **options):
    labels, _ = rpn(cls, **options).label_and_sample_anchors(ANCHORS, targets)
    return [label.tolist() for label in labels]


def test_negative_anchors_inside_a_region_take_no_loss():
    targets = TargetsWithRegions([target(OBJECT), target()], [REGION, REGION])
    assert labels_of(RPN, targets) == [[1, 1, -1, 0, 0, 0, 0, 0], [0] * 8]
    assert labels_of(IgnoringRPN, targets) == [
        [1, 1, -1, -1, -1, 0, 0, 0],
        [-1, -1, -1, -1, -1, 0, 0, 0],  # no object: what is inside is still no background
    ]


def test_the_best_anchor_of_a_small_object_stays_positive():
    """4 px in an anchor of 10: IoU 0.16, foreground as the object's best match only."""
    targets = TargetsWithRegions([target((30, 10, 34, 14))], [REGION])
    assert labels_of(RPN, targets) == [[1, 0, 0, 0, 0, 0, 0, 0]]
    assert labels_of(IgnoringRPN, targets) == [[1, -1, -1, -1, -1, 0, 0, 0]]


def test_regions_belong_to_their_image():
    targets = TargetsWithRegions([target(), target()], [boxes(), REGION])
    assert labels_of(IgnoringRPN, targets) == [[0] * 8, [-1] * 5 + [0] * 3]


def test_ignored_anchors_take_no_place_in_the_sample():
    """4 of 8 places are for background, and only 3 of 8 anchors are not ignored."""
    targets = TargetsWithRegions([target()], [REGION])
    for _ in range(5):
        assert labels_of(IgnoringRPN, targets, batch_size=4) == [[-1] * 5 + [0] * 3]
    (stock,) = labels_of(RPN, targets, batch_size=4)
    assert stock.count(0) == 4


def test_the_stock_sample_size_is_kept():
    targets = TargetsWithRegions([target(OBJECT)], [boxes((0, 0, 12, 12))])
    (labels,) = labels_of(IgnoringRPN, targets, batch_size=2)
    assert sorted(labels) == [-1] * 6 + [0, 1]


def test_ignored_anchors_have_no_gradient():
    targets = TargetsWithRegions([target(OBJECT)], [REGION])
    gradients = {}
    for cls in (RPN, IgnoringRPN):
        model = rpn(cls)
        gt_labels, gt_boxes = model.label_and_sample_anchors(ANCHORS, targets)
        logits = torch.zeros(1, 8, requires_grad=True)
        deltas = torch.full((1, 8, 4), 0.1, requires_grad=True)
        losses = model.losses(ANCHORS, [logits], gt_labels, [deltas], gt_boxes)
        sum(losses.values()).backward()
        gradients[cls] = logits.grad[0]
        assert deltas.grad[0, 3:].abs().sum() == 0
        assert deltas.grad[0, :2].abs().sum() > 0
    # At logit 0 the gradient of the cross-entropy is +-1/2, over 64 sampled anchors an image
    assert (gradients[RPN] * 128).tolist() == [-1, -1, 0, 1, 1, 1, 1, 1]
    assert (gradients[IgnoringRPN] * 128).tolist() == [-1, -1, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("carried", [True, False])
def test_without_regions_it_is_the_stock_rpn_bit_for_bit(carried):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(400, 2, generator=generator) * 80 - 6  # some cross the image's border
    anchors = [Boxes(torch.cat([corner, corner + 12], dim=1))]
    targets = [target((10, 10, 20, 20), (40, 30, 55, 44)), target(), target((5, 60, 12, 70))]
    if carried:
        targets = TargetsWithRegions(targets, [boxes()] * 3)
    results = []
    for cls in (RPN, IgnoringRPN):
        torch.manual_seed(1)
        # The boundary rule of the stock RPN still comes before the sampling
        model = rpn(cls, batch_size=32, anchor_boundary_thresh=0)
        labels, matched = model.label_and_sample_anchors(anchors, targets)
        results.append([*labels, *matched, torch.rand(3)])
    assert (results[0][0] == 0).sum() > 0
    for expected, found in zip(*results, strict=True):
        assert torch.equal(expected, found)


RULES = [HierarchicalAssigner(), RankingAssigner(topk=2)]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_respects_ignored_regions(rule):
    """The released codes leave regions without effect, whatever their options say."""
    every = Boxes.cat(ANCHORS)
    inside = torch.tensor([1, 1, 1, 1, 1, 0, 0, 0], dtype=torch.bool)
    targets = [target(OBJECT), target()]
    ours = rpn(IgnoringRPN, rule=rule)
    plain, _ = ours.label_and_sample_anchors(ANCHORS, targets)
    labels, _ = ours.label_and_sample_anchors(ANCHORS, TargetsWithRegions(targets, [REGION] * 2))
    assert (plain[0] == 1).sum() == (rule.topk if isinstance(rule, RankingAssigner) else 3)
    assert (plain[0][inside] == 0).any() and len(every) == 8
    for label, without in zip(labels, plain, strict=True):
        assert torch.equal(label == 1, without == 1)
        assert (label[inside & (without == 0)] == -1).all()
        assert torch.equal(label[~inside], without[~inside])


@pytest.mark.parametrize("rule", RULES)
def test_what_is_learnt_decodes_to_the_object(rule):
    """Targets are encoded against the priors that proposals are decoded from: IoU 1, not 0.81."""
    generator = ReceptiveFieldAnchorGenerator(strides=[4, 8], depth=50)
    anchors = generator([torch.zeros(1, 1, 24, 24), torch.zeros(1, 1, 12, 12)])
    model = rpn(IgnoringRPN, rule=rule, batch_size=10**4, nms_thresh=0.99)
    objects = [target((10, 10, 17, 15), (40, 30, 52, 49)), target((60, 60, 64, 66))]
    labels, matched = model.label_and_sample_anchors(anchors, objects)
    every = Boxes.cat(anchors).tensor
    deltas = [model.box2box_transform.get_deltas(every, boxes) for boxes in matched]
    losses = model.losses(
        anchors,
        [torch.zeros(2, len(every))],
        labels,
        [torch.stack(deltas)],
        matched,
    )
    assert losses["loss_rpn_loc"] == 0
    for label, delta, boxes, image in zip(labels, deltas, matched, objects, strict=True):
        foreground = label == 1
        assert foreground.sum() >= 2 * len(image)
        again = generator([torch.zeros(1, 1, 24, 24), torch.zeros(1, 1, 12, 12)])
        decoded = model.box2box_transform.apply_deltas(delta, Boxes.cat(again).tensor)
        torch.testing.assert_close(decoded[foreground], boxes[foreground], atol=1e-4, rtol=0)
        assert {tuple(row) for row in boxes[foreground].tolist()} == {
            tuple(row) for row in image.gt_boxes.tensor.tolist()
        }


def test_the_nwd_loss_is_that_of_decoded_boxes():
    """Deltas of 0.5 shift an anchor of 10 px by 5 px: 1 - exp(-5 / 12.8) for each coordinate."""
    model = rpn(IgnoringRPN, box_reg_loss_type="nwd", loss_weight={"loss_rpn_loc": 10.0})
    stock = rpn(RPN)
    targets = [target(OBJECT)]
    labels, matched = model.label_and_sample_anchors(ANCHORS, targets)
    foreground = (labels[0] == 1).nonzero()[:, 0].tolist()
    assert foreground == [0, 1]
    deltas = torch.zeros(1, 8, 4)
    deltas[0, 0, 0] = 0.5
    deltas[0, 2:] = 99.0  # no foreground: no box loss
    logits = [torch.zeros(1, 8)]
    losses = model.losses(ANCHORS, logits, labels, [deltas.requires_grad_()], matched)
    # The second anchor is 14 px high for an object of 10: centres 2 px and sizes 4 / 2 px apart
    expected = 2 - math.exp(-5 / 12.8) - math.exp(-math.sqrt(8) / 12.8)
    assert losses["loss_rpn_loc"].item() == pytest.approx(10 * expected / 64, rel=1e-4)
    losses["loss_rpn_loc"].backward()
    assert deltas.grad[0, :2].abs().sum() > 0 and deltas.grad[0, 2:].abs().sum() == 0
    others = stock.losses(ANCHORS, logits, labels, [deltas], matched)
    assert torch.equal(losses["loss_rpn_cls"], others["loss_rpn_cls"])


def test_the_nwd_loss_of_no_foreground_is_zero():
    model = rpn(IgnoringRPN, box_reg_loss_type="nwd")
    labels, matched = model.label_and_sample_anchors(ANCHORS, [target()])
    deltas = torch.zeros(1, 8, 4, requires_grad=True)
    losses = model.losses(ANCHORS, [torch.zeros(1, 8)], labels, [deltas], matched)
    assert losses["loss_rpn_loc"] == 0
    losses["loss_rpn_loc"].backward()  # a step of distributed training needs the graph


def proposals_of(model, logits, training=False):
    deltas = [
        torch.zeros(len(images), len(level), 4)
        for images, level in zip(logits, ANCHORS, strict=True)
    ]
    model.train(training)
    return model.predict_proposals(ANCHORS, logits, deltas, [(80, 80)] * len(logits[0]))


def test_proposals_suppress_within_a_distance_and_their_level():
    """NWD above 0.5 lies within 8.87 px. By IoU 0.5 the pair of levels would be the same."""
    logits = [
        torch.tensor([[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5]]),
        torch.tensor([[0.5, 0.4, 0.3], [9, 8, 7]]),
    ]
    first, second = proposals_of(rpn(IgnoringRPN, nms_type="nwd", nms_thresh=0.5), logits)
    # Anchors 1 and 2 of the first level are 2.8 and 7.1 px from anchor 0
    assert first.objectness_logits.tolist() == pytest.approx([5, 2, 1, 0.5, 0.4, 0.3])
    # Anchor 2 suppresses 0 and 1
    assert second.objectness_logits.tolist() == [9, 8, 7, 5, 4, 3]
    (kept, _) = proposals_of(
        rpn(IgnoringRPN, nms_type="nwd", nms_thresh=0.5, post_nms_topk=(2, 3)), logits
    )
    assert kept.objectness_logits.tolist() == [5, 2, 1]


def test_nms_by_distance_selects_as_the_stock_rpn():
    """Under a threshold that suppresses nothing: clipped boxes, limits a level, order by score."""
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 5, generator=generator), torch.randn(2, 3, generator=generator)]
    limits = {"pre_nms_topk": (3, 4), "post_nms_topk": (4, 5), "min_box_size": 11.0}
    for training in (True, False):
        expected = proposals_of(rpn(RPN, nms_thresh=1.0, **limits), logits, training)
        ours = rpn(IgnoringRPN, nms_type="nwd", nms_thresh=0.9999, **limits)
        for found, want in zip(proposals_of(ours, logits, training), expected, strict=True):
            assert len(want) > 0
            assert torch.equal(found.proposal_boxes.tensor, want.proposal_boxes.tensor)
            assert torch.equal(found.objectness_logits, want.objectness_logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nms_type": "soft"}, "'soft'.*expected iou or nwd"),
        ({"nms_type": "nwd", "nms_thresh": 1.0}, r"in \(0, 1\), got 1.0"),
        ({"box_reg_loss_type": "nwd", "nwd_constant": 0.0}, "positive, got 0.0 px"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rpn(IgnoringRPN, **options)
