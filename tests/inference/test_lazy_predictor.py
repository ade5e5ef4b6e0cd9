"""Both config systems make the same detector of one checkpoint."""

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from omegaconf import OmegaConf

from efpnbs_d2.checkpoint import CARD_KEY
from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.inference.batch import BatchPredictor
from efpnbs_d2.inference.predictors import LazyPredictor, load_predictor, predictor_config

CARD = {
    "class_names": ["buoy", "raft", "pier"],
    "input": {"format": "RGB", "min_size_test": 160, "max_size_test": 400},
}
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture
def save(small_lazy, tmp_path):
    """Write a checkpoint of the small model, with so many classes; random, but always the same."""

    def write(card, name="weights.pth", classes=3):
        torch.manual_seed(0)
        model = LazyRecipe(small_lazy(f"model.roi_heads.num_classes={classes}")).build_model()
        # An untrained box head is sure of nothing: make some of what it sees likely.
        model.roi_heads.box_predictor.cls_score.weight.data *= 50
        content = {"model": model.state_dict(), **({CARD_KEY: card} if card else {})}
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def test_same_weights_same_detections(save, small_lazy, small_yacs, tmp_path):
    """Also in names, channel order and scale, which are the card's and in neither config."""
    weights = save(CARD)
    (tmp_path / "small.yaml").write_text(small_yacs().dump())
    default = DefaultPredictor(predictor_config(tmp_path / "small.yaml", weights))
    lazy = LazyPredictor(small_lazy(), weights)
    expected, found = (predictor(IMAGE)["instances"] for predictor in (default, lazy))
    assert len(expected) > 0 and found.image_size == (90, 120)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    assert lazy.metadata.thing_classes == default.metadata.thing_classes == CARD["class_names"]
    for predictor in (default, lazy):
        both = BatchPredictor.from_default(predictor)([IMAGE, IMAGE[:60]])
        assert [one.image_size for one in both] == [(90, 120), (60, 120)]
        assert len(both[0]) == len(expected)


def test_the_channel_order_and_scale_of_the_card_count(save, small_lazy):
    """Each changed alone changes what is found."""
    found = []
    for change in ({}, {"format": "BGR"}, {"min_size_test": 96}):
        weights = save({**CARD, "input": {**CARD["input"], **change}})
        found.append(LazyPredictor(small_lazy(), weights)(IMAGE)["instances"].scores.tolist())
    assert found[0] != found[1] and found[0] != found[2]


def test_without_a_card_the_config_decides(save, small_lazy, registry):
    cfg = small_lazy()
    weights = save(None, classes=cfg.model.roi_heads.num_classes)
    cfg.dataloader.test.mapper.image_format = "RGB"
    cfg.dataloader.test.mapper.augmentations = [
        {
            "_target_": "detectron2.data.transforms.ResizeShortestEdge",
            "short_edge_length": 160,
            "max_size": 400,
        }
    ]
    predictor = LazyPredictor(cfg, weights)
    assert predictor.input_format == "RGB"
    assert predictor.aug(T.AugInput(IMAGE)).apply_image(IMAGE).shape == (160, 213, 3)
    assert predictor.metadata is MetadataCatalog.get("tinyscenes_val")


def test_a_config_file_is_read_by_its_kind(save, small_lazy, small_yacs, tmp_path):
    weights = save(CARD)
    (tmp_path / "small.yaml").write_text(small_yacs().dump())
    LazyConfig.save(small_lazy(), str(tmp_path / "lazy.yaml"))
    (tmp_path / "small.py").write_text(
        "from detectron2.config import LazyConfig\n"
        f"cfg = LazyConfig.load({str(tmp_path / 'lazy.yaml')!r})\n"
        "model, dataloader = cfg.model, cfg.dataloader\n"
    )
    assert isinstance(load_predictor(tmp_path / "small.yaml", weights), DefaultPredictor)
    assert isinstance(load_predictor(tmp_path / "small.py", weights), LazyPredictor)
    assert isinstance(load_predictor(tmp_path / "lazy.yaml", weights), LazyPredictor)


def test_what_cannot_work_is_refused(save, small_lazy, tmp_path):
    cfg, weights = small_lazy(), save(CARD)
    with pytest.raises(FileNotFoundError, match="config file .*none.py not found"):
        LazyPredictor(tmp_path / "none.py", weights)
    with pytest.raises(FileNotFoundError, match="checkpoint .*none.pth not found"):
        LazyPredictor(cfg, tmp_path / "none.pth")
    (tmp_path / "other.yaml").write_text("MODEL:\n  NECK: 3\n")
    with pytest.raises(ValueError, match="other.yaml: Non-existent config key: MODEL.NECK"):
        load_predictor(tmp_path / "other.yaml", weights)
    with pytest.raises(ValueError, match="belongs to another model"):
        LazyPredictor(small_lazy("model.roi_heads.box_head.fc_dims=[32,32]"), weights)
    with pytest.raises(ValueError, match="defines no model"):
        LazyPredictor(OmegaConf.create({"dataloader": cfg.dataloader}), weights)
    with pytest.raises(ValueError, match="shape .*, expected an image"):
        LazyPredictor(cfg, weights)(IMAGE[:, :, 0])


def test_the_config_given_is_not_changed(save, small_lazy):
    cfg = small_lazy()
    before = OmegaConf.to_yaml(cfg)
    LazyPredictor(cfg, save(CARD))
    assert OmegaConf.to_yaml(cfg) == before
