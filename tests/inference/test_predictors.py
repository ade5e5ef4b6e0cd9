"""A checkpoint's card decides what its predictor calls things and at which scale it looks."""

from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog

from efpnbs_d2.checkpoint import CARD_KEY, read_card
from efpnbs_d2.engine.cli import load_config
from efpnbs_d2.engine.recipe import YacsRecipe
from efpnbs_d2.inference.predictors import category_ids, predictor_config

YAML = Path(__file__).resolve().parents[2] / "configs/yacs/tinyscenes-EFPNBS-R18.yaml"
CARD = {
    "class_names": ["buoy", "raft"],
    "input": {"format": "RGB", "min_size_test": 600, "max_size_test": 1200},
}


def _save(folder, card, *overrides):
    """Weights of the YAML's model, with as many classes as the card names."""
    classes = f"MODEL.ROI_HEADS.NUM_CLASSES={len(card['class_names']) if card else 8}"
    model = YacsRecipe(load_config(str(YAML), [classes, *overrides])).build_model()
    extra = {CARD_KEY: card} if card else {}
    torch.save({"model": model.state_dict(), **extra}, folder / "own.pth")


def test_weights_of_another_model_are_refused(tmp_path):
    """`DefaultPredictor` alone would predict with random layers."""
    _save(tmp_path, CARD, "MODEL.FPN.OUT_CHANNELS=16")
    with pytest.raises(ValueError, match="belongs to another model"):
        predictor_config(YAML, tmp_path / "own.pth")


def test_the_card_completes_the_config(tmp_path):
    _save(tmp_path, CARD)
    cfg = predictor_config(YAML, tmp_path / "own.pth")
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "own.pth")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    scale = cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    assert scale == ("RGB", 600, 1200)
    assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes == ["buoy", "raft"]


def test_retrained_weights_of_one_name_bring_their_new_classes(tmp_path):
    for names in (["buoy", "raft"], ["swimmer", "surfer"]):
        _save(tmp_path, {**CARD, "class_names": names})
        cfg = predictor_config(YAML, tmp_path / "own.pth")
        assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes == names


def test_the_card_tells_the_ids_of_the_classes(tmp_path):
    """One of an earlier version does not: they count from 1."""
    for known, expected in ({"category_ids": [9, 5]}, [9, 5]), ({}, [1, 2]):
        _save(tmp_path, {**CARD, **known})
        cfg = predictor_config(YAML, tmp_path / "own.pth")
        assert category_ids(MetadataCatalog.get(cfg.DATASETS.TEST[0]), 2) == expected


def test_weights_without_a_card_leave_the_yaml_as_it_is(tmp_path):
    _save(tmp_path, None)
    cfg = predictor_config(YAML, tmp_path / "own.pth")
    assert cfg.DATASETS.TEST == ("tinyscenes_val",)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 8


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoint .*none.pth not found"):
        read_card(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="config file .*none.yaml not found"):
        predictor_config(tmp_path / "none.yaml", tmp_path / "none.pth")
