"""The benchmark runs whole on a small detector; its numbers are no test, what it compares is."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from efpnbs_d2.tools import bench_tiled

YAML = str(Path(__file__).resolve().parents[2] / "configs/yacs/tinyscenes-EFPNBS-R18.yaml")
SMALL = ["MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"]
SMALL += ["TEST.DETECTIONS_PER_IMAGE", "20"]


def test_prints_a_line_for_each_and_where_the_time_goes(tmp_path, capsys, monkeypatch):
    """Of 700 x 300 px: two windows, with 20 boxes each before merging."""
    monkeypatch.setattr(bench_tiled.importlib.util, "find_spec", lambda name: None)
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (300, 700, 3), np.uint8))
    options = ["--config-file", YAML, "--image", str(image), "--rounds", "1", "--batch-size", "2"]
    assert bench_tiled.main([*options, *SMALL]) == 0
    head, _, bare, ours, mixed, *stages = capsys.readouterr().out.splitlines()
    assert head.startswith("2 windows of 640 x 512 px on ") and head.endswith("batches of 2")
    assert bare.split()[:3] == ["bare", "model", "40"] and "100.0%" in bare
    assert ours.split()[0] == "TiledPredictor" and 20 <= int(ours.split()[1]) <= 40
    assert mixed.split()[:2] == ["TiledPredictor,", "bfloat16"] and "%" in mixed
    seconds = {line[:26].strip(): float(line[26:].split()[0]) for line in stages}
    assert list(seconds) == ["model", "crop and collate", "merge", "rest"]
    assert seconds["model"] > 0


def test_runs_hold_boxes_and_seconds(small_yacs, monkeypatch):
    cfg = small_yacs("MODEL.DEVICE=cpu")
    task = bench_tiled.Task(bench_tiled.DefaultPredictor(cfg), np.zeros((8, 8, 3), np.uint8), 1)
    monkeypatch.setattr(bench_tiled.Task, "contestants", lambda self: {"a": lambda: 7})
    wall, processor = iter([1.0, 3.0] * 3), iter([1.0, 2.0] * 3)
    monkeypatch.setattr(bench_tiled.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(bench_tiled.time, "process_time", lambda: next(processor))
    assert bench_tiled.measure(task, rounds=2) == {"a": [(7, 2.0, 1.0)] * 2}


def test_the_same_windows_and_boxes_as_sahi(small_yacs):
    pytest.importorskip("sahi")
    size = "INPUT.MIN_SIZE_TEST=512", "INPUT.MAX_SIZE_TEST=640", "TEST.DETECTIONS_PER_IMAGE=20"
    cfg = small_yacs("MODEL.DEVICE=cpu", *size)
    image = np.random.default_rng(0).integers(0, 256, (600, 700, 3), np.uint8)
    task = bench_tiled.Task(bench_tiled.DefaultPredictor(cfg), image, batch_size=2)
    boxes = {name: run() for name, run in task.contestants().items()}
    assert boxes["bare model"] == 80 and abs(boxes["TiledPredictor"] - boxes["SAHI"]) <= 4


def test_what_cannot_be_read_is_an_error(capsys):
    assert bench_tiled.main(["--config-file", YAML, "--image", "none.png"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        bench_tiled.main(["--config-file", YAML, "--rounds", "0"])
