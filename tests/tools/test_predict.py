"""Images go in, pictures and a JSON come out; one bad file does not stop the rest."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image

from efpnbs_d2.tools.predict import list_images, main, predict


class Oracle:
    """Stands for a predictor: one sure and one unsure box in every image."""

    metadata = MetadataCatalog.get("test_predict").set(thing_classes=["buoy", "raft"])

    def __call__(self, image):
        found = Instances(image.shape[:2])
        found.pred_boxes = Boxes(torch.tensor([[1.0, 2, 11, 8], [20, 20, 30, 30]]))
        found.pred_classes = torch.tensor([1, 0])
        found.scores = torch.tensor([0.9, 0.2])
        return {"instances": found}


@pytest.fixture
def images(tmp_path):
    for name in ("b.png", "a.jpg", "deep/a.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(path)
    (tmp_path / "in/notes.txt").write_text("no image")
    return tmp_path / "in"


def test_every_image_gets_a_picture_and_its_detections(images, tmp_path):
    assert predict(Oracle(), list_images([images]), tmp_path / "out", 0.5) == []
    pictures = sorted(p.name for p in (tmp_path / "out/pictures").iterdir())
    assert pictures == ["00000_a.png", "00001_b.png", "00002_a.png"]
    records = json.loads((tmp_path / "out/detections.json").read_text())
    assert [Path(r["image"]).name for r in records] == ["a.jpg", "b.png", "a.jpg"]
    assert records[0] == {
        "image": str(images / "a.jpg"),
        "category": "raft",
        "category_id": 1,
        "bbox": [1.0, 2.0, 10.0, 6.0],
        "score": 0.9,
    }


def test_an_unreadable_file_is_reported_and_the_rest_written(images, tmp_path):
    (images / "b.png").write_bytes(b"broken")
    failed = predict(Oracle(), list_images([images]), tmp_path / "out", 0.0)
    assert len(failed) == 1 and str(images / "b.png") in failed[0]
    records = json.loads((tmp_path / "out/detections.json").read_text())
    assert len(records) == 4  # both boxes of the two good images


def test_paths_that_hold_nothing_are_named(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="none.jpg not found"):
        list_images([tmp_path / "none.jpg"])
    with pytest.raises(ValueError, match="holds no image"):
        list_images([tmp_path])
    assert main(["--config-file", "x.yaml", "--weights", "w.pth", str(tmp_path / "no.jpg")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
