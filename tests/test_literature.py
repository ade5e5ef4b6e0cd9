"""The configs of published recipes hold the published values.

The table below is typed from the sources, not from the configs: released configs and logs where a
row says so, the sources' defaults where a config's docstring calls a value assumed.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data.transforms import RandomFlip, ResizeShortestEdge
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from efpnbs_d2.engine.cli import load_config
from efpnbs_d2.modeling import (
    EFPNBS,
    DCFastRCNNOutputLayers,
    HierarchicalAssigner,
    IgnoringCascadeROIHeads,
    IgnoringROIHeads,
    IgnoringRPN,
    RankingAssigner,
    ThresholdAssigner,
)

FOLDER = Path(__file__).resolve().parents[1] / "configs/literature"
STOCK_ANCHORS = (32, 64, 128, 256, 512)
RFLA_PRIORS = (35 / 2, 91 / 2, 267 / 2, 427 / 2, 555 / 2)


@dataclass
class Recipe:
    """What a source states; the defaults are those of the NWD rows on AI-TOD v1."""

    data: tuple = ("aitod_v1_trainval", "aitod_v1_test")
    classes: int = 8
    batch: int = 8
    lr: float = 0.01
    warmup: tuple = (500, 0.001)  # iterations, first factor
    epochs: int = 12
    steps: tuple = (8, 11)
    iterations: int = 1753  # an epoch: 14,018 / 8 rounded up
    anchors: tuple = STOCK_ANCHORS
    ratios: tuple = (0.5, 1.0, 2.0)
    border: int = -1
    assigner: type = ThresholdAssigner
    before_nms: tuple = (3000, 3000)  # proposals a level, training and testing
    after_nms: tuple = (3000, 3000)
    nms: tuple = ("iou", 0.7)
    detections: int = 3000
    betas: tuple = (0.0, 0.0)  # of smooth L1, RPN and box head; 0 is L1
    cascade: bool = False
    weights: str = "torchvision/R-50.pkl"
    rgb: bool = True
    resize: tuple = ()
    best: str = "bbox/AP"


TWO_A_STEP = {"batch": 2, "iterations": 7009}  # 14,018 / 2
V2 = {"data": ("aitod_v2_trainval", "aitod_v2_test"), "batch": 2, "iterations": 7004}
RFLA = {
    "lr": 0.02 / 4,
    "warmup": (5000, 0.001),
    "anchors": RFLA_PRIORS,
    "assigner": HierarchicalAssigner,
}
CASCADE = {"cascade": True, "border": 0, "betas": (1 / 9, 1.0)}
VISDRONE = {
    "data": ("visdrone_train", "visdrone_val"),
    "classes": 10,
    "batch": 2,
    "lr": 0.02 / 4,
    "warmup": (5000, 0.001),
    "iterations": 3236,  # 6,471 / 2 rounded up
    "resize": (800, 1333),
}
TINYPERSON = {
    "data": ("tinyperson_tiles_train", "tinyperson_tiles_test"),
    "classes": 1,
    "batch": 2,
    "warmup": (500, 1 / 3),
    "steps": (6, 10),
    "iterations": 19236 // 12,
    "anchors": (8.31, 12.5, 18.55, 30.23, 60.41),
    "ratios": (0.5, 1.3, 2),
    "border": 0,
    "before_nms": (2000, 1000),
    "after_nms": (1000, 1000),
    "detections": 200,
    "betas": (1 / 9, 1.0),
    "weights": "MSRA/R-50.pkl",
    "rgb": False,
    "best": "bbox/AP50_tiny",
    "assigner": Matcher,
}
# E-FPN-BS and DCLoss in one of these rows; DCLoss needs a beta.
TWIN = {"betas": (0.0, 1 / 9)}

RECIPES = {
    "aitod_faster_rcnn": Recipe(),
    "aitod_faster_rcnn_24e": Recipe(epochs=24, steps=(16, 22)),
    "aitod_faster_rcnn_nwd": Recipe(),
    "aitod_faster_rcnn_nwd_rpn": Recipe(nms=("nwd", 0.85)),
    "aitod_cascade_rcnn": Recipe(**CASCADE),
    "aitod_cascade_rcnn_nwd": Recipe(**CASCADE),
    "aitod_rfla": Recipe(**TWO_A_STEP, **RFLA),
    "aitod_rfla_efpn_bs": Recipe(**TWO_A_STEP, **RFLA, **TWIN),
    "aitodv2_faster_rcnn": Recipe(**V2),
    "aitodv2_faster_rcnn_nwd_rka": Recipe(**V2, assigner=RankingAssigner),
    "aitodv2_rfla": Recipe(**V2, **RFLA),
    "visdrone_faster_rcnn": Recipe(**VISDRONE),
    "visdrone_cascade_rcnn": Recipe(**VISDRONE, **CASCADE),
    "visdrone_rfla": Recipe(**{**VISDRONE, **RFLA}),
    "visdrone_rfla_efpn_bs": Recipe(**{**VISDRONE, **RFLA}, **TWIN),
    "tinyperson_faster_rcnn": Recipe(**TINYPERSON),
    "tinyperson_faster_rcnn_efpn_bs": Recipe(**TINYPERSON),
}

# Similarity in RPN and box heads where a row has NWD.
NWD = {
    "aitod_faster_rcnn_nwd": ("nwd", "nwd"),
    "aitod_faster_rcnn_nwd_rpn": ("nwd", "iou"),
    "aitod_cascade_rcnn_nwd": ("nwd", "nwd"),
}


def config_of(name):
    return load_config(str(FOLDER / f"{name}.py"), [])


def model_of(cfg):
    """The detector without its 40 million numbers."""
    with torch.device("meta"):
        return instantiate(cfg.model)


def predictors_of(model):
    heads = model.roi_heads.box_predictor
    return list(heads) if isinstance(heads, torch.nn.ModuleList) else [heads]


def matchers_of(model):
    heads = model.roi_heads
    return getattr(heads, "proposal_matchers", None) or [heads.proposal_matcher]


def test_every_config_has_a_recipe_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_detector_has_the_published_values(name, tmp_path):
    recipe, cfg = RECIPES[name], config_of(name)
    model = model_of(cfg)
    rpn, heads, predictors = model.proposal_generator, model.roi_heads, predictors_of(model)

    cells = instantiate(cfg.model.proposal_generator.anchor_generator).cell_anchors
    sides = torch.stack(list(cells))  # five levels, three ratios
    widths, heights = sides[..., 2] - sides[..., 0], sides[..., 3] - sides[..., 1]
    torch.testing.assert_close(
        (widths * heights).sqrt(), torch.tensor([recipe.anchors] * 3, dtype=torch.float32).T
    )
    torch.testing.assert_close(heights / widths, torch.tensor([recipe.ratios] * 5))
    assert list(cfg.model.proposal_generator.anchor_generator.strides) == [4, 8, 16, 32, 64]

    assert isinstance(rpn, IgnoringRPN)
    assert rpn.anchor_boundary_thresh == recipe.border
    assert rpn.pre_nms_topk == dict(zip((True, False), recipe.before_nms, strict=True))
    assert rpn.post_nms_topk == dict(zip((True, False), recipe.after_nms, strict=True))
    assert (rpn.nms_type, rpn.nms_thresh) == recipe.nms
    assert (rpn.batch_size_per_image, rpn.positive_fraction) == (256, 0.5)
    assert isinstance(heads, IgnoringCascadeROIHeads if recipe.cascade else IgnoringROIHeads)
    assert (heads.batch_size_per_image, heads.positive_fraction) == (512, 0.25)
    assert heads.num_classes == recipe.classes
    assert rpn.smooth_l1_beta == recipe.betas[0]
    for predictor in predictors:
        assert predictor.smooth_l1_beta == recipe.betas[1]
        assert predictor.test_topk_per_image == recipe.detections
        assert (predictor.test_score_thresh, predictor.test_nms_thresh) == (0.05, 0.5)
    _assert_input(cfg, recipe)

    # A name that a config leaves behind would be saved as a part of it.
    assert set(cfg) == {"model", "dataloader", "optimizer", "lr_multiplier", "train"}
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    assert not (tmp_path / "config.yaml.pkl").exists()  # what saving falls back to


def _assert_input(cfg, recipe):
    """Weights, and images as the weights know them."""
    assert cfg.train.init_checkpoint == f"detectron2://ImageNetPretrained/{recipe.weights}"
    assert cfg.train.init_backbone_only
    mean, std = [103.53, 116.28, 123.675], [1.0, 1.0, 1.0]
    if recipe.rgb:
        mean, std = mean[::-1], [58.395, 57.12, 57.375]
    assert list(cfg.model.pixel_mean) == mean and list(cfg.model.pixel_std) == std
    stages = cfg.model.backbone.bottom_up.stages
    assert (stages.depth, stages.stride_in_1x1) == (50, not recipe.rgb)
    assert cfg.model.backbone.bottom_up.freeze_at == 2
    order = "RGB" if recipe.rgb else "BGR"
    for part in ("train", "test"):
        mapper = cfg.dataloader[part].mapper
        assert mapper.image_format == cfg.model.input_format == order
        augmentations = instantiate(mapper.augmentations)
        if recipe.resize:
            first = augmentations.pop(0)
            assert isinstance(first, ResizeShortestEdge)
            assert set(first.short_edge_length) == {recipe.resize[0]}
            assert first.max_size == recipe.resize[1]
        assert [type(a) for a in augmentations] == [RandomFlip] * (part == "train")
        assert all(a.prob == 0.5 and a.horizontal for a in augmentations)
    erased = "erase" if "tinyperson" in recipe.data[0] else "no_loss"
    assert cfg.dataloader.train.mapper.ignore == erased


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_has_the_published_length_and_rates(name):
    recipe, cfg = RECIPES[name], config_of(name)
    loader, train = cfg.dataloader, cfg.train
    assert (loader.train.dataset.names, loader.test.dataset.names) == recipe.data
    assert loader.train.total_batch_size == train.reference_batch_size == recipe.batch
    assert train.max_iter == recipe.epochs * recipe.iterations
    assert train.eval_period == train.max_iter  # the numbers are those of the last weights
    assert train.best_metric == recipe.best
    assert train.output_dir == f"output/literature/{name}"
    assert (train.amp.enabled, train.ema.enabled, train.clip_grad_norm) == (False, False, 0)

    parameter = torch.nn.Linear(1, 1)
    cfg.optimizer.params.model = parameter
    optimizer = instantiate(cfg.optimizer)
    for group in optimizer.param_groups:
        bias = group["params"][0].ndim == 1
        twice = bias and "tinyperson" in name
        assert group["lr"] == pytest.approx(recipe.lr * (2 if twice else 1))
        assert group["weight_decay"] == (0 if twice else 1e-4)
        assert group["momentum"] == 0.9

    factor = instantiate(cfg.lr_multiplier)

    def at(iteration):
        return factor(iteration / train.max_iter)

    warmup, first = recipe.warmup
    assert at(0) == pytest.approx(first)
    assert at(warmup / 2) == pytest.approx((first + 1) / 2)  # linear
    assert at(warmup) == pytest.approx(1)
    for i, epoch in enumerate(recipe.steps):
        step = epoch * recipe.iterations
        assert at(step - 1) == pytest.approx(0.1**i)
        assert at(step + 1) == pytest.approx(0.1 ** (i + 1))


@pytest.mark.parametrize("name", RECIPES)
def test_assignment_and_box_loss_are_the_published_ones(name):
    recipe, model = RECIPES[name], model_of(config_of(name))
    rpn, predictors = model.proposal_generator, predictors_of(model)
    in_rpn, in_heads = NWD.get(name, ("iou", "iou"))
    rule = rpn.anchor_matcher
    if recipe.assigner in (ThresholdAssigner, Matcher):
        assert isinstance(rule, ThresholdAssigner)
        assert (rule.bounds[1:-1], rule.labels) == ([0.3, 0.7], [0, -1, 1])
        assert rule.allow_low_quality_matches
        # mmdetection asks 0.3 of an object's best anchors; maskrcnn-benchmark nothing
        assert rule.min_quality == (0.3 if recipe.assigner is ThresholdAssigner else None)
        assert _similarity(rule) == in_rpn
    else:
        assert type(rule) is recipe.assigner
    if recipe.assigner is RankingAssigner:
        assert (rule.topk, rule.negative_below) == (2, 0.3)
        assert _similarity(rule) == "nwd"
    for matcher, threshold in zip(matchers_of(model), (0.5, 0.6, 0.7), strict=False):
        if in_heads == "nwd":
            assert matcher.bounds[1:-1] == [threshold] and _similarity(matcher) == "nwd"
        else:
            assert matcher.thresholds[1:-1] == [threshold]
        assert (matcher.labels, matcher.allow_low_quality_matches) == ([0, 1], False)
    by_nwd = name == "aitod_faster_rcnn_nwd_rpn"
    assert rpn.has_nwd_loss == by_nwd
    assert rpn.loss_weight["loss_rpn_loc"] == (10 if by_nwd else 1)
    assert rpn.loss_weight["loss_rpn_cls"] == 1
    for predictor, weight in zip(predictors, (1, 0.5, 0.25), strict=False):
        assert set(predictor.loss_weight.values()) <= {weight}
        assert weight == 1 or len(predictor.loss_weight) == 2
    deviations = [(0.1, 0.2), (0.05, 0.1), (0.033, 0.067)]
    for predictor, (xy, wh) in zip(predictors, deviations, strict=False):
        weights = predictor.box2box_transform.weights
        assert weights == pytest.approx((1 / xy, 1 / xy, 1 / wh, 1 / wh))
    assert len(predictors) == len(matchers_of(model)) == (3 if recipe.cascade else 1)


def _similarity(rule):
    """Identical boxes have IoU 1, and NWD exp(-0.001 / C) by the epsilon under its root."""
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    apart = box + 10
    return "nwd" if float(rule.similarity(box, apart)) > 0 else "iou"


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("efpn_bs")])
def test_a_twin_differs_in_e_fpn_bs_and_dc_loss_alone(name):
    twin, row = config_of(name), config_of(name.removesuffix("_efpn_bs"))
    model = model_of(twin)
    assert isinstance(model.backbone, EFPNBS) and model.fbsm_loss_weight == 1
    assert isinstance(model.roi_heads.box_predictor, DCFastRCNNOutputLayers)
    for part in ("dataloader", "optimizer", "lr_multiplier"):
        assert twin[part] == row[part]
    assert twin.model.proposal_generator == row.model.proposal_generator
    row.train.output_dir = twin.train.output_dir
    assert twin.train == row.train


@pytest.mark.parametrize(
    "name",
    ["aitod_faster_rcnn_nwd_rpn", "aitod_cascade_rcnn_nwd", "aitodv2_rfla", "aitod_rfla_efpn_bs"],
)
def test_a_recipe_trains(name):
    cfg = config_of(name)
    cfg.model.proposal_generator.post_nms_topk = [50, 50]
    model = instantiate(cfg.model).train()
    instances = Instances((64, 96))
    corner = torch.tensor([4.0, 8.0]) + 3 * torch.arange(10)[:, None]
    # Not smaller: thresholds on NWD leave objects below 10 px without an anchor of 32 px.
    instances.gt_boxes = Boxes(torch.cat([corner, corner + 24], dim=1))
    instances.gt_classes = torch.zeros(10, dtype=torch.int64)
    instances.gt_scale = instances.gt_boxes.area().sqrt()
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    with EventStorage():
        losses = model([{"image": image, "instances": instances}])
        sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert model.proposal_generator.rpn_head.anchor_deltas.weight.grad.abs().sum() > 0
