"""Measures of a finished run, from files as its training leaves them."""

import json

import pytest

from efpnbs_d2.data import register_tiny_dataset
from efpnbs_d2.tools.ablation_measures import is_smaller_better, measure

# A very tiny object (6 px) of class 1 and a small one (20 px) of class 2; a flagged box is none.
OBJECTS = [
    {"id": 1, "category_id": 1, "bbox": [10, 10, 6, 6], "area": 36},
    {"id": 2, "category_id": 2, "bbox": [40, 40, 20, 20], "area": 400},
    {"id": 3, "category_id": 1, "bbox": [80, 80, 10, 10], "area": 100, "ignore": 1},
]


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


@pytest.fixture
def folder(tmp_path, registry):
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "annotations": [{"image_id": 1, "iscrowd": 0, **entry} for entry in OBJECTS],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "ship"}],
    }
    write(tmp_path / "truth.json", truth)
    (tmp_path / "a.jpg").touch()
    register_tiny_dataset(
        "mine", annotations=str(tmp_path / "truth.json"), images=str(tmp_path), protocol="coco"
    )
    run = tmp_path / "run"
    # The first found with the wrong class, the second exactly.
    found = [(2, OBJECTS[0]["bbox"], 0.9), (2, OBJECTS[1]["bbox"], 0.8)]
    results = [
        {"image_id": 1, "category_id": category, "bbox": box, "score": score}
        for category, box, score in found
    ]
    write(run / "inference/mine/coco_results.json", results)
    official = {"AP": 0.25, "APl": -1, "AP75": None}
    metrics = {"protocol": "coco", "unit": "fraction", "metrics": official}
    write(run / "inference/mine/metrics.json", metrics)
    write(run / "finished.json", {"peak_memory_mib": 123.5, "hardware": {}})
    times = {0: 100.0, 19: 50.0, 20: 3.0, 40: 1.0, 60: 2.0}
    lines = [json.dumps({"iteration": i, "time": t}) for i, t in times.items()]
    (run / "metrics.json").write_text("\n".join([*lines, '{"iteration": 60, "bbox/AP": 1}\n']))
    return run


def test_accuracy_is_measured_by_size_with_classes_and_without(folder):
    found = measure(folder)
    # Official numbers in percent; what is undefined is absent.
    assert found["mine/official/AP"] == 25
    assert "mine/official/APl" not in found and "mine/official/AP75" not in found
    # Class 1 finds nothing; class 2 has a wrong detection before its right one: precision 1/2.
    assert found["mine/aitod/AP50"] == pytest.approx(25)
    assert found["mine/aitod/APvt"] == 0
    # A very tiny detection does not count among the small ones.
    assert found["mine/aitod/APs"] == pytest.approx(100)
    # Whatever their class both are right.
    assert found["mine/any/AP"] == pytest.approx(100)
    assert found["mine/any/APvt"] == found["mine/any/APs"] == pytest.approx(100)
    assert found["mine/any/ARvt"] == pytest.approx(100)
    # The flagged box, of 10 px, is no object: there is none of the tiny bin.
    assert "mine/any/APt" not in found


def test_costs_are_of_the_steady_steps(folder):
    found = measure(folder)
    assert found["seconds_per_step"] == 2  # median of 3, 1, 2: without the first 20 iterations
    assert found["peak_memory_mib"] == 123.5


def test_what_was_measured_is_kept(folder):
    first = measure(folder)
    (folder / "finished.json").unlink()
    assert measure(folder) == first


def test_results_of_another_data_set_are_refused(folder):
    record = {"image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1.0}
    write(folder / "inference/mine/coco_results.json", [record])
    with pytest.raises(ValueError, match="coco_results.json"):
        measure(folder)


def test_the_direction_of_a_measure():
    smaller = ["seconds_per_step", "peak_memory_mib", "a/official/oLRP", "a/official/MR50_tiny"]
    assert all(map(is_smaller_better, smaller))
    assert not any(map(is_smaller_better, ["a/official/AP", "MR/any/ARvt"]))
