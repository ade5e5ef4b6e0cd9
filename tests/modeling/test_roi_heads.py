"""The ROI heads that skip ignored regions and hand the ground truth to DCLoss."""

import logging
from collections import Counter

import pytest
import torch
from detectron2.config import LazyCall, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    StandardROIHeads,
    build_roi_heads,
)
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from efpnbs_d2.config import add_efpnbs_config
from efpnbs_d2.modeling.box_predictor import DCFastRCNNOutputLayers
from efpnbs_d2.modeling.dc_loss import DCLoss
from efpnbs_d2.modeling.ignore import TargetsWithRegions
from efpnbs_d2.modeling.roi_heads import DCCascadeROIHeads, DCROIHeads

SHAPE = {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=8, stride=8)}
SIZE = (96, 96)
HEADS = pytest.mark.parametrize("name", ["DCROIHeads", "DCCascadeROIHeads"])
STOCK = {
    "DCROIHeads": StandardROIHeads,
    "DCCascadeROIHeads": CascadeROIHeads,
    "IgnoringROIHeads": StandardROIHeads,
    "IgnoringCascadeROIHeads": CascadeROIHeads,
}
ALL_HEADS = pytest.mark.parametrize("name", list(STOCK))
CASCADES = pytest.mark.parametrize("name", ["DCCascadeROIHeads", "IgnoringCascadeROIHeads"])


@pytest.fixture(autouse=True)
def storage():
    with EventStorage() as storage:
        yield storage


def config(name, *overrides):
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    cfg.MODEL.ROI_HEADS.NAME = name
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 2
    cfg.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 0.5
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = "Cascade" in name
    cfg.merge_from_list(list(overrides))
    return cfg


def build(cfg, cls=None, seed=0):
    torch.manual_seed(seed)
    return build_roi_heads(cfg, SHAPE) if cls is None else cls(cfg, SHAPE)


def target_of(scales, *, enlarged=1.0):
    """Square objects on a row, with the given sizes in original px; the image is enlarged."""
    size = torch.tensor(scales, dtype=torch.float32) * enlarged
    left = torch.arange(len(scales)) * 2.0
    corner = torch.stack([left, torch.full_like(left, 3.0)], dim=1)
    target = Instances(SIZE)
    target.gt_boxes = Boxes(torch.cat([corner, corner + size[:, None]], dim=1))
    target.gt_classes = torch.arange(len(scales)) % 3
    target.gt_scale = torch.tensor(scales, dtype=torch.float32)
    return target


def proposals_for(target, count=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = 60 * torch.rand(count, 2, generator=generator)
    size = 6 + 25 * torch.rand(count, 2, generator=generator)
    proposals = Instances(SIZE)
    proposals.proposal_boxes = Boxes(torch.cat([corner, corner + size], dim=1))
    proposals.objectness_logits = torch.zeros(count)
    return proposals


def forward(heads, targets, *, count=30, seed=0):
    """The losses of one training step on random features."""
    torch.manual_seed(seed)
    features = {
        "p2": torch.randn(len(targets), 8, 24, 24),
        "p3": torch.randn(len(targets), 8, 12, 12),
    }
    images = ImageList(torch.zeros(len(targets), 3, *SIZE), [SIZE] * len(targets))
    proposals = [proposals_for(target, count, seed + i) for i, target in enumerate(targets)]
    _, losses = heads(images, features, proposals, targets)
    return losses


def dc_losses(heads):
    return [module for module in heads.modules() if isinstance(module, DCLoss)]


MIXED = ([5.0, 12.0, 20.0, 24.0], [40.0, 12.0])


@HEADS
def test_all_objects_are_counted_also_those_without_proposals(name):
    """16 proposals an image, a quarter of them foreground, for 24 objects."""
    heads = build(config(name))
    targets = [target_of([5.0] * 20 + [12.0] * 3 + [40.0]), target_of([20.0] * 2)]
    forward(heads, targets)
    for dc_loss in dc_losses(heads):
        # One batch of momentum 0.99: the averages are 0.01 of it
        _, _, objects, samples = dc_loss.averages * 100
        assert objects.tolist() == pytest.approx([20, 3, 2, 1])
        assert samples[0] < 20
        assert samples.sum() > 0


@HEADS
def test_a_bin_means_the_original_size(name):
    """The same objects at twice the size, in an image enlarged by 2: the same bins."""
    counts = []
    for enlarged in (1.0, 2.0):
        heads = build(config(name))
        forward(heads, [target_of([5.0, 12.0, 12.0], enlarged=enlarged)])
        counts.append(dc_losses(heads)[0].averages[2] * 100)
    assert counts[0].tolist() == pytest.approx([1, 2, 0, 0])
    assert torch.equal(counts[0], counts[1])


def test_scale_travels_with_the_matched_box():
    heads = build(config("DCCascadeROIHeads"))
    targets = [target_of(MIXED[0]), target_of(MIXED[1]), target_of([])]
    proposals = [proposals_for(target, seed=i) for i, target in enumerate(targets)]
    sampled = heads.label_and_sample_proposals(proposals, targets)
    relabelled = heads._match_and_label_boxes(
        [proposals_for(target, seed=i) for i, target in enumerate(targets)], 1, targets
    )
    for labelled in (sampled, relabelled):
        assert labelled.targets is targets
        for proposal in labelled[:2]:
            assert len(proposal) > 0
            torch.testing.assert_close(proposal.gt_boxes.area().sqrt(), proposal.gt_scale)


@HEADS
def test_targets_with_scales_raise_no_warning(name, caplog, monkeypatch):
    monkeypatch.setattr("detectron2.utils.logger._LOG_COUNTER", Counter())
    empty = target_of([])
    empty.remove("gt_scale")
    with caplog.at_level(logging.WARNING):
        forward(build(config(name)), [target_of(MIXED[0]), target_of([]), empty])
    assert not caplog.records


@HEADS
def test_stock_targets_fall_back_to_resized_boxes_with_a_warning(name, caplog, monkeypatch):
    monkeypatch.setattr("detectron2.utils.logger._LOG_COUNTER", Counter())
    targets = [target_of([5.0, 12.0, 12.0], enlarged=2.0), target_of([])]
    for target in targets:
        target.remove("gt_scale")
    heads = build(config(name))
    with caplog.at_level(logging.WARNING):
        forward(heads, targets)
    assert sum("gt_scale" in record.message for record in caplog.records) == 1
    # 10 px and twice 24 px after resizing
    assert (dc_losses(heads)[-1].averages[2] * 100).tolist() == pytest.approx([0, 1, 2, 0])


@HEADS
def test_a_stock_model_has_the_same_weights_under_the_same_seed(name):
    cfg = config(name)
    stock, ours = build(cfg, STOCK[name]), build(cfg)
    after = torch.rand(3)
    build(cfg, STOCK[name])
    assert torch.equal(torch.rand(3), after)  # what is built next starts equal too
    extra = set(ours.state_dict()) - set(stock.state_dict())
    assert extra
    assert all(key.split(".")[-2] == "dc_loss" for key in extra)
    for key, value in stock.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


@HEADS
def test_strength_zero_is_the_stock_model_bit_for_bit(name):
    cfg = config(name, "MODEL.DC_LOSS.STRENGTH", 0.0)
    stock, ours = build(cfg, STOCK[name]), build(cfg)
    results = []
    for heads in (stock, ours):
        losses = forward(heads, [target_of(scales) for scales in MIXED])
        sum(losses.values()).backward()
        gradients = {key: value.grad for key, value in heads.named_parameters()}
        results.append((losses, gradients))
    for expected, found in zip(*results, strict=True):
        assert set(expected) == set(found)
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    weighted = forward(build(config(name)), [target_of(scales) for scales in MIXED])
    assert all(value != results[0][0][key] for key, value in weighted.items())


def test_stages_keep_their_own_state(storage):
    heads = build(config("DCCascadeROIHeads"))
    losses = forward(heads, [target_of(scales) for scales in MIXED])
    assert set(losses) == {f"loss_{kind}_stage{k}" for kind in ("cls", "box_reg") for k in range(3)}
    first, second, third = dc_losses(heads)
    assert not torch.equal(first.averages, second.averages)
    assert torch.equal(first.averages[2], third.averages[2])  # the objects are the same
    for k in range(3):
        assert f"stage{k}/dc_loss/cls_weight/very_tiny" in storage.latest()
    keys = [key for key in heads.state_dict() if "dc_loss" in key]
    assert keys == [
        f"box_predictor.{k}.dc_loss.{name}" for k in range(3) for name in ("averages", "steps")
    ]


@HEADS
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize(
    ("scales", "count"),
    [([[], []], 30), ([[5.0], []], 30), ([[]], 0), ([[12.0]], 0)],
    ids=["no object", "one empty image", "no proposal, no object", "no proposal"],
)
def test_degenerate_batches_are_finite(name, sigmoid, num_classes, scales, count):
    overrides = ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", sigmoid)
    heads = build(config(name, *overrides, "MODEL.ROI_HEADS.NUM_CLASSES", num_classes))
    losses = forward(heads, [target_of(image) for image in scales], count=count)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in heads.parameters())
    for dc_loss in dc_losses(heads):
        assert dc_loss.steps.item() == 1
        assert dc_loss.averages.isfinite().all()


def lazy_heads(name):
    """What `NON_DEFAULT` says, as a LazyConfig."""
    cascade = name == "DCCascadeROIHeads"
    dc_loss = LazyCall(DCLoss)(
        strength=1.0, target="uniform", bin_edges=[10.0, 22.0], momentum=0.5, limit=1.1
    )

    def head():
        return LazyCall(FastRCNNConvFCHead)(
            input_shape=ShapeSpec(channels=8, height=2, width=2), conv_dims=[], fc_dims=[16]
        )

    def predictor(weights):
        return LazyCall(DCFastRCNNOutputLayers)(
            input_shape=ShapeSpec(channels=16),
            box2box_transform=LazyCall(Box2BoxTransform)(weights=weights),
            num_classes="${..num_classes}" if not cascade else "${...num_classes}",
            cls_agnostic_bbox_reg=cascade,
            box_reg_loss_type="giou",
            loss_weight={"loss_box_reg": 2.0},
            test_score_thresh=0.05,
            dc_loss=dc_loss,
        )

    def matcher(threshold):
        return LazyCall(Matcher)(
            thresholds=[threshold], labels=[0, 1], allow_low_quality_matches=False
        )

    pooler = LazyCall(ROIPooler)(
        output_size=2, scales=(1 / 4, 1 / 8), sampling_ratio=0, pooler_type="ROIAlignV2"
    )
    common = {
        "num_classes": 3,
        "batch_size_per_image": 16,
        "positive_fraction": 0.25,
        "box_in_features": ["p2", "p3"],
        "box_pooler": pooler,
    }
    if not cascade:
        return LazyCall(DCROIHeads)(
            **common,
            box_head=head(),
            box_predictor=predictor((10, 10, 5, 5)),
            proposal_matcher=matcher(0.5),
        )
    stages = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
    return LazyCall(DCCascadeROIHeads)(
        **common,
        box_heads=[head() for _ in stages],
        box_predictors=[predictor(weights) for weights in stages],
        proposal_matchers=[matcher(threshold) for threshold in (0.5, 0.6, 0.7)],
    )


NON_DEFAULT = (
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", 2.0),
    ("MODEL.DC_LOSS.STRENGTH", 1.0),
    ("MODEL.DC_LOSS.TARGET", "uniform"),
    ("MODEL.DC_LOSS.BIN_EDGES", [10.0, 22.0]),
    ("MODEL.DC_LOSS.MOMENTUM", 0.5),
    ("MODEL.DC_LOSS.LIMIT", 1.1),
)


@HEADS
def test_lazy_and_yacs_build_the_same_heads(name):
    lazy = instantiate(lazy_heads(name))
    yacs = build(config(name, *(part for pair in NON_DEFAULT for part in pair)))
    assert {k: v.shape for k, v in lazy.state_dict().items()} == {
        k: v.shape for k, v in yacs.state_dict().items()
    }
    lazy.load_state_dict(yacs.state_dict())
    # Two steps: momentum and state have their say in the second
    for seed, scales in enumerate((MIXED, MIXED[::-1])):
        targets = [target_of(image) for image in scales]
        expected, found = forward(yacs, targets, seed=seed), forward(lazy, targets, seed=seed)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    # Each non-default DCLoss value matters to these losses
    for change in NON_DEFAULT[2:]:
        rest = [part for pair in NON_DEFAULT if pair != change for part in pair]
        other = build(config(name, *rest))
        for seed, scales in enumerate((MIXED, MIXED[::-1])):
            targets = [target_of(image) for image in scales]
            losses = forward(other, targets, seed=seed)
        assert any(losses[key] != expected[key] for key in expected), change


@HEADS
def test_inference_is_the_stock_one(name):
    cfg = config(name)
    stock, ours = build(cfg, STOCK[name]).eval(), build(cfg).eval()
    features = {"p2": torch.randn(1, 8, 24, 24), "p3": torch.randn(1, 8, 12, 12)}
    images = ImageList(torch.zeros(1, 3, *SIZE), [SIZE])
    with torch.no_grad():
        expected, found = (
            heads(images, features, [proposals_for(None)])[0][0] for heads in (stock, ours)
        )
    assert len(expected) > 0
    assert torch.equal(expected.pred_boxes.tensor, found.pred_boxes.tensor)
    assert torch.equal(expected.scores, found.scores)


def regions(*rows):
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))


def given_proposals(*rows):
    proposals = Instances(SIZE)
    proposals.proposal_boxes = regions(*rows)
    proposals.objectness_logits = torch.zeros(len(rows))
    return proposals


def one_target(*boxes):
    target = Instances(SIZE)
    target.gt_boxes = regions(*boxes)
    target.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    target.gt_scale = target.gt_boxes.area().sqrt()
    return target


RIGHT_HALF = (48.0, 0.0, 96.0, 96.0)
OBJECT = (60.0, 10.0, 70.0, 20.0)  # inside it
IN_BOTH_HALVES = (
    (60.0, 10.0, 70.0, 22.0),  # IoU 100 / 120 with the object
    (60.0, 50.0, 70.0, 60.0),  # background inside the region
    (43.0, 70.0, 53.0, 80.0),  # half inside
    (42.0, 70.0, 52.0, 80.0),  # 40 % inside
    (10.0, 10.0, 20.0, 20.0),
)


@ALL_HEADS
def test_no_background_is_sampled_inside_a_region(name):
    cfg = config(name)
    targets = TargetsWithRegions([one_target(OBJECT), one_target()], [regions(RIGHT_HALF)] * 2)
    ours, stock = [
        heads.label_and_sample_proposals([given_proposals(*IN_BOTH_HALVES)] * 2, targets)
        for heads in (build(cfg), build(cfg, STOCK[name]))
    ]

    def sampled(proposals):
        rows = proposals.proposal_boxes.tensor.tolist()
        pairs = zip(rows, proposals.gt_classes.tolist(), strict=True)
        return sorted((*box, label) for box, label in pairs)

    foreground = [(*OBJECT, 0), (*IN_BOTH_HALVES[0], 0)]  # the object is a proposal too
    background = [(*box, 3) for box in IN_BOTH_HALVES]
    assert sampled(stock[0]) == sorted(foreground + background[1:])
    assert sampled(ours[0]) == sorted(foreground + background[3:])
    # No object in the image: the region is no background all the same
    assert sampled(stock[1]) == sorted(background)
    assert sampled(ours[1]) == sorted(background[3:])


@CASCADES
def test_each_stage_leaves_out_what_it_would_call_background(name):
    heads = build(config(name))
    targets = TargetsWithRegions([one_target(OBJECT)], [regions(RIGHT_HALF)])
    rows = (OBJECT, (60.0, 10.0, 70.0, 25.0), *IN_BOTH_HALVES[1:])  # the second has IoU 100 / 150

    def labels(stage, targets):
        (proposals,) = heads._match_and_label_boxes([given_proposals(*rows)], stage, targets)
        left = proposals.proposal_boxes.tensor[:, 0].tolist()
        return list(zip(left, proposals.gt_classes.tolist(), strict=True))

    # Stages 1 and 2 ask for IoU 0.6 and 0.7
    assert labels(1, targets) == [(60, 0), (60, 0), (42, 3), (10, 3)]
    assert labels(2, targets) == [(60, 0), (42, 3), (10, 3)]
    assert labels(2, list(targets)) == [(60, 0), (60, 3), (60, 3), (43, 3), (42, 3), (10, 3)]


@ALL_HEADS
def test_ignored_proposals_have_no_gradient(name):
    """An object and background on the left, on the right only what the region covers."""
    cfg = config(name, "MODEL.DC_LOSS.STRENGTH", 0.0)
    right = [(60.0 + i, 8.0 * i, 72.0 + i, 8.0 * i + 11) for i in range(8)]
    proposals = given_proposals((8, 8, 19, 19), (10, 40, 20, 52), *right)
    targets = [one_target((8, 8, 20, 20))]
    ignoring = TargetsWithRegions(targets, [regions(RIGHT_HALF)])
    images = ImageList(torch.zeros(1, 3, *SIZE), [SIZE])
    for given, expect_gradient in ((targets, True), (ignoring, False)):
        features = {
            "p2": torch.randn(1, 8, 24, 24, requires_grad=True),
            "p3": torch.randn(1, 8, 12, 12, requires_grad=True),
        }
        _, losses = build(cfg)(images, features, [proposals], given)
        for key, loss in losses.items():  # of every stage
            (gradient,) = torch.autograd.grad(loss, features["p2"], retain_graph=True)
            assert gradient[..., :12].abs().sum() > 0, key  # left of 48 px
            found = gradient[..., 12:].abs().sum() > 0
            # Background has no box loss, ignored or not
            assert found == (expect_gradient and "loss_cls" in key), key


@ALL_HEADS
@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_batch_without_any_sample_is_finite(name, sigmoid):
    heads = build(config(name, "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", sigmoid))
    everything = regions((-100, -100, 200, 200))
    targets = TargetsWithRegions([target_of([]), target_of([])], [everything, everything])
    losses = forward(heads, targets)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    stock = forward(heads, list(targets))
    assert all(loss > 0 for key, loss in stock.items() if "loss_cls" in key)


@pytest.mark.parametrize("name", ["IgnoringROIHeads", "IgnoringCascadeROIHeads"])
def test_without_regions_they_are_the_stock_heads_bit_for_bit(name):
    cfg = config(name)
    stock, ours = build(cfg, STOCK[name]), build(cfg)
    assert list(stock.state_dict()) == list(ours.state_dict())
    targets = [target_of(scales) for scales in (*MIXED, [])]
    expected = forward(stock, targets)
    for given in (targets, TargetsWithRegions(targets, [regions()] * 3)):
        found = forward(ours, given)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@ALL_HEADS
def test_proposals_are_matched_by_the_chosen_similarity(name):
    """Boxes of 4 px, 5 px beside the object: no overlap, but NWD exp(-5 / 12.8) = 0.68."""
    nwd = ("MODEL.ROI_HEADS.SIMILARITY", "nwd", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "nwd")
    heads = build(config(name, *nwd))
    targets = [one_target((10.0, 10.0, 14.0, 14.0))]
    rows = ((15.0, 10.0, 19.0, 14.0), (30.0, 10.0, 34.0, 14.0))

    def labelled(proposals):
        left = proposals[0].proposal_boxes.tensor[:, 0].tolist()
        return sorted(zip(left, proposals[0].gt_classes.tolist(), strict=True))

    sampled = heads.label_and_sample_proposals([given_proposals(*rows)], targets)
    assert labelled(sampled) == [(10, 0), (15, 0), (30, 3)]
    if "Cascade" in name:
        for stage, expected in ((1, 0), (2, 3)):  # thresholds 0.6 and 0.7
            again = heads._match_and_label_boxes([given_proposals(*rows)], stage, targets)
            assert labelled(again) == [(15, expected), (30, 3)]
    losses = forward(heads, [target_of(scales) for scales in MIXED])
    sum(losses.values()).backward()
    assert all(0 < loss < 10 for loss in losses.values())
