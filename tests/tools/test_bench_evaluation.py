"""The benchmark runs whole on small inputs; what it finds is no test, but what it compares is."""

import json

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from efpnbs_d2.evaluation.evaluate import evaluate
from efpnbs_d2.evaluation.files.ground_truth import read_ground_truth
from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.protocols import PROTOCOLS
from efpnbs_d2.tools import bench_evaluation
from efpnbs_d2.tools.sample_boxes import Sizes, write_coco, write_visdrone

SIZES = Sizes(images=5, objects=200, detections=1000, classes=3, regions=4)


def test_table_and_json(capsys, tmp_path, monkeypatch):
    # Processes of their own take long to start.
    monkeypatch.setattr(bench_evaluation, "measure_files", bench_evaluation._measure_files)
    bench_evaluation.main(["--small", "--output", str(tmp_path / "out" / "bench.json")])
    table = capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert result["machine"]["cores"] >= 1
    for name, aim in {"AI-TOD test": 90, "VisDrone val": 15}.items():
        case = result["files"][name]
        parts = case["read annotations"] + case["read results"] + case["evaluate"]
        assert case["seconds"] == pytest.approx(parts) and case["GB"] > 0.01
        line = next(line for line in table.splitlines() if line.startswith(name))
        assert f"{case['seconds']:.1f}" in line and str(aim) in line.split()
    for name in ("AI-TOD-like", "dense"):
        case = result["ratios"][name]
        assert case["ratio"] == pytest.approx(case["pycocotools"] / case["ours"])
        assert f"{case['ratio']:.1f}" in table


def test_memory_is_of_a_fresh_process(tmp_path):
    files = write_coco(SIZES, tmp_path / "coco")
    ours = np.ones(200_000_000, dtype=np.float64)
    assert 0.05 < bench_evaluation.measure_files("aitod", *files)["GB"] < 1.4 < ours.nbytes / 1e9


def test_evaluate_and_accumulate_are_timed(monkeypatch):
    """On a clock that goes on by 1 s in ours and by 2 + 4 s in pycocotools, in every round."""
    clock = [0.0]

    def passing(seconds, function):
        def run(*args, **options):
            clock[0] += seconds
            return function(*args, **options)

        return run

    monkeypatch.setattr(bench_evaluation.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(bench_evaluation, "evaluate", passing(1, evaluate))
    for seconds, name in ((2, "evaluate"), (4, "accumulate")):
        slow = passing(seconds, getattr(COCOeval, name))
        monkeypatch.setattr(COCOeval, name, slow)
    found = bench_evaluation.measure(SIZES, rounds=2)
    assert found["ours"] == [1, 1] and found["pycocotools"] == [6, 6]
    assert bench_evaluation.compare(SIZES)["ratio"] == 6


def test_coco_files_hold_the_columns(tmp_path):
    truth, found = SIZES.columns()
    protocol = PROTOCOLS["aitod"]
    files = write_coco(SIZES, tmp_path / "coco")
    read_truth = read_ground_truth(files[0], protocol)
    read_found = read_results(files[1], read_truth, protocol)
    for name in ("image", "category", "boxes", "area", "annotation_id"):
        np.testing.assert_array_equal(getattr(read_truth, name), getattr(truth, name))
    for name in ("image", "category", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(read_found, name), getattr(found, name))


def test_visdrone_files_hold_as_many_rows(tmp_path):
    protocol = PROTOCOLS["visdrone"]
    annotations, results, images = write_visdrone(SIZES, tmp_path / "visdrone")
    truth = read_ground_truth(annotations, protocol, images=images)
    assert np.count_nonzero(truth.category == 0) == 4 and len(truth.image) == 204
    assert len(read_results(results, truth, protocol).image) == 1000


def test_boxes_are_worth_evaluating():
    truth, found = SIZES.columns()
    again, _ = SIZES.columns()
    np.testing.assert_array_equal(truth.boxes, again.boxes)
    assert len(truth.image) == 200 and len(found.image) == 1000
    same_image = np.diff(found.image) == 0
    assert (np.diff(found.image) >= 0).all() and (np.diff(found.scores)[same_image] <= 0).all()
    metrics = evaluate(PROTOCOLS["aitod"], truth, found, progress=False).metrics
    assert 0.1 < metrics["AP50"] < 0.9


def test_dense_scenes_are_even():
    truth, _ = Sizes(images=20, objects=3000, detections=10, classes=1, even=True).columns()
    assert set(np.bincount(truth.image)) == {150}


def test_scaling_leaves_something_of_everything():
    assert SIZES / 1000 == Sizes(images=1, objects=1, detections=1, classes=3, regions=1)
