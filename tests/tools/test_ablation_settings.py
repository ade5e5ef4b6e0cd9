"""What is the same within a comparison, and what is not."""

from pathlib import Path

import pytest

from efpnbs_d2.tools.ablation_list import Comparison, Run
from efpnbs_d2.tools.ablation_settings import differences, read_settings, short_key, unfair_keys

CONFIGS = Path(__file__).resolve().parents[2] / "configs/tinyscenes"


def settings(*overrides, config="fpn_r18.py", starts=None, **options):
    return read_settings(Run("mine", CONFIGS / config, overrides, **options), starts or {})


def test_only_the_method_may_differ():
    fpn = settings()
    method = settings("+model.roi_heads.box_predictor.dc_loss.limit=2.0", config="efpn_bs_r18.py")
    comparison = Comparison("fpn", ("all",))
    assert {"model.backbone.cem", "model.fbsm_loss_weight"} < differences(fpn, method).keys()
    assert unfair_keys(comparison, fpn, method) == []
    for override, key in {
        "train.max_iter=7": "train.max_iter",
        "dataloader.train.total_batch_size=2": "dataloader.train.total_batch_size",
        "optimizer.lr=1.0": "optimizer.lr",
        "model.roi_heads.box_predictor.test_topk_per_image=9": (
            "model.roi_heads.box_predictor.test_topk_per_image"
        ),
        "model.proposal_generator.anchor_generator.offset=0.5": (
            "model.proposal_generator.anchor_generator.offset"
        ),
        "model.backbone.bottom_up.freeze_at=1": "model.backbone.bottom_up.freeze_at",
        "model.backbone.norm=GN": "model.backbone.norm",
    }.items():
        assert key in unfair_keys(comparison, fpn, settings(override)), override
        allowed = Comparison("fpn", ("all",), (key,))
        assert key not in unfair_keys(allowed, fpn, settings(override))


def test_where_and_how_fast_does_not_matter():
    same = settings(
        "train.output_dir=elsewhere",
        "train.seed=5",
        "train.device=cpu",
        "dataloader.train.num_workers=0",
        "train.checkpointer.period=1",
        "train.eval_period=1",
    )
    assert differences(settings(), same) == {}


def test_the_start_matters_and_replaces_the_config_s_own_weights():
    starts = {
        "short": Run("short", CONFIGS / "fpn_r18.py", ("train.max_iter=5",)),
        "long": Run("long", CONFIGS / "fpn_r18.py", ("train.max_iter=6",)),
        "none": Run("none", CONFIGS / "fpn_r18.py", ("train.max_iter=5",), untrained=True),
    }
    short, long, none = (settings(starts=starts, start=name) for name in starts)
    assert differences(short, long) == {"start.train.max_iter": ("5", "6")}
    assert differences(short, none) == {"start.untrained": ("–", "True")}
    assert "train.init_checkpoint" not in short
    # Without a start the file counts.
    assert differences(settings(), settings("train.init_checkpoint=a.pth")) == {
        "train.init_checkpoint": ("", "a.pth")
    }


def test_values_are_the_same_text_in_every_process():
    # An object's own text would hold its address.
    assert all(" at 0x" not in text for text in settings(config="efpn_bs_r18.py").values())
    assert settings()["model.backbone._target_"] == "FPN"
    assert settings()["dataloader.train.mapper.augmentations.0._target_"]


def test_a_mistake_names_the_run():
    with pytest.raises(ValueError, match="run mine: .*no key 'model.nothing'"):
        settings("model.nothing=1")
    with pytest.raises(ValueError, match="yacs config"):
        settings(config="../yacs/tinyscenes-EFPNBS-R18.yaml")


def test_keys_are_short():
    assert short_key("model.roi_heads.box_predictor.dc_loss.strength") == "dc_loss.strength"
    assert short_key("model.roi_heads.box_predictor._target_") == "box_predictor"
    assert short_key("model.backbone._target_") == "backbone"
    assert short_key("train.max_iter") == "train.max_iter"
