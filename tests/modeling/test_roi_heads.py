"""The ROI heads that hand the ground truth to DCLoss, on random feature maps."""

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
from efpnbs_d2.modeling.roi_heads import DCCascadeROIHeads, DCROIHeads

SHAPE = {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=8, stride=8)}
SIZE = (96, 96)
HEADS = pytest.mark.parametrize("name", ["DCROIHeads", "DCCascadeROIHeads"])
STOCK = {"DCROIHeads": StandardROIHeads, "DCCascadeROIHeads": CascadeROIHeads}


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
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = name == "DCCascadeROIHeads"
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
