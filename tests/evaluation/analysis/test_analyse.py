"""An analysis agrees with the official numbers, and with itself."""

from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.analysis.analyse import analyse, analysed_iou
from efpnbs_d2.evaluation.evaluate import evaluate
from efpnbs_d2.protocols import PROTOCOLS

CASES = {
    "coco/all_sizes": "AP50",
    "aitod/dense_scene": "AP50",
    "aitod/many_detections": "AP50",
    "visdrone/ignored_regions": "AP_50",
    "visdrone/others_and_score0": "AP_50",
    "tinyperson/ignore_and_uncertain": "AP50_all",
}


@pytest.fixture(scope="module", params=CASES)
def analysed(request, load_case):
    case = load_case(request.param)
    protocol = PROTOCOLS[request.param.split("/")[0]]
    evaluation = evaluate(protocol, case.truth, case.found, progress=False)
    result = analyse(protocol, case.truth, case.found)
    return case, evaluation, result, CASES[request.param]


def test_average_precision_is_the_official_one(analysed):
    _, evaluation, result, ap50 = analysed
    unit = 100 if result.protocol.percent else 1
    assert result.error_costs.ap == pytest.approx(evaluation.metrics[ap50] / unit, abs=1e-12)
    for k, name in enumerate(result.classes.values()):
        expected = evaluation.per_class[name][ap50] / unit
        if expected >= 0 and not np.isnan(result.error_costs.ap_per_class[k]):
            assert result.error_costs.ap_per_class[k] == pytest.approx(expected, abs=1e-12)
    if result.protocol.interpolation == "101 points":
        assert result.curves.mean.mean() == pytest.approx(evaluation.metrics[ap50], abs=1e-12)
        if "AP" in evaluation.metrics:
            mean = result.mean_iou_curves.mean.mean()
            assert mean == pytest.approx(evaluation.metrics["AP"], abs=1e-12)


def test_its_parts_agree(analysed):
    case, _, result, _ = analysed
    costs, sizes, images = result.error_costs, result.size_recall, result.image_errors
    assert result.classes == case.truth.classes
    assert (
        result.curves.iou
        == result.best_f1.iou
        == costs.iou
        == sizes.iou
        == analysed_iou(result.protocol)
    )
    assert result.mean_iou_curves.iou is None
    true = round(float(np.nansum(result.calibration.count * result.calibration.precision)))
    # True positives are objects found; detections are true or an error.
    assert sizes.found.sum() == true
    assert result.calibration.count.sum() == true + costs.count[:, :5].sum()
    assert sizes.objects.sum() == images.objects.sum()
    assert sizes.found_confident.sum() == images.found.sum() <= sizes.found.sum()
    assert images.false_positives.sum() == costs.count_confident[:, :5].sum()
    assert images.missed.sum() == costs.count_confident[:, 5].sum()
    assert (images.missed == images.objects - images.found).all()
    assert (costs.cost >= 0).all()
    assert costs.cost[5] <= costs.false_negative_cost
    worst = images.worst[0]
    assert (worst.found_state == 1).sum() == images.found[worst.image]
    assert (worst.found_error >= 0).sum() == images.false_positives[worst.image]


def test_what_regions_remove_is_there_to_be_drawn(columns):
    # The object in the region is removed, and so is the detection on it; the other is missed.
    region, inside = [0, 0, 100, 100], [20, 20, 30, 30]
    truth, found = columns(
        [
            {"box": region, "category": 0},
            {"box": inside},
            {"box": [300, 300, 30, 30]},
            {"box": [400, 300, 30, 30]},
        ],
        [{"box": inside, "score": 0.9}, {"box": [300, 300, 30, 30], "score": 0.8}],
    )
    result = analyse(PROTOCOLS["visdrone"], truth, found)
    assert result.image_errors.objects.tolist() == [2]
    (boxes,) = result.image_errors.worst
    assert boxes.found_state.tolist() == [2, 1]
    assert boxes.true_state.tolist() == [2, 2, 1, 0]
    assert boxes.true_category.tolist() == [0, 1, 1, 1]


def test_annotation_id_zero_is_no_error(columns):
    truth, found = columns([{"box": [0, 0, 9, 9], "id": 0}], [{"box": [0, 0, 9, 9], "score": 0.5}])
    result = analyse(PROTOCOLS["coco"], truth, found)
    assert result.error_costs.ap == 1
    assert result.image_errors.worst == ()


def test_only_the_first_size_range_and_the_last_limit_count(columns):
    box = [0, 0, 9, 9]
    truth, found = columns(
        [{"box": box}], [{"box": [50, 0, 9, 9], "score": 0.9}, {"box": box, "score": 0.8}]
    )
    protocol = replace(PROTOCOLS["coco"], max_dets=(1, 2), metrics=())
    assert analyse(protocol, truth, found).error_costs.ap == 1 / 2
    protocol = replace(protocol, max_dets=(1,), size_ranges=protocol.size_ranges[::-1])
    # "large" comes first: there is no object of that range.
    assert np.isnan(analyse(protocol, truth, found).error_costs.ap)


def test_no_detections_and_no_objects(columns):
    truth, found = columns([{"box": [0, 0, 9, 9]}], [])
    for protocol in PROTOCOLS.values():
        result = analyse(protocol, truth, found)
        assert result.error_costs.ap == 0
        assert result.curves.mean.tolist() == [0] * 101
        assert result.image_errors.missed.tolist() == [1]
    truth, found = columns([], [{"box": [0, 0, 9, 9], "score": 0.9}])
    for protocol in PROTOCOLS.values():
        result = analyse(protocol, truth, found)
        assert np.isnan([result.error_costs.ap, result.curves.mean[0]]).all()
        assert result.error_costs.count.sum() == 1


def test_the_iou_is_the_nearest_to_a_half():
    assert {name: analysed_iou(p) for name, p in PROTOCOLS.items()} == dict.fromkeys(PROTOCOLS, 0.5)
    assert analysed_iou(replace(PROTOCOLS["coco"], iou_thresholds=(0.2, 0.4, 0.7))) == 0.4
    assert analysed_iou(replace(PROTOCOLS["coco"], iou_thresholds=(0.25, 0.75))) == 0.25
