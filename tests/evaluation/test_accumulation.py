"""Precision, recall and oLRP against the official evaluators, pycocotools and mental arithmetic."""

import contextlib
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efpnbs_d2.evaluation.accumulation import LRP_PARTS, RECALLS, compute_curves
from efpnbs_d2.evaluation.columns import Detections, GroundTruth
from efpnbs_d2.evaluation.official_rows import official_rows
from efpnbs_d2.protocols import PROTOCOLS, SizeRange, coco_metrics

AITOD, TINYPERSON, VISDRONE = (PROTOCOLS[name] for name in ("aitod", "tinyperson", "visdrone"))
# As pycocotools ran on the COCO cases.
COCO_PARAMETERS = {
    "default": PROTOCOLS["coco"],
    "aitod_bins_1500": AITOD,
    "iou25_50_75_max200": replace(TINYPERSON, ignore="crowd"),
}


def curves_of(protocol, truth, found):
    return compute_curves(protocol, *official_rows(protocol, truth, found))


def assert_close(found, expected):
    """None is NaN."""
    np.testing.assert_allclose(found, np.array(expected, dtype=float), rtol=0, atol=1e-12)


def test_aitod_arrays(aitod_case):
    curves = curves_of(AITOD, aitod_case.truth, aitod_case.found)
    arrays = aitod_case.expected["arrays"]
    assert_close(curves.average_precision, arrays["ap_TKAM"])
    assert_close(curves.precision.mean(axis=1), arrays["ap_TKAM"])
    assert_close(curves.recall, arrays["recall_TKAM"])
    assert LRP_PARTS == ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN", "oLRP_threshold")
    names = ("olrp", "olrp_loc", "olrp_fp", "olrp_fn", "lrp_opt_thr")
    assert_close(curves.lrp, [arrays[f"{name}_KAM"] for name in names])


def test_visdrone_arrays(visdrone_case):
    curves = curves_of(VISDRONE, visdrone_case.truth, visdrone_case.found)
    arrays = visdrone_case.expected["arrays"]
    at_500 = curves.average_precision[:, :, 0, -1]
    np.testing.assert_allclose(100 * at_500.T, arrays["AP_class_iou"], rtol=0, atol=1e-10)
    recall = 100 * curves.recall[:, :, 0].transpose(1, 2, 0)
    np.testing.assert_allclose(recall, arrays["AR_class_maxdets_iou"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("parameters", COCO_PARAMETERS)
def test_coco_arrays(coco_case, parameters):
    protocol = COCO_PARAMETERS[parameters]
    curves = curves_of(protocol, coco_case.truth, coco_case.found)
    expected = coco_case.expected["configs"][parameters]
    assert_close(curves.recall, expected["recall_TKAM"])
    for at_size, size in enumerate(protocol.size_ranges):
        precision = curves.average_precision[:, :, at_size]
        by_class = dict(zip(coco_case.truth.classes, precision[..., -1].mean(axis=0), strict=True))
        wanted = expected["per_category_AP"][size.name]
        assert by_class == pytest.approx({int(k): v for k, v in wanted.items()}, abs=1e-12)
        for at_limit, limit in enumerate(protocol.max_dets):
            place, recall = f"{size.name}@{limit}", curves.recall[:, :, at_size, at_limit]
            mean = mean_of_defined(precision[..., at_limit])
            assert mean == pytest.approx(expected["AP"][place], abs=1e-12)
            assert mean_of_defined(recall) == pytest.approx(expected["AR"][place], abs=1e-12)
        for at, iou in enumerate(protocol.iou_thresholds):
            wanted = expected["AP_by_iou"][f"{size.name}@{iou:.2f}"]
            assert mean_of_defined(precision[at, :, -1]) == pytest.approx(wanted, abs=1e-12)


def mean_of_defined(values):
    return values[values > -1].mean() if (values > -1).any() else -1.0


BOXES = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2).map(list)
OBJECTS = st.fixed_dictionaries(
    {
        "image_id": st.integers(1, 2),
        "category_id": st.sampled_from([1, 3, 7]),
        "bbox": BOXES,
        "area": st.sampled_from([16, 30, 64, 100]),
        "iscrowd": st.sampled_from([0, 0, 0, 1]),
        "ignore": st.integers(0, 1),
    }
)
FOUND = st.fixed_dictionaries(
    {
        "image_id": st.integers(1, 2),
        "category_id": st.sampled_from([1, 3, 7]),
        "bbox": BOXES,
        "score": st.sampled_from([0.2, 0.5, 0.9]),
    }
)
# Category 7 is not listed. Images stand in descending order.
IMAGES = [{"id": 2}, {"id": 1}]
CATEGORIES = [{"id": 3, "name": "c"}, {"id": 1, "name": "a"}]
SMALL_RANGES = (SizeRange("all", 0, 1e10), SizeRange("low", 0, 64), SizeRange("high", 64, 100))
SMALL = replace(
    PROTOCOLS["coco"],
    name="small",
    iou_thresholds=(0.25, 0.5, 0.75, 1.0),
    size_ranges=SMALL_RANGES,
    max_dets=(1, 3, 8),
    metrics=coco_metrics(SMALL_RANGES, 1, 3, 8),
)


def as_columns(objects, found):
    truth = GroundTruth(
        source="truth",
        image_ids=(1, 2),
        image_names=("1", "2"),
        image_sizes=np.zeros((2, 2), int),
        classes={1: "a", 3: "c"},
        image=np.array([o["image_id"] - 1 for o in objects], int),
        category=np.array([o["category_id"] for o in objects], int),
        boxes=np.array([o["bbox"] for o in objects], float).reshape(-1, 4),
        area=np.array([o["area"] for o in objects], float),
        side=np.array([o["area"] for o in objects], float) ** 0.5,
        annotation_id=np.array([o["id"] for o in objects], int),
        crowd=np.array([o["iscrowd"] for o in objects], bool),
        ignore=np.array([o["ignore"] for o in objects], bool),
        uncertain=np.zeros(len(objects), bool),
    )
    return truth, Detections(
        source="found",
        image=np.array([d["image_id"] - 1 for d in found], int),
        category=np.array([d["category_id"] for d in found], int),
        boxes=np.array([d["bbox"] for d in found], float).reshape(-1, 4),
        scores=np.array([d["score"] for d in found], float),
        missing=(),
    )


def pycocotools_arrays(protocol, objects, found):
    """Precision (T, R, K, A, L) and recall (T, K, A, L)."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": IMAGES, "categories": CATEGORIES, "annotations": objects}
        truth.dataset["info"] = {}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(d) for d in found]), "bbox")
        evaluation.params.iouThrs = np.array(protocol.iou_thresholds)
        evaluation.params.maxDets = list(protocol.max_dets)
        evaluation.params.areaRng = [[size.low, size.high] for size in protocol.size_ranges]
        evaluation.params.areaRngLbl = [size.name for size in protocol.size_ranges]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


@settings(max_examples=60, deadline=None)
@given(
    objects=st.lists(OBJECTS, min_size=1, max_size=10),
    found=st.lists(FOUND, min_size=1, max_size=14),
    data=st.data(),
)
def test_as_pycocotools(objects, found, data):
    """Ties, crowds, foreign areas, unlisted classes; ids with 0, gaps and repetitions."""
    ids = data.draw(st.lists(st.integers(0, 14), min_size=len(objects), max_size=len(objects)))
    objects = [{**entry, "id": number} for entry, number in zip(objects, ids)]
    curves = curves_of(SMALL, *as_columns(objects, found))
    precision, recall = pycocotools_arrays(SMALL, objects, found)
    np.testing.assert_array_equal(curves.recall, recall)
    np.testing.assert_array_equal(curves.precision, precision)


@settings(max_examples=30, deadline=None)
@given(
    objects=st.lists(OBJECTS, min_size=1, max_size=10),
    found=st.lists(FOUND, min_size=1, max_size=14),
)
def test_tinyperson_as_pycocotools_with_ignored_objects_as_crowds(objects, found):
    """Where areas are true and nothing is a crowd, one run per range does what TinyPerson's code
    does, up to the rounding of its intersection over detection: thresholds are between values."""
    objects = [
        {**entry, "id": number, "iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3]}
        for number, entry in enumerate(objects, start=1)
    ]
    protocol = replace(SMALL, ignore="flags", iou_thresholds=(0.2501, 0.5001, 0.7501))
    curves = curves_of(protocol, *as_columns(objects, found))
    for at, size in enumerate(protocol.size_ranges):
        flagged = [o["ignore"] or not size.low <= o["area"] <= size.high for o in objects]
        crowds = [{**o, "iscrowd": int(flag)} for o, flag in zip(objects, flagged)]
        precision, recall = pycocotools_arrays(protocol, crowds, found)
        np.testing.assert_array_equal(curves.recall[:, :, at], recall[:, :, at])
        np.testing.assert_array_equal(curves.precision[:, :, :, at], precision[:, :, :, at])


def ranking(columns, states, extra_objects=0):
    """Detections with descending scores, true or false as told, on objects of 10 x 10."""
    places = [[100 * n, 0, 10, 10] for n in range(len(states))]
    objects = [{"box": box} for box, true in zip(places, states) if true]
    objects += [{"box": [0, 500, 10, 10]}] * extra_objects
    found = [{"box": box, "score": 1 - n / 100} for n, box in enumerate(places)]
    return columns(objects, found)


def test_both_interpolations(columns):
    """True, false, true, and two objects missed: precision 1 to recall 1/4, 2/3 to recall 1/2."""
    example = ranking(columns, [True, False, True], extra_objects=2)
    curves = compute_curves(PROTOCOLS["coco"], *example)
    # 26 of the 101 recalls are up to 0.25, 25 more up to 0.5.
    assert curves.average_precision[0, 0, 0, -1] == pytest.approx((26 + 25 * 2 / 3) / 101)
    assert curves.recall[0, 0, 0].tolist() == [0.25, 0.5, 0.5]
    curves = compute_curves(VISDRONE, *example)
    assert curves.average_precision[0, 0, 0, -1] == pytest.approx(0.25 + 0.25 * 2 / 3)
    assert curves.recall[0, 0, 0].tolist() == [0.25, 0.5, 0.5, 0.5]
    assert curves.lrp is None


def test_precision_is_the_best_at_a_recall_or_beyond(columns):
    """False, true, true: 2/3 at every recall, although precision is 0 and 1/2 before."""
    curves = compute_curves(PROTOCOLS["coco"], *ranking(columns, [False, True, True]))
    assert curves.precision[0, :, 0, 0, -1] == pytest.approx(np.full(len(RECALLS), 2 / 3))


def test_recalls_are_sampled_where_pycocotools_does(columns):
    """7 of 20 reach 0.35, but sampling point 35 is 0.35000000000000003."""
    curves = compute_curves(PROTOCOLS["coco"], *ranking(columns, [True] * 7, extra_objects=13))
    assert RECALLS[35] > 0.35
    assert np.flatnonzero(curves.precision[0, :, 0, 0, -1])[-1] == 34


def test_the_ranking_is_over_all_images(columns):
    """A false positive of image 1 is before the true positive of image 0; after it at a tie."""
    box = [0, 0, 10, 10]
    for score, expected in ((0.6, 0.5), (0.5, 1.0)):
        example = columns(
            [{"box": box}],
            [{"box": box, "score": 0.5}, {"box": box, "score": score, "image": 1}],
            2,
        )
        precision = compute_curves(VISDRONE, *example).average_precision
        assert precision[0, 0, 0, -1] == pytest.approx(expected)


def test_ignored_objects_in_the_denominator(columns):
    box = [0, 0, 10, 10]
    example = columns(
        [{"box": box}, {"box": [50, 0, 10, 10], "ignore": True}], [{"box": box, "score": 1}]
    )
    assert compute_curves(VISDRONE, *example).recall[0, 0, 0, -1] == 0.5
    assert compute_curves(TINYPERSON, *example).recall[0, 0, 0, -1] == 1


def test_classes_without_objects(columns):
    """-1, but 0 in VisDrone's code, where such a class has no weight."""
    example = columns([{"box": [0, 0, 9, 9]}], [], classes={1: "a", 2: "b"})
    for protocol, undefined in ((AITOD, -1), (VISDRONE, 0)):
        curves = compute_curves(protocol, *example)
        assert (curves.average_precision[:, 0, 0] == 0).all()
        assert (curves.average_precision[:, 1] == undefined).all()
        assert (curves.recall[:, 1] == undefined).all()
    curves = compute_curves(AITOD, *example)
    assert curves.lrp[0, :, 0, 0].tolist() == [1, -1]
    assert math.isnan(curves.lrp[1, 0, 0, 0])


def test_limits_by_file_order_are_matched_one_by_one(columns):
    """The first row finds the object at limit 1; at limit 2 the second row, of a better score but
    of a smaller overlap, takes it: at the higher thresholds it was lost."""
    example = columns(
        [{"box": [0, 0, 10, 10]}],
        [{"box": [0, 0, 10, 10], "score": 0.5}, {"box": [0, 0, 10, 6], "score": 0.9}],
    )
    protocol = replace(
        VISDRONE, headline="AP", max_dets=(1, 2), metrics=coco_metrics(VISDRONE.size_ranges, 1, 2)
    )
    precision = compute_curves(protocol, *example).average_precision
    assert precision[:, 0, 0, 0].tolist() == [1.0] * 10
    # IoU 0.6: up to the third threshold the second row is right, then a false positive before it.
    assert precision[:3, 0, 0, 1].tolist() == [1.0] * 3
    assert precision[3:, 0, 0, 1].tolist() == [0.5] * 7
