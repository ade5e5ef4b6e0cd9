"""Detectors of the published recipes: every value that a source states.

The table is typed from the sources, not from the configs: released configs and logs, and
defaults of the sources' frameworks where a config's docstring calls a value assumed.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import GeneralizedRCNN
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

FOLDER = Path(__file__).resolve().parents[2] / "configs/literature"


@dataclass
class Detector:
    """What a source states; the defaults are those of the NWD rows on AI-TOD."""

    classes: int = 8
    anchors: tuple = (32, 64, 128, 256, 512)
    ratios: tuple = (0.5, 1.0, 2.0)
    border: int = -1
    assigner: type = ThresholdAssigner
    # Overlap that an object's best anchors must have: mmdetection's; maskrcnn-benchmark has none.
    min_quality: float | None = 0.3
    similarity: tuple = ("iou", "iou")  # in RPN and box head
    before_nms: tuple = (3000, 3000)  # proposals a level, training and testing
    after_nms: tuple = (3000, 3000)
    nms: tuple = ("iou", 0.7)
    nwd_loss: bool = False
    detections: int = 3000
    betas: tuple = (0.0, 0.0)  # of smooth L1, RPN and box head; 0 is L1
    cascade: bool = False


RFLA = {
    "anchors": (35 / 2, 91 / 2, 267 / 2, 427 / 2, 555 / 2),
    "assigner": HierarchicalAssigner,
}
CASCADE = {"cascade": True, "border": 0, "betas": (1 / 9, 1.0)}
TINYPERSON = {
    "classes": 1,
    "anchors": (8.31, 12.5, 18.55, 30.23, 60.41),
    "ratios": (0.5, 1.3, 2),
    "border": 0,
    "min_quality": None,
    "before_nms": (2000, 1000),
    "after_nms": (1000, 1000),
    "detections": 200,
    "betas": (1 / 9, 1.0),
}
# E-FPN-BS and DCLoss in one of these rows; DCLoss needs a beta.
TWIN = {"betas": (0.0, 1 / 9)}

DETECTORS = {
    "aitod_faster_rcnn": Detector(),
    "aitod_faster_rcnn_24e": Detector(),
    "aitod_faster_rcnn_nwd": Detector(similarity=("nwd", "nwd")),
    "aitod_faster_rcnn_nwd_rpn": Detector(
        similarity=("nwd", "iou"), nms=("nwd", 0.85), nwd_loss=True
    ),
    "aitod_cascade_rcnn": Detector(**CASCADE),
    "aitod_cascade_rcnn_nwd": Detector(**CASCADE, similarity=("nwd", "nwd")),
    "aitod_rfla": Detector(**RFLA),
    "aitod_rfla_efpn_bs": Detector(**RFLA, **TWIN),
    "aitodv2_faster_rcnn": Detector(),
    "aitodv2_faster_rcnn_nwd_rka": Detector(assigner=RankingAssigner, similarity=("nwd", "iou")),
    "aitodv2_rfla": Detector(**RFLA),
    "visdrone_faster_rcnn": Detector(classes=10),
    "visdrone_cascade_rcnn": Detector(classes=10, **CASCADE),
    "visdrone_rfla": Detector(classes=10, **RFLA),
    "visdrone_rfla_efpn_bs": Detector(classes=10, **RFLA, **TWIN),
    "tinyperson_faster_rcnn": Detector(**TINYPERSON),
    "tinyperson_faster_rcnn_efpn_bs": Detector(**TINYPERSON),
}


@cache
def config_of(name):
    """A config that all tests share: copy it before changing it."""
    return load_config(str(FOLDER / f"{name}.py"), [])


@cache
def model_of(name):
    """The detector without its 40 million numbers, for all tests."""
    with torch.device("meta"):
        return instantiate(config_of(name).model)


def predictors_of(model):
    heads = model.roi_heads.box_predictor
    return list(heads) if isinstance(heads, torch.nn.ModuleList) else [heads]


def matchers_of(model):
    heads = model.roi_heads
    return getattr(heads, "proposal_matchers", None) or [heads.proposal_matcher]


def test_every_config_has_a_detector_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(DETECTORS)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_has_the_published_values(name, tmp_path):
    published, cfg = DETECTORS[name], config_of(name)
    model = model_of(name)
    rpn, heads, predictors = model.proposal_generator, model.roi_heads, predictors_of(model)

    cells = instantiate(cfg.model.proposal_generator.anchor_generator).cell_anchors
    sides = torch.stack(list(cells))  # five levels, three ratios
    widths, heights = sides[..., 2] - sides[..., 0], sides[..., 3] - sides[..., 1]
    torch.testing.assert_close(
        (widths * heights).sqrt(), torch.tensor([published.anchors] * 3, dtype=torch.float32).T
    )
    torch.testing.assert_close(heights / widths, torch.tensor([published.ratios] * 5))
    assert list(cfg.model.proposal_generator.anchor_generator.strides) == [4, 8, 16, 32, 64]

    assert isinstance(rpn, IgnoringRPN)
    assert rpn.anchor_boundary_thresh == published.border
    assert rpn.pre_nms_topk == dict(zip((True, False), published.before_nms, strict=True))
    assert rpn.post_nms_topk == dict(zip((True, False), published.after_nms, strict=True))
    assert (rpn.nms_type, rpn.nms_thresh) == published.nms
    assert (rpn.batch_size_per_image, rpn.positive_fraction) == (256, 0.5)
    assert isinstance(heads, IgnoringCascadeROIHeads if published.cascade else IgnoringROIHeads)
    assert (heads.batch_size_per_image, heads.positive_fraction) == (512, 0.25)
    assert heads.num_classes == published.classes
    assert rpn.smooth_l1_beta == published.betas[0]
    for predictor in predictors:
        assert predictor.smooth_l1_beta == published.betas[1]
        assert predictor.test_topk_per_image == published.detections
        assert (predictor.test_score_thresh, predictor.test_nms_thresh) == (0.05, 0.5)

    # A name that a config leaves behind would be saved as a part of it.
    assert set(cfg) == {"model", "dataloader", "optimizer", "lr_multiplier", "train"}
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    assert not (tmp_path / "config.yaml.pkl").exists()  # what saving falls back to


@pytest.mark.parametrize("name", DETECTORS)
def test_anchors_and_proposals_are_assigned_as_published(name):
    published, model = DETECTORS[name], model_of(name)
    rule = model.proposal_generator.anchor_matcher
    assert type(rule) is published.assigner
    if published.assigner is ThresholdAssigner:
        assert (rule.bounds[1:-1], rule.labels) == ([0.3, 0.7], [0, -1, 1])
        assert rule.allow_low_quality_matches and rule.min_quality == published.min_quality
    if published.assigner is RankingAssigner:
        assert (rule.topk, rule.negative_below) == (2, 0.3)
    if published.assigner is not HierarchicalAssigner:
        constant = 12.8 if name.startswith("aitod_") else 12.7
        _assert_similarity(rule, published.similarity[0], constant)
    matchers = matchers_of(model)
    assert len(matchers) == (3 if published.cascade else 1)
    for matcher, threshold in zip(matchers, (0.5, 0.6, 0.7), strict=False):
        if published.similarity[1] == "nwd":
            assert matcher.bounds[1:-1] == [threshold]
            _assert_similarity(matcher, "nwd", 12.8)
        else:
            assert matcher.thresholds[1:-1] == [threshold]
        assert (matcher.labels, matcher.allow_low_quality_matches) == ([0, 1], False)


def _assert_similarity(rule, name, constant):
    """Squares of 10 px, 5 px apart: IoU 50 / 150, NWD exp(-5 / C)."""
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    expected = 1 / 3 if name == "iou" else math.exp(-5 / constant)
    found = rule.similarity(box, box + torch.tensor([5.0, 0.0, 5.0, 0.0]))
    assert float(found) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_box_losses_weigh_as_published(name):
    published, model = DETECTORS[name], model_of(name)
    rpn, predictors = model.proposal_generator, predictors_of(model)
    assert rpn.has_nwd_loss == published.nwd_loss
    assert rpn.loss_weight == {
        "loss_rpn_cls": 1.0,
        "loss_rpn_loc": 10.0 if published.nwd_loss else 1.0,
    }
    for predictor, weight in zip(predictors, (1.0, 0.5, 0.25), strict=False):
        assert predictor.loss_weight == {"loss_cls": weight, "loss_box_reg": weight}
    deviations = [(0.1, 0.2), (0.05, 0.1), (0.033, 0.067)]
    for predictor, (xy, wh) in zip(predictors, deviations, strict=False):
        weights = predictor.box2box_transform.weights
        assert weights == pytest.approx((1 / xy, 1 / xy, 1 / wh, 1 / wh))


def test_nothing_else_differs_from_the_stock_detector():
    """What our own base has changed, or will, must not reach the published recipes."""
    ours = _flat(config_of("tinyperson_faster_rcnn").model)
    stock = _flat(model_zoo.get_config("common/models/mask_rcnn_fpn.py").model)
    # Written out here where the stock config leaves it to a class's own default.
    stock |= {"roi_heads.box_predictor.test_nms_thresh": 0.5, "backbone.bottom_up.freeze_at": 2}
    changed = {key for key in ours if ours[key] != stock.get(key)}
    rpn, predictor = "proposal_generator", "roi_heads.box_predictor"
    # These parts can leave out ignored regions or know NWD's box loss, and else are the stock ones.
    targets = {f"{part}_target_" for part in ("", f"{rpn}.", "roi_heads.", f"{predictor}.")}
    values = {
        "roi_heads.num_classes",
        f"{predictor}.num_classes",
        f"{rpn}.anchor_generator.sizes",
        f"{rpn}.anchor_generator.aspect_ratios",
        f"{rpn}.anchor_boundary_thresh",
        f"{rpn}.smooth_l1_beta",
        f"{predictor}.smooth_l1_beta",
        f"{predictor}.test_topk_per_image",
    }
    assert changed == targets | values
    assert all(".mask_" in key for key in stock.keys() - ours.keys())


def _flat(node, prefix=""):
    values = {}
    for key in node:
        if hasattr(node[key], "keys"):
            values |= _flat(node[key], f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = node[key]
    return values


def test_regions_can_be_background_as_in_the_released_code():
    """The override that docs/literature.md names: the stock detector hands on no regions."""
    override = "model._target_=detectron2.modeling.meta_arch.GeneralizedRCNN"
    cfg = load_config(str(FOLDER / "visdrone_rfla.py"), [override])
    with torch.device("meta"):
        assert type(instantiate(cfg.model)) is GeneralizedRCNN


@pytest.mark.parametrize("name", [name for name in DETECTORS if name.endswith("efpn_bs")])
def test_a_twin_differs_in_e_fpn_bs_and_dc_loss_alone(name):
    twin, row = config_of(name), config_of(name.removesuffix("_efpn_bs"))
    model = model_of(name)
    assert isinstance(model.backbone, EFPNBS) and model.fbsm_loss_weight > 0
    assert isinstance(model.roi_heads.box_predictor, DCFastRCNNOutputLayers)
    for part in ("dataloader", "optimizer", "lr_multiplier"):
        assert twin[part] == row[part]
    assert twin.model.proposal_generator == row.model.proposal_generator
    assert {**twin.train, "output_dir": ""} == {**row.train, "output_dir": ""}


@pytest.mark.parametrize(
    "name",
    ["aitod_faster_rcnn_nwd_rpn", "aitod_cascade_rcnn_nwd", "aitodv2_rfla", "aitod_rfla_efpn_bs"],
)
def test_a_recipe_trains(name):
    cfg = deepcopy(config_of(name))
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
