"""The meta-architecture hands image sizes to CEM and supervises FBSM's masks."""

import logging
import math
from collections import Counter

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from efpnbs_d2.engine.recipe import LazyRecipe, YacsRecipe


def _sample(height, width, boxes, ignore=None):
    generator = torch.Generator().manual_seed(height)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    instances.gt_scale = instances.gt_boxes.area().sqrt()
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    sample = {"image": image, "instances": instances}
    return (
        sample
        if ignore is None
        else {**sample, "ignore_boxes": Boxes(torch.tensor(ignore).reshape(-1, 4))}
    )


def _losses(model, batch):
    torch.manual_seed(0)
    with EventStorage():
        return model.train()(batch)


@pytest.fixture
def build(small_lazy):
    return lambda *overrides, **kw: LazyRecipe(small_lazy(*overrides, **kw)).build_model()


def test_mask_supervision_is_a_weighted_loss_of_its_own(build):
    batch = [_sample(64, 96, [[10, 10, 18, 18]])]
    torch.manual_seed(1)
    once = build("model.fbsm_loss_weight=1.0")
    torch.manual_seed(1)
    twice = build("model.fbsm_loss_weight=2.0")
    torch.manual_seed(1)
    without = build("model.fbsm_loss_weight=0.0")
    single, double, none = (_losses(m, batch) for m in (once, twice, without))
    assert double["loss_fbsm"].item() == pytest.approx(2 * single["loss_fbsm"].item())
    assert "loss_fbsm" not in none


def test_supervised_masks_start_from_a_small_prior(build):
    supervised, free = build("model.fbsm_loss_weight=1.0"), build("model.fbsm_loss_weight=0.0")
    assert supervised.backbone.fbsm.predict.bias.item() == pytest.approx(math.log(0.01 / 0.99))
    assert free.backbone.fbsm.predict.bias.item() == 0.0


def test_an_ignored_region_takes_no_mask_loss(build):
    model = build()
    everything = [[0.0, 0.0, 96.0, 64.0]]
    ignored = _losses(model, [_sample(64, 96, [], ignore=everything)])["loss_fbsm"]
    judged = _losses(model, [_sample(64, 96, [])])["loss_fbsm"]
    assert ignored.item() == 0.0
    assert judged.item() > 0.0


EVERYTHING = [[-300.0, -300.0, 400.0, 400.0]]  # with the anchors that hang over the border


def test_an_ignored_region_takes_no_loss_at_all(build):
    """The baseline's configs ignore it too; the boxes of one image leave the other alone."""
    for config in ("tinyscenes/fpn_r18.py", "tinyscenes/efpn_bs_r18.py"):
        model = build(config=config)
        ignored = _losses(model, [_sample(64, 96, [], ignore=EVERYTHING)])
        assert all(loss.item() == 0.0 for loss in ignored.values()), ignored
        sum(ignored.values()).backward()
        for other in ({}, {"ignore": torch.zeros(0, 4).tolist()}):
            half = [_sample(64, 96, [], ignore=EVERYTHING), _sample(64, 96, [], **other)]
            for name in ("loss_rpn_cls", "loss_cls"):
                assert _losses(model, half)[name].item() > 0.0


def test_stock_parts_that_miss_the_regions_are_named(build, caplog, monkeypatch):
    monkeypatch.setattr("detectron2.utils.logger._LOG_COUNTER", Counter())
    ours, stock = build(), build(config="tinyscenes/fpn_r18.py")
    # The same parts under their stock classes
    stock.proposal_generator.__class__ = RPN
    stock.proposal_generator.anchor_matcher = Matcher([0.3, 0.7], [0, -1, 1])
    stock.roi_heads.__class__ = StandardROIHeads
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        _losses(stock, [_sample(64, 96, [])])
        _losses(ours, [_sample(64, 96, [], ignore=EVERYTHING)])
        assert not caplog.records
        for _ in range(2):
            losses = _losses(stock, [_sample(64, 96, [], ignore=EVERYTHING)])
    assert losses["loss_rpn_cls"].item() > 0.0
    assert losses["loss_cls"].item() > 0.0
    rpn, heads = [record.getMessage() for record in caplog.records]
    assert "which RPN takes for background" in rpn
    assert "which StandardROIHeads takes for background" in heads


def test_images_without_objects_train(build):
    losses = _losses(build(), [_sample(64, 96, []), _sample(64, 64, [])])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_image_sizes_reach_cem(build):
    """Alone and beside a larger image, the detections agree where the gates are trained."""
    model = build("model.roi_heads.box_predictor.test_score_thresh=0.0").eval()
    with torch.no_grad():
        for gamma in model.backbone.cem.gamma.values():
            gamma.fill_(0.5)
    small, large = _sample(64, 64, []), _sample(256, 320, [])
    with torch.no_grad():
        images = model.preprocess_image([small, large])
        handed = model.extract_features(images)["p3"]
        unaware = model.backbone(images.tensor)["p3"]
    # Without the sizes, the padding beside the small image is pooled into its context.
    assert not torch.allclose(handed[0, :, :8, :8], unaware[0, :, :8, :8], atol=1e-4)


def test_supervision_without_fbsm_is_refused(build):
    with pytest.raises(ValueError, match="backbone EFPNBS has no FBSM"):
        build("model.backbone.fbsm=False", "model.fbsm_loss_weight=1.0")
    with pytest.raises(ValueError, match="backbone FPN has no FBSM"):
        build("+model.fbsm_loss_weight=1.0", config="tinyscenes/fpn_r18.py")


def test_supervision_under_a_stock_meta_architecture_is_refused(small_lazy, small_yacs):
    cfg = small_lazy()
    cfg.model._target_ = GeneralizedRCNN
    with pytest.raises(ValueError, match="fbsm_loss_weight"):
        LazyRecipe(cfg).build_model()
    with pytest.raises(ValueError, match="computes no mask loss; set it to 'TinyObjectRCNN'"):
        YacsRecipe(small_yacs("MODEL.META_ARCHITECTURE=GeneralizedRCNN")).build_model()


def test_a_misspelled_option_is_refused(small_lazy):
    with pytest.raises(ValueError, match="fbsm_los_weight"):
        LazyRecipe(small_lazy("+model.fbsm_los_weight=1.0")).build_model()
