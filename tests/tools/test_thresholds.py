"""Thresholds chosen on a data set end up in the checkpoint."""

import argparse

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from efpnbs_d2.checkpoint import CARD_KEY, read_card
from efpnbs_d2.tools import thresholds
from efpnbs_d2.tools.detector_options import Detector
from efpnbs_d2.tools.thresholds import main

CARD = {"class_names": ["x", "y"], "input": {}}


def detections(record, *, right, wrong):
    """One detection on every object, its score by number, and wrong ones, by class."""
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], 0) for a in record["annotations"]]
    classes = [a["category_id"] for a in record["annotations"]]
    scores = [right] * len(boxes)
    for index in sorted(set(classes)):
        boxes.append([0.0, 0.0, 1.0, 1.0])
        classes.append(index)
        scores.append(wrong)
    found = Instances((record["height"], record["width"]))
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    found.scores, found.pred_classes = torch.tensor(scores), torch.tensor(classes)
    return found


@pytest.fixture
def weights(scenes, tmp_path):
    names = MetadataCatalog.get("tinyscenes_val").thing_classes
    torch.save({"model": {}, CARD_KEY: {**CARD, "class_names": list(names)}}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.fixture
def oracle(monkeypatch, weights):
    """Right detections have a score of 0.8, wrong ones of 0.3."""
    records = DatasetCatalog.get("tinyscenes_val")
    remaining = iter(records)
    names = read_card(weights)["class_names"]

    def predict(images):
        return [detections(next(remaining), right=0.8, wrong=0.3) for _ in images]

    def load(args: argparse.Namespace, min_score):
        assert min_score == 0.0
        return Detector(predict, None, [0.0] * len(names), names, [], None, 1)

    monkeypatch.setattr(thresholds, "load_detector", load)
    return records


def run(weights, *options):
    config = ["--config-file", "configs/yacs/tinyscenes-EFPNBS-R18.yaml"]
    return main([*config, "--weights", str(weights), *options])


def test_the_best_threshold_of_each_class_is_stored(oracle, weights, capsys):
    """All objects at 0.8 and nothing else: F1 is 1 from there on."""
    assert run(weights, "--dataset", "tinyscenes_val") == 0
    card = read_card(weights)
    stored = card.pop("score_thresholds")
    present = {a["category_id"] for r in oracle for a in r["annotations"]}
    score = torch.tensor(0.8).item()
    assert stored["values"] == [score if i in present else None for i in range(8)]
    assert (stored["rule"], stored["iou"], stored["dataset"]) == ("best F1", 0.5, "tinyscenes_val")
    assert card["class_names"] == list(MetadataCatalog.get("tinyscenes_val").thing_classes)
    assert "0.800  1.000" in capsys.readouterr().out


def test_what_does_not_fit_is_refused_and_the_weights_stay(oracle, weights, capsys, monkeypatch):
    before = weights.read_bytes()
    assert run(weights, "--dataset", "nowhere") == 1
    assert "no data set is named nowhere" in capsys.readouterr().err
    other = Detector(None, None, [0.0], ["swimmer"], [1], None, 1)
    monkeypatch.setattr(thresholds, "load_detector", lambda *_, **__: other)
    assert run(weights, "--dataset", "tinyscenes_val") == 1
    assert "found classes swimmer in the weights" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_the_configs_test_set_is_the_default(oracle, weights, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    assert run(weights) == 0
    assert read_card(weights)["score_thresholds"]["dataset"] == "tinyscenes_val"
