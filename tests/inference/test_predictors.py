"""A checkpoint's card decides what its predictor calls things and at which scale it looks."""

from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog

from efpnbs_d2.inference.predictors import CARD_KEY, predictor_config, read_card

YAML = Path(__file__).resolve().parents[2] / "configs/yacs/tinyscenes-EFPNBS-R18.yaml"
CARD = {
    "class_names": ["buoy", "raft"],
    "input": {"format": "RGB", "min_size_test": 600, "max_size_test": 1200},
}


def test_the_card_completes_the_config(tmp_path):
    torch.save({"model": {}, CARD_KEY: CARD}, tmp_path / "own.pth")
    cfg = predictor_config(YAML, tmp_path / "own.pth")
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "own.pth")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    scale = cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    assert scale == ("RGB", 600, 1200)
    assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes == ["buoy", "raft"]


def test_retrained_weights_of_one_name_bring_their_new_classes(tmp_path):
    for names in (["buoy", "raft"], ["swimmer", "surfer"]):
        card = {**CARD, "class_names": names}
        torch.save({"model": {}, CARD_KEY: card}, tmp_path / "own.pth")
        cfg = predictor_config(YAML, tmp_path / "own.pth")
        assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes == names


def test_weights_without_a_card_leave_the_yaml_as_it_is(tmp_path):
    torch.save({"model": {}}, tmp_path / "stock.pth")
    cfg = predictor_config(YAML, tmp_path / "stock.pth")
    assert cfg.DATASETS.TEST == ("tinyscenes_val",)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 8


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoint .*none.pth not found"):
        read_card(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="config file .*none.yaml not found"):
        predictor_config(tmp_path / "none.yaml", tmp_path / "none.pth")
