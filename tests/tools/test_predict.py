"""Images and videos go in, pictures and files come out, whatever happens on the way."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from efpnbs_d2.checkpoint import CARD_KEY
from efpnbs_d2.inference.thresholds import score_thresholds
from efpnbs_d2.tools import evaluate, predict
from efpnbs_d2.tools.detector_options import Detector
from efpnbs_d2.tools.predict import main

NAMES = ["buoy", "raft"]


class Oracle:
    """Stands for a model: one sure and one unsure box in every image; counts what it sees."""

    def __init__(self):
        self.seen = []
        self.stop_at = None

    def __call__(self, images):
        outputs = []
        for image in images:
            if len(self.seen) == self.stop_at:
                self.stop_at = None
                raise KeyboardInterrupt
            self.seen.append(image.shape)
            found = Instances(image.shape[:2])
            found.pred_boxes = Boxes(torch.tensor([[1.0, 2, 11, 8], [20, 20, 30, 30]]))
            found.pred_classes = torch.tensor([1, 0])
            found.scores = torch.tensor([0.9, 0.2])
            outputs.append(found)
        return outputs


@pytest.fixture
def oracle(monkeypatch):
    """What every run of the command detects with, from the options' thresholds on."""
    predicts = Oracle()

    def load(args, min_score, *, show_windows):
        thresholds, metadata = score_thresholds({}, 2, min_score), Metadata()
        return Detector(predicts, None, thresholds, NAMES, [5, 9], metadata, args.batch_size or 1)

    monkeypatch.setattr(predict, "load_detector", load)
    return predicts


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "deep/a.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(path)
    (tmp_path / "in/notes.txt").write_text("no image")
    (tmp_path / "model.yaml").write_text("a config")
    torch.save({CARD_KEY: {"class_names": NAMES}}, tmp_path / "model.pth")
    return tmp_path


def write_video(path, frames=5, size=(64, 48)):
    file = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, size)
    for number in range(frames):
        file.write(np.full((size[1], size[0], 3), 20 * number, np.uint8))
    file.release()


def run(folder, *arguments):
    """The command, on all of `in` unless inputs are named; exit status."""
    options = ["--config-file", f"{folder}/model.yaml", "--weights", f"{folder}/model.pth"]
    inputs = [] if any(Path(a).exists() for a in arguments) else [f"{folder}/in"]
    return main([*options, "--output", f"{folder}/out", *arguments, *inputs])


def results(folder):
    return json.loads((folder / "out/detections.json").read_text())


def names(folder, kind):
    return sorted(path.name for path in (folder / "out" / kind).iterdir())


def test_every_image_gets_a_picture_and_its_detections(oracle, folder, capsys):
    """Two images are called a: neither overwrites the other's results."""
    assert run(folder) == 0
    pictures = names(folder, "pictures")
    assert len(pictures) == 3 and [p[:2] for p in pictures] == ["a-", "a-", "b."]
    assert cv2.imread(str(folder / "out/pictures" / pictures[0])).shape[1] == 50 * 8
    assert names(folder, "visdrone") == [p.replace(".jpg", ".txt") for p in pictures]
    assert results(folder) == [
        {"image_id": i, "category_id": 9, "bbox": [1.0, 2.0, 10.0, 6.0], "score": 0.9}
        for i in (1, 2, 3)
    ]
    out, err = capsys.readouterr()
    assert "scores from 0.5 on" in out and "3 detections in 3 of 3 files" in out
    assert "3/3" in err and "image/s" in err


@pytest.mark.parametrize("form", ["detections.json", "visdrone"])
def test_evaluation_finds_each_class_in_the_annotations_trained_on(oracle, folder, capsys, form):
    """Their ids are 5 and 9, in both forms of the results; every box is right."""
    content = {
        "images": [{"id": 1, "file_name": "b.png", "height": 40, "width": 50}],
        "categories": [{"id": number, "name": name} for number, name in zip([5, 9], NAMES)],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": number, "bbox": box, "area": 60}
            for number, box in ((9, [1, 2, 10, 6]), (5, [20, 20, 10, 10]))
        ],
    }
    (folder / "gt.json").write_text(json.dumps(content))
    assert run(folder, f"{folder}/in/b.png", "--min-score", "0.1") == 0
    files = ["--gt", f"{folder}/gt.json", "--results", f"{folder}/out/{form}"]
    options = ["--quiet", "--protocol", "coco", "--output", f"{folder}/measured"]
    assert evaluate.main([*files, *options]) == 0
    measured = json.loads((folder / "measured/metrics.json").read_text())
    assert measured["metrics"]["AP"] == pytest.approx(100 if measured["unit"] == "percent" else 1)


def test_a_lower_score_lets_more_through(oracle, folder):
    assert run(folder, "--min-score", "0.1", "--no-pictures") == 0
    assert len(results(folder)) == 6
    assert not (folder / "out/pictures").exists()


def test_an_unreadable_file_is_reported_and_the_rest_written(oracle, folder, capsys):
    (folder / "in/b.png").write_bytes(b"broken")
    assert run(folder, "--batch-size", "3") == 1
    assert f"error: cannot read image {folder}/in/b.png" in capsys.readouterr().err
    assert len(results(folder)) == 2 and len(names(folder, "pictures")) == 2
    # Once it is mended, the same command does what is missing.
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / "in/b.png")
    assert run(folder) == 0
    assert len(results(folder)) == 3 and len(oracle.seen) == 3


def test_one_image_that_fails_late_does_not_take_its_batch_along(oracle, folder, monkeypatch):
    """A scene may turn out to be damaged, or too large, only when its pixels are read."""
    from efpnbs_d2.inference.scene import ArrayScene

    Image.fromarray(np.zeros((7, 50, 3), np.uint8)).save(folder / "in/b.png")
    read = ArrayScene.read

    def fails(self, corner):
        if self.height == 7:
            raise OSError("a damaged block")
        return read(self, corner)

    monkeypatch.setattr(ArrayScene, "read", fails)
    assert run(folder, "--batch-size", "3") == 1
    assert len(results(folder)) == 2


def test_a_second_run_does_only_what_is_missing(oracle, folder, capsys):
    assert run(folder) == 0
    first = (folder / "out/detections.csv").read_bytes()
    next((folder / "out/pictures").glob("b*")).unlink()
    assert run(folder) == 0
    assert len(oracle.seen) == 4  # b alone, whose picture was gone
    assert "2 of 3 files were done before" in capsys.readouterr().out
    assert (folder / "out/detections.csv").read_bytes() == first
    assert len(names(folder, "pictures")) == 3


@pytest.mark.parametrize("change", [["--min-score", "0.1"], ["--tta", "flip"], "weights"])
def test_other_options_do_not_mix_with_earlier_results(oracle, folder, capsys, change):
    assert run(folder) == 0
    before = results(folder)
    if change == "weights":
        torch.save({CARD_KEY: {"class_names": ["x", "y"]}}, folder / "model.pth")
        change = []
    assert run(folder, *change) == 1
    assert "results with another" in capsys.readouterr().err
    assert results(folder) == before and len(oracle.seen) == 3
    assert run(folder, *change, "--overwrite") == 0
    assert len(oracle.seen) == 6


def test_ctrl_c_leaves_whole_files_and_the_next_run_the_rest(oracle, folder, capsys):
    oracle.stop_at = 2
    assert run(folder) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert len(results(folder)) == 2 and len(names(folder, "pictures")) == 2
    assert len(json.loads((folder / "out/images.json").read_text())["images"]) == 2
    assert run(folder) == 0
    assert len(oracle.seen) == 3 and len(results(folder)) == 3
    assert not [p for p in (folder / "out").rglob("*") if p.name.startswith(".")]


def test_a_video_becomes_an_annotated_video_and_results_of_its_frames(oracle, folder):
    write_video(folder / "in/v.mp4")
    assert run(folder, f"{folder}/in/v.mp4", "--batch-size", "2") == 0
    assert oracle.seen == [(48, 64, 3)] * 5
    assert [r["image_id"] for r in results(folder)] == [1, 2, 3, 4, 5]
    assert names(folder, "visdrone") == [f"v_{n:06d}.txt" for n in range(1, 6)]
    video = cv2.VideoCapture(str(folder / "out/videos/v.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and video.get(cv2.CAP_PROP_FPS) == 10
    # Small frames are magnified, here 8 times; the fifth is of brightness 80. The box ends at 11.
    frame = [video.read()[1] for _ in range(5)][4].astype(int)
    assert frame.shape[1] == 64 * 8 and abs(frame[30 * 8, 50 * 8].mean() - 80) < 8
    assert np.ptp(frame[5 * 8, 11 * 8]) > 60 > np.ptp(frame[5 * 8, 13 * 8])
    assert run(folder, f"{folder}/in/v.mp4") == 0 and len(oracle.seen) == 5


def test_ctrl_c_in_a_video_keeps_what_was_seen_of_it(oracle, folder):
    """The next run starts it again: frames cannot be added to a video that is closed."""
    write_video(folder / "in/v.mp4")
    oracle.stop_at = 3
    assert run(folder, f"{folder}/in/v.mp4") == 130
    assert len(results(folder)) == 3
    video = cv2.VideoCapture(str(folder / "out/videos/v.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert run(folder, f"{folder}/in/v.mp4") == 0
    assert len(oracle.seen) == 8 and len(results(folder)) == 5


def test_a_broken_video_does_not_stop_the_rest(oracle, folder, capsys):
    (folder / "in/v.mp4").write_bytes(b"broken")
    assert run(folder, f"{folder}/in/v.mp4", f"{folder}/in/b.png") == 1
    assert "v.mp4: damaged, or of an unknown format" in capsys.readouterr().err
    assert len(results(folder)) == 1


def test_mistakes_end_in_a_sentence(folder, capsys):
    assert run(folder, f"{folder}/in/notes.txt", "--output", f"{folder}/in") == 1
    assert main(["--config-file", "x.yaml", "--weights", "w.pth", f"{folder}/no.jpg"]) == 1
    assert main(["--config-file", "x.yaml", "--weights", "w.pth", f"{folder}/in"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert not (folder / "out").exists()
