"""Gradients by pyramid level and scale: against leaves put in by hand, and DCLoss's own state."""

from copy import deepcopy

import pytest
import torch
from detectron2.utils.events import EventStorage

from efpnbs_d2.checkpoint import Checkpointer
from efpnbs_d2.data import read_dataset
from efpnbs_d2.engine.recipe import LazyRecipe, YacsRecipe
from efpnbs_d2.modeling import EFPNBS, DCLoss
from efpnbs_d2.tools.detector_pair import build_pair, training_samples
from efpnbs_d2.tools.gradient_statistics import gradient_statistics

LEVELS = ("p2", "p3", "p4", "p5", "p6")
STAGES = ("res2", "res3", "res4", "res5")
LOSSES = {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}


@pytest.fixture
def recipe(small_lazy, scenes):
    return LazyRecipe(small_lazy())


def samples_of(recipe, number=1):
    return list(training_samples(recipe, read_dataset("tinyscenes_train")[0][:number]))


def measure(pair, samples):
    return gradient_statistics(pair, samples, len(samples), progress=False)


def open_gates(model):
    """Let CEM take part: its scales start at 0."""
    for name, parameter in model.backbone.cem.named_parameters():
        if "gamma" in name:
            torch.nn.init.constant_(parameter, 0.5)


def test_both_detectors_start_alike(recipe):
    found = measure(build_pair(recipe), samples_of(recipe, 2))
    assert (found.levels, found.stages) == (LEVELS, STAGES)
    assert set(found.losses) == LOSSES
    assert found.stock.total.shape == (2, 9) and found.stock.total.min() > 0
    assert (found.stock.total == found.enhanced.total).all()
    # The masks are supervised on P2 to P4; P5 and P6 hear of it through CEM, which is closed.
    assert (found.enhanced.mask_loss[:, :3] > 0).all()
    assert not found.enhanced.mask_loss[:, 3:].any() and not found.stock.mask_loss.any()
    assert [row["ratio"] for row in found.map_numbers()] == [1.0] * 9


def test_cem_brings_the_box_heads_gradient_to_p6(recipe):
    """The box head pools from P2 to P5 alone; its loss reaches P6 through CEM."""
    pair = build_pair(recipe)
    samples = samples_of(recipe)
    before = measure(pair, samples)
    open_gates(pair.enhanced)
    found = measure(pair, samples)
    assert (found.stock.by_loss == before.stock.by_loss).all()
    loss = found.losses.index("loss_cls")
    assert found.stock.by_loss[0, loss, 4] == 0 and found.enhanced.by_loss[0, loss, 4] > 0
    assert found.enhanced.mask_loss[0, 4] > 0
    assert all(row["ratio"] != 1 for row in found.map_numbers())
    # What is averaged is what was measured
    row = found.map_numbers()[4]
    assert row["map"] == "p6"
    assert row["ratio"] == found.enhanced.total[0, 4] / found.stock.total[0, 4]
    by_loss = found.loss_numbers()[4]
    assert by_loss["enhanced"]["loss_cls"] == found.enhanced.by_loss[0, loss, 4]
    assert by_loss["enhanced"]["loss_fbsm"] == found.enhanced.mask_loss[0, 4]
    assert "loss_fbsm" not in by_loss["stock"]


def test_norms_are_those_of_leaves_in_the_levels_place(recipe):
    pair, (sample,) = build_pair(recipe), samples_of(recipe)
    model = deepcopy(pair.stock)
    found = measure(pair, [sample])

    images = model.preprocess_image([sample])
    leaves = {
        n: level.detach().requires_grad_() for n, level in model.backbone(images.tensor).items()
    }
    targets = [sample["instances"]]
    torch.manual_seed(0)
    with EventStorage():
        proposals, losses = model.proposal_generator(images, leaves, targets)
        losses |= model.roi_heads(images, leaves, proposals, targets)[1]
    sum(losses.values()).backward()
    p5 = leaves["p5"].grad.clone()
    p5[:, :, ::2, ::2] += leaves["p6"].grad  # Detectron2's P6 is every other cell of P5
    expected = [leaves[n].grad.norm() for n in ("p2", "p3", "p4")]
    expected += [p5.norm(), leaves["p6"].grad.norm()]
    assert found.stock.total[0, :5] == pytest.approx([e.item() for e in expected], rel=1e-5)


def test_gradient_of_the_box_head_is_what_dc_loss_sees(recipe):
    pair, samples = build_pair(recipe), samples_of(recipe, 2)
    model = deepcopy(pair.enhanced)
    found = measure(pair, samples).box
    (dc_loss,) = (part for part in model.modules() if isinstance(part, DCLoss))
    dc_loss.strength, dc_loss.target = 0.5, "per_object"
    dc_loss.momentum = 0.0  # the averages are the last batch
    totals = []
    for seed, sample in enumerate(samples):
        torch.manual_seed(seed)
        with EventStorage():
            model([sample])
        totals.append(dc_loss.averages.clone())
    seen = sum(totals)
    assert seen[2].sum() > 0 and (seen[0] > 0).sum() > 1
    torch.testing.assert_close(found.gradient[1], seen[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.gradient[0] / 2, seen[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(found.objects, seen[2]) and torch.equal(found.proposals, seen[3])

    dc_loss.averages.copy_(seen)
    rows = found.numbers(dc_loss)
    assert [row["scale"] for row in rows] == ["very_tiny", "tiny", "small", "medium"]
    for number, kind in enumerate(("cls", "reg")):
        weights = dc_loss.weights()[number]
        weighted = weights * seen[number]
        assert [r[f"{kind}_weight"] for r in rows] == pytest.approx(weights.tolist(), rel=1e-3)
        assert [r[f"{kind}_share"] for r in rows] == pytest.approx(
            (seen[number] / seen[number].sum()).tolist(), rel=1e-3
        )
        assert [r[f"{kind}_weighted_share"] for r in rows] == pytest.approx(
            (weighted / weighted.sum()).tolist(), rel=1e-3
        )
    assert [r["target"] for r in rows] == [r["objects"] for r in rows]  # per object


def test_options_of_dc_loss_are_the_recipes(small_lazy, scenes):
    pair = build_pair(LazyRecipe(small_lazy("model.roi_heads.box_predictor.dc_loss.strength=0.25")))
    assert pair.dc_loss.strength == 0.25
    switched_off = [part.strength for part in pair.enhanced.modules() if isinstance(part, DCLoss)]
    assert switched_off == [0.0]


def test_a_recipe_of_the_stock_fpn_gets_its_counterpart(small_lazy, scenes):
    recipe = LazyRecipe(small_lazy(config="tinyscenes/fpn_r18.py"))
    pair = build_pair(recipe)
    assert isinstance(pair.enhanced.backbone, EFPNBS) and pair.enhanced.backbone.cem is not None
    assert pair.stock.backbone.cem is None and pair.stock.backbone.fbsm is None
    stock = pair.stock.state_dict()
    assert all(
        torch.equal(stock[n], v) for n, v in pair.enhanced.state_dict().items() if n in stock
    )
    assert pair.dc_loss.strength == DCLoss().strength
    found = measure(pair, samples_of(recipe))
    assert found.loss_numbers()[0]["stock"].keys() == found.loss_numbers()[0]["enhanced"].keys()


def test_yacs_and_cascade(small_yacs, scenes):
    recipe = YacsRecipe(
        small_yacs(
            "MODEL.BACKBONE.NAME=build_resnet_fpn_backbone",
            "MODEL.FBSM.LOSS_WEIGHT=0.0",
            "MODEL.ROI_HEADS.NAME=DCCascadeROIHeads",
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG=True",
        )
    )
    pair = build_pair(recipe)
    assert isinstance(pair.enhanced.backbone, EFPNBS)
    found = measure(pair, samples_of(recipe))
    assert {"loss_cls_stage0", "loss_cls_stage2"} < set(found.losses)
    assert found.box.gradient.sum() > 0


def test_frozen_stages_are_left_out(recipe):
    pair = build_pair(recipe)
    for model in (pair.stock, pair.enhanced):
        for part in (model.backbone.bottom_up.stem, model.backbone.bottom_up.res2):
            part.requires_grad_(False)
    found = measure(pair, samples_of(recipe))
    assert found.stages == STAGES[1:]
    assert found.stock.total.shape == (1, 8)


def test_levels_without_anchors_have_no_positives(small_lazy, scenes):
    """An RPN on P3 to P6, and an FPN that has P2."""
    recipe = LazyRecipe(
        small_lazy(
            "model.proposal_generator.in_features=[p3,p4,p5,p6]",
            "model.proposal_generator.anchor_generator.sizes=[[8],[16],[32],[64]]",
            "model.proposal_generator.anchor_generator.strides=[8,16,32,64]",
        )
    )
    found = measure(build_pair(recipe), samples_of(recipe))
    assert found.positives[0, 0] == 0 and found.positives[0, 1] > 0
    assert found.map_numbers()[0]["samples_without_positive"] == 1
    assert found.map_numbers()[1]["samples_without_positive"] == 0


def test_weights_are_loaded(recipe, small_lazy, tmp_path):
    model = recipe.build_model()
    open_gates(model)
    Checkpointer(model, str(tmp_path)).save("trained")
    pair = build_pair(LazyRecipe(small_lazy(f"train.init_checkpoint={tmp_path}/trained.pth")))
    expected = model.state_dict()
    assert all(torch.equal(expected[n], v) for n, v in pair.enhanced.state_dict().items())


def test_random_frozen_layers_are_refused(small_lazy, scenes):
    with pytest.raises(ValueError, match="frozen"):
        build_pair(LazyRecipe(small_lazy("model.backbone.bottom_up.freeze_at=2")))


def test_samples_are_the_same_each_time(recipe):
    first, second = samples_of(recipe, 2), samples_of(recipe, 2)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
