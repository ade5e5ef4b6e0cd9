"""The evaluator of registered data sets, against the numbers of the official code."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from efpnbs_d2.data.catalog import register_tiny_dataset
from efpnbs_d2.evaluation.evaluator import ProtocolEvaluator

CASES = Path(__file__).parent / "cases"


class Oracle(torch.nn.Module):
    """A model that knows the rows (x, y, w, h, score, class index) to predict on each image."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, batch):
        outputs = []
        for record in batch:
            table = np.array(self.rows.get(record["image_id"], []), dtype=float).reshape(-1, 6)
            found = Instances((record["height"], record["width"]))
            boxes = BoxMode.convert(table[:, :4], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
            found.pred_boxes = Boxes(torch.from_numpy(boxes))
            found.scores = torch.from_numpy(table[:, 4])
            found.pred_classes = torch.from_numpy(table[:, 5]).long()
            outputs.append({"instances": found})
        return outputs


def loader(name):
    """Batches of two records each, of this process."""
    records = DatasetCatalog.get(name)
    batches = [records[start : start + 2] for start in range(0, len(records), 2)]
    share = np.array_split(np.arange(len(batches)), comm.get_world_size())[comm.get_rank()]
    return [batches[index] for index in share]


def write_images(folder, names_and_sizes):
    for name, (height, width) in names_and_sizes:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((height, width, 3), np.uint8))


def register_coco_case(tmp_path, case, protocol, gt="gt.json"):
    data = json.loads((CASES / case / gt).read_text())
    files = {entry["file_name"]: (8, 8) for entry in data["images"]}
    write_images(tmp_path / "images", files.items())
    register_tiny_dataset(
        "case",
        annotations=str(CASES / case / gt),
        images=str(tmp_path / "images"),
        protocol=protocol,
    )
    DatasetCatalog.get("case")
    return MetadataCatalog.get("case").thing_dataset_id_to_contiguous_id


def coco_rows(case, index_of, results="results.json"):
    rows = {}
    for r in json.loads((CASES / case / results).read_text()):
        if r["category_id"] in index_of:
            row = [*r["bbox"], r["score"], index_of[r["category_id"]]]
            rows.setdefault(r["image_id"], []).append(row)
    return rows


def register_visdrone_case(tmp_path, name="case", images=None):
    case = "visdrone/dense_scene"
    sizes = json.loads((CASES / case / "image_sizes.json").read_text())
    chosen = list(sizes.items())[:images]
    write_images(tmp_path / "images", [(f"{stem}.png", size) for stem, size in chosen])
    (tmp_path / "annotations").mkdir()
    for stem, _ in chosen:
        shutil.copy(CASES / case / f"annotations/{stem}.txt", tmp_path / "annotations")
    register_tiny_dataset(
        name,
        annotations=str(tmp_path / "annotations"),
        images=str(tmp_path / "images"),
        classes=MetadataCatalog.get("visdrone_val").thing_classes,
        protocol="visdrone",
    )
    rows = {}
    for record in DatasetCatalog.get(name):
        path = CASES / case / "results" / f"{Path(record['file_name']).stem}.txt"
        table = np.loadtxt(path, delimiter=",", ndmin=2)
        table[:, 5] -= 1
        rows[record["image_id"]] = table[:, :6].tolist()
    return rows


def expected_percent(case, section="stats"):
    stats = json.loads((CASES / case / "expected.json").read_text())[section]
    return {name: np.nan if value in (None, -1) else 100 * value for name, value in stats.items()}


def test_aitod_gets_the_official_numbers(registry, tmp_path):
    case = "aitod/dense_scene"
    index_of = register_coco_case(tmp_path, case, "aitod")
    evaluator = ProtocolEvaluator("case", output_dir=str(tmp_path / "out"))
    assert isinstance(evaluator, COCOEvaluator)
    model = Oracle(coco_rows(case, index_of))
    results = inference_on_dataset(model, loader("case"), evaluator)["bbox"]
    expected = expected_percent(case)
    # The model's boxes are float32, which may move a box over a threshold, but does not here.
    assert {key: results[key] for key in expected} == pytest.approx(expected, nan_ok=True, abs=1e-3)
    assert evaluator.metric_names == list(expected)
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["metrics"]["AP"] == pytest.approx(expected["AP"] / 100, abs=1e-5)
    assert "AP-vehicle" in results


def test_visdrone_gets_the_official_numbers_under_the_usual_names(registry, tmp_path):
    rows = register_visdrone_case(tmp_path)
    evaluator = ProtocolEvaluator("case", output_dir=str(tmp_path / "out"))
    results = inference_on_dataset(Oracle(rows), loader("case"), evaluator)["bbox"]
    expected = json.loads((CASES / "visdrone/dense_scene/expected.json").read_text())["stats"]
    found = {key: results[key] for key in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500")}
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-3)


def test_whoever_is_not_detected_is_reported_with_zero(registry, tmp_path):
    rows = register_visdrone_case(tmp_path)
    evaluator = ProtocolEvaluator("case")
    results = inference_on_dataset(Oracle(dict.fromkeys(rows, [])), loader("case"), evaluator)
    assert results["bbox"]["AP"] == 0


def test_another_protocol_can_be_asked_for(registry, tmp_path):
    case = "aitod/dense_scene"
    index_of = register_coco_case(tmp_path, case, "aitod")
    model, batches = Oracle(coco_rows(case, index_of)), loader("case")
    ours = inference_on_dataset(model, batches, ProtocolEvaluator("case", "coco"))["bbox"]
    stock = COCOEvaluator(
        "case", ("bbox",), output_dir=str(tmp_path / "stock"), allow_cached_coco=False
    )
    theirs = inference_on_dataset(model, batches, stock)["bbox"]
    assert {key: ours[key] for key in theirs} == pytest.approx(theirs, nan_ok=True)
    with pytest.raises(ValueError, match="found protocol 'voc', expected one of coco, aitod"):
        ProtocolEvaluator("case", "voc")


def test_some_images_can_be_evaluated_alone(registry, tmp_path):
    """As if neither the annotations nor the results had the others."""
    rows = register_visdrone_case(tmp_path / "whole")
    evaluator = ProtocolEvaluator("case")
    whole = inference_on_dataset(Oracle(rows), loader("case"), evaluator)["bbox"]
    part = evaluator.evaluate(img_ids=[1, 2])["bbox"]
    rows = register_visdrone_case(tmp_path / "part", "part", images=2)
    alone = inference_on_dataset(Oracle(rows), loader("part"), ProtocolEvaluator("part"))["bbox"]
    assert part == pytest.approx(alone, nan_ok=True)
    assert part["AP"] != pytest.approx(whole["AP"])


def test_a_data_set_of_others_is_scored_by_its_records(registry, tmp_path):
    """Registered with Detectron2 alone: a perfect and a missed object of one class."""
    record = {"file_name": "a.png", "image_id": 7, "height": 50, "width": 50}
    record["annotations"] = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 0}
        for box in ([10, 10, 20, 20], [30, 30, 40, 40])
    ]
    DatasetCatalog.register("theirs", lambda: [record])
    MetadataCatalog.get("theirs").set(thing_classes=["a", "b"])
    model = Oracle({7: [[10, 10, 10, 10, 0.9, 1]]})
    results = inference_on_dataset(model, loader("theirs"), ProtocolEvaluator("theirs"))["bbox"]
    # Recall 1/2 at precision 1: 51 of the 101 recalls.
    assert results["AP"] == pytest.approx(100 * 51 / 101)


def _in_one_of_two(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    comm.create_local_process_group(2)
    rows = register_visdrone_case(Path(folder, str(rank)))
    evaluator = ProtocolEvaluator("case", output_dir=f"{folder}/out")
    results = inference_on_dataset(Oracle(rows), loader("case"), evaluator)
    assert bool(results) == (rank == 0)
    torch.distributed.destroy_process_group()


def test_two_processes_give_what_one_gives(registry, tmp_path):
    torch.multiprocessing.spawn(_in_one_of_two, (str(tmp_path),), nprocs=2)
    rows = register_visdrone_case(tmp_path / "one")
    evaluator = ProtocolEvaluator("case", output_dir=str(tmp_path / "one_out"))
    inference_on_dataset(Oracle(rows), loader("case"), evaluator)
    two, one = (json.loads((tmp_path / f / "metrics.json").read_text()) for f in ("out", "one_out"))
    assert two == one


def test_tiles_are_scored_on_the_whole_images(registry, tmp_path):
    case = "tinyperson/tiles_merge"
    register_coco_case(tmp_path, case, "tinyperson")
    register_tiny_dataset(
        "tiles",
        annotations=str(CASES / case / "gt_corner.json"),
        images=str(tmp_path / "images"),
        protocol="tinyperson",
        tiles_of="case",
    )
    DatasetCatalog.get("tiles")
    index_of = MetadataCatalog.get("tiles").thing_dataset_id_to_contiguous_id
    model = Oracle(coco_rows(case, index_of, "results_tiles.json"))
    evaluator = ProtocolEvaluator("tiles", output_dir=str(tmp_path / "out"))
    results = inference_on_dataset(model, loader("tiles"), evaluator)["bbox"]
    expected = expected_percent(case, "stats_AP") | expected_percent(case, "stats_MR")
    assert {key: results[key] for key in expected} == pytest.approx(expected, nan_ok=True, abs=1e-3)
    assert results["AP-person"] == pytest.approx(results["AP50_tiny"])
    written = json.loads((tmp_path / "out/tinyperson_results.json").read_text())
    merged = json.loads((CASES / case / "expected_merged_results.json").read_text())
    assert len(written) == len(merged)


def test_results_on_unlabelled_images_are_written_for_the_server(registry, tmp_path):
    """As VisDrone's test-challenge: one object on one of two images."""
    write_images(tmp_path / "images", [("a.png", (20, 20)), ("b.png", (20, 20))])
    register_tiny_dataset(
        "challenge",
        annotations=None,
        images=str(tmp_path / "images"),
        classes=["x", "y"],
        protocol="visdrone",
    )
    evaluator = ProtocolEvaluator("challenge", output_dir=str(tmp_path / "out"))
    model = Oracle({2: [[1, 2, 3, 4, 0.5, 1]]})
    assert inference_on_dataset(model, loader("challenge"), evaluator) == {}
    texts = {p.name: p.read_text() for p in (tmp_path / "out/visdrone_results").glob("*.txt")}
    assert texts == {"a.txt": "", "b.txt": "1,2,3,4,0.5,2,-1,-1\n"}
