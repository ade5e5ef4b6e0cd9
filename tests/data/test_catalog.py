"""Registered names, where their files are found, metadata, and stock COCO evaluation on them."""

import json
import logging
import os
import subprocess
import sys

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from efpnbs_d2.data import (
    DataFormatError,
    class_names,
    read_dataset,
    register_own_datasets,
    register_tiny_dataset,
)
from efpnbs_d2.data.own_datasets import register_datasets_of_environment
from efpnbs_d2.data.splits import SPLITS
from efpnbs_d2.data.tinyscenes import write_dataset

AITOD = ["airplane", "bridge", "storage-tank", "ship", "swimming-pool", "vehicle", "person"]
AITOD += ["wind-mill"]


def aitod_json(*names):
    """One image per name with one vehicle; as v2, without info."""
    images = [
        {"id": i, "file_name": name, "height": 80, "width": 80} for i, name in enumerate(names)
    ]
    boxes = [
        {"id": i, "image_id": i, "category_id": 6, "bbox": [5, 5, 9, 9], "iscrowd": 0}
        for i in range(len(names))
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(AITOD, start=1)]
    return {"images": images, "annotations": boxes, "categories": categories}


def tinyperson_json(*categories, **image):
    image = {"id": 0, "file_name": "labeled_images/a.jpg", "height": 72, "width": 128} | image
    flags = {"iscrowd": 0, "ignore": False, "uncertain": False, "logo": False}
    boxes = [
        {"id": 0, "image_id": 0, "category_id": 1, "bbox": [5, 5, 4, 9]} | flags,
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [50, 5, 40, 9]}
        | flags
        | {"ignore": True},
    ]
    return {
        "images": [image],
        "annotations": boxes,
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories, start=1)],
    }


def test_names_are_registered():
    expected = {
        *(f"tinyscenes_{s}" for s in ("train", "val")),
        *(f"aitod_v{v}_{s}" for v in (1, 2) for s in ("train", "val", "trainval", "test")),
        *(f"visdrone_{s}" for s in ("train", "val", "test_dev", "test_challenge")),
        *(f"tinyperson_{s}" for s in ("train", "train_dense", "test")),
        *(f"tinyperson_tiles_{s}" for s in ("train", "test")),
    }
    assert {split.name for split in SPLITS} == expected
    assert expected <= set(DatasetCatalog)


@pytest.mark.parametrize(
    ("name", "number", "first", "last", "protocol"),
    [
        ("tinyscenes_val", 8, "airplane", "wind-mill", "aitod"),
        ("aitod_v1_train", 8, "airplane", "wind-mill", "aitod"),
        ("aitod_v2_test", 8, "airplane", "wind-mill", "aitod"),
        ("visdrone_test_dev", 10, "pedestrian", "motor", "visdrone"),
        ("tinyperson_tiles_train", 1, "person", "person", "tinyperson"),
    ],
)
def test_metadata_is_there_before_any_file(name, number, first, last, protocol):
    metadata = MetadataCatalog.get(name)
    assert class_names(name) == metadata.thing_classes
    assert (len(class_names(name)), class_names(name)[0], class_names(name)[-1]) == (
        number,
        first,
        last,
    )
    assert metadata.thing_dataset_id_to_contiguous_id == {i + 1: i for i in range(number)}
    assert (metadata.evaluator_type, metadata.protocol) == ("coco", protocol)
    assert not hasattr(metadata, "json_file")


@pytest.mark.parametrize("home", ["", "VisDrone", "visdrone"])
@pytest.mark.parametrize("split", ["train", "val", "test-dev"])
def test_visdrone_trees(write_visdrone, tmp_path, home, split):
    folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0"}, split)
    (tmp_path / home).mkdir(exist_ok=True)
    target = folder.rename(tmp_path / home / folder.name)
    name = f"visdrone_{split.replace('-', '_')}"
    records = DatasetCatalog.get(name)
    assert records[0]["file_name"] == str(target / "images" / "a.jpg")
    assert MetadataCatalog.get(name).image_root == str(target / "images")


def test_root_is_read_when_loading(write_visdrone, tmp_path, monkeypatch):
    """Not at import; another root in one process replaces the first."""
    folder = write_visdrone({"a": b"", "b": b""})
    for root in (tmp_path / "first", tmp_path / "second"):
        root.mkdir()
        folder = folder.rename(root / folder.name)
        monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
        assert len(DatasetCatalog.get("visdrone_train")) == 2
        assert MetadataCatalog.get("visdrone_train").image_root == str(folder / "images")


def test_default_root_is_the_folder_datasets(write_visdrone, tmp_path, monkeypatch):
    write_visdrone({"a": b""}).rename(tmp_path / "x")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "x").rename(tmp_path / "datasets" / "VisDrone2019-DET-train")
    monkeypatch.delenv("DETECTRON2_DATASETS")
    monkeypatch.chdir(tmp_path)
    assert len(DatasetCatalog.get("visdrone_train")) == 1


def test_unlabelled_visdrone_split(write_visdrone):
    folder = write_visdrone({"a": b""}, "test-challenge")
    (folder / "annotations" / "a.txt").unlink()
    (folder / "annotations").rmdir()
    assert ["annotations" in r for r in DatasetCatalog.get("visdrone_test_challenge")] == [False]


@pytest.mark.parametrize(
    ("name", "file", "images"),
    [
        ("aitod_v1_train", "aitod/annotations/aitod_training_v1.json", "aitod/images/train"),
        ("aitod_v1_train", "annotations/aitod_training_v1.0.json", "images/train"),
        ("aitod_v1_val", "AI-TOD/annotations/aitod_validation_v1.json", "AI-TOD/trainval"),
        ("aitod_v1_trainval", "aitod/annotations/small_trainval_v1_1.0.json", "aitod/images/val"),
        ("aitod_v1_trainval", "aitod_v1/aitod_trainval_v1.json", "aitod/images/train/images"),
        ("aitod_v1_test", "AITOD/annotations/small_test_v1_1.0.json", "AITOD/test/images"),
        ("aitod_v2_val", "ai-tod-v2/annotations/aitodv2_val.json", "ai-tod-v2/val"),
        ("aitod_v2_trainval", "aitod/annotations_v2/aitodv2_trainval.json", "aitod/trainval"),
        ("aitod_v2_test", "aitodv2/annotations/small_test_v2_2.0.json", "aitod/images/test"),
    ],
)
def test_aitod_files_under_the_names_in_circulation(write_coco, name, file, images):
    _, folder = write_coco(aitod_json("a.png"), file, images)
    records = DatasetCatalog.get(name)
    assert [r["file_name"] for r in records] == [str(folder / "a.png")]
    assert records[0]["annotations"][0]["category_id"] == AITOD.index("vehicle")


def test_aitod_without_its_xview_part(write_coco, caplog):
    """The part that users add themselves is named, with its number of images and boxes."""
    path, folder = write_coco(
        aitod_json("P0001__1.0__0___0.png", "2053__600_1800.png", "24__0_0.png"),
        "aitod/annotations/aitodv2_test.json",
        "aitod/images/test",
    )
    for name in ("2053__600_1800.png", "24__0_0.png"):
        (folder / name).unlink()
    with caplog.at_level(logging.WARNING, "efpnbs_d2"):
        records, report = read_dataset("aitod_v2_test")
    assert (len(records), report.boxes) == (1, 3)
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("efpnbs_d2")]
    assert "aitod_v2_test: read 1 of 3 images and 1 of 3 boxes" in line
    assert "2 missing (xView part of AI-TOD)" in line
    with pytest.raises(DataFormatError, match="no file '2053__600_1800.png'"):
        read_dataset("aitod_v2_test", strict=True)


@pytest.mark.parametrize(
    ("name", "file", "images", "categories"),
    [
        ("train", "tiny_set/annotations/tiny_set_train.json", "tiny_set/train", "fine"),
        ("train_dense", "annotations/tiny_set_train_with_dense.json", "train", "fine"),
        (
            "test",
            "TinyPerson/tiny_set/annotations/task/tiny_set_test_all.json",
            "TinyPerson/tiny_set/test",
            "merged",
        ),
        (
            "tiles_train",
            "tinyperson/erase_with_uncertain_dataset/annotations/corner/task/"
            "tiny_set_train_sw640_sh512_all.json",
            "tinyperson/erase_with_uncertain_dataset/train",
            "merged",
        ),
        (
            "tiles_train",
            "tiny_set/annotations/corner/task/tiny_set_train_sw640_sh512_all.json",
            "tiny_set/train",
            "merged",
        ),
    ],
)
def test_tinyperson_trees(write_coco, name, file, images, categories):
    names = {"fine": ("sea_person", "earth_person"), "merged": ("person",)}[categories]
    _, folder = write_coco(tinyperson_json(*names), file, images)
    (record,) = DatasetCatalog.get(f"tinyperson_{name}")
    assert record["file_name"] == str(folder / "labeled_images" / "a.jpg")
    assert [a["iscrowd"] for a in record["annotations"]] == [0, 1]
    assert class_names(f"tinyperson_{name}") == ["person"]


def test_erased_annotations_never_go_with_plain_images(write_coco):
    """They lack the ignore regions, which then would be background."""
    base = "tiny_set/erase_with_uncertain_dataset"
    corner = "annotations/corner/task/tiny_set_train_sw640_sh512_all.json"
    write_coco(tinyperson_json("person"), f"{base}/{corner}", "tiny_set/train")
    with pytest.raises(ValueError, match="Found no images of 'tinyperson_tiles_train'"):
        DatasetCatalog.get("tinyperson_tiles_train")


def test_missing_files_say_what_was_looked_for_and_where(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError) as caught:
        DatasetCatalog.get("aitod_v1_test")
    text = str(caught.value)
    for part in (
        "Found no annotations of 'aitod_v1_test'",
        "annotations/aitod_test_v1.json, annotations/aitod_test_v1.0.json",
        "small_test_v1_1.0.json",
        f"in {tmp_path / 'nowhere'} (which does not exist), aitod_v1, ",
        "AI-TOD",
        f"or set DETECTRON2_DATASETS (now {tmp_path / 'nowhere'})",
        "datasets/README.md",
    ):
        assert part in text
    monkeypatch.delenv("DETECTRON2_DATASETS")
    with pytest.raises(ValueError, match=r"now not set, so ./datasets"):
        DatasetCatalog.get("visdrone_val")


def test_files_of_another_data_set_are_refused(write_coco):
    data = aitod_json("a.png") | {"categories": [{"id": 6, "name": "zebra"}]}
    write_coco(data, "aitod/annotations/aitodv2_val.json", "aitod/images/val")
    with pytest.raises(ValueError, match="found the categories 'zebra', expected only airplane"):
        DatasetCatalog.get("aitod_v2_val")


def test_strict_mode_by_environment(write_visdrone, monkeypatch):
    write_visdrone({"a": b"1,2,3,4,1,1,0,0\nbroken"})
    assert len(DatasetCatalog.get("visdrone_train")) == 1
    monkeypatch.setenv("EFPNBS_STRICT_DATA", "1")
    with pytest.raises(DataFormatError, match="a.txt:2: found 1 columns"):
        DatasetCatalog.get("visdrone_train")
    assert len(read_dataset("visdrone_train", strict=False)[0]) == 1
    monkeypatch.setenv("EFPNBS_STRICT_DATA", "perhaps")
    with pytest.raises(ValueError, match="EFPNBS_STRICT_DATA='perhaps': expected 1"):
        DatasetCatalog.get("visdrone_train")


@pytest.mark.usefixtures("registry")
class TestOwnDatasets:
    @pytest.fixture
    def boats(self, write_coco):
        image = {"id": 5, "file_name": "a.png", "height": 60, "width": 70}
        box = {"id": 1, "image_id": 5, "category_id": 4, "bbox": [1, 1, 5, 5]}
        categories = [{"id": 4, "name": "boat"}, {"id": 2, "name": "buoy"}]
        data = {"images": [image], "annotations": [box], "categories": categories}
        return write_coco(data, "boats/train.json", "boats/images")

    def test_coco_takes_the_classes_of_the_file(self, boats):
        register_tiny_dataset("boats", annotations=str(boats[0]), images=str(boats[1]))
        assert class_names("boats") == ["buoy", "boat"]
        metadata = MetadataCatalog.get("boats")
        assert metadata.thing_dataset_id_to_contiguous_id == {2: 0, 4: 1}
        assert metadata.protocol == "coco"
        assert DatasetCatalog.get("boats")[0]["annotations"][0]["category_id"] == 1

    def test_visdrone_needs_classes(self, write_visdrone):
        folder = write_visdrone({"a": b"1,2,3,4,1,2,0,0\n1,2,3,4,0,3,0,0\n1,2,3,4,1,4,0,0"})
        options = {
            "annotations": str(folder / "annotations"),
            "images": str(folder / "images"),
            "protocol": "visdrone",
        }
        with pytest.raises(ValueError, match="mine: found no classes"):
            register_tiny_dataset("mine", **options)
        register_tiny_dataset("mine", classes=["boat", "buoy"], **options)
        records, report = read_dataset("mine")
        # Of two classes: 2 is the second, 3 "others", 4 unknown.
        assert [a.get("ignored_as") for a in records[0]["annotations"]] == [None, "others"]
        assert dict(report.dropped) == {"unknown category": 1}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"format": "yolo"}, "found format 'yolo', expected one of"),
            ({"protocol": "lvis"}, "found protocol 'lvis', expected one of"),
            ({"annotations": None, "format": "coco"}, "found no annotations, expected a COCO"),
            ({"classes": "boat"}, "found classes 'boat', expected a list"),
            ({"classes": ["boat", True]}, "expected a list of quoted names"),
            ({"classes": ["boat", "boat"]}, "found one class name twice"),
        ],
    )
    def test_mistakes(self, boats, options, message):
        options = {"annotations": str(boats[0]), "images": str(boats[1])} | options
        with pytest.raises(ValueError, match=message):
            register_tiny_dataset("boats", **options)
        assert "boats" not in DatasetCatalog

    @pytest.mark.parametrize("kind", ["annotations", "images"])
    def test_files_that_are_gone_are_named(self, boats, tmp_path, kind):
        options = {"annotations": str(boats[0]), "images": str(boats[1])}
        gone = {kind: str(tmp_path / "gone.json")}
        register_tiny_dataset("boats", **options | gone)
        with pytest.raises(ValueError, match=f"Found no {kind} of 'boats' at .*gone.json"):
            DatasetCatalog.get("boats")

    def test_names_are_taken_once(self, boats):
        options = {"annotations": str(boats[0]), "images": str(boats[1])}
        register_tiny_dataset("boats", **options)
        for name in ("boats", "visdrone_val", "coco_2017_val"):
            with pytest.raises(ValueError, match=f"'{name}' is registered already"):
                register_tiny_dataset(name, **options)

    def test_strict_by_option(self, boats):
        data = json.loads(boats[0].read_text())
        data["annotations"].append({})
        boats[0].write_text(json.dumps(data))
        options = {"annotations": str(boats[0]), "images": str(boats[1])}
        register_tiny_dataset("lenient", **options)
        register_tiny_dataset("strict", strict=True, **options)
        assert len(DatasetCatalog.get("lenient")) == 1
        with pytest.raises(DataFormatError):
            DatasetCatalog.get("strict")

    def test_yaml_file(self, boats, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text(
            "boats:\n  annotations: boats/train.json\n  images: boats/images\n"
            "unlabelled:\n  images: boats/images\n  classes: [boat, buoy]\n"
        )
        assert register_own_datasets(str(path)) == ["boats", "unlabelled"]
        assert len(DatasetCatalog.get("boats")[0]["annotations"]) == 1
        assert "annotations" not in DatasetCatalog.get("unlabelled")[0]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: [", "cannot read the data sets of"),
            ("- a", "found a list, expected names"),
            ("a: {image: x}", "for a, expected some of annotations, classes"),
            ("a: {annotations: x.json}", "found no images for a"),
            ("a: {annotations: x, images: y}", "mine.yaml: a: found no classes"),
        ],
    )
    def test_yaml_mistakes(self, tmp_path, text, message):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            register_own_datasets(str(path))


@pytest.mark.usefixtures("registry")
def test_own_datasets_by_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("EFPNBS_DATASETS", raising=False)
    assert register_datasets_of_environment() == []
    (tmp_path / "mine.yaml").write_text("harbour: {annotations: x.json, images: y}")
    monkeypatch.setenv("EFPNBS_DATASETS", str(tmp_path / "mine.yaml"))
    assert register_datasets_of_environment() == ["harbour"]
    assert "harbour" in DatasetCatalog


@pytest.mark.usefixtures("registry")
def test_several_files_of_own_datasets(tmp_path, monkeypatch):
    for name in ("quay", "pier"):
        (tmp_path / f"{name}.yaml").write_text(f"{name}: {{annotations: x.json, images: y}}")
    paths = [str(tmp_path / f"{name}.yaml") for name in ("quay", "pier", "quay")]
    monkeypatch.setenv("EFPNBS_DATASETS", os.pathsep.join(paths))
    assert register_datasets_of_environment() == ["quay", "pier"]


class TestBrokenEnvironment:
    """A mistake in the file that EFPNBS_DATASETS names, met while the package is imported."""

    @pytest.fixture(autouse=True)
    def broken(self, tmp_path, monkeypatch):
        (tmp_path / "mine.yaml").write_text("a:\n  b: [")  # YAML's message has several lines
        monkeypatch.setenv("EFPNBS_DATASETS", str(tmp_path / "mine.yaml"))

    @pytest.mark.parametrize("program", ["-m", "sub/train_net.py"])
    def test_a_command_ends_in_one_line(self, monkeypatch, program):
        monkeypatch.setattr("sys.argv", [program, "harbour"])
        with pytest.raises(SystemExit, match=r"^error: EFPNBS_DATASETS: .*mine\.yaml") as stop:
            register_datasets_of_environment()
        assert "\n" not in stop.value.code

    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_a_command_can_still_be_asked_for_help(self, monkeypatch, option):
        monkeypatch.setattr("sys.argv", ["-m", option])
        assert register_datasets_of_environment() == []

    def test_another_program_can_catch_it(self, monkeypatch):
        monkeypatch.setattr("sys.argv", ["mine.py", "--help"])
        with pytest.raises(ValueError, match="EFPNBS_DATASETS: cannot read the data sets"):
            register_datasets_of_environment()

    def test_the_real_command_line(self):
        command = [sys.executable, "-m", "efpnbs_d2.tools.tile", "harbour"]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert len(ended.stderr.splitlines()) == 1 and "error: EFPNBS" in ended.stderr


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="'visdrone_trian', expected one of .*visdrone_train"):
        class_names("visdrone_trian")
    with pytest.raises(ValueError, match="'coco_2017_val', expected one of tinyscenes_train"):
        read_dataset("coco_2017_val")


def perfect_scores(name, folder):
    """AP of the ground truth itself under Detectron2's unchanged evaluator."""
    evaluator = COCOEvaluator(
        name, output_dir=str(folder), max_dets_per_image=1000, allow_cached_coco=False
    )
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        truth = [a for a in record["annotations"] if not a["iscrowd"]]
        instances = Instances((record["height"], record["width"]))
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in truth]
        instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        instances.pred_classes = torch.tensor([a["category_id"] for a in truth], dtype=torch.int64)
        instances.scores = torch.ones(len(truth))
        evaluator.process([record], [{"instances": instances}])
    metadata = MetadataCatalog.get(name)
    # The evaluator leaves its converted file behind in the metadata.
    del metadata.json_file
    return evaluator.evaluate()["bbox"]


class TestStockEvaluator:
    """Detections equal to the ground truth score 100: ids, sizes and boxes arrive as they are."""

    def test_visdrone(self, write_visdrone, tmp_path):
        write_visdrone(
            {
                "a": b"1,2,30,40,1,1,0,0\n50,2,3,4,1,10,0,0\n0,0,99,99,0,0,0,0\n",
                "b": b"1,2,30,40,1,1,0,0\n-9,2,30,40,1,4,0,0\n5,5,5,5,0,11,0,0\n",
            },
            "val",
        )
        scores = perfect_scores("visdrone_val", tmp_path)
        assert scores["AP"] == pytest.approx(100)
        assert scores["AP-motor"] == pytest.approx(100)

    def test_aitod(self, write_coco, tmp_path):
        write_coco(aitod_json("a.png"), "aitod/annotations/aitodv2_val.json", "aitod/images/val")
        assert perfect_scores("aitod_v2_val", tmp_path)["AP-vehicle"] == pytest.approx(100)

    def test_tinyperson(self, write_coco, tmp_path):
        write_coco(
            tinyperson_json("person"),
            "tiny_set/annotations/task/tiny_set_test_all.json",
            "tiny_set/test",
        )
        assert perfect_scores("tinyperson_test", tmp_path)["AP"] == pytest.approx(100)

    def test_tinyscenes(self, tmp_path):
        write_dataset(tmp_path, splits={"train": 1, "val": 2}, size=128, progress=False)
        assert len(DatasetCatalog.get("tinyscenes_train")) == 1
        assert perfect_scores("tinyscenes_val", tmp_path)["AP"] == pytest.approx(100)

    @pytest.mark.parametrize(
        ("folder", "name"),
        [("visdrone-mini", "visdrone_val"), ("tinyperson-mini", "tinyperson_test")],
    )
    def test_real(self, real_data, tmp_path, monkeypatch, folder, name):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(real_data / folder))
        assert perfect_scores(name, tmp_path)["AP"] == pytest.approx(100, abs=0.1)

    @pytest.mark.usefixtures("registry")
    def test_real_aitod_style(self, real_data, tmp_path):
        folder = real_data / "fixtures" / "aitod"
        register_tiny_dataset(
            "aitod_style",
            annotations=str(folder / "aitod_style_mini.json"),
            images=str(folder / "images"),
            classes=AITOD,
            protocol="aitod",
        )
        assert perfect_scores("aitod_style", tmp_path)["AP"] == pytest.approx(100)
