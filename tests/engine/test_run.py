"""A recipe trains, evaluates, resumes and predicts, in both config systems."""

import json
import logging
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor

from efpnbs_d2.checkpoint import Checkpointer, read_card
from efpnbs_d2.data import class_names, register_tiny_dataset
from efpnbs_d2.engine.recipe import LazyRecipe, YacsRecipe
from efpnbs_d2.engine.run import describe, evaluate_checkpoint, train
from efpnbs_d2.evaluation.evaluator import ProtocolEvaluator
from efpnbs_d2.inference.predictors import LazyPredictor, predictor_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_a_lazy_run_leaves_all_that_a_user_needs(scenes, small_lazy, tmp_path):
    results = train(LazyRecipe(small_lazy()))
    assert "AP50" in results["bbox"]
    folder = tmp_path / "lazy"
    for name in ("model_final.pth", "model_best.pth", "last_checkpoint", "metrics.json"):
        assert (folder / name).is_file(), name
    assert list(folder.glob("events.out.tfevents.*"))
    entries = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    logged = {key for entry in entries for key in entry}
    assert {"loss_fbsm", "loss_cls", "bbox/AP", "dc_loss/cls_weight/tiny"} <= logged


def test_checkpoints_know_the_ids_of_their_annotations(scenes, small_lazy, registry, tmp_path):
    """Given names say the order of the classes; what ids they have is in the file alone."""
    (source,) = scenes.rglob("*train*.json")
    content = json.loads(source.read_text())
    for entry in content["categories"]:
        entry["id"] = 100 - 10 * entry["id"]
    for entry in content["annotations"]:
        entry["category_id"] = 100 - 10 * entry["category_id"]
    (tmp_path / "own.json").write_text(json.dumps(content))
    names = class_names("tinyscenes_train")
    files = {
        "annotations": str(tmp_path / "own.json"),
        "images": f"{scenes}/tinyscenes/images/train",
    }
    register_tiny_dataset("own", **files, classes=names)
    train(LazyRecipe(small_lazy("dataloader.train.dataset.names=own")))
    card = read_card(tmp_path / "lazy/model_final.pth")
    ids = {entry["name"]: entry["id"] for entry in content["categories"]}
    assert card["class_names"] == names and card["category_ids"] == [ids[name] for name in names]


def test_a_yacs_run_trains_too(scenes, small_yacs, tmp_path):
    results = train(YacsRecipe(small_yacs()))
    assert "AP50" in results["bbox"]
    assert (tmp_path / "yacs/model_final.pth").is_file()


def test_resume_goes_on_where_the_run_stopped(scenes, small_lazy, tmp_path):
    train(LazyRecipe(small_lazy()))
    train(LazyRecipe(small_lazy("train.max_iter=4")), resume=True)
    entries = [
        json.loads(line) for line in (tmp_path / "lazy/metrics.json").read_text().splitlines()
    ]
    assert [e["iteration"] for e in entries if "total_loss" in e] == [1, 3]
    state = torch.load(tmp_path / "lazy/model_final.pth")
    assert state["trainer"]["iteration"] == 3
    # DCLoss has counted four steps, not two.
    steps = [v for k, v in state["model"].items() if k.endswith("dc_loss.steps")]
    assert [int(s) for s in steps] == [4]


def test_evaluation_of_a_checkpoint_repeats_the_training_runs(scenes, small_lazy, tmp_path):
    trained = train(LazyRecipe(small_lazy()))
    weights = tmp_path / "lazy/model_final.pth"
    again = evaluate_checkpoint(LazyRecipe(small_lazy(f"train.init_checkpoint={weights}")))
    assert again["bbox"] == pytest.approx(trained["bbox"], nan_ok=True)


def _small_yaml(folder):
    """The yacs twin of `small_lazy`."""
    path = folder / "small.yaml"
    path.write_text(
        f"_BASE_: {CONFIGS}/yacs/tinyscenes-EFPNBS-R18.yaml\n"
        "MODEL:\n  FPN: {OUT_CHANNELS: 16}\n"
        "  RPN: {POST_NMS_TOPK_TEST: 50}\n"
        "  ROI_BOX_HEAD: {NUM_FC: 1, FC_DIM: 32}\n"
        "  ROI_HEADS: {SCORE_THRESH_TEST: 0.0}\n"
    )
    return path


def test_default_predictor_gives_the_lazy_models_detections(scenes, small_lazy, tmp_path):
    recipe = LazyRecipe(small_lazy("model.roi_heads.box_predictor.test_score_thresh=0.0"))
    train(recipe)
    weights = tmp_path / "lazy/model_final.pth"
    predictor = DefaultPredictor(predictor_config(_small_yaml(tmp_path), weights))
    assert predictor.metadata.thing_classes[0] == "airplane"

    image = cv2.imread(str(next((scenes / "tinyscenes/images/val").glob("*.png"))))
    found = predictor(image)["instances"]

    lazy = recipe.build_model().eval()
    lazy.load_state_dict(torch.load(weights)["model"])
    tensor = torch.as_tensor(image.transpose(2, 0, 1).copy())
    with torch.no_grad():
        expected = lazy([{"image": tensor, "height": 128, "width": 128}])[0]["instances"]
    assert len(found) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)


def test_the_averaged_weights_are_evaluated_and_saved_as_best(scenes, small_lazy, tmp_path):
    train(LazyRecipe(small_lazy("train.ema.enabled=True", "train.ema.decay=0.9")))
    best = torch.load(tmp_path / "lazy/model_best.pth")["model"]
    last = torch.load(tmp_path / "lazy/model_final.pth")
    average = last["trainer"]["hooks"]["WeightAverage"]
    key = "backbone.fpn_output2.weight"
    assert torch.equal(best[key], average[f"module.{key}"])
    assert not torch.equal(best[key], last["model"][key])


def test_default_predictor_reproduces_the_ap_of_the_best_weights(
    scenes, small_lazy, tmp_path, monkeypatch
):
    recipe = LazyRecipe(
        small_lazy(
            "model.roi_heads.box_predictor.test_score_thresh=0.0",
            "train.ema.enabled=True",
            "train.ema.decay=0.5",
        )
    )
    torch.manual_seed(0)
    train(recipe)
    # A detector after two steps hits no object, so four that it finds in each image become the
    # truth; the same run again, with other truth to be evaluated by, finds the same.
    found = json.loads(next(tmp_path.glob("lazy/inference/*/*_results.json")).read_text())
    shutil.copytree(scenes, tmp_path / "datasets")
    path = tmp_path / "datasets/tinyscenes/annotations/val.json"
    truth = json.loads(path.read_text())
    truth["annotations"] = [
        {**f, "iscrowd": 0, "area": f["bbox"][2] * f["bbox"][3]}
        for image in truth["images"]
        for f in [f for f in found if f["image_id"] == image["id"]][:12:3]
    ]
    for number, annotation in enumerate(truth["annotations"]):
        annotation["id"] = number + 1
    path.write_text(json.dumps(truth))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    torch.manual_seed(0)
    train(recipe)
    best = json.loads((tmp_path / "lazy/model_best.json").read_text())
    assert best["metric"] == "bbox/AP" and best["value"] > 1

    weights = tmp_path / "lazy/model_best.pth"
    predictor = DefaultPredictor(predictor_config(_small_yaml(tmp_path), weights))
    evaluator = ProtocolEvaluator("tinyscenes_val")
    evaluator.reset()
    for record in DatasetCatalog.get("tinyscenes_val"):
        evaluator.process([record], [predictor(cv2.imread(record["file_name"]))])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(best["value"], abs=1e-9)


def test_classes_that_do_not_fit_the_data_are_refused(scenes, small_lazy):
    with pytest.raises(ValueError, match="model has 3 classes and tinyscenes_train has 8"):
        train(LazyRecipe(small_lazy("model.roi_heads.num_classes=3")))


def test_frozen_random_layers_are_refused(scenes, small_lazy):
    with pytest.raises(ValueError, match="layers are frozen .* but no weights are loaded"):
        train(LazyRecipe(small_lazy("model.backbone.bottom_up.freeze_at=2")))


def test_evaluation_without_weights_is_refused(scenes, small_lazy):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate_checkpoint(LazyRecipe(small_lazy()))


def test_a_best_metric_that_is_never_measured_is_refused_at_once(scenes, small_lazy):
    with pytest.raises(ValueError, match="by 'bbox/mAP', which is not measured.* bbox/APvt"):
        train(LazyRecipe(small_lazy("train.best_metric=bbox/mAP")))


@pytest.fixture
def untrained(small_lazy, tmp_path):
    """The checkpoint that a run of the small E-FPN-BS would begin with."""
    recipe = LazyRecipe(small_lazy())
    Checkpointer(recipe.build_model(), str(tmp_path), card=describe(recipe)).save("own")
    return tmp_path / "own.pth"


OTHER_ANCHORS = "[[32],[64],[128],[256],[512]]"


@pytest.mark.parametrize(
    ("config", "lazy", "yacs", "message"),
    [
        (
            "tinyscenes/fpn_r18.py",
            [],
            ["MODEL.BACKBONE.NAME=build_resnet_fpn_backbone", "MODEL.FBSM.LOSS_WEIGHT=0.0"],
            "another model: backbone.cem .* backbone.fbsm .* one of E-FPN-BS",
        ),
        (
            "tinyscenes/efpn_bs_r18.py",
            [f"model.proposal_generator.anchor_generator.sizes={OTHER_ANCHORS}"],
            [f"MODEL.ANCHOR_GENERATOR.SIZES={OTHER_ANCHORS}"],
            "trained with anchors of 8, 16, 32, 64, 128 px .* are of 32, 64, 128, 256, 512 px",
        ),
    ],
)
def test_weights_of_another_recipe_are_neither_evaluated_nor_predicted_with(
    scenes, untrained, small_lazy, small_yacs, tmp_path, config, lazy, yacs, message
):
    """Their shapes fit, so that a plausible, wrong AP would come out."""
    start = f"train.init_checkpoint={untrained}"
    (tmp_path / "other.yaml").write_text(small_yacs(*yacs).dump())
    for load in (
        lambda: evaluate_checkpoint(LazyRecipe(small_lazy(start, *lazy, config=config))),
        lambda: evaluate_checkpoint(YacsRecipe(small_yacs(f"MODEL.WEIGHTS={untrained}", *yacs))),
        lambda: LazyPredictor(small_lazy(*lazy, config=config), untrained),
        lambda: predictor_config(tmp_path / "other.yaml", untrained),
    ):
        with pytest.raises(ValueError, match=message):
            load()


def test_a_training_may_start_from_weights_with_more_parts(scenes, untrained, small_lazy, caplog):
    start = f"train.init_checkpoint={untrained}"
    with caplog.at_level(logging.WARNING):
        train(LazyRecipe(small_lazy(start, config="tinyscenes/fpn_r18.py")))
    (line,) = [r.getMessage() for r in caplog.records if "starts without" in r.getMessage()]
    assert "backbone.cem" in line and "backbone.fbsm" in line


def test_classes_in_another_order_are_refused(scenes, untrained, small_lazy, registry):
    """Every evaluation would count one class's objects as another's."""
    classes = MetadataCatalog.get("tinyscenes_val").thing_classes
    DatasetCatalog.register("swapped_val", lambda: [])
    MetadataCatalog.get("swapped_val").set(thing_classes=classes[::-1])
    swapped = "dataloader.test.dataset.names=swapped_val"
    message = rf"classes {', '.join(classes)} in %s and {', '.join(classes[::-1])} in swapped_val"
    with pytest.raises(ValueError, match=message % "tinyscenes_train"):
        train(LazyRecipe(small_lazy(swapped)))
    with pytest.raises(ValueError, match=message % "the weights"):
        evaluate_checkpoint(LazyRecipe(small_lazy(swapped, f"train.init_checkpoint={untrained}")))


def test_a_new_run_says_what_it_replaces_in_a_used_folder(scenes, small_lazy, tmp_path, caplog):
    folder = tmp_path / "lazy"

    def warnings(**options):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            # Refused before the first step: the warning comes before anything is replaced.
            with pytest.raises(ValueError, match="by 'none'"):
                train(LazyRecipe(small_lazy("train.best_metric=none")), **options)
        return [r.getMessage() for r in caplog.records if "earlier run" in r.getMessage()]

    assert warnings() == []
    folder.mkdir(exist_ok=True)
    for name in ("model_final.pth", "model_best.pth", "model_0000001.pth"):
        (folder / name).touch()
    assert warnings(resume=True) == []
    (line,) = warnings()
    assert "has model_final.pth and model_best.pth of an earlier run" in line
    assert "--resume to go on with that run" in line
    (folder / "model_best.pth").unlink()
    (line,) = warnings()
    assert "has model_final.pth of an earlier run" in line
