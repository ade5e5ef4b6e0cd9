"""The RPN that takes no loss from ignored regions, on anchors given by hand."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

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


def rpn(cls, *, batch_size=64, **options):
    return cls(
        in_features=["p2"],
        head=nn.Identity(),
        anchor_generator=DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0]], strides=[4]),
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=batch_size,
        positive_fraction=0.5,
        pre_nms_topk=(10, 10),
        post_nms_topk=(10, 10),
        **options,
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
    corner = torch.rand(400, 2, generator=generator) * 60
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
