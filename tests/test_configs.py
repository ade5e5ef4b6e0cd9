"""Every config builds, says what its name promises, and lets crowds through."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data.transforms import AugInput, AugmentationList
from detectron2.modeling import FPN, GeneralizedRCNN, StandardROIHeads
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from efpnbs_d2 import add_efpnbs_config
from efpnbs_d2.engine.cli import load_config
from efpnbs_d2.engine.recipe import LazyRecipe, YacsRecipe
from efpnbs_d2.modeling import (
    DCFastRCNNOutputLayers,
    HierarchicalAssigner,
    IgnoringCascadeROIHeads,
    IgnoringROIHeads,
    IgnoringRPN,
    RankingAssigner,
    ReceptiveFieldAnchorGenerator,
    ThresholdAssigner,
)

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Those of the literature keep its limits: tests/literature.
OURS = [p for p in CONFIGS.glob("*/*.py") if p.parent.name not in ("common", "literature")]
STOCK = sorted(p for p in OURS if "stock" in p.name)
LAZY = sorted(set(OURS) - set(STOCK))
NETS = ("fpn", "efpn_bs")
YACS = sorted(CONFIGS.glob("yacs/*.yaml"))


def _name(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", LAZY, ids=_name)
def test_a_lazy_config_builds_and_can_be_saved(path, tmp_path):
    cfg = load_config(str(path), [])
    model = LazyRecipe(cfg).build_model()
    predictors = model.roi_heads.box_predictor
    last = predictors[-1] if isinstance(predictors, torch.nn.ModuleList) else predictors
    assert last.test_topk_per_image >= 300
    _assert_ignores_regions(model)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    assert (tmp_path / "config.yaml").is_file()
    assert not (tmp_path / "config.yaml.pkl").exists()  # what saving falls back to


@pytest.mark.parametrize("path", STOCK, ids=_name)
def test_a_stock_config_is_detectron2s_own_recipe(path):
    """What a comparison with the stock recipe rests on; only sampling fits the small crops."""
    model = LazyRecipe(load_config(str(path), [])).build_model()
    rpn, predictor = model.proposal_generator, model.roi_heads.box_predictor
    assert (type(model), type(rpn), type(model.backbone)) == (GeneralizedRCNN, RPN, FPN)
    assert (type(model.roi_heads), type(predictor)) == (StandardROIHeads, FastRCNNOutputLayers)
    anchors = rpn.anchor_generator.cell_anchors
    sides = [round((a[1, 2] - a[1, 0]).item()) for a in anchors]
    assert sides == [32, 64, 128, 256, 512]
    assert isinstance(rpn.anchor_matcher, Matcher)
    assert (predictor.test_topk_per_image, predictor.test_score_thresh) == (100, 0.05)
    assert predictor.smooth_l1_beta == rpn.smooth_l1_beta == 0.0
    assert (rpn.pre_nms_topk[False], rpn.post_nms_topk[False]) == (1000, 1000)


@pytest.mark.parametrize("path", YACS, ids=_name)
def test_a_yacs_config_builds_and_spells_out_every_key(path):
    _assert_ignores_regions(YacsRecipe(load_config(str(path), [])).build_model())
    ours, stock = get_cfg(), get_cfg()
    add_efpnbs_config(ours)
    stock.set_new_allowed(True)
    stock.merge_from_file(str(path))  # the way in for code that calls plain get_cfg()
    assert _keys(stock) == _keys(ours)


def test_the_base_lets_crowds_through():
    """Both bases keep AI-TOD's detection limit and room for VisDrone's 902 objects."""
    lazy = LazyConfig.load(str(CONFIGS / "common/models/faster_rcnn.py")).model
    yacs = load_config(str(CONFIGS / "yacs/Base-FPN.yaml"), [])
    limits = {
        (lazy.roi_heads.box_predictor.test_topk_per_image, 1500),
        (yacs.TEST.DETECTIONS_PER_IMAGE, 1500),
        (lazy.proposal_generator.post_nms_topk[1], 3000),
        (yacs.MODEL.RPN.POST_NMS_TOPK_TEST, 3000),
        (lazy.roi_heads.batch_size_per_image, 1024),
        (yacs.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, 1024),
    }
    assert all(found == expected for found, expected in limits)


def _assert_ignores_regions(model):
    """The baselines too: what two configs compare must not be how they treat crowds."""
    assert isinstance(model.proposal_generator, IgnoringRPN)
    assert isinstance(model.roi_heads, (IgnoringROIHeads, IgnoringCascadeROIHeads))


RULES = {"": ThresholdAssigner, "_nwd": RankingAssigner, "_rfla": HierarchicalAssigner}
ASSIGNMENTS = [
    f"{stem}{rule}_{depth}"
    for stem, depth in [
        *((f"{data}/{net}", "r50") for data in ("aitod", "tinyperson", "visdrone") for net in NETS),
        *((f"visdrone/mini_{net}", "r18") for net in NETS),
    ]
    for rule in RULES
]


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_every_rule_of_assignment_trains(name, small_lazy):
    """{FPN, E-FPN-BS} x {IoU, NWD, RFLA}: two steps on a crowd of tiny objects, with a gradient."""
    cfg = small_lazy("model.roi_heads.batch_size_per_image=16", config=f"{name}.py")
    model = LazyRecipe(cfg).build_model().train()
    rule = next(r for r in reversed(RULES) if r in name)
    assert type(model.proposal_generator.anchor_matcher) is RULES[rule]
    generator = model.proposal_generator.anchor_generator
    assert isinstance(generator, ReceptiveFieldAnchorGenerator) == (rule == "_rfla")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with EventStorage():
        for _ in range(2):
            losses = model(_tiny_objects())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            gradient = model.proposal_generator.rpn_head.anchor_deltas.weight.grad
            assert gradient.isfinite().all() and gradient.abs().sum() > 0
            optimizer.step()
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize(
    "name", [name for name in ASSIGNMENTS if "_nwd_" in name or "_rfla_" in name]
)
def test_a_rule_of_assignment_changes_the_rpn_only(name, small_lazy):
    base = name.replace("_nwd_", "_").replace("_rfla_", "_")
    cfg, baseline = (small_lazy(config=f"{n}.py") for n in (name, base))
    for part in ("dataloader", "optimizer", "lr_multiplier"):
        assert cfg[part] == baseline[part]
    for part in ("backbone", "roi_heads"):
        assert cfg.model[part] == baseline.model[part]
    for part in ("anchor_matcher", "anchor_generator"):
        cfg.model.proposal_generator.pop(part)
        baseline.model.proposal_generator.pop(part)
    assert cfg.model.proposal_generator == baseline.model.proposal_generator


def test_rfla_follows_the_resnet():
    """Detectron2's ImageNet ResNet-50 strides in its 1x1 convolutions, a ResNet-18 has none."""
    for name, sides in (
        ("aitod/fpn_rfla_r50", (35, 99, 291, 483, 483)),
        ("visdrone/mini_fpn_rfla_r18", (43, 99, 211, 435, 435)),
    ):
        generator = LazyRecipe(load_config(str(CONFIGS / f"{name}.py"), [])).build_model()
        cells = generator.proposal_generator.anchor_generator.cell_anchors
        assert [2 * float(c[1, 2] - c[1, 0]) for c in cells] == pytest.approx(sides)


def test_enlarged_recipes_enlarge_in_training_and_testing_alike():
    """And the checkpoint's card knows, from which predictors take the scale."""
    for name in ("fpn", "stock"):
        recipe = LazyRecipe(load_config(str(CONFIGS / f"tinyperson/mini_{name}_r18.py"), []))
        image = AugInput(
            np.zeros((640, 640, 3), np.uint8), boxes=np.array([[300.0, 300, 305, 306]])
        )
        loaders = recipe.cfg.dataloader
        for loader, side in ((loaders.train, 256), (loaders.test, 1280)):
            mapper, shape = loader.mapper, (side, side)
            seen = deepcopy(image)
            transform = AugmentationList(list(instantiate(mapper.augmentations)))(seen)
            assert seen.image.shape[:2] == shape
            x1, y1, x2, y2 = transform.apply_box(image.boxes)[0]
            assert (x2 - x1, y2 - y1) == (10, 12)
        assert recipe.input_scale["min_size_test"] == 1280


def _tiny_objects():
    generator = torch.Generator().manual_seed(0)
    instances = Instances((64, 96))
    corner = torch.rand(10, 2, generator=generator) * 50
    size = torch.rand(10, 2, generator=generator) * 8 + 2
    instances.gt_boxes = Boxes(torch.cat([corner, corner + size], dim=1))
    instances.gt_classes = torch.zeros(10, dtype=torch.int64)
    instances.gt_scale = instances.gt_boxes.area().sqrt()
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=generator)
    return [{"image": image, "instances": instances}]


def _keys(node, prefix=""):
    keys = set()
    for key, value in node.items():
        keys |= _keys(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key}
    return keys


@pytest.mark.parametrize(
    ("name", "backbone", "dc_loss"),
    [
        ("fpn_r18", "FPN", False),
        ("cem_r18", "EFPNBS", False),
        ("fbsm_r18", "EFPNBS", False),
        ("cem_fbsm_r18", "EFPNBS", False),
        ("dc_loss_r18", "FPN", True),
        ("efpn_bs_r18", "EFPNBS", True),
    ],
)
def test_ablations_differ_in_the_named_part_only(small_lazy, name, backbone, dc_loss):
    cfg = small_lazy(config=f"tinyscenes/{name}.py")
    baseline = small_lazy(config="tinyscenes/fpn_r18.py")
    model = LazyRecipe(cfg).build_model()
    assert type(model.backbone).__name__ == backbone
    if backbone == "EFPNBS":
        assert (model.backbone.cem is not None) == (
            name in ("cem_r18", "cem_fbsm_r18", "efpn_bs_r18")
        )
        assert (model.backbone.fbsm is not None) == (name != "cem_r18")
    assert isinstance(model.roi_heads.box_predictor, DCFastRCNNOutputLayers) == dc_loss
    for part in ("dataloader", "optimizer", "lr_multiplier"):
        assert cfg[part] == baseline[part]
    assert cfg.model.proposal_generator == baseline.model.proposal_generator


def test_three_hundred_objects_come_out_of_one_image(small_lazy):
    """The stock limit is 100; the heads' own limits are what can cut a crowd down."""
    model = LazyRecipe(
        small_lazy(
            "model.proposal_generator.post_nms_topk=[400,400]",
            "model.roi_heads.box_predictor.test_score_thresh=0.0",
        )
    ).build_model()
    heads = model.eval().roi_heads
    corners = torch.cartesian_prod(torch.arange(20.0), torch.arange(20.0)) * 12
    proposals = Instances((256, 256))
    proposals.proposal_boxes = Boxes(torch.cat([corners, corners + 8], dim=1))
    scores = torch.zeros(400, 9)
    scores[:, 0] = 5.0
    predictions = scores, torch.zeros(400, 32)
    found, _ = heads.box_predictor.inference(predictions, [proposals])
    assert len(found[0]) == 300
