"""A command line becomes a detector."""

import argparse

import numpy as np
import pytest
import torch

from efpnbs_d2.checkpoint import CARD_KEY
from efpnbs_d2.engine.recipe import YacsRecipe
from efpnbs_d2.inference import scene as scenes
from efpnbs_d2.inference.augmented import AugmentedPredictor
from efpnbs_d2.inference.batch import BatchPredictor
from efpnbs_d2.inference.scene import ArrayScene
from efpnbs_d2.tools.detector_options import (
    add_detector_options,
    detector_settings,
    load_detector,
)

SCALE = {"format": "BGR", "min_size_test": 0, "max_size_test": 0}
CARD = {"class_names": ["buoy", "raft"], "category_ids": [9, 5], "input": SCALE}
SCENE = ArrayScene(np.random.default_rng(0).integers(0, 256, (90, 150, 3), dtype=np.uint8))


@pytest.fixture
def parse(small_yacs, tmp_path):
    """Options behind the config and the weights of an untrained small model."""
    cfg = small_yacs("MODEL.ROI_HEADS.NUM_CLASSES=2")
    (tmp_path / "small.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    model = YacsRecipe(cfg).build_model()
    model.roi_heads.box_predictor.cls_score.weight.data *= 50
    torch.save({"model": model.state_dict(), CARD_KEY: CARD}, tmp_path / "w.pth")

    def parsed(*options):
        parser = argparse.ArgumentParser()
        add_detector_options(parser)
        files = ["--config-file", f"{tmp_path}/small.yaml", "--weights", f"{tmp_path}/w.pth"]
        return parser.parse_args([*files, *options])

    return parsed


def test_without_options_images_are_read_whole(parse):
    detector = load_detector(parse(), 0.0)
    assert isinstance(detector.predict, BatchPredictor) and detector.tiled is None
    assert detector.batch_size == 1 and list(detector.class_names) == ["buoy", "raft"]
    assert detector.category_ids == [9, 5]
    (found,) = detector.find([SCENE])
    (expected,) = detector.predict([SCENE.image])
    assert len(found) == len(expected) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_tiles_are_width_and_height(parse):
    options = "--tile 64 32 --overlap 20 10 --batch-size 3 --whole-image".split()
    tiled = load_detector(parse(*options), None).tiled
    # In the detector height comes first.
    assert tiled.window == (32, 64) and tiled.overlap == (10, 20)
    assert tiled.batch_size == 3 and tiled.whole_image
    assert load_detector(parse("--tile", "640", "512"), None).tiled.overlap == (50, 50)


def test_tiles_are_detected_in_by_the_augmented_detector(parse):
    detector = load_detector(parse("--tile", "80", "80", "--tta", "flip,0.5,scales"), None)
    assert isinstance(detector.tiled.predict, AugmentedPredictor)
    assert detector.tiled.predict.flip and len(detector.tiled.predict.versions) == 4


def test_only_scores_from_the_threshold_on_come_through(parse, tmp_path):
    every = load_detector(parse(), 0.0).find([SCENE])[0]
    middle = every.scores.median().item()
    detector_thresholds = {"values": [middle, 1.0]}
    content = torch.load(tmp_path / "w.pth")
    content[CARD_KEY] = {**CARD, "score_thresholds": detector_thresholds}
    torch.save(content, tmp_path / "w.pth")
    (found,) = load_detector(parse(), None).find([SCENE])
    expected = every[(every.scores >= middle) & (every.pred_classes == 0)]
    assert 0 < len(found) < len(every)
    assert torch.equal(found.scores, expected.scores)
    assert len(load_detector(parse(), 0.0).find([SCENE])[0]) == len(every)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "10", "10"], "belong to --tile"),
        (["--whole-image"], "belong to --tile"),
        (["--batch-size", "0"], "found --batch-size 0"),
        (["--tta", "rotate"], "found --tta 'rotate'"),
        (["--tta", "-2"], "expected one or more, all above 0"),
        (["--device", "toaster"], "found --device toaster"),
        (["--tile", "0", "10"], "0"),
    ],
)
def test_impossible_options_are_refused(parse, options, message):
    with pytest.raises(ValueError, match=message):
        load_detector(parse(*options), None)


def test_a_gpu_that_is_not_there_is_refused(parse, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU here"):
        load_detector(parse("--device", "cuda:0"), None)


def test_a_gpu_beyond_those_here_is_refused(parse, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="found --device cuda:2, expected cuda:0 to cuda:1"):
        load_detector(parse("--device", "cuda:2"), None)


def test_settings_are_what_detections_depend_on(parse, tmp_path):
    plain = detector_settings(parse())
    assert plain == detector_settings(parse("--device", "cpu", "--batch-size", "7"))
    for options in (["--tile", "9", "9"], ["--tta", "flip"], ["--precision", "bfloat16"]):
        assert detector_settings(parse(*options)) != plain
    (tmp_path / "w.pth").write_bytes(b"others")
    assert detector_settings(parse())["weights"] != plain["weights"]


def test_a_scene_too_large_to_be_read_whole_names_the_way_out(parse, monkeypatch):
    monkeypatch.setattr(scenes, "MAX_PIXELS", 90 * 150 - 1)
    with pytest.raises(ValueError, match="150 x 90 px, too large .* --tile"):
        load_detector(parse(), None).find([SCENE])
    assert load_detector(parse("--tile", "64", "64"), None).find([SCENE])
